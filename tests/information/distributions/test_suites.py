import math

import numpy as np
import pytest

from ssl_mi.information.distributions import families as d
from ssl_mi.information.distributions.everyday import EVERYDAY, EVERYDAY_REPORT, EVERYDAY_TUNING, KINDS
from ssl_mi.information.distributions.monte_carlo import monte_carlo
from ssl_mi.information.distributions.suites import BEYOND_NORMAL, MORE, SUITES, find_task

# Identifiers, dimensions and nats of the benchmark of Czyz et al. 2023, as its authors print them.
PUBLISHED = """
    1v1-normal-0.75, 1, 1, 0.41334
    normal_cdf-1v1-normal-0.75, 1, 1, 0.41334
    1v1-additive-0.1, 1, 1, 1.70944
    1v1-additive-0.75, 1, 1, 0.33333
    1v1-bimodal-0.75, 1, 1, 0.41334
    wiggly-1v1-normal-0.75, 1, 1, 0.41334
    half_cube-1v1-normal-0.75, 1, 1, 0.41334
    student-identity-1-1-1, 1, 1, 0.22417
    asinh-student-identity-1-1-1, 1, 1, 0.22417
    swissroll_x-normal_cdf-1v1-normal-0.75, 2, 1, 0.41334
    multinormal-dense-2-2-0.5, 2, 2, 0.29389
    multinormal-dense-3-3-0.5, 3, 3, 0.41334
    multinormal-dense-5-5-0.5, 5, 5, 0.59281
    multinormal-dense-25-25-0.5, 25, 25, 1.29218
    multinormal-dense-50-50-0.5, 50, 50, 1.62427
    multinormal-sparse-2-2-2-2.0, 2, 2, 1.02165
    multinormal-sparse-3-3-2-2.0, 3, 3, 1.02165
    multinormal-sparse-5-5-2-2.0, 5, 5, 1.02165
    multinormal-sparse-25-25-2-2.0, 25, 25, 1.02165
    student-identity-2-2-1, 2, 2, 0.43195
    student-identity-2-2-2, 2, 2, 0.19315
    student-identity-3-3-2, 3, 3, 0.29092
    student-identity-3-3-3, 3, 3, 0.17871
    student-identity-5-5-2, 5, 5, 0.44815
    student-identity-5-5-3, 5, 5, 0.29854
    normal_cdf-multinormal-sparse-3-3-2-2.0, 3, 3, 1.02165
    normal_cdf-multinormal-sparse-5-5-2-2.0, 5, 5, 1.02165
    normal_cdf-multinormal-sparse-25-25-2-2.0, 25, 25, 1.02165
    half_cube-multinormal-sparse-3-3-2-2.0, 3, 3, 1.02165
    half_cube-multinormal-sparse-5-5-2-2.0, 5, 5, 1.02165
    half_cube-multinormal-sparse-25-25-2-2.0, 25, 25, 1.02165
    spiral-multinormal-sparse-3-3-2-2.0, 3, 3, 1.02165
    spiral-multinormal-sparse-5-5-2-2.0, 5, 5, 1.02165
    spiral-multinormal-sparse-25-25-2-2.0, 25, 25, 1.02165
    spiral-normal_cdf-multinormal-sparse-3-3-2-2.0, 3, 3, 1.02165
    spiral-normal_cdf-multinormal-sparse-5-5-2-2.0, 5, 5, 1.02165
    spiral-normal_cdf-multinormal-sparse-25-25-2-2.0, 25, 25, 1.02165
    asinh-student-identity-2-2-1, 2, 2, 0.43195
    asinh-student-identity-3-3-2, 3, 3, 0.29092
    asinh-student-identity-5-5-2, 5, 5, 0.44815
"""
LINES = [line.strip().split(", ") for line in PUBLISHED.strip().splitlines()]


def test_there_are_forty_tasks_in_the_published_order():
    assert [task.name for task in BEYOND_NORMAL] == [line[0] for line in LINES]
    assert len(BEYOND_NORMAL) == 40


@pytest.mark.parametrize(("name", "dim_x", "dim_y", "nats"), LINES)
def test_each_task_has_the_published_information_to_its_last_digit(name, dim_x, dim_y, nats):
    task = find_task(name)
    assert f"{task.mi:.{len(nats.split('.')[1])}f}" == nats
    assert task.dims == (int(dim_x), int(dim_y))


@pytest.mark.parametrize("task", SUITES["all"], ids=lambda task: task.name)
def test_each_task_draws_finite_rows_of_its_dimensions_that_the_generator_decides(task):
    x, y = task.sample(64, np.random.default_rng(0))
    again, _ = task.sample(64, np.random.default_rng(0))
    assert x.shape == (64, task.dims[0])
    assert y.shape == (64, task.dims[1])
    assert np.isfinite(x).all()
    assert np.isfinite(y).all()
    assert (x == again).all()


def test_names_are_unique_and_a_wrong_one_is_answered_with_the_nearest():
    assert len({task.name for task in SUITES["all"]}) == len(BEYOND_NORMAL) + len(MORE) + len(EVERYDAY)
    with pytest.raises(ValueError, match=r"1v1-normal-0\.76.*nearest: .*1v1-normal-0\.75"):
        find_task("1v1-normal-0.76")


def test_two_pair_tasks_carry_two_correlations_of_four_fifths():
    assert find_task("multinormal-sparse-5-5-2-2.0").mi == pytest.approx(-math.log(1 - 0.64), abs=1e-12)


def test_spirals_of_a_task_keep_the_norm_of_every_row():
    base, spiral = find_task("multinormal-sparse-5-5-2-2.0"), find_task("spiral-multinormal-sparse-5-5-2-2.0")
    (x, y), (u, v) = (task.sample(20, np.random.default_rng(0)) for task in (base, spiral))
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), np.linalg.norm(u, axis=1))
    np.testing.assert_allclose(np.linalg.norm(y, axis=1), np.linalg.norm(v, axis=1))
    assert np.abs(x - u).max() > 0.1


def test_bimodal_margins_have_the_published_modes():
    x, y = find_task("1v1-bimodal-0.75").sample(20_000, np.random.default_rng(0))
    assert x.mean() == pytest.approx(0.7 * 5, abs=0.1)
    assert y.mean() == pytest.approx(0.5 * -1 + 0.5 * 3, abs=0.1)
    # Between the modes there is next to nothing.
    assert np.mean(np.abs(x - 2.5) < 0.3) < 0.02


def test_independent_tasks_share_nothing():
    assert all(task.mi == 0 for task in MORE if task.name.startswith("independent"))
    assert isinstance(find_task("independent-4-4").distribution, d.Gaussian)


def test_the_halves_of_the_everyday_suite_share_no_task_and_both_hold_every_kind():
    tuning, report = ({task.name for task in half} for half in (EVERYDAY_TUNING, EVERYDAY_REPORT))
    assert not tuning & report
    assert tuning | report == {task.name for task in EVERYDAY}
    assert {KINDS[name] for name in tuning} == {KINDS[name] for name in report} == set(KINDS.values())


def with_ratio(distribution):
    """The distributions with an exact log ratio that a task is made of."""
    if isinstance(distribution, d.Product):
        return [part for whole in distribution.parts for part in with_ratio(whole)]
    base = getattr(distribution, "base", distribution)
    return [base] if hasattr(base, "pointwise") else with_ratio(base)


@pytest.mark.parametrize("task", EVERYDAY, ids=lambda task: task.name)
def test_an_everyday_truth_is_the_mean_of_the_exact_log_ratio(task):
    for base in with_ratio(task.distribution):
        mean, error = monte_carlo(base, rows=4000)
        # Four standard errors, with half a unit of the last stored digit.
        assert abs(mean - base.mi) < 4 * error + 5e-5


@pytest.mark.slow
@pytest.mark.parametrize("task", EVERYDAY, ids=lambda task: task.name)
def test_an_everyday_truth_is_that_of_many_rows(task):
    for base in with_ratio(task.distribution):
        mean, error = monte_carlo(base, rows=400_000, seed=1)
        assert abs(mean - base.mi) < 4 * error + 5e-5
