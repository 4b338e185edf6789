"""Cross-fitted readings and their paired differences, held against the one-fold twin, hand sums and known truths."""

import math
from functools import partial

import numpy as np
import pytest

from ssl_mi.information.core.estimate import Estimate
from ssl_mi.information.estimators.gaussian import cca_mi
from ssl_mi.information.estimators.ksg import ksg
from ssl_mi.information.inference.cross_fitting import cross_fit, difference
from ssl_mi.information.inference.uncertainty import with_uncertainty


def gaussian(n, rho, seed):
    rng = np.random.default_rng(seed)
    x, e = rng.standard_normal((2, n, 1))
    return x, rho * x + math.sqrt(1 - rho**2) * e


def test_one_fold_reads_as_assess_does():
    x, y = gaussian(400, 0.7, 0)
    estimator = partial(ksg, k=5)
    reading = cross_fit(estimator, [(x, y)], permutations=3, subsets=4, repeats=3, seed=2)
    expected = with_uncertainty(estimator, x, y, permutations=3, subsets=4, seed=2)
    for name in ("value", "se", "ci", "null", "ceiling"):
        assert getattr(reading.estimate, name) == pytest.approx(getattr(expected, name), rel=1e-9), name
    for name in ("ci_level", "p_value", "n", "dims", "settings", "warnings"):
        assert getattr(reading.estimate, name) == getattr(expected, name), name
    assert len(reading.subsamples[0]) == 4


def mean_product(x, y):
    """An estimator whose answers can be summed by hand."""
    return Estimate(float((x * y).mean()), ceiling=float(len(x)), n=len(x), warnings=(f"read {len(x)} rows",))


def test_two_folds_are_averaged_by_their_rows():
    x, y = np.array([[1.0], [2.0], [3.0]]), np.array([[1.0], [1.0], [1.0]])
    u, v = np.array([[10.0]]), np.array([[2.0]])
    estimate, parts = cross_fit(mean_product, [(x, y), (u, v)], permutations=0, subsets=0)
    assert estimate.value == pytest.approx((3 * 2.0 + 1 * 20.0) / 4)
    assert (estimate.n, estimate.ceiling, parts) == (4, 2.0, ())
    assert tuple(map(str, estimate.warnings)) == ("read 3 rows", "read 1 rows")


def test_parts_are_disjoint_and_cover_every_fold():
    seen = []

    def spy(x, y):
        seen.append(x[:, 0])
        return Estimate(0.0)

    x = np.arange(40.0)[:, None]
    cross_fit(spy, [(x[:20], x[:20]), (x[20:], x[20:])], permutations=0, subsets=4, repeats=2)
    parts = seen[2:]
    assert [len(part) for part in parts] == [10] * 8
    for cut in (parts[:4], parts[4:]):
        assert sorted(np.concatenate(cut[:2])) == list(range(20))
        assert sorted(np.concatenate(cut[2:])) == list(range(20, 40))
    assert set(parts[0]) != set(parts[4])


def test_rows_are_re_paired_within_their_fold():
    pairs = []

    def spy(x, y):
        pairs.extend(zip(x[:, 0], y[:, 0], strict=True))
        return Estimate(0.0)

    x = np.arange(12.0)[:, None]
    cross_fit(spy, [(x[:5], x[:5]), (x[5:], x[5:])], permutations=2, subsets=0)
    assert all(a == b for a, b in pairs[:12])
    again = pairs[12:]
    assert len(again) == 24
    assert all(a != b and (a < 5) == (b < 5) for a, b in again)


@pytest.mark.parametrize("subsets", [1, 3, -2])
def test_parts_that_do_not_divide_over_the_folds_are_refused(subsets):
    x, y = gaussian(40, 0.5, 0)
    with pytest.raises(ValueError, match=f"multiple of the 2 folds, or 0; got {subsets}"):
        cross_fit(ksg, [(x, y), (x, y)], subsets=subsets)


def test_a_difference_by_hand():
    # d = (1, 3) with variance 2 and (0, 4) with variance 8: se² = (2 + 8) / 2 / 2; t(.975, 2) = 4.302653.
    gap = difference(5.0, ((3.0, 5.0), (2.0, 7.0)), 2.5, ((2.0, 2.0), (2.0, 3.0)))
    assert gap.value == 2.5
    assert gap.high - gap.value == pytest.approx(4.302653 * math.sqrt(2.5))
    assert gap.value - gap.low == pytest.approx(4.302653 * math.sqrt(2.5))


@pytest.mark.parametrize("others", [((1.0, 2.0, 3.0),), ((1.0, 2.0), (1.0, 2.0)), ()])
def test_parts_that_do_not_pair_up_are_refused(others):
    with pytest.raises(ValueError, match=r"parts \[1, 2\] and \[.*do not pair up"):
        difference(1.0, ((1.0, 2.0),), 1.0, others)


def test_a_paired_interval_covers_the_true_difference_and_is_narrower_than_its_two_sides():
    """Two encoders of the same 200 pairs: I = -1/2 log(1 - rho^2) with rho = .8, and .8 / 1.1 after noise on y."""
    truth = -0.5 * math.log(1 - 0.64 / 1.21) + 0.5 * math.log(1 - 0.64)
    read = partial(cross_fit, cca_mi, permutations=0)
    covered, narrower, runs = 0, 0, 60
    for seed in range(runs):
        x, y = gaussian(200, 0.8, seed)
        noisy = y + math.sqrt(0.21) * np.random.default_rng(1000 + seed).standard_normal(y.shape)
        folds = [(x[:100], side[:100]) for side in (y, noisy)], [(x[100:], side[100:]) for side in (y, noisy)]
        before, after = (read([folds[0][i], folds[1][i]]) for i in (0, 1))
        gap = difference(after.estimate.value, after.subsamples, before.estimate.value, before.subsamples)
        covered += gap.low < truth < gap.high
        narrower += gap.high - gap.low < math.hypot(*(np.diff(r.estimate.ci)[0] for r in (before, after)))
    # 95% of 60 is 57, with a standard deviation of 1.7.
    assert 52 <= covered <= 60
    assert narrower > 0.95 * runs


def test_rows_of_one_source_are_kept_together_in_parts_and_re_pairings():
    """Two independent quantities of 24 sources, 8 rows each: by rows they seem to share information, by groups not."""
    groups, found = np.repeat(np.arange(24), 8), {"rows": [], "groups": []}
    for seed in range(12):
        rng = np.random.default_rng(seed)
        u, v = (np.repeat(rng.standard_normal((24, 1)), 8, axis=0) + 0.1 * rng.standard_normal((192, 1)) for _ in "uv")
        for name, of in (("rows", ()), ("groups", (groups,))):
            found[name].append(cross_fit(partial(ksg, k=3), [(u, v)], seed=seed, groups=of).estimate.p_value)
    assert sum(p <= 0.05 for p in found["rows"]) == 12
    # Of 12 tests at 5%, more than 3 have a chance of 1 in 400.
    assert sum(p <= 0.05 for p in found["groups"]) <= 3


def test_a_part_holds_whole_sources():
    groups, seen = np.repeat(np.arange(12), 5), []

    def spy(u, v):
        seen.append(sorted(u[:, 0].tolist()))
        return Estimate(0.0)

    rows = np.arange(60.0)[:, None]
    cross_fit(spy, [(rows, rows)], permutations=0, subsets=4, repeats=2, groups=(groups,))
    for part in seen[1:]:
        assert set(np.bincount(groups[np.array(part, dtype=int)], minlength=12)) <= {0, 5}
