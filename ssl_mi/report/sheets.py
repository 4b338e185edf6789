"""Many small pictures in one image."""

from __future__ import annotations

import base64
import io
import math
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

PNG_LIMIT = 1_000_000  # bytes above which a sheet is a JPEG


class Sheet(NamedTuple):
    """Pictures beside each other, row by row.

    Attributes:
        image: The bytes of a PNG, or of a JPEG where that PNG were large.
        columns: Pictures a row.
    """

    image: bytes
    columns: int


def sheet(pictures: np.ndarray) -> Sheet:
    """One image of `pictures: uint8 [n, s, s, c]`, c 1 or 3 (of other channels the first three are shown).

    Args:
        pictures: What it holds.
    """
    n, side, _, channels = pictures.shape
    if channels not in (1, 3):
        pictures = pictures[..., :3] if channels > 3 else pictures[..., :1]
        channels = pictures.shape[-1]
    columns = math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    canvas = np.zeros((rows * columns, side, side, channels), np.uint8)
    canvas[:n] = pictures
    grid = canvas.reshape(rows, columns, side, side, channels).transpose(0, 2, 1, 3, 4)
    grid = grid.reshape(rows * side, columns * side, channels)
    image = Image.fromarray(grid.squeeze(-1) if channels == 1 else grid)
    found = _encoded(image, "PNG", optimize=True)
    if len(found) > PNG_LIMIT:
        found = _encoded(image, "JPEG", quality=85)
    return Sheet(found, columns)


def data_uri(image: bytes) -> str:
    """The image as an address that holds it.

    Args:
        image: Bytes of a PNG or JPEG.
    """
    kind = "png" if image.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


def _encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
