"""What users bring (arrays, tensors, lists, data frames, tables) as one plain numpy array, or an error with its place.

Data frames are recognised by what they offer, so that no library of them is needed: pandas (nullable and categorical
columns), polars, pyarrow.
"""

from __future__ import annotations

import numbers
import sys
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

REMEDY = "drop those rows from every array"


class Plain(NamedTuple):
    """An array of numbers, booleans or text, [n] or [n, d], and whether it was declared to hold labels."""

    values: np.ndarray
    stored: str
    labels: bool


def is_tensor(x: Any) -> bool:
    """Whether x is a torch tensor. Without importing torch: where it is not loaded, nobody holds a tensor."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def plain(x: Any, name: str = "x") -> Plain:
    """x as a numpy array in the dtype it has. Text, and columns of a category dtype, are labels.

    Args:
        x: [n] or [n, d]: an array, a tensor on any device, a list, a Series, a data frame or a table.
        name: of x, in messages.

    Raises:
        ValueError: missing values (masked, None, NA, NaN among text), sparse matrices, dates, complex numbers, rows of
            different lengths, text mixed with numbers; with the row, and the column of a data frame.
    """
    if is_tensor(x):
        return _tensor(x, name)
    if hasattr(x, "toarray") and hasattr(x, "nnz"):
        raise ValueError(f"{name} is a sparse matrix ({type(x).__name__}): pass {name}.toarray()")
    columns = columns_of(x)
    if columns is not None:
        return _joined([_series(column, f"{name}, column {label!r}") for label, column in columns], columns, name)
    if (hasattr(x, "dtype") and not isinstance(x, np.ndarray | np.generic)) or _is_arrow(x):
        return _series(x, name)
    return _array(x, name)


def _tensor(x: Any, name: str) -> Plain:
    stored = str(x.dtype).removeprefix("torch.")
    if x.is_complex():
        raise ValueError(f"{name} is complex ({stored}): pass its real and imaginary parts as columns")
    if x.layout != sys.modules["torch"].strided:
        raise ValueError(f"{name} is a sparse tensor ({x.layout}): pass {name}.to_dense()")
    x = x.detach().cpu()
    # numpy has no bfloat16.
    return Plain((x.float() if x.is_floating_point() and x.element_size() < 4 else x).numpy(), stored, False)


# ------------------------------------------------------------------------------------------------ arrays and lists


def _array(x: Any, name: str) -> Plain:
    if isinstance(x, dict | set | frozenset) or (isinstance(x, Iterable) and not hasattr(x, "__len__")):
        raise ValueError(f"{name} is a {type(x).__name__}: pass an array, [n] or [n, d]")
    if isinstance(x, np.ma.MaskedArray):
        _refuse_missing(np.ma.getmaskarray(x), name, "masked")
        x = x.data
    try:
        raw = np.asarray(x)
        if raw.dtype.kind == "U" and not isinstance(x, np.ndarray):
            raw = np.asarray(x, dtype=object)  # ["a", 1, None] must not become text unseen
    except ValueError as problem:
        raise ValueError(f"{name} has rows of different lengths: pass [n] or [n, d]") from problem
    return _checked(raw, name)


def _checked(raw: np.ndarray, name: str, labels: bool = False) -> Plain:
    """An array of any dtype, objects included."""
    kind: str = raw.dtype.kind
    if raw.ndim == 0:
        raise ValueError(f"{name} has shape (), one {type(raw.item()).__name__}: pass an array, [n] or [n, d]")
    if kind == "O":
        raw, kind = _objects(raw, name)
    if kind in "mM":
        raise ValueError(f"{name} has dtype {raw.dtype}: times are no numbers; pass e.g. seconds, as floats")
    if kind == "c":
        raise ValueError(f"{name} is complex ({raw.dtype}): pass its real and imaginary parts as columns")
    if kind == "U":
        _refuse_missing(raw == "nan", name, "the text 'nan', a missing value turned into text,")
    elif kind not in "fiubS":
        raise ValueError(f"{name} has dtype {raw.dtype}: pass numbers, booleans or text")
    return Plain(raw, str(raw.dtype), labels or kind in "US")


def _objects(raw: np.ndarray, name: str) -> tuple[np.ndarray, str]:
    """Python objects as floats or as text, and the kind of that."""
    entries = raw.ravel().tolist()
    _refuse_missing(np.array([_is_missing(entry) for entry in entries], bool).reshape(raw.shape), name, "missing")
    for wanted, dtype in ((bool | np.bool_, bool), (numbers.Integral, np.int64), (numbers.Real, np.float64)):
        if entries and all(isinstance(entry, wanted) for entry in entries):
            return _converted(raw, dtype)
    if all(isinstance(entry, str) for entry in entries):
        return raw.astype(str), "U"
    odd = {type(entry).__name__: place for place, entry in reversed(list(enumerate(entries)))}
    seen = ", ".join(
        f"{kind} (row {place // max(raw[0].size if raw.ndim > 1 else 1, 1)})" for kind, place in odd.items()
    )
    raise ValueError(f"{name} has dtype object with {seen}: pass numbers only, or text only")


def _converted(raw: np.ndarray, dtype: type) -> tuple[np.ndarray, str]:
    try:
        values: np.ndarray = raw.astype(dtype)
    except OverflowError:  # whole numbers beyond 64 bits
        values = raw.astype(np.float64)
    return values, values.dtype.kind


def _is_missing(entry: Any) -> bool:
    """None, NaN, and what data frames have for them (NA, NaT), which are not equal to themselves."""
    if entry is None or type(entry).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(entry, numbers.Number) and entry != entry


def _refuse_missing(missing: np.ndarray, name: str, what: str) -> None:
    if missing.any():
        place = np.argwhere(missing)[0]
        column = f", column {place[1]}" if missing.ndim == 2 and missing.shape[1] > 1 else ""
        rows = int(missing.reshape(len(missing), -1).any(1).sum())
        raise ValueError(f"{name} is {what} in {rows} rows, first at row {place[0]}{column}: {REMEDY}")


# ------------------------------------------------------------------------------------------ data frames and series


def _is_arrow(x: Any) -> bool:
    return hasattr(x, "null_count") and hasattr(x, "type") and hasattr(x, "to_numpy")


def columns_of(x: Any) -> list[tuple[Any, Any]] | None:
    """The named columns of a data frame (pandas, polars) or a table (pyarrow); None for anything else."""
    if hasattr(x, "column_names") and hasattr(x, "column"):
        return [(label, x.column(label)) for label in x.column_names]
    if hasattr(x, "columns") and hasattr(x, "iloc"):
        return [(label, x.iloc[:, place]) for place, label in enumerate(x.columns)]
    if hasattr(x, "columns") and hasattr(x, "get_column"):
        return [(label, x.get_column(label)) for label in x.columns]
    return None


def _series(column: Any, name: str) -> Plain:
    """One column of a data frame."""
    dtype = str(column.type if _is_arrow(column) else column.dtype)
    missing = column.isna() if hasattr(column, "isna") else column.is_null()
    _refuse_missing(np.asarray(missing, dtype=bool), name, f"missing ({dtype})")
    labels = dtype.lower().startswith(("category", "categorical", "enum", "dictionary"))
    raw = np.asarray(column.astype(object) if labels and hasattr(column, "isna") else column)
    if labels:
        raw = np.asarray(list(map(str, raw.tolist())))
    found = _checked(raw, name, labels)
    return found._replace(stored=dtype)


def _joined(columns: list[Plain], named: list[tuple[Any, Any]], name: str) -> Plain:
    """Columns side by side: all labels, or all numbers."""
    if not columns:
        raise ValueError(f"{name} has no columns: it is empty")
    kinds = [column.labels for column in columns]
    if len(set(kinds)) > 1:
        label, number = (named[kinds.index(kind)][0] for kind in (True, False))
        raise ValueError(
            f"{name} mixes labels (column {label!r}) and numbers (column {number!r}): pass them as different sides, or "
            "replace the labels by columns of zeros and ones"
        )
    stored = dict.fromkeys(column.stored for column in columns)
    return Plain(np.stack([column.values for column in columns], 1), " and ".join(stored), kinds[0])
