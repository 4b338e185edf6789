import itertools
import math

import numpy as np
import pytest
import torch

from ssl_mi.information.core.caution import Caution
from ssl_mi.information.distributions import families as d
from ssl_mi.information.inference.dependence import Grouped
from ssl_mi.information.variational import bounds
from ssl_mi.information.variational.critics import Critic
from ssl_mi.information.variational.held_out import (
    BoundEstimate,
    combine,
    estimate_bound,
    estimate_log_ratio,
    merged,
    re_pairings,
    score_blocks,
)
from ssl_mi.information.variational.lookup import built_in_bounds


class LogRatio(Critic):
    """log p(y|x) / p(y) + offset of unit Gaussians correlated by rho in every coordinate: nothing to learn."""

    def __init__(self, rho: float, offset: float = 0.0) -> None:
        super().__init__()
        self.rho, self.offset = rho, offset

    def forward(self, x, y):
        kept = 1 - self.rho**2
        squares = (x**2).sum(1)[:, None] + (y**2).sum(1)[None]
        log_r = (self.rho * x @ y.T - self.rho**2 * squares / 2) / kept - x.shape[1] / 2 * math.log(kept)
        return log_r + self.offset


def gaussian_rows(rho, n, dim=1, seed=0):
    x, y = d.correlated_gaussian(rho, dim).sample(n, np.random.default_rng(seed))
    return torch.from_numpy(x), torch.from_numpy(y)


@pytest.mark.parametrize(
    ("name", "offset"), [("dv", 0.0), ("mine", 3.0), ("nwj", 1.0), ("tuba", 1.0), ("js", 0.0), ("infonce", 7.0)]
)
def test_a_bound_at_its_optimal_critic_is_the_truth_within_its_standard_error(name, offset):
    x, y = gaussian_rows(0.8, 2000)
    found = estimate_bound(LogRatio(0.8, offset), built_in_bounds()[name](), x, y, batch_size=500)
    assert abs(found.value - d.correlated_gaussian(0.8).mi) < 3 * found.se
    assert found.se < 0.05


def test_an_estimate_scores_rows_of_a_block_against_each_other_and_no_others():
    x, y = gaussian_rows(0.5, 103, dim=2)
    critic = LogRatio(0.5)
    blocks = score_blocks(critic, x, y, size=25)
    assert [len(b) for b in blocks] == [21, 21, 21, 20, 20]
    torch.testing.assert_close(blocks[1], critic(x[21:42], y[21:42]))
    # InfoNCE over blocks: k is the smaller of 19 and 20.
    assert estimate_bound(critic, bounds.InfoNCE(), x, y, 25).ceiling == pytest.approx(math.log(20))


def test_the_standard_error_is_the_spread_over_repeated_samples_and_the_interval_covers_the_truth():
    estimates = [
        estimate_bound(LogRatio(0.9), bounds.DV(), *gaussian_rows(0.9, 300, seed=s), batch_size=300) for s in range(60)
    ]
    spread = np.std([r.value for r in estimates], ddof=1)
    assert np.mean([r.se for r in estimates]) == pytest.approx(spread, rel=0.35)
    # At the optimal critic the bound is the information. 95% of 60 is 57; 3 binomial sd below is 52.
    covered = sum(low < d.correlated_gaussian(0.9).mi < high for low, high in (r.interval() for r in estimates))
    assert 52 <= covered <= 60
    low, high = estimates[0].interval()
    assert high - low == pytest.approx(2 * 2.2621572 * estimates[0].se)  # Student t, 9 degrees of freedom


def test_copies_of_a_source_say_no_more_than_the_source():
    x, y = gaussian_rows(0.9, 200)
    source = np.repeat(np.arange(200), 5)
    alone = estimate_bound(LogRatio(0.9), bounds.DV(), x, y)
    five = [side.repeat_interleave(5, 0) for side in (x, y)]
    grouped = estimate_bound(LogRatio(0.9), bounds.DV(), *five, rows=Grouped(source))
    ignorant = estimate_bound(LogRatio(0.9), bounds.DV(), *five)
    assert grouped.se == pytest.approx(alone.se, rel=0.1)
    assert ignorant.se < 0.6 * alone.se
    assert grouped.p_value == pytest.approx(1 / 1000)  # sources trade places whole


def test_the_p_value_is_the_share_of_re_pairings_at_which_infonce_itself_is_as_large():
    x, y = gaussian_rows(0.5, 6, seed=1)
    bound, critic = bounds.InfoNCE(), LogRatio(0.5)
    scores = critic(x, y)
    every = [float(bound(*bounds.pairs(scores[:, list(p)]))) for p in itertools.permutations(range(6))]
    share = np.mean([value >= every[0] - 1e-12 for value in every])
    assert 0.05 < share < 0.95
    # 999 random ones of the 720: a binomial sd of at most 0.016.
    assert estimate_bound(critic, bound, x, y).p_value == pytest.approx(share, abs=0.05)


def test_under_independence_the_p_value_is_uniform():
    p = [estimate_bound(LogRatio(0.6), bounds.InfoNCE(), *gaussian_rows(0.0, 40, seed=s)).p_value for s in range(120)]
    assert np.mean(np.array(p) <= 0.1) == pytest.approx(0.1, abs=3 * math.sqrt(0.09 / 120))
    assert np.mean(p) == pytest.approx(0.5, abs=3 * math.sqrt(1 / 12 / 120))


@pytest.mark.parametrize(
    ("name", "mi", "code"),
    [("infonce", 16.0, "bound-near-ceiling"), ("dv", 10.0, "heavy-tail"), ("nwj", 10.0, "above-log-n")],
)
def test_where_a_bound_cannot_be_trusted_a_warning_says_so(name, mi, code):
    x, y = d.gaussian_with_mi(mi, 20).sample(600, np.random.default_rng(0))
    rho = math.sqrt(-math.expm1(-2 * mi / 20))
    found = estimate_bound(LogRatio(rho, 1.0), built_in_bounds()[name](), torch.from_numpy(x), torch.from_numpy(y))
    assert code in [warning.code for warning in found.warnings]


def test_few_rows_are_reported():
    found = estimate_bound(LogRatio(0.6), bounds.InfoNCE(), *gaussian_rows(0.6, 120))
    (warning,) = found.warnings
    assert (warning.code, warning.numbers) == ("few-test-rows", {"rows": 120})


def test_an_easy_estimate_carries_no_warning():
    assert estimate_bound(LogRatio(0.6), bounds.InfoNCE(), *gaussian_rows(0.6, 1000)).warnings == ()


def test_a_log_ratio_of_densities_is_averaged_over_rows_and_its_error_over_sources():
    x = torch.randn(300, 1, generator=torch.Generator().manual_seed(0)).double()
    log_ratios = (x[:, 0] ** 2).numpy()

    def of(x, **rows):
        return estimate_log_ratio(lambda x, y: (x * y)[:, 0] + 1, lambda y: torch.ones(len(y)), x, x, **rows)

    alone = of(x)
    assert alone.value == pytest.approx(log_ratios.mean())
    assert alone.se == pytest.approx(log_ratios.std(ddof=1) / math.sqrt(300))
    assert (alone.dof, alone.p_value) == (299, 0.01)  # none of 99 re-pairings has as large a sum as x with itself
    five = of(x.repeat_interleave(5, 0), rows=Grouped(np.repeat(np.arange(300), 5)))
    assert (five.value, five.se) == pytest.approx((alone.value, alone.se))
    assert five.p_value == 0.01


def test_re_pairings_are_permutations_all_as_likely():
    drawn = re_pairings(3, 6000, np.random.default_rng(0))
    kinds, counts = np.unique(drawn, axis=0, return_counts=True)
    np.testing.assert_array_equal(kinds, list(itertools.permutations(range(3))))
    np.testing.assert_allclose(counts, 1000, atol=4 * math.sqrt(1000))


def estimate(value, n, se, p, warnings=()):
    return BoundEstimate(value=value, se=se, dof=9, p_value=p, ceiling=math.log(n), n=n, warnings=warnings)


def test_estimates_of_several_fits_are_averaged_by_rows():
    both = combine([estimate(1.0, 100, 0.1, 0.01), estimate(1.2, 300, 0.2, 0.04)])
    assert both.value == pytest.approx(0.25 * 1.0 + 0.75 * 1.2)
    assert both.se == pytest.approx(math.hypot(0.25 * 0.1, 0.75 * 0.2))
    assert both.dof == pytest.approx(both.se**4 / ((0.025**4 + 0.15**4) / 9))  # Welch & Satterthwaite
    assert both.p_value == pytest.approx(0.05)  # twice the mean
    assert both.n == 400
    assert both.ceiling == pytest.approx(math.log(100))
    assert both.warnings == ()


def test_fits_that_differ_by_more_than_their_errors_are_reported():
    (warning,) = combine([estimate(1.0, 100, 0.1, 0.01), estimate(2.0, 100, 0.1, 0.01)]).warnings
    assert (warning.code, warning.numbers) == ("fits-disagree", {"lowest": 1.0, "highest": 2.0})


def test_warnings_of_one_code_are_one_with_the_number_of_fits_that_gave_it():
    first, second, odd = (
        Caution("high", "84% of it", {"share": 0.84}),
        Caution("high", "99% of it"),
        Caution("odd", "odd"),
    )
    both, alone = merged([(first, odd), (second,), ()])
    assert (str(both), both.numbers) == ("84% of it (2 of 3 fits)", {"share": 0.84, "fits": 2, "of_fits": 3})
    assert (alone.code, str(alone)) == ("odd", "odd (1 of 3 fits)")
    assert merged([(odd,)]) == (odd,)
