"""The shape of embeddings: values known in closed form, and slow twins."""

import math

import pytest
import standins
import torch

from ssl_mi.evaluation.geometry import Geometry, alignment, effective_rank, uniformity


def with_spectrum(singular_values, n=40, seed=0):
    """Centred rows x: [n, d] of just these singular values."""
    generator = torch.Generator().manual_seed(seed)
    d = len(singular_values)
    basis = torch.randn(n, d, generator=generator, dtype=torch.float64)
    left = torch.linalg.qr(basis - basis.mean(0)).Q
    right = torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64)).Q
    return left @ torch.diag(torch.tensor(singular_values, dtype=torch.float64)) @ right


@pytest.mark.parametrize(
    ("singular_values", "rank"),
    [
        ([1.0] * 5, 5.0),
        ([3.0, 0.0, 0.0], 1.0),
        ([2.0, 2.0, 0.0, 0.0], 2.0),
        ([3.0, 1.0], math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))),
    ],
)
def test_effective_rank_is_the_exponential_of_the_entropy_of_the_spectrum(singular_values, rank):
    assert effective_rank(with_spectrum(singular_values) + 7) == pytest.approx(rank, rel=1e-5)


def test_a_collapse_has_rank_one_or_less_and_no_nan():
    assert effective_rank(torch.full((20, 8), 3.0)) == pytest.approx(1.0)


def test_alignment_is_the_mean_squared_distance_on_the_sphere():
    x = torch.randn(30, 5, generator=torch.Generator().manual_seed(0))
    y = torch.randn(30, 5, generator=torch.Generator().manual_seed(1))
    total = 0.0
    for a, b in zip(x.tolist(), y.tolist(), strict=True):
        na, nb = math.hypot(*a), math.hypot(*b)
        total += sum((p / na - q / nb) ** 2 for p, q in zip(a, b, strict=True))
    assert alignment(x, y) == pytest.approx(total / 30, rel=1e-5)


def test_alignment_is_0_for_equal_directions_2_for_right_angles_and_4_for_opposite_ones():
    x = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    assert alignment(x, 5 * x) == pytest.approx(0)
    assert alignment(x, x.flip(0)) == pytest.approx(2)
    assert alignment(x, -x) == pytest.approx(4)


def test_uniformity_is_the_loop_over_pairs():
    x = torch.randn(25, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    unit = [[v / math.hypot(*row) for v in row] for row in x.tolist()]
    terms = [math.exp(-2 * math.dist(unit[i], unit[j]) ** 2) for i in range(25) for j in range(i)]
    assert uniformity(x) == pytest.approx(math.log(sum(terms) / len(terms)), rel=1e-9)


def test_uniformity_of_a_collapse_is_0_and_of_two_opposite_points_minus_8():
    assert uniformity(torch.ones(10, 3)) == pytest.approx(0, abs=1e-6)
    # Two points at distance 2: the only pair gives log e^(-2 * 4).
    assert uniformity(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])) == pytest.approx(-8, rel=1e-5)


def test_uniformity_of_the_uniform_circle_is_its_bessel_function():
    # E e^(-4 (1 - cos a)) for a uniform angle a: e^-4 I_0(4), less the pairs of a point with itself.
    angle = 2 * math.pi * torch.arange(720, dtype=torch.float64) / 720
    x = torch.stack([angle.cos(), angle.sin()], 1)
    mean = math.exp(-4) * torch.special.i0(torch.tensor(4.0, dtype=torch.float64)).item()
    assert uniformity(x) == pytest.approx(math.log((720 * mean - 1) / 719), rel=1e-9)


def test_rows_say_what_was_read_and_what_is_the_most_it_could_be():
    rows = standins.rows_of(Geometry(limit=50), standins.bench(standins.GaussianViews(noise=4), "val"))
    assert set(rows) == {"effective_rank_h", "effective_rank_z", "alignment", "uniformity"}
    assert {row.n for row in rows.values()} == {50}
    assert rows["effective_rank_z"].ceiling == 6
    assert 1 < rows["effective_rank_z"].value <= 6
    few = standins.rows_of(Geometry(limit=4), standins.bench(standins.GaussianViews(noise=4), "val"))
    assert few["effective_rank_z"].ceiling == 3  # centred, n rows span n - 1 directions


@pytest.mark.parametrize("split", ["val", "test"])
def test_the_limit_holds_at_the_end_too(split):
    rows = standins.rows_of(Geometry(limit=50), standins.bench(standins.GaussianViews(), split))
    assert {row.n for row in rows.values()} == {50}
