"""A critic that begins at the closed-form log density ratio of Gaussians."""

import numpy as np
import pytest
import torch

from ssl_mi.information.gaussian_start import GaussianStart, correlations_kept


def pairs(n, rho, seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, len(rho)))
    y = x * rho + rng.standard_normal((n, len(rho))) * np.sqrt(1 - np.square(rho))
    return torch.from_numpy(x).float(), torch.from_numpy(y).float()


def test_it_begins_at_the_log_density_ratio_of_gaussians():
    rho = np.array([0.8, 0.4])
    critic = GaussianStart(2, 2)
    critic.begin(pairs(20_000, rho, 0), pairs(5000, rho, 1))
    x, y = pairs(50, rho, 2)
    rho = torch.from_numpy(rho)
    expected = 0.0
    for i in range(2):  # log N(x, y; rho) - log N(x) - log N(y), coordinate by coordinate
        r, u, v = rho[i], x[:, i].double()[:, None], y[:, i].double()[None]
        expected = expected - torch.log(1 - r**2) / 2 - (r**2 * (u**2 + v**2) - 2 * r * u * v) / (2 * (1 - r**2))
    with torch.no_grad():
        difference = critic(x, y).double() - expected
    assert difference.abs().mean() < 0.05
    assert difference.abs().mean() < 0.05 * expected.abs().mean()


def test_correlations_that_other_rows_do_not_confirm_are_left_out():
    rng = np.random.default_rng(3)
    u = rng.standard_normal((2000, 3))
    v = u * [0.8, 0, 0] + rng.standard_normal((2000, 3)) * [0.6, 1, 1]
    assert correlations_kept(torch.from_numpy(u), torch.from_numpy(v), torch.tensor([0.8, 0.3, 0.2])) == 1


def test_without_a_beginning_it_scores_nothing():
    x, y = pairs(10, [0.5], 4)
    assert GaussianStart(1, 1)(x, y).detach().abs().max() == pytest.approx(0.0, abs=1e-7)
