"""Tables: .csv, .tsv and .parquet, each column numbers or text. Read as it stands, or refused by line and column."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np

from ssl_mi.information.apps.source import ArraySource, Source

MISSING = {"", "na", "n/a", "#n/a", "null", "none", "-"}
BLOCK = 4096  # rows of a .csv held as text at once

# ------------------------------------------------------------------------------------------------- .csv and .tsv


class CsvSource(Source):
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
        if header is None:
            if len(top[0]) > 2 and top[0] == [str(c) for c in range(len(top[0]))]:
                raise ValueError(
                    f"{file}: its first line counts 0, 1, 2, ...; say whether these are names of columns (--header) or "
                    "a sample (--no-header)"
                )
            header = not any(map(_is_number, top[0])) or any(
                _is_number(below) and not _is_number(cell) and cell
                for cell, below in zip(top[0], top[-1], strict=False)
            )
        self.header = header
        if len(top) <= header:
            raise ValueError(f"{file} has no rows under its header")
        super().__init__(str(file), top[0] if header else [str(c) for c in range(len(top[0]))])

    def take(self, columns: list[int], text: bool = False) -> np.ndarray:
        if "" in [self.names[c] for c in columns] and len(columns) > 1:
            raise ValueError(
                f"{self.label}: column {self.names.index('')} has no name, as the index that pandas writes; "
                "name the columns to read, --x-columns a,b"
            )
        blocks, kinds = [], None
        with self._told():
            rows = islice(self._lines(), int(self.header), None)
            while block := list(islice(rows, BLOCK)):
                self._check_width(block)
                # 1,5 is a number that someone wrote with a comma, and is refused as one.
                kinds = kinds or [text or not _is_number(block[0][1][c].replace(",", ".")) for c in columns]
                blocks.append(self._converted(block, columns, kinds, text))
        return np.concatenate(blocks)

    def _converted(self, block: list[tuple[int, list[str]]], columns: list[int], kinds: list[bool], text: bool):
        """Numbers where each column began with one, text where each began with text."""
        _check_kinds(self, columns, kinds)
        cells = np.array([[row[c] for c in columns] for _, row in block])
        if not kinds[0]:
            try:
                values = cells.astype(np.float64)
                if np.isfinite(values).all():
                    return values
            except ValueError:
                pass
        if kinds[0] and (cells != "").all() and (text or not any(_is_number(cell) for cell in cells.flat)):
            return cells
        for line, row in block:
            for c in columns:
                self._check_cell(row[c], line, self.names[c], kinds[0], text)
        raise AssertionError("unreachable: the block was refused, and none of its cells")

    def _check_cell(self, cell: str, line: int, column: str, is_text: bool, forced: bool) -> None:
        place = f"{self.label}, line {line}, column {column!r}"
        if cell.lower() in MISSING if not is_text else cell == "":
            raise ValueError(f"{place} is {'empty' if not cell else repr(cell)}: drop the row, or fill it")
        if is_text and _is_number(cell) and not forced:
            raise ValueError(f"{place} is a number ({cell}) among text; to read all as symbols, pass --symbols")
        if not is_text and not _is_number(cell):
            comma = "; decimals need a point" if re.fullmatch(r"[-+]?\d+,\d+", cell) else ""
            raise ValueError(f"{place} is {cell!r}, no number{comma}: repair it, drop the row, or pass --symbols")
        if not is_text and not np.isfinite(float(cell)):
            raise ValueError(f"{place} is {cell}: drop the row, or fill it")

    def _check_width(self, block: list[tuple[int, list[str]]]) -> None:
        for line, row in block:
            if len(row) != len(self.names):
                raise ValueError(
                    f"{self.label}, line {line}, has {len(row)} cells, the first line has {len(self.names)}: repair it"
                )

    def _lines(self) -> Iterator[tuple[int, list[str]]]:
        """(line number, cells) of each line, blank ones left out."""
        with self.file.open(newline="", encoding="utf-8-sig") as lines:
            reader, width, blank = csv.reader(lines, delimiter=self.delimiter, skipinitialspace=True), None, []
            for row in reader:
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


def _check_kinds(source: Source, columns: list[int], is_text: list[bool]) -> None:
    if any(is_text) and not all(is_text):
        words, numbers = (source.names[columns[is_text.index(kind)]] for kind in (True, False))
        raise ValueError(
            f"{source.label}: a side mixes text (column {words!r}) and numbers (column {numbers!r}); "
            "put them on different sides, or read all as symbols (--symbols)"
        )


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


# ------------------------------------------------------------------------------------------------------ .parquet


class ParquetSource(Source):
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

    def take(self, columns: list[int], text: bool = False) -> np.ndarray:
        twice = [self.names[c] for c in columns if self.names.count(self.names[c]) > 1]
        if twice:
            raise ValueError(f"{self.label} has several columns called {twice[0]!r}: rename them")
        index = [self.names[c] for c in columns if self.names[c].startswith("__index_level_")]
        if index:
            raise ValueError(f"{self.label}: column {index[0]!r} is an index of pandas; name the columns to read")
        read = [self._column(c) for c in columns]
        if text:
            return np.hstack([part.astype(str) for part in read])
        kinds = [part.dtype.kind in "US" for part in read]
        _check_kinds(self, columns, kinds)
        return np.hstack(read)

    def _column(self, c: int) -> np.ndarray:
        """[n, width]: width is 1, or the length of the lists in the column (embeddings)."""
        import pyarrow
        from pyarrow import compute, types

        name = self.names[c]
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
            lengths = compute.list_value_length(column).to_numpy(zero_copy_only=False)
            if lengths.min() != lengths.max() or not lengths[0]:
                raise ValueError(f"{place} holds lists of {lengths.min()} to {lengths.max()} entries: make them equal")
            width, column = int(lengths[0]), column.flatten()
            if column.null_count:
                raise ValueError(
                    f"{place}: {column.null_count} entries of its lists are empty: drop or fill those rows"
                )
        if types.is_string(column.type) or types.is_large_string(column.type):
            return np.array(column.to_pylist(), dtype=str).reshape(-1, width)
        if types.is_decimal(column.type):
            column = column.cast(pyarrow.float64())
        if not (types.is_floating(column.type) or types.is_integer(column.type) or types.is_boolean(column.type)):
            raise ValueError(f"{place} is of type {column.type}: numbers or text are needed")
        values = column.to_numpy(zero_copy_only=False).reshape(-1, width)
        return ArraySource(values, place).take(list(range(width)))
