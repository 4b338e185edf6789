"""Information among more than two variables: what all of them share, and what a third adds to a pair.

    total correlation         C(x_1; ...; x_m) = Σ H(x_i) - H(x_1, ..., x_m) = Σ_i I((x_1, ..., x_(i-1)); x_i)
    interaction information   I(x; y; z) = I(x; y | z) - I(x; y)

C is 0 exactly where all are independent. I(x; y; z) is the same in every order of the three: positive where two say
more together than apart (synergy: y = x xor z), negative where they say the same (redundancy: a common cause). Some
authors give it the other sign.

References:
    Watanabe 1960, IBM Journal of Research and Development 4, 66; McGill 1954, Psychometrika 19, 97.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from ssl_mi.information.core.caution import distinct
from ssl_mi.information.core.estimate import Estimate
from ssl_mi.information.core.inputs import Variable, check_paired, read, standardize
from ssl_mi.information.core.knn_inputs import check_k, few_rows, marginal_cautions
from ssl_mi.information.core.settings import check_level, check_seed, check_uncertainty
from ssl_mi.information.estimators.auto.pipeline import mutual_information
from ssl_mi.information.estimators.conditional import conditional_mutual_information
from ssl_mi.information.estimators.ksg import ksg_pointwise
from ssl_mi.information.inference.permutation import p_value


def total_correlation(
    *variables: ArrayLike, k: int = 3, level: float = 0.95, permutations: int = 19, seed: int = 0
) -> Estimate:
    """C(x_1; ...; x_m), what several continuous variables share in all, in nats, by KSG along the chain rule.

    Args:
        variables: [n] or [n, d] each, at least 2, all with as many rows.
        k: neighbours.
        level: of the interval, between 0 and 1.
        permutations: re-pairings of all variables at once, for null and p; 0 leaves them out.
        seed: of the permutations.

    Returns:
        A point estimate. More than about 8 dimensions in all are too many for nearest neighbours: a caution.

    Raises:
        ValueError: fewer than 2 variables, unpaired lengths, missing values, settings out of range.

    References:
        Watanabe 1960; the chain of mutual informations as in Kraskov et al. 2004, cond-mat/0305641, section II.D.

    Example:
        >>> x, y, z = np.random.default_rng(0).standard_normal((3, 1000))
        >>> bool(abs(total_correlation(x, y, z, permutations=0).value) < 0.1)
        True
    """
    from scipy.stats import norm

    started = time.perf_counter()
    check_uncertainty(level, permutations)
    check_seed(seed)
    if len(variables) < 2:
        raise ValueError(f"total_correlation takes 2 variables or more, got {len(variables)}")
    sides = [read(variable, f"variable {place}") for place, variable in enumerate(variables)]
    check_paired(*sides)
    n = sides[0].n
    k = check_k(k, n)
    scaled = [standardize(side) for side in sides]
    values = [side.values for side, _, _ in scaled]
    pointwise = _chain(values, k)
    value, se = float(pointwise.mean()), float(pointwise.std(ddof=1)) / math.sqrt(n)
    reach = float(norm.ppf((1 + level) / 2)) * se
    rng = np.random.default_rng(seed)
    null = [
        float(_chain([values[0], *(side[rng.permutation(n)] for side in values[1:])], k).mean())
        for _ in range(permutations)
    ]
    joint = Variable(np.concatenate(values[:-1], 1), "all variables but the last", "float64")
    cautions = (*(c for _, _, found in scaled for c in found), *few_rows(n), *marginal_cautions(joint))
    return Estimate(
        value=value,
        se=se,
        ci=(value - reach, value + reach),
        ci_level=level,
        p_value=p_value(value, null) if permutations else None,
        null=float(np.mean(null)) if permutations else None,
        permutations=permutations or None,
        n=n,
        dims=tuple(side.d for side in sides),
        estimator="total correlation",
        settings={"k": k, "seed": seed},
        seconds=time.perf_counter() - started,
        warnings=distinct(cautions),
    )


def _chain(values: list[np.ndarray], k: int) -> np.ndarray:
    """Σ_i of KSG between the variables before i and variable i, row by row."""
    total = np.zeros(len(values[0]))
    for place in range(1, len(values)):
        before = np.concatenate(values[:place], 1)
        if np.ptp(before, axis=0).any() and np.ptp(values[place], axis=0).any():  # a constant shares nothing
            total += ksg_pointwise(before, values[place], k)
    return total


def interaction_information(
    x: ArrayLike, y: ArrayLike, z: ArrayLike, *, k: int = 3, level: float = 0.95, seed: int = 0
) -> Estimate:
    """I(x; y | z) - I(x; y) in nats: positive for synergy, negative for redundancy.

    By `conditional_mutual_information` and `mutual_information`. The interval takes their errors as independent, and is
    rather too wide for it.

    Args:
        x: [n] or [n, dx].
        y: [n] or [n, dy].
        z: [n] or [n, dz].
        k: neighbours.
        level: of the interval, between 0 and 1.
        seed: of everything that is drawn.

    Raises:
        ValueError: as `conditional_mutual_information` does.

    References:
        McGill 1954, Psychometrika 19, 97.

    Example:
        >>> x, z = np.random.default_rng(0).integers(0, 2, (2, 400)).astype(str)
        >>> round(interaction_information(x, (x != z).astype(str), z).bits, 1)
        1.0
    """
    started = time.perf_counter()
    check_level(level)
    check_seed(seed)
    given = conditional_mutual_information(x, y, z, k=k, level=level, permutations=0, seed=seed)
    alone = mutual_information(x, y, k=k, learned=False, level=level, permutations=0, seed=seed)
    value = given.value - alone.value
    ci = None
    if given.ci is not None and alone.ci is not None:
        down = math.hypot(given.value - given.ci[0], alone.ci[1] - alone.value)
        up = math.hypot(given.ci[1] - given.value, alone.value - alone.ci[0])
        ci = (value - down, value + up)
    return replace(
        given,
        value=value,
        kind="point estimate",  # a difference of bounds bounds nothing
        se=math.hypot(given.se or 0.0, alone.se or 0.0) if ci is not None else None,
        ci=ci,
        ci_level=level if ci is not None else None,
        projection=None,
        estimator="interaction information",
        settings={**given.settings, "given": round(given.value, 4), "alone": round(alone.value, 4)},
        seconds=time.perf_counter() - started,
        warnings=distinct((*given.warnings, *alone.warnings)),
    )
