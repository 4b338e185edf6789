"""Intervals and nulls computed around any estimator."""

from functools import partial

import numpy as np
import pytest
import torch
from scipy import stats

from ssl_mi.information.core.estimate import Estimate
from ssl_mi.information.estimators.gaussian import cca_mi, gaussian_mi
from ssl_mi.information.estimators.ksg import ksg
from ssl_mi.information.inference import derangement, with_interval, with_permutation_test, with_uncertainty


def gaussian(n, rho, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(n)
    return x, rho * x + np.sqrt(1 - rho**2) * rng.standard_normal(n)


def mean_product(x, y):
    """An estimator whose standard error everybody knows."""
    return Estimate(float(np.mean(np.asarray(x) * np.asarray(y))), n=len(x))


def test_the_standard_error_of_an_average_is_the_textbook_one():
    x, y = gaussian(20_000, 0.0)
    errors = [with_interval(mean_product, x, y, subsets=20, seed=seed).se for seed in range(20)]
    assert np.mean(errors) == pytest.approx(1 / np.sqrt(20_000), rel=0.1)


def test_the_interval_is_student_t_around_the_estimate():
    x, y = gaussian(1000, 0.5)
    estimate = with_interval(mean_product, x, y, level=0.9, subsets=5, repeats=2)
    half = stats.t.ppf(0.95, 2 * 4) * estimate.se
    assert estimate.ci == pytest.approx((estimate.value - half, estimate.value + half))
    assert estimate.ci_level == 0.9
    assert estimate.value == mean_product(x, y).value


def test_intervals_of_the_gaussian_estimator_cover_the_truth():
    hits = 0
    for seed in range(100):
        low, high = with_interval(cca_mi, *gaussian(400, 0.6, seed), seed=seed).ci
        hits += low <= gaussian_mi(0.6) <= high
    assert hits >= 88  # 95 expected; 87 or fewer has odds of 1 in 700
    assert hits < 100 or stats.binom.pmf(100, 100, 0.95) > 0.001


def test_the_p_value_counts_the_estimate_itself():
    x, y = gaussian(500, 0.9)
    estimate = with_permutation_test(ksg, x, y, permutations=19)
    assert estimate.p_value == pytest.approx(1 / 20)
    assert abs(estimate.null) < 0.05
    # An estimator that sees nothing: every permutation reaches it.
    assert with_permutation_test(lambda x, y: Estimate(0.0), x, y, permutations=9).p_value == 1.0


def test_p_values_under_independence_are_uniform():
    def correlation(x, y):
        return Estimate(float(np.abs(x @ y)))

    p = [
        with_permutation_test(correlation, *gaussian(60, 0.0, seed), permutations=19, seed=seed).p_value
        for seed in range(200)
    ]
    assert 2 <= sum(value <= 0.05 for value in p) <= 20  # 10 expected
    assert np.mean(p) == pytest.approx(0.525, abs=0.07)


@pytest.mark.parametrize("n", [2, 3, 50])
def test_derangements_move_every_row(n):
    for seed in range(20):
        order = derangement(n, np.random.default_rng(seed))
        assert sorted(order) == list(range(n))
        assert (order != np.arange(n)).all()
    with pytest.raises(ValueError, match="at least 2"):
        derangement(1, np.random.default_rng(0))


def test_assess_joins_interval_and_null_and_repeats_with_its_seed():
    x, y = gaussian(600, 0.6)
    once, again = (with_uncertainty(partial(ksg, k=5), x, y, seed=3) for _ in range(2))
    assert (once.value, once.ci, once.null, once.p_value) == (again.value, again.ci, again.null, again.p_value)
    assert once.ci[0] < once.value < once.ci[1]
    assert once.settings["k"] == 5
    assert once.seconds > 0
    bare = with_uncertainty(ksg, x, y, permutations=0, subsets=0)
    assert bare.ci is None
    assert bare.null is None


def test_tensors_are_resampled_as_tensors():
    x, y = gaussian(300, 0.6)
    from_tensors = with_uncertainty(ksg, torch.from_numpy(x), torch.from_numpy(y), permutations=2, subsets=3)
    from_arrays = with_uncertainty(ksg, x, y, permutations=2, subsets=3)
    assert from_tensors.se == pytest.approx(from_arrays.se, rel=1e-9)
    assert from_tensors.null == pytest.approx(from_arrays.null, abs=1e-12)


def test_neither_random_state_nor_inputs_change():
    x, y = gaussian(200, 0.6)
    torch.manual_seed(0)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), x.copy()  # noqa: NPY002
    with_uncertainty(ksg, x, y, permutations=2, subsets=3)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002
    assert (x == before[2]).all()


def test_impossible_settings_are_named():
    x, y = gaussian(15, 0.5)
    with pytest.raises(ValueError, match="subsets must be a whole number of parts, at least 2"):
        with_interval(ksg, x, y, subsets=1)
    with pytest.raises(ValueError, match="level must lie"):
        with_interval(ksg, x, y, level=95)
    with pytest.raises(ValueError, match="15 rows, too few for 10 subsets"):
        with_interval(ksg, x, y, subsets=10)
    with pytest.raises(ValueError, match="permutations must be a whole number of re-pairings, at least 1"):
        with_permutation_test(ksg, x, y, permutations=0)


def test_disagreement_between_k_and_4k_is_said_where_bias_is_large_and_not_elsewhere():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((800, 4))
    y = x + 0.1 * rng.standard_normal((800, 4))  # 9.2 nats: boxes of 12 neighbours blur what 3 already blur
    strong = with_uncertainty(partial(ksg, k=3), x, y, permutations=0)
    (caution,) = (w for w in strong.warnings if w.code == "disagreement-over-k")
    assert (caution.numbers["k"], caution.numbers["more_k"]) == (3, 12)
    assert caution.numbers["value"] == strong.value > caution.numbers["value_at_more_k"]
    weak = with_uncertainty(partial(ksg, k=3), x[:, :1], x[:, :1] + rng.standard_normal((800, 1)), permutations=0)
    assert weak.warnings == ()
