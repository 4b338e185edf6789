"""Twins share the tails of the rows, and know their mutual information."""

import numpy as np
import pytest

from ssl_mi.information import mutual_information
from ssl_mi.information.core.linalg import normal_scores
from ssl_mi.information.distributions import families as d
from ssl_mi.information.distributions.suites import find_task
from ssl_mi.information.estimators.auto.twins import Twin, heavy_tailed


def student(dim, dof, rho):
    return d.StudentT(np.kron([[1, rho], [rho, 1]], np.eye(dim)), dim, dof)


@pytest.mark.parametrize(("dim", "dof"), [(1, 1.0), (3, 2.0)])
def test_the_twin_of_heavy_tails_shares_as_much_as_they_do_whatever_their_margins(dim, dof):
    truth = student(dim, dof, 0.5)
    x, y = truth.sample(2000, np.random.default_rng(0))
    twin = heavy_tailed(normal_scores(np.hstack([x**3, y])), dim)
    assert twin.dof == dof
    ratio = twin.log_ratio(twin.sample(50_000, np.random.default_rng(1)))
    assert ratio.mean() == pytest.approx(truth.mi, abs=0.05)


def test_a_normal_twin_has_the_closed_form_and_normal_rows_have_no_other():
    rho = 0.6
    twin = Twin(np.array([[1, rho], [rho, 1]]), 1)
    ratio = twin.log_ratio(twin.sample(50_000, np.random.default_rng(0)))
    assert ratio.mean() == pytest.approx(-np.log(1 - rho**2) / 2, abs=4 * ratio.std() / np.sqrt(50_000))
    rng = np.random.default_rng(1)
    assert heavy_tailed(rng.standard_normal((2000, 6)), 3) is None
    # Two sides with heavy tails each of its own share nothing that a t distribution could tell.
    alone = [rng.standard_normal((2000, 3)) / np.sqrt(rng.chisquare(1, (2000, 1))) for _ in "xy"]
    assert heavy_tailed(normal_scores(np.hstack(alone)), 3) is None


def test_heavy_tails_in_seven_columns_are_covered():
    task = find_task("everyday-student-4-3-0.5")
    x, y = task.sample(2000, np.random.default_rng(5))
    estimate = mutual_information(x, y, learned=False, permutations=0)
    # By normal twins it is .13 low, and its interval ends below the truth.
    assert estimate.value == pytest.approx(task.mi, abs=0.08)
    assert estimate.ci[0] < task.mi < estimate.ci[1]
