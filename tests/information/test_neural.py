import math
from functools import partial

import numpy as np
import pytest
import torch

from ssl_mi.information import bounds, critics
from ssl_mi.information import distributions as d
from ssl_mi.information.neural import (
    BOUNDS,
    CRITICS,
    MARGINS,
    climb,
    derangements,
    minibatches,
    neural,
    read_bound,
    score_blocks,
    score_pairs,
    split_rows,
)

QUICK = {"max_steps": 120, "check_every": 20, "patience": 4}


class LogRatio(torch.nn.Module):
    """log p(y|x) / p(y) + offset of unit Gaussians correlated by rho in every coordinate: nothing to learn."""

    score_range = math.inf

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


# ---------------------------------------------------------------------------------------------- what is read


@pytest.mark.parametrize(
    ("name", "offset"), [("dv", 0.0), ("mine", 3.0), ("nwj", 1.0), ("tuba", 1.0), ("js", 0.0), ("infonce", 7.0)]
)
def test_a_bound_at_its_optimal_critic_reads_the_truth_within_its_standard_error(name, offset):
    x, y = gaussian_rows(0.8, 2000)
    reading = read_bound(LogRatio(0.8, offset), BOUNDS[name](), x, y, read_batch=500)
    assert abs(reading.value - d.correlated_gaussian(0.8).mi) < 3 * reading.se
    assert reading.se < 0.05


def test_the_cosine_critic_at_temperature_one_over_kappa_is_optimal_on_the_sphere():
    sphere = d.VonMisesFisher(3, 10.0)
    x, y = sphere.sample(2400, np.random.default_rng(0))
    estimate = neural(x, y, critic=lambda _dx, _dy: critics.Cosine(1 / 10.0), margins="raw")
    assert estimate.value == pytest.approx(sphere.mi, abs=0.1)
    # Scores of a cosine differ by at most 2 kappa, among 600 candidates.
    assert estimate.n == 600
    assert estimate.ceiling == pytest.approx(math.log(600) - math.log1p(599 * math.exp(-20)), abs=1e-4)
    assert estimate.kind == "lower bound"


def test_a_reading_scores_rows_of_a_block_against_each_other_and_no_others():
    x, y = gaussian_rows(0.5, 103, dim=2)
    critic = LogRatio(0.5)
    blocks = score_blocks(critic, x, y, size=25)
    assert [len(b) for b in blocks] == [21, 21, 21, 20, 20]
    torch.testing.assert_close(blocks[1], critic(x[21:42], y[21:42]))
    # InfoNCE over blocks: k is the smaller of 19 and 20.
    assert read_bound(critic, bounds.InfoNCE(), x, y, 25).ceiling == pytest.approx(math.log(20))


def test_the_standard_error_is_the_spread_over_repeated_samples():
    readings = [
        read_bound(LogRatio(0.9), bounds.DV(), *gaussian_rows(0.9, 300, seed=s), read_batch=300) for s in range(60)
    ]
    spread = np.std([r.value for r in readings], ddof=1)
    assert np.mean([r.se for r in readings]) == pytest.approx(spread, rel=0.35)


@pytest.mark.parametrize(
    ("name", "mi", "said"),
    [("infonce", 16.0, "of the ceiling"), ("dv", 10.0, "variance grows like"), ("nwj", 10.0, "can not support")],
)
def test_where_a_bound_can_not_be_trusted_a_warning_says_so(name, mi, said):
    x, y = d.gaussian_with_mi(mi, 20).sample(600, np.random.default_rng(0))
    rho = math.sqrt(-math.expm1(-2 * mi / 20))
    reading = read_bound(LogRatio(rho, 1.0), BOUNDS[name](), torch.from_numpy(x), torch.from_numpy(y))
    assert any(said in warning for warning in reading.warnings)


def test_an_easy_reading_carries_no_warning():
    assert read_bound(LogRatio(0.6), bounds.InfoNCE(), *gaussian_rows(0.6, 1000)).warnings == ()


# ---------------------------------------------------------------------------------------------- what is fitted


@pytest.mark.parametrize("name", BOUNDS)
def test_every_bound_finds_a_gaussian_through_a_learned_critic(name):
    x, y = d.correlated_gaussian(0.9).sample(1600, np.random.default_rng(0))
    estimate = neural(x, y, bound=name, **QUICK)
    assert estimate.value == pytest.approx(d.correlated_gaussian(0.9).mi, abs=3 * estimate.se)
    assert estimate.se < 0.1
    assert estimate.kind == ("point estimate" if name == "smile" else "lower bound")


@pytest.mark.parametrize("name", ["concat", "cosine"])
def test_every_flexible_critic_finds_a_gaussian(name):
    x, y = d.correlated_gaussian(0.9).sample(1200, np.random.default_rng(0))
    estimate = neural(x, y, critic=name, max_steps=100, check_every=50)
    assert estimate.value == pytest.approx(d.correlated_gaussian(0.9).mi, abs=0.2)
    assert estimate.settings["critic"] == name


def test_gaussian_margins_save_the_critic_from_heavy_tails():
    # Cauchy margins: a critic of the raw values learns nothing (known libraries read 0.00 to 0.03 here).
    student = d.StudentT(np.array([[1.0, 0.9], [0.9, 1.0]]), 1, dof=1)
    x, y = student.sample(3000, np.random.default_rng(0))
    assert neural(x, y, margins="gaussian", **QUICK).value > 0.8 * student.mi


def test_independent_rows_read_nothing_however_much_a_critic_can_memorise():
    # 50 dimensions and 300 fitted rows: read on the rows it was fitted on, the critic would report nats.
    values = []
    for seed in range(5):
        x, y = np.random.default_rng(seed).standard_normal((2, 500, 50))
        values.append(neural(x, y, bound="dv", critic="bilinear", seed=seed, **QUICK).value)
    assert np.mean(values) < 3 * np.std(values) / math.sqrt(5)


def test_the_best_weights_come_back_by_value():
    # state_dict() holds references: without a copy, the "best" weights would be the last ones.
    module = torch.nn.Linear(1, 1, bias=False)
    seen, verdicts = [], iter([0.0, 1.0, 5.0, 2.0, 3.0, 4.0])

    def judge():
        seen.append(module.weight.detach().clone())
        return next(verdicts)

    x = torch.ones(4, 1)
    fit = climb(
        [module], lambda x, _: module(x).mean(), judge, iter([(x, x)] * 50), max_steps=50, check_every=10, patience=9
    )
    assert fit.best_step == 20
    assert [step for step, _ in fit.history] == [0, 10, 20, 30, 40, 50]
    torch.testing.assert_close(module.weight.detach(), seen[2])
    assert not torch.allclose(seen[2], seen[-1])


def test_patience_ends_a_fit_that_no_longer_improves():
    module, verdicts = torch.nn.Linear(1, 1), iter([0.0, 1.0, 0.5, 0.4, 9.0])
    x = torch.ones(4, 1)
    settings = {"max_steps": 50, "check_every": 10, "patience": 2}
    fit = climb([module], lambda x, _: module(x).mean(), lambda: next(verdicts), iter([(x, x)] * 50), **settings)
    assert (fit.steps, fit.best_step, fit.warnings) == (30, 10, ())


def test_a_fit_that_diverges_stops_and_says_so():
    module, x = torch.nn.Linear(1, 1), torch.ones(4, 1)
    fit = climb([module], lambda x, _: module(x).mean() * math.inf, lambda: 0.0, iter([(x, x)] * 9), max_steps=9)
    assert fit.steps == 0
    assert "diverged" in fit.warnings[0]
    assert torch.isfinite(module.weight).all()


def test_a_fit_cut_short_says_so():
    x, y = d.correlated_gaussian(0.9).sample(1000, np.random.default_rng(0))
    estimate = neural(x, y, max_steps=20, check_every=10)
    assert any("raise max_steps" in warning for warning in estimate.warnings)


# ------------------------------------------------------------------------------------------------------ the rows


def test_fit_stop_and_read_rows_are_disjoint_and_all_rows():
    rows = split_rows(1000, (0.6, 0.15, 0.25), seed=0)
    assert sorted(np.concatenate(list(rows.values()))) == list(range(1000))
    assert [len(rows[name]) for name in ("fit", "stop", "read")] == [600, 150, 250]


def test_views_of_one_source_stay_on_one_side_of_the_split():
    source = np.repeat(np.arange(200), 5)
    rows = split_rows(1000, (0.5, 0.25, 0.25), seed=0, groups=source)
    sides = [set(source[index]) for index in rows.values()]
    assert sum(map(len, sides)) == len(set.union(*sides)) == 200
    assert sum(len(index) for index in rows.values()) == 1000


def test_copies_of_fitted_rows_among_those_read_are_reported():
    x, y = d.correlated_gaussian(0.6, 2).sample(300, np.random.default_rng(0))
    estimate = neural(np.tile(x, (2, 1)), np.tile(y, (2, 1)), max_steps=1)
    assert any("copies of rows fitted on" in warning for warning in estimate.warnings)
    assert not any("copies" in w for w in neural(x, y, max_steps=1).warnings)


def test_derangements_are_permutations_without_fixed_points_or_repeats():
    n, k = 7, 6
    partners = derangements(n, k, torch.Generator().manual_seed(0))
    rows = torch.arange(n)
    for column in partners.T:
        assert (column != rows).all()
        torch.testing.assert_close(column.sort().values, rows)
    # All six together are every other row once.
    expected = torch.stack([torch.cat([rows[:i], rows[i + 1 :]]) for i in rows])
    torch.testing.assert_close(partners.sort(dim=1).values, expected)


@pytest.mark.parametrize("name", CRITICS)
def test_scores_of_chosen_pairs_are_entries_of_the_full_matrix(name):
    x, y = torch.randn(9, 3), torch.randn(9, 3)
    critic = CRITICS[name](3, 3)
    partners = derangements(9, 4, torch.Generator().manual_seed(0))
    joint, marginal = score_pairs(critic, x, y, partners)
    full = critic(x, y)
    torch.testing.assert_close(joint, full.diagonal(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(marginal, full.gather(1, partners), atol=1e-5, rtol=1e-5)


def test_a_fit_on_derangements_finds_a_gaussian():
    x, y = d.correlated_gaussian(0.9).sample(1600, np.random.default_rng(0))
    estimate = neural(x, y, bound="mine", negatives=2, batch_size=128, **QUICK)
    assert estimate.value == pytest.approx(d.correlated_gaussian(0.9).mi, abs=0.2)
    assert estimate.settings["negatives"] == 2


def test_minibatches_pass_over_every_row_once_an_epoch():
    x = torch.arange(10)
    batches = minibatches(x, -x, batch_size=5, seed=0)
    first, second = [torch.cat([next(batches)[0] for _ in range(2)]) for _ in range(2)]
    torch.testing.assert_close(first.sort().values, x)
    torch.testing.assert_close(second.sort().values, x)
    assert (first != second).any()


# ------------------------------------------------------------------------------------------------------- margins


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


# ---------------------------------------------------------------------------------------------------- good manners


def test_the_seed_decides_and_the_callers_random_state_stays():
    x, y = d.correlated_gaussian(0.9).sample(400, np.random.default_rng(0))
    quick = partial(neural, x, y, max_steps=20, check_every=10)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    assert quick(seed=1).value == quick(seed=1).value != quick(seed=2).value
    torch.testing.assert_close(torch.get_rng_state(), before)


def test_a_bound_passed_in_is_not_changed_by_the_fit():
    x, y = d.correlated_gaussian(0.9).sample(400, np.random.default_rng(0))
    mine, tuba = bounds.MINE(), bounds.TUBA(baseline=2.0)
    for bound in (mine, tuba):
        neural(x, y, bound=bound, max_steps=20, check_every=10)
    assert float(mine.weight) == 0
    assert tuba.baseline.detach() == 2.0


def test_one_dimensional_tensors_will_do_and_the_estimate_tells_its_settings():
    x, y = gaussian_rows(0.9, 400)
    estimate = neural(x[:, 0].float(), y[:, 0].numpy(), max_steps=20, check_every=10, progress=True)
    assert estimate.dims == (1, 1)
    assert estimate.n == 100
    assert estimate.settings["fit"] + estimate.settings["stop"] + estimate.n == 400
    assert "infonce" in str(estimate)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bound": "nce"}, "bound must be one of infonce, .*'nce'"),
        ({"critic": "dot"}, "critic must be one of separable, .*'dot'"),
        ({"margins": "unit"}, "margins must be one of gaussian, .*'unit'"),
        ({"split": (0.5, 0.5, 0.5)}, "split must be three positive shares"),
        ({"groups": np.zeros(3)}, "groups has 3 entries for 100 rows"),
        ({"groups": np.zeros(100)}, "too few to split"),
        ({"batch_size": 1}, "batch_size must be at least 2"),
        ({"negatives": 999}, "negatives must lie between 1 and"),
        ({"max_steps": 0}, "max_steps"),
    ],
)
def test_impossible_settings_are_refused_by_name(settings, message):
    x, y = d.correlated_gaussian(0.5).sample(100, np.random.default_rng(0))
    with pytest.raises(ValueError, match=message):
        neural(x, y, **settings)


def test_unpaired_and_too_few_rows_are_refused():
    x, y = d.correlated_gaussian(0.5).sample(100, np.random.default_rng(0))
    with pytest.raises(ValueError, match="in pairs"):
        neural(x, y[:-1])
    with pytest.raises(ValueError, match="too few"):
        neural(x[:39], y[:39])
