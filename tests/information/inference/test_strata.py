"""Cuts of rows with labels: rare labels do not vanish from a part, and random cuts stay as they were."""

import numpy as np
import pytest

from ssl_mi.information.estimators.ksg import mixed_ksg_ross
from ssl_mi.information.inference import strata
from ssl_mi.information.inference.cross_fitting import read_folds
from ssl_mi.information.inference.uncertainty import with_interval


def order_of(n, seed=0):
    return np.random.default_rng(seed).permutation(n)


@pytest.mark.parametrize("seed", range(20))
def test_a_label_that_occurs_twice_is_in_both_halves(seed):
    labels = np.repeat([0, 1, 2], [95, 3, 2])
    order = order_of(100, seed)
    halves = strata.halves(labels, order)
    assert sorted(np.concatenate(halves)) == list(range(100))
    assert all(set(labels[rows]) == {0, 1, 2} for rows in halves)


def test_a_random_cut_that_lacks_nothing_is_kept():
    labels = np.arange(100) % 4
    order = order_of(100)
    first, second = strata.halves(labels, order)
    np.testing.assert_array_equal(np.concatenate([first, second]), order)
    np.testing.assert_array_equal(np.concatenate(strata.parts(labels, 5, order)), order)


@pytest.mark.parametrize("seed", range(5))
def test_every_part_holds_a_label_that_occurs_twice(seed):
    labels = np.concatenate([np.zeros(8), np.arange(1, 33)])  # only the zeros repeat: 8 of them for 4 parts
    cut = strata.parts(labels, 4, order_of(40, seed))
    assert sorted(np.concatenate(cut)) == list(range(40))
    assert [(labels[rows] == 0).sum() for rows in cut] == [2] * 4


def test_there_is_no_cut_where_no_label_can_be_twice_in_each_part():
    assert strata.parts(np.append(np.zeros(7), np.arange(1, 34)), 4, order_of(40)) is None


def test_an_estimate_of_rare_labels_has_no_interval_and_says_why():
    rng = np.random.default_rng(0)
    labels = np.arange(40) // 2
    x = labels[:, None] + 0.01 * rng.normal(size=(40, 1))
    estimate = with_interval(mixed_ksg_ross, x, labels, subsets=10, labelled=True)
    assert estimate.ci is None
    assert "too rare for an interval" in estimate.warnings[-1]
    reading = read_folds(mixed_ksg_ross, [(x, labels)], subsets=10, permutations=0, labelled=True)
    assert reading.parts == ()
    assert "too rare for an interval" in reading.estimate.warnings[-1]
