"""Whole numbers as numbers or as labels: whichever shows more, its own bias at independence taken off.

Labels are counted (or go to Ross's estimator), which needs rows of every label, or pair of labels; where those are too
few the estimate is too large, by about as much as it is where rows are re-paired at random. Numbers are spread over
[y, y + 1), which loses nothing and adds no bias at independence, but blurs labels whose order means nothing. So

1. two sides that can be counted without bias are counted: hardly a pair of values that is seen once, or a null of 0;
2. numbers against few labels (20 rows of each on average) go to Ross's estimator;
3. otherwise the side is taken as numbers, unless labels show clearly more than numbers do, less their null.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import NamedTuple

import numpy as np

from ssl_mi.information.core.caution import Caution
from ssl_mi.information.core.estimate import Estimate
from ssl_mi.information.core.inputs import Categories, Variable
from ssl_mi.information.estimators.auto.sides import Side
from ssl_mi.information.estimators.discrete import discrete_mi

Taken = Variable | Categories

FEW_SINGLES = 0.01  # share of rows whose pair of values no other row has
NULLS = 20
NO_BIAS = 0.005  # nats
COMPARED = 4000  # rows
CLEARLY = 0.05, 0.05  # nats, and a share of the estimate


class Choice(NamedTuple):
    """How each side is taken, and what is to be said of it."""

    x: Taken
    y: Taken
    settings: dict[str, str]
    warnings: tuple[Caution, ...] = ()


def choose(x: Side, y: Side, estimate: Callable[[Taken, Taken], Estimate], seed: int) -> Choice:
    """How to take the two sides.

    Args:
        x: one side.
        y: the other.
        estimate: a quick estimate of sides taken one way or another, with a null where a side is labels.
        seed: of the permutations and of the rows that are compared.
    """
    ways = list(product(_ways(x), _ways(y)))
    if len(ways) == 1:
        return Choice(*ways[0], {})
    if x.labels is not None and y.labels is not None:
        if countable(x.labels, y.labels, seed):
            return _chosen(x, y, x.labels, y.labels)
    elif x.few or y.few:
        return _chosen(x, y, *ways[-1])
    return _compared(x, y, ways, estimate, seed)


def _ways(side: Side) -> list[Taken]:
    """As numbers, then as labels."""
    return [taken for taken in (side.numbers, side.labels) if taken is not None]


def _chosen(x: Side, y: Side, as_x: Taken, as_y: Taken, warnings: tuple[Caution, ...] = ()) -> Choice:
    pairs = ((x, as_x), (y, as_y))
    settings = {side.name: f"as {_word(taken)}" for side, taken in pairs if side.either}
    return Choice(as_x, as_y, settings, warnings)


def _word(taken: Taken) -> str:
    return "labels" if isinstance(taken, Categories) else "numbers"


def countable(x: Categories, y: Categories, seed: int) -> bool:
    """Whether pairs of labels can be counted without a bias that shows."""
    joint = x.codes * (int(y.codes.max()) + 1) + y.codes
    counts = np.unique(joint, return_counts=True)[1]
    if (counts == 1).sum() <= FEW_SINGLES * x.n:
        return True
    rng = np.random.default_rng(seed)
    null = [float(discrete_mi(x.codes, rng.permutation(y.codes), "grassberger")) for _ in range(NULLS)]
    return float(np.mean(null)) <= NO_BIAS + 2 * float(np.std(null)) / np.sqrt(NULLS)


def _compared(
    x: Side, y: Side, ways: list[tuple[Taken, Taken]], estimate: Callable[[Taken, Taken], Estimate], seed: int
) -> Choice:
    """The first way, with as many numbers as possible, unless another shows clearly more on some of the rows."""
    if x.n > COMPARED:
        some = np.sort(np.random.default_rng(seed).permutation(x.n)[:COMPARED])
        tried = list(product(_ways(x.take(some)), _ways(y.take(some))))
    else:
        tried = ways
    found = [estimate(*way) for way in tried]
    shown = [one.value - max(one.null or 0.0, 0.0) for one in found]
    best = int(np.argmax(shown))
    # The bias of labels is known at independence only: a quarter of it stays in doubt.
    doubt = max(CLEARLY[0], CLEARLY[1] * shown[best], 3 * (found[best].se or 0.0), (found[best].null or 0.0) / 4)
    if shown[best] - shown[0] <= doubt:
        return _chosen(x, y, *ways[0])
    told = _told(x, y, ways[best], found[best], found[0])
    return _chosen(x, y, *ways[best], (told,))


def _told(x: Side, y: Side, way: tuple[Taken, Taken], labels: Estimate, numbers: Estimate) -> Caution:
    sides = [
        side.name for side, taken in zip((x, y), way, strict=True) if side.either and isinstance(taken, Categories)
    ]
    declared = {"x": "(False, None)", "y": "(None, False)"}.get(" ".join(sides), "False")
    text = (
        f"whole numbers of {' and '.join(sides)} were taken as labels: {labels.value:.3f} nats (null "
        f"{labels.null or 0.0:.3f}), against {numbers.value:.3f} as numbers; if they are numbers, pass "
        f"categorical={declared}"
    )
    return Caution(
        "integers-as-labels",
        text,
        {"as_labels": labels.value, "null": labels.null or 0.0, "as_numbers": numbers.value},
    )
