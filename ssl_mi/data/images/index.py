"""The list of the files of a large folder: compact in memory, and kept on disk until a folder changes.

Listing a million files takes a quarter of a minute on a local disk and many minutes on a network's. The list is kept in
`$XDG_CACHE_HOME/ssl_mi/folders` (`~/.cache` by default) with the time at which each folder last changed; a file that is
added, removed or renamed changes its folder's.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, overload

import numpy as np

log = logging.getLogger(__name__)

LEAST = 10_000  # files of a folder whose list is kept; others are listed in a moment
_VERSION = 1
_SETTLED = 2.0  # seconds: file systems tell times that are closer together no better than equal


class Paths(Sequence[str]):
    """Paths in one block of bytes: a tenth of the memory of a list, and worker processes share it.

    Args:
        paths: The paths.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        encoded = [os.fsencode(path) for path in paths]
        self._block = np.frombuffer(b"".join(encoded), np.uint8)
        self._ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
        self._rows = np.arange(len(encoded))

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> Paths: ...
    def __getitem__(self, row: int | slice) -> str | Paths:
        if isinstance(row, slice):
            return self.take(np.arange(len(self))[row])
        at = self._rows[row]
        return os.fsdecode(self._block[self._ends[at] : self._ends[at + 1]].tobytes())

    def __iter__(self) -> Iterator[str]:
        return (self[row] for row in range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(str.__eq__, self, other))

    __hash__ = None  # type: ignore[assignment]  # as a list

    def take(self, rows: np.ndarray) -> Paths:
        """The paths `rows`, in that order, in the same block."""
        taken = Paths(())
        taken._block, taken._ends, taken._rows = self._block, self._ends, self._rows[rows]
        return taken


class Listing(NamedTuple):
    """What a folder holds.

    Attributes:
        files: The images.
        class_of: int64 `[n]`, the class of each; empty without classes.
        names: Of the classes; empty without.
        odd: Entries that were passed over, as they can be printed.
    """

    files: Sequence[str]
    class_of: np.ndarray
    names: tuple[str, ...]
    odd: tuple[str, ...]


def indexed(folder: Path, make: Callable[[list[str]], Listing]) -> Listing:
    """What `make` lists, or the kept list of it where no folder has changed since.

    Args:
        folder: The folder.
        make: Lists it, and appends every folder that it looks into, before it does, to its argument.
    """
    began, place = time.time(), _place(folder)
    kept = _load(place)
    if kept is not None:
        log.info("%s: list of %d files taken from %s: no folder has changed", folder, len(kept.files), place)
        return kept
    seen: list[str] = []
    found = make(seen)
    found = found._replace(files=Paths(found.files))
    if len(found.files) >= LEAST:
        _keep(place, found, seen, began)
    return found


def _place(folder: Path) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    # Paths are kept as they were given, relative or not.
    key = hashlib.blake2b(os.fsencode(f"{folder.absolute()}\0{folder}"), digest_size=12).hexdigest()
    return cache / "ssl_mi" / "folders" / f"{key}.npz"


def _stamps(folders: Iterable[str]) -> np.ndarray:
    """int64 [k, 3]: device, file number and time of the last change (ns)."""
    found = [os.stat(folder) for folder in folders]
    return np.array([[s.st_dev, s.st_ino, s.st_mtime_ns] for s in found], np.uint64).view(np.int64).reshape(-1, 3)


def _load(place: Path) -> Listing | None:
    """The list of an index, unless it is missing, damaged or out of date."""
    try:
        with open(place, "rb") as file, np.load(file, allow_pickle=False) as kept:
            if int(kept["version"]) != _VERSION or not np.array_equal(_stamps(_words(kept["seen"])), kept["stamps"]):
                return None
            files = Paths(())
            files._block, files._ends = kept["files"], kept["ends"]
            files._rows = np.arange(len(files._ends) - 1)
            return Listing(files, kept["class_of"], tuple(_words(kept["names"])), tuple(_words(kept["odd"])))
    except FileNotFoundError:  # no index, or a folder that is not there any more
        return None
    except Exception as error:
        log.warning("%s is damaged (%s): the folder is listed again", place, " ".join(str(error).split()))
        return None


def _keep(place: Path, found: Listing, seen: Sequence[str], began: float) -> None:
    """Write an index beside its place and move it there, where that can be done."""
    temporary = None
    try:
        stamps = _stamps(seen)
        if stamps[:, 2].max() > (began - _SETTLED) * 1e9:
            return  # still changing: a later change might not be told from this one
        place.parent.mkdir(parents=True, exist_ok=True)
        files = found.files
        assert isinstance(files, Paths)
        with tempfile.NamedTemporaryFile(dir=place.parent, suffix=".tmp", delete=False) as file:
            temporary = file.name
            np.savez(
                file, version=_VERSION, seen=_block(seen), stamps=stamps, files=files._block, ends=files._ends,
                class_of=found.class_of, names=_block(found.names), odd=_block(found.odd),
            )  # fmt: skip
        os.replace(temporary, place)
        log.info("list of %d files kept in %s", len(found.files), place)
    except OSError as error:
        log.info("the list of %d files is not kept: %s", len(found.files), error)
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)


def _block(words: Sequence[str]) -> np.ndarray:
    return np.frombuffer(b"".join(os.fsencode(word) + b"\0" for word in words), np.uint8)


def _words(block: np.ndarray) -> list[str]:
    return [os.fsdecode(word) for word in block.tobytes().split(b"\0")[:-1]]
