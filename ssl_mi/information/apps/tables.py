"""Tables: .csv and .tsv by the standard library, .parquet by pyarrow. Each column is numbers or text, all or nothing.

The standard csv module, and not pyarrow's reader, because a refusal names the line: pyarrow's gives no place for a cell
that is no number, loses count at blank lines, and keeps the quotes of a cell that follows a space.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ssl_mi.information.apps.columns import ArrayColumns, Columns

MISSING = {"", "na", "n/a", "#n/a", "null", "none", "-"}
BLOCK = 4096  # rows of a .csv held as text at once

Line = tuple[int, list[str]]  # its number from 1, and its cells

# ------------------------------------------------------------------------------------------------- .csv and .tsv


class CsvColumns(Columns):
    """Text with one row a line. Its first line is a header when it holds no number, or a word above a number."""

    def __init__(self, file: Path, header: bool | None) -> None:
        self.file = file
        with self._told():
            with file.open(newline="", encoding="utf-8-sig") as lines:
                first = next((line for line in lines if line.strip()), "")
            # A semicolon goes with decimal commas.
            self.delimiter = "\t" if file.suffix.lower() == ".tsv" else next((d for d in ";\t|" if d in first), ",")
            top = [cells for _, cells in islice(self._lines(), 2)]
        if not top:
            raise ValueError(f"{file} is empty")
        if "\0" in first:
            raise ValueError(f"{file} is no text: it holds zero bytes")
        self.header = self._has_header(top) if header is None else header
        if len(top) <= self.header:
            raise ValueError(f"{file} has no rows under its header")
        super().__init__(str(file), top[0] if self.header else [str(c) for c in range(len(top[0]))])

    def _has_header(self, top: list[list[str]]) -> bool:
        first, second = top[0], top[-1]
        if len(first) > 2 and first == [str(c) for c in range(len(first))]:
            raise ValueError(
                f"{self.file}: its first line counts 0, 1, 2, ...; say whether these are names of columns (--header) "
                "or a sample (--no-header)"
            )
        word_above_number = (
            is_number(below) and not is_number(cell) and cell for cell, below in zip(first, second, strict=False)
        )
        return not any(map(is_number, first)) or any(word_above_number)

    def take(self, columns: Sequence[int], text: bool = False) -> np.ndarray:
        """See `Columns.take`."""
        if "" in [self.names[c] for c in columns] and len(columns) > 1:
            raise ValueError(
                f"{self.label}: column {self.names.index('')} has no name, as the index that pandas writes; "
                "name the columns to use, --x-columns a,b"
            )
        blocks: list[np.ndarray] = []
        kinds: list[bool] = []
        with self._told():
            rows = islice(self._lines(), int(self.header), None)
            while block := list(islice(rows, BLOCK)):
                self._check_width(block)
                # 1,5 is a number that someone wrote with a comma, and is refused as one.
                kinds = kinds or [text or not is_number(block[0][1][c].replace(",", ".")) for c in columns]
                self.check_kinds(columns, kinds)
                blocks.append(self._converted(block, columns, kinds[0], text))
        return np.concatenate(blocks)

    def _converted(self, block: list[Line], columns: Sequence[int], is_text: bool, forced: bool) -> np.ndarray:
        """Numbers, or text where the columns began with text. Raises ValueError at the first cell that does not fit."""
        cells = np.array([[row[c] for c in columns] for _, row in block])
        if is_text and (cells != "").all() and (forced or not any(map(is_number, cells.flat))):
            return cells
        try:
            values = cells.astype(np.float64)
        except ValueError:
            values = np.array(np.nan)
        if not is_text and np.isfinite(values).all():
            return values
        for line, row in block:
            for c in columns:
                self._check_cell(row[c], line, self.names[c], is_text, forced)
        raise AssertionError("unreachable: the block was refused, and none of its cells")

    def _check_cell(self, cell: str, line: int, column: str, is_text: bool, forced: bool) -> None:
        place = f"{self.label}, line {line}, column {column!r}"
        if cell == "" if is_text else cell.lower() in MISSING:
            raise ValueError(f"{place} is {repr(cell) if cell else 'empty'}: drop the row, or fill it")
        if is_text and is_number(cell) and not forced:
            raise ValueError(f"{place} is a number ({cell}) among text; to treat all as symbols, pass --symbols")
        if not is_text and not is_number(cell):
            comma = "; decimals need a point" if re.fullmatch(r"[-+]?\d+,\d+", cell) else ""
            raise ValueError(f"{place} is {cell!r}, no number{comma}: repair it, drop the row, or pass --symbols")
        if not is_text and not np.isfinite(float(cell)):
            raise ValueError(f"{place} is {cell}: drop the row, or fill it")

    def _check_width(self, block: list[Line]) -> None:
        for line, row in block:
            if len(row) != len(self.names):
                raise ValueError(
                    f"{self.label}, line {line}, has {len(row)} cells, the first line has {len(self.names)}: repair it"
                )

    def _lines(self) -> Iterator[Line]:
        """Each line with its number, blank ones left out."""
        with self.file.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.reader(lines, delimiter=self.delimiter, skipinitialspace=True)
            width, blank = 0, []
            for row in reader:
                if "\0" in "".join(row):  # numpy drops it from the end of a text, and a number would remain
                    raise ValueError(f"{self.file} is no text: line {reader.line_num} holds a zero byte")
                cells = [cell.strip() for cell in row]
                if not any(cells) and len(cells) < 2:
                    blank.append(reader.line_num)
                    continue
                # In a file of one column a blank line is a missing value, except at the ends.
                yield from ((line, [""]) for line in blank if width == 1)
                width, blank = width or len(cells), []
                yield reader.line_num, cells

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except UnicodeDecodeError as problem:
            raise ValueError(f"{self.file} is not text in UTF-8 ({problem.reason}): save it again") from problem
        except csv.Error as problem:
            raise ValueError(f"{self.file} is damaged, or no table ({problem})") from problem


def is_number(cell: str) -> bool:
    """Whether Python reads it as a float: "1e3" and "nan" are numbers, "1,5" is not."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


# ------------------------------------------------------------------------------------------------------ .parquet


class ParquetColumns(Columns):
    """Columns of numbers, text or lists of equal length (embeddings), each list entry a column."""

    def __init__(self, file: Path) -> None:
        try:
            import pyarrow
            from pyarrow import parquet
        except ImportError:
            raise ValueError(f"{file}: reading .parquet needs pyarrow; pip install 'ssl_mi[parquet]'") from None
        try:
            self.table = parquet.ParquetFile(file)
        except (pyarrow.ArrowInvalid, OSError) as problem:
            raise ValueError(f"{file} is damaged, or not a .parquet file ({problem}): save it again") from problem
        if not self.table.metadata.num_rows:
            raise ValueError(f"{file} has no rows")
        super().__init__(str(file), list(self.table.schema_arrow.names))

    def take(self, columns: Sequence[int], text: bool = False) -> np.ndarray:
        """See `Columns.take`."""
        names = [self.names[c] for c in columns]
        twice = [name for name in names if self.names.count(name) > 1]
        if twice:
            raise ValueError(f"{self.label} has several columns called {twice[0]!r}: rename them")
        index = [name for name in names if name.startswith("__index_level_")]
        if index:
            raise ValueError(f"{self.label}: column {index[0]!r} is an index of pandas; name the columns to use")
        parts = [self._column(name) for name in names]
        if text:
            return np.hstack([part.astype(str) for part in parts])
        self.check_kinds(columns, [part.dtype.kind in "US" for part in parts])
        return np.hstack(parts)

    def _column(self, name: str) -> np.ndarray:
        """[n, width]: width is 1, or the length of the lists in the column."""
        import pyarrow
        from pyarrow import compute, types

        column = self.table.read([name]).column(0).combine_chunks()
        place = f"{self.label}, column {name!r}"
        if column.null_count:
            row = compute.index(column.is_null(), True).as_py()
            raise ValueError(
                f"{place}: {column.null_count} cells are empty, first row {row} (from 0): drop or fill them"
            )
        if types.is_dictionary(column.type):
            column = column.dictionary_decode()
        width = 1
        if types.is_list(column.type) or types.is_large_list(column.type) or types.is_fixed_size_list(column.type):
            column, width = _flattened(column, place)
        if types.is_string(column.type) or types.is_large_string(column.type):
            return np.array(column.to_pylist(), dtype=str).reshape(-1, width)
        if types.is_decimal(column.type):
            column = column.cast(pyarrow.float64())
        if not (types.is_floating(column.type) or types.is_integer(column.type) or types.is_boolean(column.type)):
            raise ValueError(f"{place} is of type {column.type}: numbers or text are needed")
        values = column.to_numpy(zero_copy_only=False).reshape(-1, width)
        return ArrayColumns(values, place).take(range(width))


def _flattened(column: Any, place: str) -> tuple[Any, int]:
    """The entries of a column of lists, one after the other, and how many each list has."""
    from pyarrow import compute

    lengths = compute.list_value_length(column).to_numpy(zero_copy_only=False)
    if lengths.min() != lengths.max() or not lengths[0]:
        raise ValueError(f"{place} holds lists of {lengths.min()} to {lengths.max()} entries: make them equal")
    flat = column.flatten()
    if flat.null_count:
        raise ValueError(f"{place}: {flat.null_count} entries of its lists are empty: drop or fill those rows")
    return flat, int(lengths[0])
