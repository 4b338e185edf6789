"""Conditional mutual information: closed forms, what is given away by z alone, kinds of samples, refusals."""

import json
import math

import numpy as np
import pytest

from ssl_mi.information import conditional_mutual_information, discrete_conditional_mi, mutual_information
from ssl_mi.information.core.smoothing import Smoother
from ssl_mi.information.distributions.suites import CONDITIONAL
from ssl_mi.information.estimators.conditional import CELL, _cells

RHO = 0.6
TRUTH = -0.5 * math.log(1 - RHO**2)


def samples(name, d, n, rng, rho=RHO):
    """x and y that z moves, stretches and bends, with noise of correlation rho: I(x; y | z) is that of the noise."""
    z = rng.standard_normal((n, d))
    a, b = rng.standard_normal((2, n))
    b = rho * a + math.sqrt(1 - rho**2) * b
    along = z.sum(1) / math.sqrt(d)
    if name == "linear":
        return along + a, 1.5 * along - b, z
    if name == "curved":
        return np.sin(2 * along) + z[:, 0] ** 2 / 2 + a, 2 * np.cos(z[:, -1]) + np.sin(2 * along) + b, z
    scale = np.exp(0.5 * z[:, 0])
    return along + scale * a, np.tanh(2 * z[:, 0]) + scale * b, z


@pytest.mark.parametrize(("name", "d"), [("linear", 1), ("curved", 3), ("scale", 2)])
def test_what_noise_shares_is_found_and_what_z_gives_to_both_is_not(name, d):
    rng = np.random.default_rng(d)
    x, y, z = samples(name, d, 2000, rng)
    estimate = conditional_mutual_information(x, y, z, permutations=19)
    assert estimate.value == pytest.approx(TRUTH, abs=0.06)
    assert estimate.ci[0] < TRUTH < estimate.ci[1]
    assert estimate.p_value == 0.05
    x, y, z = samples(name, d, 2000, rng, rho=0.0)
    alone = conditional_mutual_information(x, y, z, permutations=99)
    assert alone.ci[0] < 0 < alone.ci[1]
    assert alone.p_value > 0.01
    if name == "linear":  # without z the correlation is 1.5 / √(2 · 3.25)
        assert mutual_information(x, y, learned=False, permutations=0).value == pytest.approx(0.213, abs=0.06)


def test_dependence_that_changes_with_z_is_added_and_named():
    """y = z x + noise: given z the correlation is z / √(1 + z²), so that I = E log(1 + z²) / 2."""
    rng = np.random.default_rng(0)
    x, z, noise = rng.standard_normal((3, 2000))
    truth = float(np.log1p(np.random.default_rng(1).standard_normal(10**6) ** 2).mean() / 2)
    estimate = conditional_mutual_information(x, z * x + noise, z, permutations=0)
    assert estimate.value == pytest.approx(truth, abs=0.06)
    assert [w.code for w in estimate.warnings] == ["changing-dependence"]


def test_labels_are_counted_stratified_or_chained():
    rng = np.random.default_rng(0)
    n = 1500
    z, x = rng.integers(0, 3, n), rng.integers(0, 2, n)
    y = np.where(rng.random(n) < 0.8, x, 1 - x) + 10 * z
    counted = conditional_mutual_information(x.astype(str), y.astype(str), z.astype(str), permutations=19)
    assert counted.value == discrete_conditional_mi(x, y, z, correction="grassberger").value
    assert counted.settings["chosen"] == "counts"
    u = rng.standard_normal(n) + 2 * z
    v = RHO * (u - 2 * z) + 0.8 * rng.standard_normal(n) - z
    strata = conditional_mutual_information(u, v, z.astype(str), permutations=19)
    assert strata.settings["chosen"] == "3 strata of z"
    assert strata.ci[0] < TRUTH < strata.ci[1]
    # x is a bit that v carries through noise; z shifts v: I(x; v | z) = I(x; v - z).
    shift = rng.standard_normal(n)
    noise = rng.standard_normal(n)
    chained = conditional_mutual_information(x.astype(str), 2 * x + noise + shift, shift, permutations=19)
    alone = mutual_information(x.astype(str), 2 * x + noise, permutations=0)
    assert chained.settings["chosen"] == "chain rule"
    assert chained.value == pytest.approx(alone.value, abs=0.06)
    assert max(counted.p_value, strata.p_value, chained.p_value) == 0.05


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros(200), np.zeros(199), np.zeros(200)), "x has 200 rows and y has 199"),
        ((np.arange(200.0), np.arange(200.0), np.zeros(9)), "x has 200 rows and z has 9"),
        ((np.arange(50.0), np.arange(50.0), np.arange(50.0)), "n=50 rows: a regression on z needs 100"),
        ((np.arange(200.0), np.arange(200.0), np.r_[np.nan, np.zeros(199)]), "z holds 1 rows with NaN"),
    ],
)
def test_what_cannot_be_conditioned_on_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        conditional_mutual_information(*arguments)


def autoregressive(rng, n, phi=0.95):
    noise = rng.standard_normal(n)
    values = np.empty(n)
    values[0] = noise[0]
    for t in range(1, n):
        values[t] = phi * values[t - 1] + math.sqrt(1 - phi**2) * noise[t]
    return values


@pytest.mark.parametrize("kind", ["blocks", "groups"])
def test_rows_that_depend_on_each_other_are_re_paired_together(kind):
    n, p = 320, {True: [], False: []}
    for seed in range(8):
        rng = np.random.default_rng(seed)
        if kind == "blocks":
            z, a, b = (autoregressive(rng, n) for _ in "zab")
            known = {"blocks": 32}
        else:
            source = np.arange(n) // 8
            z, a, b = (rng.standard_normal(n // 8)[source] + 0.3 * rng.standard_normal(n) for _ in "zab")
            known = {"groups": source}
        for told in (True, False):
            settings = known if told else {}
            p[told].append(
                conditional_mutual_information(z + a, b - z, z, permutations=19, **settings).p_value,
            )
    rejected = {told: sum(value <= 0.05 for value in values) for told, values in p.items()}
    assert rejected[True] <= 2  # of 8, at a level of .05: more has a chance of .6%
    assert rejected[False] >= 4
    shared = conditional_mutual_information(z + a, a - z, z, permutations=19, **known)
    assert shared.p_value == 0.05
    assert shared.settings[kind] == (32 if kind == "blocks" else 40)


@pytest.mark.parametrize("task", CONDITIONAL[4::5], ids=lambda task: task.name)
def test_the_conditional_suite_is_estimated(task):
    # Of each shape, with dependence beyond z and without, the widest z.
    x, y, z = task.sample(2000, np.random.default_rng(0))
    estimate = conditional_mutual_information(x, y, z, permutations=99)
    assert estimate.value == pytest.approx(task.mi, abs=0.06)
    assert (estimate.p_value <= 0.01) == (task.mi > 0)


def test_many_columns_of_z_are_named():
    rng = np.random.default_rng(0)
    estimate = conditional_mutual_information(
        *rng.standard_normal((2, 300)), rng.standard_normal((300, 6)), permutations=9
    )
    assert "many-given" in {w.code for w in estimate.warnings}


def test_the_regression_leaves_noise_alone_and_takes_what_is_smooth():
    rng = np.random.default_rng(0)
    z, noise = rng.standard_normal((2000, 2)), rng.standard_normal(2000)
    smoother = Smoother(z, rng)
    signal = np.sin(2 * z[:, 0]) * z[:, 1] + z[:, 1] ** 2
    left = smoother.residual(signal + noise)
    # Of 400 features at most, a twentieth of the rows: the noise loses at most their share.
    assert np.mean((left - noise) ** 2) < 0.06
    assert np.abs(smoother.residual(2 * z[:, 0] + 1)).max() < 0.05


def test_cells_hold_rows_of_nearly_equal_z():
    z = np.random.default_rng(0).standard_normal((1000, 1))
    cell = _cells(z, np.random.default_rng(1))
    counts = np.bincount(cell)
    assert CELL <= counts.min() <= counts.max() <= 2 * CELL
    spread = [np.ptp(np.argsort(np.argsort(z[:, 0]))[cell == c]) for c in range(len(counts))]
    assert max(spread) < 2 * CELL  # in one dimension they are neighbours


def test_the_same_on_the_command_line(tmp_path, monkeypatch, capsys):
    from ssl_mi.app.main import main

    monkeypatch.chdir(tmp_path)
    x, y, z = samples("linear", 1, 300, np.random.default_rng(0))
    np.savetxt("t.csv", np.c_[x, y, z], delimiter=",", header="x,y,z", comments="", fmt="%.17g")
    np.save("z.npy", z)
    columns = ["--x-columns", "x", "--y-columns", "y"]
    expected = conditional_mutual_information(x, y, z, permutations=19)
    for given in (["--given-columns", "z"], ["--given", "z.npy"]):
        assert main(["estimate", "t.csv", *columns, *given, "--permutations", "19", "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["value"], told["p_value"]) == (expected.value, expected.p_value)
        assert told["given"]["shape"][0] == 300
    assert main(["estimate", "t.csv", *columns, "--given-columns", "z", "--permutations", "19"]) == 0
    assert capsys.readouterr().out.startswith("I(x; y | z)")
    asked = [*columns, "--given-columns", "z", "--permutations", "19", "--blocks", "5", "--json"]
    assert main(["estimate", "t.csv", *asked]) == 0
    told = json.loads(capsys.readouterr().out)
    expected = conditional_mutual_information(x, y, z, permutations=19, blocks=5)
    assert (told["value"], told["p_value"]) == (expected.value, expected.p_value)
    for wrong in (["--given-columns", "z"], [*columns, "--given", "z.npy", "--symbols", "x"]):
        with pytest.raises(SystemExit):
            main(["estimate", "t.csv", *wrong])
