"""Does an estimator obey the laws of information on these samples? Checks that need no known answer.

    independence      I(X; Y') = 0                              Y' = Y with its rows deranged
    data_processing   I(X; (Y, h(Y))) = I(X; Y)                 a function of what is known adds nothing
    coarsening        I(X; h(Y)) <= I(X; Y)                     no function of Y knows more of X than Y
    additivity        I((X1, X2); (Y1, Y2)) = I(X1; Y1) + I(X2; Y2)    two halves of the rows
    invariance        I(f(X); g(Y)) = I(X; Y)                   f, g invertible
    symmetry          I(X; Y) = I(Y; X)
    chain_rule        I(X; (Y, Z)) = I(X; Z) + I(X; Y | Z)
    entropies         I(X; Y) = H(Y) - H(Y | X)                 or H(X) + H(Y) - H(X, Y)

An estimator that breaks a law on the samples at hand should not be trusted there. One that obeys all may still be
wrong: always returning 0 breaks none but the last two. An estimator is a function (x, y) -> Estimate or a number, in
nats; x and y are [n] or [n, d], paired.

References:
    Song & Ermon 2020, arXiv:1910.06222, section 5.2 (independence, data processing in both forms, additivity).
    Cover & Thomas 2006, Elements of Information Theory, chapter 2 (the others).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ssl_mi.information.core.estimate import Estimate
from ssl_mi.information.core.inputs import read_pair
from ssl_mi.information.inference.permutation import derangement

Value = Estimate | float
Estimator = Callable[..., Value]
Map = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Check:
    """An estimate, and what the law requires of it, in nats.

    Args:
        law: its name.
        estimated: the estimate, nats.
        expected: what it should be, or may be at most, nats.
        at_most: whether `expected` is an upper limit.
        se: the joint standard error of both sides, as far as the estimator gives one; 0 where it gives none.
    """

    law: str
    estimated: float
    expected: float
    at_most: bool = False
    se: float = 0.0

    @property
    def gap(self) -> float:
        """estimated - expected, nats."""
        return self.estimated - self.expected

    @property
    def ratio(self) -> float:
        """estimated / expected: should be 1, as in the tables of Song & Ermon (nan where 0 is expected)."""
        return self.estimated / self.expected if self.expected else math.nan

    def holds(self, absolute: float = 0.05, relative: float = 0.1, z: float = 3.0) -> bool:
        """Whether the gap is within `absolute` nats, a `relative` share of the larger side, or `z` standard errors."""
        tolerance = max(absolute, relative * max(abs(self.estimated), abs(self.expected)), z * self.se)
        return (self.gap if self.at_most else abs(self.gap)) <= tolerance  # False for NaN

    def __str__(self) -> str:
        relation = "at most" if self.at_most else "be"
        return (
            f"{self.law}: estimated {self.estimated:.4f}, should {relation} {self.expected:.4f} "
            f"(off by {self.gap:+.4f} nats)"
        )


def independence(estimator: Estimator, x: ArrayLike, y: ArrayLike, seed: int = 0) -> Check:
    """I(X; Y') = 0 for re-paired rows Y': the estimate where nothing is shared."""
    a, b = _values(x, y)
    deranged = b[derangement(len(b), np.random.default_rng(seed))]
    return _check("independence", [estimator(a, deranged)], [0.0])


def data_processing(estimator: Estimator, x: ArrayLike, y: ArrayLike, seed: int = 0, h: Map | None = None) -> Check:
    """I(X; (Y, h(Y))) = I(X; Y). h: by default a random orthogonal map of Y, then tanh."""
    a, b = _values(x, y)
    more = _join(b, h(b) if h else _rotated_tanh(b, seed))
    return _check("data processing", [estimator(a, more)], [estimator(a, b)])


def coarsening(estimator: Estimator, x: ArrayLike, y: ArrayLike, seed: int = 0, h: Map | None = None) -> Check:
    """I(X; h(Y)) <= I(X; Y). h: by default one random direction of Y, then tanh."""
    a, b = _values(x, y)
    less = _join(h(b) if h else _rotated_tanh(b, seed)[:, :1])
    return _check("coarsening", [estimator(a, less)], [estimator(a, b)], at_most=True)


def additivity(estimator: Estimator, x: ArrayLike, y: ArrayLike, seed: int = 0) -> Check:
    """I((X1, X2); (Y1, Y2)) = I(X1; Y1) + I(X2; Y2): two halves of the rows, side by side, are independent."""
    a, b = _values(x, y)
    order, half = np.random.default_rng(seed).permutation(len(a)), len(a) // 2
    first, second = order[:half], order[half : 2 * half]
    both = estimator(_join(a[first], a[second]), _join(b[first], b[second]))
    return _check("additivity", [both], [estimator(a[first], b[first]), estimator(a[second], b[second])])


def invariance(
    estimator: Estimator, x: ArrayLike, y: ArrayLike, seed: int = 0, f: Map | None = None, g: Map | None = None
) -> Check:
    """I(f(X); g(Y)) = I(X; Y), f and g invertible: by default a random rotation, then t + t^3/10 and asinh(2 t)."""
    a, b = _values(x, y)
    if f is None and g is None:
        u, v = _standard(a) @ _rotation(a.shape[1], seed), _standard(b) @ _rotation(b.shape[1], seed + 1)
        mapped = estimator(u + u**3 / 10, np.arcsinh(2 * v))
    else:
        mapped = estimator(f(a) if f else a, g(b) if g else b)
    return _check("invariance", [mapped], [estimator(a, b)])


def symmetry(estimator: Estimator, x: ArrayLike, y: ArrayLike, seed: int = 0) -> Check:
    """I(X; Y) = I(Y; X)."""
    a, b = _values(x, y)
    return _check("symmetry", [estimator(a, b)], [estimator(b, a)])


def chain_rule(conditional: Estimator, estimator: Estimator, x: ArrayLike, y: ArrayLike, z: ArrayLike) -> Check:
    """I(X; (Y, Z)) = I(X; Z) + I(X; Y | Z); conditional(x, y, z) estimates the last term."""
    a, b = _values(x, y)
    c = read_pair(x, z, ("x", "z"))[1].values
    return _check("chain rule", [estimator(a, _join(b, c))], [estimator(a, c), conditional(a, b, c)])


def entropies(
    estimator: Estimator,
    x: ArrayLike,
    y: ArrayLike,
    *,
    entropy: Callable[[np.ndarray], Value],
    conditional_entropy: Callable[[np.ndarray, np.ndarray], Value] | None = None,
) -> Check:
    """I(X; Y) = H(Y) - H(Y | X), each side by estimators of its own.

    Args:
        estimator: (x, y) -> I(X; Y).
        x: [n] or [n, dx].
        y: [n] or [n, dy].
        entropy: y -> H(Y).
        conditional_entropy: (y, x) -> H(Y | X). Without it the law is I = H(X) + H(Y) - H(X, Y), with `entropy` of the
            joined columns.
    """
    a, b = _values(x, y)
    if conditional_entropy is None:
        added, taken = [entropy(a), entropy(b)], entropy(_join(a, b))
    else:
        added, taken = [entropy(b)], conditional_entropy(b, a)
    # Written as I + H(Y | X) = H(Y) the sides are sums; the gap is that of the law.
    whole = _check("entropies", [estimator(a, b), taken], added)
    return Check("entropies", whole.estimated - float(taken), whole.expected - float(taken), se=whole.se)


def all_checks(estimator: Estimator, x: ArrayLike, y: ArrayLike, seed: int = 0) -> list[Check]:
    """Every check that needs no more than the estimator and the rows.

    Args:
        estimator: (x, y) -> Estimate or a number, in nats.
        x: [n] or [n, dx].
        y: [n] or [n, dy].
        seed: of derangements, halves and rotations.

    Example:
        >>> from ssl_mi.information import ksg
        >>> x = np.random.default_rng(0).standard_normal(1000)
        >>> all(check.holds() for check in all_checks(ksg, x, x + np.random.default_rng(1).standard_normal(1000)))
        True
    """
    laws: tuple[Callable[..., Check], ...] = (
        independence,
        data_processing,
        coarsening,
        additivity,
        invariance,
        symmetry,
    )
    return [law(estimator, x, y, seed) for law in laws]


def _check(law: str, estimated: Sequence[Value], expected: Sequence[Value], at_most: bool = False) -> Check:
    se = math.hypot(*(getattr(term, "se", None) or 0.0 for term in (*estimated, *expected)))
    return Check(law, sum(map(float, estimated)), sum(map(float, expected)), at_most, se)


def _values(x: ArrayLike, y: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    first, second = read_pair(x, y)
    return first.values, second.values


def _join(*columns: np.ndarray) -> np.ndarray:
    return np.hstack([c if c.ndim == 2 else c[:, None] for c in columns])


def _rotated_tanh(values: np.ndarray, seed: int) -> np.ndarray:
    return np.tanh(_standard(values) @ _rotation(values.shape[1], seed))


def _standard(values: np.ndarray) -> np.ndarray:
    deviation = values.std(0)
    return (values - values.mean(0)) / np.where(deviation > 0, deviation, 1.0)


def _rotation(d: int, seed: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))[0]
