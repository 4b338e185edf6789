import math

import numpy as np
import pytest
from scipy import integrate, special, stats

from ssl_mi.information.distributions import families as d

SPREAD_OUT = [
    d.correlated_gaussian(0.9),
    d.correlated_gaussian(-0.5, dim=4),
    d.dense_gaussian(2, 5, 0.5),
    d.sparse_gaussian(4, 3, pairs=2, rho=0.8),
    d.additive_gaussian(0.7, dim=2),
    d.student_t(1, 1, dof=1),
    d.student_t(3, 2, dof=2),
    d.StudentT(np.array([[1, 0.6], [0.6, 2.0]]), 1, dof=4),
    d.AdditiveUniform(0.1),
    d.AdditiveUniform(0.75),
    d.MultiplicativeUniform(),
    d.MultiplicativeLogNormal(0.5),
    d.PhasePair(0.3),
    d.VonMisesFisher(2, 3.0),
    d.VonMisesFisher(3, 10.0),
    d.VonMisesFisher(64, 50.0),
    d.binary_symmetric_channel(0.1),
    d.SymmetricChannel(0.3, classes=7),
    d.BernoulliGaussian(0.5),
    d.GaoMixed(5),
    d.ZeroInflatedPoisson(0.0),
    d.ZeroInflatedPoisson(0.15),
]


@pytest.mark.parametrize("distribution", SPREAD_OUT, ids=lambda v: type(v).__name__)
def test_the_mean_of_the_pointwise_log_ratio_over_samples_is_the_mutual_information(distribution):
    x, y = distribution.sample(40_000, np.random.default_rng(0))
    ratio = distribution.pointwise(x, y)
    assert x.shape == (40_000, distribution.dim_x)
    assert y.shape == (40_000, distribution.dim_y)
    assert x.dtype == y.dtype == np.float64
    # Four standard errors: one in 16,000 by chance, and the seed is fixed.
    assert abs(ratio.mean() - distribution.mi) < 4 * ratio.std() / 200 + 1e-12


@pytest.mark.parametrize(
    ("distribution", "nats"),
    [
        (d.correlated_gaussian(0.3), 0.047155),
        (d.correlated_gaussian(0.6), 0.223144),
        (d.correlated_gaussian(0.75), 0.413339),
        (d.correlated_gaussian(0.99), 1.958518),
        (d.correlated_gaussian(0.6, dim=5), 5 * 0.2231436),
        (d.dense_gaussian(4, 4, 0.0), 0.0),
        (d.gaussian_with_mi(10.0, dim=20), 10.0),
        (d.additive_gaussian(1.0), math.log(2) / 2),
        (d.student_t(1, 1, 1), 0.224171),
        (d.student_t(2, 2, 1), 0.431946),
        (d.student_t(2, 2, 2), 0.193147),
        (d.student_t(3, 3, 2), 0.290922),
        (d.student_t(3, 3, 3), 0.178712),
        (d.student_t(5, 5, 2), 0.448151),
        (d.student_t(5, 5, 3), 0.298544),
        (d.AdditiveUniform(0.1), 1.709438),
        (d.AdditiveUniform(0.75), 1 / 3),
        (d.BernoulliGaussian(0.25), 0.632720),
        (d.BernoulliGaussian(0.5), 0.336831),
        (d.BernoulliGaussian(1.0), 0.111421),
        (d.binary_symmetric_channel(0.05), 0.494632),
        (d.binary_symmetric_channel(0.1), 0.368064),
        (d.binary_symmetric_channel(0.25), 0.130812),
        (d.binary_symmetric_channel(0.5), 0.0),
        (d.SymmetricChannel(0.0, classes=10), math.log(10)),
        (d.GaoMixed(2), 0.346574),
        (d.GaoMixed(5), 1.054920),
        (d.PhasePair(math.pi / 4), math.log(4) - 0.5),
    ],
)
def test_closed_forms(distribution, nats):
    assert distribution.mi == pytest.approx(nats, abs=6e-7)


def test_dense_gaussian_agrees_with_the_log_determinants():
    distribution = d.dense_gaussian(25, 25, 0.5)
    c = distribution.covariance
    log_det = [np.linalg.slogdet(m)[1] for m in (c[:25, :25], c[25:, 25:], c)]
    assert distribution.mi == pytest.approx((log_det[0] + log_det[1] - log_det[2]) / 2, abs=1e-10)


def test_gaussian_pointwise_is_the_log_ratio_of_scipys_densities():
    distribution = d.Gaussian(np.array([[2.0, 0.3, 0.9], [0.3, 1.0, -0.2], [0.9, -0.2, 1.5]]), dim_x=2)
    x, y = distribution.sample(50, np.random.default_rng(0))
    c = distribution.covariance
    parts = [(np.hstack([x, y]), c), (x, c[:2, :2]), (y, c[2:, 2:])]
    joint, p_x, p_y = (stats.multivariate_normal(cov=cov).logpdf(z) for z, cov in parts)
    np.testing.assert_allclose(distribution.pointwise(x, y), joint - p_x - p_y, atol=1e-12)


def test_student_pointwise_is_the_log_ratio_of_scipys_densities():
    distribution = d.StudentT(np.array([[2.0, 0.3, 0.9], [0.3, 1.0, -0.2], [0.9, -0.2, 1.5]]), dim_x=2, dof=3)
    x, y = distribution.sample(50, np.random.default_rng(0))
    s = distribution.dispersion
    parts = [(np.hstack([x, y]), s), (x, s[:2, :2]), (y, s[2:, 2:])]
    joint, p_x, p_y = (stats.multivariate_t(shape=shape, df=3).logpdf(z) for z, shape in parts)
    np.testing.assert_allclose(distribution.pointwise(x, y), joint - p_x - p_y, atol=1e-12)


def test_student_t_tends_to_the_gaussian_as_the_tails_vanish():
    dispersion = d.correlated_gaussian(0.8, dim=2).covariance
    assert d.StudentT(dispersion, 2, dof=1e6).mi == pytest.approx(d.Gaussian(dispersion, 2).mi, abs=1e-5)


def test_samples_follow_the_dispersion():
    dispersion = np.array([[1.0, 0.7], [0.7, 2.0]])
    x, y = d.Gaussian(dispersion, 1).sample(100_000, np.random.default_rng(0))
    np.testing.assert_allclose(np.cov(np.hstack([x, y]).T), dispersion, atol=0.03)


def test_multiplicative_uniform_is_eulers_constant_by_quadrature():
    # I = h(Y) - E[log X], p(y) = -log y.
    entropy = integrate.quad(lambda y: -special.xlogy(-math.log(y), -math.log(y)), 0, 1)[0]
    assert d.MultiplicativeUniform.mi == pytest.approx(entropy + 1, abs=1e-8)


def test_von_mises_fisher_on_the_sphere_has_its_elementary_closed_form():
    for kappa in (0.1, 1.0, 10.0, 300.0):
        # log sinh without overflow
        log_sinh = kappa + math.log(-math.expm1(-2 * kappa)) - math.log(2)
        nats = math.log(kappa) - log_sinh + kappa / math.tanh(kappa) - 1
        assert d.VonMisesFisher(3, kappa).mi == pytest.approx(nats, abs=1e-10)


@pytest.mark.parametrize(("dim", "kappa"), [(2, 0.5), (5, 7.0), (64, 50.0), (512, 100.0)])
def test_von_mises_fisher_agrees_with_quadrature_over_the_cosine(dim, kappa):
    # Under independence t = x.y has density proportional to (1 - t^2)^((dim - 3) / 2); use the angle.
    def weight(angle, power):
        return math.sin(angle) ** (dim - 2) * math.exp(kappa * (math.cos(angle) - 1)) * math.cos(angle) ** power

    norm = integrate.quad(lambda a: math.sin(a) ** (dim - 2), 0, math.pi, epsabs=0, limit=500)[0]
    z, first = (integrate.quad(weight, 0, math.pi, args=(p,), epsabs=0, limit=500)[0] for p in (0, 1))
    nats = kappa * first / z - (math.log(z / norm) + kappa)
    assert d.VonMisesFisher(dim, kappa).mi == pytest.approx(nats, rel=1e-7)


def test_von_mises_fisher_cosines_follow_their_law_on_the_sphere():
    kappa = 4.0
    x, y = d.VonMisesFisher(3, kappa).sample(20_000, np.random.default_rng(0))
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1)
    np.testing.assert_allclose(np.linalg.norm(y, axis=1), 1)

    def cdf(t):  # density proportional to exp(kappa t) on (-1, 1)
        return np.expm1(kappa * (t + 1)) / math.expm1(2 * kappa)

    assert stats.kstest(np.sum(x * y, axis=1), cdf).pvalue > 1e-3


def test_zero_inflated_poisson_agrees_with_quadrature_and_not_with_the_printed_formula():
    p = 0.15

    def of_count(k):
        share = p * (k == 0) + (1 - p) * 2.0 ** -(k + 1)

        def integrand(x):
            given = p * (k == 0) + (1 - p) * stats.poisson.pmf(k, x)
            return math.exp(-x) * special.xlogy(given, given / share)

        return integrate.quad(integrand, 0, 60, limit=200)[0]

    nats = sum(of_count(k) for k in range(40))
    assert d.ZeroInflatedPoisson(p).mi == pytest.approx(nats, abs=1e-6)
    assert d.ZeroInflatedPoisson(0.0).mi == pytest.approx(0.3012, abs=5e-5)
    assert abs(d.ZeroInflatedPoisson(p).mi - (1 - p) * 0.3012) > 0.02


def test_product_adds_information_and_dimensions_up():
    product = d.Product(d.correlated_gaussian(0.6), d.VonMisesFisher(3, 2.0), d.dense_gaussian(1, 2, 0.0))
    x, y = product.sample(5, np.random.default_rng(0))
    assert product.mi == pytest.approx(0.2231436 + d.VonMisesFisher(3, 2.0).mi)
    assert x.shape == (5, 5)
    assert y.shape == (5, 6)


def test_the_generator_decides_the_sample():
    distribution = d.VonMisesFisher(4, 2.0)
    one, same, other = (distribution.sample(10, np.random.default_rng(seed))[1] for seed in (0, 0, 1))
    assert (one == same).all()
    assert (one != other).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: d.correlated_gaussian(1.0), "rho must lie strictly between -1 and 1, got 1.0"),
        (lambda: d.sparse_gaussian(2, 3, pairs=3), "pairs must lie between 0 and .* = 2, got 3"),
        (lambda: d.Gaussian(np.array([[1.0, 2.0], [2.0, 1.0]]), 1), "positive definite"),
        (lambda: d.Gaussian(np.array([[1.0, 0.2], [0.1, 1.0]]), 1), "symmetric"),
        (lambda: d.Gaussian(np.eye(2), 2), "dim_x"),
        (lambda: d.Gaussian(np.ones((2, 3)), 1), "square"),
        (lambda: d.gaussian_with_mi(-1.0), "mi must be at least 0"),
        (lambda: d.student_t(1, 1, dof=0), "dof must be positive"),
        (lambda: d.AdditiveUniform(0.0), "epsilon"),
        (lambda: d.PhasePair(2.0), "delta"),
        (lambda: d.VonMisesFisher(1, 1.0), "dim must be at least 2"),
        (lambda: d.VonMisesFisher(3, math.inf), "kappa"),
        (lambda: d.SymmetricChannel(1.5), "error must be a probability"),
        (lambda: d.SymmetricChannel(0.1, classes=1), "classes"),
        (lambda: d.GaoMixed(0), "symbols"),
        (lambda: d.ZeroInflatedPoisson(1.0), "zero"),
        (lambda: d.Product(), "at least one"),
        (lambda: d.correlated_gaussian(0.5).sample(0, np.random.default_rng(0)), "n must be at least 1"),
    ],
)
def test_impossible_parameters_are_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()
