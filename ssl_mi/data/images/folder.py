"""Folders of images: finding them, decoding them, and keeping them in memory where they fit.

Layouts, told apart by what is there:

    root/train/<class>/*.jpg and root/test/<class>/*.jpg
    root/<class>/*.jpg          a seeded test split is set aside
    root/train/*.jpg            or root/*.jpg: no classes, so no labels
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from torch import Tensor
from torch.utils.data import get_worker_info

from ssl_mi.data.contracts import Crops, Images
from ssl_mi.data.images.memory import TensorImages
from ssl_mi.data.sampler import this_process
from ssl_mi.data.sets import ImageSet, Sets, stratified_order

log = logging.getLogger(__name__)

# What a file is called decides whether it is looked at; what it holds decides how it is decoded.
EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF", "PPM")

_SAMPLE = 64  # files whose headers are read to determine whether a set is of one size
_CHUNK = 128  # files that one thread decodes in a row


class UnreadableImage(ValueError):
    """An image file that cannot be decoded; the message names it."""


def decode(path: str) -> np.ndarray:
    """One image file as uint8 RGB [h, w, 3]; UnreadableImage when that cannot be had.

    Grey and palette images become RGB, transparency is dropped, 16-bit grey keeps its upper eight bits.
    """
    try:
        with Image.open(path, formats=FORMATS) as file:
            if file.mode.startswith("I;16"):
                return np.repeat((np.asarray(file) >> 8).astype(np.uint8)[..., None], 3, axis=2)
            if file.mode in ("I", "F"):
                raise ValueError(f"its pixels ({file.mode}) have no known range; store it with 8 or 16 bits")
            image: Image.Image = file
            if image.mode == "P":
                image = image.convert("RGBA")  # a transparent palette entry has no direct way to RGB
            if image.mode != "RGB":
                image = image.convert("RGB")
            # Pillow's own array interface makes one more copy.
            return np.frombuffer(image.tobytes(), np.uint8).reshape(image.height, image.width, 3)
    except Exception as error:  # decoders raise whatever they like on damaged files
        raise UnreadableImage(
            f"cannot decode {path}: {error}. Replace or remove the file, or leave such files out, and count "
            "them, with data.sets.on_error=skip"
        ) from error


class ImageFiles:
    """Image files in a fixed order, decoded when read. A `contracts.Images`.

    Args:
        paths: The files.
        in_memory: True: `decoded()` gives one tensor; False: it leaves them in files; "auto": a tensor when all
            have one size and together take at most `memory_gb`.
        memory_gb: 10^9 bytes.
        on_error: "error": a file that cannot be decoded raises UnreadableImage when it is met;
            "skip": `decoded()` tries every file and leaves out those that fail.
    """

    in_memory = False  # until they are decoded

    def __init__(
        self,
        paths: Sequence[str],
        in_memory: bool | str = "auto",
        memory_gb: float = 4.0,
        on_error: str = "error",
    ) -> None:
        self.paths, self.into_memory, self.memory_gb, self.on_error = list(paths), in_memory, memory_gb, on_error
        self._shape: tuple[int, int, int] | None = None
        self._sampled = False

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, rows: Tensor) -> ImageFiles:
        """The files of `rows` (int64 [n]), in that order."""
        taken = ImageFiles([self.paths[i] for i in rows.tolist()], self.into_memory, self.memory_gb, self.on_error)
        taken._shape, taken._sampled = self._shape, self._sampled
        return taken

    @property
    def shape(self) -> tuple[int, int, int] | None:
        """(3, height, width) if a sample of the files has one size, else None."""
        if not self._sampled:
            self._sampled = True
            step = max(1, len(self) // _SAMPLE)
            sizes = {size for path in self.paths[::step] if (size := _header_size(path)) is not None}
            self._shape = (3, *sizes.pop()) if len(sizes) == 1 else None
        return self._shape

    def decoded(self) -> tuple[Images, Tensor, tuple[str, ...]]:
        """(images, rows kept: int64 [n], paths left out): in memory where they are to be and fit."""
        images, failed = self._decode()
        kept = torch.ones(len(self), dtype=torch.bool)
        kept[failed] = False
        rows = kept.nonzero().squeeze(1)
        skipped = tuple(self.paths[i] for i in failed)
        if skipped:
            log.warning("left out %d of %d images that cannot be decoded: %s", len(failed), len(self), _few(skipped))
            if len(rows) == 0:
                raise UnreadableImage(f"none of {len(self)} images can be decoded: {_few(skipped)}")
            images = images.take(rows)
        return images, rows, skipped

    def _decode(self) -> tuple[Images, list[int]]:
        """All images, in memory where they are to be and fit, and the rows that failed."""
        if len(self) and (self.into_memory is True or (self.into_memory == "auto" and self._fits())):
            try:
                pixels, failed = self._into_memory()
                return TensorImages(pixels), failed
            except _OtherShape as odd:
                if self.into_memory is True:
                    raise ValueError(
                        f"{odd}; images of many sizes cannot be one tensor: use data.sets.in_memory=false"
                    ) from None
                log.info("%s; these images stay in files", odd)
                self._shape = None
        return self, self._check_all() if self.on_error == "skip" else []

    def read(self, rows: Tensor, size: int) -> Tensor:
        """uint8 [n, 3, size, size]: the shorter side resized to `size` (bilinear, antialiased), centre kept."""

        def square(i: int) -> Tensor:
            image = self._image(i)
            h, w = image.shape[1:]
            short = min(h, w)
            h, w = size * h // short, size * w // short
            image = F.interpolate(image[None], (h, w), mode="bilinear", antialias=True)[0]
            top, left = round((h - size) / 2), round((w - size) / 2)
            return image[:, top : top + size, left : left + size]

        return torch.stack(_in_threads(square, rows.tolist()))

    def crops(self, rows: Tensor, augmentation: Crops, seed: int, split: int, epoch: int) -> list[Tensor]:
        """One uint8 [n, 3, s, s] a view: the views' random crops, cut from the whole images."""

        def crop(i: int) -> list[Tensor]:
            return augmentation.crop(self._image(i), seed, split, epoch, i)

        return [torch.stack(view) for view in zip(*_in_threads(crop, rows.tolist()), strict=True)]

    def _image(self, i: int) -> Tensor:
        return torch.from_numpy(decode(self.paths[i]).transpose(2, 0, 1).copy())

    def _fits(self) -> bool:
        return self.shape is not None and len(self) * math.prod(self.shape) <= self.memory_gb * 1e9

    def _into_memory(self) -> tuple[Tensor, list[int]]:
        """(images [N, 3, h, w], rows that failed); raises _OtherShape at the first image of another size."""
        if self.shape is None:
            raise _OtherShape("the images have different sizes")
        images = torch.empty(len(self), *self.shape, dtype=torch.uint8)
        array = images.numpy()

        def put(i: int, image: np.ndarray) -> None:
            if image.shape[:2] != array.shape[2:]:
                (h, w), (height, width) = image.shape[:2], array.shape[2:]
                raise _OtherShape(f"{self.paths[i]} is {h}x{w} pixels where others are {height}x{width}")
            array[i] = image.transpose(2, 0, 1)

        return images, self._read_all(put, "decoding images")

    def _check_all(self) -> list[int]:
        return self._read_all(lambda i, image: None, "checking images")

    def _read_all(self, use: Callable[[int, np.ndarray], None], what: str) -> list[int]:
        """`use(i, image)` for every file, in threads; the rows of those that failed, where they may."""

        def some(rows: range) -> list[int]:
            failed = []
            for i in rows:
                try:
                    use(i, decode(self.paths[i]))
                except UnreadableImage:
                    if self.on_error != "skip":
                        raise
                    failed.append(i)
            return failed

        pool = ThreadPoolExecutor(_threads())
        try:
            chunks = [range(start, min(start + _CHUNK, len(self))) for start in range(0, len(self), _CHUNK)]
            results = _with_progress(pool.map(some, chunks), len(chunks), what)
            return [i for failed in results for i in failed]
        finally:
            pool.shutdown(cancel_futures=True)


class _OtherShape(Exception):
    pass


def _header_size(path: str) -> tuple[int, int] | None:
    """(height, width) from the header of the file, or None where the header has none."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            return image.size[::-1]
    except Exception:  # reported when the file is decoded
        return None


def _threads() -> int:
    # Decoding lets go of the interpreter's lock. A worker process is one of several already.
    return 1 if get_worker_info() is not None else min(8, os.cpu_count() or 1)


def _in_threads(work: Callable[[int], object], rows: list[int]) -> list:
    threads = min(_threads(), len(rows))
    if threads <= 1:
        return [work(i) for i in rows]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, rows))


def _columns() -> tuple[ProgressColumn, ...]:
    return (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())


def _with_progress(results: Iterator, total: int, what: str, after: float = 2.0) -> Iterator:
    """Pass `results` on; when that takes more than `after` seconds, with a progress bar on the first process."""
    began, bar = time.monotonic(), None
    try:
        for done, result in enumerate(results, start=1):
            if bar is None and time.monotonic() - began > after and this_process()[0] == 0:
                bar = Progress(*_columns(), console=Console(stderr=True, markup=False, emoji=False), transient=True)
                task = bar.add_task(what, total=total)
                bar.start()
            if bar is not None:
                bar.update(task, completed=done)
            yield result
    finally:
        if bar is not None:
            bar.stop()


def _few(paths: Sequence[str], n: int = 5) -> str:
    more = f" and {len(paths) - n} more" if len(paths) > n else ""
    return ", ".join(paths[:n]) + more


class ImageFolder:
    """A folder of images as training and test sets (layouts: see the module).

    Args:
        root: The folder.
        test: Name of the folder beside `train` that holds the test images.
        test_fraction: Set aside of the training images, seeded, where there is no such folder.
        in_memory, memory_gb, on_error: See `ImageFiles`; `memory_gb` holds for each split.
        seed: Decides which images are set aside.

    Raises:
        FileNotFoundError: A folder that is missing or holds no images.
        ValueError: A folder that cannot be read as classes.
    """

    def __init__(
        self,
        root: str,
        test: str = "test",
        test_fraction: float = 0.1,
        in_memory: bool | str = "auto",
        memory_gb: float = 4.0,
        on_error: str = "error",
        seed: int = 0,
    ) -> None:
        if in_memory not in (True, False, "auto"):
            raise ValueError(f"data.sets.in_memory={in_memory} is none of auto, true, false")
        if on_error not in ("error", "skip"):
            raise ValueError(f"data.sets.on_error={on_error} is neither 'error' nor 'skip'")
        if not 0 < test_fraction < 1:
            raise ValueError(f"data.sets.test_fraction={test_fraction} must lie between 0 and 1")
        self.root, self.test, self.test_fraction, self.seed = Path(root).expanduser(), test, test_fraction, seed
        self.in_memory, self.memory_gb, self.on_error = in_memory, memory_gb, on_error

    def load(self) -> Sets:
        """Lists the files; decodes none."""
        if not self.root.is_dir():
            what = "is not a folder" if self.root.exists() else "does not exist"
            raise FileNotFoundError(
                f"data.root={self.root}: {self.root.absolute()} {what}. It should hold train/<class>/ and "
                "test/<class>/ folders of images, or <class>/ folders alone, or images alone"
            )
        train_folder = self.root / "train" if (self.root / "train").is_dir() else self.root
        test_folder = self.root / self.test
        train = self._set(train_folder, None)
        if train_folder == self.root or not test_folder.is_dir():
            return self._split_off_test(train)
        test = self._set(test_folder, train.class_names or None)
        if train.labels is not None and test.labels is None:
            raise ValueError(
                f"{train_folder} has class folders but {test_folder} has images alone; sort those into the same "
                "class folders, or name another folder with data.sets.test="
            )
        return Sets(train, test)

    def _set(self, folder: Path, known: tuple[str, ...] | None) -> ImageSet:
        paths, class_of, names = list_images(folder)
        files = ImageFiles(paths, self.in_memory, self.memory_gb, self.on_error)
        if not names:
            return ImageSet(self.root.name, files)
        known = known or names
        if unknown := [name for name in names if name not in known]:
            raise ValueError(
                f"{folder} has the class folder '{unknown[0]}', which the training images do not; their "
                f"classes are {_few(known)}"
            )
        place = torch.tensor([known.index(name) for name in names])
        return ImageSet(self.root.name, files, place[torch.tensor(class_of)], known)

    def _split_off_test(self, images: ImageSet) -> Sets:
        n = round(self.test_fraction * len(images))
        if not 0 < n < len(images):
            raise ValueError(
                f"{self.root} has no folder '{self.test}', and data.sets.test_fraction={self.test_fraction} of its "
                f"{len(images)} images leaves nothing to test or to train on; add images or change the fraction"
            )
        log.info("%s has no folder '%s': %d of its %d images are set aside for testing (seed %d)",
                 self.root, self.test, n, len(images), self.seed)  # fmt: skip
        order = stratified_order(images.labels, len(images), [self.seed])
        return Sets(images.take(order[n:]), images.take(order[:n]))


def list_images(folder: Path) -> tuple[list[str], list[int], tuple[str, ...]]:
    """(files, class of each, class names) of a folder of class folders; no names for a folder of images alone.

    Hidden files and folders are passed over; class folders may have folders inside.
    """
    entries = sorted((e for e in os.scandir(folder) if not e.name.startswith(".")), key=lambda e: e.name)
    folders = [e for e in entries if e.is_dir()]
    other: Counter[str] = Counter()
    loose = _images((e.path for e in entries if e.is_file()), other)
    found = {e.name: _images(_walk(e.path), other) for e in folders}

    if not loose and not any(found.values()):
        there = ", ".join(f"{count} {kind}" for kind, count in other.most_common(5)) or "no files at all"
        raise FileNotFoundError(
            f"{folder.absolute()} holds no images: found {there}. Images are files ending in {' '.join(EXTENSIONS)}, "
            "in one folder a class, or all in one place"
        )
    if loose and folders:
        raise ValueError(
            f"{folder} holds {len(loose)} images ({Path(loose[0]).name}, ...) beside {len(folders)} folders "
            f"({folders[0].name}, ...): put every image in a class folder, or all of them in one place"
        )
    if empty := [name for name, files in found.items() if not files]:
        raise ValueError(f"{folder}: the class folder '{empty[0]}' holds no images; remove it or fill it")
    if loose:
        return loose, [], ()
    class_of = [c for c, files in enumerate(found.values()) for _ in repeat(None, len(files))]
    return [path for files in found.values() for path in files], class_of, tuple(found)


def _images(paths: Iterator[str], other: Counter[str]) -> list[str]:
    """The paths that are called images; the kinds of the rest are counted in `other`."""
    images = []
    for path in paths:
        kind = os.path.splitext(path)[1].lower()
        if kind in EXTENSIONS:
            images.append(path)
        else:
            other[kind or "without extension"] += 1
    return images


def _walk(folder: str) -> Iterator[str]:
    for where, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (os.path.join(where, name) for name in sorted(files) if not name.startswith("."))
