import math

import numpy as np
import pytest
import torch

from ssl_mi.information.distributions import families as d
from ssl_mi.information.variational.bounds import pairs
from ssl_mi.information.variational.densities import Mixture
from ssl_mi.information.variational.training import Training
from ssl_mi.information.variational.upper_bounds import CLUB, LeaveOneOut, club, difference_of_entropies, leave_one_out

QUICK = {"training": Training(max_steps=250, check_every=25, patience=4), "density": Mixture(hidden=32)}


def log_q(rho, n, seed=0):
    """[i, j] = log p(y_j | x_i) of a unit Gaussian pair."""
    x, y = d.correlated_gaussian(rho).sample(n, np.random.default_rng(seed))
    mean, variance = rho * torch.from_numpy(x), 1 - rho**2
    return -((torch.from_numpy(y).T - mean) ** 2) / (2 * variance) - 0.5 * math.log(2 * math.pi * variance)


def test_club_at_the_true_density_is_rho_squared_over_one_minus_rho_squared():
    values = [float(CLUB()(*pairs(log_q(0.6, 500, seed)))) for seed in range(20)]
    expected = 0.36 / 0.64  # and I is 0.223
    assert abs(np.mean(values) - expected) < 4 * np.std(values) / math.sqrt(20)


def test_leave_one_out_at_the_true_density_lies_above_the_truth_and_closes_in_with_more_rows():
    true = d.correlated_gaussian(0.9).mi
    few = np.mean([float(LeaveOneOut()(*pairs(log_q(0.9, 8, s).T))) for s in range(200)])
    many = np.mean([float(LeaveOneOut()(*pairs(log_q(0.9, 400, s).T))) for s in range(12)])
    assert few > true + 0.1
    assert many == pytest.approx(true, abs=0.03)


def test_difference_of_entropies_finds_gaussians():
    gaussian = d.correlated_gaussian(0.9, dim=2)
    x, y = gaussian.sample(3000, np.random.default_rng(0))
    estimate = difference_of_entropies(x, y, **QUICK)
    assert estimate.value == pytest.approx(gaussian.mi, abs=0.15)
    assert estimate.kind == "point estimate"
    assert estimate.ceiling is None


def test_difference_of_entropies_continues_where_log_n_ends_the_bounds():
    gaussian = d.gaussian_with_mi(9.0, dim=4)  # log of the 500 test rows is 6.2
    x, y = gaussian.sample(2000, np.random.default_rng(0))
    assert difference_of_entropies(x, y, **QUICK | {"density": Mixture(32, 1)}).value > 7.5


def test_difference_of_entropies_finds_nothing_in_independent_rows():
    x, y = np.random.default_rng(0).standard_normal((2, 1000, 4))
    estimate = difference_of_entropies(x, y, **QUICK)
    assert estimate.value == pytest.approx(0, abs=0.03)
    # Where the best q(y|x) was q(y) itself, a standard error of 0 must not pass for certainty.
    assert estimate.se > 0 or "zero-by-choice" in [warning.code for warning in estimate.warnings]


def test_upper_bounds_lie_above_the_truth_where_the_density_is_learned_well():
    gaussian = d.correlated_gaussian(0.8)
    x, y = gaussian.sample(3000, np.random.default_rng(0))
    loose, tight = (estimator(x, y, **QUICK) for estimator in (club, leave_one_out))
    assert loose.kind == tight.kind == "upper bound"
    assert tight.value > gaussian.mi - 3 * tight.se
    # CLUB is rho^2 / (1 - rho^2) = 1.78 at the true density, where I is 0.51.
    assert loose.value > 2 * gaussian.mi


def test_a_discrete_y_has_no_density():
    x, y = d.binary_symmetric_channel(0.1).sample(200, np.random.default_rng(0))
    with pytest.raises(ValueError, match="2 distinct values in 200 rows"):
        difference_of_entropies(x, y)
