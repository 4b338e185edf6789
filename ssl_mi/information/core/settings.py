"""Numbers that users pass beside the samples, checked under their own names before any work is done."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def whole_number(name: str, value: Any, least: int, what: str = "") -> int:
    """`value` as an int.

    Args:
        name: of the argument, in messages.
        value: what was passed. A bool is no number.
        least: the smallest value allowed.
        what: it counts, in messages.

    Raises:
        ValueError: another type, a fraction, or less than `least`.
    """
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool | np.bool_)
    if not number or not math.isfinite(value) or value != int(value) or value < least:
        raise ValueError(
            f"{name} must be a whole number{f' of {what}' if what else ''}, at least {least}, got {value!r}"
        )
    return int(value)


def check_level(level: Any) -> None:
    """Raise ValueError unless the confidence level is a number between 0 and 1, both left out."""
    number = isinstance(level, int | float | np.integer | np.floating) and not isinstance(level, bool | np.bool_)
    if not number or not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, as 0.95 does, got {level!r}")


def check_seed(seed: Any) -> None:
    """Raise ValueError unless it is a whole number from 0."""
    whole_number("seed", seed, 0)


def check_uncertainty(level: Any, permutations: Any, subsets: Any = 0) -> None:
    """Raise ValueError for a level, a number of permutations or of subsets out of its range."""
    check_level(level)
    whole_number("permutations", permutations, 0, "re-pairings")
    if whole_number("subsets", subsets, 0, "parts") == 1:
        raise ValueError("subsets must be at least 2 to have a spread, or 0 for no interval, got 1")
