"""Ops on what colour pixels have: jitter, grayscale, solarise, and the split into luminance and chrominance."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ssl_mi.data.draws import Draws
from ssl_mi.data.images.ops import (
    LUMA,
    Kind,
    Op,
    Steps,
    active,
    between,
    change_where,
    check_chance,
    constant,
    refuse,
    steps_of,
)


class ColorJitter(Op):
    """Brightness, contrast, saturation and hue changed by random amounts, in an order of each image's own.

    The first three factors are U(max(0, 1 - b), 1 + b) with b = strength * brightness (or contrast,
    saturation); the hue turns by U(-q, q) with q = strength * hue, in whole turns; all of it with chance p.
    Every step is clamped to [0, 1]. Grey images (c = 1) change in brightness and contrast only, as in torchvision.

    Args:
        brightness, contrast, saturation, hue: The largest change of each.
        strength: SimCLR's s, which multiplies all four.
        p: The chance of any change.

    Raises:
        ValueError: Numbers out of range; at the call, images of neither 1 nor 3 channels.

    References:
        Chen et al. 2020, arXiv:2002.05709, appendix A.

    Example:
        >>> import torch
        >>> from ssl_mi.data import Draws, ColorJitter
        >>> images = torch.rand(2, 3, 16, 16)
        >>> ColorJitter(hue=0.1)(images, Draws(seed=0, split=0, epoch=0, index=torch.arange(2), view=0)).shape
        torch.Size([2, 3, 16, 16])
    """

    moves = False

    def __init__(
        self,
        brightness: float = 0.8,
        contrast: float = 0.8,
        saturation: float = 0.8,
        hue: float = 0.2,
        strength: float = 1.0,
        p: float = 0.8,
    ):
        self.brightness, self.contrast, self.saturation, self.hue = brightness, contrast, saturation, hue
        self.strength = strength
        self.p = check_chance(self, p)
        for name in ("brightness", "contrast", "saturation", "hue", "strength"):
            if not 0 <= getattr(self, name) < math.inf:
                refuse(self, name, getattr(self, name), "finite and >= 0")
        if strength * hue > 0.5:
            refuse(self, "strength * hue", strength * hue, "at most 0.5, half a turn either way")

    def draw(self, draws: Draws, shape: Sequence[int]) -> dict[str, Tensor]:
        """-> factors [n, 3], hue [n] in turns, order int64 [n, 3], place int64 [n].

        factors: of brightness, contrast, saturation (in that order; 1 changes nothing). order: which of these
        three comes first, second, third. place: the hue turns before step number `place` of the three (3:
        last).
        """
        chosen = active(draws, self.p)
        u = draws.uniform(4)
        reach = self.strength * constant([self.brightness, self.contrast, self.saturation], u)
        factors = between(u[:, :3], (1 - reach).clamp_min(0), 1 + reach)
        hue = between(u[:, 3], -self.strength * self.hue, self.strength * self.hue)
        return {
            "factors": factors.where(chosen[:, None], 1.0),
            "hue": hue.where(chosen, 0.0),
            "order": draws.uniform(3).argsort(stable=True),
            "place": (4 * draws.uniform()[:, 0]).long(),
        }

    def apply(self, images: Tensor, factors: Tensor, hue: Tensor, order: Tensor, place: Tensor) -> Tensor:
        luma = _luma_weights(self, images)
        turning = (hue != 0) & (images.shape[1] == 3)
        for step in range(4):
            images = change_where(turning & (place == step), images, turn_hue, hue, own=step > 0)
            if step < 3:
                images = _blend(images, order[:, step], factors.gather(1, order[:, step, None])[:, 0], luma)
        return images

    def steps(self, shape: Sequence[int], factors: Tensor, hue: Tensor, order: Tensor, place: Tensor) -> Steps:
        _check_colours(self, shape)
        column, place = torch.arange(4), place[:, None]
        turns = column == place
        of_three = order.gather(1, (column - (column > place).long()).clamp(max=2))
        amount = factors.gather(1, of_three).where(~turns, hue[:, None])
        kind = (of_three + int(Kind.BRIGHTNESS)).where(~turns, int(Kind.HUE))
        return steps_of(kind, amount, chosen=torch.where(turns, amount != 0, amount != 1))


def _blend(images: Tensor, kind: Tensor, factor: Tensor, luma: Tensor) -> Tensor:
    """clamp(f x + (1 - f) y), y black (kind 0), the image's mean luma (1) or each pixel's luma (2), by image.

    All three are one matrix over channels and one offset per image, so a batch of mixed kinds is one product.
    """
    n, c, h, w = images.shape
    pixels = images.reshape(n, c, h * w)
    rest = 1 - factor
    offset = (rest * (pixels.mean(2) @ luma)).where(kind == 1, 0.0)
    matrix = torch.diag_embed(factor[:, None].expand(n, c)) + rest.where(kind == 2, 0.0)[:, None, None] * luma
    return torch.baddbmm(offset[:, None, None], matrix, pixels).clamp_(0, 1).view(n, c, h, w)


def turn_hue(images: Tensor, turns: Tensor) -> Tensor:
    """The hue of images [n, 3, h, w] turned by turns [n] (1 = the full circle), saturation and value kept.

    With V and m the largest and smallest channel, C = V - m, and d the hue in turns (red 0, green 1/3, blue
    2/3), a channel becomes V - C (clamp(6 |d - its own hue|, 1, 2) - 1), |.| measured round the circle
    (HSV: Smith 1978).
    """
    # No `%` and no `where`: torch does those one number at a time, and they would cost more than all the rest.
    red, green, blue = images.unbind(1)
    upper, lower = torch.maximum(green, blue), torch.minimum(green, blue)
    value, middle = torch.maximum(red, upper), torch.minimum(red, upper)
    smallest = torch.minimum(middle, lower)
    chroma6 = (value - smallest).mul_(6)
    # d = |sector + (middle - lower) / 6C|, with sector 0 (red largest, green >= blue), -1 (red largest, blue >
    # green), -1/3 (green largest) or 2/3 (blue largest). On grey pixels 0 / tiny = 0, and any hue will do.
    blue_over_green, other_over_red = _positive(blue - green), _positive(upper - red)
    sector = (2 * blue_over_green).sub_(1 / 3).mul_(other_over_red).sub_(blue_over_green)
    hue = middle.sub_(lower).div_(chroma6.clamp_min(torch.finfo(images.dtype).tiny)).add_(sector).abs_()
    hue.add_(turns[:, None, None])
    hue.sub_(hue.round())  # in [-1/2, 1/2]
    top = torch.add(value, chroma6, alpha=1 / 6)
    bottom = torch.sub(smallest, chroma6, alpha=1 / 6)
    out = torch.empty_like(images)
    torch.addcmul(top, chroma6, hue.abs().clamp_(1 / 6, 1 / 3), value=-1, out=out[:, 0])
    for channel, own in ((1, 1 / 3), (2, -1 / 3)):
        opposite = (hue - own).abs_().sub_(1 / 2).abs_()  # 1/2 - |d - own|, the way left to the opposite hue
        torch.addcmul(bottom, chroma6, opposite.clamp_(1 / 6, 1 / 3), out=out[:, channel])
    return out


def _positive(x: Tensor) -> Tensor:
    """1 where x > 0, else 0, in place."""
    return x.mul_(1e30).clamp_(0, 1)


class Grayscale(Op):
    """Every channel set to the luma, with chance p. Grey images stay grey.

    Args:
        p: The chance.

    Raises:
        ValueError: At the call, images of neither 1 nor 3 channels.

    Example:
        >>> import torch
        >>> from ssl_mi.data import Draws, Grayscale
        >>> images = torch.rand(2, 3, 16, 16)
        >>> Grayscale()(images, Draws(seed=0, split=0, epoch=0, index=torch.arange(2), view=0)).shape
        torch.Size([2, 3, 16, 16])
    """

    moves = False

    def __init__(self, p: float = 0.2):
        self.p = check_chance(self, p)

    def draw(self, draws: Draws, shape: Sequence[int]) -> dict[str, Tensor]:
        return {"active": active(draws, self.p)}

    def apply(self, images: Tensor, active: Tensor) -> Tensor:
        weights = _luma_weights(self, images)
        return change_where(active, images, lambda chosen: _luma(chosen, weights).expand_as(chosen))

    def steps(self, shape: Sequence[int], active: Tensor) -> Steps:
        _check_colours(self, shape)
        return steps_of(Kind.LUMA, chosen=active)


class Solarize(Op):
    """x -> 1 - x wherever x >= threshold, with chance p.

    Args:
        threshold: In [0, 1].
        p: The chance.

    References:
        Grill et al. 2020, arXiv:2006.07733, appendix B.

    Example:
        >>> import torch
        >>> from ssl_mi.data import Draws, Solarize
        >>> images = torch.rand(2, 3, 16, 16)
        >>> Solarize(threshold=0.5, p=1.0)(images, Draws(seed=0, split=0, epoch=0, index=torch.arange(2), view=0)).shape
        torch.Size([2, 3, 16, 16])
    """

    moves = False

    def __init__(self, threshold: float = 0.5, p: float = 0.2):
        self.threshold = threshold
        self.p = check_chance(self, p)
        if not 0 <= threshold <= 1:
            refuse(self, "threshold", threshold, "in [0, 1], as pixels are")

    def draw(self, draws: Draws, shape: Sequence[int]) -> dict[str, Tensor]:
        return {"active": active(draws, self.p)}

    def apply(self, images: Tensor, active: Tensor) -> Tensor:
        return change_where(active, images, lambda x: torch.where(x >= self.threshold, 1 - x, x))

    def steps(self, shape: Sequence[int], active: Tensor) -> Steps:
        return steps_of(Kind.SOLARIZE, self.threshold, chosen=active)


class Luminance(Op):
    """How bright each pixel is and nothing else: its luma in every channel (L of Lab).

    Raises:
        ValueError: At the call, images of neither 1 nor 3 channels.

    References:
        Tian et al. 2019, arXiv:1906.05849.

    Example:
        >>> import torch
        >>> from ssl_mi.data import Draws, Luminance
        >>> images = torch.rand(2, 3, 16, 16)
        >>> Luminance()(images, Draws(seed=0, split=0, epoch=0, index=torch.arange(2), view=0)).shape
        torch.Size([2, 3, 16, 16])
    """

    moves = False
    selects = True

    def apply(self, images: Tensor) -> Tensor:
        return _luma(images, _luma_weights(self, images)).expand_as(images).contiguous()

    def steps(self, shape: Sequence[int]) -> Steps:
        _check_colours(self, shape)
        return steps_of(Kind.LUMA, chosen=torch.ones(shape[0], dtype=torch.bool))


class Chrominance(Op):
    """The colour of each pixel and not its brightness: 1/2 + (x - luma) / 2, of luma 1/2 (a and b of Lab).

    The luma's weights are scaled to sum to 1 here, so that grey added to a pixel leaves its chrominance alone.

    Raises:
        ValueError: At the call, images of other than 3 channels: grey images have no colour.

    Example:
        >>> import torch
        >>> from ssl_mi.data import Draws, Chrominance
        >>> images = torch.rand(2, 3, 16, 16)
        >>> Chrominance()(images, Draws(seed=0, split=0, epoch=0, index=torch.arange(2), view=0)).shape
        torch.Size([2, 3, 16, 16])
    """

    moves = False
    selects = True

    def apply(self, images: Tensor) -> Tensor:
        self._check(images.shape)
        weights = _luma_weights(self, images)
        return (images - _luma(images, weights / weights.sum())).mul_(0.5).add_(0.5)

    def steps(self, shape: Sequence[int]) -> Steps:
        self._check(shape)
        return steps_of(Kind.CHROMA, chosen=torch.ones(shape[0], dtype=torch.bool))

    @staticmethod
    def _check(shape: Sequence[int]) -> None:
        if shape[1] != 3:
            raise ValueError(f"Chrominance needs images of 3 channels, got {list(shape)}")


def _luma(images: Tensor, weights: Tensor) -> Tensor:
    """The weighted sum of channels: [n, c, h, w], [c] -> [n, 1, h, w]."""
    n, c, h, w = images.shape
    return torch.matmul(weights, images.reshape(n, c, h * w)).view(n, 1, h, w)


def _luma_weights(op: Op, images: Tensor) -> Tensor:
    _check_colours(op, images.shape)
    return constant(LUMA if images.shape[1] == 3 else (1.0,), images)


def _check_colours(op: Op, shape: Sequence[int]) -> None:
    if shape[1] not in (1, 3):
        raise ValueError(f"{type(op).__name__} needs images of 1 or 3 channels, got {list(shape)}")
