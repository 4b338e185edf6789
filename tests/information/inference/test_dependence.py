"""Rows that depend on each other: splits, permutations, parts and neighbours keep them together."""

import itertools
from functools import partial

import numpy as np
import pytest

from ssl_mi.information import (
    Split,
    Training,
    flow_mi,
    infonce,
    ksg,
    mutual_information,
    with_uncertainty,
)
from ssl_mi.information.core.inputs import read
from ssl_mi.information.estimators.ksg import ksg_pointwise
from ssl_mi.information.inference.dependence import Grouped, InTime, Rows, read_rows
from ssl_mi.information.inference.dependence_check import cautions_of_samples, dependence_cautions
from ssl_mi.information.variational.splits import split_each, split_rows

BRIEF = Training(max_steps=2, check_every=2)
SHORT = Training(max_steps=50, check_every=25)
SIZES = np.array([3] * 12 + [5] * 7 + [2, 4, 9])
CODES = np.random.default_rng(0).permutation(np.repeat(np.arange(len(SIZES)), SIZES))


def autoregressive(n, phi, rng):
    noise = rng.standard_normal(n + 300)
    series = np.zeros(n + 300)
    for t in range(1, n + 300):
        series[t] = phi * series[t - 1] + noise[t]
    return series[300:]


def views(rng, sources=200, each=4, d=4, noise=0.1):
    source = rng.permutation(np.repeat(np.arange(sources), each))
    return (
        *(rng.standard_normal((sources, d))[source] + noise * rng.standard_normal((len(source), d)) for _ in "xy"),
        source,
    )


def test_groups_stay_whole_in_halves_and_parts_which_cover_all_rows():
    rows, rng = Grouped(CODES), np.random.default_rng(1)
    for parts in (rows.halves(rng), rows.cuts(4, rng)):
        assert sorted(np.concatenate(parts)) == list(range(len(CODES)))
        assert sum(len(np.unique(CODES[part])) for part in parts) == len(SIZES)


def test_groups_of_equal_size_trade_places_whole_and_none_keeps_its_own():
    rows = Grouped(CODES)
    partners = rows.derangement(np.random.default_rng(1))
    assert sorted(partners) == list(range(len(CODES)))
    for group, size in enumerate(SIZES):
        others = np.unique(CODES[partners[group == CODES]])
        if (size == SIZES).sum() > 1:
            assert len(others) == 1
            assert others[0] != group
            assert SIZES[others[0]] == size


def test_in_time_halves_leave_a_gap_and_partners_are_shifted_by_a_window_or_more():
    rows, rng = InTime(np.arange(200), 15), np.random.default_rng(1)
    first, second = rows.halves(rng)
    assert second[0] - first[-1] >= 15
    shifts = {int((rows.derangement(rng) - np.arange(200))[0] % 200) for _ in range(50)}
    assert len(shifts) > 20
    assert all(15 <= shift <= 185 for shift in shifts)


@pytest.mark.parametrize("rows", [Grouped(CODES), InTime(np.arange(len(CODES)), 6)])
def test_the_estimate_among_independent_rows_is_that_of_the_written_out_counts(rows):
    """Counting again, row by row, over rows that are not together."""
    n, k, rng = len(CODES), 3, np.random.default_rng(2)
    x, y = rng.standard_normal((2, n, 2))
    found = ksg_pointwise(x, y, k, rows=rows)
    from scipy.special import digamma

    for i in range(n):
        apart = np.flatnonzero(~rows.together(np.full(n, i), np.arange(n)))
        dx, dy = np.abs(x[apart] - x[i]).max(1), np.abs(y[apart] - y[i]).max(1)
        radius = np.sort(np.maximum(dx, dy))[k - 1]
        expected = (
            digamma(k) + digamma(len(apart) + 1) - digamma((dx < radius).sum() + 1) - digamma((dy < radius).sum() + 1)
        )
        assert found[i] == pytest.approx(expected, abs=1e-12)


def test_the_variance_of_a_mean_counts_identical_rows_of_a_group_once():
    values = np.random.default_rng(3).standard_normal(50)
    grouped = Grouped(np.repeat(np.arange(50), 4)).variance_of_mean(np.repeat(values, 4))
    assert grouped == pytest.approx(Rows(50).variance_of_mean(values), rel=1e-12)


def test_independent_sources_share_nothing_whatever_the_number_of_their_views():
    """Ignored, views give tenths of nats, and a small p."""
    x, y, source = views(np.random.default_rng(100))
    ignored = mutual_information(x, y, learned=False, permutations=19)
    grouped = mutual_information(x, y, groups=source, learned=False, permutations=19)
    assert ignored.ci[0] > 0
    assert "clustered-rows" in {w.code for w in ignored.warnings}
    assert grouped.ci[0] < 0 < grouped.ci[1]
    assert grouped.p_value > 0.05
    assert grouped.settings["groups"] == 200


def test_independent_series_share_nothing_when_their_order_is_known_and_are_named_when_it_is_not():
    rng = np.random.default_rng(1)
    x, y = autoregressive(1000, 0.97, rng), autoregressive(1000, 0.97, rng)
    silent = mutual_information(x, y, learned=False, permutations=19)
    (caution,) = (w for w in silent.warnings if w.code == "dependent-rows")
    assert caution.numbers["n_effective"] < 100
    known = mutual_information(x, y, blocks=80, learned=False, permutations=19)
    assert known.ci[0] < 0 < known.ci[1]
    assert known.p_value > 0.05


def test_dependence_between_series_is_still_found():
    rng = np.random.default_rng(2)
    x = autoregressive(1500, 0.8, rng)
    estimate = mutual_information(x, x + rng.standard_normal(1500), blocks=20, learned=False, permutations=39)
    assert estimate.p_value == pytest.approx(1 / 40)


def test_uncertainty_around_any_estimator_keeps_sources_whole():
    x, y, source = views(np.random.default_rng(3), d=2)
    ignored, grouped = with_uncertainty(ksg, x, y), with_uncertainty(ksg, x, y, groups=source)
    assert ignored.value == grouped.value
    assert ignored.p_value == pytest.approx(1 / 20)
    assert grouped.p_value > 0.05
    assert grouped.null > ignored.null + 0.1  # what views alone add


def test_independent_rows_raise_no_warning_in_any_dimension():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((400, 1 + seed))
        assert dependence_cautions(read(x), read(x + 0.2 * rng.standard_normal(x.shape), "y")) == ()
    by_value = np.sort(rng.standard_normal(400))
    assert dependence_cautions(read(by_value), read(by_value + rng.standard_normal(400), "y")) == ()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"groups": np.arange(3)}, r"groups has shape \(3,\) for 100 rows"),
        ({"groups": np.arange(100) % 4}, "groups has 4 groups"),
        ({"groups": [None] + list(range(99))}, "groups is missing at row 0"),
        ({"blocks": 0}, "blocks must be a whole number of rows, at least 1, got 0"),
        ({"blocks": 2.5}, "got 2.5"),
        ({"blocks": 11}, "blocks=11 leaves 9.1 independent windows"),
        ({"blocks": 2, "groups": np.arange(100)}, "groups and blocks are both given"),
    ],
)
def test_rows_that_cannot_be_described_so_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        read_rows(100, **settings)


@pytest.mark.parametrize(
    "of", [partial(with_uncertainty, ksg), partial(infonce, training=Training(max_steps=2, check_every=2))]
)
def test_a_handful_of_independent_rows_and_blocks_too_short_are_named_by_every_kind_of_estimator(of):
    rng = np.random.default_rng(4)
    x, y = autoregressive(1000, 0.99, rng), autoregressive(1000, 0.99, rng)
    codes = {w.code for w in of(x, y, blocks=100).warnings}
    assert "few-independent-rows" in codes
    short = next(w for w in of(x, y, blocks=10).warnings if w.code == "short-blocks")
    assert min(short.numbers["of_x"], short.numbers["of_y"]) > 0.5
    x, y = autoregressive(1000, 0.8, rng), autoregressive(1000, 0.8, rng)
    assert {w.code for w in of(x, y, blocks=20).warnings}.isdisjoint({"few-independent-rows", "short-blocks"})


@pytest.mark.parametrize("estimator", [infonce, flow_mi])
def test_networks_keep_sources_whole_in_parts_interval_and_test(estimator):
    """Views alone would give a small p; sources that trade places whole do not."""
    x, y, source = views(np.random.default_rng(5), sources=150, each=4, d=1, noise=0.02)
    estimate = estimator(x, y, training=SHORT, groups=source, split=Split())
    assert estimate.p_value > 0.05
    assert estimate.settings["groups"] == 150
    assert "clustered-rows" not in {w.code for w in estimate.warnings}
    assert "clustered-rows" in {w.code for w in Split().cautions(x, y)}
    with pytest.raises(ValueError, match="groups is given twice"):
        estimator(x, y, groups=source, split=Split(groups=source))


def test_parts_of_a_series_are_stretches_with_a_block_between_them():
    for rows in (split_rows(1000, Split(blocks=20), 0), *split_each(1000, Split(blocks=20), 0)):
        parts = [rows[name] for name in ("fit", "validation", "test")]
        for first, second in itertools.combinations(parts, 2):
            assert np.abs(first[:, None] - second).min() > 20
        assert sum(map(len, parts)) >= 1000 - 3 * 20
    assert sorted(np.concatenate([rows["test"] for rows in split_each(1000, Split(blocks=20), 0)])) == list(range(1000))


def test_names_of_sources_do_not_matter():
    sources = np.array([3, 1, 3, 2, 1] + list(range(10, 25)))
    draws = [
        read_rows(20, groups=g).derangement(np.random.default_rng(0)) for g in (sources, sources.astype(str), -sources)
    ]
    assert all((draw == draws[0]).all() for draw in draws)


def test_groups_of_one_row_are_independent_rows():
    assert read_rows(100, groups=np.arange(100)).settings == {}


@pytest.mark.parametrize(("mean", "n"), [(20, 2000), (100, 10000)])
@pytest.mark.parametrize("seed", range(3))
def test_counts_are_no_clusters_of_rows_and_rounded_views_of_one_source_are(mean, n, seed):
    rng = np.random.default_rng(seed)
    rate = mean * rng.gamma(5, 1 / 5, n)
    assert cautions_of_samples(rng.poisson(rate), rng.poisson(rate)) == ()
    sources = np.repeat(rng.normal(size=(500, 8)), 4, 0)
    x, y = (np.round(1000 * (sources + 0.05 * rng.normal(size=sources.shape))) for _ in range(2))
    order = rng.permutation(2000)
    (caution,) = cautions_of_samples(x[order], y[order])
    assert caution.code == "clustered-rows"
