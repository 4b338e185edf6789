"""Trees, brute force and permuted pairings against distances read off one by one: the same bits, ties included."""

import numpy as np
import pytest

from ssl_mi.information.estimators import ksg as knn
from ssl_mi.information.neighbours import queries as neighbours
from ssl_mi.information.neighbours.kd_tree import LEAF


def distances(values):
    return np.abs(values[:, None, :] - values[None, :, :]).max(2)


def points(n, d, seed=0):
    """A third of the coordinates on a coarse grid, a tenth of the rows repeated, columns of very different widths."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((n, d)) * 10.0 ** (np.arange(d) % 3)
    values = np.where(rng.random((n, d)) < 1 / 3, np.round(values, 1), values)
    values[: n // 10] = values[n - n // 10 :]
    return values


def others_sorted(apart):
    apart = apart.copy()
    np.fill_diagonal(apart, np.inf)
    return np.sort(apart, 1)


# One leaf, its edges, a tree whose last branches are empty, and more neighbours than a leaf holds.
SHAPES = [
    (5, 1, 4),
    (LEAF, 1, 1),
    (LEAF + 1, 2, 3),
    (3 * LEAF, 3, 5),
    (700, 1, 3),
    (700, 4, 3),
    (600, 5, LEAF + 20),
    (2000, 2, 3),
]


@pytest.mark.parametrize(("n", "d", "k"), SHAPES)
def test_nearest_distances_are_those_of_all_pairs_sorted(n, d, k):
    values = points(n, d)
    expected = others_sorted(distances(values))[:, :k]
    assert (neighbours.nearest(values, k) == expected).all()
    assert (neighbours.Tree(values).radii(k) == expected[:, -1]).all()


@pytest.mark.parametrize(("n", "d", "k"), SHAPES)
@pytest.mark.parametrize("closed", [False, True])
def test_counts_are_those_of_all_pairs_for_many_radii_at_a_time(n, d, k, closed):
    # Radii that are distances themselves, so that points lie exactly on the boundary; 0; and all there is.
    values = points(n, d, seed=1)
    apart = distances(values)
    rng = np.random.default_rng(2)
    radii = np.stack([apart[np.arange(n), rng.integers(0, n, n)] for _ in range(5)])
    radii[3], radii[4] = 0.0, 1e9
    inside = apart[None] <= radii[:, :, None] if closed else apart[None] < radii[:, :, None]
    expected = inside.sum(2) - inside[:, np.arange(n), np.arange(n)]
    assert (neighbours.Tree(values).count(radii, closed) == expected).all()
    assert (neighbours.count_within(values, radii[1], closed) == expected[1]).all()


@pytest.mark.parametrize("k", [4, 499])
def test_extents_are_the_sides_of_the_rectangle_around_all_that_is_within(k):
    values = points(500, 5, seed=3)
    apart_x, apart_y = distances(values[:, :2]), distances(values[:, 2:])
    radii = others_sorted(np.maximum(apart_x, apart_y))[:, k - 1]
    within = np.maximum(apart_x, apart_y) <= radii[:, None]
    expected = np.stack([np.where(within, apart, 0).max(1) for apart in (apart_x, apart_y)], 1)
    assert (neighbours.Tree(values).extents(radii, 2) == expected).all()


@pytest.mark.parametrize("value", [0.0, -3.7])
def test_equal_points_are_at_distance_zero_of_each_other(value):
    same = np.full((300, 2), value)
    assert (neighbours.nearest(same, 3) == 0).all()
    assert (neighbours.count_within(same, np.zeros(300)) == 0).all()
    assert (neighbours.count_within(same, np.zeros(300), closed=True) == 299).all()


@pytest.mark.parametrize("scale", [1e-150, 1.0, 1e150])
def test_brute_force_and_trees_give_the_same_bits(scale):
    x, y = points(700, 3, seed=4) * scale, points(700, 5, seed=5) * scale
    by_scan, by_trees = neighbours.scan(x, y, 4), neighbours.joint_counts(x, y, 4)
    for one, other in zip(by_scan, by_trees, strict=True):
        assert (one == other).all()


def test_many_columns_are_left_to_brute_force_and_many_rows_to_trees(monkeypatch):
    used = []
    monkeypatch.setattr(neighbours, "scan", lambda x, y, k: used.append(x.shape))
    neighbours.joint_counts(np.zeros((100, 4)), np.zeros((100, 4)), 3)
    assert used == []
    neighbours.joint_counts(np.zeros((100, 16)), np.zeros((100, 16)), 3)
    assert used == [(100, 16)]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(("dx", "dy"), [(1, 1), (2, 3)])
def test_null_values_are_what_each_pairing_reads_alone(monkeypatch, workers, dx, dy):
    monkeypatch.setattr(neighbours, "threads", lambda: workers)
    x, y = points(400, dx, seed=6), points(400, dy, seed=7)
    partners = np.stack([np.random.default_rng(b).permutation(400) for b in range(12)])
    expected = [knn.ksg_pointwise(x, y[partner], 3).mean() for partner in partners]
    assert knn.null_values(x, y, 3, partners) == pytest.approx(expected, abs=1e-12)  # means of 400 numbers below 10


def test_null_values_do_not_depend_on_how_many_pairings_are_held_at_a_time(monkeypatch):
    monkeypatch.setattr(neighbours, "threads", lambda: 1)
    x, y = points(200, 2, seed=8), points(200, 2, seed=9)
    partners = np.stack([np.random.default_rng(b).permutation(200) for b in range(11)])
    together = knn.null_values(x, y, 3, partners)
    monkeypatch.setattr(neighbours, "HELD", 0)  # four a thread, the least
    assert knn.null_values(x, y, 3, partners) == pytest.approx(together, abs=1e-12)


@pytest.mark.parametrize(
    ("partners", "message"),
    [
        (np.array([[0, 1, 2, 3], [0, 1, 1, 3]]), r"partners\[1\] is no permutation of 0..3"),
        (np.arange(4), r"partners must be whole numbers \[B, n=4\], got int64 \[4\]"),
        (np.arange(3)[None], r"\[B, n=4\], got int64 \[1, 3\]"),
        (np.arange(4.0)[None], r"\[B, n=4\], got float64 \[1, 4\]"),
    ],
)
def test_partners_that_are_no_permutations_are_named(partners, message):
    with pytest.raises(ValueError, match=message):
        knn.null_values(np.zeros((4, 1)), np.zeros((4, 1)), 1, partners)
