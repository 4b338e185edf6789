import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from ssl_mi.information.distributions import families as d
from ssl_mi.information.variational import bounds, critics
from ssl_mi.information.variational import training as fitting
from ssl_mi.information.variational.lookup import built_in_bounds
from ssl_mi.information.variational.neural import neural_mi
from ssl_mi.information.variational.settings import flat
from ssl_mi.information.variational.splits import Split
from ssl_mi.information.variational.training import Training

QUICK = Training(max_steps=120, check_every=20, patience=4)
SHORT, ONE_STEP = Training(max_steps=20, check_every=10), Training(max_steps=1)
RAW = Split(margins="raw")


def codes(estimate):
    return [warning.code for warning in estimate.warnings]


def gaussian_rows(rho, n, dim=1, seed=0):
    x, y = d.correlated_gaussian(rho, dim).sample(n, np.random.default_rng(seed))
    return torch.from_numpy(x), torch.from_numpy(y)


# -------------------------------------------------------------------------------------------- what is evaluated


def test_the_cosine_critic_at_temperature_one_over_kappa_is_optimal_on_the_sphere():
    sphere = d.VonMisesFisher(3, 10.0)
    x, y = sphere.sample(2400, np.random.default_rng(0))
    estimate = neural_mi(x, y, critic=lambda _dx, _dy: critics.Cosine(1 / 10.0), split=RAW)
    assert estimate.value == pytest.approx(sphere.mi, abs=0.1)
    # Scores of a cosine differ by at most 2 kappa, among 600 candidates.
    assert estimate.n == 600
    assert estimate.ceiling == pytest.approx(math.log(600) - math.log1p(599 * math.exp(-20)), abs=1e-4)
    assert estimate.kind == "lower bound"


def test_what_is_reported_is_no_maximum_over_noisy_evaluations(monkeypatch):
    # Independent rows and a small critic that batches of 8 keep pushing about: nothing lies above 0 but luck, and of 30
    # evaluations on the 50 test rows, or on the 30 validation rows, the luckiest does.
    restless = Training(max_steps=90, check_every=3, patience=99, batch_size=8, learning_rate=0.05, weight_decay=10.0)
    checks, honest = [], fitting.validation_value

    def spy(critic, bound, *rows_and_size):
        checks[-1].append((honest(critic, bound, *rows_and_size), honest(critic, bound, *test, 2048)))
        return checks[-1][-1][0]

    monkeypatch.setattr(fitting, "validation_value", spy)
    reported = []
    for seed in range(12):
        x, y = np.random.default_rng(seed).standard_normal((2, 200, 4))
        test = Split().apply(x, y, seed)[0].test
        checks.append([])
        reported.append(neural_mi(x, y, bound="dv", critic="bilinear", seed=seed, training=restless).value)
    luckiest_validation, luckiest_test = (np.array([max(c[i] for c in fit) for fit in checks]) for i in (0, 1))

    def above_zero(values):
        return np.mean(values) / (np.std(values, ddof=1) / math.sqrt(len(values)))

    assert above_zero(reported) < 1
    assert above_zero(luckiest_validation) > 3
    assert above_zero(luckiest_test) > 3
    # It is the estimate at the critic that the validation rows chose.
    assert reported == pytest.approx([max(fit)[1] for fit in checks], abs=1e-9)


def test_cross_fitting_tests_all_rows_with_half_the_error():
    sphere = d.VonMisesFisher(3, 10.0)
    x, y = sphere.sample(1600, np.random.default_rng(0))
    estimate = partial(neural_mi, x, y, bound="dv", critic=lambda _dx, _dy: critics.Cosine(1 / 10.0))
    once, crossed = (estimate(split=Split(margins="raw", cross_fit=each)) for each in (False, True))
    assert (once.n, crossed.n) == (400, 1600)
    assert crossed.se == pytest.approx(once.se / 2, rel=0.4)
    assert abs(crossed.value - sphere.mi) < 3 * crossed.se
    assert crossed.ci[0] < crossed.value < crossed.ci[1]


def test_each_turn_of_cross_fitting_is_a_fit_of_its_own():
    x, y = d.correlated_gaussian(0.9).sample(400, np.random.default_rng(0))
    crossed = neural_mi(x, y, critic="separable", split=Split(cross_fit=True), training=replace(SHORT, batch_size=64))
    assert crossed.settings["fits"] == len(crossed.settings["steps"]) == 4
    (warning,) = (warning for warning in crossed.warnings if warning.code == "fit-cut-short")
    assert str(warning).endswith("(4 of 4 fits)")
    assert warning.numbers == {"max_steps": 20, "fits": 4, "of_fits": 4}


def test_rows_that_share_something_have_a_small_p_value_and_independent_ones_do_not():
    x, y = d.correlated_gaussian(0.6).sample(400, np.random.default_rng(0))
    quick = partial(neural_mi, training=Training(batch_size=64, max_steps=60, check_every=20))
    assert quick(x, y).p_value < 0.01
    assert quick(x, np.random.default_rng(1).permutation(y)).p_value > 0.05


# ---------------------------------------------------------------------------------------------- what is fitted


@pytest.mark.parametrize("name", built_in_bounds())
def test_every_bound_finds_a_gaussian_through_a_learned_critic(name):
    x, y = d.correlated_gaussian(0.9).sample(1600, np.random.default_rng(0))
    estimate = neural_mi(x, y, bound=name, critic="separable", training=QUICK)
    assert estimate.value == pytest.approx(d.correlated_gaussian(0.9).mi, abs=3 * estimate.se)
    assert estimate.se < 0.1
    assert estimate.kind == ("point estimate" if name == "smile" else "lower bound")


@pytest.mark.parametrize("name", ["concat", "cosine"])
def test_every_flexible_critic_finds_a_gaussian(name):
    x, y = d.correlated_gaussian(0.9).sample(1200, np.random.default_rng(0))
    estimate = neural_mi(x, y, critic=name, training=Training(max_steps=100, check_every=50))
    assert estimate.value == pytest.approx(d.correlated_gaussian(0.9).mi, abs=0.2)
    assert estimate.settings["critic"] == name


def test_gaussian_margins_save_the_critic_from_heavy_tails():
    # Cauchy margins: a critic of the raw values learns nothing (known libraries read 0.00 to 0.03 here).
    student = d.StudentT(np.array([[1.0, 0.9], [0.9, 1.0]]), 1, dof=1)
    x, y = student.sample(3000, np.random.default_rng(0))
    assert neural_mi(x, y, critic="separable", training=QUICK).value > 0.8 * student.mi


def test_independent_rows_share_nothing_however_much_a_critic_can_memorise():
    # 50 dimensions and 300 fitted rows: evaluated on the rows it was fitted on, the critic would report nats.
    values = []
    for seed in range(5):
        x, y = np.random.default_rng(seed).standard_normal((2, 500, 50))
        values.append(neural_mi(x, y, bound="dv", critic="bilinear", seed=seed, training=QUICK).value)
    assert np.mean(values) < 3 * np.std(values) / math.sqrt(5)


def test_a_fit_cut_short_says_so():
    x, y = d.correlated_gaussian(0.9).sample(1000, np.random.default_rng(0))
    assert "fit-cut-short" in codes(neural_mi(x, y, training=SHORT))


# ------------------------------------------------------------------------------------------------------ the rows


def test_copies_of_fitted_rows_among_the_test_rows_are_reported():
    x, y = d.correlated_gaussian(0.6, 2).sample(300, np.random.default_rng(0))
    twice = neural_mi(np.tile(x, (2, 1)), np.tile(y, (2, 1)), training=ONE_STEP)
    assert "copies-of-fitted-rows" in codes(twice)
    assert "copies-of-fitted-rows" not in codes(neural_mi(x, y, training=ONE_STEP))


def test_a_fit_on_derangements_finds_a_gaussian():
    x, y = d.correlated_gaussian(0.9).sample(1600, np.random.default_rng(0))
    estimate = neural_mi(x, y, bound="mine", critic="separable", training=replace(QUICK, negatives=2, batch_size=128))
    assert estimate.value == pytest.approx(d.correlated_gaussian(0.9).mi, abs=0.2)
    assert estimate.settings["negatives"] == 2


# ---------------------------------------------------------------------------------------------------- good manners


def test_the_seed_decides_and_the_callers_random_state_stays():
    x, y = d.correlated_gaussian(0.9).sample(400, np.random.default_rng(0))
    quick = partial(neural_mi, x, y, training=SHORT)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    assert quick(seed=1).value == quick(seed=1).value != quick(seed=2).value
    torch.testing.assert_close(torch.get_rng_state(), before)


def test_a_bound_passed_in_is_not_changed_by_the_fit():
    x, y = d.correlated_gaussian(0.9).sample(400, np.random.default_rng(0))
    mine, tuba = bounds.MINE(), bounds.TUBA(baseline=2.0)
    for bound in (mine, tuba):
        neural_mi(x, y, bound=bound, training=SHORT)
    assert float(mine.weight) == 0
    assert tuba.baseline.detach() == 2.0


def test_one_dimensional_tensors_will_do_and_the_estimate_tells_its_settings():
    x, y = gaussian_rows(0.9, 400)
    estimate = neural_mi(x[:, 0].float(), y[:, 0].numpy(), training=replace(SHORT, progress=True))
    assert estimate.dims == (1, 1)
    assert estimate.n == 100
    assert estimate.settings["fit"] + estimate.settings["validation"] + estimate.n == 400
    assert "infonce" in str(estimate)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bound": "nce"}, "bound must be one of infonce, .*'nce'"),
        ({"critic": "dot"}, "critic must be one of .*separable, .*'dot'"),
        ({"bound": 3}, "bound must be a name, an import path .*, got 3"),
        ({"bound": "no.such:Bound"}, "no bound no.such:Bound: No module"),
        ({"critic": critics.Cosine()}, "critic must be a name, .*function"),
        ({"margins": "unit"}, "margins must be one of gaussian, .*'unit'"),
        ({"fit": 0.5, "validation": 0.5, "test": 0.5}, r"must be positive and sum to 1, got \(0.5, 0.5, 0.5\)"),
        ({"fit": 0.5}, "give all three"),
        ({"schedule": "cosine"}, "schedule must be one of rollback, one_cycle"),
        ({"groups": np.zeros(3)}, r"groups has shape \(3,\) for 100 rows"),
        ({"groups": np.zeros(100)}, "groups has 1 groups"),
        ({"batch_size": 1}, "batch_size must be at least 2"),
        ({"negatives": 999}, "negatives must lie between 1 and"),
        ({"max_steps": 0}, "max_steps"),
        ({"level": 95}, "level must lie between 0 and 1, .* got 95"),
    ],
)
def test_impossible_settings_are_refused_by_name(settings, message):
    x, y = d.correlated_gaussian(0.5).sample(100, np.random.default_rng(0))
    with pytest.raises(ValueError, match=message):
        flat(neural_mi)(x, y, **settings)


def test_unpaired_and_too_few_rows_are_refused():
    x, y = d.correlated_gaussian(0.5).sample(100, np.random.default_rng(0))
    with pytest.raises(ValueError, match="in pairs"):
        neural_mi(x, y[:-1])
    with pytest.raises(ValueError, match="too few"):
        neural_mi(x[:39], y[:39])
