"""Colour operations equal torchvision's on every image, and are drawn by torchvision's laws."""

import pytest
import torch
import torchvision.transforms.v2.functional as TF
from scipy import stats

from ssl_mi.data.draws import Draws
from ssl_mi.data.images.colour import Chrominance, ColorJitter, Grayscale, Luminance, Solarize, turn_hue

STEPS = (TF.adjust_brightness, TF.adjust_contrast, TF.adjust_saturation)


def images(n=24, c=3, h=13, w=10, seed=0):
    """Noise, with some images of few levels (many ties between channels), grey, black, white and near-grey."""
    x = torch.rand(n, c, h, w, generator=torch.Generator().manual_seed(seed))
    x[1] = (2 * x[1]).round() / 2
    x[2] = x[2, :1]
    x[3], x[4] = 0, 1
    x[5] = 0.5 + 1e-6 * x[5]
    return x


def draws(n, seed=0):
    return Draws(seed, 0, 0, torch.arange(n), 0)


def neutral(n):
    return {
        "factors": torch.ones(n, 3),
        "hue": torch.zeros(n),
        "order": torch.arange(3).expand(n, 3),
        "place": torch.zeros(n, dtype=torch.long),
    }


def their_jitter(image, factors, hue, order, place):
    steps = [(STEPS[kind], factors[kind].item()) for kind in order.tolist()]
    steps.insert(int(place), (TF.adjust_hue, hue.item()))
    for step, amount in steps:
        image = step(image, amount)
    return image


@pytest.mark.parametrize("kind", [0, 1, 2])
@pytest.mark.parametrize("c", [1, 3])
def test_brightness_contrast_and_saturation_are_torchvisions(kind, c):
    x, params = images(c=c), neutral(24)
    params["factors"][:, kind] = torch.linspace(0, 2.5, 24)
    ours = ColorJitter().apply(x, **params)
    theirs = [STEPS[kind](image, f.item()) for image, f in zip(x, params["factors"][:, kind], strict=True)]
    assert (ours - torch.stack(theirs)).abs().max() < 2e-6


def test_hue_is_torchvisions():
    """Also on the six pure colours, at every turn, and where two or three channels tie."""
    x = images()
    pure = torch.tensor([[r, g, b] for r in (0.0, 1) for g in (0.0, 1) for b in (0.0, 1)])
    x[6, :, 0, :8] = pure.T
    for turns in (torch.linspace(-0.5, 0.5, 24), torch.full((24,), 1 / 3), torch.full((24,), -0.5)):
        theirs = [TF.adjust_hue(image, t.item()) for image, t in zip(x, turns, strict=True)]
        assert (turn_hue(x, turns) - torch.stack(theirs)).abs().max() < 5e-6


@pytest.mark.parametrize("c", [1, 3])
def test_jitter_is_torchvisions_in_each_images_own_order(c):
    x = images(96, c=c, seed=1)
    jitter = ColorJitter(p=0.8)
    params = jitter.draw(draws(96), x.shape)
    assert len(torch.cat([params["order"], params["place"][:, None]], 1).unique(dim=0)) > 20
    theirs = [their_jitter(x[i], *(params[key][i] for key in ("factors", "hue", "order", "place"))) for i in range(96)]
    assert (jitter.apply(x, **params) - torch.stack(theirs)).abs().max() < 1e-5


def test_the_images_passed_over_are_unchanged():
    x = images()
    assert torch.equal(ColorJitter(p=0)(x, draws(24)), x)
    jittered, chosen = ColorJitter(p=0.5)(x, draws(24)), draws(24).uniform()[:, 0] < 0.5
    assert torch.equal(jittered[~chosen], x[~chosen])
    assert not torch.equal(jittered[chosen], x[chosen])


def test_factors_are_uniform_over_torchvisions_ranges():
    n = 5000
    jitter = ColorJitter(brightness=0.8, contrast=0.4, saturation=1.6, hue=0.2, strength=0.5, p=1.0)
    params = jitter.draw(draws(n), (n, 3, 8, 8))
    for values, low, high in (
        (params["factors"][:, 0], 0.6, 1.4),
        (params["factors"][:, 1], 0.8, 1.2),
        (params["factors"][:, 2], 0.2, 1.8),
        (params["hue"], -0.1, 0.1),
    ):
        assert stats.kstest(values.double().numpy(), "uniform", args=(low, high - low)).pvalue > 1e-3
    beyond = ColorJitter(brightness=1.5, p=1.0).draw(draws(n), (n, 3, 8, 8))["factors"][:, 0]
    assert stats.kstest(beyond.double().numpy(), "uniform", args=(0, 2.5)).pvalue > 1e-3


def test_all_24_orders_are_equally_likely():
    params = ColorJitter().draw(draws(12_000), (12_000, 3, 8, 8))
    code = (params["order"] * torch.tensor([9, 3, 1])).sum(1) * 4 + params["place"]
    counts = code.unique(return_counts=True)[1]
    assert len(counts) == 24
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3


@pytest.mark.parametrize("op", [ColorJitter, Grayscale, Solarize])
@pytest.mark.parametrize("p", [0.0, 0.2, 1.0])
def test_chances_are_kept(op, p):
    """The count is binomial: within 4 standard deviations, and exact at 0 and 1."""
    n = 10_000
    params = op(p=p).draw(draws(n), (n, 3, 8, 8))
    chosen = params["hue"] != 0 if op is ColorJitter else params["active"]
    assert abs(chosen.float().mean().item() - p) <= 4 * (p * (1 - p) / n) ** 0.5 + 1e-3 * (op is ColorJitter)


@pytest.mark.parametrize("c", [1, 3])
def test_grayscale_is_torchvisions(c):
    x, active = images(c=c), torch.arange(24) % 2 == 0
    ours = Grayscale().apply(x, active)
    assert (ours[active] - TF.rgb_to_grayscale(x[active], c)).abs().max() < 1e-6
    assert torch.equal(ours[~active], x[~active])


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 1.0])
def test_solarize_is_torchvisions(threshold):
    x, active = images(), torch.arange(24) % 2 == 0
    ours = Solarize(threshold).apply(x, active)
    assert torch.equal(ours[active], TF.solarize(x[active], threshold))
    assert torch.equal(ours[~active], x[~active])


def test_luminance_is_grey_of_the_same_luma():
    x = images()
    ours = Luminance().apply(x)
    assert (ours - TF.rgb_to_grayscale(x, 3)).abs().max() < 1e-6
    assert ours.is_contiguous()


def test_chrominance_does_not_see_grey_added_to_a_pixel():
    x = 0.5 * images()
    grey = 0.5 * torch.rand(24, 1, 13, 10, generator=torch.Generator().manual_seed(2))
    assert (Chrominance().apply(x + grey) - Chrominance().apply(x)).abs().max() < 1e-6


def test_chrominance_stays_in_range_and_grey_becomes_one_half():
    chrominance = Chrominance().apply(images())
    assert chrominance.min() >= 0
    assert chrominance.max() <= 1
    assert (chrominance[2:5] - 0.5).abs().max() < 1e-6
    assert (Luminance().apply(chrominance) - 0.5).abs().max() < 1e-4


def test_luminance_and_chrominance_together_are_the_image():
    x = images()
    luma = Luminance().apply(x) / 0.9999
    torch.testing.assert_close(luma + 2 * Chrominance().apply(x) - 1, x, rtol=0, atol=1e-6)


@pytest.mark.parametrize("op", [ColorJitter(), Grayscale(), Luminance(), Chrominance()])
def test_colour_of_two_channels_is_refused(op):
    with pytest.raises(ValueError, match=rf"{type(op).__name__} needs images of .*\[24, 2, 13, 10\]"):
        op(images(c=2), draws(24))


def test_the_colour_of_grey_images_is_refused():
    with pytest.raises(ValueError, match="Chrominance needs images of 3 channels"):
        Chrominance().apply(images(c=1))


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: ColorJitter(brightness=-0.1), "brightness"),
        (lambda: ColorJitter(contrast=float("nan")), "contrast"),
        (lambda: ColorJitter(saturation=float("inf")), "saturation"),
        (lambda: ColorJitter(strength=-1), "strength"),
        (lambda: ColorJitter(hue=0.4, strength=2), r"strength \* hue"),
        (lambda: ColorJitter(p=2), "p must"),
        (lambda: Grayscale(p=-1), "p must"),
        (lambda: Solarize(threshold=128), "threshold"),
        (lambda: Solarize(p=1.01), "p must"),
    ],
)
def test_impossible_settings_are_refused_when_made(make, names):
    with pytest.raises(ValueError, match=names):
        make()
