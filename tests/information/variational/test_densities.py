import math

import pytest
import torch

from ssl_mi.information.variational.densities import AutoregressiveMixture


def anywhere(dim, context_dim=0, **sizes):
    """A density with random weights, float64."""
    torch.manual_seed(0)
    density = AutoregressiveMixture(dim, context_dim, **sizes).double()
    for parameter in density.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return density


@pytest.mark.parametrize(("dim", "context_dim", "points"), [(1, 0, 4001), (2, 2, 401), (3, 0, 61)])
def test_the_density_integrates_to_one_whatever_its_weights(dim, context_dim, points):
    # Only if every coordinate is scored given none but those before it does the product integrate to one.
    density = anywhere(dim, context_dim, hidden=12, components=3)
    line = torch.linspace(-15, 15, points, dtype=torch.float64)
    grid = torch.cartesian_prod(*[line] * dim).reshape(-1, dim)
    context = torch.tensor([0.5, -1.0]).double().expand(len(grid), 2) if context_dim else None
    with torch.no_grad():
        mass = density(grid, context).exp().sum() * (30 / (points - 1)) ** dim
    assert float(mass) == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize("components", [1, 4])
def test_a_density_begins_as_the_standard_normal_whatever_the_context(components):
    torch.manual_seed(0)
    density = AutoregressiveMixture(3, 5, components=components)
    y = torch.randn(500, 3)
    normal = (-0.5 * y**2 - 0.5 * math.log(2 * math.pi)).sum(1)
    begun = density(y, torch.randn(500, 5)).detach()
    torch.testing.assert_close(begun, density(y).detach())
    assert float((normal - begun).mean()) == pytest.approx(0, abs=1e-3 if components > 1 else 1e-6)


def test_the_flow_to_the_normal_and_the_density_are_one():
    # Change of variables: log q(y) = log N(z(y)) + sum log dz_i/dy_i, for the Jacobian is triangular.
    density, y, h = anywhere(3, 2, hidden=12, components=3), torch.randn(40, 3).double(), 1e-5
    context = torch.randn(40, 2).double()
    z = density.to_normal(y, context)
    log_slope = 0.0
    for i in range(3):
        step = torch.zeros(3, dtype=torch.float64)
        step[i] = h
        moved = (density.to_normal(y + step, context) - density.to_normal(y - step, context)) / (2 * h)
        torch.testing.assert_close(moved[:, :i], torch.zeros_like(moved[:, :i]))
        log_slope = log_slope + moved[:, i].log()
    log_normal = (-0.5 * z**2 - 0.5 * math.log(2 * math.pi)).sum(1)
    torch.testing.assert_close(log_normal + log_slope, density(y, context).detach(), atol=1e-6, rtol=1e-6)


def test_the_flow_keeps_its_digits_far_out():
    density = AutoregressiveMixture(1, components=2).double()
    far = torch.tensor([[-60.0], [60.0]]).double()
    z = density.to_normal(far)
    # Both components have the scale s = sqrt(1 - 1/4) at means -1/2 and 1/2: the outer one rules, z = (60 - 1/2) / s.
    assert z[1].item() == pytest.approx(59.5 / math.sqrt(0.75), rel=1e-3)
    assert z[0].item() == pytest.approx(-z[1].item(), rel=1e-12)
