"""Whole numbers as counts or as names, and copies of rows."""

import numpy as np
import pytest

from ssl_mi.information import mutual_information
from ssl_mi.information.core.inputs import Categories, read
from ssl_mi.information.core.repeats import without_copies

quick = {"learned": False, "permutations": 0}


@pytest.mark.parametrize("n", [1000, 5000])
def test_independent_counts_share_nothing_at_any_n(n):
    rng = np.random.default_rng(0)
    for draw in (
        lambda: rng.zipf(1.7, n),
        lambda: rng.integers(0, 100, n),
        lambda: rng.poisson(4, n) * (rng.random(n) < 0.4),
    ):
        low, high = mutual_information(draw(), draw(), **quick).ci
        assert low < 0 < high


@pytest.mark.parametrize("n", [500, 5000])
def test_counts_give_what_they_give_with_uniform_noise_below_one(n):
    """I(X; Y) = I(X; Y + U)."""
    rng = np.random.default_rng(1)
    rate = rng.gamma(4, 25, n)
    x, y = rng.poisson(rate), rng.poisson(rate)
    counts = mutual_information(x, y, **quick)
    spread = mutual_information(x + rng.random(n), y + rng.random(n), **quick)
    assert counts.value == pytest.approx(spread.value, abs=4 * spread.se)


@pytest.mark.parametrize(("classes", "n", "d"), [(100, 1000, 8), (10, 190, 8), (10, 210, 8), (200, 3000, 2)])
def test_whole_numbers_that_name_classes_give_what_their_names_give(classes, n, d):
    rng = np.random.default_rng(0)
    label = rng.permutation(np.arange(n) % classes)
    x = (8 * rng.standard_normal((classes, d)))[label] + 0.05 * rng.standard_normal((n, d))
    as_integers, as_text = mutual_information(x, label, **quick), mutual_information(x, label.astype(str), **quick)
    assert as_integers.value == as_text.value == pytest.approx(np.log(classes), abs=0.1)
    assert as_integers.settings["y"] == "as labels"


def test_the_caller_decides_what_whole_numbers_are():
    rng = np.random.default_rng(2)
    label = rng.integers(0, 5, 1000)
    x = label + rng.standard_normal(1000)
    names, numbers = (mutual_information(x, label, categorical=c, **quick) for c in ("y", (False, False)))
    assert (names.estimator, numbers.estimator) == ("Ross mixed KSG", "mutual_information")
    assert mutual_information(x, label, categorical=(None, True), **quick).value == names.value
    with pytest.raises(ValueError, match="categorical says that y holds numbers, but it holds text"):
        mutual_information(x, label.astype(str), categorical=False, **quick)
    with pytest.raises(ValueError, match=r"categorical must be .* got 'z'"):
        mutual_information(x, label, categorical="z", **quick)


def relu(rng, rows, d=2):
    return np.maximum(rng.standard_normal((rows, d)), 0)


def test_copies_are_removed_from_data_with_atoms_and_atoms_stay_as_frequent_as_they_were():
    rng = np.random.default_rng(3)
    x, y = relu(rng, 2000), relu(rng, 2000)
    again = rng.integers(0, 2000, 4000)
    kept = without_copies(read(x[again]), read(y[again], "y"))
    zero = (x[again][kept] == 0).all(1) & (y[again][kept] == 0).all(1)
    assert len(kept) == pytest.approx(2000 * (1 - np.exp(-2)), rel=0.05)
    assert zero.mean() == pytest.approx(1 / 16, abs=0.02)


def test_resampled_rows_are_named_and_share_nothing_when_one_value_ties():
    rng = np.random.default_rng(4)
    x, y = rng.standard_normal((2, 500))
    x[:2] = 0
    again = rng.integers(0, 500, 1000)
    estimate = mutual_information(x[again], y[again], **quick)
    assert estimate.warnings[0].code == "dropped-repeats"
    assert estimate.ci[0] < 0 < estimate.ci[1]


def test_what_repeats_by_nature_is_no_copy():
    rng = np.random.default_rng(5)
    label = rng.integers(0, 2, 4000)
    for x, y in (
        (relu(rng, 2000), relu(rng, 2000)),
        (np.round(rng.standard_normal(2000), 2), np.round(rng.standard_normal(2000), 2)),
        (rng.integers(0, 300, 2000), rng.integers(0, 300, 2000)),
    ):
        assert len(without_copies(read(x), read(y, "y"))) == 2000
    rounded = read(np.round(rng.standard_normal(4000), 5))
    assert len(without_copies(rounded, Categories(label, "y", label))) == 4000
