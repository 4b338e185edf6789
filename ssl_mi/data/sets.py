"""A set of images with what is known about them: labels, and the factors that made them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from ssl_mi.data.folder import ImageFiles


@dataclass(frozen=True)
class ImageSet:
    """Images, in memory or still in files, in one fixed order.

    name:        what reports call it.
    images:      uint8 [N, C, H, W], or `ImageFiles` of length N that are decoded when they are read.
    labels:      int64 [N] in 0 .. len(class_names) - 1, or None: there is no "unknown" label value.
    class_names: one per class.
    factors:     what generated each image, where that is known: name -> [N] or [N, k].
    skipped:     files left out because they could not be decoded (`on_error: skip`).
    """

    name: str
    images: Tensor | ImageFiles
    labels: Tensor | None = None
    class_names: tuple[str, ...] = ()
    factors: dict[str, Tensor] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.images, Tensor) and (self.images.dtype != torch.uint8 or self.images.ndim != 4):
            raise ValueError(
                f"{self.name}: images must be uint8 [N, C, H, W], not {self.images.dtype} {list(self.images.shape)}"
            )
        for what, values in {"labels": self.labels, **self.factors}.items():
            if values is not None and len(values) != len(self):
                raise ValueError(f"{self.name}: {len(self)} images but {len(values)} values of '{what}'")
        if self.labels is None or len(self) == 0:
            return
        if self.labels.dtype != torch.int64:
            raise ValueError(f"{self.name}: labels must be int64, not {self.labels.dtype}")
        low, high = int(self.labels.min()), int(self.labels.max())
        if low < 0 or high >= len(self.class_names):
            raise ValueError(
                f"{self.name}: labels run from {low} to {high}, but there are {len(self.class_names)} class "
                "names; an image without a label belongs in a set with labels=None"
            )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def in_memory(self) -> bool:
        return isinstance(self.images, Tensor)

    @property
    def shape(self) -> tuple[int, int, int] | None:
        """(channels, height, width), or None when the files differ."""
        return tuple(self.images.shape[-3:]) if isinstance(self.images, Tensor) else self.images.shape

    def take(self, rows: Tensor) -> ImageSet:
        """The images `rows: int64 [n]`, in that order."""
        images = self.images[rows] if isinstance(self.images, Tensor) else self.images.take(rows)
        return replace(
            self,
            images=images,
            labels=None if self.labels is None else self.labels[rows],
            factors={name: values[rows] for name, values in self.factors.items()},
        )

    def without_labels(self) -> ImageSet:
        return replace(self, labels=None, class_names=())

    def read(self, rows: Tensor, size: int) -> Tensor:
        """uint8 [n, C, H, W]: images as they are in memory, or files decoded to `size` x `size`."""
        return self.images[rows] if isinstance(self.images, Tensor) else self.images.squares(rows, size)

    def decoded(self) -> ImageSet:
        """The same set with its files in memory if they fit there; unreadable files are dealt with now."""
        if isinstance(self.images, Tensor):
            return self
        images, kept, skipped = self.images.decoded()
        rest = self if len(kept) == len(self) else self.take(kept)
        return replace(rest, images=images, skipped=self.skipped + skipped)


class Sets(NamedTuple):
    """What a source of images gives: the whole training set, the test set, and images without labels.

    unlabelled: more images to train on that have no labels (STL-10). Validation images are never taken
    from them, and probes never see them.
    """

    train: ImageSet
    test: ImageSet | None
    unlabelled: ImageSet | None = None


def rare_classes(splits: Mapping[str, ImageSet | None], enough: int = 2, shown: int = 5) -> str:
    """Names the classes with under `enough` images in a split, and how many each has where; "" where there are none.

    Evaluations go on without them: a class that a probe never learned from is never predicted, and one that is held
    out nowhere does not count.
    """
    names = next((images.class_names for images in splits.values() if images is not None and images.class_names), ())
    labels = {
        name: images.labels for name, images in splits.items() if images is not None and images.labels is not None
    }
    counts = {name: values.bincount(minlength=len(names)) for name, values in labels.items()}
    rare = [c for c in range(len(names)) if any(count[c] < enough for count in counts.values())]
    if not rare:
        return ""
    some = [f"'{names[c]}' ({', '.join(f'{int(n[c])} {split}' for split, n in counts.items())})" for c in rare[:shown]]
    more = f" and {len(rare) - shown} more" if len(rare) > shown else ""
    return f"too few images to judge: {', '.join(some)}{more}"


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
