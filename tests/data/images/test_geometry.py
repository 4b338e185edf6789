"""Crop, flip, rotation and blur equal torchvision's on every image, and are drawn by torchvision's laws."""

import math

import pytest
import torch
import torchvision.transforms.v2.functional as TF
from scipy import stats
from torchvision.transforms import InterpolationMode
from torchvision.transforms import RandomResizedCrop as TorchvisionCrop

from ssl_mi.data.draws import Draws
from ssl_mi.data.images.geometry import GaussianBlur, HorizontalFlip, RandomResizedCrop, Rotation, WrapShift


def images(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def draws(n, seed=0):
    return Draws(seed, 0, 0, torch.arange(n), 0)


def their_crop(image, box, size, interpolation):
    top, left, h, w = box.tolist()
    mode = InterpolationMode(interpolation)
    return TF.resized_crop(image, top, left, h, w, [size, size], mode, antialias=True).clamp(0, 1)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [1, 9, 32, 50])
@pytest.mark.parametrize("shape", [(40, 3, 32, 32), (40, 1, 20, 33)])
def test_crop_and_resize_is_torchvisions_on_each_image(shape, size, interpolation):
    x = images(*shape)
    crop = RandomResizedCrop(size, scale=(0.01, 1.0), ratio=(0.3, 3.0), interpolation=interpolation)
    box = crop.draw(draws(len(x)), x.shape)["box"]
    h, w = shape[-2:]
    corners = [[0, 0, h, w], [0, 0, 1, 1], [h - 1, w - 1, 1, 1], [3, 2, 1, w - 2], [0, w - 1, h, 1]]
    box[: len(corners)] = torch.tensor(corners)
    ours = crop.apply(x, box)
    theirs = torch.stack([their_crop(image, b, size, interpolation) for image, b in zip(x, box, strict=True)])
    assert (ours - theirs).abs().max() < 5e-6
    assert ours.is_contiguous()


def test_a_crop_of_the_whole_image_at_its_own_size_is_the_image():
    x = images(3, 3, 16, 16)
    crop = RandomResizedCrop(16, scale=(1, 1), ratio=(1, 1))
    torch.testing.assert_close(crop(x, draws(3)), x, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "scale", "ratio"),
    [((32, 32), (0.08, 1.0), (3 / 4, 4 / 3)), ((50, 21), (0.2, 0.9), (0.5, 2.0)), ((9, 9), (0.01, 0.3), (0.9, 1.1))],
)
def test_boxes_are_drawn_by_torchvisions_law(shape, scale, ratio):
    """Two-sample Kolmogorov-Smirnov tests of every number that describes a box."""
    n = 4000
    ours = RandomResizedCrop(8, scale, ratio).draw(draws(n, seed=5), (n, 3, *shape))["box"].double()
    torch.manual_seed(0)
    image = torch.empty(1, *shape)
    theirs = torch.tensor([TorchvisionCrop.get_params(image, scale, ratio) for _ in range(n)]).double()
    for describe in (
        lambda b: b[:, 0],
        lambda b: b[:, 1],
        lambda b: b[:, 2],
        lambda b: b[:, 3],
        lambda b: b[:, 2] * b[:, 3],
        lambda b: b[:, 3] / b[:, 2],
        lambda b: b[:, 0] - b[:, 1],
    ):
        assert stats.ks_2samp(describe(ours).numpy(), describe(theirs).numpy()).pvalue > 1e-3
    assert (ours[:, :2] >= 0).all()
    assert (ours[:, 2:] >= 1).all()
    assert (ours[:, :2] + ours[:, 2:] <= torch.tensor(shape)).all()


@pytest.mark.parametrize("shape", [(4, 64), (64, 4), (7, 60)])
def test_when_no_box_fits_the_central_one_is_taken(shape):
    """At scale 1 no box of a near-square ratio fits into a strip, so torchvision falls back too."""
    ours = RandomResizedCrop(8, scale=(1, 1)).draw(draws(5), (5, 3, *shape))["box"]
    theirs = TorchvisionCrop.get_params(torch.empty(1, *shape), [1, 1], [3 / 4, 4 / 3])
    assert ours.tolist() == [list(theirs)] * 5


def test_flip_swaps_left_and_right_of_the_chosen_only():
    x = images(6, 3, 5, 7)
    active = torch.tensor([True, False, True, False, False, True])
    flipped = HorizontalFlip().apply(x, active)
    assert torch.equal(flipped[active], TF.horizontal_flip(x[active]))
    assert torch.equal(flipped[~active], x[~active])


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_chances_are_kept(p):
    """The count is binomial: within 4 standard deviations, and exact at 0 and 1."""
    n = 10_000
    flips = HorizontalFlip(p).draw(draws(n), (n, 3, 8, 8))["active"].float().mean().item()
    blurs = (GaussianBlur(p=p).draw(draws(n, 1), (n, 3, 8, 8))["sigma"] > 0).float().mean().item()
    for share in (flips, blurs):
        assert abs(share - p) <= 4 * (p * (1 - p) / n) ** 0.5


def test_a_shift_rolls_each_image_around_its_borders():
    x = images(5, 3, 8, 11)
    shift = torch.tensor([[0, 0], [1, 0], [0, 10], [7, 3], [5, 6]])
    ours = WrapShift().apply(x, shift)
    assert torch.equal(ours, torch.stack([i.roll(s.tolist(), (1, 2)) for i, s in zip(x, shift, strict=True)]))


def test_every_shift_is_equally_likely():
    n = 12_000
    down, right = WrapShift().draw(draws(n), (n, 3, 6, 5))["shift"].T
    assert stats.chisquare((down * 5 + right).bincount(minlength=30)).pvalue > 1e-3


@pytest.mark.parametrize("shape", [(6, 3, 32, 32), (6, 1, 20, 33)])
def test_rotation_is_torchvisions_on_each_image_and_goes_on_outside(shape):
    x = images(*shape)
    degrees = torch.tensor([0.0, 10.0, -35.0, 90.0, 179.0, -120.0])
    ours = Rotation().apply(x, torch.deg2rad(degrees))
    torch.testing.assert_close(ours[0], x[0], rtol=0, atol=1e-5)
    inside = torch.stack(
        [TF.rotate(torch.ones_like(i), d.item(), InterpolationMode.BILINEAR) for i, d in zip(x, degrees, strict=True)]
    )
    theirs = torch.stack([TF.rotate(i, d.item(), InterpolationMode.BILINEAR) for i, d in zip(x, degrees, strict=True)])
    assert inside.mean() > 0.5
    assert ((ours - theirs).abs() * (inside > 0.999)).max() < 1e-4
    plain = torch.full(shape, 0.3)
    torch.testing.assert_close(Rotation()(plain, draws(6)), plain, rtol=0, atol=1e-6)


def test_angles_are_uniform():
    angle = Rotation(90).draw(draws(4000), (4000, 3, 8, 8))["angle"]
    assert stats.kstest(angle.numpy() / math.pi + 0.5, "uniform").pvalue > 1e-3


@pytest.mark.parametrize(("kernel_size", "taps"), [(None, 3), (3, 3), (7, 7), (23, 23), (1, 1)])
def test_blur_is_torchvisions_on_each_image(kernel_size, taps):
    x = images(12, 3, 24, 30)
    sigma = torch.linspace(0.1, 2.0, 12).where(torch.arange(12) % 3 > 0, 0.0)
    ours = GaussianBlur(kernel_size=kernel_size).apply(x, sigma)
    theirs = [TF.gaussian_blur(i, [taps, taps], [s.item()]) if s > 0 else i for i, s in zip(x, sigma, strict=True)]
    assert (ours - torch.stack(theirs)).abs().max() < 2e-6


@pytest.mark.parametrize(("side", "taps"), [(16, 3), (32, 3), (64, 7), (96, 9), (224, 23)])
def test_the_blurs_kernel_is_a_tenth_of_the_image(side, taps):
    point = torch.zeros(1, 1, side, side)
    point[..., side // 2, side // 2] = 1
    blurred = GaussianBlur().apply(point, torch.tensor([50.0]))
    assert int((blurred[0, 0].sum(0) > 1e-6).sum()) == taps


def test_sigmas_are_uniform():
    sigma = GaussianBlur(sigma=(0.1, 2.0), p=1.0).draw(draws(5000), (5000, 3, 8, 8))["sigma"]
    assert stats.kstest(sigma.numpy(), "uniform", args=(0.1, 1.9)).pvalue > 1e-3


def test_a_blur_wider_than_the_image_is_refused():
    with pytest.raises(ValueError, match=r"9 taps .* use larger images"):
        GaussianBlur(kernel_size=9).apply(images(2, 3, 4, 4), torch.ones(2))


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: RandomResizedCrop(0), "size"),
        (lambda: RandomResizedCrop(2.5), "size"),
        (lambda: RandomResizedCrop(8, scale=(0.5, 0.1)), "scale"),
        (lambda: RandomResizedCrop(8, scale=(0.5, 1.5)), "scale"),
        (lambda: RandomResizedCrop(8, scale=(0, 1)), "scale"),
        (lambda: RandomResizedCrop(8, ratio=(2, 1)), "ratio"),
        (lambda: RandomResizedCrop(8, ratio=(1,)), "ratio"),
        (lambda: RandomResizedCrop(8, interpolation="nearest"), "interpolation"),
        (lambda: HorizontalFlip(1.5), "p must"),
        (lambda: Rotation(270), "degrees must be from 0 to 180"),
        (lambda: HorizontalFlip(float("nan")), "p must"),
        (lambda: GaussianBlur(p=-0.1), "p must"),
        (lambda: GaussianBlur(sigma=(2, 1)), "sigma"),
        (lambda: GaussianBlur(sigma=(0, 1)), "sigma"),
        (lambda: GaussianBlur(kernel_size=4), "kernel_size"),
    ],
)
def test_impossible_settings_are_refused_when_made(make, names):
    with pytest.raises(ValueError, match=names):
        make()
