"""CIFAR-10, CIFAR-100 and STL-10, read and downloaded by torchvision, kept in memory."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision import datasets
from torchvision.datasets.utils import check_integrity

from ssl_mi.data.images.memory import TensorImages
from ssl_mi.data.sets import ImageSet, Sets

NAMES = ("CIFAR10", "CIFAR100", "STL10")

_PATIENCE = 30  # seconds without an answer before a download gives up


class TorchvisionSet:
    """One of torchvision's data sets.

    CIFAR files are pickles: torchvision compares their MD5 sums with the published ones before it opens them.

    Args:
        name: CIFAR10, CIFAR100 or STL10.
        root: The folder that holds torchvision's own folder (cifar-10-batches-py, ...), or will.
        download: Fetch what is missing.
        unlabelled: With STL10, also train on its 100,000 unlabelled images (2.8 GB of memory); the 5,000 labelled ones
            serve the probes and validation.

    Raises:
        FileNotFoundError: Files that are not there and cannot be fetched, with the folder and their names.
    """

    def __init__(self, name: str, root: str, download: bool = True, unlabelled: bool = False) -> None:
        if name not in NAMES:
            raise ValueError(f"data.sets.name={name} is none of {', '.join(NAMES)}")
        if unlabelled and name != "STL10":
            raise ValueError(f"data.sets.unlabelled=true: only STL10 has unlabelled images, {name} has none")
        self.name, self.root, self.download, self.unlabelled = name, Path(root).expanduser(), download, unlabelled
        self.kind = getattr(datasets, name)

    def prepare(self) -> None:
        """See that every file is there, by downloading where allowed."""
        wrong = self.wrong_files()
        if wrong and self.download:
            try:
                with _patience(_PATIENCE):
                    self._open(test=False, download=True)
            except (OSError, RuntimeError) as error:  # no network, no space, a broken archive
                raise FileNotFoundError(
                    self._how_to_bring(self.wrong_files(), f"Downloading failed: {error}. ")
                ) from error
        elif wrong:
            raise FileNotFoundError(self._how_to_bring(wrong, "data.sets.download=false forbids to fetch it. "))

    def load(self) -> Sets:
        """All splits, in memory."""
        self.prepare()
        unlabelled = None
        if self.unlabelled:
            found = datasets.STL10(str(self.root), split="unlabeled")
            unlabelled = ImageSet(self.name, TensorImages(torch.from_numpy(found.data)))
        return Sets(self._set(test=False), self._set(test=True), unlabelled)

    def wrong_files(self) -> list[str]:
        """Files that are missing or whose checksum is not the published one, saying which of the two."""
        found = []
        for file, md5 in self.kind.train_list + self.kind.test_list:
            path = self.root / self.kind.base_folder / file
            if not path.is_file():
                found.append(f"{file} (missing)")
            elif not check_integrity(path, md5):
                found.append(f"{file} (not the published file: its MD5 differs)")
        return found

    def _open(self, test: bool, download: bool = False) -> datasets.VisionDataset:
        which = {"split": "test" if test else "train"} if self.name == "STL10" else {"train": not test}
        return self.kind(str(self.root), download=download, **which)

    def _set(self, test: bool) -> ImageSet:
        found = self._open(test)
        if self.name == "STL10":
            images, labels = torch.from_numpy(found.data), found.labels
        else:
            images, labels = _channels_first(found.data), found.targets
        classes = torch.from_numpy(np.asarray(labels, dtype=np.int64))
        return ImageSet(self.name, TensorImages(images), classes, tuple(found.classes))

    def _how_to_bring(self, wrong: list[str], why: str) -> str:
        return (
            f"{self.name} is not in {self.root.absolute()}: looked there for the folder {self.kind.base_folder} "
            f"with {', '.join(wrong)}. {why}To bring it: fetch {self.kind.url} on a machine with network, put the "
            f"archive {self.kind.filename} into {self.root.absolute()} and run again (it is unpacked from there), or "
            "point data.root to the folder that has it. Any folder of images works too: "
            "data=image_folder data.root=<folder>"
        )


def _channels_first(images: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


@contextmanager
def _patience(seconds: float) -> Iterator[None]:
    """Let connections opened inside give up after `seconds` of silence; by default they never do."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
