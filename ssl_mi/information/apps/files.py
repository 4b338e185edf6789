"""Paired samples out of files: .npy, .npz, .csv, .tsv, .parquet. One row is one sample.

x and y come from two files, or from one that holds both: two arrays of an .npz, columns of a table. A file is opened
as `Columns`, and `take` gives some of them. Nothing is dropped, filled or unpickled: what cannot be used as it stands
is an error that names the file, the place and the remedy.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from ssl_mi.information.apps.catalogue import nearest
from ssl_mi.information.apps.columns import ArrayColumns, Columns, SideSpec
from ssl_mi.information.apps.tables import CsvColumns, ParquetColumns

BOMB = 2**28  # bytes: an array below this is unpacked however well it was packed
MOST_PACKED = 200  # times that numbers which vary can be packed: deflate ends near 1000, at constants
SUFFIXES = (".npy", ".npz", ".csv", ".tsv", ".parquet")


class Side(NamedTuple):
    """One variable: numbers or text, [n] or [n, d], and where it came from, in words."""

    values: np.ndarray
    source: str


def read_sides(
    first: str, second: str | None, x: SideSpec, y: SideSpec, header: bool | None = None
) -> tuple[Side, Side]:
    """Both sides, from two files, or from one when `second` is None.

    Args:
        first: a path; an array of an .npz also as file.npz:key.
        second: likewise, or None.
        x: which part of `first` is x.
        y: which part of `second` (or of `first`) is y.
        header: whether a .csv has one; None finds out.

    Raises:
        ValueError: what cannot be used as it stands, with file, place and remedy.
        OSError: a file that cannot be opened.
    """
    if second is not None:
        of_x, of_y = open_columns(first, x.key, header, "x"), open_columns(second, y.key, header, "y")
        return _side(of_x, of_x.find(x), x), _side(of_y, of_y.find(y), y)
    keys = _keys_of_both(first, x, y)
    if keys is not None:
        of_x, of_y = open_columns(first, keys[0], header, "x"), open_columns(first, keys[1], header, "y")
        return _side(of_x, of_x.find(x), x), _side(of_y, of_y.find(y), y)
    table = open_columns(first, x.key, header, None)
    columns_x, columns_y = _divide(table, x, y)
    return _side(table, columns_x, x), _side(table, columns_y, y)


def _side(source: Columns, columns: list[int], spec: SideSpec) -> Side:
    values, words = source.take(columns, spec.text), source.describe(columns)
    if values.dtype.kind in "US" and not spec.text:
        distinct = len(np.unique(values, axis=0))
        if distinct > max(10, len(values) / 2):
            raise ValueError(
                f"{words} is text with {distinct} different values in {len(values)} rows, and symbols repeat; save "
                f"numbers as numbers, or pass --symbols {spec.name} if these are symbols"
            )
    return Side(values, words)


def _keys_of_both(path: str, x: SideSpec, y: SideSpec) -> tuple[str, str] | None:
    """The two arrays of an .npz that holds both sides; None for a table, or an array with the columns of both."""
    file, key = _split(path)
    if file.suffix.lower() != ".npz" or key is not None:
        return None
    if x.key is not None and y.key is not None:
        return x.key, y.key
    if x.key is not None or y.key is not None:
        raise ValueError(f"{path} holds both sides: name the array of each, --x-key NAME --y-key NAME")
    return ("x", "y") if {"x", "y"} <= set(_arrays(file)) else None


def _divide(table: Columns, x: SideSpec, y: SideSpec) -> tuple[list[int], list[int]]:
    """The columns of each side in a table that holds both. With one side named the other is all the rest."""
    every = range(len(table.names))
    if x.columns is None and y.columns is None:
        if len(every) == 2:
            return [0], [1]
        raise ValueError(
            f"{table.label} has {table.list_columns()}: say which are x and which are y, "
            "--x-columns a,b --y-columns c, or give a second file"
        )
    of_x, of_y = table.find(x), table.find(y)  # all of them where none are named
    if x.columns is None:
        of_x = [c for c in every if c not in of_y]
    elif y.columns is None:
        of_y = [c for c in every if c not in of_x]
    if not of_x or not of_y:
        raise ValueError(f"{table.label}: every column is on one side; leave some for the other")
    both = [table.names[c] for c in of_x if c in of_y]
    if both:
        raise ValueError(
            f"{table.label}: column {both[0]!r} is on both sides, and shares all it has with itself; "
            "leave it out of one"
        )
    return of_x, of_y


def open_columns(path: str, key: str | None, header: bool | None = None, side: str | None = None) -> Columns:
    """The file at `path`, or an array in it. `side`: "x" or "y", the name that an .npz array has by default."""
    file, key_there = _split(path)
    if key_there is not None and key is not None:
        raise ValueError(f"{path} already names an array: leave out --{side or 'x'}-key {key}")
    key = key_there or key
    kind = file.suffix.lower()
    if file.is_dir():
        raise ValueError(f"{file} is a folder: name a file in it")
    if kind not in SUFFIXES:
        raise ValueError(
            f"{file}: files of kind {kind or '(no suffix)'!r} are not supported; use {', '.join(SUFFIXES)}"
        )
    if not file.exists():
        there = nearest(file.name, (p.name for p in file.parent.iterdir())) if file.parent.is_dir() else ""
        raise FileNotFoundError(f"there is no file {file}{there}")
    if key is not None and kind != ".npz":
        raise ValueError(f"{file}: {key!r} names an array of an .npz; columns are named by --x-columns, --y-columns")
    if kind == ".npz":
        return ArrayColumns(*_read_npz(file, key, side))
    if kind == ".npy":
        return ArrayColumns(_read_npy(file), str(file))
    return ParquetColumns(file) if kind == ".parquet" else CsvColumns(file, header)


def _split(path: str) -> tuple[Path, str | None]:
    """ "a.npz:z" -> (a.npz, "z"), unless a file has just that name."""
    file, mark, key = path.rpartition(".npz:")
    return (Path(file + ".npz"), key) if mark and key and not Path(path).exists() else (Path(path), None)


# ------------------------------------------------------------------------------------------------ .npy and .npz


def _read_npy(file: Path) -> np.ndarray:
    if not zipfile.is_zipfile(file):
        with file.open("rb") as stream:
            _check_size(stream, file.stat().st_size, str(file), "a .npy file")
    with _damage(file, "a .npy file"):
        loaded = np.load(file, allow_pickle=False)
    if not isinstance(loaded, np.ndarray):
        loaded.close()
        raise ValueError(f"{file} is an .npz under another name: rename it")
    return loaded


def _arrays(file: Path) -> list[str]:
    """The names of the arrays in an .npz."""
    if not file.is_file():
        return []
    with _damage(file, "an .npz file"), zipfile.ZipFile(file) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist()]


def _read_npz(file: Path, key: str | None, side: str | None) -> tuple[np.ndarray, str]:
    names = _arrays(file)
    if key is None:
        key = names[0] if len(names) == 1 else side
    if key not in names:
        held = f"{file} holds {len(names)} arrays ({', '.join(names[:12])}{', ...' if len(names) > 12 else ''})"
        if key is None or key == side:
            raise ValueError(f"{held}: say which is meant, {file}:NAME, or --x-key NAME --y-key NAME")
        raise ValueError(f"{held}, none of them {key!r}{nearest(key, names)}")
    label = f"{file}:{key}"
    with zipfile.ZipFile(file) as archive:
        member = archive.getinfo(key if key in archive.namelist() else f"{key}.npy")
        if member.file_size > max(BOMB, MOST_PACKED * member.compress_size):
            raise ValueError(
                f"{label} would unpack from {member.compress_size:,} bytes to {member.file_size:,}: it is nearly "
                "constant, or made to fill the memory; save it again with numpy.save if it is meant"
            )
        with _damage(label, "an array of an .npz file"), archive.open(member) as stream:
            _check_size(stream, member.file_size, label, "an array of an .npz file")
    with _damage(label, "an array of an .npz file"), np.load(file, allow_pickle=False) as archive:
        return archive[key], label


def _check_size(stream: IO[bytes], size: int, label: str, kind: str) -> None:
    """Raise ValueError unless the header can be read and the values that it claims are there.

    Args:
        stream: At the beginning of a .npy file.
        size: Bytes of it.
        label: Its name, for messages.
        kind: What it should be, for messages.
    """
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
    except Exception as problem:  # the header is parsed as Python's text, and fails in as many ways
        said = str(problem).splitlines()[:1]
        raise ValueError(f"{label} is damaged, or not {kind} ({' '.join(said)}): save it again") from problem
    claimed = math.prod(shape) * dtype.itemsize
    if not dtype.hasobject and claimed > size:
        raise ValueError(
            f"{label} is damaged, or not {kind} (its header claims {math.prod(shape):,} values, {claimed:,} bytes, and "
            f"there are {size:,}): save it again"
        )


@contextmanager
def _damage(file: Path | str, kind: str) -> Iterator[None]:
    """The error messages for objects and for broken files."""
    try:
        yield
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error, KeyError) as problem:
        if "allow_pickle" in str(problem) and "Object arrays" in str(problem):
            raise ValueError(
                f"{file} holds Python objects, which are never unpickled: save numbers or plain strings instead, as in "
                "array.astype(float)"
            ) from problem
        said = "" if "pickle" in str(problem) else f" ({problem})"
        raise ValueError(f"{file} is damaged, or not {kind}{said}: save it again") from problem
