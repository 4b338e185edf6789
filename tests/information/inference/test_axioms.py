"""The laws of information, held by a good estimator and broken by a bad one."""

import math
from functools import partial

import numpy as np
import pytest

from ssl_mi.information.core.estimate import Estimate
from ssl_mi.information.distributions import families as d
from ssl_mi.information.estimators.gaussian import cca_mi, copula_mi
from ssl_mi.information.estimators.ksg import conditional_ksg, ksg
from ssl_mi.information.inference import axioms as consistency

ONE = d.correlated_gaussian(0.8).mi


def pairs(n=1500, dim=1):
    return d.correlated_gaussian(0.8, dim).sample(n, np.random.default_rng(0))


def log_det(*columns):
    return np.linalg.slogdet(np.atleast_2d(np.cov(np.hstack(columns).T)))[1]


def gaussian_mi(x, y):
    return (log_det(x) + log_det(y) - log_det(x, y)) / 2


def gaussian_entropy(x):
    return (x.shape[1] * math.log(2 * math.pi * math.e) + log_det(x)) / 2


def gaussian_conditional_mi(x, y, z):
    return (log_det(x, z) + log_det(y, z) - log_det(x, y, z) - log_det(z)) / 2


# ----------------------------------------------------------------------------------------- held by the good ones


def test_ksg_obeys_the_laws_in_one_dimension():
    checks = consistency.all_checks(ksg, *pairs())
    assert len(checks) == 6
    assert all(check.holds(absolute=0.1) for check in checks), "\n".join(map(str, checks))


def test_gaussian_closed_forms_obey_every_law_on_gaussian_rows():
    x, y = pairs(4000, dim=2)
    turn = np.array([[1.0, 2.0], [-0.5, 1.0]])
    checks = [
        consistency.independence(gaussian_mi, x, y),
        consistency.coarsening(gaussian_mi, x, y, h=lambda v: v[:, 0]),
        consistency.additivity(gaussian_mi, x, y),
        consistency.invariance(gaussian_mi, x, y, f=lambda v: v @ turn, g=lambda v: 5 - v),
        consistency.symmetry(gaussian_mi, x, y),
        consistency.chain_rule(gaussian_conditional_mi, gaussian_mi, x, y[:, :1], y[:, 1:]),
        consistency.entropies(gaussian_mi, x, y, entropy=gaussian_entropy),
    ]
    assert all(check.holds() for check in checks), "\n".join(map(str, checks))


def test_additivity_sets_independent_copies_side_by_side():
    check = consistency.additivity(gaussian_mi, *pairs(4000, dim=2))
    assert check.estimated == pytest.approx(4 * ONE, abs=0.15)
    assert check.ratio == pytest.approx(1, abs=0.05)


def test_one_of_two_coordinates_keeps_half_of_the_information():
    check = consistency.coarsening(gaussian_mi, *pairs(4000, dim=2), h=lambda v: v[:, :1])
    assert check.ratio == pytest.approx(0.5, abs=0.05)


def test_the_chain_rule_holds_for_ksg():
    # Y, Z, N iid, X = Y + Z + N: I(X; Z) = .202733, I(X; Y | Z) = .346574.
    y, z, noise = np.random.default_rng(1).standard_normal((3, 3000))
    check = consistency.chain_rule(conditional_ksg, ksg, y + z + noise, y, z)
    assert check.expected == pytest.approx(0.549306, abs=0.06)
    assert check.gap == pytest.approx(0, abs=0.05)


def test_information_is_entropy_less_conditional_entropy():
    x, y = pairs(4000, dim=2)
    whole = consistency.entropies(gaussian_mi, x, y, entropy=gaussian_entropy)
    given = consistency.entropies(
        gaussian_mi,
        x,
        y,
        entropy=gaussian_entropy,
        conditional_entropy=lambda b, a: gaussian_entropy(np.hstack([a, b])) - gaussian_entropy(a),
    )
    assert whole.expected == pytest.approx(given.expected) == pytest.approx(2 * ONE, abs=0.05)
    assert whole.gap == pytest.approx(0, abs=1e-9)


# ---------------------------------------------------------------------------------------- broken by the bad ones


def test_a_constant_breaks_independence_additivity_and_the_entropies():
    def constant(x, y):
        return Estimate(1.0)

    assert consistency.independence(constant, *pairs()).gap == 1.0
    assert consistency.additivity(constant, *pairs()).gap == -1.0
    assert not consistency.entropies(constant, *pairs(), entropy=gaussian_entropy).holds()


def test_an_estimator_that_rewards_columns_breaks_data_processing_and_coarsening():
    def columns(x, y):
        return 0.5 * y.shape[1]

    x, y = pairs(dim=2)
    assert not consistency.data_processing(columns, x, y).holds()
    assert not consistency.coarsening(columns, x, y, h=lambda v: np.hstack([v, v])).holds()
    # Less is no fault here: the law is one of "at most".
    assert consistency.coarsening(columns, x, y, h=lambda v: v[:, :1]).holds()


def test_a_ceiling_breaks_additivity():
    assert not consistency.additivity(lambda x, y: min(gaussian_mi(x, y), 0.6), *pairs(4000)).holds()


def test_a_linear_estimator_breaks_invariance_where_a_copula_does_not():
    x, y = pairs()
    x = np.exp(3 * x)
    assert consistency.invariance(cca_mi, x, y).gap != pytest.approx(0, abs=0.01)
    assert consistency.invariance(copula_mi, x, y).gap == pytest.approx(0, abs=1e-9)


def test_an_entropy_breaks_symmetry():
    x, y = pairs(dim=2)
    assert not consistency.symmetry(lambda a, b: gaussian_entropy(a), x[:, :1], y).holds()


def test_standard_errors_widen_what_is_held():
    def noisy(se, x, y):
        return Estimate(value=0.2, se=se)

    assert not consistency.independence(partial(noisy, 0.01), *pairs()).holds()
    assert consistency.independence(partial(noisy, 0.1), *pairs()).holds()


def test_nan_holds_nothing():
    assert not consistency.symmetry(lambda x, y: math.nan, *pairs()).holds()


def test_rows_must_be_paired():
    x, y = pairs()
    with pytest.raises(ValueError, match="in pairs"):
        consistency.symmetry(gaussian_mi, x, y[:-1])


def test_a_check_prints_the_estimate_and_what_it_should_be():
    assert str(consistency.Check("independence", 0.02, 0.0)) == (
        "independence: estimated 0.0200, should be 0.0000 (off by +0.0200 nats)"
    )
