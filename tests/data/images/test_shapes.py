import math

import numpy as np
import pytest
import torch
from matplotlib.path import Path as Outline

from ssl_mi.data.images import shapes
from ssl_mi.data.images.shapes import CLASSES, EmbeddedShapes, coverage, draw_shapes

ALL = torch.tensor(list(CLASSES.values()), dtype=torch.float32)


def every_class(size, x=0.5, y=0.5, tilt=0.0, width=64):
    where = (torch.full((len(CLASSES),), float(v)) for v in (size, x, y, tilt))
    return coverage(*ALL.unbind(1), *where, width)


def slow_coverage(points, ratio, size, x, y, tilt, width, fine=16):
    """The share of fine x fine sample points of each pixel that lie inside the polygon."""
    outer = size * math.sqrt(math.pi / (points * ratio * math.sin(math.pi / points)))
    grid = (np.arange(width * fine) + 0.5) / (width * fine)
    where = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2)
    corners = []
    for j in range(2 * points):
        angle, radius = tilt + j * math.pi / points, outer * (ratio if j % 2 else 1)
        corners.append((x + radius * math.sin(angle), y - radius * math.cos(angle)))
    covered = Outline(corners).contains_points(where)
    return torch.from_numpy(covered.reshape(width, fine, width, fine).mean(axis=(1, 3))).float()


@pytest.mark.parametrize("name", CLASSES)
def test_every_shape_is_its_polygon(name):
    kind = CLASSES[name]
    where = {"size": 0.22, "x": 0.47, "y": 0.55, "tilt": 0.2}
    fast = coverage(*(torch.tensor([float(v)]) for v in (*kind, *where.values())), 32)[0]
    slow = slow_coverage(*kind, *where.values(), 32)
    # A distance clamped over one pixel is not the exact area of a pixel cut at a slant or by a corner.
    assert (fast - slow).abs().mean() < 0.004
    assert ((fast - slow).abs() > 0.12).sum() <= 2 * kind[0]


def test_every_shape_covers_the_area_of_its_disc():
    area = every_class(0.2, width=256).sum((1, 2)) / 256**2
    torch.testing.assert_close(area, torch.full_like(area, math.pi * 0.2**2), rtol=2e-3, atol=0)


def test_every_shape_stays_inside_the_image_at_the_extremes():
    for x in (0.5 - shapes.OFFSET, 0.5 + shapes.OFFSET):
        for y in (0.5 - shapes.OFFSET, 0.5 + shapes.OFFSET):
            for tilt in np.linspace(-shapes.TILT, shapes.TILT, 7):
                edge = every_class(shapes.SIZE[1], x, y, tilt)
                assert max(edge[:, [0, -1]].max(), edge[:, :, [0, -1]].max()) == 0


def test_an_image_depends_on_its_seed_split_and_row_alone():
    images, factors = draw_shapes(300, 32, seed=3, split=0)
    fewer, fewer_factors = draw_shapes(20, 32, seed=3, split=0)
    # Sines of arrays of other lengths may differ in their last bit, and a level of 255 where that turns a rounding.
    assert (images[:20].int() - fewer.int()).abs().max() <= 1
    for name, values in factors.items():
        torch.testing.assert_close(values[:20], fewer_factors[name])
    for seed, split in ((4, 0), (3, 1)):
        assert not torch.equal(draw_shapes(20, 32, seed, split)[0], fewer)


def test_the_hues_are_the_angles_of_the_colours_in_the_image():
    images, factors = draw_shapes(500, 32, seed=0, split=0)
    column, row = ((factors[axis] * 32).long() for axis in ("x", "y"))
    for name, pixels in {
        "hue": images[torch.arange(500), :, row, column],
        "background": images[:, :, 0, 0],
    }.items():
        red, green, blue = pixels.float().unbind(1)
        seen = torch.atan2(math.sqrt(3) * (green - blue), 2 * red - green - blue)
        cos, sin = factors[name].unbind(1)
        torch.testing.assert_close(cos.square() + sin.square(), torch.ones(500))
        error = torch.atan2(sin, cos) - seen
        assert torch.atan2(error.sin(), error.cos()).abs().max() < 0.04  # rounding to 256 levels


def test_neither_mean_nor_spread_of_a_channel_tells_the_shape():
    images, factors = draw_shapes(6000, 32, seed=0, split=0)
    flat = images.float().flatten(2)
    for statistic in (*flat.mean(2).unbind(1), *flat.std(2).unbind(1)):
        for k in range(len(CLASSES)):
            mine = statistic[factors["shape"] == k]
            standard_error = mine.std() / math.sqrt(len(mine))
            assert (mine.mean() - statistic.mean()).abs() < 4.5 * standard_error


def test_factors_are_independent_and_fill_their_ranges():
    _, factors = draw_shapes(6000, 32, seed=0, split=0)
    for name, low, high in (
        ("size", *shapes.SIZE),
        ("x", 0.5 - shapes.OFFSET, 0.5 + shapes.OFFSET),
        ("rotation", -shapes.TILT, shapes.TILT),
    ):
        values = factors[name]
        assert low <= values.min() < low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) < values.max() <= high
    table = torch.cat([v.float().reshape(len(v), -1) for v in factors.values()], dim=1)
    correlation = torch.corrcoef(table.T).fill_diagonal_(0)
    assert correlation.abs().max() < 4.5 / math.sqrt(6000)


def test_the_set_has_as_many_images_as_asked_with_classes_in_equal_numbers():
    train, test, unlabelled, _ = EmbeddedShapes(train=60, test=30, width=24).load()
    assert train.shape == (3, 24, 24)
    assert (len(train), len(test), unlabelled) == (60, 30, None)
    assert train.labels.bincount().tolist() == [10] * 6
    assert torch.equal(train.labels, train.factors["shape"])
    assert not torch.equal(train.images[:30], test.images.pixels)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"train": 3}, r"train=3 .*\(6\)"), ({"test": 0}, "test=0"), ({"width": 8}, "width=8")],
)
def test_sizes_that_cannot_work_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        EmbeddedShapes(**{"train": 60, "test": 60, **change})
