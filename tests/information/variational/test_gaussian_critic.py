"""A critic that begins at the closed-form log density ratio of Gaussians."""

import math

import numpy as np
import pytest
import torch

from ssl_mi.information.distributions import families as d
from ssl_mi.information.variational.gaussian_critic import GaussianStart, correlations_kept
from ssl_mi.information.variational.neural import neural_mi
from ssl_mi.information.variational.splits import Split
from ssl_mi.information.variational.training import Training

UNTRAINED = {"training": Training(max_steps=1), "split": Split(margins="raw")}


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


def test_of_sixty_columns_of_noise_next_to_nothing_is_kept():
    # On 200 rows the largest sample correlation of nothing is about 0.7.
    rng = np.random.default_rng(0)
    fit, validation = (tuple(torch.from_numpy(rng.standard_normal((200, 30))).float() for _ in "xy") for _ in range(2))
    critic = GaussianStart(30, 30)
    critic.begin(fit, validation)
    assert len(critic.rho) == 0


@pytest.mark.parametrize("bound", ["dv", "nwj", "js"])
def test_twenty_gaussian_dimensions_are_right_before_any_step_is_taken(bound):
    x, y = d.gaussian_with_mi(4.0, 20).sample(3000, np.random.default_rng(0))
    estimate = neural_mi(x, y, bound, **UNTRAINED)
    # 20 x 20 / (2 x 1800) = 0.11 nats are lost to the fit of the correlations.
    assert 3.85 - 3 * estimate.se < estimate.value < 4 + 3 * estimate.se
    assert estimate.se < 0.2


def test_infonce_is_near_its_ceiling_without_learning_anything():
    x, y = d.gaussian_with_mi(6.0, 20).sample(3000, np.random.default_rng(0))
    assert 4.5 < neural_mi(x, y, "infonce", **UNTRAINED).value < math.log(750)
    assert neural_mi(x, y, "infonce", critic="separable", **UNTRAINED).value < 0.1
