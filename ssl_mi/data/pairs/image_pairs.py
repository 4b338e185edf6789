"""Two images of one thing: two cameras, before and after, two stains."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ssl_mi.data.images.decoding import File
from ssl_mi.data.pairs import images as files
from ssl_mi.data.pairs.blocks import Blocks
from ssl_mi.data.pairs.images import Reading
from ssl_mi.data.pairs.module import PairedData, group_names, label_codes
from ssl_mi.data.pairs.tables import is_spec, read_table, split_spec
from ssl_mi.data.pairs.views import PairViews
from ssl_mi.data.sets import SampleSet

log = logging.getLogger(__name__)

EXAMPLE = "example"
FOLDER = "folder"
_SIDE = 24  # pixels of the example's images


class _Listed(NamedTuple):
    """Image files of both sides, with what is known of each pair."""

    name: str
    x: list[File]
    y: list[File]
    names: list[str]
    labels: Any
    groups: np.ndarray | None


class ImagePairData(PairedData):
    """Pairs of images, from two folders or from two columns of a table.

    Images of two folders are matched by their relative name without the suffix: `a/01.png` and `a/01.tif`. Those
    without a partner are named and left out.

    Args:
        x: A folder; or a column of `table`; or "example": scikit-learn's 1,797 digits, each in two stains.
        augmentation: The views: an `ImageView` of block 0 and one of block 1.
        batch_size: Pairs per step, over all processes.
        size: Side of a view, in pixels; "auto" in a configuration.
        mean, std: Per channel, of images in [0, 1]; they belong to `augmentation`.
        y: The other folder or column.
        table: A .csv, .tsv, .parquet or .jsonl with columns x and y; None for two folders.
        root: The folder that the names in a table are relative to; None for that of the table.
        labels: Classes for probes: a column of the table, or "folder": the folder below x that an image is in.
        groups: What pairs have in common, as labels: pairs of one group are on one side of every split.
        in_memory, memory_gb, on_error: See `ImageFiles`.
        channels, levels, max_megapixels: See `Decoder`.
        upscale: Allow images smaller than `size`.
        val_fraction, test_fraction, limit, seed: See `PairedData`.

    Raises:
        FileNotFoundError: If folders, the table or images are missing.
        ValueError: If no images match, on unknown columns, and on numbers that cannot work.
    """

    def __init__(
        self,
        x: str,
        augmentation: PairViews,
        batch_size: int,
        size: int | str,
        mean: Sequence[float],
        std: Sequence[float],
        y: str | None = None,
        table: str | None = None,
        root: str | None = None,
        labels: str | None = None,
        groups: str | None = None,
        in_memory: bool | str = "auto",
        memory_gb: float = 4.0,
        on_error: str = "skip",
        channels: int = 3,
        levels: Sequence[float] | None = None,
        max_megapixels: float = 100.0,
        upscale: bool = False,
        val_fraction: float = 0.15,
        test_fraction: float = 0.15,
        limit: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(augmentation, batch_size, val_fraction, test_fraction, limit, seed)
        if (x == EXAMPLE) != (y == EXAMPLE):
            raise ValueError(f"data.x={x} and data.y={y}: give both, or data.x=example data.y=example")
        if y is None:
            raise ValueError(f"data.x={x} has no partner: set data.y to the other folder or column")
        self.reading = Reading(in_memory, memory_gb, on_error, channels, levels, max_megapixels)
        self.reading.check()
        self.x, self.y, self.table, self.root = x, y, table, root
        self.labels_from, self.groups_from = labels, groups
        self.size, self.upscale = size, upscale
        self.unmatched: list[str] = []

    def survey(self) -> dict[str, Any]:
        """The size of the views."""
        if self.x == EXAMPLE:
            return {"size": _SIDE}
        found = self._listed()
        return {"size": min(files.suitable_size(some, self.reading) for some in (found.x, found.y))}

    def load(self) -> tuple[SampleSet, np.ndarray | None]:
        """Both images of each pair, decoded where they fit into memory."""
        if self.x == EXAMPLE:
            return _two_stains(), None
        found = self._listed()
        if self.unmatched:
            log.warning(
                "%d images have no partner and are left out: %s%s",
                len(self.unmatched),
                ", ".join(self.unmatched[:5]),
                ", ..." if len(self.unmatched) > 5 else "",
            )
        codes, classes = label_codes(f"data.labels={self.labels_from}", found.labels)
        side = int(self.size)
        both = [
            files.block_of(some, side, self.reading, f"data.{key}") for key, some in (("x", found.x), ("y", found.y))
        ]
        self.decoder = files.decoder_settings(both)
        blocks, rows, skipped = files.decoded(both)
        files.check_sizes(blocks, side, self.upscale)
        of = Blocks(blocks, [found.names[i] for i in rows.tolist()])
        groups = None if found.groups is None else found.groups[rows.numpy()]
        return SampleSet(found.name, of, None if codes is None else codes[rows], classes, skipped=skipped), groups

    def _listed(self) -> _Listed:
        return self._of_folders() if self.table is None else self._of_table(self.table)

    def _of_table(self, spec: str) -> _Listed:
        path, _ = split_spec(spec, "data.table")
        table = read_table(path, "data.table")
        x, y = (
            files.column_files(table, column, self.root, key)
            for column, key in ((self.x, "data.x"), (self.y, "data.y"))
        )
        labels = None if self.labels_from is None else table.column(self.labels_from, "data.labels")
        if self.groups_from is None:
            groups = files.grouped_by(x)
        else:
            groups = group_names(f"data.groups={self.groups_from}", table.column(self.groups_from, "data.groups"))
        return _Listed(path.name, x, y, list(map(str, x)), labels, groups)

    def _of_folders(self) -> _Listed:
        if is_spec(self.x):
            raise ValueError(
                f"data.x={self.x} is a table: set data.table={self.x}, and data.x and data.y to its columns"
            )
        x, y = files.images_below(self.x, "data.x"), files.images_below(self.y, "data.y")
        names = sorted(set(x) & set(y))
        if not names:
            raise ValueError(
                f"data.x={self.x} and data.y={self.y} have no image of the same relative name: the first ones are "
                f"{min(x)} and {min(y)}"
            )
        self.unmatched = [
            *(x[name] for name in sorted(set(x) - set(y))),
            *(y[name] for name in sorted(set(y) - set(x))),
        ]
        folders = np.array([Path(name).parent.as_posix() for name in names])
        labels, groups = (
            self._folders(folders, given, key)
            for given, key in ((self.labels_from, "labels"), (self.groups_from, "groups"))
        )
        of = f"{self.x} and {self.y}"
        return _Listed(of, [x[name] for name in names], [y[name] for name in names], names, labels, groups)

    @staticmethod
    def _folders(folders: np.ndarray, given: str | None, key: str) -> np.ndarray | None:
        if given is None:
            return None
        if given != FOLDER:
            raise ValueError(
                f"data.{key}={given}: of two folders, data.{key}=folder is all there is; or use data.table"
            )
        return folders

    def report(self) -> dict[str, Any]:
        """As of any pairs, with the images that have no partner."""
        return {**super().report(), "unmatched": len(self.unmatched)}


def _two_stains() -> SampleSet:
    """scikit-learn's 1,797 digits: one image is the digit, the other its outline, each with colours, place and noise of
    its own."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    rng = np.random.default_rng(20807)
    ink = torch.from_numpy(digits.images).float()[:, None] / 16
    ink = interpolate(ink, (16, 16), mode="bilinear")
    ink = torch.nn.functional.pad(ink, [4, 4, 4, 4])
    outline = ((ink.roll(1, 2) - ink.roll(-1, 2)).square() + (ink.roll(1, 3) - ink.roll(-1, 3)).square()).sqrt()
    blocks = files.example_images([_stained(shape.clamp(0, 1), rng) for shape in (ink, outline)])
    names = [f"digit {i}" for i in range(len(ink))]
    labels = torch.from_numpy(digits.target).long()
    return SampleSet("the example (digits in two stains)", Blocks(blocks, names), labels, tuple("0123456789"))


def _stained(shape: Tensor, rng: np.random.Generator) -> Tensor:
    """Shapes `[n, 1, s, s]` in [0, 1] -> uint8 `[n, 3, s, s]`: moved by up to 3 pixels, in two colours, with noise."""
    moves = rng.integers(-3, 4, (len(shape), 2)).tolist()
    moved = torch.stack([one.roll(move, (1, 2)) for one, move in zip(shape, moves, strict=True)])
    colours = torch.from_numpy(rng.uniform(0, 1, (2, len(shape), 3, 1, 1))).float()
    paper, stain = 0.5 + 0.5 * colours[0], 0.5 * colours[1]
    noise = torch.from_numpy(rng.standard_normal(tuple(shape.shape))).float()
    return ((paper * (1 - moved) + stain * moved + 0.05 * noise).clamp(0, 1) * 255).byte()
