"""Sets of samples with what is known about them: labels, and the factors that made them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from ssl_mi.data.contracts import Images, Split
from ssl_mi.data.images.memory import TensorImages


@dataclass(frozen=True)
class SampleSet:
    """Samples in one fixed order. A `contracts.Split`.

    What the samples themselves must be is checked by their own class, not here.

    Attributes:
        name: What reports call it.
        samples: A `contracts.Samples` of length N.
        labels: int64 `[N]` in 0 .. len(class_names) - 1, or None: there is no "unknown" label value.
        class_names: One per class.
        factors: What generated each sample, where that is known: name -> `[N]` or `[N, k]`.
        skipped: Files left out because they could not be decoded (`on_error: skip`).

    Raises:
        ValueError: Labels or factors that contradict the samples or the class names.
    """

    name: str
    samples: Any
    labels: Tensor | None = None
    class_names: tuple[str, ...] = ()
    factors: Mapping[str, Tensor] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()

    kind = "samples"  # in messages; a class attribute

    def __post_init__(self) -> None:
        for what, values in {"labels": self.labels, **self.factors}.items():
            if values is not None and len(values) != len(self):
                raise ValueError(f"{self.name}: {len(self)} {self.kind} but {len(values)} values of '{what}'")
        if self.labels is None or len(self) == 0:
            return
        if self.labels.dtype != torch.int64:
            raise ValueError(f"{self.name}: labels must be int64, not {self.labels.dtype}")
        low, high = int(self.labels.min()), int(self.labels.max())
        if low < 0 or high >= len(self.class_names):
            raise ValueError(
                f"{self.name}: labels run from {low} to {high}, but there are {len(self.class_names)} class "
                f"names; {self.kind} without a label belong in a set with labels=None"
            )

    def __len__(self) -> int:
        return len(self.samples)

    def take(self, rows: Tensor) -> Self:
        """The samples `rows` (int64 `[n]`), in that order."""
        return replace(
            self,
            samples=self.samples.take(rows),
            labels=None if self.labels is None else self.labels[rows],
            factors={name: values[rows] for name, values in self.factors.items()},
        )

    def without_labels(self) -> Self:
        """The same samples; labels and class names are dropped."""
        return replace(self, labels=None, class_names=())

    @property
    def unreadable(self) -> tuple[str, ...]:
        """All files left out: `skipped`, and those that failed when they were read later."""
        return self.skipped + tuple(getattr(self.samples, "failed", ()))

    def label_rows(self, rows: Tensor) -> Tensor | None:
        """Labels of `rows` (int64 `[n]`), or None where there are none."""
        return None if self.labels is None else self.labels[rows]


@dataclass(frozen=True)
class ImageSet(SampleSet):
    """A set whose samples are `contracts.Images`. A tensor, uint8 `[N, C, H, W]`, is taken as `TensorImages`.

    Attributes:
        name: What reports call it.
        samples: The images.
        labels: int64 `[N]`, or None.
        class_names: One per class.
        factors: What generated each image, where that is known: name -> `[N]` or `[N, k]`.
        skipped: Files left out because they could not be decoded.
    """

    kind = "images"

    def __post_init__(self) -> None:
        if isinstance(self.samples, Tensor):
            object.__setattr__(self, "samples", TensorImages(self.samples))
        super().__post_init__()

    @property
    def images(self) -> Images:
        """The images, in memory or in files."""
        return self.samples

    @property
    def in_memory(self) -> bool:
        """Whether the images are in memory."""
        return self.images.in_memory

    @property
    def shape(self) -> tuple[int, int, int] | None:
        """(channels, height, width), or None when the images differ."""
        return self.images.shape

    def decoded(self) -> ImageSet:
        """The same set with its images in memory if they fit there; unreadable files are dealt with now."""
        images, kept, skipped = self.images.decoded()
        rest = self if len(kept) == len(self) else self.take(kept)
        return replace(rest, samples=images, skipped=self.skipped + skipped)


class Sets(NamedTuple):
    """What a source of images gives: the training set, the test set, images without labels, validation images.

    Attributes:
        train: Validation images are taken from these, unless there is `val`.
        test: The source's own test images, or None.
        unlabelled: More images to train on, which have no labels (STL-10). Validation images are never taken from
            them, and probes never see them.
        val: The source's own validation images, or None: then they are held out of `train`.
    """

    train: ImageSet
    test: ImageSet | None
    unlabelled: ImageSet | None = None
    val: ImageSet | None = None


def rare_classes(splits: Mapping[str, Split | None], enough: int = 2, shown: int = 5) -> str:
    """Names the classes with under `enough` samples in a split, and how many each has where; "" where there are none.

    Evaluations go on without them: a class that a probe never learned from is never predicted, and one that is held
    out nowhere does not count.
    """
    labels = {name: split.labels for name, split in splits.items() if split is not None and split.labels is not None}
    if not labels:
        return ""
    names = next(split.class_names for split in splits.values() if split is not None and split.labels is not None)
    counts = {name: some.bincount(minlength=len(names)) for name, some in labels.items()}
    rare = [c for c in range(len(names)) if any(count[c] < enough for count in counts.values())]
    if not rare:
        return ""
    some = [f"'{names[c]}' ({', '.join(f'{int(n[c])} {split}' for split, n in counts.items())})" for c in rare[:shown]]
    more = f" and {len(rare) - shown} more" if len(rare) > shown else ""
    return f"too few samples to judge: {', '.join(some)}{more}"


def stratified_order(labels: Tensor | None, n: int, key: Sequence[int]) -> Tensor:
    """A random order of n rows, int64 [n], in which every stretch holds the classes in proportion.

    The j-th of the n_c rows of class c (in random order) sits at (j + u) / n_c with u uniform in [0, 1),
    and rows are sorted by that place. So the first m rows hold m n_c / n rows of class c, give or take a few, for
    every m, and a smaller subset is always part of a larger one. Without labels this is a plain shuffle.
    `key` (non-negative integers) decides everything.
    """
    rng = np.random.default_rng(list(key))
    if labels is None:
        return torch.from_numpy(rng.permutation(n))
    classes = labels.numpy()
    place = np.empty(n)
    for c in np.unique(classes):
        rows = rng.permutation(np.flatnonzero(classes == c))
        place[rows] = (np.arange(len(rows)) + rng.random(len(rows))) / len(rows)
    return torch.from_numpy(np.argsort(place, kind="stable"))
