"""A warning about an estimate, as an object: what it is, in words, and the numbers in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Caution:
    """A warning that comes with an estimate.

    Code decides by `code` and `numbers`, people read `message`; nothing looks at the words.

    Args:
        code: what it is about, in kebab case, for example "near-ceiling"; its anchor in docs/estimating.md.
        message: one sentence, saying what may be wrong and what to do. `str()` gives it.
        numbers: what the sentence says in figures, by name, for example {"ceiling": 7.59}.
    """

    code: str
    message: str
    numbers: Mapping[str, float | int | str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.message

    def to_dict(self) -> dict[str, object]:
        return {"code": self.code, "message": self.message, **({"numbers": dict(self.numbers)} if self.numbers else {})}
