"""What an estimator answers: a number in nats, and everything needed to judge it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["point estimate", "lower bound", "upper bound", "surrogate"]
KINDS = ("point estimate", "lower bound", "upper bound", "surrogate")


@dataclass(frozen=True)
class Estimate:
    """An estimate of an information quantity, in nats.

    value:      the estimate. Never clipped: a small negative estimate is information.
    kind:       "point estimate"; "lower bound" or "upper bound" (in expectation); "surrogate" (a score that
                bounds nothing).
    se:         standard error of `value`, or None.
    ci:         (low, high) confidence interval at level `ci_level`, or None.
    p_value:    (1 + b) / (1 + B) over B permuted samples, b of which reached `value`; or None.
    null:       mean estimate over the permuted samples: what this procedure reads where nothing is shared.
    ceiling:    the largest value this estimator can return here (log N, ψ(n) - ψ(k), ...), or None.
    n, dims:    rows read, and the dimensions of each side.
    projection: what the samples went through before they were read; the estimate is then *of this
    projection*. estimator:  its name; `settings` its parameters; `seconds` its cost. warnings:   one
    sentence each, saying what may be wrong and what to do.
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
    warnings: tuple[str, ...] = ()

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {KINDS}, got {self.kind!r}")
        if (self.ci is None) != (self.ci_level is None):
            raise ValueError(f"ci and ci_level come together, got ci={self.ci}, ci_level={self.ci_level}")

    @property
    def bits(self) -> float:
        """The value in bits: nats / ln 2."""
        return self.value / math.log(2)

    def __float__(self) -> float:
        return float(self.value)

    def __str__(self) -> str:
        parts = [f"{self.value:.4f} nats"]
        if self.ci is not None:
            parts.append(f"[{self.ci[0]:.4f}, {self.ci[1]:.4f}] at {self.ci_level:.0%}")
        elif self.se is not None:
            parts.append(f"± {self.se:.4f}")
        if self.kind != "point estimate":
            parts.append(f"({self.kind})")
        details = []
        if self.p_value is not None:
            details.append(f"p = {self.p_value:.3g}")
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
        line = " ".join(parts) + ", " + ", ".join(details)
        if self.warnings:
            line += f"; {len(self.warnings)} warning{'s'[: len(self.warnings) > 1]}: " + " | ".join(
                map(str, self.warnings)
            )
        return line
