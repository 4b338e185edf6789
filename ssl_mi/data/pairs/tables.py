"""Tables in files: .csv, .tsv, .parquet, .jsonl and .npy, without pandas; and sets of Hugging Face `datasets`.

`FILE` names all columns, `FILE:a|b|rna_*` some of them; `*` and `?` stand for letters, and a comma is as good as `|`.
"""

from __future__ import annotations

import csv
import fnmatch
import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ssl_mi import _nearest as nearest
from ssl_mi.data.huggingface import Columns, is_saved

SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl", ".npy", ".arrow")
_SPEC = re.compile(rf"^(.*(?:{'|'.join(re.escape(s) for s in SUFFIXES)}))(?::(.*))?$", re.IGNORECASE)


class Table(NamedTuple):
    """A table in memory.

    Attributes:
        path: Its file.
        columns: Name -> values `[n]`: text from .csv and .tsv, whatever the file has from others.
    """

    path: Path
    columns: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()))) if self.columns else 0

    def column(self, name: str, key: str) -> np.ndarray:
        """The values of one column.

        Args:
            name: Of the column.
            key: Of the configuration, for the message.

        Raises:
            ValueError: If there is none; the message has the nearest name.
        """
        if name not in self.columns:
            near = nearest.hint(name, self.columns) or f"; it has {_few(list(self.columns))}"
            raise ValueError(f"{key}: {self.path.name} has no column '{name}'{near}")
        return self.columns[name]

    def names_like(self, wanted: str | None, key: str, without: Sequence[str] = ()) -> list[str]:
        """The columns that a list of names and patterns means.

        Args:
            wanted: As after the colon; None for all columns but `without`.
            key: Of the configuration, for the message.
            without: Columns that are something else.
        """
        if wanted is None:
            return [name for name in self.columns if name not in without]
        found: list[str] = []
        for part in (some.strip() for some in re.split(r"[|,]", wanted)):
            if part in self.columns or not re.search(r"[*?\[]", part):
                self.column(part, key)
                met = [part]
            else:
                met = [name for name in self.columns if fnmatch.fnmatchcase(name, part)]
                if not met:
                    raise ValueError(f"{key}: no column of {self.path.name} is like '{part}'; it has "
                                     f"{_few(list(self.columns))}")  # fmt: skip
            found += [name for name in met if name not in found]
        return found


def is_spec(text: str) -> bool:
    """Whether a text names a file of a kind that is read here, with or without columns.

    Args:
        text: `FILE`, `FILE:columns` or something else, such as the name of a column.
    """
    return _SPEC.match(text) is not None or _saved_folder(text) is not None


def split_spec(spec: str, key: str) -> tuple[Path, str | None]:
    """`FILE` or `FILE:columns` -> the file, and what stands behind the colon.

    Args:
        spec: As it was written. FILE may be a folder that `save_to_disk` of Hugging Face `datasets` wrote.
        key: Of the configuration, for the message.

    Raises:
        ValueError: On a file of another kind.
        FileNotFoundError: If there is no such file.
    """
    if (folder := _saved_folder(str(spec))) is not None:
        return folder
    match = _SPEC.match(str(spec))
    if match is None:
        raise ValueError(
            f"{key}={spec}: a file is expected whose name ends in {', '.join(SUFFIXES)}, or a folder that save_to_disk "
            "of the datasets package wrote"
        )
    path = Path(match[1]).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"{key}={spec}: there is no file {path.absolute()}")
    return path, match[2] or None


def _saved_folder(spec: str) -> tuple[Path, str | None] | None:
    """A folder of `save_to_disk` and what stands behind the colon; None where the text names none."""
    before, _, behind = spec.rpartition(":")
    for place, columns in ((spec, None), (before, behind or None)):
        path = Path(place).expanduser()
        if place and path.is_dir() and is_saved(path):
            return path, columns
    return None


def read_table(path: Path, key: str) -> Table:
    """Every column of a file.

    Args:
        path: A .csv or .tsv with names in its first line (or numbers only: columns are then called 0, 1, ...), a
            .parquet, a .jsonl with an object a line, or a split of Hugging Face `datasets`.
        key: Of the configuration, for messages.

    Raises:
        ValueError: If the file cannot be read as a table, or has no rows.
    """
    readers: dict[str, Callable[[Path], Mapping[str, np.ndarray]]] = {
        ".csv": _csv,
        ".tsv": _csv,
        ".parquet": _parquet,
        ".jsonl": _jsonl,
    }
    reader: Callable[[Path], Mapping[str, np.ndarray]] | None
    reader = partial(Columns, key=key) if is_saved(path) else readers.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f"{key}={path}: {path.suffix or 'a file without a suffix'} is no table with named columns; "
                         "give a .csv, .tsv, .parquet or .jsonl")  # fmt: skip
    try:
        table = Table(path, reader(path))
    except UnicodeDecodeError as error:
        raise ValueError(f"{key}={path}: the file is not UTF-8 (byte {error.start})") from None
    if not len(table):
        raise ValueError(f"{key}={path}: the table has no rows")
    return table


def _csv(path: Path) -> dict[str, np.ndarray]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = [row for row in csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",") if row]
    if not rows:
        return {}
    header, body = (rows[0], rows[1:])
    if all(_is_number(field) for field in header):
        header, body = [str(i) for i in range(len(rows[0]))], rows
    if doubled := sorted({name for name in header if header.count(name) > 1}):
        raise ValueError(f"{path}: two columns are called '{doubled[0]}'; give each a name of its own")
    for number, row in enumerate(body):
        if len(row) != len(header):
            raise ValueError(f"{path}: row {number} has {len(row)} fields and the first line has {len(header)}")
    return {name: np.array([row[i] for row in body], dtype=object) for i, name in enumerate(header)}


def _parquet(path: Path) -> dict[str, np.ndarray]:
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise ValueError(f'{path}: a .parquet file is read by pyarrow: pip install "ssl_mi[parquet]"') from None
    table = parquet.read_table(path)
    columns = {name: table.column(name).to_numpy(zero_copy_only=False) for name in table.column_names}
    for name, words in _class_names(table.schema.metadata).items():
        numbers = table.column(name).to_pylist()
        columns[name] = np.array([None if i is None or i < 0 else words[i] for i in numbers], dtype=object)
    return columns


def _class_names(metadata: Mapping[bytes, bytes] | None) -> dict[str, list[str]]:
    """Column -> names of its classes, as Hugging Face `datasets` write them beside a parquet table."""
    features = json.loads((metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    return {name: of["names"] for name, of in features.items() if isinstance(of, dict) and "names" in of}


def _jsonl(path: Path) -> dict[str, np.ndarray]:
    found: list[dict[str, Any]] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}: line {number + 1} is no JSON: {error.msg}") from None
        if not isinstance(entry, dict):
            raise ValueError(f"{path}: line {number + 1} is no object with named entries")
        found.append(entry)
    names = list(dict.fromkeys(name for entry in found for name in entry))
    columns = {}
    for name in names:
        columns[name] = np.empty(len(found), dtype=object)
        columns[name][:] = [entry.get(name) for entry in found]
    return columns


class Matrix(NamedTuple):
    """Columns of numbers.

    Attributes:
        values: float64 `[n, d]`; NaN where a value is missing.
        names: One per column.
        table: Where they are from; None for an array.
    """

    values: np.ndarray
    names: list[str]
    table: Table | None


def read_matrix(spec: str, key: str, without: Sequence[str] = ()) -> Matrix:
    """The numbers that `FILE` or `FILE:columns` means.

    Args:
        spec: As it was written.
        key: Of the configuration, for messages.
        without: Columns that are left out where none are named: labels, groups.

    Raises:
        ValueError: On an unknown column, a value that is no number, infinity, an array of another shape.
    """
    path, wanted = split_spec(spec, key)
    if path.suffix.lower() == ".npy":
        if wanted is not None:
            raise ValueError(f"{key}={spec}: the columns of an array have no names; give {path.name} alone")
        values = _array(path, key)
        return Matrix(_no_infinity(values, [str(i) for i in range(values.shape[1])], path, key),
                      [f"column {i}" for i in range(values.shape[1])], None)  # fmt: skip
    table = read_table(path, key)
    names = table.names_like(wanted, key, without)
    if not names:
        raise ValueError(f"{key}={spec}: no columns are left")
    parts = [_vectors(table.column(name, key), name, path, key) for name in names]
    values = np.hstack(parts)
    # A column of vectors counts as many columns as they have entries.
    each = [[name] if part.shape[1] == 1 else [f"{name}[{i}]" for i in range(part.shape[1])]
            for name, part in zip(names, parts, strict=True)]  # fmt: skip
    named = [name for some in each for name in some]
    return Matrix(_no_infinity(values, named, path, key), named, table)


def _array(path: Path, key: str) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False)
    except ValueError as error:
        raise ValueError(f"{key}={path}: not an array of numbers ({error})") from None
    if array.dtype.kind not in "fiub" or array.ndim not in (1, 2) or 0 in array.shape:
        raise ValueError(
            f"{key}={path}: {array.dtype} {list(array.shape)}; an array of numbers [n, d] is needed, rows are samples"
        )
    return array.reshape(len(array), -1).astype(np.float64)


def _vectors(values: np.ndarray, name: str, path: Path, key: str) -> np.ndarray:
    """float64 `[n, d]`: numbers as one column, lists of d numbers as d columns."""
    lists = [isinstance(value, list | tuple | np.ndarray) for value in (values if values.dtype == object else ())]
    if not any(lists):
        return _numbers(values, name, path, key)[:, None]
    if not all(lists):
        row = lists.index(False)
        raise ValueError(f"{key}: column '{name}' of {path.name} holds vectors, but '{values[row]}' in row {row}")
    lengths = np.array([np.size(value) for value in values])
    if odd := np.flatnonzero(lengths != lengths[0]).tolist():
        raise ValueError(
            f"{key}: column '{name}' of {path.name} holds vectors of {lengths[0]} numbers, but of {lengths[odd[0]]} in "
            f"row {odd[0]}"
        )
    flat = np.array([part for value in values for part in np.ravel(np.asarray(value, dtype=object))], dtype=object)
    return _numbers(flat, name, path, key).reshape(len(values), -1)


def _numbers(values: np.ndarray, name: str, path: Path, key: str) -> np.ndarray:
    """float64 `[n]`; what is empty or None is NaN."""
    if values.dtype.kind in "fiub":
        return values.astype(np.float64)
    found = np.empty(len(values))
    for row, value in enumerate(values):
        if value is None or (isinstance(value, str) and value.strip().lower() in ("", "na", "nan", "null")):
            found[row] = np.nan
            continue
        try:
            found[row] = float(value)
        except (TypeError, ValueError):
            raise ValueError(
                f"{key}: column '{name}' of {path.name} holds '{value}' in row {row}, which is no number: name the "
                f"columns of numbers, as {path.name}:a|b"
            ) from None
    return found


def _no_infinity(values: np.ndarray, names: Sequence[str], path: Path, key: str) -> np.ndarray:
    infinite = np.isinf(values).any(0)
    if infinite.any():
        raise ValueError(f"{key}: column '{names[int(infinite.argmax())]}' of {path.name} holds infinity")
    return values


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _few(names: Sequence[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(map(str, names[:most]))}{more}"
