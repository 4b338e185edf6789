"""Several variables at once, against closed forms."""

import math

import numpy as np
import pytest

from ssl_mi.information import discrete_entropy, interaction_information, nsb_entropy, total_correlation
from ssl_mi.information.estimators.discrete import _nsb


def test_total_correlation_of_gaussians_is_half_the_log_determinant():
    covariance = np.array([[1.0, 0.5, 0.3], [0.5, 1.0, 0.6], [0.3, 0.6, 1.0]])
    rows = np.random.default_rng(0).multivariate_normal(np.zeros(3), covariance, 2000)
    truth = -0.5 * math.log(np.linalg.det(covariance))
    estimate = total_correlation(*rows.T)
    assert estimate.value == pytest.approx(truth, abs=0.06)
    assert estimate.p_value == 0.05
    alone = total_correlation(*np.random.default_rng(1).standard_normal((3, 500)), permutations=9)
    assert alone.ci[0] < 0 < alone.ci[1]
    with pytest.raises(ValueError, match="takes 2 variables or more, got 1"):
        total_correlation(rows)
    with pytest.raises(ValueError, match="variable 0 has 2000 rows and variable 1 has 3"):
        total_correlation(rows[:, 0], rows[:3, 1])


def test_exclusive_or_is_synergy_and_a_common_cause_is_redundancy():
    rng = np.random.default_rng(0)
    x, z = rng.integers(0, 2, (2, 500))
    assert interaction_information(*(v.astype(str) for v in (x, x ^ z, z))).bits == pytest.approx(1.0, abs=0.05)
    cause = rng.standard_normal(1500)
    u, v = (cause + rng.standard_normal(1500) for _ in "uv")
    # Given the cause nothing is shared; without it the correlation is 1/2.
    assert interaction_information(u, v, cause).value == pytest.approx(0.5 * math.log(0.75), abs=0.06)


def test_nsb_is_the_mean_of_the_entropy_under_its_prior_and_posterior():
    """Counts drawn from the prior: the posterior covers the entropy that they came from, and is not biased."""
    rng = np.random.default_rng(0)
    gaps = []
    for _ in range(80):
        concentration = math.exp(rng.uniform(math.log(0.05), math.log(2)))
        p = rng.dirichlet(np.full(50, concentration))
        truth = -float((p[p > 0] * np.log(p[p > 0])).sum())
        x = rng.choice(50, 30, p=p)
        found = nsb_entropy(x, symbols=50)
        gaps.append((found.value - truth, found.se, discrete_entropy(x).value - truth))
    gap, se, plugin = np.array(gaps).T
    assert abs(gap.mean()) < 0.1 < abs(plugin.mean())
    assert np.mean(np.abs(gap) < 2 * se) > 0.85


def test_nsb_moments_are_those_of_a_dirichlet_drawn_many_times():
    """With so many rows that one concentration hardly matters, posterior moments are those of the drawn entropies."""
    counts = np.array([4000.0, 2500.0, 3000.0])
    p = np.random.default_rng(0).dirichlet(counts + 1, 20_000)
    entropies = -(p * np.log(p)).sum(1)
    mean, se = _nsb(counts, 3)
    assert mean == pytest.approx(entropies.mean(), abs=5e-4)
    assert se == pytest.approx(entropies.std(), rel=0.05)
    with pytest.raises(ValueError, match="symbols=2, and x takes 3 values"):
        nsb_entropy([0, 1, 2], symbols=2)
    assert nsb_entropy([5, 5, 5]).value == 0
