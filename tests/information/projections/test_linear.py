"""Projections find what is shared, are read on other rows, and invent nothing there."""

import numpy as np
import pytest
import torch

from ssl_mi.information.estimators.ksg import ksg
from ssl_mi.information.projections.linear import CCA, PCA, Random


def hidden(n, d=32, shared=2, noise=0.5, scale=1.0, seed=0):
    """`shared` common signals at the bottom of d dimensions a side, turned by a random rotation."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(np.random.default_rng(99).standard_normal((d, d)))[0]
    signal = rng.standard_normal((n, shared))
    sides = []
    for _ in range(2):
        side = rng.standard_normal((n, d))
        side[:, :shared] = signal + noise * rng.standard_normal((n, shared))
        side[:, :shared] *= scale
        sides.append(side @ turn)
    return sides


def correlations(u, v):
    return np.array([abs(np.corrcoef(u[:, i], v[:, i])[0, 1]) for i in range(u.shape[1])])


def test_cca_finds_shared_directions_that_pca_and_random_projections_miss():
    x, y = hidden(2000)
    rows, others = slice(0, 1000), slice(1000, None)
    read = {p: ksg(*p.fit(x[rows], y[rows])(x[others], y[others])).value for p in (CCA(2), PCA(2), Random(2))}
    truth = -np.log(1 - 0.8**2)  # rho = 1 / (1 + noise^2), twice
    assert read[CCA(2)] == pytest.approx(truth, abs=0.2)
    assert read[PCA(2)] < truth / 2
    assert read[Random(2)] < truth / 2


def test_projections_fitted_elsewhere_invent_no_information_and_in_sample_they_do():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 2000, 128))
    fitted = CCA(2, ridge=1e-6).fit(x[:1000], y[:1000])
    assert ksg(*fitted(x[:1000], y[:1000])).value > 0.2
    assert abs(ksg(*fitted(x[1000:], y[1000:])).value) < 0.08


def test_cca_without_ridge_gives_the_canonical_correlations():
    x, y = hidden(500, d=6)
    fitted = CCA(4, ridge=0.0).fit(x, y)
    u, v = fitted(x, y)
    whitened = [np.linalg.qr(side - side.mean(0))[0] for side in (x, y)]
    expected = np.linalg.svd(whitened[0].T @ whitened[1], compute_uv=False)[:4]
    assert correlations(u, v) == pytest.approx(expected, abs=1e-10)
    assert fitted.strength == pytest.approx(expected, abs=1e-10)
    assert u.T @ u / 500 == pytest.approx(np.eye(4), abs=1e-10)


def test_cca_works_with_dead_units_and_fewer_rows_than_columns():
    x, y = hidden(600, d=128, scale=3.0)
    x[:, :20] = 0.0
    u, v = CCA(2).fit(x[:100], y[:100])(x[100:], y[100:])
    assert np.isfinite(u).all()
    # 100 rows of 128 columns: without a ridge every in-sample correlation is 1 and nothing is left elsewhere.
    bare = correlations(*CCA(2, ridge=1e-12).fit(x[:100], y[:100])(x[100:], y[100:]))
    assert correlations(u, v)[0] > bare[0] + 0.05


def test_pca_keeps_the_directions_of_most_variance():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 5)) * [1, 10, 1, 5, 1]
    u, _ = PCA(2).fit(x, x)(x, x)
    assert abs(np.corrcoef(u[:, 0], x[:, 1])[0, 1]) > 0.99
    assert abs(np.corrcoef(u[:, 1], x[:, 3])[0, 1]) > 0.99


def test_random_directions_are_orthonormal_and_follow_their_seed():
    x, y = hidden(50)
    fitted = Random(3).fit(x, y, seed=1)
    assert fitted.weight_x.T @ fitted.weight_x == pytest.approx(np.eye(3), abs=1e-12)
    assert (fitted.weight_x == Random(3).fit(x, y, seed=1).weight_x).all()
    assert (fitted.weight_x != Random(3).fit(x, y, seed=2).weight_x).any()


def test_tensors_project_like_arrays():
    x, y = hidden(100)
    fitted = CCA(2).fit(torch.from_numpy(x), torch.from_numpy(y))
    assert fitted(torch.from_numpy(x), torch.from_numpy(y))[0] == pytest.approx(CCA(2).fit(x, y)(x, y)[0], abs=1e-12)


def test_what_cannot_be_projected_is_named():
    x, y = hidden(50)
    with pytest.raises(ValueError, match="dim must be at least 1, got 0"):
        CCA(0).fit(x, y)
    with pytest.raises(ValueError, match="every column of y is constant"):
        CCA(1).fit(x, np.ones((50, 3)))
    with pytest.raises(ValueError, match="x has 5 columns, the projection was fitted on 32"):
        CCA(1).fit(x, y)(x[:, :5], y)
    with pytest.raises(ValueError, match="x has 50 rows and y has 49"):
        PCA(1).fit(x, y[1:])


@pytest.mark.parametrize("rare", [1, 2, 3])
def test_cca_fits_a_label_that_one_half_of_the_rows_lacks(rare):
    rng = np.random.default_rng(0)
    y = np.zeros((100, 1))
    y[rng.permutation(100)[:rare]] = 1
    x = rng.normal(size=(100, 8)) + 20 * y  # so far off that any ridge finds it
    u, _ = CCA(1).fit(x, y)(x, y)
    assert abs(np.corrcoef(u[:, 0], y[:, 0])[0, 1]) > 0.9
