"""Each side of the default estimator as numbers, as labels, or as either, and the argument `categorical` that decides.

Text, booleans and category columns are labels. Fractions are numbers, unless one column has few distinct values. Whole
numbers may be either: 3 may be a count or the name of a class. Both give the same mutual information, for

    I(X; Y) = I(X; Y + U),     U uniform on [0, 1), independent of X and Y

and relabelling changes nothing; they differ in what can be estimated from n rows (choice.py).
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np

from ssl_mi.information.core.containers import plain
from ssl_mi.information.core.inputs import Categories, Variable, as_codes, as_numbers, n_distinct, row_hash

Categorical = Literal["x", "y", "both"] | bool | tuple[bool | None, bool | None] | None

ROWS_PER_LABEL = 20  # on average: then whole numbers are few enough to be labels whatever they mean
MANY_LABELS = 10
FEWEST_PER_LABEL = 4  # on average: below, hardly a label has neighbours of its own


class Side(NamedTuple):
    """One variable, as numbers, as labels, or both where either is possible.

    Args:
        name: the name it was passed under.
        numbers: as numbers; None where it holds labels.
        labels: as labels; None where it holds numbers.
        few: whether the values are few enough to be labels whatever they mean.
    """

    name: str
    numbers: Variable | None
    labels: Categories | None
    few: bool = False

    @property
    def n(self) -> int:
        """Rows."""
        found = self.labels if self.numbers is None else self.numbers
        assert found is not None  # one of the two
        return found.n

    @property
    def either(self) -> bool:
        """Whether both are possible."""
        return self.numbers is not None and self.labels is not None

    def take(self, rows: np.ndarray) -> Side:
        """Some of the rows."""
        return self._replace(
            numbers=self.numbers and self.numbers._replace(values=self.numbers.values[rows]),
            labels=self.labels and _relabelled(self.labels, rows),
        )


def _relabelled(labels: Categories, rows: np.ndarray) -> Categories:
    codes = np.unique(labels.codes[rows], return_inverse=True)[1].reshape(-1).astype(np.int64)
    return labels._replace(codes=codes, labels=labels.labels[rows])


def read_sides(x: Any, y: Any, categorical: Categorical) -> tuple[Side, Side]:
    """Both sides. Raises ValueError as `core.inputs.read` does, and for a `categorical` that the samples contradict."""
    of_x, of_y = _declared(categorical)
    return read_side(x, "x", of_x), read_side(y, "y", of_y)


def _declared(categorical: Any) -> tuple[bool | None, bool | None]:
    """For each side: whether it holds labels; None where that is to be found out."""
    if isinstance(categorical, bool | np.bool_):
        return bool(categorical), bool(categorical)
    if isinstance(categorical, list | tuple):
        if len(categorical) == 2 and all(entry is None or isinstance(entry, bool | np.bool_) for entry in categorical):
            return categorical[0], categorical[1]
    elif categorical is None or (isinstance(categorical, str) and categorical in ("x", "y", "both")):
        return (True if categorical in ("x", "both") else None), (True if categorical in ("y", "both") else None)
    raise ValueError(
        f"categorical must be None, 'x', 'y', 'both', True, False, or a pair of those (x, y), as (True, False); got "
        f"{categorical!r}"
    )


def read_side(x: Any, name: str, declared: bool | None = None) -> Side:
    """One side.

    Args:
        x: [n] or [n, d].
        name: of x, in messages.
        declared: whether it holds labels; None where that is to be found out.

    Raises:
        ValueError: as `core.inputs.read` and `read_labels` do, or text that is declared to be numbers.
    """
    found = plain(x, name)
    words = found.labels or found.values.dtype.kind in "US"
    if declared is False and words:
        kind = "text" if found.values.dtype.kind in "US" else found.stored
        raise ValueError(f"categorical says that {name} holds numbers, but it holds {kind}: leave it out")
    one_column = found.values.ndim == 1 or found.values.shape[-1] == 1
    if declared or words or (declared is None and found.values.dtype.kind == "b" and one_column):
        return Side(name, None, Categories(as_codes(found.values, name, whole=False)[0], name, found.values))
    numbers = as_numbers(found, name)
    if declared is False:
        return Side(name, numbers, None)
    return _either(numbers, found.values)


def _either(numbers: Variable, raw: np.ndarray) -> Side:
    """Numbers that may be labels: whole ones, or few different ones in one column."""
    hashes = row_hash(numbers.values)
    distinct, n = n_distinct(hashes), numbers.n
    integers = raw.dtype.kind in "iub"
    whole = integers or (numbers.d == 1 and bool((numbers.values == np.round(numbers.values)).all()))
    few = distinct <= (n / ROWS_PER_LABEL if integers else np.sqrt(n) / 2 if numbers.d == 1 else 0)
    possible = few or (whole and distinct <= n / FEWEST_PER_LABEL)
    if not possible:
        return Side(numbers.name, numbers, None)
    codes = np.unique(hashes, return_inverse=True)[1].reshape(-1).astype(np.int64)
    # The values of a tail (counts) are rare, and more of them than rare classes.
    tail = whole and distinct > MANY_LABELS and int(np.bincount(codes).min()) < ROWS_PER_LABEL // 2
    return Side(numbers.name, numbers, Categories(codes, numbers.name, raw), few and not tail)
