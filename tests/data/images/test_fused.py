"""The compiled form of every op makes the views that torch makes, up to rounding."""

import logging
import multiprocessing

import numpy as np
import pytest
import torch

from ssl_mi.data.batch import Source
from ssl_mi.data.draws import Draws
from ssl_mi.data.images import fused, ops
from ssl_mi.data.images.augmentations import (
    Augmentation,
    Chrominance,
    ColorJitter,
    GaussianBlur,
    Grayscale,
    HorizontalFlip,
    Luminance,
    Op,
    RandomResizedCrop,
    Rotation,
    Solarize,
    View,
)
from tests.data.images.test_augmentations import SIDES, from_yaml

# In units of the range of a pixel. Ten float32 operations on numbers up to 1 are off by 1e-7 each; a contrast or a
# saturation multiplies what came before by up to 1.8, and there are two of them.
ROUNDING = 4e-6


def source(n=12, c=3, h=32, w=32, seed=0):
    """Noise and smooth images, black, white and grey ones."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (n, c, h, w), generator=generator, dtype=torch.uint8)
    coarse = torch.rand(n, c, 3, 3, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (h, w), mode="bilinear").mul(255).byte()
    images[: n // 2] = smooth[: n // 2]
    if n > 4:
        images[0], images[1] = 0, 255
        images[2] = images[2, :1]
    return Source(images, torch.arange(n) + 100 * seed, None, 0, 3)


def both(views, batch, size=32, seed=5, run=None):
    """The views in [0, 1], compiled and by torch."""
    plain = [0.0] * batch.images.shape[1], [1.0] * batch.images.shape[1]
    made = [Augmentation(views, size, *plain, compiled=compiled)(batch, seed) for compiled in (True, False)]
    return list(zip(*made, strict=True))


def random_view(rng, size):
    """Ops in any order and number, with the crop first or none at all."""
    blur = GaussianBlur((0.1, float(rng.uniform(0.2, 6))), float(rng.uniform()), [None, 3, 7][rng.integers(3)])
    jitter = ColorJitter(*rng.uniform(0, 1, 3).tolist(), float(rng.uniform(0, 0.5)), 1.0, float(rng.uniform()))
    ops = [
        HorizontalFlip(float(rng.uniform())),
        jitter,
        Grayscale(),
        Solarize(0.5, 0.5),
        blur,
        ColorJitter(),
        Luminance(),
    ]
    chosen = [ops[i] for i in rng.permutation(len(ops))[: rng.integers(len(ops))]]
    low, wide = rng.uniform(0.01, 1), rng.uniform(1, 4)
    crop = RandomResizedCrop(size, (low, 1.0), (1 / wide, wide), ["bilinear", "bicubic"][rng.integers(2)])
    return View(([crop] if rng.uniform() < 0.8 else []) + chosen)


@pytest.mark.parametrize("name", SIDES)
@pytest.mark.parametrize(("h", "w"), [(32, 32), (57, 40)])
def test_every_augmentation_file_makes_the_views_that_torch_makes(name, h, w):
    batch, slow = source(h=h, w=w), from_yaml(name)
    fast, slow.compiled = from_yaml(name)(batch, seed=1), False
    assert all(program_of(view, batch).ops == len(view.ops) for view in slow.views)  # nothing is left to torch
    for a, b in zip(fast, slow(batch, seed=1), strict=True):
        assert a.shape == b.shape
        assert ((a - b) * slow.std).abs().max() < ROUNDING


def program_of(view, batch):
    return fused.program(view.ops, lambda place: Draws(0, 0, 0, batch.index, 0, place), batch.images.shape)


@pytest.mark.parametrize("seed", range(12))
def test_any_list_of_ops_makes_the_views_that_torch_makes(seed):
    rng = np.random.default_rng(seed)
    h, w, size = (int(side) for side in rng.integers(8, 90, 3))
    c = int(rng.choice([1, 3]))
    views = [random_view(rng, size) for _ in range(3)]
    for a, b in both(views, source(c=c, h=h, w=w, seed=seed), size):
        assert a.shape == b.shape
        assert (a - b).abs().max() < ROUNDING, views


@pytest.mark.parametrize(
    ("h", "w", "size"), [(8, 448, 32), (448, 8, 32), (448, 448, 8), (8, 8, 224), (9, 9, 1), (1, 1, 5)]
)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_crops_of_any_side_are_those_of_torch(h, w, size, interpolation):
    views = [View([RandomResizedCrop(size, (0.01, 1.0), (0.05, 20.0), interpolation)])]
    for a, b in both(views, source(6, h=h, w=w), size):
        assert (a - b).abs().max() < ROUNDING


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_boxes_at_the_borders_are_cut_as_torch_cuts_them(interpolation, monkeypatch):
    h, w = 21, 34
    corners = [[0, 0, h, w], [0, 0, 1, 1], [h - 1, w - 1, 1, 1], [3, 2, 1, w - 2], [0, w - 1, h, 1], [h - 2, 0, 2, w]]
    monkeypatch.setattr(RandomResizedCrop, "draw", lambda *_: {"box": torch.tensor(corners)})
    for size in (1, 16, 50):
        for a, b in both([View([RandomResizedCrop(size, interpolation=interpolation)])], source(6, h=h, w=w), size):
            assert (a - b).abs().max() < ROUNDING


@pytest.mark.parametrize(("side", "sigma", "taps"), [(12, 50.0, 23), (24, 8.0, 47), (224, 2.0, None), (16, 0.1, 1)])
def test_wide_blurs_are_those_of_torch(side, sigma, taps):
    views = [View([GaussianBlur((sigma, sigma), 1.0, taps)])]
    for a, b in both(views, source(4, h=side, w=side + 5), side):
        assert (a - b).abs().max() < ROUNDING


def test_solarisation_turns_the_same_pixels():
    """At a threshold other than 1/2 a pixel that rounding moves across it would jump; without ops before, none does."""
    for a, b in both([View([Solarize(100 / 255, 1.0)])], source()):
        assert torch.equal(a, b)


def test_the_image_itself_is_not_rounded_twice():
    a, b = both([View([])], source())[0]
    assert torch.equal(a, b)


def test_luminance_and_chrominance_of_other_ops_are_those_of_torch():
    for a, b in both([View([ColorJitter(), Chrominance(), HorizontalFlip()])], source()):
        assert (a - b).abs().max() < ROUNDING


class Inverted(Op):
    def apply(self, images):
        return 1 - images


class Darker(ColorJitter):
    def apply(self, images, **params):
        return super().apply(images, **params) / 2


@pytest.mark.parametrize("op", [Inverted(), Darker(), Rotation(30), RandomResizedCrop(20)])
def test_what_has_no_compiled_form_is_left_to_torch_with_the_same_draws(op):
    view = View([RandomResizedCrop(24), HorizontalFlip(), op, ColorJitter()])
    assert program_of(view, source()).ops == 2
    for a, b in both([view], source()):
        assert (a - b).abs().max() < ROUNDING


def test_an_own_compiled_form_is_used():
    class Negative(Solarize):
        def apply(self, images, active):
            return 1 - images

        def steps(self, shape, active):
            return ops.steps_of(ops.Kind.SOLARIZE, 0.0, chosen=torch.ones(shape[0], dtype=torch.bool))

    view = View([Negative()])
    assert program_of(view, source()).ops == 1
    assert torch.equal(*both([view], source())[0])


@pytest.mark.parametrize("op", [ColorJitter(), Grayscale(), Luminance(), Chrominance(), GaussianBlur(kernel_size=65)])
def test_images_that_an_op_refuses_are_refused_by_its_compiled_form(op):
    batch = source(c=2)
    for compiled in (True, False):
        with pytest.raises(ValueError, match=type(op).__name__):
            Augmentation([View([op])], 32, [0.0] * 2, [1.0] * 2, compiled=compiled)(batch, 0)


def test_an_image_is_the_same_to_the_bit_in_any_batch_and_number_of_threads(monkeypatch):
    batch, augmentation = source(40), from_yaml("byol")
    whole = augmentation(batch, seed=1)
    rows = torch.tensor([30, 2, 17])
    some = augmentation(batch._replace(images=batch.images[rows], index=batch.index[rows]), seed=1)
    monkeypatch.setattr(fused, "_THREAD", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    for view, part, threaded in zip(whole, some, augmentation(batch, seed=1), strict=True):
        assert torch.equal(view[rows], part)
        assert torch.equal(view, threaded)


def _in_a_fork(batch, queue):
    torch.set_num_threads(1)  # as a DataLoader's worker does, since OpenMP's threads do not survive a fork
    queue.put([view.numpy() for view in from_yaml("simclr_blur")(batch, seed=1)])


def test_a_forked_process_makes_the_same_views(monkeypatch):
    """As a DataLoader's worker is: after threads were used here."""
    monkeypatch.setattr(fused, "_THREAD", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    batch = source()
    here = from_yaml("simclr_blur")(batch, seed=1)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=_in_a_fork, args=(batch, queue))
    process.start()
    there = queue.get(timeout=60)
    process.join(60)
    assert process.exitcode == 0
    for a, b in zip(here, there, strict=True):
        assert torch.equal(a, torch.from_numpy(b))


def test_float_images_and_gradients_stay_with_torch(monkeypatch):
    monkeypatch.setattr(fused, "run", None)
    augmentation = from_yaml("simclr")
    views = augmentation(source().images.float() / 255, seed=0, step=0)
    assert views[0].shape == (12, 3, 32, 32)


def test_without_a_folder_to_cache_in_the_kernel_still_compiles(monkeypatch):
    """Where neither the package nor the home can be written, numba refuses to make a function that is to be kept."""
    from ssl_mi.data.images import kernel

    njit = kernel.numba.njit

    def refuse(cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return njit(**options)

    monkeypatch.setattr(kernel.numba, "njit", refuse)
    assert kernel.compiled()(lambda x: x + 1)(1) == 2


def test_a_slow_first_call_is_said_in_one_line(monkeypatch, caplog):
    monkeypatch.setattr(fused, "_SLOW", 0.0)
    monkeypatch.setattr(fused, "_compiled", {})
    with caplog.at_level(logging.INFO):
        from_yaml("weak")(source(), seed=0)
        from_yaml("weak")(source(), seed=0)
    assert [record.message.startswith("compiled the augmentations") for record in caplog.records] == [True]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("h", "w", "c", "size"), [(50, 70, 3, 24), (20, 300, 1, 32), (9, 8, 4, 40)])
def test_a_workers_crop_is_the_views_crop_to_a_byte_in_any_layout(h, w, c, size, interpolation):
    """Files are decoded with the channels of a pixel side by side, and cropped so."""
    batch = source(8, c, h, w)
    views = [View([RandomResizedCrop(size, (0.05, 1.0), (0.3, 3.0), interpolation)], 2)]
    augmentation = Augmentation(views, size, [0.0] * c, [1.0] * c)
    whole = augmentation(batch, seed=5)
    for i, image in enumerate(batch.images):
        for layout in (image, image.permute(1, 2, 0).contiguous().permute(2, 0, 1)):
            for crop, view in zip(augmentation.crop(layout, 5, 0, 3, int(batch.index[i])), whole, strict=True):
                assert (crop - 255 * view[i]).abs().max() < 1.01


def test_the_blur_is_compiled_where_a_view_is_blurred_and_changes_no_other_view(monkeypatch):
    monkeypatch.setattr(fused, "_compiled", {})
    crop = [RandomResizedCrop(16), HorizontalFlip()]
    without = Augmentation([View(crop, 2)], 16, [0.5] * 3, [0.2] * 3)
    first = without(source(), seed=0)
    assert list(fused._compiled) == [False]
    Augmentation([View([*crop, GaussianBlur(p=1.0)])], 16, [0.5] * 3, [0.2] * 3)(source(), seed=0)
    assert list(fused._compiled) == [False, True]
    for one, other in zip(first, without(source(), seed=0), strict=True):  # by the kernel that can blur
        torch.testing.assert_close(one, other)
