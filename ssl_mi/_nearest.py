"""For a word that does not exist, the nearest one that does."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


def close(word: str, words: Sequence[str], cutoff: float = 0.6) -> list[str]:
    """The nearest of `words`, or nothing where none is near.

    Args:
        word: The word as it was written.
        words: Those that exist.
        cutoff: The least similarity, in [0, 1].
    """
    return difflib.get_close_matches(word, words, n=1, cutoff=cutoff)


def hint(word: str, words: Iterable[str]) -> str:
    """ ": did you mean ...?", by the whole of a dotted key or else by its last part; "" where none is near.

    Args:
        word: The key as it was written.
        words: Those that exist.
    """
    known = sorted(words)
    found = close(word, known)
    if not found:
        last = {key.rsplit(".", 1)[-1]: key for key in reversed(known)}
        found = [last[name] for name in close(word.rsplit(".", 1)[-1], list(last))]
    return f": did you mean '{found[0]}'?" if found else ""
