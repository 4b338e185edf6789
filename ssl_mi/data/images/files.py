"""Image files in a fixed order, decoded when they are read, or kept in memory where they fit.

A file that cannot be decoded costs this image alone. What its header shows is found before the first epoch, what only
its body shows when it is read: the row is marked, for all worker processes, and whoever reads leaves it out or takes
another.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from torch import Tensor
from torch.utils.data import get_worker_info

from ssl_mi.data.contracts import Crops, Images, UnreadableRows
from ssl_mi.data.images.decoding import Decoder, File, UnreadableImage, bits_in_use, decode, opened, shown
from ssl_mi.data.images.index import Paths
from ssl_mi.data.images.memory import TensorImages
from ssl_mi.data.sampler import this_process

log = logging.getLogger(__name__)

MOST_HEADERS = 100_000  # files of a set of which every header is read before a run; of a larger set a sample is
SIDES = (224, 192, 160, 128, 96, 64, 48, 32)  # of views, for images of many sizes
MOST_LOST = 0.1  # of the files: where more of them fail while they are read, the run ends

_SAMPLE = 64  # files that are looked at to learn what a set is like
_CHUNK = 128  # files that one thread decodes in a row
_NAMED = 20  # files that one process names when they fail; the others are counted
_PLAIN = (b"\xff\xd8\xff",)  # JPEG: 8 bits, no alpha, one frame


class ImageFiles:
    """Image files in a fixed order, decoded when read. A `contracts.Images`.

    Args:
        paths: The files, or encoded images with a `take`.
        in_memory: True: `decoded()` gives one tensor; False: it leaves them in files; "auto": a tensor when all
            have one size and together take at most `memory_gb`.
        memory_gb: 10^9 bytes.
        on_error: "error": a file that cannot be decoded raises UnreadableImage when it is met;
            "skip": it is left out, named and counted.
        decoder: How files become pixels; None for RGB.
    """

    in_memory = False  # until they are decoded

    def __init__(
        self,
        paths: Sequence[File],
        in_memory: bool | str = "auto",
        memory_gb: float = 4.0,
        on_error: str = "error",
        decoder: Decoder | None = None,
    ) -> None:
        self.paths: Any = paths if hasattr(paths, "take") else Paths(map(str, paths))
        self.into_memory, self.memory_gb, self.on_error = in_memory, memory_gb, on_error
        self.decoder = Decoder() if decoder is None else decoder
        self._shape: tuple[int, int, int] | None = None
        self._sampled = False
        # Workers mark rows in it, and the process that reports sees them.
        self._failed = torch.zeros(len(self.paths), dtype=torch.bool).share_memory_()

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, rows: Tensor) -> ImageFiles:
        """The files of `rows` (int64 [n]), in that order."""
        paths = self.paths.take(rows.numpy())
        taken = ImageFiles(paths, self.into_memory, self.memory_gb, self.on_error, self.decoder)
        taken._shape, taken._sampled = self._shape, self._sampled
        return taken

    @property
    def shape(self) -> tuple[int, int, int] | None:
        """(channels, height, width) if a sample of the files has one size, else None."""
        if not self._sampled:
            self._sampled = True
            sizes = set(_sizes(_spread(self.paths), self.decoder))
            self._shape = (self.decoder.channels, *sizes.pop()) if len(sizes) == 1 else None
        return self._shape

    @property
    def failed(self) -> tuple[str, ...]:
        """The files that could not be decoded when they were read, as they can be printed."""
        return tuple(shown(self.paths[i]) for i in self._failed.nonzero().squeeze(1).tolist())

    def decoded(self) -> tuple[Images, Tensor, tuple[str, ...]]:
        """(images, rows kept: int64 [n], paths left out): in memory where they are to be and fit."""
        images, errors = self._decode()
        kept = torch.ones(len(self), dtype=torch.bool)
        kept[list(errors)] = False
        rows = kept.nonzero().squeeze(1)
        skipped = tuple(shown(self.paths[i]) for i in errors)
        if skipped:
            if len(rows) == 0:
                raise UnreadableImage(f"none of {len(self)} images can be decoded: {_reasons(errors.values())}")
            log.warning("left out %d of %d images that cannot be used: %s", len(errors), len(self),
                        _reasons(errors.values()))  # fmt: skip
            images = images.take(rows)
        return images, rows, skipped

    def _decode(self) -> tuple[Images, dict[int, UnreadableImage]]:
        """All images, in memory where they are to be and fit, and what was wrong with the rows that failed."""
        if len(self) and (self.into_memory is True or (self.into_memory == "auto" and self._fits())):
            try:
                pixels, errors = self._into_memory()
                return TensorImages(pixels, self.paths), errors
            except _OtherShape as odd:
                if self.into_memory is True:
                    raise ValueError(
                        f"{odd}; images of many sizes cannot be one tensor: use {self.decoder.key}.in_memory=false"
                    ) from None
                log.info("%s; these images stay in files", odd)
                self._shape = None
        return self, self._check_headers()

    def _check_headers(self) -> dict[int, UnreadableImage]:
        """What the headers alone show to be unusable; in a set of more than `MOST_HEADERS` files, of a sample."""
        step = 1 if len(self) <= MOST_HEADERS else -(-len(self) // _SAMPLE)
        if step > 1:
            log.info(
                "%d files are not looked at one by one: what cannot be decoded is left out when it is met", len(self)
            )
        rows = range(0, len(self), step)
        return self._each(rows, lambda i: self.decoder.size(self.paths[i]), "reading headers of images")

    def read(self, rows: Tensor, size: int) -> Tensor:
        """uint8 [n, c, size, size]: the shorter side resized to `size` (bilinear, antialiased), centre kept.

        Raises:
            UnreadableRows: If some cannot be decoded.
        """

        def square(image: Tensor, row: int) -> Tensor:
            h, w = image.shape[1:]
            short = min(h, w)
            h, w = size * h // short, size * w // short
            image = F.interpolate(image[None].contiguous(), (h, w), mode="bilinear", antialias=True)[0]
            top, left = round((h - size) / 2), round((w - size) / 2)
            return image[:, top : top + size, left : left + size]

        return torch.stack(self._decode_rows(rows.tolist(), square))

    def crops(self, rows: Tensor, augmentation: Crops, seed: int, split: int, epoch: int) -> list[Tensor]:
        """One uint8 [n, c, s, s] a view: the views' random crops, cut from the whole images.

        Raises:
            UnreadableRows: If some cannot be decoded.
        """

        def crop(image: Tensor, row: int) -> list[Tensor]:
            return augmentation.crop(image, seed, split, epoch, row)

        return [torch.stack(view) for view in zip(*self._decode_rows(rows.tolist(), crop), strict=True)]

    def _decode_rows(self, rows: list[int], use: Callable[[Tensor, int], object]) -> list:
        """`use(image, row)` for all rows; UnreadableRows, all of them marked, where some cannot be decoded."""

        def one(i: int) -> object:
            if self._failed[i]:
                return None
            try:
                # The channels of a pixel stay side by side, as they were decoded.
                return use(torch.from_numpy(decode(self.paths[i], self.decoder).copy()).permute(2, 0, 1), i)
            except UnreadableImage as error:
                if self.on_error != "skip":
                    raise
                self._mark(i, error)
                return None

        results = _in_threads(one, rows)
        lost = [row for row, result in zip(rows, results, strict=True) if result is None]
        if lost:
            raise UnreadableRows(lost)
        return results

    def _mark(self, row: int, error: UnreadableImage) -> None:
        """Mark a row as unreadable; OSError where so many are that no run should go on."""
        folder = Path(self.paths[row]).parent
        if not folder.is_dir():
            raise OSError(
                f"the folder {shown(folder)} vanished while its images were read: bring it back, and resume from the "
                "last checkpoint with ckpt_path="
            )
        self._failed[row] = True
        count = int(self._failed.sum())
        if count > max(10, MOST_LOST * len(self)):
            raise OSError(
                f"{count} of {len(self)} images could not be decoded when they were read, the last one {error.path} "
                f"({error.why}): see whether the files are whole, and resume from the last checkpoint with ckpt_path="
            )
        if count <= _NAMED:
            log.warning("left out from here on: %s: %s", error.path, error.why)

    def _fits(self) -> bool:
        return self.shape is not None and len(self) * math.prod(self.shape) <= self.memory_gb * 1e9

    def _into_memory(self) -> tuple[Tensor, dict[int, UnreadableImage]]:
        """(images [N, c, h, w], rows that failed); raises _OtherShape at the first image of another size."""
        if self.shape is None:
            raise _OtherShape("the images have different sizes")
        images = torch.empty(len(self), *self.shape, dtype=torch.uint8)
        array = images.numpy()

        def put(i: int) -> None:
            image = decode(self.paths[i], self.decoder)
            if image.shape[:2] != array.shape[2:]:
                (h, w), (height, width) = image.shape[:2], array.shape[2:]
                raise _OtherShape(f"{shown(self.paths[i])} is {h}x{w} pixels where others are {height}x{width}")
            array[i] = image.transpose(2, 0, 1)

        return images, self._each(range(len(self)), put, "decoding images")

    def _each(self, rows: range, use: Callable[[int], object], what: str) -> dict[int, UnreadableImage]:
        """`use(i)` for every row, in threads; the errors of those that failed, where they may."""

        def some(chunk: range) -> dict[int, UnreadableImage]:
            errors = {}
            for i in chunk:
                try:
                    use(i)
                except UnreadableImage as error:
                    if self.on_error != "skip":
                        raise
                    errors[i] = error
            return errors

        pool = ThreadPoolExecutor(_threads())
        try:
            chunks = [rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK)]
            results = _with_progress(pool.map(some, chunks), len(chunks), what)
            return {i: error for errors in results for i, error in errors.items()}
        finally:
            pool.shutdown(cancel_futures=True)


class _OtherShape(Exception):
    pass


class Survey(NamedTuple):
    """What a sample of the files of a set is like.

    Attributes:
        shortest: The shortest side, in pixels; None where no header could be read.
        one_size: (height, width) where all of the sample have it, else None.
        bits: In use in pixels of more than 8 bits; None where there are none of known range.
        notes: What is done to them that one should know, in sentences.
    """

    shortest: int | None
    one_size: tuple[int, int] | None
    bits: int | None
    notes: tuple[str, ...]


def survey(paths: Sequence[File], decoder: Decoder) -> Survey:
    """Look at some files of a set, spread over it.

    Args:
        paths: All files.
        decoder: How they will be decoded.
    """
    sample = _spread(paths)
    sizes = list(_sizes(sample, decoder))
    bits, alpha, frames = 8, 0, 0
    for path in sample:
        try:
            if _is_plain(path):
                continue
            raw = decoder.raw(path)
            frames += decoder.frames(path) > 1
        except Exception:  # reported when the file is read
            continue
        alpha += raw.alpha and bool((raw.pixels[..., -1] != raw.pixels[..., -1].flat[0]).any())
        if raw.pixels.dtype.kind in "iu" and raw.pixels.dtype.itemsize > 1 and raw.pixels.min() >= 0:
            bits = max(bits, bits_in_use(int(raw.pixels.max())))
    notes = []
    if 8 < bits <= 16 and decoder.levels is None:
        notes.append(
            f"pixels of more than 8 bits, of which {bits} are in use: {2**bits - 1} becomes white "
            f"({decoder.key}.levels chooses other levels)"
        )
    if alpha and decoder.channels in (1, 3):
        notes.append(
            f"{alpha} of {len(sample)} files that were looked at have transparency, which is dropped "
            f"({decoder.key}.channels={decoder.channels + 1} keeps it)"
        )
    if frames:
        notes.append(f"{frames} of {len(sample)} files that were looked at hold several frames: the first is used")
    deep = bits if 8 < bits <= 16 else None
    return Survey(min(map(min, sizes), default=None), sizes[0] if len(set(sizes)) == 1 else None, deep, tuple(notes))


def suitable_side(found: Survey | None) -> int:
    """The side of a view that suits images, in pixels: the largest of `SIDES` that none of them is below.

    Images of one size below the largest of `SIDES` keep theirs.

    Args:
        found: What they are like; None where that is not known.
    """
    if found is None or found.shortest is None:
        return SIDES[-1]
    if found.one_size is not None and found.shortest <= SIDES[0]:
        return found.shortest
    return next((side for side in SIDES if side <= found.shortest), found.shortest)


def few(paths: Sequence[str], n: int = 5) -> str:
    """The first n of some names, and how many there are besides."""
    more = f" and {len(paths) - n} more" if len(paths) > n else ""
    return ", ".join(paths[:n]) + more


def _reasons(errors: Iterable[UnreadableImage]) -> str:
    """The first files and what is wrong with each."""
    return few([f"{error.path} ({error.why})" for error in errors], 3)


def _spread(paths: Sequence[File]) -> Sequence[File]:
    return paths[:: max(1, len(paths) // _SAMPLE)]


def _is_plain(path: File) -> bool:
    with opened(path) as file:
        return file.read(3) in _PLAIN


def _sizes(paths: Iterable[File], decoder: Decoder) -> Iterator[tuple[int, int]]:
    """(height, width) from the headers; files whose header has none are passed over."""
    for path in paths:
        try:
            yield decoder.size(path)
        except UnreadableImage:  # reported when the file is decoded
            continue


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
