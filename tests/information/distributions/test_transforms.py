import math

import numpy as np
import pytest
from scipy import special, stats

from ssl_mi.information.distributions import families as d
from ssl_mi.information.distributions import transforms as t

LINE = np.linspace(-6, 6, 20_001)[:, None]


@pytest.mark.parametrize("bend", [t.asinh, t.half_cube, t.normal_cdf, t.wiggle_x, t.wiggle_y])
def test_maps_of_a_coordinate_are_strictly_increasing(bend):
    assert (np.diff(bend(LINE)[:, 0]) > 0).all()


def test_half_cube_is_the_signed_power_of_three_halves():
    np.testing.assert_allclose(t.half_cube(np.array([-4.0, 0.0, 9.0])), [-8, 0, 27])


def test_normal_cdf_makes_normal_margins_uniform():
    x, _ = t.Transformed(d.correlated_gaussian(0.75), t.normal_cdf, t.normal_cdf).sample(5000, np.random.default_rng(0))
    assert stats.kstest(x[:, 0], "uniform").pvalue > 1e-3


def test_mixture_quantile_inverts_the_mixture_cdf():
    u = np.linspace(1e-9, 1 - 1e-9, 1001)[:, None]
    q = t.MixtureQuantile(weights=(0.3, 0.7), means=(0.0, 5.0))(u)
    np.testing.assert_allclose(0.3 * special.ndtr(q) + 0.7 * special.ndtr(q - 5), u, atol=1e-14)


def test_spiral_turns_by_the_squared_norm_and_turns_back():
    x = np.random.default_rng(0).standard_normal((100, 5))
    spiral, back = t.Spiral(1, 2, speed=0.7), t.Spiral(1, 2, speed=-0.7)
    turned = spiral(x)
    np.testing.assert_allclose(np.linalg.norm(turned, axis=1), np.linalg.norm(x, axis=1))
    np.testing.assert_allclose(back(turned), x, atol=1e-12)
    np.testing.assert_array_equal(turned[:, [0, 3, 4]], x[:, [0, 3, 4]])
    # A quarter turn at squared norm one.
    np.testing.assert_allclose(t.Spiral(0, 1, speed=math.pi / 2)(np.array([[1.0, 0.0]])), [[0, 1]], atol=1e-15)


def test_swiss_roll_unrolls_by_its_radius():
    u = np.linspace(0, 1, 200)[:, None]
    radius = np.linalg.norm(t.swiss_roll(u), axis=1)
    np.testing.assert_allclose((21 * radius / (1.5 * math.pi) - 1) / 2, u[:, 0], atol=1e-12)


def test_rotation_keeps_lengths():
    x = np.random.default_rng(0).standard_normal((10, 6))
    np.testing.assert_allclose(np.linalg.norm(t.Rotation(6, seed=3)(x), axis=1), np.linalg.norm(x, axis=1))


def test_compose_applies_the_last_map_first():
    np.testing.assert_allclose(t.compose(np.exp, t.half_cube)(np.array([4.0])), [math.exp(8)])


def test_transformed_inherits_the_truth_and_reports_its_dimensions():
    base = t.Transformed(d.correlated_gaussian(0.75), t.normal_cdf, t.normal_cdf)
    rolled = t.Transformed(base, x=t.swiss_roll)
    assert rolled.mi == base.mi == d.correlated_gaussian(0.75).mi
    assert (rolled.dim_x, rolled.dim_y) == (2, 1)


@pytest.mark.parametrize("layers", [0, 2])
def test_embedded_can_be_undone_to_the_signal_beside_its_noise(layers):
    base = d.correlated_gaussian(0.9, dim=2)
    embedded = t.Embedded(base, 7, 3, noise=0.5, layers=layers, seed=1)
    x, y = embedded.sample(50, np.random.default_rng(5))
    true_x, true_y = base.sample(50, np.random.default_rng(5))
    for z, mix, truth in ((x, embedded._mix_x, true_x), (y, embedded._mix_y, true_y)):
        for rotation in reversed(mix[1:]):
            z = np.sinh(z @ rotation.T) / 2
        np.testing.assert_allclose((z @ mix[0].T)[:, :2], truth, atol=1e-9)
    assert embedded.mi == base.mi
    assert (x.shape[1], y.shape[1]) == (7, 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: t.Embedded(d.correlated_gaussian(0.5, 3), 2, 5), "cannot hold"),
        (lambda: t.Embedded(d.correlated_gaussian(0.5), 2, 2, noise=0.0), "noise must be positive"),
        (lambda: t.MixtureQuantile((0.5, 0.6), (0.0, 1.0)), "sum to 1"),
        (lambda: t.MixtureQuantile((0.5, 0.5), (0.0, 1.0))(np.array([[0.0]])), "strictly between 0 and 1"),
        (lambda: t.Spiral(0, 3, 1.0)(np.zeros((2, 2))), "plane"),
        (lambda: t.swiss_roll(np.zeros((2, 2))), "one coordinate"),
    ],
)
def test_impossible_transforms_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
