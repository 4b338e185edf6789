"""What the local objectives compare with what, and that what they log is below the truth."""

import math

import pytest
import torch

from ssl_mi.information.variational.bounds import InfoNCE
from ssl_mi.information.variational.critics import Bilinear
from ssl_mi.objectives.local import AMDIM, DeepInfoMaxLocal


def rows(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def local(across):
    return DeepInfoMaxLocal(4, Bilinear, InfoNCE(), across=across).double()


def test_a_summary_meets_its_own_map_or_that_of_the_other_view():
    z = [10 * rows(8, 4, seed=1), 10 * rows(8, 4, seed=2)]
    maps = [[view[:, None].expand(8, 3, 4)] for view in z]  # every location says what its own summary says
    turned = maps[::-1]
    own, other = local(across=False), local(across=True)
    assert own(z, z, maps=maps).total < own(z, z, maps=turned).total - 1
    assert other(z, z, maps=turned).total < other(z, z, maps=maps).total - 1


def test_a_location_competes_with_the_same_location_of_other_images_only():
    # Image i says i in place 0 and the same of all images in place 1: no matter which, place 1 tells nothing.
    z = [20 * torch.eye(4, dtype=torch.float64)] * 2
    silent = torch.zeros(4, 1, 4, dtype=torch.float64)
    maps = [[torch.cat([z[0][:, None], silent], 1)]] * 2
    loss = local(across=False)(z, z, maps=maps)
    assert loss.total.item() == pytest.approx(math.log(4) / 2, abs=1e-6)
    assert loss.metrics["local_nats"].item() == pytest.approx(math.log(4) / 2, abs=1e-6)


def gaussian_maps(n, places, seed, rho=0.8):
    """A summary that shares -log(1 - rho^2)/2 nats with each location; the locations of an image are all the same."""
    z, noise = rows(n, 1, seed=2 * seed), rows(n, 1, seed=2 * seed + 1)
    location = rho * z + math.sqrt(1 - rho**2) * noise
    return z, location[:, None].expand(n, places, 1)


@pytest.mark.parametrize("scale", [1.0, 1.5, 3.0])
def test_what_amdim_logs_is_below_the_truth_whatever_the_critic(scale):
    truth, found = -math.log(1 - 0.8**2) / 2, []
    for seed in range(200):
        z, m = gaussian_maps(4, 16, seed)
        found.append(AMDIM(1, clip=1e3)._nce(scale * z, scale * m)[2])
    assert torch.stack(found).mean() < truth
    assert torch.stack(found).mean() > 0.1 or scale > 2


def test_the_log_of_all_negatives_of_amdim_less_its_loss_would_be_above_the_truth():
    truth, n, places = -math.log(1 - 0.8**2) / 2, 2, 64
    pairs = [gaussian_maps(n, places, seed) for seed in range(200)]
    loss = torch.stack([AMDIM(1, clip=1e3)._nce(2 * z, 2 * m)[0] for z, m in pairs]).mean()
    assert math.log(1 + (n - 1) * places) - loss > truth + 0.5


def test_the_location_that_amdim_predicts_from_is_drawn_anew_each_step_and_not_from_the_random_state():
    z, maps = [rows(6, 4, seed=v) for v in (1, 2)], [[rows(6, 9, 4, seed=v), rows(6, 16, 4, seed=v)] for v in (3, 4)]
    losses = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        objective = AMDIM(4).double()
        losses.append([objective(z, z, maps=maps).total.item() for _ in range(4)])
    assert losses[0] == losses[1]
    assert len(set(losses[0])) > 1


def test_missing_maps_and_a_teacher_are_refused():
    z = [rows(6, 4, seed=1), rows(6, 4, seed=2)]
    one = [[rows(6, 9, 4)]] * 2
    with pytest.raises(ValueError, match=r"amdim takes 2 maps of a view and the towers give 1: set towers.local"):
        AMDIM(4)(z, z, maps=one)
    with pytest.raises(ValueError, match="give 0"):
        local(across=False)(z, z, maps=())
    with pytest.raises(ValueError, match="no use for a teacher"):
        local(across=False)(z, list(z), maps=one)
    with pytest.raises(ValueError, match="clip must be positive"):
        AMDIM(4, clip=0)
