"""Blocks of images: from files that a table or two folders name, or drawn for the examples."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ssl_mi.data.contracts import Images
from ssl_mi.data.images.decoding import EXTENSIONS, Decoder, File
from ssl_mi.data.images.encoded import EncodedImage, EncodedImages, encoded_bytes
from ssl_mi.data.images.files import ImageFiles, survey
from ssl_mi.data.images.memory import TensorImages
from ssl_mi.data.known.views import KnownViews, Pairs
from ssl_mi.data.pairs.blocks import ImageBlock
from ssl_mi.data.pairs.tables import Table

log = logging.getLogger(__name__)

LARGEST = 224  # side of a view that `auto` chooses, in pixels
_SAMPLE = 64  # images whose headers are looked at for `auto`
_MARGIN = 1.15  # images that stay in files are read this much larger than a view, so that crops have room


class Reading(NamedTuple):
    """How image files are read.

    Attributes:
        in_memory, memory_gb, on_error: See `ImageFiles`.
        channels, levels, max_megapixels: See `Decoder`.
    """

    in_memory: bool | str = "auto"
    memory_gb: float = 4.0
    on_error: str = "skip"
    channels: int = 3
    levels: Sequence[float] | None = None
    max_megapixels: float = 100.0

    def decoder(self, bits: int | None = None) -> Decoder:
        """How files become pixels; bits: in use in pixels of more than 8 bits."""
        levels: Any = None if self.levels is None else tuple(self.levels)  # of any length, which the decoder checks
        return Decoder(self.channels, levels, bits, self.max_megapixels, key="data")

    def check(self) -> None:
        """Raise ValueError for a word that is not known, and for numbers out of range."""
        self.decoder()
        if self.in_memory not in (True, False, "auto"):
            raise ValueError(f"data.in_memory={self.in_memory} is none of auto, true, false")
        if self.on_error not in ("error", "skip"):
            raise ValueError(f"data.on_error={self.on_error} is neither 'error' nor 'skip'")


class Drawn(NamedTuple):
    """What a generator draws for an example.

    Attributes:
        views: What it shows of each pair: images uint8 `[N, c, h, w]`, or tokens int64 `[N, length]`.
        labels: int64 `[N]`.
        class_names: One per class.
    """

    views: list[Tensor]
    labels: Tensor
    class_names: tuple[str, ...]


def drawn(known: KnownViews, n: int, seed: int) -> Drawn:
    """The first n pairs of a generator.

    Args:
        known: The generator, with a label.
        n: Pairs.
        seed: Of the pairs.
    """
    assert known.label is not None
    parts, labels = [], []
    for rows in torch.arange(n).split(256):
        pairs = Pairs(seed, 0, 0, rows)
        latents = known.latents(pairs)
        parts.append([known.render(u, pairs, view) for view, u in enumerate(latents)])
        labels.append(known.factors(latents[0])[known.label])
    views = [torch.cat(some) for some in zip(*parts, strict=True)]
    return Drawn(views, torch.cat(labels).long(), known.class_names)


def existing(cells: Sequence[Any], folder: Path, key: str, of: str) -> list[File]:
    """The images that a column names, all of which are there, or holds.

    Args:
        cells: Names of files; those that are not absolute are relative to `folder`. Or the images themselves, encoded.
        folder: Where they are.
        key: Of the configuration, for messages.
        of: What names them, for messages.

    Raises:
        FileNotFoundError: If some are not there, with their number and the first.
        ValueError: On an empty entry, and on one that is no image.
    """
    empty = [row for row, cell in enumerate(cells) if cell is None or (isinstance(cell, str) and not cell.strip())]
    if empty:
        raise ValueError(f"{key}: {len(empty)} entries of {of} are empty, the first in row {empty[0]}")
    found = [_image_of(cell, folder, f"{of}, row {row}") for row, cell in enumerate(cells)]
    if odd := [row for row, file in enumerate(found) if file is None]:
        raise ValueError(
            f"{key}: {len(odd)} entries of {of} are neither names of files nor images, the first in row {odd[0]}: "
            f"{str(cells[odd[0]])[:40]}"
        )
    files = [file for file in found if file is not None]
    missing = [row for row, file in enumerate(files) if isinstance(file, str) and not os.path.isfile(file)]
    if missing:
        raise FileNotFoundError(
            f"{key}: {len(missing)} of {len(files)} images that {of} names do not exist, the first in row "
            f"{missing[0]}: {files[missing[0]]}; names are relative to data.root={folder}"
        )
    return files


def _image_of(cell: Any, folder: Path, name: str) -> File | None:
    """The image in a cell of a table; None where it is none."""
    if isinstance(cell, EncodedImage):
        return cell
    if isinstance(cell, str | os.PathLike):
        return str(folder / Path(str(cell).strip()).expanduser())
    if isinstance(cell, bytes | list | np.ndarray) or (isinstance(cell, dict) and {"bytes", "path"} & set(cell)):
        return EncodedImage(str(folder / name), partial(encoded_bytes, cell, folder))
    return None


def column_files(table: Table, column: str, root: str | None, key: str) -> list[File]:
    """The images that a column of a table names or holds.

    Args:
        table: The table.
        column: Its column.
        root: The folder that names are relative to; None for that of the table.
        key: Of the configuration, for messages.
    """
    folder = table.path.parent if root is None else Path(root).expanduser()
    return existing(table.column(column, key).tolist(), folder, key, f"column '{column}' of {table.path.name}")


def images_below(folder: str, key: str) -> dict[str, str]:
    """The images of a folder: relative name without suffix -> file.

    Args:
        folder: The folder.
        key: Of the configuration, for messages.

    Raises:
        FileNotFoundError: If there is no such folder, or no image in it.
        ValueError: If two images differ in their suffix only.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"{key}={folder}: there is no folder {root.absolute()}")
    found: dict[str, str] = {}
    for path in sorted(root.rglob("*")):
        if path.suffix.lower() not in EXTENSIONS or path.name.startswith(".") or not path.is_file():
            continue
        name = path.relative_to(root).with_suffix("").as_posix()
        if name in found:
            raise ValueError(f"{key}={folder}: {found[name]} and {path} have one name but for the suffix")
        found[name] = str(path)
    if not found:
        raise FileNotFoundError(f"{key}={folder}: the folder holds no images ({', '.join(EXTENSIONS)})")
    return found


def block_of(paths: Sequence[File], size: int, reading: Reading, of: str) -> tuple[ImageFiles, int]:
    """Image files, and the side of the squares that they are read as.

    Pixels of more than 8 bits have one scale for all files, by the bits that are in use in a sample of them.

    Args:
        paths: The files.
        size: Side of a view, in pixels.
        reading: How they are read.
        of: What names them in the configuration, for messages.
    """
    looked = survey(paths, reading.decoder())
    for note in looked.notes:
        log.warning("%s: %s", of, note)
    some = any(isinstance(path, EncodedImage) for path in paths)
    images: Any = EncodedImages(list(paths).__getitem__, np.arange(len(paths))) if some else paths
    decoder = reading.decoder(looked.bits)
    files = ImageFiles(images, reading.in_memory, reading.memory_gb, reading.on_error, decoder)
    return files, round(size * _MARGIN)


def decoded(blocks: Sequence[tuple[ImageFiles, int]]) -> tuple[list[ImageBlock], Tensor, tuple[str, ...]]:
    """The images that can be used in all blocks.

    Args:
        blocks: As `block_of` gives them, of the same samples.

    Returns:
        The blocks, in memory where they fit; the rows kept (int64 `[n]`); the files left out.
    """
    kept = torch.ones(len(blocks[0][0]), dtype=torch.bool)
    skipped: list[str] = []
    found: list[tuple[Images, Tensor, int]] = []
    for files, side in blocks:
        images, rows, lost = files.decoded()
        here = torch.zeros_like(kept)
        here[rows] = True
        kept &= here
        skipped += lost
        found.append((images, rows, side))
    rows_kept = kept.nonzero().squeeze(1)
    out = []
    for images, rows, side in found:
        places = torch.searchsorted(rows, rows_kept)
        out.append(ImageBlock(images if len(places) == len(images) else images.take(places), side))
    return out, rows_kept, tuple(skipped)


def decoder_settings(blocks: Sequence[tuple[ImageFiles, int]]) -> dict[str, Any]:
    """How the files of all blocks are decoded, in plain values: what a checkpoint keeps.

    Args:
        blocks: As `block_of` gives them. Where two of more than 8 bits use other numbers of them, "bits" is None, and
            an image is taken by its own.
    """
    settings = [files.decoder.settings() for files, _ in blocks]
    deep = {some["bits"] for some in settings} - {None}
    return {**settings[0], "bits": deep.pop() if len(deep) == 1 else None}


def check_sizes(blocks: Sequence[ImageBlock], size: int, upscale: bool) -> None:
    """Refuse images of one size that are smaller than a view, unless they may be enlarged.

    Args:
        blocks: The images.
        size: Side of a view, in pixels.
        upscale: Whether they may.
    """
    for block in blocks:
        shape = block.images.shape
        if shape is not None and min(shape[1:]) < size and not upscale:
            raise ValueError(
                f"the images are {shape[1]}x{shape[2]} pixels, smaller than data.size={size}: use data.size="
                f"{min(shape[1:])}, or data.upscale=true to enlarge them"
            )


def suitable_size(paths: Sequence[File], reading: Reading) -> int:
    """The side of a view for these images: the shortest side of a sample, at most `LARGEST` pixels.

    Args:
        paths: The files.
        reading: How they are read.
    """
    decoder = reading.decoder()
    step = max(1, len(paths) // _SAMPLE)
    sides = []
    for path in paths[::step]:
        try:
            sides.append(min(decoder.size(path)))
        except ValueError:  # such a file is left out later, by name
            continue
    return min([LARGEST, *sides])


def example_images(views: Sequence[Tensor]) -> list[ImageBlock]:
    """Blocks of images that were drawn.

    Args:
        views: uint8 `[N, c, h, w]` each.
    """
    return [ImageBlock(TensorImages(view), view.shape[-1]) for view in views]


def grouped_by(files: Sequence[File]) -> np.ndarray | None:
    """The images as groups where some occur more than once, else None: by their names, or by what they hold.

    Args:
        files: One per sample.
    """
    names = [_content(file) if isinstance(file, EncodedImage) else file for file in files]
    return None if len(set(names)) == len(names) else np.asarray(names, dtype=str)


def _content(image: EncodedImage) -> str:
    try:
        return hashlib.blake2b(image.read(), digest_size=16).hexdigest()
    except (OSError, ValueError):  # named when it is decoded
        return image.name
