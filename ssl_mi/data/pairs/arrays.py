"""Two blocks of numbers that were measured of the same things: tables, arrays, embeddings of two models."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ssl_mi.data.pairs.blocks import Blocks, TensorBlock
from ssl_mi.data.pairs.module import PairedData, group_names, label_codes, replace_samples
from ssl_mi.data.pairs.tables import Matrix, Table, is_spec, read_matrix, read_table, split_spec
from ssl_mi.data.pairs.views import PairViews
from ssl_mi.data.sets import SampleSet

log = logging.getLogger(__name__)

EXAMPLE = "example"
MISSING = ("error", "mean", "mask")


class ArrayData(PairedData):
    """Two blocks of measurements, or one that is seen twice.

    Row i of x and row i of y are the same thing: a patient, a cell, a moment. Without y both views are of x (SCARF).
    Columns are standardised by the training rows, (value - mean) / standard deviation, unless `standardize` is False.

    Args:
        x: `FILE` or `FILE:columns` (.npy, .csv, .tsv, .parquet, .jsonl; columns as `a|b|rna_*`), or "example".
        augmentation: The views.
        batch_size: Samples per step, over all processes.
        y: The second block, as x; None for one block.
        labels: Classes for probes: a column of the table of x, or `FILE`, or `FILE:column`; None without.
        groups: What rows have in common, as labels: rows of one group are on one side of every split.
        missing: What becomes of missing values: "error" refuses them, by column and count; "mean" replaces them by the
            mean of the training rows; "mask" does so and adds a column for each that has some, 1 where it is observed.
        standardize: Whether columns are standardised.
        x_dim, y_dim: Width of the blocks; "auto" in a configuration, else checked. y_dim is x_dim without y.
        val_fraction, test_fraction, limit, seed: See `PairedData`.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: On unequal numbers of rows, missing values, unknown columns, what is no number.
    """

    kind = "rows"

    def __init__(
        self,
        x: str,
        augmentation: PairViews,
        batch_size: int,
        y: str | None = None,
        labels: str | None = None,
        groups: str | None = None,
        missing: str = "error",
        standardize: bool = True,
        x_dim: int | str = "auto",
        y_dim: int | str = "auto",
        val_fraction: float = 0.15,
        test_fraction: float = 0.15,
        limit: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(augmentation, batch_size, val_fraction, test_fraction, limit, seed)
        if missing not in MISSING:
            raise ValueError(f"data.missing={missing}: choose error (refuse them), mean or mask")
        if y == EXAMPLE and x != EXAMPLE:
            raise ValueError(
                f"data.y=example goes with data.x=example, not with data.x={x}: give data.y, or data.y=null"
            )
        self.x, self.y, self.labels_from, self.groups_from = x, y, labels, groups
        self.missing, self.standardize = missing, standardize
        self.dims = [x_dim, x_dim if y is None else y_dim]
        self.columns: list[dict[str, Any]] = []  # of each block, how its columns were standardised
        most = max(view.block for view in augmentation.views)
        if most > (y is not None):
            raise ValueError(
                f"a view shows block {most}, and data.y is not set: give data.y, or the views of one block: "
                "augmentation=scarf with towers=siamese"
            )

    def survey(self) -> dict[str, Any]:
        """The widths of the blocks."""
        whole, _ = self.load()
        widths = [block.x.shape[1] for block in whole.samples.blocks]
        return {"x_dim": widths[0], "y_dim": widths[-1]}

    def load(self) -> tuple[SampleSet, np.ndarray | None]:
        """The blocks as they are in the files, NaN where a value is missing, with columns of the mask behind."""
        if self.x == EXAMPLE:
            matrices, labels, groups = _digit_halves(one=self.y is None)
        else:
            matrices, labels, groups = self._read()
        blocks = []
        for key, matrix, dim in zip(("data.x", "data.y"), matrices, self.dims, strict=False):
            block = self._without_missing(matrix, key)
            if dim not in ("auto", block.shape[1]):
                raise ValueError(f"{key}_dim={dim}, but {key} has {block.shape[1]} columns: leave it auto")
            blocks.append(TensorBlock(torch.from_numpy(block)))
        names = [f"row {i}" for i in range(len(matrices[0].values))]
        of = "the example (digits)" if self.x == EXAMPLE else str(self.x) + (f" and {self.y}" if self.y else "")
        codes, classes = label_codes("data.labels", labels)
        return SampleSet(of, Blocks(blocks, names), codes, classes), groups

    def _read(self) -> tuple[list[Matrix], Any, np.ndarray | None]:
        specs = {"data.x": self.x, **({} if self.y is None else {"data.y": self.y})}
        beside = [name for name in (self.labels_from, self.groups_from) if name is not None]
        matrices = [read_matrix(spec, key, without=beside) for key, spec in specs.items()]
        counts = [len(matrix.values) for matrix in matrices]
        if len(set(counts)) > 1:
            raise ValueError(
                f"data.x={self.x} has {counts[0]} rows and data.y={self.y} has {counts[1]}: row i of both has to be "
                "the same thing"
            )
        labels = _beside(self.labels_from, "data.labels", matrices[0].table, counts[0])
        groups = _beside(self.groups_from, "data.groups", matrices[0].table, counts[0])
        return matrices, labels, None if groups is None else group_names(f"data.groups={self.groups_from}", groups)

    def _without_missing(self, matrix: Matrix, key: str) -> np.ndarray:
        gaps = np.isnan(matrix.values)
        counts = gaps.sum(0)
        some = np.flatnonzero(counts)
        if not len(some):
            return matrix.values
        if self.missing == "error":
            shown = ", ".join(f"'{matrix.names[i]}' ({counts[i]})" for i in some[:5])
            more = f" and {len(some) - 5} more columns" if len(some) > 5 else ""
            raise ValueError(
                f"{key}: values are missing in {shown}{more}, of {len(gaps)} rows: set data.missing=mean or "
                "data.missing=mask, or leave those columns or rows out"
            )
        if empty := [matrix.names[i] for i in some if counts[i] == len(gaps)]:
            raise ValueError(f"{key}: column '{empty[0]}' has no value at all: leave it out")
        if self.missing == "mean":
            return matrix.values
        return np.hstack([matrix.values, 1.0 - gaps[:, some]])

    def fitted(self, samples: SampleSet, train: Tensor) -> SampleSet:
        """Columns standardised by the training rows; what is missing becomes their mean."""
        blocks = []
        for key, block in zip(("x", "y"), samples.samples.blocks, strict=False):
            scaled, scaling = _standardised(block.x, train, self.standardize)
            if constant := [i for i, s in enumerate(scaling.constant) if s]:
                log.warning(
                    "data.%s: %d columns are constant in the training rows, the first is column %d: they carry no "
                    "information",
                    key,
                    len(constant),
                    constant[0],
                )
            self.columns.append({"mean": scaling.mean, "std": scaling.std})
            blocks.append(TensorBlock(scaled))
        return replace_samples(samples, Blocks(blocks, samples.samples.names))

    def preprocessing(self) -> dict[str, Any]:
        """Mean and standard deviation of the columns of each block: an encoder takes (value - mean) / std."""
        return {**super().preprocessing(), "columns": self.columns}

    def _form(self) -> str:
        widths = " and ".join(str(block.x.shape[1]) for block in self._split("train").samples.blocks)
        return f"{super()._form()}; {widths} columns"


class _Scaling(NamedTuple):
    mean: list[float]
    std: list[float]
    constant: list[bool]


def _standardised(x: Tensor, train: Tensor, standardize: bool) -> tuple[Tensor, _Scaling]:
    """float32 `[N, d]`, and by what; a column that is constant in training is divided by 1."""
    rows = x[train].double()
    observed = ~rows.isnan()
    count = observed.sum(0).clamp_min(1)
    mean = rows.nan_to_num(0.0).sum(0) / count
    variance = ((rows - mean).nan_to_num(0.0)).square().sum(0) / count
    std = variance.sqrt()
    # Relative to the size of the values: a large constant has a variance of rounding errors.
    constant = std <= 1e-9 * mean.abs().clamp_min(1e-300)
    std = torch.where(constant, torch.ones_like(std), std)
    full = torch.where(x.isnan(), mean, x.double())
    if not standardize:
        mean, std = torch.zeros_like(mean), torch.ones_like(std)
    scaled = ((full - mean) / std).float()
    return scaled, _Scaling(mean.tolist(), std.tolist(), constant.tolist())


def _beside(spec: str | None, key: str, table: Table | None, n: int) -> np.ndarray | None:
    """One value a row from a column of the table of x, or from a file of their own."""
    if spec is None:
        return None
    if table is not None and spec in table.columns:
        values = table.columns[spec]
    elif table is not None and not is_spec(spec):
        values = table.column(spec, key)
    else:
        values = _one_column(spec, key)
    if len(values) != n:
        raise ValueError(f"{key}={spec} has {len(values)} values for {n} rows")
    return values


def _one_column(spec: str, key: str) -> np.ndarray:
    path, wanted = split_spec(spec, key)
    if path.suffix.lower() == ".npy":
        values = np.load(path, allow_pickle=False)
        if values.ndim != 1:
            raise ValueError(f"{key}={spec}: {list(values.shape)}; one value a row is needed, [n]")
        return values
    table = read_table(path, key)
    names = table.names_like(wanted, key)
    if len(names) != 1:
        raise ValueError(f"{key}={spec}: {len(names)} columns; name one, as {path.name}:{names[0]}")
    return table.columns[names[0]]


def _digit_halves(one: bool) -> tuple[list[Matrix], Sequence[int], None]:
    """scikit-learn's 1,797 digits of 8 x 8 pixels: the left and the right half are the two blocks; or all as one."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = digits.images.astype(np.float64)
    halves = [pixels] if one else [pixels[:, :, :4], pixels[:, :, 4:]]
    flat = [half.reshape(len(pixels), -1) for half in halves]
    return [Matrix(x, [f"pixel {i}" for i in range(x.shape[1])], None) for x in flat], digits.target, None
