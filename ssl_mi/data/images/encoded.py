"""Images that are encoded inside something larger: cells of a table, members of an archive."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np


class EncodedImage:
    """An image as its file holds it, wherever that is kept. What has a name and bytes is decoded as a file is.

    Args:
        name: What messages call it; an `os.PathLike` of that name, below the folder that it comes from.
        read: Gives the bytes, each time that it is asked.
    """

    def __init__(self, name: str, read: Callable[[], bytes]) -> None:
        self.name, self.read = name, read

    def __fspath__(self) -> str:
        return self.name

    def __str__(self) -> str:
        return self.name


class EncodedImages(Sequence[EncodedImage]):
    """Encoded images in a fixed order, none of which is read before it is decoded.

    Args:
        image: Gives the image number i.
        rows: int64 `[n]`, the numbers of the images.
    """

    def __init__(self, image: Callable[[int], Any], rows: np.ndarray) -> None:
        self._image, self._rows = image, rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, row: int) -> EncodedImage: ...
    @overload
    def __getitem__(self, row: slice) -> EncodedImages: ...
    def __getitem__(self, row: int | slice) -> EncodedImage | EncodedImages:
        if isinstance(row, slice):
            return EncodedImages(self._image, self._rows[row])
        return self._image(int(self._rows[row]))

    def take(self, rows: np.ndarray) -> EncodedImages:
        """The images `rows`, in that order."""
        return EncodedImages(self._image, self._rows[rows])


def encoded_bytes(cell: Any, folder: Path) -> bytes:
    """The bytes of an image in a cell of a table.

    Args:
        cell: The bytes; `{"bytes": ..., "path": ...}`, as Hugging Face `datasets` keep images; the name of a file; an
            array of pixels, `[h, w]`, `[h, w, c]` or `[c, h, w]`.
        folder: What names of files are relative to.

    Raises:
        ValueError: On anything else; decoding puts the name of the cell in front.
    """
    if cell is None:
        raise ValueError("the cell is empty")
    if isinstance(cell, dict) and ("bytes" in cell or "path" in cell):
        content = cell.get("bytes")
        return encoded_bytes(cell.get("path") if content is None else content, folder)
    if isinstance(cell, bytes | bytearray | memoryview):
        return bytes(cell)
    if isinstance(cell, str):
        return (folder / Path(cell).expanduser()).read_bytes()
    if isinstance(cell, list | np.ndarray):
        file = io.BytesIO()
        pixels = np.asarray(cell)
        np.save(file, pixels, allow_pickle=False)
        return file.getvalue()
    raise ValueError(f"the cell holds {type(cell).__name__}, which is no image")
