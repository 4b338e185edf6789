"""Samplers that carry their exact mutual information, in nats.

An estimator is believed when it finds a number that was known before. Each distribution here is a pair of
random variables (X, Y) with

    .sample(n, rng) -> (x [n, dim_x], y [n, dim_y])   float64, drawn with the numpy Generator `rng`
    .mi                                               I(X; Y) in nats, exact
    .pointwise(x, y) -> [n]                           log p(x, y) / (p(x) p(y)), whose mean is I(X; Y)

`pointwise` is the optimal critic of every variational bound (up to the constant that the bound asks for) and
an independent route to `mi`. MI does not change under invertible maps of X alone or of Y alone, so
`transforms.Transformed` and `transforms.Embedded` make hard distributions out of these easy ones, and
`Product` adds independent pairs up.

Bad parameters raise ValueError with the name and the value.

Sources: Czyz, Grabowski, Vogt, Beerenwinkel, Marx 2023 "Beyond Normal" (arXiv 2306.11078) for the Gaussian,
Student-t and uniform families; Arellano-Valle, Contreras-Reyes, Genton 2013 (Scand. J. Stat. 40) for
Student-t; Gao, Kannan, Oh, Viswanath 2017 (arXiv 1709.06212) for the mixed pairs; Wood 1994 (Commun.
Stat. 23) for drawing from von Mises-Fisher.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from scipy import integrate, special

EULER_GAMMA = float(np.euler_gamma)


class Distribution(Protocol):
    """A pair (X, Y) that can be sampled and whose mutual information is known."""

    dim_x: int
    dim_y: int

    @property
    def mi(self) -> float: ...

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]: ...


# ---------------------------------------------------------------------------------------------- Gaussian


@dataclass(frozen=True, eq=False)
class Gaussian:
    """(X, Y) ~ N(0, C): X is the first `dim_x` coordinates, Y the rest.

    I(X; Y) = (log det C_xx + log det C_yy - log det C) / 2.
    """

    covariance: np.ndarray
    dim_x: int

    def __post_init__(self) -> None:
        _check_dispersion("covariance", self.covariance, self.dim_x)

    @property
    def dim_y(self) -> int:
        return len(self.covariance) - self.dim_x

    @cached_property
    def mi(self) -> float:
        return _log_det_mi(self.covariance, self.dim_x)

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        z = rng.standard_normal((_count(n), len(self.covariance))) @ np.linalg.cholesky(self.covariance).T
        return _split(z, self.dim_x)

    def pointwise(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        d = self.dim_x
        q_joint = _quadratic(np.hstack([x, y]), self.covariance)
        q_x, q_y = _quadratic(x, self.covariance[:d, :d]), _quadratic(y, self.covariance[d:, d:])
        return self.mi - (q_joint - q_x - q_y) / 2


def correlated_gaussian(rho: float, dim: int = 1) -> Gaussian:
    """x_i, y_i standard normal with correlation `rho`, pairs independent: I = -dim/2 log(1 - rho^2)."""
    return sparse_gaussian(dim, dim, pairs=dim, rho=rho)


def gaussian_with_mi(mi: float, dim: int = 1) -> Gaussian:
    """`correlated_gaussian` whose I(X; Y) is `mi` nats: rho = sqrt(1 - exp(-2 mi / dim))."""
    if not mi >= 0:
        raise ValueError(f"mi must be at least 0 nats, got {mi}")
    return correlated_gaussian(math.sqrt(-math.expm1(-2 * mi / dim)), dim)


def dense_gaussian(dim_x: int, dim_y: int, rho: float = 0.5) -> Gaussian:
    """Unit variances and the same correlation `rho` between every two of the dim_x + dim_y coordinates."""
    d = dim_x + dim_y
    return Gaussian(np.full((d, d), rho) + (1 - rho) * np.eye(d), dim_x)


def sparse_gaussian(dim_x: int, dim_y: int, pairs: int = 2, rho: float = 0.8) -> Gaussian:
    """x_i and y_i correlate by `rho` for i < `pairs`, nothing else does: I = -pairs/2 log(1 - rho^2)."""
    if not 0 <= pairs <= min(dim_x, dim_y):
        raise ValueError(f"pairs must lie between 0 and min(dim_x, dim_y) = {min(dim_x, dim_y)}, got {pairs}")
    if not -1 < rho < 1:
        raise ValueError(f"rho must lie strictly between -1 and 1, got {rho}")
    covariance = np.eye(dim_x + dim_y)
    i = np.arange(pairs)
    covariance[i, dim_x + i] = covariance[dim_x + i, i] = rho
    return Gaussian(covariance, dim_x)


def additive_gaussian(sigma: float, dim: int = 1) -> Gaussian:
    """X ~ N(0, 1) per coordinate, Y = X + sigma N: I = dim/2 log(1 + 1/sigma^2), the Gaussian channel."""
    _positive("sigma", sigma)
    eye = np.eye(dim)
    return Gaussian(np.block([[eye, eye], [eye, (1 + sigma**2) * eye]]), dim)


# --------------------------------------------------------------------------------------------- Student-t


@dataclass(frozen=True, eq=False)
class StudentT:
    """(X, Y) jointly Student-t with `dof` degrees of freedom: heavy tails, dependent even when uncorrelated.

    With m = dim_x, n = dim_y, nu = dof and f(t) = log Gamma(t/2) - t/2 psi(t/2),
    I = I_Gauss(dispersion) + f(nu) + f(nu + m + n) - f(nu + m) - f(nu + n)  (Arellano-Valle et al. 2013).
    """

    dispersion: np.ndarray
    dim_x: int
    dof: float

    def __post_init__(self) -> None:
        _check_dispersion("dispersion", self.dispersion, self.dim_x)
        _positive("dof", self.dof)

    @property
    def dim_y(self) -> int:
        return len(self.dispersion) - self.dim_x

    @cached_property
    def mi(self) -> float:
        def f(t: float) -> float:
            return special.gammaln(t / 2) - t / 2 * special.digamma(t / 2)

        nu, m, n = self.dof, self.dim_x, self.dim_y
        tails = f(nu) + f(nu + m + n) - f(nu + m) - f(nu + n)
        return _log_det_mi(self.dispersion, self.dim_x) + float(tails)

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        z = rng.standard_normal((_count(n), len(self.dispersion))) @ np.linalg.cholesky(self.dispersion).T
        return _split(z / np.sqrt(rng.chisquare(self.dof, size=(n, 1)) / self.dof), self.dim_x)

    def pointwise(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        d = self.dim_x
        joint = self._log_density(np.hstack([x, y]), self.dispersion)
        return joint - self._log_density(x, self.dispersion[:d, :d]) - self._log_density(y, self.dispersion[d:, d:])

    def _log_density(self, z: np.ndarray, dispersion: np.ndarray) -> np.ndarray:
        d, nu = z.shape[1], self.dof
        norm = special.gammaln((nu + d) / 2) - special.gammaln(nu / 2) - d / 2 * math.log(nu * math.pi)
        log_det = np.linalg.slogdet(dispersion)[1]
        return norm - log_det / 2 - (nu + d) / 2 * np.log1p(_quadratic(z, dispersion) / nu)


def student_t(dim_x: int, dim_y: int, dof: float) -> StudentT:
    """Student-t with identity dispersion: no two coordinates correlate, yet I(X; Y) > 0."""
    return StudentT(np.eye(dim_x + dim_y), dim_x, dof)


# ----------------------------------------------------------------------------- additive and multiplicative


@dataclass(frozen=True)
class AdditiveUniform:
    """X ~ U(0, 1), Y = X + U(-epsilon, epsilon).

    I = epsilon - log(2 epsilon) for epsilon <= 1/2, else 1 / (4 epsilon)  (Czyz et al. 2023, appendix).
    """

    epsilon: float
    dim_x = dim_y = 1

    def __post_init__(self) -> None:
        _positive("epsilon", self.epsilon)

    @property
    def mi(self) -> float:
        e = self.epsilon
        return e - math.log(2 * e) if e <= 0.5 else 1 / (4 * e)

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        x = rng.uniform(size=(_count(n), 1))
        return x, x + rng.uniform(-self.epsilon, self.epsilon, size=(n, 1))

    def pointwise(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        # p(y | x) = 1 / 2e and p(y) = |[y - e, y + e] within [0, 1]| / 2e.
        reach = np.minimum(y + self.epsilon, 1) - np.maximum(y - self.epsilon, 0)
        return -np.log(reach[:, 0])


@dataclass(frozen=True)
class MultiplicativeUniform:
    """X ~ U(0, 1), Y = X U with U ~ U(0, 1): I(X; Y) is Euler's constant, 0.5772 nats.

    p(y | x) = 1/x on (0, x) and p(y) = -log y, so I = h(Y) - E[log X] = (gamma - 1) + 1.
    """

    dim_x = dim_y = 1
    mi = EULER_GAMMA

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        x = 1 - rng.uniform(size=(_count(n), 1))  # (0, 1]: a zero would have no logarithm
        return x, x * (1 - rng.uniform(size=(n, 1)))

    def pointwise(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (-np.log(x) - np.log(-np.log(y)))[:, 0]


@dataclass(frozen=True)
class MultiplicativeLogNormal:
    """X and N log-normal, Y = X N^sigma: I = log(1 + 1/sigma^2) / 2, the Gaussian channel of the logarithms."""

    sigma: float
    dim_x = dim_y = 1

    def __post_init__(self) -> None:
        _positive("sigma", self.sigma)

    @property
    def mi(self) -> float:
        return additive_gaussian(self.sigma).mi

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        x, y = additive_gaussian(self.sigma).sample(n, rng)
        return np.exp(x), np.exp(y)

    def pointwise(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return additive_gaussian(self.sigma).pointwise(np.log(x), np.log(y))


# ---------------------------------------------------------------------------------- circle and hypersphere


@dataclass(frozen=True)
class PhasePair:
    """Two points on the unit circle, each the same phase plus its own U(-delta, delta): two jittered views.

    The difference of the phases is triangular on (-2 delta, 2 delta), so I = log(pi / delta) - 1/2 as long
    as 2 delta <= pi (the triangle then does not overlap itself around the circle).
    """

    delta: float
    dim_x = dim_y = 2

    def __post_init__(self) -> None:
        if not 0 < self.delta <= math.pi / 2:
            raise ValueError(f"delta must lie in (0, pi/2] radians, got {self.delta}")

    @property
    def mi(self) -> float:
        return math.log(math.pi / self.delta) - 0.5

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        phase = rng.uniform(-math.pi, math.pi, size=(_count(n), 1))
        a, b = (phase + rng.uniform(-self.delta, self.delta, size=(n, 1)) for _ in range(2))
        return np.hstack([np.cos(a), np.sin(a)]), np.hstack([np.cos(b), np.sin(b)])

    def pointwise(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        angle = np.arctan2(x[:, 0] * y[:, 1] - x[:, 1] * y[:, 0], np.sum(x * y, axis=1))
        width = 2 * self.delta
        # Rounding may carry a difference a hair beyond the width, where the density is zero.
        density = np.maximum(1 - np.abs(angle) / width, np.finfo(float).tiny) / width
        return np.log(2 * math.pi * density)


@dataclass(frozen=True)
class VonMisesFisher:
    """X uniform on the unit sphere in R^dim, Y | X ~ vMF(mean X, concentration kappa).

    p(y | x) = C_d(kappa) exp(kappa x.y), so the cosine critic at temperature 1/kappa is optimal for InfoNCE
    and I = log C_d(kappa) + kappa A_d(kappa) + log |S^{d-1}|, A_d = I_{d/2}(kappa) / I_{d/2-1}(kappa).
    At dim = 3: I = log(kappa / sinh kappa) + kappa coth kappa - 1.
    """

    dim: int
    kappa: float

    def __post_init__(self) -> None:
        if self.dim < 2:
            raise ValueError(f"dim must be at least 2 (a circle), got {self.dim}")
        _positive("kappa", self.kappa)

    @property
    def dim_x(self) -> int:
        return self.dim

    @property
    def dim_y(self) -> int:
        return self.dim

    @cached_property
    def log_normaliser(self) -> float:
        """log(C_d(kappa) |S^{d-1}|): minus the log of E[exp(kappa x.y)] over independent x, y."""
        # The powers of pi and the leading (kappa/2)^v / Gamma(v + 1) of the Bessel function cancel.
        return -_log_bessel_series(self.dim / 2 - 1, self.kappa)

    @property
    def mean_cosine(self) -> float:
        """E[x.y] = A_d(kappa)."""
        order = self.dim / 2 - 1
        log_ratio = _log_bessel_series(order + 1, self.kappa) - _log_bessel_series(order, self.kappa)
        return math.exp(log_ratio) * self.kappa / self.dim

    @cached_property
    def mi(self) -> float:
        return self.log_normaliser + self.kappa * self.mean_cosine

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        x = _unit_rows(rng.standard_normal((_count(n), self.dim)))
        cosine = self._cosines(n, rng)[:, None]
        noise = rng.standard_normal((n, self.dim))
        tangent = _unit_rows(noise - np.sum(noise * x, axis=1, keepdims=True) * x)
        return x, _unit_rows(cosine * x + np.sqrt(1 - cosine**2) * tangent)

    def pointwise(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return self.log_normaliser + self.kappa * np.sum(x * y, axis=1)

    def _cosines(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """x.y by Wood's (1994) rejection from an envelope of transformed Beta variables."""
        k, m = self.kappa, self.dim - 1
        b = m / (2 * k + math.sqrt(4 * k**2 + m**2))
        peak = (1 - b) / (1 + b)
        log_peak = k * peak + m * math.log1p(-(peak**2))
        cosines, missing = np.empty(n), np.arange(n)
        while len(missing):
            beta = rng.beta(m / 2, m / 2, size=len(missing))
            w = (1 - (1 + b) * beta) / (1 - (1 - b) * beta)
            keep = k * w + m * np.log1p(-peak * w) - log_peak >= np.log(1 - rng.uniform(size=len(missing)))
            cosines[missing[keep]] = w[keep]
            missing = missing[~keep]
        return cosines


# -------------------------------------------------------------------------------------- discrete and mixed


@dataclass(frozen=True)
class SymmetricChannel:
    """X uniform on {0..classes-1}; Y = X, but with probability `error` one of the other symbols.

    I = log K - H(error) - error log(K - 1); K = 2 is the binary symmetric channel (`error` = crossover).
    """

    error: float
    classes: int = 2
    dim_x = dim_y = 1

    def __post_init__(self) -> None:
        if self.classes < 2:
            raise ValueError(f"classes must be at least 2, got {self.classes}")
        if not 0 <= self.error <= 1:
            raise ValueError(f"error must be a probability, got {self.error}")

    @property
    def mi(self) -> float:
        e, k = self.error, self.classes
        return float(math.log(k) - special.entr(e) - special.entr(1 - e) - e * math.log(k - 1))

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        x = rng.integers(self.classes, size=(_count(n), 1))
        shift = rng.integers(1, self.classes, size=(n, 1)) * (rng.uniform(size=(n, 1)) < self.error)
        return x.astype(float), ((x + shift) % self.classes).astype(float)

    def pointwise(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        e, k = self.error, self.classes
        with np.errstate(divide="ignore"):  # an impossible pair has log ratio -inf
            same, other = np.log(k * (1 - e)), np.log(np.float64(k * e / (k - 1)))
        return np.where(x[:, 0] == y[:, 0], same, other)


def binary_symmetric_channel(crossover: float) -> SymmetricChannel:
    """A fair bit, flipped with probability `crossover`: I = log 2 - H(crossover)."""
    return SymmetricChannel(crossover, classes=2)


@dataclass(frozen=True)
class BernoulliGaussian:
    """X a fair bit, Y = X + N(0, sigma^2): I = log 2 - E log(1 + exp(-(1 + 2 sigma Z) / (2 sigma^2))).

    The expectation over Z ~ N(0, 1) is a smooth one-dimensional integral, taken by quadrature to 1e-12.
    """

    sigma: float
    dim_x = dim_y = 1

    def __post_init__(self) -> None:
        _positive("sigma", self.sigma)

    @cached_property
    def mi(self) -> float:
        s = self.sigma

        def lost(z: float) -> float:
            return math.exp(-(z**2) / 2) * np.logaddexp(0, -(1 + 2 * s * z) / (2 * s**2))

        middle = -1 / (2 * s)  # the softplus bends here; tell the quadrature
        halves = [(-40.0, middle), (middle, 40.0)] if middle > -40 else [(-40.0, 40.0)]
        total = sum(integrate.quad(lost, a, b, epsabs=1e-13, epsrel=1e-12, limit=200)[0] for a, b in halves)
        return math.log(2) - total / math.sqrt(2 * math.pi)

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        x = rng.integers(2, size=(_count(n), 1)).astype(float)
        return x, x + self.sigma * rng.standard_normal((n, 1))

    def pointwise(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        # p(y | other bit) / p(y | this bit) = exp(((y - x)^2 - (y - (1 - x))^2) / 2 sigma^2).
        odds = ((y - x) ** 2 - (y - 1 + x) ** 2) / (2 * self.sigma**2)
        return math.log(2) - np.logaddexp(0, odds)[:, 0]


@dataclass(frozen=True)
class GaoMixed:
    """X uniform on {0..symbols-1}, Y | X ~ U(X, X + 2): I = log m - (m - 1) log(2) / m  (Gao et al. 2017)."""

    symbols: int = 5
    dim_x = dim_y = 1

    def __post_init__(self) -> None:
        if self.symbols < 1:
            raise ValueError(f"symbols must be at least 1, got {self.symbols}")

    @property
    def mi(self) -> float:
        m = self.symbols
        return math.log(m) - (m - 1) * math.log(2) / m

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        x = rng.integers(self.symbols, size=(_count(n), 1)).astype(float)
        return x, x + rng.uniform(0, 2, size=(n, 1))

    def pointwise(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        # p(y | x) = 1/2 and p(y) = (how many symbols reach y) / 2m: one at both ends, two in between.
        cell = np.floor(y[:, 0])
        reaching = np.where((cell == 0) | (cell >= self.symbols), 1, 2)
        return np.log(self.symbols / reaching)


@dataclass(frozen=True)
class ZeroInflatedPoisson:
    """X ~ Exp(1); Y = 0 with probability `zero`, else Y ~ Poisson(X): continuous x, counts y.

    I is summed exactly over y. (Gao et al. 2017 give (1 - zero) 0.3012; that holds at zero = 0 only: the
    surplus zeros also blur the zeros of the Poisson.)
    """

    zero: float = 0.15
    dim_x = dim_y = 1

    def __post_init__(self) -> None:
        if not 0 <= self.zero < 1:
            raise ValueError(f"zero must lie in [0, 1), got {self.zero}")

    @cached_property
    def mi(self) -> float:
        p = self.zero
        # y = 0: with v = P(0 | x) = p + (1 - p) e^{-x} the integral is that of v log(v / P(0)) over (p, 1).
        log_p0 = math.log(p + (1 - p) / 2)
        primitive_at_p = p**2 / 2 * math.log(p) - p**2 / 4 if p > 0 else 0.0
        at_zero = (-0.25 - primitive_at_p - log_p0 * (1 - p**2) / 2) / (1 - p)
        # y = k > 0: x has the Gamma(k + 1, rate 2) law given k, and P(k) = (1 - p) 2^-(k+1).
        k = np.arange(1, 200)
        log2 = math.log(2)
        inner = k * (special.digamma(k + 1) - log2) - (k + 1) / 2 - special.gammaln(k + 1) + (k + 1) * log2
        return at_zero + (1 - p) * float(np.sum(2.0 ** -(k + 1) * inner))

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        x = rng.exponential(size=(_count(n), 1))
        return x, rng.poisson(x) * (rng.uniform(size=(n, 1)) >= self.zero).astype(float)

    def pointwise(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        p, x, y = self.zero, x[:, 0], y[:, 0]
        at_zero = np.log((p + (1 - p) * np.exp(-x)) / (p + (1 - p) / 2))
        return np.where(y == 0, at_zero, special.xlogy(y, x) - x - special.gammaln(y + 1) + (y + 1) * math.log(2))


# --------------------------------------------------------------------------------------------- composition


class Product:
    """Independent pairs side by side: X = (X_1, X_2, ...), Y = (Y_1, Y_2, ...), I(X; Y) = sum of I(X_k; Y_k)."""

    def __init__(self, *parts: Distribution) -> None:
        if not parts:
            raise ValueError("Product needs at least one distribution")
        self.parts = parts
        self.dim_x = sum(part.dim_x for part in parts)
        self.dim_y = sum(part.dim_y for part in parts)

    @property
    def mi(self) -> float:
        return sum(part.mi for part in self.parts)

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        xs, ys = zip(*(part.sample(n, rng) for part in self.parts), strict=True)
        return np.hstack(xs), np.hstack(ys)


# ------------------------------------------------------------------------------------------------- algebra


def _log_det_mi(dispersion: np.ndarray, dim_x: int) -> float:
    # From the singular values of the whitened cross block (the canonical correlations): unlike a difference
    # of log-determinants it is exactly zero for independent blocks and keeps digits when rho is near one.
    l_x = np.linalg.cholesky(dispersion[:dim_x, :dim_x])
    l_y = np.linalg.cholesky(dispersion[dim_x:, dim_x:])
    cross = np.linalg.solve(l_y, np.linalg.solve(l_x, dispersion[:dim_x, dim_x:]).T)
    rho = np.linalg.svd(cross, compute_uv=False)
    return float(-np.sum(np.log1p(-(rho**2))) / 2) + 0.0


def _quadratic(z: np.ndarray, dispersion: np.ndarray) -> np.ndarray:
    """z' C^{-1} z per row: [n]."""
    return np.sum(np.linalg.solve(np.linalg.cholesky(dispersion), z.T) ** 2, axis=0)


def _log_bessel_series(order: float, kappa: float) -> float:
    """log of I_v(kappa) / ((kappa/2)^v / Gamma(v+1)) = log sum_m (kappa^2/4)^m / (m! (v+1)_m); no underflow."""
    m = np.arange(int(1.5 * kappa) + 60)  # the largest term lies at m < kappa / 2
    log_poch = special.gammaln(order + 1 + m) - special.gammaln(order + 1)
    return float(special.logsumexp(2 * m * math.log(kappa / 2) - special.gammaln(m + 1) - log_poch))


def _split(z: np.ndarray, dim_x: int) -> tuple[np.ndarray, np.ndarray]:
    return np.ascontiguousarray(z[:, :dim_x]), np.ascontiguousarray(z[:, dim_x:])


def _unit_rows(z: np.ndarray) -> np.ndarray:
    return z / np.linalg.norm(z, axis=1, keepdims=True)


# -------------------------------------------------------------------------------------------------- checks


def _count(n: int) -> int:
    if n < 1:
        raise ValueError(f"n must be at least 1 sample, got {n}")
    return n


def _positive(name: str, value: float) -> None:
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{name} must be positive and finite, got {value}")


def _check_dispersion(name: str, matrix: np.ndarray, dim_x: int) -> None:
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"{name} must be a square matrix, got shape {matrix.shape}")
    if not 1 <= dim_x < len(matrix):
        raise ValueError(f"dim_x must leave both X and Y a coordinate of the {len(matrix)}, got {dim_x}")
    if not np.allclose(matrix, matrix.T):
        raise ValueError(f"{name} must be symmetric, got {matrix}")
    smallest = np.linalg.eigvalsh(matrix)[0]
    if smallest <= 0:
        raise ValueError(f"{name} must be positive definite, its smallest eigenvalue is {smallest:.3g}")
