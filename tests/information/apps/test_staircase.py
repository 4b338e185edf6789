import argparse
import ast
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ssl_mi.information.apps import staircase as command
from ssl_mi.information.apps.staircase_experiment import ESTIMATORS, optimal_scores, staircase
from ssl_mi.information.apps.staircase_plot import WHAT, family, picture, title
from ssl_mi.information.apps.staircase_rows import Step, over_seeds, read_csv, theory_sd
from ssl_mi.information.distributions.families import gaussian_with_mi
from ssl_mi.information.variational import bounds
from ssl_mi.information.variational.lookup import built_in_bounds


def test_optimal_scores_of_true_pairs_are_the_pointwise_log_ratio():
    gaussian = gaussian_with_mi(4.0, 20)
    x, y = gaussian.sample(30, np.random.default_rng(0))
    rho = math.sqrt(-math.expm1(-0.4))
    scores = optimal_scores(rho, torch.from_numpy(x), torch.from_numpy(y))
    np.testing.assert_allclose(scores.diagonal().numpy(), gaussian.pointwise(x, y), atol=1e-10)
    np.testing.assert_allclose(scores[3, 5].numpy(), gaussian.pointwise(x[3:4], y[5:6])[0], atol=1e-10)


def test_theory_gives_the_spread_of_nwj_while_the_information_is_small():
    mi, n = 0.5, 64
    gaussian, rng = gaussian_with_mi(mi, 20), np.random.default_rng(0)
    rho = math.sqrt(-math.expm1(-mi / 10))
    values = []
    for _ in range(800):
        x, y = (torch.from_numpy(side) for side in gaussian.sample(n, rng))
        values.append(float(bounds.NWJ()(*bounds.pairs(optimal_scores(rho, x, y) + 1))))
    assert np.mean(values) == pytest.approx(mi, abs=0.02)
    assert np.std(values) == pytest.approx(theory_sd(mi, n), rel=0.1)


def test_the_staircase_climbs_to_the_ceiling_and_upper_bounds_stay_above():
    rows = staircase(["infonce", "js"], [2.0, 10.0], steps=2, batches=40, seeds=[0])
    rows += staircase(["club", "leave_one_out"], [2.0], steps=1, batches=10, seeds=[0])
    optimal = {(r.estimator, r.true): r for r in rows if r.critic == "optimal"}
    assert optimal["infonce", 10.0].mean < math.log(64)
    assert optimal["infonce", 2.0].mean == pytest.approx(2, abs=0.3)
    assert optimal["js", 2.0].mean == pytest.approx(2, abs=0.3)  # not 2 - 1/e
    assert 2 < optimal["leave_one_out", 2.0].mean < optimal["club", 2.0].mean
    # A saturated InfoNCE has next to no spread, and DV-like bounds at 10 nats a hidden one of hundreds.
    assert optimal["infonce", 10.0].sd < 0.1
    assert optimal["js", 10.0].theory_sd > 100
    assert all(r.bias == pytest.approx(r.mean - r.true) for r in rows)


def test_the_flow_stands_on_the_highest_step_before_it_has_learned_anything():
    learned = next(r for r in staircase(["flow_mi"], [10.0], steps=1, batches=30, seeds=[0]) if r.critic == "learned")
    assert learned.mean == pytest.approx(10, abs=0.4)
    assert learned.ceiling == math.inf


def test_every_variational_estimator_is_on_the_staircase_and_in_the_picture():
    assert {*built_in_bounds(), "club", "leave_one_out", "difference_of_entropies", "flow_mi"} == set(ESTIMATORS)
    assert {family(name) for name in ESTIMATORS} == set(WHAT)
    families = {name: WHAT[family(name)] for name in ESTIMATORS}
    assert [name for name in families if families[name].endswith("variance e^I")] == ["dv", "mine", "nwj", "tuba", "js"]
    assert [name for name in families if "ceiling" in families[name]] == ["infonce", "interpolated"]
    assert [title(name) for name in ("smile", "flow_mi")] == ["SMILE(clip=5)", "flow mi"]


class Halved(bounds.NWJ):
    """A bound of a user's own."""

    name = ""

    def forward(self, joint, marginal):
        return super().forward(joint, marginal) / 2


def test_a_bound_of_ones_own_takes_its_place_on_the_staircase(monkeypatch):
    monkeypatch.setitem(sys.modules, "my_bounds", SimpleNamespace(Halved=Halved))
    rows = staircase(["my_bounds:Halved", "nwj"], [2.0], steps=1, batches=20, seeds=[0])
    optimal = {row.estimator: row.mean for row in rows if row.critic == "optimal"}
    assert optimal["my_bounds:Halved"] == pytest.approx(optimal["nwj"] / 2, abs=0.3)
    assert all(row.theory_sd > 0 for row in rows)
    assert family("my_bounds:Halved") == family("nwj")


def step(estimator, critic, true, seed, mean, sd):
    return Step(estimator, critic, true, seed, mean, mean - true, sd, math.nan, math.log(64), 64, 10, 5)


def test_seeds_are_averaged():
    rows = [step("dv", "learned", 2.0, seed, mean, sd) for seed, mean, sd in ((0, 1.0, 0.2), (1, 3.0, 0.4))]
    stair = over_seeds(rows, "dv", "learned")[2.0]
    assert stair.mean == pytest.approx(2)
    assert stair.sd == pytest.approx(0.3)
    assert stair.between == pytest.approx(math.sqrt(2))


def test_a_critic_that_ran_away_is_drawn_and_does_not_squeeze_the_others(tmp_path):
    means = {"infonce": 3.0, "dv": -4e7, "mine": 9e9}
    rows = [step(n, c, t, 0, means[n], 1.0) for n in means for c in ("learned", "optimal") for t in (2.0, 10.0)]
    picture(rows, tmp_path / "wild.svg")
    drawn = (tmp_path / "wild.svg").read_text()
    assert all(said in drawn for said in ("InfoNCE", "-4e+07", "9e+09"))


def run(*arguments):
    parser = argparse.ArgumentParser()
    command.configure(parser)
    return command.run(parser.parse_args(arguments))


FEW = ("--estimators", "smile", "--steps", "1", "--batches", "3", "--seeds", "2")


def test_the_command_writes_the_numbers_and_the_picture(tmp_path, capsys):
    out, picture = tmp_path / "stairs.csv", tmp_path / "stairs.png"
    assert run(*FEW, "--out", str(out), "--picture", str(picture)) == 0
    assert "log n = 4.16" in capsys.readouterr().out
    rows = read_csv(out)
    assert len(rows) == 2 * 2 * 5
    assert (rows[0].estimator, rows[0].true, rows[-1].seed) == ("smile", 2.0, 1)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_command_does_not_start_bare_and_writes_nothing_unasked(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        run()
    assert left.value.code == 2
    assert "--out FILE.csv" in capsys.readouterr().err
    assert run(*FEW, "--run") == 0
    assert "SMILE" in capsys.readouterr().out.upper()
    assert list(tmp_path.iterdir()) == []


def test_the_command_refuses_an_unknown_estimator(capsys):
    with pytest.raises(SystemExit) as left:
        run("--estimators", "nce", "--run")
    assert left.value.code == 2
    assert "no estimator is called nce" in capsys.readouterr().err


def test_describing_the_command_imports_nothing_heavy():
    first = ast.parse(Path(command.__file__).read_text()).body
    modules = {n.module if isinstance(n, ast.ImportFrom) else n.names[0].name for n in first if hasattr(n, "names")}
    assert modules == {"__future__", "argparse", "pathlib"}


def test_an_unknown_estimator_is_refused_by_name():
    with pytest.raises(ValueError, match="no estimator is called nce"):
        staircase(["nce"])
