"""Does an estimator obey the laws of information on these samples? Checks that need no known answer.

    independence      I(X; Y') = 0                              Y' = Y with its rows deranged
    data_processing   I(X; (Y, h(Y))) = I(X; Y)                 what is known already adds nothing
    coarsening        I(X; h(Y)) <= I(X; Y)                     no function of Y knows more of X than Y
    additivity        I((X1, X2); (Y1, Y2)) = I(X1; Y1) + I(X2; Y2)    two halves of the rows
    invariance        I(f(X); g(Y)) = I(X; Y)                   f, g invertible
    symmetry          I(X; Y) = I(Y; X)
    chain_rule        I(X; (Y, Z)) = I(X; Z) + I(X; Y | Z)
    entropies         I(X; Y) = H(Y) - H(Y | X)                 or H(X) + H(Y) - H(X, Y)

Independence, data processing (both forms) and additivity are the tests of Song & Ermon 2020 (arXiv 1910.06222,
section 5.2); the others are in Cover & Thomas 2006, chapter 2.

An estimator that breaks a law on the samples at hand should not be believed there. One that obeys all may still
be wrong: always reading 0 breaks none but the last two. An estimator is a function (x, y) -> Estimate or a number,
in nats; x and y are [n] or [n, d], paired.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ssl_mi.information.core.estimate import Estimate
from ssl_mi.information.core.inputs import read_pair
from ssl_mi.information.inference.permutation import derangement

Estimator = Callable[..., Estimate | float]
Map = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Check:
    """What was read, and what the law says it should be (or may be at most), in nats.

    se: the joint standard error of both sides, as far as the estimator gives one; 0 where it gives none.
    """

    law: str
    read: float
    expected: float
    at_most: bool = False
    se: float = 0.0

    @property
    def gap(self) -> float:
        """read - expected, nats."""
        return self.read - self.expected

    @property
    def ratio(self) -> float:
        """read / expected: should be 1, as in the tables of Song & Ermon (nan where 0 is expected)."""
        return self.read / self.expected if self.expected else math.nan

    def holds(self, absolute: float = 0.05, relative: float = 0.1, z: float = 3.0) -> bool:
        """Is the gap within `absolute` nats, a `relative` share of the larger side, or `z` standard errors?"""
        tolerance = max(absolute, relative * max(abs(self.read), abs(self.expected)), z * self.se)
        return (self.gap if self.at_most else abs(self.gap)) <= tolerance  # False for NaN

    def __str__(self) -> str:
        relation = "at most" if self.at_most else "be"
        return f"{self.law}: read {self.read:.4f}, should {relation} {self.expected:.4f} (off by {self.gap:+.4f} nats)"


def independence(estimator: Estimator, x, y, seed: int = 0) -> Check:
    """I(X; Y') = 0 for re-paired rows Y': what the estimator reads where nothing is shared."""
    x, y = _read(x, y)
    read = estimator(x, y[derangement(len(y), np.random.default_rng(seed))])
    return _check("independence", [read], [0.0])


def data_processing(estimator: Estimator, x, y, seed: int = 0, h: Map | None = None) -> Check:
    """I(X; (Y, h(Y))) = I(X; Y). h: by default a random orthogonal map of Y, then tanh."""
    x, y = _read(x, y)
    more = _join(y, h(y) if h else _turned_tanh(y, seed))
    return _check("data processing", [estimator(x, more)], [estimator(x, y)])


def coarsening(estimator: Estimator, x, y, seed: int = 0, h: Map | None = None) -> Check:
    """I(X; h(Y)) <= I(X; Y). h: by default one random direction of Y, then tanh."""
    x, y = _read(x, y)
    less = _join(h(y) if h else _turned_tanh(y, seed)[:, :1])
    return _check("coarsening", [estimator(x, less)], [estimator(x, y)], at_most=True)


def additivity(estimator: Estimator, x, y, seed: int = 0) -> Check:
    """I((X1, X2); (Y1, Y2)) = I(X1; Y1) + I(X2; Y2): two halves of the rows, side by side, are independent."""
    x, y = _read(x, y)
    order, half = np.random.default_rng(seed).permutation(len(x)), len(x) // 2
    a, b = order[:half], order[half : 2 * half]
    together = estimator(_join(x[a], x[b]), _join(y[a], y[b]))
    return _check("additivity", [together], [estimator(x[a], y[a]), estimator(x[b], y[b])])


def invariance(estimator: Estimator, x, y, seed: int = 0, f: Map | None = None, g: Map | None = None) -> Check:
    """I(f(X); g(Y)) = I(X; Y), f and g invertible: by default a random rotation, then t + t^3/10 and asinh(2 t)."""
    x, y = _read(x, y)
    if f is None and g is None:
        u, v = _standard(x) @ _rotation(x.shape[1], seed), _standard(y) @ _rotation(y.shape[1], seed + 1)
        mapped = estimator(u + u**3 / 10, np.arcsinh(2 * v))
    else:
        mapped = estimator(f(x) if f else x, g(y) if g else y)
    return _check("invariance", [mapped], [estimator(x, y)])


def symmetry(estimator: Estimator, x, y, seed: int = 0) -> Check:
    """I(X; Y) = I(Y; X)."""
    x, y = _read(x, y)
    return _check("symmetry", [estimator(x, y)], [estimator(y, x)])


def chain_rule(conditional: Estimator, estimator: Estimator, x, y, z) -> Check:
    """I(X; (Y, Z)) = I(X; Z) + I(X; Y | Z); conditional(x, y, z) reads the last term."""
    a, b = _read(x, y)
    c = read_pair(x, z, ("x", "z"))[1].values
    return _check("chain rule", [estimator(a, _join(b, c))], [estimator(a, c), conditional(a, b, c)])


def entropies(estimator: Estimator, x, y, *, entropy: Callable, conditional_entropy: Callable | None = None) -> Check:
    """I(X; Y) = H(Y) - H(Y | X), each side by estimators of its own.

    entropy(y) reads H(Y) and conditional_entropy(y, x) reads H(Y | X). Without the latter, H(X) + H(Y) - H(X, Y), with
    `entropy` of the joined columns.
    """
    x, y = _read(x, y)
    if conditional_entropy is None:
        added, taken = [entropy(x), entropy(y)], entropy(_join(x, y))
    else:
        added, taken = [entropy(y)], conditional_entropy(y, x)
    # Written as I + H(Y | X) = H(Y) the sides are sums; the gap is that of the law.
    whole = _check("entropies", [estimator(x, y), taken], added)
    return Check("entropies", whole.read - float(taken), whole.expected - float(taken), se=whole.se)


def all_checks(estimator: Estimator, x, y, seed: int = 0) -> list[Check]:
    """Every check that needs no more than the estimator and the rows."""
    laws = (independence, data_processing, coarsening, additivity, invariance, symmetry)
    return [law(estimator, x, y, seed) for law in laws]


def _check(law: str, read: list, expected: list, at_most: bool = False) -> Check:
    se = math.hypot(*(getattr(term, "se", None) or 0.0 for term in (*read, *expected)))
    return Check(law, sum(map(float, read)), sum(map(float, expected)), at_most, se)


def _read(x, y) -> tuple[np.ndarray, np.ndarray]:
    first, second = read_pair(x, y)
    return first.values, second.values


def _join(*columns: np.ndarray) -> np.ndarray:
    return np.hstack([c if c.ndim == 2 else c[:, None] for c in columns])


def _turned_tanh(values: np.ndarray, seed: int) -> np.ndarray:
    return np.tanh(_standard(values) @ _rotation(values.shape[1], seed))


def _standard(values: np.ndarray) -> np.ndarray:
    deviation = values.std(0)
    return (values - values.mean(0)) / np.where(deviation > 0, deviation, 1.0)


def _rotation(d: int, seed: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))[0]
