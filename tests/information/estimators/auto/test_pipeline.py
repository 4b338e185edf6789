"""The default estimator: right on easy and hard samples, and it says what it chose."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from ssl_mi.information.distributions.families import NoisyCurve
from ssl_mi.information.distributions.suites import find_task
from ssl_mi.information.estimators.auto import candidates
from ssl_mi.information.estimators.auto.bias import Bias, local_dimension
from ssl_mi.information.estimators.auto.left_out import left_out
from ssl_mi.information.estimators.auto.pipeline import Selection, _best, _interval, mutual_information
from ssl_mi.information.estimators.gaussian import gaussian_mi
from ssl_mi.information.estimators.ksg import ksg
from ssl_mi.information.inference.dependence import Rows
from ssl_mi.information.projections import neural as learned


def gaussian(n, rho, d, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d))
    return x, rho * x + math.sqrt(1 - rho**2) * rng.standard_normal((n, d))


def codes(estimate):
    return {warning.code for warning in estimate.warnings}


def quick(x, y, **settings):
    return mutual_information(x, y, **({"learned": False, "permutations": 19} | settings))


@pytest.mark.parametrize(("rho", "d"), [(0.0, 1), (0.75, 1), (0.6, 3), (0.5, 4)])
def test_gaussians_are_read_in_low_dimension(rho, d):
    estimate = quick(*gaussian(3000, rho, d))
    assert estimate.value == pytest.approx(gaussian_mi([rho] * d), abs=0.06)


def test_two_shared_pairs_among_thirty_columns_are_found_by_a_projection_to_two():
    x, y = gaussian(3000, 0.8, 2)
    rng = np.random.default_rng(1)
    x, y = (np.concatenate([v, rng.standard_normal((3000, 28))], 1) for v in (x, y))
    estimate = quick(x, y)
    assert estimate.value == pytest.approx(gaussian_mi([0.8, 0.8]), abs=0.08)
    assert estimate.kind == "lower bound"
    assert "(2)" in estimate.projection
    assert estimate.p_value == pytest.approx(1 / 20)


def test_more_pairs_than_ksg_can_read_are_taken_to_be_gaussian_when_the_first_are():
    estimate = quick(*gaussian(3000, 0.7, 12), permutations=0)
    assert estimate.value == pytest.approx(gaussian_mi([0.7] * 12), rel=0.05)
    assert "gaussian-tail" in {w.code for w in estimate.warnings}


@pytest.mark.parametrize("d", [1, 3, 20])
def test_nothing_is_read_where_nothing_is_shared(d):
    estimates = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        estimates.append(quick(rng.standard_normal((1000, d)), rng.standard_normal((1000, d)), seed=seed))
    assert abs(np.mean([e.value for e in estimates])) < 0.03
    assert all(e.ci[0] < 0 < e.ci[1] for e in estimates)
    assert sum(e.p_value <= 0.05 for e in estimates) <= 2  # three of eight: 6 in 1,000


def test_long_tails_and_monotone_maps_do_not_matter():
    x, y = gaussian(3000, 0.75, 1)
    plain = quick(x, y, permutations=0).value
    assert quick(np.exp(6 * x), np.cbrt(y), permutations=0).value == pytest.approx(plain, abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_reads_as_full_precision(dtype):
    x, y = gaussian(5000, 0.6, 1, seed=3)
    rough = quick(*(torch.from_numpy(v).to(dtype) for v in (x, y)), permutations=0)
    assert rough.value == pytest.approx(quick(x, y, permutations=0).value, abs=0.01)


def test_repeated_rows_are_dropped():
    x, y = gaussian(1500, 0.6, 1, seed=4)
    twice = quick(np.tile(x, (2, 1)), np.tile(y, (2, 1)), permutations=0)
    assert twice.value == pytest.approx(0.223, abs=0.08)
    assert twice.n == 1500
    assert twice.warnings[0].code == "dropped-repeats"


def rotated(columns, rng):
    """Columns beside standard normal ones, six in all, in directions that no single column shows."""
    wide = np.concatenate([columns, rng.standard_normal((len(columns), 6 - columns.shape[1]))], 1)
    return wide @ np.linalg.qr(rng.standard_normal((6, 6)))[0]


def test_networks_find_what_no_linear_projection_shows(monkeypatch):
    monkeypatch.setattr(learned, "TRAINING", replace(learned.TRAINING, max_steps=300))
    # One direction of each side, correlated by .9 or -.9: every correlation is 0.
    rng = np.random.default_rng(5)
    base = find_task("everyday-crossing-1-0.9")
    x, y = (rotated(side, rng) for side in base.sample(3000, rng))
    blind = quick(x, y, permutations=0).value
    seeing = mutual_information(x, y, permutations=0)
    assert blind < base.mi / 2
    assert seeing.value == pytest.approx(base.mi, abs=0.12)
    assert "learned" in seeing.projection
    assert seeing.ci[0] < base.mi < seeing.ci[1]


def test_distances_from_the_centre_are_found_without_networks():
    rng = np.random.default_rng(5)
    radius = np.exp(0.8 * rng.standard_normal((3000, 1)))
    x, y = (radius * np.exp(0.3 * rng.standard_normal((3000, 1))) * _directions(rng, 3000) for _ in range(2))
    estimate = quick(x, y, permutations=0)
    assert "polar" in estimate.projection
    assert estimate.value == pytest.approx(gaussian_mi(0.64 / (0.64 + 0.09)), abs=0.12)


@pytest.mark.parametrize("n", [2000, 10_000])
def test_thresholds_of_a_parity_are_found_where_they_are(n):
    task = find_task("everyday-parity-2")
    x, y = task.sample(n, np.random.default_rng(6))
    estimate = quick(np.exp(x - 0.3), y, permutations=0)  # the median is no landmark
    assert "signs" in estimate.projection
    assert estimate.value == pytest.approx(task.mi, abs=0.04)
    assert estimate.ci[0] < task.mi < estimate.ci[1]


def _directions(rng, n, d=6):
    z = rng.standard_normal((n, d))
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def test_symbols_on_both_sides_are_counted():
    rng = np.random.default_rng(6)
    x = rng.integers(0, 2, 5000)
    y = x ^ (rng.random(5000) < 0.1)
    estimate = mutual_information(x, y)
    assert estimate.value == pytest.approx(0.368064, abs=0.03)
    assert "discrete" in estimate.estimator
    assert mutual_information(np.where(x == 1, "a", "b"), y).value == pytest.approx(estimate.value, abs=1e-9)


def test_a_side_that_never_changes_shares_nothing_and_is_named():
    x, _ = gaussian(400, 0.5, 1)
    estimate = quick(x, np.ones(400))
    assert estimate.value == pytest.approx(0.0, abs=0.01)
    assert ("constant-side", "y") in {(w.code, w.numbers.get("side")) for w in estimate.warnings}


def test_symbols_on_one_side_are_read_by_ross_in_either_order():
    rng = np.random.default_rng(7)
    bit = rng.integers(0, 2, 4000)
    x = bit + 0.5 * rng.standard_normal(4000)
    assert mutual_information(x, bit).value == pytest.approx(0.336831, abs=0.04)
    assert mutual_information(bit, x).value == pytest.approx(0.336831, abs=0.04)


def test_labels_of_high_dimensional_samples_are_read_through_discriminants():
    rng = np.random.default_rng(8)
    bit = rng.integers(0, 2, 3000)
    x = rng.standard_normal((3000, 30))
    x[:, 3] += 2 * bit  # the same problem as a bit seen through noise of sd 1/2
    estimate = mutual_information(x, bit, permutations=19)
    assert estimate.value == pytest.approx(0.336831, abs=0.05)
    assert estimate.kind == "lower bound"
    assert estimate.ci[0] < 0.336831 < estimate.ci[1]
    assert estimate.p_value == pytest.approx(1 / 20)
    nothing = mutual_information(np.delete(x, 3, axis=1), bit, permutations=19)
    assert nothing.p_value > 0.05
    assert abs(nothing.value) < 0.02


@pytest.mark.parametrize("turned", [False, True])
def test_waves_too_fine_for_neighbours_are_found_on_the_side_that_has_them(turned):
    rng = np.random.default_rng(4)
    x = rng.standard_normal((2000, 1))
    # A wave of a Gaussian with 100 radians a deviation has a uniform phase: I = I(sin U; sin U + noise).
    y = np.sin(100 * x) + 0.1 * rng.standard_normal((2000, 1))
    phase = rng.uniform(0, 2 * np.pi, (20_000, 1))
    truth = ksg(np.sin(phase), np.sin(phase) + 0.1 * rng.standard_normal((20_000, 1))).value
    assert ksg(x, y).value < 0.1
    estimate = quick(*((y, x) if turned else (x, y)), permutations=99)
    assert estimate.value == pytest.approx(truth, abs=0.08)
    assert estimate.kind == "lower bound"
    assert estimate.p_value == pytest.approx(0.01)


@pytest.mark.parametrize(
    "phase",
    [
        lambda x: 100 * x,  # of a log-normal x: its logarithm
        lambda x: 200 * np.exp(x / 2),  # the root
        lambda x: 50 / np.exp(-x),  # x itself
        lambda x: 20 * np.exp(2 * x),  # the square
    ],
)
def test_waves_of_one_length_in_some_coordinate_are_found(phase):
    rng = np.random.default_rng(6)
    scores = rng.standard_normal((1000, 1))
    estimate = quick(np.exp(scores), np.sin(phase(scores)) + 0.1 * rng.standard_normal((1000, 1)))
    assert estimate.value == pytest.approx(1.70, abs=0.15)  # as for a uniform phase
    assert "fine-waves" not in codes(estimate)


def test_waves_whose_length_changes_are_named():
    rng = np.random.default_rng(7)
    x, noise = rng.standard_normal((2, 2000))
    assert "fine-waves" in codes(quick(x, np.sin(100 * x + 30 * x**2) + 0.1 * noise))
    for plain in (x, np.sign(x), np.sin(8 * x), np.zeros(2000)):
        assert "fine-waves" not in codes(quick(x, plain + 0.3 * noise))


def test_two_waves_are_found_side_by_side():
    rng = np.random.default_rng(8)
    x, noise = rng.standard_normal((2, 3000, 2))
    one = NoisyCurve(lambda x: np.sin(30 * x), lambda x: 0.3 + 0.0 * x).mi
    estimate = quick(x, np.sin(30 * x) + 0.3 * noise)
    assert estimate.value == pytest.approx(2 * one, abs=0.12)
    assert estimate.settings["chosen"].startswith("waves(2)")


def test_no_wave_is_found_where_nothing_is_shared():
    rng = np.random.default_rng(5)
    chosen = [quick(rng.standard_normal(500), rng.uniform(size=500)).settings["chosen"] for _ in range(20)]
    assert not any("waves" in how for how in chosen)


@pytest.mark.slow
def test_six_dimensions_of_a_sphere_are_bounded_by_networks():
    task = find_task("everyday-vmf-6-15.0")
    x, y = task.sample(2000, np.random.default_rng(0))
    estimate = mutual_information(x, y, permutations=0)
    # Nearest neighbours in four dimensions find 2.4 nats of 3.37.
    assert task.mi - 0.35 < estimate.value < task.mi
    assert estimate.ci[0] < task.mi < estimate.ci[1]
    assert estimate.settings["chosen"].startswith("infonce over")


def test_a_bound_of_networks_is_compared_with_neighbours_less_their_bias():
    rows = np.arange(100)
    described = (rows, 3, 0, Rows(100))
    bound = candidates.Bound("infonce", lambda chosen: (np.full(len(chosen), 1.10),) * 2, *described)
    for bias, best in ((-0.15, "CCA(4)"), (0.0, "infonce")):
        neighbours = candidates.Candidate("CCA", lambda chosen: (np.zeros((len(chosen), 4)),) * 2, *described)
        neighbours.__dict__.update(pointwise=np.full(100, 1.05), bias=Bias(bias, bias, 0.0, 0.0))
        found = {"infonce": [bound] * 2, "CCA(4)": [neighbours] * 2}
        assert _best(found, 0) == best
    # Every row gives 1.10 nats, at any k: there is no noise, and nothing is left open.
    assert _interval(Selection(found, (bound, bound), 0.0, (bound, bound)), 0.95) == pytest.approx((1.10, 1.10))


def test_ten_classes_in_eight_columns_are_told_apart_by_a_classifier():
    task = find_task("everyday-labels-10-in-8")
    x, y = task.sample(2000, np.random.default_rng(3))
    estimate = mutual_information(x, y, permutations=19)
    # Neighbours in four discriminants are a tenth of a nat low.
    assert estimate.value == pytest.approx(task.mi, abs=0.04)
    assert estimate.ci[0] < task.mi < estimate.ci[1]
    assert estimate.p_value == pytest.approx(1 / 20)
    # The bound is held out: labels that say nothing are given nothing.
    shuffled = mutual_information(x, np.random.default_rng(0).permutation(y), permutations=19)
    assert shuffled.value < 0.03
    assert shuffled.p_value > 0.05


def test_the_same_seed_gives_the_same_answer_and_no_random_state_is_touched(monkeypatch):
    monkeypatch.setattr(learned, "TRAINING", replace(learned.TRAINING, max_steps=50))
    x, y = gaussian(1000, 0.6, 2)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    with torch.no_grad():
        once, again = (mutual_information(x, y, permutations=3, seed=5) for _ in range(2))
    assert once.value == again.value
    assert once.ci == again.ci
    assert torch.equal(torch.get_rng_state(), before)


def test_strong_dependence_and_few_rows_are_warned_of():
    x, _ = gaussian(400, 0.5, 1)
    assert {"near-ceiling", "few-rows"} <= {w.code for w in quick(x, x).warnings}
    with pytest.raises(ValueError, match="n=30"):
        quick(*gaussian(30, 0.5, 1))
    with pytest.raises(ValueError, match="x has 50 rows and y has 49"):
        quick(*gaussian(50, 0.5, 1)[:1], gaussian(49, 0.5, 1)[1])


def test_rows_on_a_sphere_fill_one_dimension_less_than_they_have_columns():
    rng = np.random.default_rng(9)
    assert [local_dimension(_directions(rng, 2000, d), 0) for d in (2, 3, 4)] == [1, 2, 3]
    assert [local_dimension(rng.standard_normal((2000, d)), 0) for d in (1, 2, 3, 4)] == [1, 2, 3, 4]


def test_what_a_projection_leaves_out_shows_in_remainders():
    x, y = gaussian(4000, 0.8, 5, seed=9)
    each = gaussian_mi([0.8])
    assert left_out(x[:, :4], y[:, :4], x[:, :4], y[:, :4], 0) < 0.06
    # A remainder is the column less a mean of 8 neighbours, and blurred: it correlates a little less.
    assert 0.6 * each < left_out(x[:, :4], y[:, :4], x, y, 0) < 1.1 * each
    curve, other = (np.column_stack([side[:, 0], side[:, 0] ** 2, np.sin(side[:, 0])]) for side in (x, y))
    assert left_out(x[:, :1], y[:, :1], curve, other, 0) < 0.03


def test_the_interval_is_wider_where_more_neighbours_read_otherwise():
    # A narrow band with sharp edges, of which no Gaussian twin has the bias.
    task = find_task("1v1-additive-0.1")
    estimate = quick(*task.sample(2000, np.random.default_rng(10)), permutations=0)
    assert estimate.value + 1.96 * estimate.se < task.mi < estimate.ci[1]


def test_what_a_projection_promises_on_its_own_rows_beyond_what_it_keeps_on_others_widens_the_interval_upwards():
    rng = np.random.default_rng(11)
    x, y = gaussian(1000, 0.8, 2)
    turn = np.linalg.qr(rng.standard_normal((62, 62)))[0]  # no single column shows anything
    x, y = (
        np.concatenate([v, rng.standard_normal((1000, 60))], 1) @ turn for v in (x, y)
    )  # 500 rows for 62 dimensions
    estimate = quick(x, y, permutations=0)
    truth = gaussian_mi([0.8, 0.8])
    assert estimate.value < truth - 0.1
    assert estimate.ci[1] - estimate.value > 1.5 * (estimate.value - estimate.ci[0])
    assert estimate.ci[1] > truth
    assert "projection-gap" in {w.code for w in estimate.warnings}


@pytest.mark.slow
def test_intervals_without_a_warning_cover_the_truth_nineteen_times_in_twenty():
    names = ["1v1-normal-0.75", "wiggly-1v1-normal-0.75", "1v1-additive-0.75", "student-identity-1-1-1"]
    names += ["multinormal-dense-3-3-0.5", "bernoulli-gaussian-0.5", "bsc-0.1", "multiplicative-lognormal-0.5"]
    covered = []
    for name, seed in itertools.product(names, range(20)):
        task = find_task(name)
        estimate = quick(*task.sample(2000, np.random.default_rng(seed)), permutations=0, seed=seed)
        if not estimate.warnings:
            covered.append(estimate.ci[0] <= task.mi <= estimate.ci[1])
    assert len(covered) > 120
    assert 0.90 <= np.mean(covered) <= 0.99


def test_columns_that_are_all_functions_of_one_angle_are_not_added_up():
    # Ten uncorrelated columns a side; as Gaussian pairs they would hold several times what the angles share.
    rng = np.random.default_rng(0)
    task = find_task("phase-0.2")

    def harmonics(points):
        angle = np.arctan2(points[:, 1], points[:, 0])
        columns = np.stack([wave(order * angle) for order in range(1, 6) for wave in (np.cos, np.sin)], 1)
        return columns + 0.02 * rng.standard_normal(columns.shape)

    estimate = quick(*map(harmonics, task.sample(3000, rng)), permutations=0)
    assert "Gaussian" not in estimate.projection
    assert estimate.value == pytest.approx(task.mi, rel=0.1)
    assert estimate.ci[0] < task.mi < estimate.ci[1]


def test_an_interval_is_not_wholly_above_what_clusters_share():
    rng = np.random.default_rng(0)
    which, centres = rng.integers(0, 16, 3000), rng.standard_normal((16, 32))
    x, y = (centres[which] + 0.1 * rng.standard_normal((3000, 32)) for _ in range(2))
    estimate = quick(x, y, permutations=0)
    assert estimate.ci[0] < math.log(16) < estimate.ci[1]
    assert estimate.value == pytest.approx(math.log(16), rel=0.1)


def test_columns_beyond_the_fourth_count_only_where_they_share_nothing_with_the_first_four():
    u = np.random.default_rng(12).standard_normal((2000, 8))
    assert candidates.independent(u, 4)
    u[:, 6] = (np.abs(u[:, 0]) - 0.8) / 0.6 + 0.3 * u[:, 6]  # uncorrelated with the first, and no news
    assert abs(np.corrcoef(u[:, 0], u[:, 6])[0, 1]) < 0.1
    assert not candidates.independent(u, 4)


def with_rare_label(n, rare, d, seed=0):
    """d columns that tell label 1, which occurs `rare` times in n rows, from label 0: (x, labels, I(x; label))."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(n, int)
    labels[rng.permutation(n)[:rare]] = 1
    p = rare / n
    return rng.normal(size=(n, d)) + 5 * labels[:, None], labels, -p * np.log(p) - (1 - p) * np.log1p(-p)


@pytest.mark.parametrize("d", [2, 16])
@pytest.mark.parametrize("rare", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(3))
def test_a_rare_label_is_named_with_the_nats_that_it_can_hide(rare, d, seed):
    x, labels, truth = with_rare_label(1000, rare, d, seed)
    for estimate in (mutual_information(x, labels, permutations=2), mutual_information(labels, x, permutations=2)):
        assert -0.02 < estimate.value < truth + 0.02
        said = [str(w) for w in estimate.warnings if "hide" in str(w)]
        if rare < (8 if d > 4 else 4):  # k + 1 neighbours of its own, in each half where there are halves
            assert len(said) == 1
            assert f"1 ({rare} of 1000)" in said[0]
            assert f"{truth:.3f} nats" in said[0]
            assert estimate.ci is None or estimate.ci[1] >= truth - 1e-9
        else:
            assert not said


def test_a_label_absent_from_a_half_of_a_half_is_no_obstacle():
    x, labels, truth = with_rare_label(400, 10, 16)
    estimate = mutual_information(x, labels, permutations=2)
    assert estimate.ci[0] < truth < estimate.ci[1]


def test_a_class_of_one_row_among_others_is_named():
    rng = np.random.default_rng(0)
    labels = np.array(["a"] * 500 + ["b"] * 499 + ["only"])
    x = rng.normal(size=(1000, 8)) + 4 * np.unique(labels, return_inverse=True)[1][:, None]
    estimate = mutual_information(x, labels, permutations=0)
    assert estimate.value == pytest.approx(np.log(2), abs=0.05)
    assert any("only (1 of 1000)" in str(w) for w in estimate.warnings)


def test_labels_that_occur_too_rarely_to_be_halved_are_refused_by_name():
    rng = np.random.default_rng(0)
    labels = np.array([f"s{i}" for i in range(60)])
    with pytest.raises(ValueError, match=r"y has 60 labels in 60 rows, none of them 4 times"):
        mutual_information(rng.normal(size=(60, 8)), labels)
