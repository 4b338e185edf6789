"""Rows that come again: copies of continuous rows are removed, coarse values are named."""

from __future__ import annotations

import numpy as np

from ssl_mi.information.core.caution import Caution
from ssl_mi.information.core.inputs import (
    FEW_TIES,
    LOW_PRECISION,
    Categories,
    Variable,
    n_distinct,
    row_hash,
    ties_caution,
)

FEWEST_GRID = 4  # columns in which whole numbers (pixels) hardly repeat
FEW_ATOMS, FEW_SHARED = 2, 0.02  # points of continuous data that several rows have: some, or a share of the others

MANY_ATOMS = 0.01  # of the rows that are one pair at the ends of its columns
SYMBOLIC = 0.9  # of the other rows that are distinct; below, values are coarse


def handle_repeats(a: Variable, b: Variable, drop: bool) -> tuple[Variable, Variable, tuple[Caution, ...]]:
    """Distinguish repeated rows (of continuous data: drop) from coarse values (of discrete data: caution)."""
    n = a.n
    hashes = row_hash(a.values), row_hash(b.values)
    distinct_a, distinct_b = map(n_distinct, hashes)
    if distinct_a == n and distinct_b == n:
        return a, b, ()
    kept = without_copies(a, b)
    if len(kept) < n:
        if not drop:
            text = f"{_repeats(a, b, n - len(kept))}: they look like information; pass duplicates='drop'"
            return a, b, (Caution("repeated-rows", text, {"repeats": n - len(kept), "n": n}),)
        dropped = dropped_copies(a, b, n - len(kept))
        a, b = a._replace(values=a.values[kept]), b._replace(values=b.values[kept])
        return a, b, (dropped, *_ties(a, b))
    return a, b, _ties(a, b)


def _ties(a: Variable, b: Variable) -> tuple[Caution, ...]:
    remedy = ": KSG is for continuous values; use mixed_ksg_gao, or mixed_ksg_ross for labels"
    found = ((side, n_distinct(row_hash(side.values))) for side in (a, b) if side.stored not in LOW_PRECISION)
    return tuple(ties_caution(side, rows, remedy) for side, rows in found if rows < FEW_TIES * side.n)


def without_copies(a: Variable | Categories, b: Variable | Categories) -> np.ndarray:
    """The rows of (a, b) that are left when copies are removed: padding of a batch, sampling with replacement.

    A pair that comes again is a copy when one of its sides is a point that no other pair has: continuous numbers do not
    repeat by themselves. Atoms (the zeros of a ReLU) do, so of pairs of atoms alone as many are removed, at random, as
    of the others; otherwise atoms would be too frequent among what is left. Where both sides stand at the ends of
    their columns or at zero at once (no rain, no umbrella), that is an atom too, whoever it is paired with.

    Returns:
        int64, increasing; all rows where nothing shows that any was copied.
    """
    n = a.n
    hashes = [row_hash(s.values) if isinstance(s, Variable) else s.codes.astype(np.uint64) for s in (a, b)]
    _, first, pair = np.unique(_paired(*hashes), return_index=True, return_inverse=True)
    every = np.arange(n)
    if len(first) == n:
        return every
    own, ties, at_ends = np.zeros(len(first), bool), n, _at_ends(a, b, first)
    for side, hashed in zip((a, b), hashes, strict=True):
        if isinstance(side, Categories) or (side.d < FEWEST_GRID and (side.values == np.round(side.values)).all()):
            continue  # symbols, and whole numbers in few columns, repeat by nature
        _, point, pairs_of_point = np.unique(hashed[first], return_inverse=True, return_counts=True)
        alone, shared = pairs_of_point[point] == 1, int((pairs_of_point > 1).sum())
        if shared <= max(FEW_ATOMS, FEW_SHARED * alone.sum()):
            own |= alone & ~at_ends
            ties = min(ties, shared)
    known = own[pair]
    copies = int(known.sum() - own.sum())
    # Rounded numbers meet by chance, with the same partner or with another.
    if not copies or copies <= 2 * ties or len(first) == 1:
        return every
    kept = np.isin(every, first[own])
    atoms = np.flatnonzero(~known)
    share = own.sum() / known.sum()
    kept[np.random.default_rng(0).permutation(atoms)[: round(share * len(atoms))]] = True
    return np.flatnonzero(kept)


def _paired(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Hashes of pairs from those of both sides."""
    return a ^ (b * np.uint64(0xD6E8FEB86659FD93))


def _at_ends(a: Variable | Categories, b: Variable | Categories, rows: np.ndarray) -> np.ndarray:
    """Which of some rows have only zeros, smallest and largest values of their columns: bool [rows]."""
    found = np.ones(len(rows), bool)
    for side in (a, b):
        if isinstance(side, Variable):
            of = side.values[rows]
            found &= ((of == 0) | (of == side.values.min(0)) | (of == side.values.max(0))).all(1)
    return found


def shared_atom(a: Variable | Categories, b: Variable | Categories) -> tuple[Caution, ...]:
    """That many rows are one pair of values at the ends of all columns, in no other pair: padding looks like that."""
    if not (isinstance(a, Variable) and isinstance(b, Variable)):
        return ()
    of_a, of_b = row_hash(a.values), row_hash(b.values)
    _, first, times = np.unique(_paired(of_a, of_b), return_index=True, return_counts=True)
    often = int(times.argmax())
    row, rows = int(first[often]), int(times[often])
    if rows < MANY_ATOMS * a.n or not _at_ends(a, b, first[[often]])[0]:
        return ()
    alone = (of_a == of_a[row]).sum() == rows == (of_b == of_b[row]).sum()
    coarse = len(first) < SYMBOLIC * (a.n - rows)  # counts and pixels, where this is one of many pairs that repeat
    if coarse or not alone:
        return ()
    text = (
        f"{rows} of {a.n} rows are one and the same pair, at the ends of its columns: it counts as a value "
        f"that {a.name} and {b.name} share; leave these rows out if they are padding or missing"
    )
    return (Caution("shared-atom", text, {"rows": rows, "n": a.n}),)


def dropped_copies(a: Variable | Categories, b: Variable | Categories, repeats: int) -> Caution:
    """That copies of rows were removed."""
    return Caution("dropped-repeats", f"{_repeats(a, b, repeats)} and were dropped", {"repeats": repeats, "n": a.n})


def _repeats(a: Variable | Categories, b: Variable | Categories, repeats: int) -> str:
    return f"{repeats} of {a.n} rows of ({a.name}, {b.name}) are exact repeats"
