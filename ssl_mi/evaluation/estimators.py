"""Estimators that are named in an evaluation: their name in metrics, and what they may return."""

from __future__ import annotations

import functools
import inspect
import numbers
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ssl_mi.evaluation.contracts import Estimator
from ssl_mi.information.core.caution import Caution
from ssl_mi.information.core.estimate import Estimate

COLLAPSE = Caution("collapse", "a collapse: one side is the same in all rows")


def nothing_to_estimate(n: int, why: Caution) -> Estimate:
    """0 nats of `n` rows that no estimator was given, and the reason."""
    return Estimate(0.0, n=n, estimator="nothing to estimate", warnings=(why,))


def estimator_name(estimator: Estimator) -> str:
    """The name of the function, also of a `functools.partial` of it; for other objects that of their class."""
    while isinstance(estimator, functools.partial):
        estimator = estimator.func
    return getattr(estimator, "__name__", type(estimator).__name__)


def in_words(name: str) -> str:
    """The name in a sentence: short ones are acronyms (ksg -> KSG)."""
    return name.upper() if len(name) <= 4 else name


def check_estimator(estimator: Any, key: str) -> None:
    """Raise ValueError, naming the key of the configuration, for what cannot be called with two arrays."""
    if not callable(estimator):
        raise ValueError(
            f"{key} is {estimator!r}, not an estimator: name a function of two arrays, "
            f"{key}={{_target_: ssl_mi.information.ksg, _partial_: true}}"
        )
    function, before, settings = estimator, (), {}
    if isinstance(estimator, functools.partial):
        function, before, settings = estimator.func, estimator.args, estimator.keywords
    try:
        signature = inspect.signature(function)
    except ValueError:  # written in C: it has no signature to look at
        return
    try:
        signature.bind(*before, None, None, **settings)
    except TypeError as error:
        raise ValueError(f"{key}: {estimator_name(estimator)} cannot be called with x and y alone: {error}") from None


def neighbours(estimator: Estimator) -> int:
    """`k` of a nearest-neighbour estimator, which needs k + 1 rows; 1 for others, whose needs are not known."""
    try:
        k = inspect.signature(estimator).parameters["k"].default
    except (KeyError, ValueError):
        return 1
    return k if isinstance(k, int) else 1


def set_apart(estimator: Callable[..., Estimate]) -> Callable[..., Estimate]:
    """The same nearest-neighbour estimator, for embeddings of which many rows are equal.

    A network with dead units gives many samples one and the same embedding. Where the estimator warns of ties, it is
    asked again with every value moved by noise of 1e-9 standard deviations of its column. Equal rows stay nearest to
    each other, so what they tell is kept, I(X + U; Y) <= I(X; Y), and neighbours that are not there are not counted.

    Args:
        estimator: Of two arrays; its warnings have the code "ties" where rows are equal.
    """

    def estimate(x: ArrayLike, y: ArrayLike, **settings: Any) -> Estimate:
        found = estimator(x, y, **settings)
        codes = {caution.code for caution in found.warnings}
        # Rows that were sampled with replacement are repeated once or twice; values that are few, many times.
        few = "dropped-repeats" in codes and (found.n or 0) < len(np.asarray(x)) / 2
        if "ties" not in codes and not few:
            return found
        rng = np.random.default_rng(0)
        sides = {"x": np.asarray(x), "y": np.asarray(y)}
        counts = {name: len(np.unique(side, axis=0)) for name, side in sides.items() if side.dtype.kind == "f"}
        different = [f"{name} has {m} different rows of {len(sides[name])}" for name, m in counts.items()]
        apart = estimator(_moved(x, rng), _moved(y, rng), **settings)
        text = f"{' and '.join(different)}: equal rows are set apart by noise of 1e-9 standard deviations"
        return replace(apart, warnings=(Caution("equal-rows", text), *apart.warnings))

    estimate.__name__ = estimator_name(estimator)
    return estimate


def _moved(x: ArrayLike, rng: np.random.Generator) -> np.ndarray:
    values = np.asarray(x)
    if values.dtype.kind != "f":  # labels
        return values
    values = values.astype(np.float64)
    return values + 1e-9 * values.std(axis=0) * rng.standard_normal(values.shape)


def as_estimates(estimator: Estimator) -> Callable[..., Estimate]:
    """The same estimator, whose plain numbers become an `Estimate`.

    Raises:
        TypeError: At the call, for a result that is neither an Estimate nor a number.
        ValueError: At the call, what the estimator raises, with its name.
    """
    name = estimator_name(estimator)

    @functools.wraps(estimator)
    def estimate(x: ArrayLike, y: ArrayLike, **settings: Any) -> Estimate:
        try:
            found = estimator(x, y, **settings)
        except ValueError as error:
            raise ValueError(f"{name} on {np.shape(x)[0]} rows: {error}") from error
        if isinstance(found, Estimate):
            return found
        if isinstance(found, numbers.Real) or getattr(found, "shape", None) == ():
            return Estimate(float(found), n=np.shape(x)[0], estimator=name)
        raise TypeError(f"{name} returned {type(found).__name__}: an estimator returns an Estimate or a number in nats")

    return estimate
