"""The Gaussian closed forms, and their in-sample bias taken off."""

import math

import numpy as np
import pytest

from ssl_mi.information.estimators.gaussian import cca_mi, copula_mi, gaussian_mi, rank_gaussianize


def pairs(n, rho, d, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d))
    return x, rho * x + math.sqrt(1 - rho**2) * rng.standard_normal((n, d))


@pytest.mark.parametrize(("rho", "nats"), [(0.3, 0.047155), (0.6, 0.223144), (-0.75, 0.413339), (0.99, 1.958518)])
def test_one_correlation_has_its_textbook_information(rho, nats):
    assert gaussian_mi(rho) == pytest.approx(nats, abs=1e-6)
    assert gaussian_mi([rho, 0.0, rho]) == pytest.approx(2 * nats, abs=2e-6)


def test_perfect_correlation_is_infinite_and_refused():
    with pytest.raises(ValueError, match="infinite"):
        gaussian_mi(1.0)


def test_uncorrected_cca_is_the_determinant_formula():
    x, y = pairs(300, 0.5, 3)
    blocks = [np.linalg.slogdet(np.cov(v.T))[1] for v in (x, y, np.concatenate([x, y], 1))]
    expected = (blocks[0] + blocks[1] - blocks[2]) / 2
    assert cca_mi(x, y, corrected=False).value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("n", "d"), [(200, 10), (100, 20)])
def test_the_correction_leaves_no_bias_at_independence_even_for_few_rows(n, d):
    estimates = [cca_mi(*pairs(n, 0.0, d, seed)).value for seed in range(60)]
    raw = [cca_mi(*pairs(n, 0.0, d, seed), corrected=False).value for seed in range(60)]
    error = np.std(estimates) / math.sqrt(60)
    assert abs(np.mean(estimates)) < 4 * error
    assert np.mean(raw) > d * d / (2 * n) > 10 * error


def test_cca_is_unchanged_by_invertible_linear_maps():
    x, y = pairs(500, 0.6, 3)
    rng = np.random.default_rng(1)
    mapped = x @ rng.standard_normal((3, 3)) * 1e6 + 5
    assert cca_mi(mapped, y @ rng.standard_normal((3, 3))).value == pytest.approx(cca_mi(x, y).value, abs=1e-9)


def test_collinear_and_constant_columns_add_nothing():
    x, y = pairs(500, 0.6, 2)
    wide = np.concatenate([x, x[:, :1] + x[:, 1:], np.ones((500, 1))], 1)
    estimate = cca_mi(wide, y)
    assert estimate.value == pytest.approx(cca_mi(x, y).value, abs=1e-9)
    assert "constant (3)" in str(estimate.warnings[0])


def test_too_few_rows_and_perfect_dependence_are_said():
    x, y = pairs(20, 0.5, 10)
    with pytest.raises(ValueError, match="needs n > 21"):
        cca_mi(x, y)
    x, _ = pairs(100, 0.5, 1)
    assert cca_mi(x, 2 * x + 1).warnings[0].code == "infinite-information"
    assert "few-rows-for-ranks" in {w.code for w in cca_mi(*pairs(30, 0.5, 5)).warnings}


def test_ranks_become_normal_and_ties_stay_ties():
    z = rank_gaussianize(np.array([[3.0], [-1e9], [5.0], [3.0]]))
    assert z[0] == z[3]
    assert z[1] == pytest.approx(-0.8416212, abs=1e-6)  # the normal quantile of 1/5
    assert z[1] < z[0] < z[2]


def test_the_copula_estimate_ignores_monotone_maps():
    x, y = pairs(2000, 0.75, 1)
    estimate = copula_mi(np.exp(5 * x), y**3)
    assert estimate.value == pytest.approx(copula_mi(x, y).value, abs=1e-12)
    assert estimate.value == pytest.approx(gaussian_mi(0.75), abs=0.05)
