"""Entropy and mutual information of symbols (class labels, cluster assignments, codes), in nats.

The plug-in estimate puts observed frequencies into H = -Σ p log p. It is too small by about (m - 1) / 2n
for m symbols, and the mutual information H(X) + H(Y) - H(X, Y) too large by (m_xy - m_x - m_y + 1) / 2n.
The corrections:

    "plugin"        no correction
    "miller-madow"  + (m - 1) / 2n, m = symbols seen                      (Miller 1955)
    "grassberger"   log n - (1/n) Σ n_i G(n_i), G(c) = ψ(c) + (-1)^c/2 (ψ((c+1)/2) - ψ(c/2))
                                                                          (2003, physics/0307138, eq. 30)
    "chao-shen"     coverage-adjusted Horvitz-Thompson                    (Chao & Shen 2003)
    "jackknife"     n H - (n-1) < H without row i >                       (Zahl 1977)
"""

from __future__ import annotations

import time
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from ssl_mi.information.core.caution import Caution
from ssl_mi.information.core.estimate import Estimate
from ssl_mi.information.core.inputs import is_floating, read_labels
from ssl_mi.information.core.settings import whole_number

ROWS_PER_VALUE = 5

Correction = Literal["plugin", "miller-madow", "grassberger", "chao-shen", "jackknife"]


def discrete_entropy(x: ArrayLike, correction: Correction = "plugin") -> Estimate:
    """H(X) of symbols, in nats.

    Args:
        x: [n], or [n, d] with one symbol a row: integers, booleans, strings or whole floats.
        correction: see the module's description.

    Raises:
        ValueError: fractional values, NaN, another rank or an unknown correction.

    Example:
        >>> round(discrete_entropy([0, 0, 1, 1]).bits, 6)
        1.0
    """
    started = time.perf_counter()
    codes, m = read_labels(x, "x")
    value = entropy_of_counts(np.bincount(codes), correction)
    return _answer(value, "discrete entropy", correction, len(codes), (1,), _sparse(len(codes), m, "x"), started)


def entropy(x: ArrayLike, correction: Correction = "plugin") -> Estimate:
    """`discrete_entropy` of integers, booleans or strings; floats are refused, for they have two entropies.

    Args:
        x: [n] or [n, d], integers, booleans or strings.
        correction: of the plug-in estimate, as in `discrete_entropy`.

    Raises:
        ValueError: x holds floats. The entropy of a density is `differential_entropy`; whole numbers that are kept
            as floats are counted by `discrete_entropy`.
    """
    if is_floating(x):
        raise ValueError(
            "entropy of floats is ambiguous: use differential_entropy(x) for the entropy of a density, or "
            "discrete_entropy(x) to count whole numbers"
        )
    return discrete_entropy(x, correction)


def discrete_mi(x: ArrayLike, y: ArrayLike, correction: Correction = "plugin") -> Estimate:
    """I(X; Y) = H(X) + H(Y) - H(X, Y) of symbols, in nats.

    Args:
        x: [n], or [n, d] with one symbol a row.
        y: likewise.
        correction: see the module's description.

    Raises:
        ValueError: unpaired lengths, fractional values, NaN or an unknown correction.

    Example:
        >>> round(discrete_mi(["a", "a", "b", "b"], [0, 0, 1, 1]).bits, 6)
        1.0
    """
    started = time.perf_counter()
    a, b, joint = _joint(x, y)
    value = (
        entropy_of_counts(np.bincount(a), correction)
        + entropy_of_counts(np.bincount(b), correction)
        - entropy_of_counts(np.bincount(joint), correction)
    )
    warnings = _sparse(len(a), int(joint.max()) + 1, "(x, y)")
    return _answer(value, "discrete MI", correction, len(a), (1, 1), warnings, started)


def discrete_conditional_entropy(x: ArrayLike, given: ArrayLike, correction: Correction = "plugin") -> Estimate:
    """H(X | Z) = H(X, Z) - H(Z) of symbols, in nats.

    Args:
        x: [n], or [n, d] with one symbol a row.
        given: Z, likewise.
        correction: see the module's description.

    Raises:
        ValueError: as `discrete_mi` does.

    Example:
        >>> round(discrete_conditional_entropy([0, 1, 0, 1], [0, 0, 1, 1]).value, 4)  # a fair bit, independent: log(2)
        0.6931
    """
    started = time.perf_counter()
    _, z, joint = _joint(x, given, ("x", "given"))
    value = entropy_of_counts(np.bincount(joint), correction) - entropy_of_counts(np.bincount(z), correction)
    warnings = _sparse(len(z), int(joint.max()) + 1, "(x, given)")
    return _answer(value, "discrete conditional entropy", correction, len(z), (1, 1), warnings, started)


def discrete_conditional_mi(
    x: ArrayLike, y: ArrayLike, given: ArrayLike, correction: Correction = "plugin"
) -> Estimate:
    """I(X; Y | Z) = H(X, Z) + H(Y, Z) - H(X, Y, Z) - H(Z) of symbols, in nats.

    Args:
        x: [n], or [n, d] with one symbol a row.
        y: likewise.
        given: Z, likewise.
        correction: see the module's description.

    Raises:
        ValueError: as `discrete_mi` does.

    Example:
        >>> x, y = [0, 0, 1, 1], [0, 1, 0, 1]
        >>> given = [0, 1, 1, 0]  # x xor y: independent bits, one of which tells the other
        >>> round(discrete_conditional_mi(x, y, given).value, 4)  # log(2)
        0.6931
    """
    started = time.perf_counter()
    _, z, xz = _joint(x, given, ("x", "given"))
    _, _, yz = _joint(y, given, ("y", "given"))
    _, _, xyz = _joint(xz, y, ("x", "y"))
    value = sum(
        sign * entropy_of_counts(np.bincount(codes), correction)
        for sign, codes in ((1, xz), (1, yz), (-1, xyz), (-1, z))
    )
    warnings = _sparse(len(z), int(xyz.max()) + 1, "(x, y, given)")
    return _answer(value, "discrete conditional MI", correction, len(z), (1, 1, 1), warnings, started)


def nsb_entropy(x: ArrayLike, symbols: int | None = None) -> Estimate:
    """H(X) of symbols by Nemenman, Shafee and Bialek, in nats: the posterior mean, and its standard deviation as `se`.

    A Dirichlet prior with concentration b says nearly everything about the entropy in advance. Mixed over b with a
    weight that makes the entropy expected a priori uniform, it says little:

        E[H | b] = ψ(n + K b + 1) - Σ (n_i + b) / (n + K b) ψ(n_i + b + 1)

    weighted by the evidence of the counts. It can be trusted with far fewer rows than symbols, where the counts are
    not much more uneven than such priors make them.

    Args:
        x: [n], or [n, d] with one symbol a row: integers, booleans, strings or whole floats.
        symbols: K, how many symbols are possible; None: as many as were seen, which is too few where rows are few.

    Raises:
        ValueError: fractional values, NaN, another rank, or fewer symbols than were seen.

    References:
        Nemenman, Shafee & Bialek 2002, physics/0108025; moments: Wolpert & Wolf 1995, Phys. Rev. E 52, 6841.

    Example:
        >>> round(nsb_entropy([0, 1] * 200).bits, 2)
        1.0
    """
    started = time.perf_counter()
    codes, m = read_labels(x, "x")
    possible = m if symbols is None else whole_number("symbols", symbols, 1, "symbols that are possible")
    if possible < m:
        raise ValueError(f"symbols={possible}, and x takes {m} values: pass at least as many")
    value, se = (0.0, 0.0) if possible == 1 else _nsb(np.bincount(codes).astype(np.float64), possible)
    return Estimate(
        value=value,
        se=se,
        n=len(codes),
        dims=(1,),
        estimator="NSB entropy",
        settings={"symbols": possible},
        seconds=time.perf_counter() - started,
    )


def _nsb(counts: np.ndarray, symbols: int) -> tuple[float, float]:
    """Posterior mean and standard deviation of the entropy, nats; counts: of the symbols seen, float64 [m]."""
    from scipy.special import digamma, gammaln, polygamma

    b = np.exp(np.linspace(np.log(1e-7 / symbols), np.log(1e5), 2000))[:, None]
    unseen, n = symbols - len(counts), counts.sum()
    a = np.concatenate([counts + b, b], 1)  # unseen symbols are alike: one column stands for all
    often = np.append(np.ones(len(counts)), unseen)
    total = n + symbols * b[:, 0]
    evidence = gammaln(symbols * b[:, 0]) - gammaln(total) + (gammaln(counts + b) - gammaln(b)).sum(1)
    slope = symbols * polygamma(1, symbols * b[:, 0] + 1) - polygamma(1, b[:, 0] + 1)  # of the expected entropy in b
    log_weights = evidence + np.log(np.maximum(slope, 1e-300)) + np.log(b[:, 0])  # the grid is even in log b
    weights = np.exp(log_weights - log_weights.max())
    weights /= weights.sum()
    first = digamma(total + 1) - (often * a * digamma(a + 1)).sum(1) / total
    parts = a * (digamma(a + 1) - digamma(total + 2)[:, None])
    cross = (often * parts).sum(1) ** 2 - (often * parts**2).sum(1)
    cross -= polygamma(1, total + 2) * (total**2 - (often * a**2).sum(1))
    own = (digamma(a + 2) - digamma(total + 2)[:, None]) ** 2 + polygamma(1, a + 2) - polygamma(1, total + 2)[:, None]
    second = (cross + (often * a * (a + 1) * own).sum(1)) / (total * (total + 1))
    mean = float(weights @ first)
    return mean, float(np.sqrt(max(float(weights @ second) - mean**2, 0.0)))


def entropy_of_counts(counts: np.ndarray, correction: Correction = "plugin") -> float:
    """Entropy, in nats, of the distribution that gave these counts.

    Args:
        counts: int [m], how often each symbol was seen; zeros are ignored.
        correction: see the module's description.

    Raises:
        ValueError: an unknown correction, or a jackknife of fewer than 2 rows.
    """
    counts = counts[counts > 0].astype(np.float64)
    n = counts.sum()
    p = counts / n
    plugin = float(-(p * np.log(p)).sum())
    if correction == "plugin":
        return plugin
    if correction == "miller-madow":
        return plugin + (len(counts) - 1) / (2 * n)
    if correction == "grassberger":
        from scipy.special import digamma

        sign = 1 - 2 * (counts % 2)
        g = digamma(counts) + sign / 2 * (digamma((counts + 1) / 2) - digamma(counts / 2))
        return float(np.log(n) - (counts * g).sum() / n)
    if correction == "chao-shen":
        singles = (counts == 1).sum()
        # All singletons would make the coverage 0: count one of them as seen twice.
        coverage = 1 - min(singles, n - 1) / n
        q = coverage * p
        return float(-(q * np.log(q) / (1 - (1 - q) ** n)).sum())
    if correction == "jackknife":
        if n < 2:
            raise ValueError("the jackknife leaves one row out: it needs at least 2 rows")
        whole = (counts * np.log(counts)).sum()
        fewer = np.where(counts > 1, (counts - 1) * np.log(np.maximum(counts - 1, 1)), 0.0)
        without = np.log(n - 1) - (whole - counts * np.log(counts) + fewer) / (n - 1)
        return float(n * plugin - (n - 1) * (p * without).sum())
    raise ValueError(
        f"correction must be plugin, miller-madow, grassberger, chao-shen or jackknife, got {correction!r}"
    )


def _joint(
    x: ArrayLike, y: ArrayLike, names: tuple[str, str] = ("x", "y")
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes of x, of y and of the pairs: int64 [n] each."""
    a, _ = read_labels(x, names[0])
    b, m = read_labels(y, names[1])
    if len(a) != len(b):
        raise ValueError(f"{names[0]} has {len(a)} rows and {names[1]} has {len(b)}: pass equal lengths")
    _, joint = np.unique(a * m + b, return_inverse=True)
    return a, b, joint


def _sparse(n: int, symbols: int, name: str) -> tuple[Caution, ...]:
    if n >= ROWS_PER_VALUE * symbols:
        return ()
    text = (
        f"{name} takes {symbols} values in {n} rows: under {ROWS_PER_VALUE} rows a value leave a bias; pass more rows"
    )
    return (Caution("sparse-counts", text, {"values": symbols, "n": n, "threshold": ROWS_PER_VALUE}),)


def _answer(
    value: float,
    name: str,
    correction: Correction,
    n: int,
    dims: tuple[int, ...],
    warnings: tuple[Caution, ...],
    started: float,
) -> Estimate:
    return Estimate(
        value=float(value),
        n=n,
        dims=dims,
        estimator=name,
        settings={"correction": correction},
        seconds=time.perf_counter() - started,
        warnings=warnings,
    )
