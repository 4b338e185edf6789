"""Which rows count as copies, and which as atoms that both sides share."""

from __future__ import annotations

import numpy as np
import pytest

from ssl_mi.information import mutual_information
from ssl_mi.information.core.inputs import read_pair
from ssl_mi.information.core.repeats import without_copies

N = 1500


def rain(d: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, float]:
    """Both sides are zero at once in 60% of the rows, else log-normal with correlation .8 in each of d columns."""
    rng = np.random.default_rng(seed)
    on = rng.random((N, 1)) < 0.4
    x = rng.standard_normal((N, d))
    y = 0.8 * x + 0.6 * rng.standard_normal((N, d))
    entropy = -0.4 * np.log(0.4) - 0.6 * np.log(0.6)
    return on * np.exp(x), on * np.exp(y), entropy - 0.4 * d * np.log(0.6)


@pytest.mark.parametrize("d", [1, 2])
def test_rows_where_both_sides_are_zero_at_once_are_kept_and_named(d: int) -> None:
    x, y, nats = rain(d)
    estimate = mutual_information(x, y, learned=False, permutations=0)
    assert estimate.n == N
    assert "shared-atom" in [caution.code for caution in estimate.warnings]
    assert estimate.ci is not None
    assert estimate.ci[0] < nats < estimate.ci[1]


def test_copies_of_a_row_inside_the_range_are_padding() -> None:
    x, y, _ = rain(1)
    on = x[:, 0] > 0
    x, y = (np.concatenate([side[on], np.repeat(side[on][5:6], 100, 0)]) for side in (x, y))
    a, b = read_pair(x, y)
    assert len(without_copies(a, b)) == on.sum()


def test_labels_that_stand_with_the_atom_do_not_remove_it() -> None:
    x, _, _ = rain(1)
    labels = np.where(x[:, 0] > 0, "rain", "dry")
    estimate = mutual_information(x, labels, permutations=0)
    assert estimate.n == N
    assert estimate.value == pytest.approx(-0.4 * np.log(0.4) - 0.6 * np.log(0.6), abs=0.03)
