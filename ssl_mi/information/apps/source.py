"""An opened file as columns that can be found by name and taken by number; arrays are the plainest of them."""

from __future__ import annotations

import fnmatch
import re
from typing import NamedTuple

import numpy as np

from ssl_mi.information.apps.catalogue import nearest


class SideSpec(NamedTuple):
    """What was said of one side. text: take the values for symbols, whatever they look like."""

    name: str  # "x" or "y"
    key: str | None = None
    columns: str | None = None
    text: bool = False


class Source:
    """An opened file. label: its name in messages; names: of its columns, "0", "1", ... where they have none."""

    def __init__(self, label: str, names: list[str]) -> None:
        self.label, self.names = label, names

    def take(self, columns: list[int], text: bool = False) -> np.ndarray:
        """[n, len(columns)], or [n] of a file of one column. Raises ValueError for what is no finite number."""
        raise NotImplementedError

    def find(self, asked: SideSpec) -> list[int]:
        """The columns asked for: names, patterns (z_*), numbers from 0, ranges (0:8, the end left out)."""
        if asked.columns is None:
            return list(range(len(self.names)))
        if asked.columns in self.names:  # a name may hold a comma
            return [self._once(asked.columns)]
        found: list[int] = []
        for word in filter(None, (word.strip() for word in asked.columns.split(","))):
            found += [c for c in self._matching(word, asked.name) if c not in found]
        if not found:
            raise ValueError(f"--{asked.name}-columns {asked.columns!r} names no column")
        return found

    def _matching(self, word: str, side: str) -> list[int]:
        if word in self.names:
            return [self._once(word)]
        span = re.fullmatch(r"(\d+)(?::(\d+))?", word)
        if span:
            start = int(span[1])
            stop = int(span[2]) if span[2] else start + 1
            if start < stop <= len(self.names):
                return list(range(start, stop))
        found = [c for c, name in enumerate(self.names) if fnmatch.fnmatchcase(name, word)]
        if not found:
            raise ValueError(
                f"{self.label} has no column {word!r}{nearest(word, self.names)}, asked for by --{side}-columns; "
                f"it has {self.list_columns()}"
            )
        return found

    def _once(self, name: str) -> int:
        if self.names.count(name) > 1:
            raise ValueError(f"{self.label} has {self.names.count(name)} columns called {name!r}: name it by number")
        return self.names.index(name)

    def list_columns(self) -> str:
        shown = ", ".join(self.names[:12]) + (", ..." if len(self.names) > 12 else "")
        return f"{len(self.names)} column{'s'[: len(self.names) != 1]} ({shown})"

    def describe(self, columns: list[int]) -> str:
        if columns == list(range(len(self.names))):
            return self.label
        shown = ", ".join(self.names[c] for c in columns[:6]) + (", ..." if len(columns) > 6 else "")
        return f"{self.label}, column{'s'[: len(columns) != 1]} {shown}"


class ArraySource(Source):
    def __init__(self, values: np.ndarray, label: str) -> None:
        if values.dtype.kind not in "fiubUS":
            what = "Python objects, which are never unpickled" if values.dtype.hasobject else f"{values.dtype} values"
            raise ValueError(f"{label} holds {what}: save numbers or plain strings instead, as in array.astype(float)")
        if values.ndim not in (1, 2) or values.size == 0:
            raise ValueError(
                f"{label} has shape {values.shape}: one row a sample is needed, [n] or [n, d]; "
                "flatten images to [n, c*h*w]"
            )
        self.values = values
        super().__init__(label, [str(c) for c in range(1 if values.ndim == 1 else values.shape[1])])

    def take(self, columns: list[int], text: bool = False) -> np.ndarray:
        values = self.values if len(columns) == len(self.names) else self.values[:, columns]
        if text:
            return values.astype(str)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            place = np.argwhere(~np.isfinite(values))[0]
            column = f", column {columns[place[1]]}" if values.ndim == 2 else ""
            rows = (~np.isfinite(values)).reshape(len(values), -1).any(1).sum()
            raise ValueError(
                f"{self.label} holds {rows} rows with NaN or infinity, first {values[tuple(place)]} at row {place[0]}"
                f"{column} (both from 0): drop those rows from both sides, or fill them"
            )
        return values
