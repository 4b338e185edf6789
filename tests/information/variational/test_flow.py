import math

import numpy as np
import pytest
import torch

from ssl_mi.information.distributions import families as d
from ssl_mi.information.variational.densities import Mixture
from ssl_mi.information.variational.flow import flow_mi
from ssl_mi.information.variational.splits import Split
from ssl_mi.information.variational.training import Training

QUICK = {
    "split": Split(),
    "density": Mixture(hidden=32),
    "training": Training(max_steps=200, check_every=25, patience=4),
}
UNTRAINED = {"density": Mixture(hidden=4), "training": Training(max_steps=1)}


def sample(distribution, n, seed=0):
    return distribution.sample(n, np.random.default_rng(seed))


@pytest.mark.parametrize("mi", [10.0, 16.0])
def test_gaussians_far_beyond_log_n_are_right_before_any_step_is_taken(mi):
    estimate = flow_mi(*sample(d.gaussian_with_mi(mi, 20), 2000), **UNTRAINED)
    assert estimate.value == pytest.approx(mi, rel=0.05)  # log 2000 is 7.6
    assert estimate.value > math.log(2000)
    assert estimate.n == 2000
    assert estimate.ceiling is None
    assert estimate.kind == "point estimate"


def test_the_networks_find_what_correlation_cannot():
    student = d.student_t(2, 2, dof=1)  # uncorrelated: all of its information is in the scale
    x, y = sample(student, 2500)
    assert abs(flow_mi(x, y, **UNTRAINED).value) < 0.05
    estimate = flow_mi(x, y, **QUICK)
    assert 0.6 * student.mi < estimate.value < student.mi + 3 * estimate.se
    assert estimate.p_value == 0.01  # the smallest of 99 re-pairings


def test_a_flow_of_y_makes_bent_pairs_normal_again():
    # (y1, y2 + y1^2) is no Gaussian copula; undoing the bend is left to the flow of y alone.
    gaussian = d.correlated_gaussian(0.9, 2)
    x, y = sample(gaussian, 2500)
    bent = np.column_stack([y[:, 0], y[:, 1] + y[:, 0] ** 2])
    estimate = flow_mi(x, bent, **QUICK)
    assert estimate.value == pytest.approx(gaussian.mi, abs=0.15)
    assert estimate.value > flow_mi(x, bent, **UNTRAINED).value + 0.2


def test_independent_rows_share_nothing():
    x, y = np.random.default_rng(0).standard_normal((2, 800, 4))
    estimate = flow_mi(x, y, **QUICK)
    assert estimate.value == pytest.approx(0, abs=0.03)
    assert estimate.p_value > 0.05
    # Where independence was the choice of the validation rows, a standard error near 0 must not pass for certainty.
    assert estimate.se > 1e-3 or "zero-by-choice" in [warning.code for warning in estimate.warnings]


def test_the_side_that_can_have_a_density_is_given_one():
    bit = d.BernoulliGaussian(0.5)
    x, y = sample(bit, 1200)
    assert len(np.unique(x)) == 2
    first, second = flow_mi(x, y, **QUICK), flow_mi(y, x, **QUICK)
    assert (first.settings["density_of"], second.settings["density_of"]) == ("y", "x")
    assert first.value == second.value == pytest.approx(bit.mi, abs=4 * first.se)
    with pytest.raises(ValueError, match="2 distinct values in 1200 rows"):
        flow_mi(x, y, density_of="x")


def test_the_side_with_fewer_columns_is_given_the_density():
    rng = np.random.default_rng(0)
    estimate = flow_mi(rng.standard_normal((300, 2)), rng.standard_normal((300, 3)), **UNTRAINED)
    assert estimate.settings["density_of"] == "x"
    assert estimate.dims == (2, 3)


def test_a_copy_is_reported_as_narrower_than_can_be_measured():
    x = np.random.default_rng(0).standard_normal(400)
    assert "narrow-density" in [warning.code for warning in flow_mi(x, x, **UNTRAINED).warnings]


def test_the_seed_decides_and_the_callers_random_state_stays():
    x, y = sample(d.correlated_gaussian(0.9), 200)
    before = torch.get_rng_state()
    values = [flow_mi(x, y, seed=seed, **UNTRAINED).value for seed in (1, 1, 2)]
    assert values[0] == values[1] != values[2]
    torch.testing.assert_close(torch.get_rng_state(), before)


NORMAL = np.random.default_rng(0).standard_normal((100, 70))


@pytest.mark.parametrize(
    ("y", "density_of", "message"),
    [
        (np.arange(100) % 2, "y", "a column of y has 2 distinct values in 100 rows"),
        (NORMAL[:, [0, 1, 0]], "y", "the 3 columns of y are linearly dependent on 60 rows"),
        (NORMAL, "y", "the 70 columns of y are linearly dependent on 60 rows"),
        (NORMAL[:, :2], "z", "must be 'x', 'y' or None, got 'z'"),
        (NORMAL[1:], None, "in pairs"),
    ],
)
def test_what_cannot_be_estimated_is_refused_by_name(y, density_of, message):
    x = np.random.default_rng(1).standard_normal(100)
    with pytest.raises(ValueError, match=message):
        flow_mi(x, y, density_of=density_of)


def test_two_discrete_sides_are_refused():
    with pytest.raises(ValueError, match="discrete variable has no density"):
        flow_mi(*sample(d.binary_symmetric_channel(0.1), 200))
