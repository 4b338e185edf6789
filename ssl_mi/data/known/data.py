"""From generators to training and evaluation: every pair drawn where it is used, from counters alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ssl_mi.data.batch import Batch, PlacedBatch, Source
from ssl_mi.data.images.augmentations import Augmentation, View
from ssl_mi.data.images.module import ImageModule
from ssl_mi.data.known.images import first_views
from ssl_mi.data.known.views import KnownViews, Pairs
from ssl_mi.data.module import SPLITS, evaluation_epoch
from ssl_mi.data.sampler import check_batch_size, this_process
from ssl_mi.data.sets import ImageSet

CLEAN = -(1 << 40)  # the epoch of the images that probes see: no training epoch, no draw of an evaluation
_CPU_ROWS, _DEVICE_ROWS = 256, 1 << 14


class Rendered(Augmentation):
    """What a generator draws, in the place of augmented images: pictures normalised, sentences as tokens."""

    def __init__(self, known: KnownViews, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__([View([], count=2)], known.size, mean, std)
        self.known = known

    @torch.no_grad()
    def __call__(
        self, images: Source | Tensor | np.ndarray, seed: int | None = None, step: int | None = None
    ) -> list[Tensor]:
        """Both views of the pairs of a source, drawn anew: the source's images are not looked at.

        Args:
            images: A `Source`, whose split, epoch and index name the pairs.
            seed: Of the pairs.
            step: None; the source has its epoch.

        Returns:
            float32 [n, 3, size, size], and int64 [n, length] for text, on the device of the index.

        Raises:
            ValueError: For images, which a generator has no use for, and for a source without its seed.
        """
        if not isinstance(images, Source) or seed is None or step is not None:
            raise ValueError(
                f"{self.known.name}: pairs are drawn from a Source and its seed, not from images or a step"
            )
        pairs = Pairs(seed, images.split, images.epoch, images.index)
        rows = _CPU_ROWS if pairs.index.device.type == "cpu" else _DEVICE_ROWS
        parts = [self._render(pairs._replace(index=some)) for some in pairs.index.split(rows)]
        return [torch.cat(view) for view in zip(*parts, strict=True)]

    def _render(self, pairs: Pairs) -> list[Tensor]:
        # Autocast would round colours to 8 bits of mantissa.
        with torch.autocast(pairs.index.device.type, enabled=False):
            views = [self.known.render(u, pairs, v) for v, u in enumerate(self.known.latents(pairs))]
            return [self._normalise(view / 255) if view.dtype == torch.uint8 else view for view in views]

    def describe(self) -> str:
        """What is drawn, and what its views share."""
        kinds = ("picture", "picture" if self.known.words is None else "sentence")
        return f"{self.known.name}: {' and '.join(kinds)}, drawn anew each time; {self.known.describe()}"


class TrainPairs(Dataset[Source]):
    """Which pairs a training batch holds; they are drawn on the training device."""

    def __getitem__(self, epoch_and_rows: tuple[int, Tensor]) -> Source:
        epoch, rows = epoch_and_rows
        return Source(None, rows, None, SPLITS["train"], epoch)


class KnownData(ImageModule):
    """Pairs of a generator: unlimited in training, fresh at every evaluation, the same in any batch or process.

    A pair is a function of (seed, split, epoch, row). Training draws `train` new pairs an epoch; an evaluation draws
    pairs of the validation or test split that no training has seen. Probes look at single images with what is known of
    them: view 0 of further pairs, whose labels and factors are those of u_1.

    Args:
        known: The generator, a `KnownViews`.
        batch_size: Pairs per step, over all processes.
        size, mean, std: Of the images, as in `ImageData`.
        train: Pairs per epoch, and images that probes may be fitted on.
        val, test: Pairs, and images.
        seed: Fixes every pair.
        nats: I(V1; V2) as it was asked for; generators read it from here in a configuration, and the property `nats`
            gives what it is.

    Raises:
        ValueError: Numbers that cannot work.
    """

    known: KnownViews

    def __init__(
        self,
        known: KnownViews,
        batch_size: int,
        size: int,
        mean: Sequence[float],
        std: Sequence[float],
        train: int = 10_000,
        val: int = 2000,
        test: int = 5000,
        seed: int = 0,
        nats: float | None = None,
    ) -> None:
        super().__init__(Rendered(known, mean, std), batch_size, size, mean, std, seed)
        self.known = known
        self.pairs = {"train": train, "val": val, "test": test}
        for name, count in self.pairs.items():
            if count < 1:
                raise ValueError(f"data.{name}={count}: use a positive number of pairs")
        if train < batch_size:
            raise ValueError(f"data.train={train} pairs an epoch are less than a batch of data.batch_size={batch_size}")

    @property
    def nats(self) -> float:
        """I(V1; V2), exact."""
        return self.known.nats

    def setup(self, stage: str | None = None) -> None:
        """Draw the images of all splits."""
        if self.train is not None:
            return
        check_batch_size(self.batch_size, self.pairs["train"], this_process()[1])
        self.train = self.labelled = self._images("train")
        self.val, self.test = self._images("val"), self._images("test")

    def _images(self, split: str) -> ImageSet:
        """View 0 of further pairs of a split, and the labels and factors that u_1 determines."""
        return first_views(self.known, Pairs(self.seed, SPLITS[split], CLEAN, torch.arange(self.pairs[split])))

    def dataset(self) -> TrainPairs:
        """Which pairs a training batch holds."""
        return TrainPairs()

    def _uncropped(self, source: Source) -> Source:
        return source._replace(images=None)  # views are of other pairs than the images

    def views(self, source: Source, draw: int) -> Batch | PlacedBatch:
        """Both views of the pairs of a source, drawn anew for each `draw`."""
        # The labels of a source are those of its images; the views are of other pairs.
        return super().views(source._replace(labels=None), draw)

    def latents(self, source: Source, draw: int) -> tuple[Tensor, Tensor]:
        """(u_1, u_2) of the very pairs that `views(source, draw)` shows."""
        return self.known.latents(Pairs(self.seed, source.split, evaluation_epoch(draw), source.index))

    def clean_views(self, source: Source) -> list[Tensor]:
        """The image once per view; where view 1 is text, once: an image comes without a sentence."""
        return super().clean_views(source)[: 2 if self.known.words is None else 1]

    def preprocessing(self) -> dict[str, Any]:
        """As of any images; view 1 is none where it is text."""
        found = super().preprocessing()
        return found if self.known.words is None else {**found, "views": [found["views"][0], None]}

    def to_display(self, view: Tensor) -> np.ndarray | list[str]:
        """Images `[n, h, w, c]` in [0, 1], or the sentences that tokens (int64 `[n, length]`) stand for."""
        if self.known.words is not None and not view.is_floating_point():
            return self.known.words.texts(view)
        return super().to_display(view)

    def report(self) -> dict[str, Any]:
        """What a report records, with the exact I(V1; V2)."""
        found = super().report()
        return {**found, "views_nats": self.nats, "views_nats_by_factor": dict(self.known.parts)}

    def describe(self) -> str:
        """The data in one line, with the exact I(V1; V2)."""
        return f"{super().describe()}; I(V1; V2) = {self.nats:.4f} nats"
