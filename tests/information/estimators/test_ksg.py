"""Nearest-neighbour estimators against a slow twin, closed forms, and the traps they are known for."""

import math

import numpy as np
import pytest
import torch
from scipy.special import digamma

from ssl_mi.information import ksg, lnc, mixed_ksg_gao, mutual_information, pointwise_mi, sliced_mi
from ssl_mi.information.estimators import ksg as knn
from ssl_mi.information.estimators.gaussian import gaussian_mi
from ssl_mi.information.neighbours import queries as neighbours


def gaussian(n, rho=0.6, d=1, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d))
    return x, rho * x + math.sqrt(1 - rho**2) * rng.standard_normal((n, d))


def distances(values):
    return np.abs(values[:, None, :] - values[None, :, :]).max(2)


def slow_ksg(x, y, k, variant):
    """Equations 8 and 9 of Kraskov et al. 2004, read aloud."""
    n = len(x)
    dx, dy = distances(x), distances(y)
    dz = np.maximum(dx, dy)
    others = ~np.eye(n, dtype=bool)
    total = 0.0
    for i in range(n):
        radius = np.sort(dz[i][others[i]])[k - 1]
        if variant == 1:
            n_x = (dx[i][others[i]] < radius).sum()
            n_y = (dy[i][others[i]] < radius).sum()
            total += digamma(n_x + 1) + digamma(n_y + 1)
        else:
            near = others[i] & (dz[i] <= radius)
            n_x = (dx[i][others[i]] <= dx[i][near].max()).sum()
            n_y = (dy[i][others[i]] <= dy[i][near].max()).sum()
            total += digamma(n_x) + digamma(n_y)
    return digamma(k) - (variant == 2) / k + digamma(n) - total / n


def tied(n, d, seed):
    """Half continuous, half on a coarse grid, and the first rows repeated: every kind of tie."""
    x, y = gaussian(n, d=d, seed=seed)
    x[::2], y[::2] = np.round(x[::2], 1), np.round(y[::2], 1)
    x[: n // 10], y[: n // 10] = x[-(n // 10) :], y[-(n // 10) :]
    return x, y


@pytest.mark.parametrize("variant", [1, 2])
@pytest.mark.parametrize(("d", "k"), [(1, 1), (1, 3), (2, 10), (3, 4), (8, 5)])
@pytest.mark.parametrize("ties", [False, True])
def test_ksg_is_its_slow_twin_with_and_without_ties(variant, d, k, ties):
    x, y = tied(300, d, seed=k) if ties else gaussian(300, d=d, seed=k)
    fast = knn.ksg(x, y, k, variant, standardized=False, duplicates="keep")
    assert fast.value == pytest.approx(slow_ksg(x, y, k, variant), abs=1e-12)


def test_ksg_is_its_slow_twin_for_unequal_dimensions_on_several_threads(monkeypatch):
    monkeypatch.setattr(neighbours, "threads", lambda: 2)
    monkeypatch.setattr(neighbours, "ALONE", 0)
    x, y = gaussian(700, d=2, seed=5)
    y = y[:, :1]
    assert knn.ksg(x, y, 3, standardized=False).value == pytest.approx(slow_ksg(x, y, 3, 1), abs=1e-12)


@pytest.mark.parametrize("d", [1, 2, 5])
@pytest.mark.parametrize("closed", [False, True])
def test_counts_are_exact_at_the_edge_of_the_ball(d, closed):
    # Radii that are distances themselves: every query has points exactly on its boundary.
    values = np.random.default_rng(0).standard_normal((150, d)) * 10.0 ** np.arange(d)
    apart = distances(values)
    radii = apart[np.arange(150), np.random.default_rng(1).integers(0, 150, 150)]
    inside = apart <= radii[:, None] if closed else apart < radii[:, None]
    expected = inside.sum(1) - inside[np.arange(150), np.arange(150)]
    assert (neighbours.count_within(values, radii, closed) == expected).all()


@pytest.mark.parametrize("scale", [1e-12, 1e-3, 1e6, 1e12])
@pytest.mark.parametrize("standardized", [True, False])
def test_the_unit_of_both_inputs_does_not_matter(scale, standardized):
    x, y = gaussian(1000, d=2)
    expected = knn.ksg(x, y, standardized=standardized).value
    assert knn.ksg(x * scale, y * scale, standardized=standardized).value == pytest.approx(expected, abs=1e-9)


def test_units_offsets_signs_and_orders_of_columns_and_rows_do_not_matter():
    x, y = gaussian(1000, d=3)
    expected = knn.ksg(x, y).value
    rows = np.random.default_rng(1).permutation(1000)
    changed = (x * [1e-3, -5, 1e4] + [1e3, 0, -7])[rows][:, [2, 0, 1]]
    assert knn.ksg(changed, y[rows]).value == pytest.approx(expected, abs=1e-9)
    assert knn.ksg(y, x).value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("variant", [1, 2])
@pytest.mark.parametrize(("rho", "d", "tolerance"), [(0.0, 1, 0.03), (0.6, 1, 0.03), (0.9, 1, 0.03), (0.6, 2, 0.04)])
def test_ksg_reads_the_mutual_information_of_gaussians(variant, rho, d, tolerance):
    x, y = gaussian(4000, rho, d, seed=2)
    assert knn.ksg(x, y, 5, variant).value == pytest.approx(gaussian_mi([rho] * d), abs=tolerance)


def test_strict_and_closed_counts_are_not_interchangeable_in_variant_1():
    # At k = 1 "<=" for "<" lowers the estimate by about .03: a loose comparison with the truth would not see it.
    x, y = gaussian(3000, seed=3)
    radii = neighbours.nearest(np.concatenate([x, y], 1), 1)[:, 0]
    n_x, n_y = (neighbours.count_within(v, radii, closed=True) for v in (x, y))
    wrong = float(np.mean(digamma(1) + digamma(3000) - digamma(n_x + 1) - digamma(n_y + 1)))
    assert 0.01 < knn.ksg(x, y, 1, standardized=False).value - wrong < 0.06


def codes(estimate):
    return {caution.code for caution in estimate.warnings}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_embeddings_read_as_in_full_precision_and_say_so(dtype):
    x, y = gaussian(6000, seed=4)
    rough = knn.ksg(torch.from_numpy(x).to(dtype), torch.from_numpy(y).to(dtype))
    assert rough.value == pytest.approx(knn.ksg(x, y).value, abs=0.01)
    stored = str(dtype).removeprefix("torch.")
    assert [(w.code, w.numbers["stored"]) for w in rough.warnings] == [("dequantized", stored)] * 2
    # What the repair is for: bfloat16 ties read as information.
    if dtype == torch.bfloat16:
        plain = knn.ksg(torch.from_numpy(x).to(dtype), torch.from_numpy(y).to(dtype), dequantized=False)
        assert plain.value > rough.value + 0.03
    # Mixed precision's numbers are no finer for being kept in float32.
    kept = knn.ksg(torch.from_numpy(x).to(dtype).float(), torch.from_numpy(y).to(dtype).double())
    assert kept.value == pytest.approx(rough.value, abs=1e-12)
    assert kept.warnings == rough.warnings


def test_repeated_rows_are_dropped_with_a_warning():
    x, y = gaussian(2000, seed=6)
    once = knn.ksg(x[:1000], y[:1000])
    twice = knn.ksg(np.tile(x[:1000], (2, 1)), np.tile(y[:1000], (2, 1)))
    assert twice.value == pytest.approx(once.value, abs=1e-9)
    assert twice.n == 1000
    assert [(w.code, w.numbers) for w in twice.warnings] == [("dropped-repeats", {"repeats": 1000, "n": 2000})]
    kept = knn.ksg(np.tile(x[:1000], (2, 1)), np.tile(y[:1000], (2, 1)), duplicates="keep")
    assert kept.value > once.value + 0.3
    assert kept.warnings[0].code == "repeated-rows"


def test_coarse_values_are_not_taken_for_repeats():
    x, y = gaussian(500, seed=7)
    estimate = knn.ksg(np.round(x, 1), np.round(y, 1))
    assert estimate.n == 500
    assert [(w.code, w.numbers["side"]) for w in estimate.warnings] == [("ties", "x"), ("ties", "y")]
    assert "mixed_ksg_gao" in str(estimate.warnings[0])


def test_high_dimension_few_rows_constants_and_saturation_are_warned_of():
    x, y = gaussian(150, d=5)
    wide, also_wide, few = knn.ksg(x, y).warnings
    assert [(w.code, w.numbers["dims"]) for w in (wide, also_wide)] == [("many-dimensions", 5)] * 2
    assert (few.code, few.numbers["n"]) == ("few-rows", 150)
    constant = np.concatenate([x[:, :1], np.full((150, 1), 0.1)], 1)
    assert "constant (1)" in str(knn.ksg(constant, y[:, :1]).warnings[0])
    assert "near-ceiling" in codes(knn.ksg(x[:, :1], x[:, :1]))
    clean = gaussian(1000)
    assert knn.ksg(*clean).warnings == ()


def test_the_ceiling_is_what_identical_variables_read():
    x, _ = gaussian(400)
    estimate = knn.ksg(x, x, k=4)
    assert estimate.value == pytest.approx(estimate.ceiling, abs=1e-12)
    assert estimate.ceiling == pytest.approx(digamma(400) - digamma(4))


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros(10), np.zeros(9), "x has 10 rows and y has 9"),
        (np.zeros((10, 2, 2)), np.zeros(10), "x has shape"),
        (np.zeros(10), np.array([0.0] * 9 + [np.nan]), "y holds 1 rows with NaN or infinity, first nan at row 9"),
        (np.array([np.inf] + [0.0] * 9), np.zeros(10), "x holds 1 rows"),
        (np.arange(3.0), np.arange(3.0), "n=3"),
        (np.array(["a"] * 10), np.zeros(10), "x has dtype"),
        (np.zeros((10, 0)), np.zeros(10), "x has shape"),
    ],
)
def test_bad_input_is_named(x, y, message):
    with pytest.raises(ValueError, match=message):
        knn.ksg(x, y)


@pytest.mark.parametrize("settings", [{"k": 0}, {"k": 2.5}, {"variant": 3}, {"duplicates": "ignore"}])
def test_bad_settings_are_named(settings):
    with pytest.raises(ValueError, match=f"{next(iter(settings))} must be"):
        knn.ksg(*gaussian(50), **settings)


def test_integers_lists_and_tensors_are_read_alike():
    x = np.random.default_rng(0).permutation(200)
    y = np.random.default_rng(1).permutation(200)
    values = [knn.ksg(f(x), f(y)).value for f in (np.asarray, torch.from_numpy, lambda v: v.tolist())]
    assert values == pytest.approx(values[:1] * 3, abs=1e-12)


def test_the_input_is_left_as_it_was():
    x, y = (torch.from_numpy(v) for v in gaussian(100))
    before = x.clone(), y.clone()
    knn.ksg(x, y)
    assert torch.equal(x, before[0])
    assert torch.equal(y, before[1])


def test_pointwise_values_average_to_the_estimate_and_follow_the_log_density_ratio():
    x, y = gaussian(3000, 0.9, seed=8)
    pointwise = knn.pointwise_mi(x, y, k=10)
    assert pointwise.mean() == pytest.approx(knn.ksg(x, y, k=10).value, abs=1e-12)
    rho = 0.9
    truth = gaussian_mi(rho) + ((x**2 + y**2) / 2 - (x**2 - 2 * rho * x * y + y**2) / (2 * (1 - rho**2))).ravel()
    assert np.corrcoef(pointwise, truth)[0, 1] > 0.9


@pytest.mark.parametrize(
    ("draw", "truth"),
    [
        (lambda rng: rng.standard_normal(4000), 0.5 * math.log(2 * math.pi * math.e)),
        (lambda rng: rng.uniform(0, 3, 4000), math.log(3)),
        (lambda rng: rng.exponential(size=4000), 1.0),
        (lambda rng: rng.laplace(size=4000), 1 + math.log(2)),
        (lambda rng: 100 * rng.standard_normal((4000, 2)), math.log(2 * math.pi * math.e) + 2 * math.log(100)),
    ],
    ids=["normal", "uniform", "exponential", "laplace", "wide normal 2-d"],
)
def test_entropy_of_known_densities(draw, truth):
    samples = draw(np.random.default_rng(0))
    assert knn.differential_entropy(samples, 5).value == pytest.approx(truth, abs=0.06)


def test_entropy_is_that_of_the_slow_formula():
    x, _ = gaussian(200, d=2)
    radii = np.sort(distances(x), 1)[:, 3]  # column 0 is the point itself
    expected = digamma(200) - digamma(3) + 2 * np.log(2 * radii).mean()
    assert knn.differential_entropy(x, 3, standardized=False).value == pytest.approx(expected, abs=1e-12)


def test_entropy_of_atoms_is_refused():
    with pytest.raises(ValueError, match="-inf"):
        knn.differential_entropy(np.repeat(np.arange(20.0), 10), 3)
    with pytest.raises(ValueError, match="constant"):
        knn.differential_entropy(np.ones(50))


def slow_ross(x, labels, k):
    n = len(x)
    apart = distances(x)
    total = 0.0
    for i in range(n):
        same = (labels == labels[i]) & (np.arange(n) != i)
        radius = np.sort(apart[i][same])[k - 1]
        m = ((apart[i] < radius) & (np.arange(n) != i)).sum() + 1
        total += digamma(n) - digamma(same.sum() + 1) + digamma(k) - digamma(m)
    return total / n


def test_ross_is_its_slow_twin():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 300)
    x = labels[:, None] + rng.standard_normal((300, 2))
    fast = knn.mixed_ksg_ross(x, labels, 3, standardized=False).value
    assert fast == pytest.approx(slow_ross(x, labels, 3), abs=1e-12)


@pytest.mark.parametrize("estimator", [knn.mixed_ksg_ross, knn.mixed_ksg_gao])
@pytest.mark.parametrize(("sigma", "truth"), [(0.25, 0.632720), (0.5, 0.336831), (1.0, 0.111421)])
def test_mixed_estimators_read_a_bit_seen_through_noise(estimator, sigma, truth):
    rng = np.random.default_rng(1)
    bit = rng.integers(0, 2, 4000)
    assert estimator(bit + sigma * rng.standard_normal(4000), bit).value == pytest.approx(truth, abs=0.03)


def test_gao_reads_a_mixture_of_atoms_and_a_continuum():
    # X uniform on 0..4, Y ~ U[X, X + 2]: log m - (m - 1) log 2 / m (Gao et al. 2017, experiment II).
    rng = np.random.default_rng(2)
    x = rng.integers(0, 5, 4000)
    y = x + rng.uniform(0, 2, 4000)
    assert knn.mixed_ksg_gao(x, y).value == pytest.approx(math.log(5) - 0.8 * math.log(2), abs=0.04)


def test_gao_is_the_plug_in_estimate_for_symbols_but_for_its_bias():
    rng = np.random.default_rng(3)
    x = rng.integers(0, 3, 5000)
    y = np.where(rng.random(5000) < 0.8, x, rng.integers(0, 3, 5000))
    joint = np.zeros((3, 3))
    np.add.at(joint, (x, y), 1 / 5000)
    plug_in = (joint * np.log(joint / joint.sum(0) / joint.sum(1, keepdims=True))).sum()
    assert knn.mixed_ksg_gao(x, y).value == pytest.approx(plug_in, abs=0.002)


def test_gao_is_ksg_for_continuous_values_but_for_log_n():
    x, y = gaussian(500)
    expected = knn.ksg(x, y).value + math.log(500) - digamma(500)
    assert knn.mixed_ksg_gao(x, y).value == pytest.approx(expected, abs=1e-12)


def test_ross_leaves_out_lonely_labels_with_a_warning_and_refuses_only_them():
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal(300), rng.integers(0, 2, 300)
    labels[0] = 7
    estimate = knn.mixed_ksg_ross(x, labels)
    assert estimate.n == 299
    assert (estimate.warnings[0].code, estimate.warnings[0].numbers) == ("single-labels", {"labels": 1})
    with pytest.raises(ValueError, match="every label occurs once"):
        knn.mixed_ksg_ross(x, np.arange(300))
    with pytest.raises(ValueError, match=r"labels holds 0\.5"):
        knn.mixed_ksg_ross(x, np.full(300, 0.5))


def test_strings_and_booleans_are_labels_too():
    rng = np.random.default_rng(0)
    bit = rng.integers(0, 2, 500)
    x = bit + rng.standard_normal(500)
    values = [
        knn.mixed_ksg_ross(x, labels).value
        for labels in (bit, bit == 1, np.where(bit == 1, "cat", "dog"), bit.astype(float))
    ]
    assert values == pytest.approx(values[:1] * 4, abs=1e-12)


def slow_conditional(x, y, z, k):
    """Equation 6 of Frenzel & Pompe 2007, read aloud."""
    n = len(x)
    dx, dy, dz = distances(x), distances(y), distances(z)
    joint = np.maximum(np.maximum(dx, dy), dz)
    total = 0.0
    for i in range(n):
        others = np.arange(n) != i
        radius = np.sort(joint[i][others])[k - 1]
        n_xz = (np.maximum(dx, dz)[i][others] < radius).sum()
        n_yz = (np.maximum(dy, dz)[i][others] < radius).sum()
        n_z = (dz[i][others] < radius).sum()
        total += digamma(k) - digamma(n_xz + 1) - digamma(n_yz + 1) + digamma(n_z + 1)
    return total / n


def test_conditional_information_is_its_slow_twin():
    rng = np.random.default_rng(0)
    x, y, z = rng.standard_normal((200, 2)), rng.standard_normal((200, 1)), rng.standard_normal((200, 2))
    x[:50], y[:50], z[:50] = np.round(x[:50]), np.round(y[:50]), np.round(z[:50])
    fast = knn.conditional_ksg(x, y, z, 4, standardized=False).value
    assert fast == pytest.approx(slow_conditional(x, y, z, 4), abs=1e-12)


def test_conditional_information_of_gaussians():
    # corr(x, y) = .6, corr(x, z) = corr(y, z) = .5: partial correlation .35 / .75, I(x; y | z) = .122808
    covariance = np.array([[1, 0.6, 0.5], [0.6, 1, 0.5], [0.5, 0.5, 1]])
    x, y, z = (np.random.default_rng(1).standard_normal((4000, 3)) @ np.linalg.cholesky(covariance).T).T
    assert knn.conditional_ksg(x, y, z, 5).value == pytest.approx(0.122808, abs=0.03)


def test_a_common_cause_explains_its_effects_away():
    rng = np.random.default_rng(2)
    z = rng.standard_normal(4000)
    x, y = z + rng.standard_normal(4000), z + rng.standard_normal(4000)
    assert knn.ksg(x, y, 5).value == pytest.approx(-0.5 * math.log(1 - 0.25), abs=0.03)
    assert knn.conditional_ksg(x, y, z, 5).value == pytest.approx(0, abs=0.03)


def test_conditional_information_needs_three_of_a_length():
    with pytest.raises(ValueError, match="x has 50 rows and given has 49"):
        knn.conditional_ksg(np.zeros(50), np.zeros(50), np.zeros(49))


def test_local_correction_reads_strong_dependence_that_ksg_cannot():
    # y = x + U(0, e): I = log(1/e) + e/2 for x ~ U(0, 1) (density of the sum is flat but for its two ramps).
    rng = np.random.default_rng(3)
    e = 1e-4
    x = rng.random(1000)
    y = x + e * rng.random(1000)
    truth = math.log(1 / e) + e / 2
    assert knn.ksg(x, y).value < truth - 2
    assert lnc(x, y).value == pytest.approx(truth, abs=0.4)


def test_local_correction_leaves_weak_dependence_alone():
    x, y = gaussian(2000, 0.3, seed=4)
    assert lnc(x, y).value == pytest.approx(knn.ksg(x, y, 10, 2).value, abs=0.03)
    with pytest.raises(ValueError, match="k=3 neighbours span no box in 4 dimensions"):
        lnc(*gaussian(100, d=2), k=3)


def test_sliced_information_is_zero_at_independence_and_the_pair_in_one_dimension():
    rng = np.random.default_rng(5)
    x, y = gaussian(1500, 0.9, seed=5)
    assert sliced_mi(x, y, slices=3).value == pytest.approx(knn.ksg(x, y).value, abs=1e-9)
    assert abs(sliced_mi(rng.standard_normal((1500, 20)), rng.standard_normal((1500, 20)), slices=20).value) < 0.02


def test_sliced_information_of_gaussians_is_the_average_over_directions():
    # x, y in 2 dimensions with correlation rho each: θ·x and φ·y correlate rho cos(angle); average over angles.
    rho = 0.9
    x, y = gaussian(1500, rho, d=2, seed=6)
    angles = np.linspace(0, 2 * np.pi, 10_000, endpoint=False)
    truth = np.mean(-0.5 * np.log(1 - (rho * np.cos(angles)) ** 2))
    estimate = sliced_mi(x, y, slices=150)
    assert estimate.value == pytest.approx(truth, abs=4 * estimate.se)
    assert estimate.kind == "lower bound"


@pytest.mark.parametrize("estimator", [ksg, lnc, mixed_ksg_gao, sliced_mi])
def test_a_function_is_named_as_infinite_and_strong_noise_is_not(estimator):
    rng = np.random.default_rng(0)
    x = rng.standard_normal(1000)
    codes = {w.code for w in estimator(x, x**2).warnings}
    assert "grows-with-rows" in codes
    assert estimator(x, x + 0.05 * rng.standard_normal(1000)).warnings == ()


def test_constants_share_nothing_and_ties_stay_below_the_ceiling():
    rng = np.random.default_rng(0)
    assert ksg(np.ones(500), np.ones(500)).value == 0
    assert ksg(rng.standard_normal(500), np.ones((500, 2))).value == 0
    label = rng.integers(0, 3, 500)
    for k in (1, 3, 10):
        tied = ksg(label, label, k)
        assert tied.value <= tied.ceiling + 1e-12


@pytest.mark.parametrize("k", [0, -1, True, 2.5, "3", None])
@pytest.mark.parametrize("estimator", [ksg, lnc, mixed_ksg_gao, sliced_mi, mutual_information, pointwise_mi])
def test_k_is_checked_under_its_own_name(estimator, k):
    x, y = np.random.default_rng(0).standard_normal((2, 60))
    with pytest.raises(ValueError, match="k must be a whole number of neighbours, at least 1"):
        estimator(x, y, k=k)


def test_too_large_a_k_is_refused_as_it_was_passed():
    x, y = np.random.default_rng(0).standard_normal((2, 1000))
    with pytest.raises(ValueError, match=r"k=700 neighbours need at least 2801 .*k of at most 249"):
        mutual_information(x, y, k=700)


@pytest.mark.parametrize(
    "setting", [{"level": 1.5}, {"level": 0}, {"permutations": -3}, {"permutations": 1.5}, {"seed": -1}]
)
def test_settings_of_the_default_are_checked_before_any_work(setting):
    (name,) = setting
    with pytest.raises(ValueError, match=f"^{name} must"):
        mutual_information(np.zeros(3), np.zeros(3), **setting)
