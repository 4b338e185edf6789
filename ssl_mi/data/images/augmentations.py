"""Views: what source images look like after augmentation, drawn image by image on the batch's own device.

An `Augmentation` is a list of `View`s; a view is a list of ops. The numbers behind every op come from
`Draws`, keyed by (seed, split, epoch, image, view, op), so any view can be drawn again, and no two share
their numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_mi.data.batch import Source
from ssl_mi.data.draws import Draws
from ssl_mi.data.images import fused
from ssl_mi.data.images.colour import Chrominance, ColorJitter, Grayscale, Luminance, Solarize
from ssl_mi.data.images.geometry import GaussianBlur, HorizontalFlip, RandomResizedCrop, Rotation, WrapShift
from ssl_mi.data.images.image_arrays import as_batch
from ssl_mi.data.images.ops import Op, constant

__all__ = [
    "Augmentation",
    "Chrominance",
    "ColorJitter",
    "Draws",
    "GaussianBlur",
    "Grayscale",
    "HorizontalFlip",
    "Luminance",
    "Op",
    "RandomResizedCrop",
    "Rotation",
    "Solarize",
    "View",
    "WrapShift",
    "local_size",
]

# Pixels of source handled at once: on a CPU what a cache holds (256 images of 32 x 32), elsewhere plenty.
_CPU_PIXELS, _DEVICE_PIXELS = 256 * 32 * 32, 256 * 224 * 224


class View:
    """One kind of view: what is done to an image, and how many views of the kind there are.

    Args:
        ops: The ops, in the order in which they are applied.
        count: Views of this kind, at least 1; each has draws of its own.

    Raises:
        ValueError: If `count` is below 1, or an op is no `Op`.
    """

    def __init__(self, ops: Sequence[Op], count: int = 1):
        if count != int(count) or count < 1:
            raise ValueError(f"View: count must be a whole number >= 1, got {count}")
        if wrong := [op for op in ops if not isinstance(op, Op)]:
            raise ValueError(f"View: ops must be augmentation ops, got {wrong[0]!r}: check its _target_")
        self.ops = list(ops)
        self.count = int(count)

    def describe(self) -> str:
        return f"{self.count} x [{' > '.join(map(repr, self.ops)) or 'the image itself'}]"


class Augmentation:
    """Images -> normalised views.

    In a loop of one's own, `augmentation(images)` draws new views of a batch of images at every call; with `seed` and
    `step` it draws the same views again. A run gives a `Source` and its seed.

    Args:
        views: The kinds of view, in order; a kind with count 2 gives two of the views.
        size: The side of an image as evaluation sees it, in pixels.
        mean: Per channel, of images in [0, 1].
        std: Per channel; a view is (x - mean) / std.
        compiled: Views of 8-bit images on a CPU are made by compiled code, several times as fast, as far as their ops
            have such a form. False: by torch, as on a GPU and for float images; the draws are the same, the values
            within 4e-6 of the range of a pixel.

    Raises:
        ValueError: On no views, on mean and std of different lengths, and on std <= 0.
    """

    def __init__(
        self, views: Sequence[View], size: int, mean: Sequence[float], std: Sequence[float], compiled: bool = True
    ):
        if not views:
            raise ValueError("Augmentation: views is empty; give at least one View")
        if len(mean) != len(std) or not all(s > 0 for s in std):
            raise ValueError(f"Augmentation: mean and std need one number per channel, std > 0; got {mean} and {std}")
        if size != int(size) or size < 1:
            raise ValueError(f"Augmentation: size must be a whole number >= 1, got {size}")
        self.views, self.compiled = list(views), compiled
        self.size = int(size)
        self.mean = torch.tensor(list(mean), dtype=torch.float32).view(-1, 1, 1)
        self.std = torch.tensor(list(std), dtype=torch.float32).view(-1, 1, 1)

    @property
    def n_views(self) -> int:
        return sum(view.count for view in self.views)

    @torch.no_grad()
    def __call__(
        self, images: Source | Tensor | np.ndarray, seed: int | None = None, step: int | None = None
    ) -> list[Tensor]:
        """Every view of every image, on the device of the images.

        Args:
            images: uint8, or floats in [0, 1]: [n, c, h, w], or [n, h, w, c] where only that fits the channels. Or the
                `Source` of a run; where its `crops` hold what `crop` made in a worker, each view starts from its crop.
            seed: Views are a function of seed and step (of a source: of its split, epoch and index). None draws new
                views from torch's generator.
            step: The number of the batch, given with `seed`; a source has its own.

        Returns:
            n_views of float32 [n, c, h, w], normalised.

        Raises:
            ValueError: On images of another shape, type or range, and on a seed without a step: every batch would get
                the same crops.
        """
        if isinstance(images, Source):
            if seed is None or step is not None:
                raise ValueError("Augmentation: a Source takes its seed and no step, which is its epoch")
            return self._draw(images, self._check(images), seed)
        batch = as_batch(images, len(self.mean), "Augmentation")
        if (seed is None) != (step is None):
            raise ValueError("Augmentation: give both seed and step, or neither for new views at every call")
        if seed is None or step is None:
            seed, step = torch.randint(2**62, (2,)).tolist()
        source = Source(None, torch.arange(len(batch), device=batch.device), None, split=0, epoch=step)
        return self._draw(source, [batch], seed)

    def _draw(self, source: Source, inputs: list[Tensor], seed: int) -> list[Tensor]:
        device = inputs[0].device
        index = source.index.to(device)
        views: list[Tensor] = []
        # Autocast would round pixels to 8 bits of mantissa in the crop's matrix products.
        with torch.autocast(device.type, enabled=False):
            number = 0
            for view in self.views:
                places = range(number, number + view.count)
                number += view.count
                images, done = [inputs[place % len(inputs)] for place in places], 0 if source.crops is None else 1
                key = (seed, source.split, source.epoch)

                def draws(
                    view: int, rows: slice, op: int, key: tuple[int, int, int] = key, first: int = places[0]
                ) -> Draws:
                    return Draws(*key, index[rows], first + view, op)

                views += self._views(images, view.ops, done, draws)
        return views

    def _views(
        self, images: list[Tensor], ops: list[Op], done: int, draws: Callable[[int, slice, int], Draws]
    ) -> list[Tensor]:
        """Views of one kind, from the ops after the first `done`; compiled as far as they go, where they can be.

        What is left of them, or all of it, is done by torch: the slow twin of the compiled form, and its equal up to
        rounding (4e-6 of the range of a pixel). What is drawn is drawn for all views at once.
        """
        for each in images:
            self._check_channels(each)
        if not self.compiled or images[0].dtype != torch.uint8 or images[0].device.type != "cpu":
            return [self._by_torch(each, ops, done, partial(draws, k)) for k, each in enumerate(images)]
        n, rest = len(images[0]), images[0].shape[1:]

        def of_all(op: int) -> Draws:
            return Draws.together([draws(k, slice(None), op) for k in range(len(images))])

        start = fused.program(ops, of_all, (n * len(images), *rest), done)
        parts = [start.of(slice(n * k, n * (k + 1))) for k in range(len(images))]
        if start.ops == len(ops):
            return [
                fused.run(x, part, self.mean.flatten(), self.std.flatten())
                for x, part in zip(images, parts, strict=True)
            ]
        if start.ops > done:
            zero, one = torch.zeros(rest[0]), torch.ones(rest[0])
            images = [fused.run(x, part, zero, one) for x, part in zip(images, parts, strict=True)]
        return [self._by_torch(each, ops, start.ops, partial(draws, k)) for k, each in enumerate(images)]

    def _by_torch(self, images: Tensor, ops: list[Op], done: int, draws: Callable[[slice, int], Draws]) -> Tensor:
        """One view of every image, from the ops after the first `done`."""
        out: Tensor | None = None
        for rows in _chunks(images):
            x = _to_float(images[rows])
            for place in range(done, len(ops)):
                x = ops[place](x, draws(rows, place))
            out = x.new_empty(len(images), *x.shape[1:]) if out is None else out
            self._normalise(x, out=out[rows])
        assert out is not None
        return out

    def crop(self, image: Tensor, seed: int, split: int, epoch: int, index: int) -> list[Tensor]:
        """The first op of every view on one large image, uint8 [c, h, w] -> n_views of uint8 [c, s, s].

        For workers: the boxes are those that `__call__` would draw, the pixels agree to one level of 255.
        """
        crops = []
        for number, view in self._numbered():
            first = _first_crop(view)
            box = first.draw(Draws(seed, split, epoch, torch.tensor([index]), number, 0), image.shape)["box"]
            top, left, h, w = box[0].tolist()
            part = image[None, :, top : top + h, left : left + w]
            # 8-bit bicubic would round and clamp between the two axes; bilinear has nothing to clamp.
            part = part if first.interpolation == "bilinear" else part.float()
            out = _resize(part, (first.size, first.size), first.interpolation)
            crops.append((out.round_().clamp_(0, 255).byte() if out.is_floating_point() else out)[0])
        return crops

    @torch.no_grad()
    def boxes(self, source: Source, seed: int) -> Tensor | None:
        """Where in its source image each view of a `Source` was cut, float32 [n, n_views, 4], see `PlacedBatch.boxes`.

        None where images were cropped in a worker: how large they were is not known here.

        Raises:
            ValueError: If an op moves pixels and does not say where to.
        """
        if source.images is None:
            return None
        found = []
        for number, view in self._numbered():
            shape: Sequence[int] = source.images.shape
            box = constant((0, 0, *shape[-2:]), source.index).float().expand(len(source.index), 4)
            for place, op in enumerate(view.ops):
                draws = Draws(seed, source.split, source.epoch, source.index, number, place)
                box, shape = op.locate(box, shape, **op.draw(draws, shape))
            found.append(box)
        return torch.stack(found, 1)

    @torch.no_grad()
    def clean(self, images: Tensor) -> Tensor:
        """What evaluation sees: images uint8, or float in [0, 1], [n, c, h, w] -> [n, c, size, size].

        The shorter side is resized to `size` (bilinear, antialiased), the centre is kept, and it is
        normalised.
        """
        x = _to_float(images)
        h, w = x.shape[-2:]
        if min(h, w) != self.size:
            short = min(h, w)
            h, w = self.size * h // short, self.size * w // short
            x = _resize(x, (h, w), "bilinear")
        top, left = round((h - self.size) / 2), round((w - self.size) / 2)
        return self._normalise(x[..., top : top + self.size, left : left + self.size])

    @torch.no_grad()
    def clean_views(self, images: Tensor) -> list[Tensor]:
        """One `clean` image per view, through those ops that select what the view shows (luminance, chrominance)
        and none that is drawn: what evaluation gives to towers that each see another kind of view.
        """
        clean = self.denormalize(self.clean(images))
        views = []
        for _, view in self._numbered():
            x = clean
            for op in view.ops:
                if op.selects:
                    x = op.apply(x)
            views.append(self._normalise(x))
        return views

    def denormalize(self, views: Tensor) -> Tensor:
        """Normalised [..., c, h, w] back to [0, 1] for pictures; rounding beyond either end is clamped."""
        return (views * self.std.to(views.device) + self.mean.to(views.device)).clamp(0, 1)

    def describe(self) -> str:
        """One line per kind of view."""
        return "\n".join(view.describe() for view in self.views)

    def _numbered(self) -> Iterator[tuple[int, View]]:
        return enumerate(view for view in self.views for _ in range(view.count))

    def _normalise(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        self._check_channels(x)
        mean, std = (constant(values.flatten().tolist(), x).view(-1, 1, 1) for values in (self.mean, self.std))
        return torch.sub(x, mean, out=out).div_(std)

    def _check_channels(self, x: Tensor) -> None:
        if x.shape[1] != len(self.mean):
            raise ValueError(
                f"Augmentation: images {list(x.shape)} have {x.shape[1]} channels but mean and std have "
                f"{len(self.mean)}: convert the images, or give one mean and std per channel"
            )

    def _check(self, source: Source) -> list[Tensor]:
        """The images that views start from: [images], or one crop per view."""
        if (source.images is None) == (source.crops is None):
            raise ValueError("Augmentation: a Source holds either images or crops, exactly one of them")
        inputs = [source.images] if source.images is not None else list(source.crops or ())
        if source.crops is not None:
            if len(inputs) != self.n_views:
                raise ValueError(f"Augmentation: {len(inputs)} crops for {self.n_views} views; make one per view")
            for _, view in self._numbered():
                _first_crop(view)
        for images in inputs:
            if images.ndim != 4 or images.dtype != torch.uint8:
                raise ValueError(
                    f"Augmentation: source images must be uint8 [n, c, h, w], got {images.dtype} {list(images.shape)}"
                )
            if len(images) != len(source.index):
                raise ValueError(f"Augmentation: {len(images)} images but {len(source.index)} indices")
        return inputs


def local_size(size: int, share: float) -> int:
    """The side of multi-crop's small views: share * size to the nearest even number, at least 2.

    Args:
        size: Side of the large views, in pixels.
        share: Side of the small views as a share of it.

    Example:
        >>> local_size(224, share=0.43)
        96
    """
    return max(2, 2 * round(size * share / 2))


def _first_crop(view: View) -> RandomResizedCrop:
    if not view.ops or not isinstance(view.ops[0], RandomResizedCrop):
        raise ValueError(
            f"Augmentation: crops made in workers need views that begin with RandomResizedCrop, got {view.describe()}"
        )
    return view.ops[0]


def _chunks(images: Tensor) -> Iterator[slice]:
    budget = _CPU_PIXELS if images.device.type == "cpu" else _DEVICE_PIXELS
    step = max(8, budget // (images.shape[-2] * images.shape[-1]))
    return (slice(start, start + step) for start in range(0, max(1, len(images)), step))


def _to_float(images: Tensor) -> Tensor:
    return images.float().div_(255) if images.dtype == torch.uint8 else images.float()


def _resize(images: Tensor, size: tuple[int, int], interpolation: str) -> Tensor:
    return F.interpolate(images, size, mode=interpolation, antialias=True)
