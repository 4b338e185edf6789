"""The laws of information, held by a good estimator and broken by a bad one."""

import numpy as np
import pytest

from ssl_mi.information import consistency
from ssl_mi.information.estimate import Estimate
from ssl_mi.information.gaussian import cca_mi, copula_mi
from ssl_mi.information.knn import conditional_ksg, ksg


def pairs(n=1500, d=1):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, d))
    return x, 0.8 * x + 0.6 * rng.standard_normal((n, d))


def test_ksg_obeys_the_laws_in_one_dimension():
    for check in consistency.all_checks(ksg, *pairs()):
        assert abs(check.gap) < 0.1, str(check)


def test_an_estimator_that_reads_a_constant_breaks_independence_and_additivity():
    def constant(x, y):
        return Estimate(1.0)

    assert consistency.independence(constant, *pairs()).gap == 1.0
    assert consistency.additivity(constant, *pairs()).gap == -1.0


def test_a_linear_estimator_breaks_invariance_where_a_copula_does_not():
    x, y = pairs()
    x = np.exp(3 * x)
    assert consistency.invariance(cca_mi, x, y).gap != pytest.approx(0, abs=0.01)
    assert consistency.invariance(copula_mi, x, y).gap == pytest.approx(0, abs=1e-9)


def test_additivity_sets_independent_copies_side_by_side():
    check = consistency.additivity(cca_mi, *pairs())
    assert check.expected == pytest.approx(2 * -0.5 * np.log(1 - 0.64), abs=0.1)
    assert check.gap == pytest.approx(0, abs=0.02)


def test_the_chain_rule_holds_for_ksg():
    rng = np.random.default_rng(1)
    y, z = rng.standard_normal((2, 3000))
    x = y + z + rng.standard_normal(3000)
    check = consistency.chain_rule(conditional_ksg, ksg, x, y, z)
    assert check.expected == pytest.approx(0.549306, abs=0.06)  # log(3) / 2
    assert check.gap == pytest.approx(0, abs=0.05)


def test_a_check_prints_what_was_read_and_what_should_have_been():
    assert str(consistency.Check("independence", 0.02, 0.0)) == (
        "independence: read 0.0200, should be 0.0000 (off by +0.0200 nats)"
    )
