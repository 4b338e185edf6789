"""The everyday suite: samples of the kinds that people bring, with known mutual information.

Truths are closed forms and quadratures, or, for mixtures, the mean of the exact log ratio over two million rows
(`monte_carlo`), stored here to four digits. Tasks of each kind go in turn to a half for tuning an estimator
(`EVERYDAY_TUNING`) and a half for reporting its errors (`EVERYDAY_REPORT`).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy import special

from ssl_mi.information.distributions import families as d
from ssl_mi.information.distributions import transforms as t
from ssl_mi.information.distributions.task import Task

Map = t.Map


def _heavy(x: np.ndarray) -> np.ndarray:
    """Normal margins become Cauchy ones."""
    return np.tan(np.pi * (special.ndtr(x) - 0.5))


def _helix(x: np.ndarray) -> np.ndarray:
    return np.hstack([np.cos(3 * x), np.sin(3 * x), x])


def _sheet(x: np.ndarray) -> np.ndarray:
    """Two numbers in five columns, curved."""
    a, b = x[:, :1], x[:, 1:2]
    return np.hstack([a, b, a**2 / 2, a * b, np.sin(2 * b)])


def _rolled(x: np.ndarray) -> np.ndarray:
    """Two numbers: one along a roll, one across."""
    return np.hstack([t.swiss_roll(special.ndtr(x[:, :1])), x[:, 1:]])


def _cap(x: np.ndarray) -> np.ndarray:
    """Points of the space on the sphere of one more dimension (inverse stereographic projection)."""
    square = np.sum(x**2, axis=1, keepdims=True)
    return np.hstack([2 * x, square - 1]) / (square + 1)


def _relu_features(dim: int, width: int, seed: int) -> Map:
    """max(W x, 0) for random W: injective, since half of the units are active anywhere."""
    weight = np.random.default_rng(seed).standard_normal((dim, width))
    return lambda x: np.maximum(x @ weight, 0)


def _tanh_features(dim: int, width: int, seed: int) -> Map:
    weight = np.random.default_rng(seed).standard_normal((dim, width)) / math.sqrt(dim)
    return lambda x: np.tanh(x @ weight)


def _student(dim: int, dof: float, rho: float) -> d.StudentT:
    return d.StudentT(np.kron([[1, rho], [rho, 1]], np.eye(dim)), dim, dof)


def _hidden(base: d.Distribution, dim: int) -> d.Distribution:
    """`base` in the first columns of `dim` + `dim`, the others independent standard normal."""
    rest = d.Independent(_normal(dim - base.dim_x), _normal(dim - base.dim_y), dim - base.dim_x, dim - base.dim_y)
    return d.Product(base, rest)


def _normal(dim: int) -> Callable[[int, np.random.Generator], np.ndarray]:
    return lambda n, rng: rng.standard_normal((n, dim))


def _independent_student(dim: int) -> d.Independent:
    def draw(n: int, rng: np.random.Generator) -> np.ndarray:
        return rng.standard_normal((n, dim)) / np.sqrt(rng.chisquare(1, size=(n, 1)))

    return d.Independent(draw, draw, dim, dim)


def _independent_zipf(n: int, rng: np.random.Generator) -> np.ndarray:
    return rng.zipf(1.7, size=(n, 1)).astype(float)


def _independent_blobs(n: int, rng: np.random.Generator) -> np.ndarray:
    return 4.0 * rng.integers(0, 3, size=(n, 2)) + rng.standard_normal((n, 2))


def _constant(value: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda x: value + 0.0 * x


Kinds = dict[str, dict[str, d.Distribution]]  # {kind: {name: distribution}}

SQUARE = d.NoisyCurve(np.square, _constant(0.3))
WAVE = d.NoisyCurve(lambda x: np.sin(3 * x), _constant(0.3))


def _clouds() -> Kinds:
    """Mixtures, copulas, heavy tails, spheres, sheets and clusters."""
    gaussian = d.correlated_gaussian
    return {
        "mixture": {
            "crossing-1-0.9": d.crossing_lines(1, 0.9, NATS["crossing-1-0.9"]),
            "crossing-2-0.9": d.crossing_lines(2, 0.9, NATS["crossing-2-0.9"]),
            "crossing-3-0.8": d.crossing_lines(3, 0.8, NATS["crossing-3-0.8"]),
            "blobs-3-in-1": d.random_clusters(3, 1, 0.5, NATS["blobs-3-in-1"], seed=1),
            "blobs-5-in-2": d.random_clusters(5, 2, 0.5, NATS["blobs-5-in-2"]),
            "blobs-8-in-3": d.random_clusters(8, 3, 0.7, NATS["blobs-8-in-3"]),
        },
        "copula": {
            "heavy-gaussian-1-0.8": t.Transformed(gaussian(0.8), _heavy, _heavy),
            "lognormal-gaussian-2-0.6": t.Transformed(gaussian(0.6, 2), lambda x: np.exp(2 * x), np.exp),
            "heavy-gaussian-3-0.6": t.Transformed(gaussian(0.6, 3), _heavy, _heavy),
            "clayton-2": d.Clayton(2.0),
            "clayton-5-pareto": t.Transformed(d.Clayton(5.0), lambda u: u**-1.0, lambda u: u**-2.0),
            "clayton-1-twice": d.Product(d.Clayton(1.0), d.Clayton(1.0)),
        },
        "heavy tails": {
            "student-1-1-0.7": _student(1, 1, 0.7),
            "student-2-1-0.5": _student(2, 1, 0.5),
            "student-3-1-0.5": _student(3, 1, 0.5),
            "student-3-2-0.7": _student(3, 2, 0.7),
            "student-4-1-0": _student(4, 1, 0.0),
            "student-4-3-0.5": _student(4, 3, 0.5),
            "student-8-2-0.3": _student(8, 2, 0.3),
        },
        "sphere": {f"vmf-{dim}-{kappa}": d.VonMisesFisher(dim, kappa) for dim, kappa in VMF},
        "sheet": {
            "helix-0.9": t.Transformed(gaussian(0.9), _helix, _helix),
            "sheet-2-in-5": t.Transformed(gaussian(0.8, 2), _sheet, _sheet),
            "rolled-2-in-3": t.Transformed(gaussian(0.8, 2), _rolled, _rolled),
            "cap-2-in-3": t.Transformed(gaussian(0.8, 2), _cap, _cap),
            "cap-3-in-4": t.Transformed(gaussian(0.8, 3), _cap, _cap),
            "torus-0.3": d.Product(d.PhasePair(0.3), d.PhasePair(0.3)),
            "circle-0.5": d.PhasePair(0.5),
        },
        "clusters": {
            "clusters-8-in-2": d.random_clusters(8, 2, 0.1, NATS["clusters-8-in-2"]),
            "clusters-10-in-4": d.random_clusters(10, 4, 0.3, NATS["clusters-10-in-4"]),
            "clusters-16-in-32": d.random_clusters(16, 32, 0.3, NATS["clusters-16-in-32"]),
            "clusters-6-in-16": d.random_clusters(6, 16, 1.0, NATS["clusters-6-in-16"]),
        },
    }


def _columns() -> Kinds:
    """Parity, sparse columns, counts and labels."""
    gaussian = d.correlated_gaussian
    return {
        "parity": {
            "parity-1": d.Parity(1, 0.05),
            "parity-2": d.Parity(2, 0.001),
            "parity-2-0.1": d.Parity(2, 0.1),
            "parity-3": d.Parity(3, 0.02),
        },
        "sparse columns": {
            "square-in-10": _hidden(SQUARE, 10),
            "square-in-20": _hidden(SQUARE, 20),
            "wave-in-10": _hidden(WAVE, 10),
            "square-and-wave-in-16": _hidden(d.Product(SQUARE, WAVE), 16),
            "line-in-50": _hidden(gaussian(0.9), 50),
            "spread-in-10": _hidden(d.NoisyCurve(_constant(0.0), np.exp), 10),
        },
        "counts": {
            "poisson-4": d.GammaPoisson(4.0, 2.0),
            "poisson-100": d.GammaPoisson(100.0, 5.0),
            "poisson-1": d.GammaPoisson(1.0, 1.0),
            "shared-poisson-5-2": d.SharedPoisson(5.0, 2.0),
            "shared-poisson-40-10": d.SharedPoisson(40.0, 10.0),
            "independent-zipf": d.Independent(_independent_zipf, _independent_zipf),
        },
        "labels": {
            "labels-3-in-1": d.LabelledClusters(d.random_clusters(3, 1, 0.5, 0.0, seed=1), NATS["labels-3-in-1"]),
            "labels-10-in-8": d.LabelledClusters(d.random_clusters(10, 8, 0.3, 0.0), NATS["labels-10-in-8"]),
            "labels-5-in-2": d.LabelledClusters(d.random_clusters(5, 2, 0.7, 0.0), NATS["labels-5-in-2"]),
            "labels-4-in-30": d.LabelledClusters(d.random_clusters(4, 30, 2.0, 0.0), NATS["labels-4-in-30"]),
        },
    }


def _values() -> Kinds:
    """Zeros, curves, features, digits and nothing."""
    gaussian = d.correlated_gaussian
    return {
        "zero inflation": {
            "rectified-0.8": d.Rectified(0.8, 0.0),
            "rectified-0.9-rare": d.Rectified(0.9, 1.0),
            "rectified-0.6-twice": d.Product(d.Rectified(0.6, 0.0), d.Rectified(0.6, 0.0)),
            "zero-inflated-poisson-0.4": d.ZeroInflatedPoisson(0.4),
        },
        "curves": {
            "square": SQUARE,
            "wave": WAVE,
            "spread": d.NoisyCurve(_constant(0.0), np.exp),
            "step": d.NoisyCurve(np.sign, _constant(0.3)),
            "fast-wave": d.NoisyCurve(lambda x: np.sin(8 * x), _constant(0.3)),
        },
        "features": {
            "relu-1-in-16": t.Transformed(gaussian(0.9), _relu_features(1, 16, 1), _relu_features(1, 16, 2)),
            "relu-2-in-32": t.Transformed(gaussian(0.8, 2), _relu_features(2, 32, 1), _relu_features(2, 32, 2)),
            "relu-4-in-64": t.Transformed(gaussian(0.7, 4), _relu_features(4, 64, 1), _relu_features(4, 64, 2)),
            "tanh-2-in-32": t.Transformed(gaussian(0.8, 2), _tanh_features(2, 32, 1), _tanh_features(2, 32, 2)),
            "tanh-5-in-64": t.Transformed(gaussian(0.8, 5), _tanh_features(5, 64, 1), _tanh_features(5, 64, 2)),
        },
        "digits": {
            "digits-0.2": d.digits(0.2, NATS["digits-0.2"]),
            "digits-0.5": d.digits(0.5, NATS["digits-0.5"]),
        },
        "nothing": {
            "independent-student-3": _independent_student(3),
            "independent-blobs-2": d.Independent(_independent_blobs, _independent_blobs, 2, 2),
        },
    }


def _kinds() -> Kinds:
    return {**_clouds(), **_columns(), **_values()}


VMF = ((2, 5.0), (3, 10.0), (4, 10.0), (5, 10.0), (6, 15.0), (8, 20.0))
# `monte_carlo(task.distribution)`: two million rows, seed 0.
NATS = {
    "crossing-1-0.9": 0.4077,
    "crossing-2-0.9": 1.0761,
    "crossing-3-0.8": 0.9575,
    "blobs-3-in-1": 0.0342,
    "blobs-5-in-2": 0.4855,
    "blobs-8-in-3": 0.4387,
    "clusters-8-in-2": 1.9726,
    "clusters-10-in-4": 2.0221,
    "clusters-16-in-32": 2.7726,
    "clusters-6-in-16": 1.6484,
    "labels-3-in-1": 0.0942,
    "labels-10-in-8": 2.293,
    "labels-5-in-2": 0.6441,
    "labels-4-in-30": 1.1614,
    "digits-0.2": 2.2607,
    "digits-0.5": 1.2814,
}


def _tasks() -> tuple[dict[str, str], tuple[Task, ...]]:
    kinds = {name: kind for kind, tasks in _kinds().items() for name in tasks}
    return kinds, tuple(
        Task(f"everyday-{name}", f"{kind}: {name}", distribution)
        for kind, tasks in _kinds().items()
        for name, distribution in tasks.items()
    )


_KINDS, EVERYDAY = _tasks()
KINDS: dict[str, str] = {f"everyday-{name}": kind for name, kind in _KINDS.items()}  # task -> kind
EVERYDAY_TUNING: tuple[Task, ...] = EVERYDAY[::2]
EVERYDAY_REPORT: tuple[Task, ...] = EVERYDAY[1::2]
