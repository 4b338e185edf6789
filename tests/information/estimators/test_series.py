"""Information over time, against the closed forms of linear Gaussian processes."""

import math

import numpy as np
import pytest
from scipy.linalg import solve_discrete_lyapunov

from ssl_mi.information import lagged_mutual_information, transfer_entropy

STEP = np.array([[0.6, 0.0], [0.5, 0.5]])  # x drives y


def process(n, seed, step=STEP):
    rng = np.random.default_rng(seed)
    series = np.zeros((n + 200, 2))
    for t in range(1, n + 200):
        series[t] = step @ series[t - 1] + rng.standard_normal(2)
    return series[200:].T


def covariance(step=STEP):
    return solve_discrete_lyapunov(step, np.eye(2))


def test_lagged_information_is_that_of_the_lagged_correlation():
    x, y = process(2000, 0)
    stationary = covariance()
    for lag in (0, 2):
        moved = np.linalg.matrix_power(STEP, lag) @ stationary  # cov(s_(t+lag), s_t)
        rho = moved[1, 0] / math.sqrt(stationary[0, 0] * stationary[1, 1])
        estimate = lagged_mutual_information(x, y, lag, permutations=19)
        assert estimate.ci[0] < -0.5 * math.log(1 - rho**2) < estimate.ci[1]
        assert estimate.p_value == 0.05
    backward = lagged_mutual_information(y, x, -2, permutations=0)
    assert backward.value == pytest.approx(lagged_mutual_information(x, y, 2, permutations=0).value, abs=1e-9)


def test_transfer_is_half_the_log_ratio_of_residual_variances_one_way_and_none_the_other():
    """Var(y_t | y_(t-1)) over Var(y_t | y_(t-1), x_(t-1)) = 1."""
    x, y = process(2000, 1)
    c = covariance()
    left = STEP[1] @ c @ STEP[1] + 1 - (STEP[1] @ c[:, 1]) ** 2 / c[1, 1]
    estimate = transfer_entropy(x, y, permutations=19)
    assert estimate.ci[0] < 0.5 * math.log(left) < estimate.ci[1]
    assert estimate.p_value == 0.05
    back = transfer_entropy(y, x, permutations=19)
    assert back.ci[0] < 0 < back.ci[1]
    assert back.p_value > 0.05


def test_independent_series_with_memory_transfer_nothing():
    x, y = process(1000, 2, step=0.8 * np.eye(2))
    estimate = lagged_mutual_information(x, y, 1, permutations=19)
    assert estimate.settings["blocks"] > 10
    assert abs(estimate.value) < 4 * estimate.se
    assert estimate.p_value > 0.05
    assert transfer_entropy(x, y, permutations=19).p_value > 0.05


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lag": 950}, "lag=950 leaves 50 of n=1000 rows: 100 are needed"),
        ({"lag": 1.5}, "lag must be a whole number"),
        ({"blocks": 200}, "blocks=200 leaves"),
    ],
)
def test_what_a_series_is_too_short_for_is_named(settings, message):
    x, y = process(1000, 3)
    with pytest.raises(ValueError, match=message):
        lagged_mutual_information(x, y, **settings)
    with pytest.raises(ValueError, match="a past of 950 rows leaves 50 of n=1000"):
        transfer_entropy(x, y, 950)
