"""Images that are arrays already: a batch for an augmentation, a data set for a run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ssl_mi.data.sets import ImageSet, Sets, stratified_order


def as_batch(images: Tensor | np.ndarray, channels: int, name: str) -> Tensor:
    """A batch of images as a tensor, channels first.

    Args:
        images: uint8, or floats in [0, 1]: [n, c, h, w], or [n, h, w, c] where only that fits the channels.
        channels: How many channels the images have.
        name: What is named in a message.

    Returns:
        uint8 or float [n, c, h, w], on the same device.

    Raises:
        ValueError: On images of another shape, type or range.
    """
    if not isinstance(images, Tensor | np.ndarray):
        raise ValueError(f"{name}: images must be a tensor or a numpy array, got {type(images).__name__}")
    batch = torch.as_tensor(images)
    if batch.ndim != 4 or channels not in (batch.shape[1], batch.shape[3]):
        raise ValueError(
            f"{name}: images must be [n, {channels}, h, w] or [n, h, w, {channels}], got {list(batch.shape)}"
        )
    if batch.shape[1] != channels:
        batch = batch.permute(0, 3, 1, 2).contiguous()
    if batch.is_floating_point():
        low, high = (float(x) for x in batch.aminmax()) if batch.numel() else (0.0, 1.0)
        if not 0 <= low <= high <= 1:
            raise ValueError(f"{name}: float images must be in [0, 1], got {low:g} to {high:g}: divide by 255?")
    elif batch.dtype != torch.uint8:
        raise ValueError(f"{name}: images must be uint8, or floats in [0, 1], got {batch.dtype}")
    return batch


class ImageArrays:
    """A data set of arrays, for `ImageData(sets=...)`.

    Args:
        train: Training images, uint8 [n, c, h, w] or [n, h, w, c]; c is 1, 3, or less than h and w.
        labels: A label per training image: integers or strings, [n]; None without labels.
        test: Test images; None sets `test_fraction` of the training images
            aside.
        test_labels: A label per test image.
        test_fraction: Share of the training images that is set aside, seeded and spread over the classes, where there
            are no test images.
        seed: Of the images that are set aside.
        name: Heads reports.

    Raises:
        ValueError: On images that are not uint8 or of another shape, and on labels that do not fit the images.
    """

    def __init__(
        self,
        train: Tensor | np.ndarray,
        labels: ArrayLike | None = None,
        test: Tensor | np.ndarray | None = None,
        test_labels: ArrayLike | None = None,
        test_fraction: float = 0.1,
        seed: int = 0,
        name: str = "arrays",
    ) -> None:
        if test is None and not 0 < test_fraction < 1:
            raise ValueError(f"ImageArrays: test_fraction={test_fraction} must be above 0 and below 1")
        if test is not None and (labels is None) != (test_labels is None):
            raise ValueError("ImageArrays: give labels of both training and test images, or of neither")
        self.name, self.classes = name, _classes(labels, test_labels)
        self.train = self._set(train, labels, "training")
        self.test = None if test is None else self._set(test, test_labels, "test")
        self.test_fraction, self.seed = test_fraction, seed

    def load(self) -> Sets:
        """The training set and the test set."""
        if self.test is not None:
            return Sets(self.train, self.test)
        n = round(self.test_fraction * len(self.train))
        if not 0 < n < len(self.train):
            raise ValueError(
                f"ImageArrays: test_fraction={self.test_fraction} of {len(self.train)} images leaves nothing to test "
                "or to train on; add images or change the fraction"
            )
        order = stratified_order(self.train.labels, len(self.train), [self.seed])
        return Sets(self.train.take(order[n:]), self.train.take(order[:n]))

    def _set(self, images: Tensor | np.ndarray, labels: ArrayLike | None, which: str) -> ImageSet:
        what = f"ImageArrays, {which} images"
        shape = tuple(getattr(images, "shape", ()))
        # Images have more pixels than channels; where that does not decide, they are RGB or grey.
        usual = next((c for c in (3, 1) if len(shape) == 4 and c in (shape[1], shape[3])), None)
        channels = usual or (min(shape[1], shape[3]) if len(shape) == 4 else 3)
        batch = as_batch(images, channels, what)
        if batch.dtype != torch.uint8:
            raise ValueError(f"{what}: must be uint8, got {batch.dtype}: (255 * images).round() as uint8")
        if labels is None:
            return ImageSet(self.name, batch)
        values = np.asarray(labels)
        if len(values) != len(batch):
            raise ValueError(f"{what}: {len(batch)} images but {len(values)} labels")
        index = torch.from_numpy(np.searchsorted(self.classes, values).astype(np.int64))
        return ImageSet(self.name, batch, index, tuple(str(c) for c in self.classes))


def _classes(*labels: ArrayLike | None) -> np.ndarray:
    """The distinct labels of all sets, sorted."""
    given: Sequence[np.ndarray] = [np.asarray(some) for some in labels if some is not None]
    for values in given:
        if values.ndim != 1 or values.dtype.kind not in "iubUS":
            raise ValueError(
                f"ImageArrays: labels must be integers or strings, one per image, got {values.dtype} "
                f"{list(values.shape)}"
            )
    return np.unique(np.concatenate(given)) if given else np.array([])
