"""What an estimator returns: a number in nats, and everything needed to judge it."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from ssl_mi.information.core.caution import Caution

Kind = Literal["point estimate", "lower bound", "upper bound", "surrogate"]
KINDS = ("point estimate", "lower bound", "upper bound", "surrogate")


@dataclass(frozen=True, eq=False, repr=False)
class Estimate:
    """An estimate of an information quantity, in nats.

    `float(estimate)` is its value. Two estimates are equal when all fields but `seconds` are, NaN being equal to NaN.

    Args:
        value: the estimate. Never clipped: a small negative estimate is information.
        kind: "point estimate"; "lower bound" or "upper bound" (in expectation); "surrogate" (a score that bounds
            nothing).
        se: standard error of `value`, nats, or None.
        ci: (low, high) confidence interval at level `ci_level`, nats, or None.
        ci_level: confidence level of `ci`, between 0 and 1; None exactly where `ci` is.
        p_value: (1 + b) / (1 + B) over B permuted samples, b of which reached `value`; or None.
        null: mean estimate over the permuted samples, nats: what this procedure gives where nothing is shared.
        ceiling: the largest value this estimator can return here (log N, ψ(n) - ψ(k), ...), nats, or None.
        n: rows that the estimate was made on.
        dims: number of dimensions of each side.
        projection: what the samples went through first; the estimate is then *of this projection*.
        estimator: its name.
        settings: its parameters, by name.
        seconds: what it cost.
        warnings: what may be wrong and what to do, each a `Caution`. A plain string becomes one, with the code "own".
        permutations: B of the p-value, or None.

    Raises:
        ValueError: an unknown `kind`, or `ci` without `ci_level` (or the other way round).

    Example:
        >>> estimate = Estimate(0.25, ci=(0.2, 0.3), ci_level=0.95, n=1000, estimator="KSG1", settings={"k": 3})
        >>> print(estimate)
        0.2500 nats [0.2000, 0.3000] at 95%, KSG1(k=3), n = 1000
        >>> round(estimate.bits, 4)
        0.3607
    """

    value: float
    kind: Kind = "point estimate"
    se: float | None = None
    ci: tuple[float, float] | None = None
    ci_level: float | None = None
    p_value: float | None = None
    null: float | None = None
    ceiling: float | None = None
    n: int | None = None
    dims: tuple[int, ...] | None = None
    projection: str | None = None
    estimator: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    seconds: float | None = None
    warnings: tuple[Caution, ...] = ()
    permutations: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {KINDS}, got {self.kind!r}")
        if (self.ci is None) != (self.ci_level is None):
            raise ValueError(f"ci and ci_level come together, got ci={self.ci}, ci_level={self.ci_level}")
        object.__setattr__(self, "warnings", tuple(map(Caution.of, self.warnings)))

    @property
    def bits(self) -> float:
        """The value in bits: nats / ln 2."""
        return self.value / math.log(2)

    @property
    def p_text(self) -> str | None:
        """The p-value in words, which name it where no smaller one was possible; None where there is none.

        p is at least 1 / (1 + B). At this floor B permutations cannot distinguish weak evidence from strong.
        """
        if self.p_value is None:
            return None
        if self.permutations is None or self.p_value * (1 + self.permutations) > 1 + 1e-9:
            return f"p = {self.p_value:.3g}"
        return f"p <= {self.p_value:.3g}, the least that {self.permutations} permutations can show"

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON has them: plain Python values, None for NaN and infinity, warnings with their codes."""
        return {f.name: finite(getattr(self, f.name)) for f in fields(self)}

    def __float__(self) -> float:
        return float(self.value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Estimate):
            return NotImplemented
        return all(_same(getattr(self, f.name), getattr(other, f.name)) for f in fields(self) if f.name != "seconds")

    __hash__ = None  # type: ignore[assignment]  # settings are a dict

    def __str__(self) -> str:
        return self._line(map(str, self.warnings), " | ")

    def __repr__(self) -> str:
        return f"Estimate({self._line((caution.code for caution in self.warnings), ', ')})"

    def _repr_html_(self) -> str:
        """A table of all that is known, for notebooks."""

        def nats(value: float) -> str:
            return f"{value:.4f} nats"

        known = {
            "value": f"{nats(self.value)} ({self.bits:.4f} bits)",
            "kind": self.kind,
            "interval": self.ci and f"{self.ci[0]:.4f} .. {nats(self.ci[1])} at {self.ci_level:.0%}",
            "se": None if self.se is None else nats(self.se),
            "p": self.p_text and self.p_text.removeprefix("p ").removeprefix("= "),
            "null": None if self.null is None else nats(self.null),
            "ceiling": self.ceiling and nats(self.ceiling),
            "n": self.n and str(self.n),
            "dims": self.dims and " × ".join(map(str, self.dims)),
            "projection": self.projection,
            "estimator": self.estimator,
            "settings": ", ".join(f"{name}={value}" for name, value in self.settings.items()),
        }
        rows = [(name, text) for name, text in known.items() if text]
        rows += [(f"warning: {caution.code}", caution.message) for caution in self.warnings]
        cells = (f"<tr><th>{html.escape(name)}</th><td>{html.escape(text)}</td></tr>" for name, text in rows)
        return f"<table>{''.join(cells)}</table>"

    def _line(self, warnings: Iterable[str], separator: str) -> str:
        parts = [f"{self.value:.4f} nats"]
        if self.ci is not None:
            parts.append(f"[{self.ci[0]:.4f}, {self.ci[1]:.4f}] at {self.ci_level:.0%}")
        elif self.se is not None:
            parts.append(f"± {self.se:.4f}")
        if self.kind != "point estimate":
            parts.append(f"({self.kind})")
        line = " ".join(parts) + ", " + ", ".join(self._details())
        if self.warnings:
            number = len(self.warnings)
            line += f"; {number} warning{'s'[: number > 1]}: " + separator.join(warnings)
        return line

    def _details(self) -> list[str]:
        details = []
        if self.p_text is not None:
            details.append(self.p_text)
        if self.null is not None:
            details.append(f"null {self.null:.4f}")
        if self.ceiling is not None:
            details.append(f"ceiling {self.ceiling:.2f}")
        settings = ", ".join(f"{name}={value}" for name, value in self.settings.items())
        details.append(f"{self.estimator or 'estimate'}({settings})")
        if self.projection is not None:
            details.append(f"of {self.projection}")
        if self.n is not None:
            details.append(f"n = {self.n}")
        if self.dims is not None:
            details.append("dims " + " × ".join(str(d) for d in self.dims))
        return details


def _same(a: Any, b: Any) -> bool:
    """Equality, with NaN equal to NaN, also inside tuples and mappings."""
    if isinstance(a, tuple | list) and isinstance(b, tuple | list):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if hasattr(a, "tolist") and hasattr(b, "tolist"):  # numpy and torch, without importing either
        return _same(a.tolist(), b.tolist())
    return bool(a == b) or bool(a != a and b != b)  # NaN is what differs from itself


def finite(value: Any) -> Any:
    """Only what JSON has: no NaN, no infinity, nothing of numpy."""
    if isinstance(value, Caution):
        return finite(value.to_dict())
    if isinstance(value, Mapping):
        return {str(key): finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    if hasattr(value, "tolist"):  # numpy and torch, without importing either
        return finite(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)
