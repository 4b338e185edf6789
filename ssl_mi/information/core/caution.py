"""A warning about an estimate, as an object: what it is about, in words, and the numbers in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

OWN = "own"  # the code of a warning that came as a plain string


@dataclass(frozen=True)
class Caution:
    """A warning that comes with an estimate.

    Programs decide by `code` and `numbers`, people read `message`; nothing looks at the words.

    Args:
        code: what it is about, in kebab case, for example "near-ceiling"; its anchor in docs/estimating.md.
        message: one sentence, saying what may be wrong and what to do. `str()` gives it.
        numbers: the figures and names in the sentence, by name, for example {"ceiling": 7.59}.
    """

    code: str
    message: str
    numbers: Mapping[str, float | int | str] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        return self.message

    def to_dict(self) -> dict[str, object]:
        """The caution as JSON has it: code, message and, where there are any, numbers."""
        return {"code": self.code, "message": self.message, **({"numbers": dict(self.numbers)} if self.numbers else {})}

    @classmethod
    def of(cls, warning: Caution | str) -> Caution:
        """A caution as it is; a sentence, as estimators of your own may give, under the code "own"."""
        return warning if isinstance(warning, Caution) else cls(OWN, str(warning))


def distinct(cautions: Iterable[Caution]) -> tuple[Caution, ...]:
    """Each code and message once, in order of appearance."""
    return tuple({(caution.code, caution.message): caution for caution in cautions}.values())
