"""Ops on where pixels are: crop and resize, flip, shift, rotation, blur.

Resizing and blurring are linear along each axis, so an image becomes `rows @ image @ columns.T` with two
small matrices of its own, and a batch is two batched products: any box, any sigma, antialiasing and bicubic
filters at one cost.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_mi.data.draws import Draws
from ssl_mi.data.images.ops import (
    Kind,
    Op,
    Steps,
    active,
    between,
    change_where,
    check_chance,
    constant,
    positive_interval,
    refuse,
    steps_of,
)


class RandomResizedCrop(Op):
    """A random box of the image, resized to `size` x `size` with antialiasing (Szegedy et al. 2014, 1409.4842).

    torchvision's law: up to ten times draw area ~ U(scale) h w and log(width / height) ~ U(log ratio),
    round the sides, and keep the first box that fits, its corner uniform; if none fits, the largest central
    box with an allowed ratio.

    Args:
        size: Side of what comes out, in pixels.
        scale: Least and largest share of the image's area.
        ratio: Least and largest width over height.
        interpolation: "bilinear" or "bicubic"; bicubic overshoots are clamped to [0, 1], as 8-bit images clamp them.

    Raises:
        ValueError: Sizes, intervals or an interpolation that are none.

    Example:
        >>> import torch
        >>> from ssl_mi.data import Draws, RandomResizedCrop
        >>> images = torch.rand(2, 3, 32, 32)
        >>> RandomResizedCrop(16)(images, Draws(seed=0, split=0, epoch=0, index=torch.arange(2), view=0)).shape
        torch.Size([2, 3, 16, 16])
    """

    def __init__(
        self,
        size: int,
        scale: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        interpolation: str = "bilinear",
    ):
        if size != int(size) or size < 1:
            refuse(self, "size", size, "a whole number >= 1")
        self.size = int(size)
        self.scale = positive_interval(self, "scale", scale)
        self.ratio = positive_interval(self, "ratio", ratio)
        self.interpolation = interpolation
        if self.scale[1] > 1:
            refuse(self, "scale", self.scale, "shares of the image's area, at most 1")
        if interpolation not in ("bilinear", "bicubic"):
            refuse(self, "interpolation", interpolation, "'bilinear' or 'bicubic'")

    def draw(self, draws: Draws, shape: Sequence[int]) -> dict[str, Tensor]:
        """-> {"box": int64 [n, 4]}: top, left, height, width in pixels."""
        tries, (height, width) = 10, shape[-2:]
        u = draws.uniform(2 * tries + 2)
        # In float64 a side rounds alike on every device; MPS has none, and may differ by a pixel once in 10**6.
        u = u if u.device.type == "mps" else u.double()
        area = height * width * between(u[:, :tries], *self.scale)
        ratio = between(u[:, tries:-2], *map(math.log, self.ratio)).exp()
        h, w = (area / ratio).sqrt().round(), (area * ratio).sqrt().round()
        fits = (h >= 1) & (h <= height) & (w >= 1) & (w <= width)
        first = fits.byte().argmax(1, keepdim=True)
        h, w = h.gather(1, first)[:, 0], w.gather(1, first)[:, 0]
        top, left = (u[:, -2] * (height - h + 1)).floor(), (u[:, -1] * (width - w + 1)).floor()
        box = torch.stack([top, left, h, w], 1).long()
        return {"box": torch.where(fits.any(1, keepdim=True), box, constant(self._central(height, width), box))}

    def _central(self, height: int, width: int) -> tuple[int, int, int, int]:
        h, w = height, width
        if width / height < self.ratio[0]:
            h = round(width / self.ratio[0])
        elif width / height > self.ratio[1]:
            w = round(height * self.ratio[1])
        return (height - h) // 2, (width - w) // 2, h, w

    def apply(self, images: Tensor, box: Tensor) -> Tensor:
        top, left, h, w = box.unbind(1)
        rows = interpolation_matrix(top, h, images.shape[-2], self.size, self.interpolation)
        columns = interpolation_matrix(left, w, images.shape[-1], self.size, self.interpolation)
        out = rows_and_columns(images, rows, columns)
        return out if self.interpolation == "bilinear" else out.clamp_(0, 1)

    def locate(self, where: Tensor, shape: Sequence[int], box: Tensor) -> tuple[Tensor, Sequence[int]]:
        inner, sides = box.to(where.dtype), constant(shape[-2:], where)
        start = where[:, :2] + where[:, 2:] * inner[:, :2] / sides
        extent = where[:, 2:] * inner[:, 2:] / sides
        return torch.cat([start, extent], 1), (*shape[:-2], self.size, self.size)

    def steps(self, shape: Sequence[int], box: Tensor) -> Steps:
        kind = Kind.CROP if self.interpolation == "bilinear" else Kind.CROP_CUBIC
        return steps_of(kind, *box.unbind(1))._replace(side=self.size)


class HorizontalFlip(Op):
    """Left and right swapped, with chance p.

    Args:
        p: The chance.

    Example:
        >>> import torch
        >>> from ssl_mi.data import Draws, HorizontalFlip
        >>> images = torch.rand(2, 3, 16, 16)
        >>> HorizontalFlip()(images, Draws(seed=0, split=0, epoch=0, index=torch.arange(2), view=0)).shape
        torch.Size([2, 3, 16, 16])
    """

    def __init__(self, p: float = 0.5):
        self.p = check_chance(self, p)

    def draw(self, draws: Draws, shape: Sequence[int]) -> dict[str, Tensor]:
        return {"active": active(draws, self.p)}

    def apply(self, images: Tensor, active: Tensor) -> Tensor:
        return change_where(active, images, lambda chosen: chosen.flip(-1))

    def locate(self, where: Tensor, shape: Sequence[int], active: Tensor) -> tuple[Tensor, Sequence[int]]:
        top, left, height, width = where.unbind(1)
        mirrored = torch.stack([top, left + width, height, -width], 1)
        return torch.where(active[:, None], mirrored, where), shape

    def steps(self, shape: Sequence[int], active: Tensor) -> Steps:
        return steps_of(Kind.FLIP, chosen=active)


class WrapShift(Op):
    """The image moved by whole pixels, every shift equally likely; what leaves it on one side enters on the other.

    So where a thing is in the image is lost without a trace, and nothing else is.

    Example:
        >>> import torch
        >>> from ssl_mi.data import Draws, WrapShift
        >>> images = torch.rand(2, 3, 16, 16)
        >>> WrapShift()(images, Draws(seed=0, split=0, epoch=0, index=torch.arange(2), view=0)).shape
        torch.Size([2, 3, 16, 16])
    """

    def draw(self, draws: Draws, shape: Sequence[int]) -> dict[str, Tensor]:
        """-> {"shift": int64 [n, 2]}, pixels down and to the right."""
        u = draws.uniform(2)
        return {"shift": (u * constant(shape[-2:], u)).long()}

    def apply(self, images: Tensor, shift: Tensor) -> Tensor:
        n, c, h, w = images.shape
        down, right = shift[:, 0, None], shift[:, 1, None]
        row = (torch.arange(h, device=images.device) - down) % h
        column = (torch.arange(w, device=images.device) - right) % w
        pixel = row[:, :, None] * w + column[:, None, :]
        return images.flatten(2).gather(2, pixel.view(n, 1, h * w).expand(-1, c, -1)).view(n, c, h, w)


class Rotation(Op):
    """The image turned about its centre by U(-degrees, degrees), bilinear; the outermost pixels go on outside.

    Args:
        degrees: 0 to 180; at 180 every angle is equally likely.

    Example:
        >>> import torch
        >>> from ssl_mi.data import Draws, Rotation
        >>> images = torch.rand(2, 3, 16, 16)
        >>> Rotation(degrees=30)(images, Draws(seed=0, split=0, epoch=0, index=torch.arange(2), view=0)).shape
        torch.Size([2, 3, 16, 16])
    """

    def __init__(self, degrees: float = 180.0):
        self.degrees = degrees
        if not 0 <= degrees <= 180:
            refuse(self, "degrees", degrees, "from 0 to 180, half a turn either way")

    def draw(self, draws: Draws, shape: Sequence[int]) -> dict[str, Tensor]:
        """-> {"angle": [n]} in radians, anticlockwise as one looks at the image."""
        return {"angle": math.radians(self.degrees) * between(draws.uniform()[:, 0], -1.0, 1.0)}

    def apply(self, images: Tensor, angle: Tensor) -> Tensor:
        h, w = images.shape[-2:]
        # Output pixel (x, y) reads the input at R (x, y), in lengths of half a side, y downwards.
        cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
        rows = torch.stack([cos, -sin * h / w, zero, sin * w / h, cos, zero], 1).view(-1, 2, 3)
        grid = F.affine_grid(rows, list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


class GaussianBlur(Op):
    """Blur by a Gaussian of standard deviation U(sigma) pixels, with chance p; borders are reflected.

    Args:
        sigma: Least and largest standard deviation, in pixels.
        p: The chance.
        kernel_size: Width of the kernel in pixels, odd; None takes a tenth of the shorter side, to the nearest odd
            number and at least 3 (23 at 224 pixels), as SimCLR and BYOL do. At 32 pixels that cuts the Gaussian off at
            one pixel: with sigma = 2 it leaves about three times the energy of the gradients that PIL's blur leaves,
            whose kernel follows sigma and which others use for CIFAR. kernel_size=13 is that one, for sigma up to 2.
            The cost of a view grows with the taps that count, those within 6.4 sigma and the kernel, and with nothing
            else of sigma: at 224 pixels 199 taps take 12 times as long as the 23.

    Raises:
        ValueError: At the call, a kernel that reaches further than the image can be reflected.

    References:
        Chen et al. 2020, arXiv:2002.05709, appendix A.

    Example:
        >>> import torch
        >>> from ssl_mi.data import Draws, GaussianBlur
        >>> images = torch.rand(2, 3, 16, 16)
        >>> GaussianBlur(p=1.0)(images, Draws(seed=0, split=0, epoch=0, index=torch.arange(2), view=0)).shape
        torch.Size([2, 3, 16, 16])
    """

    moves = False

    def __init__(self, sigma: tuple[float, float] = (0.1, 2.0), p: float = 0.5, kernel_size: int | None = None):
        self.sigma = positive_interval(self, "sigma", sigma)
        self.p = check_chance(self, p)
        self.kernel_size = kernel_size
        if kernel_size is not None and (kernel_size < 1 or kernel_size % 2 != 1):
            refuse(self, "kernel_size", kernel_size, "a positive odd number, or null for a tenth of the image")

    def draw(self, draws: Draws, shape: Sequence[int]) -> dict[str, Tensor]:
        """-> {"sigma": [n] in pixels}, 0 for an image that is passed over."""
        chosen = active(draws, self.p)
        return {"sigma": between(draws.uniform()[:, 0], *self.sigma).where(chosen, 0.0)}

    def _taps(self, shape: Sequence[int]) -> int:
        side = min(shape[-2:])
        taps = self.kernel_size or max(3, 2 * round((side / 10 - 1) / 2) + 1)
        if taps // 2 >= side:
            raise ValueError(
                f"GaussianBlur: {taps} taps reach {taps // 2} pixels past a border, more than images "
                f"{list(shape)} can reflect; use larger images or a smaller kernel_size"
            )
        return taps

    def apply(self, images: Tensor, sigma: Tensor) -> Tensor:
        taps = self._taps(images.shape)

        def blur(chosen: Tensor, sigma: Tensor) -> Tensor:
            return rows_and_columns(chosen, *(blur_matrix(sigma, side, taps) for side in chosen.shape[-2:]))

        return change_where(sigma > 0, images, blur, sigma)

    def steps(self, shape: Sequence[int], sigma: Tensor) -> Steps:
        return steps_of(Kind.BLUR, sigma, self._taps(shape), chosen=sigma > 0)


def rows_and_columns(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """rows[i] @ images[i] @ columns[i].T for every channel: [n, c, h, w], [n, a, h], [n, b, w] -> [n, c, a, b]."""
    n, c, h, w = images.shape
    across = torch.bmm(images.reshape(n, c * h, w), columns.mT)
    return torch.matmul(rows[:, None], across.view(n, c, h, columns.shape[1]))


def interpolation_matrix(start: Tensor, length: Tensor, source: int, target: int, interpolation: str) -> Tensor:
    """The matrix that reads pixels [start, start + length) of an axis of `source` pixels at `target` points.

    start, length: int64 [n] -> float32 [n, target, source]. With s = length / target, output i is centred on
    c = s (i + 1/2) of the crop and weighs the pixel centred on p by k((p - c) / max(s, 1)), normalised; k
    is the triangle, or Keys' cubic with a = -1/2. Widening the filter where s > 1 is the antialiasing.
    Pixels outside the crop weigh nothing, as if it had been cut out first.
    """
    step = (length / target)[:, None]
    widen = step.clamp_min(1)
    centre = step * (torch.arange(target, device=start.device) + 0.5) / widen
    pixel = torch.arange(source, device=start.device) - start[:, None]
    outside = (pixel < 0) | (pixel >= length[:, None])
    pixel = ((pixel + 0.5) / widen).masked_fill_(outside, 1e9)  # further than any filter reaches
    distance = (pixel[:, None, :] - centre[:, :, None]).abs_()
    if interpolation == "bilinear":
        weight = distance.neg_().add_(1).clamp_(min=0)
    else:
        # The cubic's two pieces vanish where they end, so clamping the distance does what choosing a piece would.
        near, far = distance.clamp(max=1), distance.clamp_(1, 2)
        weight = (1.5 * near).sub_(2.5).mul_(near).mul_(near).add_(1)
        weight += (-0.5 * far).add_(2.5).mul_(far).sub_(4).mul_(far).add_(2)
    return weight.div_(weight.sum(-1, keepdim=True))


def blur_matrix(sigma: Tensor, side: int, taps: int) -> Tensor:
    """Convolution with a Gaussian of `taps` taps along an axis of `side` pixels, reflected at both ends.

    sigma: [n] in pixels -> [n, side, side]; entry (i, j) sums the taps that output i takes from pixel j.
    """
    offset = torch.arange(taps, device=sigma.device) - taps // 2
    kernel = (-0.5 * (offset / sigma[:, None]).square()).softmax(1)
    pixel = (offset[:, None] + torch.arange(side, device=sigma.device)).abs()
    pixel = torch.minimum(pixel, 2 * (side - 1) - pixel)
    shifts = (pixel[..., None] == torch.arange(side, device=sigma.device)).to(kernel.dtype)  # [taps, side, side]
    return (kernel @ shifts.view(taps, side * side)).view(-1, side, side)
