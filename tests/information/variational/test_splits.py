import numpy as np
import pytest

from ssl_mi.information.variational.splits import MARGINS, Split, split_each, split_rows


def test_fit_validation_and_test_rows_are_disjoint_and_all_rows():
    rows = split_rows(1000, Split(), seed=0)
    assert sorted(np.concatenate(list(rows.values()))) == list(range(1000))
    assert [len(rows[name]) for name in ("fit", "validation", "test")] == [600, 150, 250]


def test_views_of_one_source_stay_on_one_side_of_the_split():
    source = np.repeat(np.arange(200), 5)
    rows = split_rows(1000, Split(0.5, 0.25, 0.25, groups=source), seed=0)
    sides = [set(source[index]) for index in rows.values()]
    assert sum(map(len, sides)) == len(set.union(*sides)) == 200
    assert sum(len(index) for index in rows.values()) == 1000


@pytest.mark.parametrize("n", [1000, 1001, 1003])
def test_cross_fitting_tests_every_row_once_and_never_a_row_it_fitted_on(n):
    turns = split_each(n, Split(), seed=0)
    assert len(turns) == 4
    assert sorted(np.concatenate([rows["test"] for rows in turns])) == list(range(n))
    for rows in turns:
        assert sorted(np.concatenate(list(rows.values()))) == list(range(n))
    for name, index in split_rows(n, Split(), seed=0).items():
        np.testing.assert_array_equal(turns[0][name], index)


def test_cross_fitting_keeps_sources_together():
    source = np.repeat(np.arange(60), 5)
    for rows in split_each(300, Split(groups=source), seed=0):
        assert not set(source[rows["test"]]) & set(source[np.concatenate([rows["fit"], rows["validation"]])])


def test_a_test_share_that_does_not_divide_the_rows_is_refused():
    with pytest.raises(ValueError, match=r"1/2, 1/3, 1/4, ..., got 0.3"):
        split_each(100, Split(0.5, 0.2, 0.3), seed=0)


def test_gaussian_margins_are_normal_scores_of_the_fitted_rows_and_monotone_between():
    fitted = np.array([[10.0], [20.0], [20.0], [40.0]])
    margins = MARGINS["gaussian"](fitted)
    # Mid-ranks 0.5, 2, 2, 3.5 of 4.
    np.testing.assert_allclose(margins(fitted)[:, 0], [-1.15034938, 0, 0, 1.15034938], atol=1e-8)
    between = margins(np.array([[5.0], [15.0], [30.0], [99.0]]))[:, 0]
    assert (np.diff(between) > 0).all()
    assert between[0] == pytest.approx(-1.15034938)


def test_standard_margins_use_the_fitted_rows_alone():
    margins = MARGINS["standard"](np.array([[0.0, 7.0], [2.0, 7.0]]))
    np.testing.assert_allclose(margins(np.array([[3.0, 8.0]])), [[2.0, 1.0]])
