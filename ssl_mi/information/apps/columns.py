"""An opened file as columns that are found by name and taken by number; arrays are the plainest of them."""

from __future__ import annotations

import fnmatch
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ssl_mi.information.apps.catalogue import nearest


class SideSpec(NamedTuple):
    """What the user said of one side.

    Args:
        name: "x" or "y".
        key: the array of an .npz.
        columns: names, patterns, numbers or ranges, separated by commas; None for all.
        text: treat the values as symbols, whatever they look like.
    """

    name: str
    key: str | None = None
    columns: str | None = None
    text: bool = False


class Columns(ABC):
    """An opened file.

    Args:
        label: its name in messages.
        names: of its columns; "0", "1", ... where they have none.
    """

    def __init__(self, label: str, names: list[str]) -> None:
        self.label, self.names = label, names

    @abstractmethod
    def take(self, columns: Sequence[int], text: bool = False) -> np.ndarray:
        """Some columns: [n, len(columns)], or [n] of a file of one column.

        Args:
            columns: their numbers, from 0.
            text: as symbols, whatever they look like.

        Raises:
            ValueError: a value that is no finite number, or is missing.
        """

    def find(self, spec: SideSpec) -> list[int]:
        """The columns asked for: names, patterns (z_*), numbers from 0, ranges (0:8, the end left out)."""
        if spec.columns is None:
            return list(range(len(self.names)))
        if spec.columns in self.names:  # a name may hold a comma
            return [self._once(spec.columns)]
        words = filter(None, (word.strip() for word in spec.columns.split(",")))
        found = list(dict.fromkeys(column for word in words for column in self._matching(word, spec.name)))
        if not found:
            raise ValueError(f"--{spec.name}-columns {spec.columns!r} names no column")
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

    def check_kinds(self, columns: Sequence[int], is_text: Sequence[bool]) -> None:
        """Raise ValueError where some of these columns are text and others numbers."""
        if len(set(is_text)) > 1:
            words, numbers = (self.names[columns[is_text.index(kind)]] for kind in (True, False))
            raise ValueError(
                f"{self.label}: a side mixes text (column {words!r}) and numbers (column {numbers!r}); "
                "put them on different sides, or treat all as symbols (--symbols)"
            )

    def list_columns(self) -> str:
        """How many columns, and the first of their names, for people."""
        shown = ", ".join(self.names[:12]) + (", ..." if len(self.names) > 12 else "")
        return f"{len(self.names)} column{'s'[: len(self.names) != 1]} ({shown})"

    def describe(self, columns: Sequence[int]) -> str:
        """The file, and which of its columns, for people."""
        if list(columns) == list(range(len(self.names))):
            return self.label
        shown = ", ".join(self.names[c] for c in columns[:6]) + (", ..." if len(columns) > 6 else "")
        return f"{self.label}, column{'s'[: len(columns) != 1]} {shown}"


class ArrayColumns(Columns):
    """The columns of an array [n] or [n, d] of numbers or text."""

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

    def take(self, columns: Sequence[int], text: bool = False) -> np.ndarray:
        """See `Columns.take`."""
        values = self.values if len(columns) == len(self.names) else self.values[:, columns]
        if text:
            return values.astype(str)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            bad = ~np.isfinite(values)
            place = np.argwhere(bad)[0]
            column = f", column {columns[place[1]]}" if values.ndim == 2 else ""
            raise ValueError(
                f"{self.label} holds {bad.reshape(len(bad), -1).any(1).sum()} rows with NaN or infinity, first "
                f"{values[tuple(place)]} at row {place[0]}{column} (both from 0): drop those rows from both sides, "
                "or fill them"
            )
        return values
