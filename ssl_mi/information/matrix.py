"""Mutual information of every pair of columns of a table, with intervals and p-values that know of each other."""

from __future__ import annotations

import csv
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ssl_mi.information.core.caution import Caution
from ssl_mi.information.core.containers import columns_of, plain
from ssl_mi.information.core.estimate import Estimate
from ssl_mi.information.core.inputs import Categories, Variable, check_paired
from ssl_mi.information.core.settings import check_seed, check_uncertainty, whole_number
from ssl_mi.information.estimators.auto.pipeline import mutual_information
from ssl_mi.information.estimators.auto.sides import read_side
from ssl_mi.information.inference.dependence import read_rows
from ssl_mi.information.inference.multiple_testing import benjamini_hochberg, holm
from ssl_mi.information.inference.rank_test import RankTest, coded

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEVEL = 0.05  # that corrected p-values should be able to reach
LEAST, MOST = 999, 9999  # permutations
TESTED = 20_000  # rows of the test: enough to find anything, and cheap enough to permute often
SHOWN = 20  # pairs that are printed
COLUMNS = "first", "second", "nats", "low", "high", "se", "p", "p_holm", "p_bh", "kind", "n", "warnings"


class Pair(NamedTuple):
    """Two columns.

    Attributes:
        first, second: their names.
        estimate: of their mutual information; its p-value is that of this pair alone.
        p_holm: p corrected by Holm: the chance of any false discovery.
        p_bh: p corrected by Benjamini and Hochberg: the share of false discoveries.
    """

    first: str
    second: str
    estimate: Estimate
    p_holm: float
    p_bh: float

    def row(self) -> dict[str, Any]:
        """One line of a table; None for what is not known."""
        low, high = self.estimate.ci or (None, None)
        return {
            "first": self.first,
            "second": self.second,
            "nats": self.estimate.value,
            "low": low,
            "high": high,
            "se": self.estimate.se,
            "p": self.estimate.p_value,
            "p_holm": self.p_holm,
            "p_bh": self.p_bh,
            "kind": self.estimate.kind,
            "n": self.estimate.n,
            "warnings": " ".join(dict.fromkeys(caution.code for caution in self.estimate.warnings)),
        }


@dataclass(frozen=True, eq=False, repr=False)
class MIMatrix:
    """What `mi_matrix` returns: an estimate of every pair of columns.

    Attributes:
        names: of the columns.
        pairs: every pair once, in the order of the columns.
        warnings: about the table as a whole; those of a pair are in its estimate.
        seconds: what it cost.
    """

    names: tuple[str, ...]
    pairs: tuple[Pair, ...]
    warnings: tuple[Caution, ...] = ()
    seconds: float | None = None

    def __getitem__(self, names: tuple[str, str]) -> Pair:
        """The pair of two columns, in either order."""
        for pair in self.pairs:
            if names in ((pair.first, pair.second), (pair.second, pair.first)):
                return pair
        raise KeyError(f"no pair {names!r}: the columns are {', '.join(self.names)}")

    def values(self, column: str = "nats") -> np.ndarray:
        """One column of the table of pairs as a symmetric matrix.

        Args:
            column: "nats", "low", "high", "se", "p", "p_holm" or "p_bh".

        Returns:
            float64 [d, d]; NaN on the diagonal (a continuous column shares infinitely much with itself) and where
            nothing is known.
        """
        if column not in COLUMNS[2:9]:
            raise ValueError(f"column must be one of {', '.join(COLUMNS[2:9])}, got {column!r}")
        found = np.full((len(self.names),) * 2, math.nan)
        for (i, j), pair in zip(combinations(range(len(self.names)), 2), self.pairs, strict=True):
            value = pair.row()[column]
            found[i, j] = found[j, i] = math.nan if value is None else value
        return found

    def rows(self) -> list[dict[str, Any]]:
        """A dict for each pair, the largest estimate first."""
        return [pair.row() for pair in sorted(self.pairs, key=lambda pair: -pair.estimate.value)]

    def to_frame(self) -> Any:
        """The rows as a pandas DataFrame, the largest estimate first.

        Raises:
            ImportError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as problem:
            raise ImportError("to_frame() needs pandas: pip install pandas, or use rows() or to_csv()") from problem
        return pandas.DataFrame(self.rows(), columns=list(COLUMNS))

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the rows, the largest estimate first.

        Args:
            path: of the file, which is replaced.
        """
        with open(path, "w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, COLUMNS)
            table.writeheader()
            table.writerows(self.rows())

    def heatmap(self, path: str | os.PathLike[str] | None = None, *, level: float = LEVEL) -> Figure:
        """The estimates as a picture; a dot where Benjamini and Hochberg's p is above `level`.

        Args:
            path: where it is saved (.png, .svg, .pdf), or None.
            level: of the corrected p-values.

        Returns:
            The figure, of matplotlib.
        """
        figure = _drawn(self, level)
        if path is not None:
            figure.savefig(path, dpi=150)
        return figure

    def __repr__(self) -> str:
        return f"MIMatrix({len(self.names)} columns, {len(self.pairs)} pairs)"

    def __str__(self) -> str:
        best = sorted(self.pairs, key=lambda pair: -pair.estimate.value)
        lines = [f"{len(self.names)} columns, {len(self.pairs)} pairs, nats; p corrected by Holm and by BH"]
        for pair in best[:SHOWN]:
            ci = pair.estimate.ci
            interval = f" [{ci[0]:.3f}, {ci[1]:.3f}]" if ci else ""
            marks = ", ".join(dict.fromkeys(caution.code for caution in pair.estimate.warnings))
            lines.append(
                f"{pair.first} ~ {pair.second}: {pair.estimate.value:.3f}{interval}, p {pair.p_holm:.3g} / "
                f"{pair.p_bh:.3g}{f' ({marks})' if marks else ''}"
            )
        lines += [f"... and {len(best) - SHOWN} more"] if len(best) > SHOWN else []
        return "\n".join([*lines, *(f"warning: {caution}" for caution in self.warnings)])


# ---------------------------------------------------------------------------------------------- the estimates


def mi_matrix(
    data: Any,
    *,
    estimator: Callable[..., Estimate] | None = None,
    level: float = 0.95,
    permutations: int | None = None,
    seed: int = 0,
    groups: ArrayLike | None = None,
    blocks: int | None = None,
    n_jobs: int = 1,
) -> MIMatrix:
    """Mutual information of every pair of columns, in nats, with intervals, and p-values corrected for their number.

    Columns are taken by their dtype: text, booleans and categories are labels, all else numbers, and whole numbers what
    `mutual_information` takes them for. The p-values are those of a permutation test on ranks that costs next to
    nothing (inference/rank_test.py), whatever the estimator. They are corrected over all pairs by Holm (for the chance
    of any false discovery) and by Benjamini and Hochberg (for the share of false ones).

    Args:
        data: a data frame, a table, an array [n, d], or a mapping of names to columns [n].
        estimator: (x, y) -> Estimate of a pair; None is `mutual_information` without networks.
        level: of the intervals, between 0 and 1.
        permutations: B of the test. None: enough for Holm's p to reach .05, at least 999 and at most 9,999.
        seed: of everything that is drawn.
        groups: [n], the source of each row, where rows share sources; see `mutual_information`.
        blocks: rows are in the order of time, and independent when that many places apart; see `mutual_information`.
        n_jobs: pairs at a time, on threads.

    Raises:
        ValueError: fewer than two columns, missing values (with the column and the row), columns of different lengths,
            settings out of their range, or whatever the estimator refuses, with the names of the pair.

    References:
        Holm 1979; Benjamini & Hochberg 1995 (inference/multiple_testing.py).

    Example:
        >>> rng = np.random.default_rng(0)
        >>> x = rng.standard_normal(500)
        >>> table = mi_matrix({"x": x, "y": x + rng.standard_normal(500), "z": rng.standard_normal(500)})
        >>> [(pair.first, pair.second) for pair in table.pairs if pair.p_holm < 0.05]
        [('x', 'y')]
    """
    started = time.perf_counter()
    check_uncertainty(level, permutations or 0)
    check_seed(seed)
    workers = whole_number("n_jobs", n_jobs, 1, "threads")
    columns = dict(_columns(data))
    sides = {name: _test_side(column, name) for name, column in columns.items()}
    check_paired(*sides.values())
    n, count = next(iter(sides.values())).n, len(columns) * (len(columns) - 1) // 2
    rows = read_rows(n, groups, blocks)
    if permutations is None:
        permutations = min(max(LEAST, math.ceil(count / LEVEL) - 1), MOST)
    estimate = estimator or partial(
        mutual_information, learned=False, permutations=0, level=level, seed=seed, groups=groups, blocks=blocks
    )
    # The first rows are as good as any where rows are independent and in no order; others say so.
    tested = np.arange(n) if n <= TESTED or rows.lags else np.random.default_rng(seed).permutation(n)[:TESTED]
    rng = np.random.default_rng(seed)
    codes = {name: coded(_taken(side, tested), rng) for name, side in sides.items()}
    test = RankTest(rows.take(tested), permutations, seed)
    p = [test.p_value(codes[a], codes[b]) if permutations else math.nan for a, b in combinations(columns, 2)]
    with ThreadPoolExecutor(workers) as pool:
        estimates = list(pool.map(partial(_estimated, estimate, columns), *zip(*combinations(columns, 2), strict=True)))
    pairs = _corrected(list(combinations(columns, 2)), estimates, p, permutations)
    return MIMatrix(tuple(columns), pairs, _few_permutations(count, permutations), time.perf_counter() - started)


def _columns(data: Any) -> Iterator[tuple[str, Any]]:
    """Named columns [n] of whatever holds some."""
    found = list(data.items()) if isinstance(data, Mapping) else columns_of(data)
    if found is None:
        values = plain(data, "data").values
        if values.ndim != 2:
            raise ValueError(f"data has shape {values.shape}: pass [n, d], a data frame or a mapping of columns")
        found = [(str(place), values[:, place]) for place in range(values.shape[1])]
    names = [str(name) for name, _ in found]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f"data has several columns called {min(twice)!r}: give each a name of its own")
    if len(found) < 2:
        raise ValueError(f"data has {len(found)} columns: a pair needs 2")
    yield from zip(names, (column for _, column in found), strict=True)


def _test_side(column: Any, name: str) -> Variable | Categories:
    """A column as the test takes it: whole numbers of few values are labels."""
    side = read_side(column, f"column {name!r}")
    found = side.labels if side.numbers is None or side.few else side.numbers
    assert found is not None  # a side is one of the two
    if isinstance(found, Variable) and found.d != 1:
        raise ValueError(f"column {name!r} has {found.d} columns of its own: pass them under names of their own")
    return found


def _taken(side: Variable | Categories, rows: np.ndarray) -> Variable | Categories:
    if isinstance(side, Variable):
        return side._replace(values=side.values[rows])
    return side._replace(codes=side.codes[rows])


def _estimated(estimator: Callable[..., Estimate], columns: Mapping[str, Any], first: str, second: str) -> Estimate:
    try:
        return estimator(columns[first], columns[second])
    except ValueError as problem:
        raise ValueError(f"columns {first!r} (x) and {second!r} (y): {problem}") from problem


def _corrected(
    names: list[tuple[str, str]], estimates: list[Estimate], p: list[float], permutations: int
) -> tuple[Pair, ...]:
    if not permutations:
        return tuple(Pair(*pair, found, math.nan, math.nan) for pair, found in zip(names, estimates, strict=True))
    return tuple(
        Pair(*pair, replace(found, p_value=alone, permutations=permutations, null=None), float(of_any), float(of_share))
        for pair, found, alone, of_any, of_share in zip(
            names, estimates, p, holm(p), benjamini_hochberg(p), strict=True
        )
    )


def _few_permutations(pairs: int, permutations: int) -> tuple[Caution, ...]:
    least = pairs / (1 + permutations)
    if not permutations or least <= LEVEL:
        return ()
    text = (
        f"the least p of {pairs} pairs that {permutations} permutations can show is {least:.3g} once corrected by "
        f"Holm: pass permutations={math.ceil(pairs / LEVEL) - 1}, or fewer columns"
    )
    return (Caution("few-permutations", text, {"pairs": pairs, "permutations": permutations, "least": least}),)


# -------------------------------------------------------------------------------------------------- the picture


def _drawn(matrix: MIMatrix, level: float) -> Figure:
    from matplotlib.figure import Figure

    size, values = len(matrix.names), matrix.values()
    inches = min(2.5 + 0.45 * size, 24)
    figure = Figure(figsize=(inches + 1, inches), layout="constrained")
    axes = figure.add_subplot()
    shades = axes.imshow(np.maximum(values, 0), cmap="viridis", vmin=0)
    figure.colorbar(shades, ax=axes, label="nats")
    # A name is no mathematics, whatever it holds.
    names = [name.replace("$", r"\$") for name in matrix.names]
    axes.set_xticks(range(size), names, rotation=90)
    axes.set_yticks(range(size), names)
    unclear = np.argwhere(matrix.values("p_bh") > level)
    axes.plot(unclear[:, 1], unclear[:, 0], ".", color="white", markersize=4)
    for i, j in np.argwhere(np.isfinite(values)) if size <= 12 else ():
        color = "black" if values[i, j] > 0.6 * np.nanmax(values) else "white"
        axes.text(j, i + 0.25, f"{round(values[i, j], 2) + 0.0:.2f}", ha="center", color=color, fontsize=7)
    axes.set_title(f"mutual information (dots: p above {level:g}, Benjamini-Hochberg)", fontsize=9)
    return figure
