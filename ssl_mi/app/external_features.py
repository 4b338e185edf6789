"""Features that are evaluated: arrays, .npy files and tables, with their labels, splits and paired features."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ssl_mi.data import SampleSet
from ssl_mi.data.sets import stratified_order

NAMES = ("train", "val", "test")
BESIDE = ("label", "split", "file")  # columns of a table that are no features
LARGEST = 1e18  # of a feature: float32 holds no square of more


class _Rows:
    """Features as the samples of a set, and those of a second view beside them."""

    def __init__(self, h: Tensor, other: Tensor | None = None) -> None:
        self.h, self.other = h, other

    def __len__(self) -> int:
        return len(self.h)

    def take(self, rows: Tensor) -> _Rows:
        return _Rows(self.h[rows], None if self.other is None else self.other[rows])


class _Source(NamedTuple):
    h: Tensor
    index: Tensor  # type: ignore[assignment]  # shadows tuple.index
    labels: Tensor | None
    other: Tensor | None = None


class _Views(NamedTuple):
    views: list[Tensor]


class FeatureData:
    """Features and labels, split as a run splits images: an `EvaluationData`.

    Args:
        features: float `[n, d]`.
        labels: Integers or strings `[n]` for classes, floats `[n]` or `[n, k]` for targets that are numbers; None for
            none.
        seed: Of the splits, which spread the classes evenly.
        test_fraction, val_fraction: Of all rows, and of the rest.
        splits: "train", "val" or "test" for each row; None for random splits. Without "val", a tenth of "train".
        paired: float `[n, d']`, features of a second view of each sample: another crop, or its caption.
        names: Of the rows, for lists; "" for none.

    Raises:
        ValueError: If rows and labels do not match, or a feature is not finite.
    """

    known = None
    batch_size = 1
    draws_views = False

    def __init__(
        self,
        features: Tensor,
        labels: np.ndarray | None,
        seed: int = 0,
        test_fraction: float = 0.2,
        val_fraction: float = 0.1,
        splits: np.ndarray | None = None,
        paired: Tensor | None = None,
        names: Sequence[str] = (),
    ) -> None:
        for what, rows in {"the features": features, "the paired features": paired}.items():
            if rows is not None and (bad := int((~rows.isfinite()).any(1).sum())):
                raise ValueError(f"{bad} of {len(rows)} rows of {what} hold NaN or infinity: leave them out")
            if rows is not None and len(rows) and (most := rows.abs().max().item()) > LARGEST:
                raise ValueError(f"{what} reach {most:.3g}, whose square is beyond float32: divide them by a constant")
        for what, found in {"labels": labels, "splits": splits, "paired features": paired}.items():
            if found is not None and len(found) != len(features):
                raise ValueError(f"{len(features)} rows of features but {len(found)} {what}")
        codes, classes, targets = _known(labels)
        self.seed, self.paired, self.names = seed, paired is not None, tuple(names)
        everything = SampleSet("features", _Rows(features.float(), paired), codes, classes, targets)
        self.rows = _split_rows(codes, len(features), seed, test_fraction, val_fraction, splits)
        self.labelled, self.val, self.test = (everything.take(self.rows[name]) for name in NAMES)
        self.given_splits = splits is not None

    def row_names(self, split: str, row: int) -> str:
        """The name of a row of a split, or its number among all."""
        at = int(self.rows[split][row])
        return self.names[at] if self.names else str(at)

    def batches(
        self, split: str, limit: int | None = None, batch_size: int = 512, shard: tuple[int, int] = (0, 1)
    ) -> Iterator[_Source]:
        """See `EvaluationData.batches`."""
        samples: SampleSet = getattr(self, split)
        for rows in torch.arange(len(samples))[:limit].tensor_split(shard[1])[shard[0]].split(batch_size):
            other = samples.samples.other
            yield _Source(
                samples.samples.h[rows], rows, samples.label_rows(rows), None if other is None else other[rows]
            )

    def clean_views(self, source: _Source) -> list[Tensor]:
        """The features themselves."""
        return [source.h]

    def views(self, source: _Source, draw: int) -> _Views:
        """The features and those that are paired with them, which are never drawn anew."""
        if source.other is None:
            raise ValueError("features have no views: give paired features, or evaluate an encoder on images")
        return _Views([source.h, source.other])

    def to_display(self, view: Tensor) -> None:
        """Nothing can be drawn."""

    def describe(self) -> str:
        """The splits in one line."""
        count = len(self.test.factors)
        targets = f"{'a target' if count == 1 else f'{count} targets'} in numbers" if count else "no labels"
        classes = f"{len(self.test.class_names)} classes" if self.test.labels is not None else targets
        how = "" if self.given_splits else ", at random"
        return f"features: {len(self.labelled)} to fit on, {len(self.val)} val, {len(self.test)} test{how}; {classes}"


def _known(labels: np.ndarray | None) -> tuple[Tensor | None, tuple[str, ...], Mapping[str, Tensor]]:
    """(codes, class names, targets): classes of integers and strings, targets of floats."""
    if labels is None:
        return None, (), {}
    if labels.dtype.kind == "f":
        columns = torch.from_numpy(labels.astype(np.float32)).reshape(len(labels), -1).unbind(1)
        return None, (), {f"target_{i + 1}" if len(columns) > 1 else "target": x for i, x in enumerate(columns)}
    distinct, inverse = np.unique(labels, return_inverse=True)
    return torch.from_numpy(inverse.astype(np.int64)), tuple(map(str, distinct)), {}


def _split_rows(
    codes: Tensor | None, n: int, seed: int, test: float, val: float, splits: np.ndarray | None
) -> dict[str, Tensor]:
    """Rows of "train" (and "labelled"), "val" and "test", each in a random order that spreads the classes."""
    order = stratified_order(codes, n, [seed])
    if splits is None:
        held = round(test * n)
        chosen = round(val * (n - held))
        found = {"test": order[:held], "val": order[held : held + chosen], "train": order[held + chosen :]}
    else:
        words = np.asarray(splits).astype(str)
        if unknown := sorted(set(words) - set(NAMES)):
            raise ValueError(f"splits name {str(unknown[0])!r}: each row is train, val or test")
        found = {name: order[torch.from_numpy(words == name)[order]] for name in NAMES}
        if not len(found["val"]):
            chosen = round(val * len(found["train"]))
            found |= {"val": found["train"][:chosen], "train": found["train"][chosen:]}
    if empty := [name for name in NAMES if not len(found[name])]:
        raise ValueError(f"there are no {empty[0]} rows among {n} rows of features: give more, or other splits")
    return {**found, "labelled": found["train"]}


class FeatureTable(NamedTuple):
    """Features as they were given.

    Attributes:
        features: float32 `[n, d]`.
        labels: `[n]`, or None.
        splits: "train", "val" or "test" for each row, or None.
        names: Of the rows; () for none.
        paired: float32 `[n, d']`, of a second view, or None.
        columns: The names of the features' columns, where each has one; () elsewhere.
        unused: The names of columns that are neither features nor anything else that is known.
    """

    features: Tensor
    labels: np.ndarray | None = None
    splits: np.ndarray | None = None
    names: tuple[str, ...] = ()
    paired: Tensor | None = None
    columns: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()

    def describe(self) -> str:
        """The shape, and which columns of a table it is made of."""
        shown = f" of columns {', '.join(self.columns[:8])}{', ...' if len(self.columns) > 8 else ''}"
        left = f"; columns without numbers are left out: {', '.join(self.unused[:8])}" if self.unused else ""
        return f"features {list(self.features.shape)}{shown if self.columns else ''}{left}"


def features_of(what: Any) -> FeatureTable | None:
    """Features, where `what` is that: an array, a .npy, or a table (.parquet, .csv, .npz) with columns.

    Of a table: `h`, a list or an array in each row, or all columns of numbers whose names are not among label, split,
    file; `label`, `split` and `file` where there are such columns; `h2` for a second view.

    Raises:
        ValueError: On another shape, or a table without numbers.
    """
    if isinstance(what, str | Path) and Path(what).suffix in (".parquet", ".csv", ".npz"):
        return _table(Path(what).expanduser())
    if isinstance(what, str | Path) and str(what).endswith(".npy"):
        what = array_of(what)
    if not isinstance(what, Tensor | np.ndarray):
        return None
    return FeatureTable(_matrix(what))


def _matrix(found: Any, name: str = "features") -> Tensor:
    if found.ndim != 2:
        raise ValueError(f"{name} are [n, d], one row a sample; these are {list(found.shape)}")
    if isinstance(found, np.ma.MaskedArray):
        raise ValueError(f"{name} are a masked array, whose mask would be lost: fill or leave out the masked rows")
    numbers = found.detach().cpu().float().numpy() if isinstance(found, Tensor) else found
    if numbers.dtype.kind not in "fiub":
        raise ValueError(f"{name} are real numbers; these are {numbers.dtype}")
    return torch.from_numpy(np.array(numbers, dtype=np.float32))


def _table(path: Path) -> FeatureTable:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is no file")
    columns = {".parquet": _parquet, ".csv": _csv, ".npz": _npz}[path.suffix](path)
    for name in columns:
        if (meant := name.strip().casefold().removesuffix("s")) in BESIDE and name not in BESIDE:
            raise ValueError(f"{path}: the column '{name}' would be taken for a feature: rename it '{meant}'")
    label = columns.pop("label", None)
    if label is not None and (empty := sum(x is None or x == "" for x in label.tolist())):
        raise ValueError(f"{path}: the column label is empty in {empty} of {len(label)} rows: leave these rows out")
    split, files = columns.pop("split", None), columns.pop("file", None)
    names = () if files is None else tuple(map(str, files))
    paired = columns.pop("h2", None)
    if "h" in columns:
        features = _matrix(np.asarray(columns["h"]), f"{path}: column h: features")
        used: list[str] = []
        unused: tuple[str, ...] = ()
    else:
        used = [name for name, x in columns.items() if x.ndim == 1 and x.dtype.kind in "fiu"]
        unused = tuple(name for name in columns if name not in used)
        if not used:
            raise ValueError(
                f"{path} has neither a column h nor columns of numbers, but {', '.join(columns) or 'none'}: it needs "
                "features in h, or a column each, and may have label, split (train, val, test), file"
            )
        features = _matrix(np.stack([columns[name] for name in used], 1))
    other = None if paired is None else _matrix(np.asarray(paired), f"{path}: column h2: features")
    return FeatureTable(features, label, split, names, other, tuple(used), unused)


def _parquet(path: Path) -> dict[str, np.ndarray]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ValueError(f"{path} needs pyarrow: pip install 'ssl_mi[parquet]'") from error
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise ValueError(f"{path} cannot be read as Parquet: {error}") from error
    found = {}
    for name in table.column_names:
        column = table.column(name).combine_chunks()
        if pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type):
            found[name] = np.asarray(column.flatten()).reshape(len(column), -1)
        else:
            numbers = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
            if numbers and column.null_count and name != "label":
                raise ValueError(f"{path}: the column '{name}' is empty in {column.null_count} rows: leave these out")
            found[name] = np.asarray(column.to_pylist())
    return found


def _csv(path: Path) -> dict[str, np.ndarray]:
    import csv

    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header, *lines = [line for line in csv.reader(file) if line] or [[]]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8: {error}") from error
    if not lines or any(len(line) != len(header) for line in lines):
        raise ValueError(f"{path} is no table: it needs a line of names, and lines of as many cells")
    header = [name.strip() for name in header]
    if doubled := sorted({name for name in header if header.count(name) > 1}):
        raise ValueError(f"{path}: two columns are called '{doubled[0]}': give each a name of its own")
    columns = zip(header, zip(*lines, strict=True), strict=True)
    return {name: _column(path, name, cells) for name, cells in columns}


def _column(path: Path, name: str, cells: Sequence[str]) -> np.ndarray:
    """A column of a CSV file: labels that are whole numbers, numbers, or words."""
    kinds = (np.int64, np.float64) if name == "label" else (np.float64,)
    for kind in kinds:
        try:
            return np.array(cells, dtype=kind)
        except ValueError:
            continue
    odd = [line for line, cell in enumerate(cells, 2) if not _is_number(cell)]
    if len(odd) < len(cells) and name not in ("label", "split", "file"):
        raise ValueError(
            f"{path}: the column '{name}' has numbers, but {cells[odd[0] - 2]!r} in line {odd[0]}"
            f"{f' and {len(odd) - 1} more' if len(odd) > 1 else ''}: leave these lines out, or the column"
        )
    return np.array(cells)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} cannot be read as arrays of numbers: {str(error).splitlines()[0]}") from error
    if "labels" in found:  # as `ssl-mi embed` writes them
        codes, names = found.pop("labels"), found.pop("class_names", None)
        found["label"] = codes if names is None else names[codes]
    if "files" in found:
        found["file"] = found.pop("files")
    found.pop("z", None)
    return found


def labels_of(data: ArrayLike | str | Path) -> np.ndarray:
    """Labels: integers or strings `[n]` for classes, floats `[n]` or `[n, k]` for targets that are numbers.

    Args:
        data: An array, or a .npy file.

    Raises:
        ValueError: If they are something else, or a number is not finite.
    """
    if isinstance(data, np.ma.MaskedArray):
        raise ValueError("labels are a masked array, whose mask would be lost: leave out the masked rows")
    found = array_of(data) if isinstance(data, str | Path) else np.asarray(data)
    if found.dtype.kind == "f" and found.ndim in (1, 2) and found.shape[1:] != (0,):
        if bad := int((~np.isfinite(found)).sum()):
            raise ValueError(f"{bad} of {found.size} labels are NaN or infinite: leave these rows out")
        return found
    if found.ndim != 1 or found.dtype.kind not in "iubUS":
        raise ValueError(
            "labels are integers or strings [n], one a row, or floats [n] for targets that are numbers; these are "
            f"{found.dtype} {list(found.shape)}"
        )
    return found


def array_of(path: str | Path) -> np.ndarray:
    """The array in a .npy file.

    Raises:
        ValueError: If it cannot be read without running its code.
    """
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} cannot be read as an array of numbers: {str(error).splitlines()[0]}") from error
