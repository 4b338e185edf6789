"""Entropies of symbols against closed forms and hand counts."""

import itertools
import math

import numpy as np
import pytest
from scipy.special import digamma

from ssl_mi.information.estimators import discrete

CORRECTIONS = ["plugin", "miller-madow", "grassberger", "chao-shen", "jackknife"]


def test_the_plug_in_entropy_is_minus_sum_p_log_p():
    x = ["a"] * 5 + ["b"] * 3 + ["c"] * 2
    expected = -(0.5 * math.log(0.5) + 0.3 * math.log(0.3) + 0.2 * math.log(0.2))
    assert discrete.discrete_entropy(x).value == pytest.approx(expected, abs=1e-12)
    assert discrete.discrete_entropy(x, "miller-madow").value == pytest.approx(expected + 2 / 20, abs=1e-12)


def test_the_jackknife_leaves_each_row_out_in_turn():
    x = np.array([0] * 5 + [1] * 3 + [2])
    n = len(x)
    without = np.mean([discrete.discrete_entropy(np.delete(x, i)).value for i in range(n)])
    expected = n * discrete.discrete_entropy(x).value - (n - 1) * without
    assert discrete.discrete_entropy(x, "jackknife").value == pytest.approx(expected, abs=1e-12)


def test_grassbergers_g_follows_its_recursion():
    # G(1) = -γ - log 2, G(2) = 2 - γ - log 2, G(2m+1) = G(2m), G(2m+2) = G(2m) + 2 / (2m+1)   (2003, eq. 27-28)
    g = {1: digamma(1) - math.log(2), 2: 2 + digamma(1) - math.log(2)}
    for m in range(1, 5):
        g[2 * m + 1] = g[2 * m]
        g[2 * m + 2] = g[2 * m] + 2 / (2 * m + 1)
    counts = [1, 2, 3, 4, 5, 8, 9]
    n = sum(counts)
    expected = math.log(n) - sum(c * g[c] for c in counts) / n
    assert discrete.entropy_of_counts(np.array(counts), "grassberger") == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("correction", CORRECTIONS[1:])
def test_corrections_undo_most_of_the_plug_in_bias(correction):
    rng = np.random.default_rng(0)
    truth = math.log(20)
    biases = {
        name: np.mean([discrete.discrete_entropy(x, name).value for x in samples]) - truth
        for samples in [[rng.integers(0, 20, 60) for _ in range(200)]]
        for name in ("plugin", correction)
    }
    assert biases["plugin"] == pytest.approx(-19 / 120, abs=0.03)
    assert abs(biases[correction]) < abs(biases["plugin"]) / 4


@pytest.mark.parametrize("correction", CORRECTIONS)
@pytest.mark.parametrize(("crossover", "truth"), [(0.05, 0.494632), (0.1, 0.368064), (0.25, 0.130812), (0.5, 0.0)])
def test_a_binary_symmetric_channel_passes_log_two_minus_its_noise(correction, crossover, truth):
    rng = np.random.default_rng(1)
    x = rng.integers(0, 2, 20_000)
    y = x ^ (rng.random(20_000) < crossover)
    assert discrete.discrete_mi(x, y, correction).value == pytest.approx(truth, abs=0.012)


@pytest.mark.parametrize("correction", CORRECTIONS)
def test_chain_rules_hold_exactly(correction):
    rng = np.random.default_rng(2)
    z = rng.integers(0, 3, 500)
    x = (z + rng.integers(0, 2, 500)) % 3
    y = x * z % 4
    information = discrete.discrete_mi(x, y, correction).value
    entropy = discrete.discrete_entropy(x, correction).value
    assert information == pytest.approx(
        entropy - discrete.discrete_conditional_entropy(x, y, correction).value, abs=1e-12
    )
    both = discrete.discrete_mi(x, np.stack([y, z], 1), correction).value
    given = discrete.discrete_conditional_mi(x, y, z, correction).value
    assert both == pytest.approx(discrete.discrete_mi(x, z, correction).value + given, abs=1e-12)


def test_xor_is_shared_only_given_the_key():
    x, z = np.array(list(itertools.product([0, 1], [0, 1]))).T.repeat(100, axis=1)
    y = x ^ z
    assert discrete.discrete_mi(x, y).value == pytest.approx(0, abs=1e-12)
    assert discrete.discrete_conditional_mi(x, y, z).value == pytest.approx(math.log(2), abs=1e-12)


def test_more_symbols_than_rows_is_warned_of():
    rng = np.random.default_rng(0)
    estimate = discrete.discrete_mi(rng.integers(0, 10, 100), rng.integers(0, 10, 100))
    assert estimate.warnings[0].code == "sparse-counts"
    assert discrete.discrete_mi(rng.integers(0, 2, 100), rng.integers(0, 2, 100)).warnings == ()


def test_bad_symbols_are_named():
    with pytest.raises(ValueError, match="x has 3 rows and y has 2"):
        discrete.discrete_mi([0, 1, 1], [0, 1])
    with pytest.raises(ValueError, match=r"y holds 0\.5"):
        discrete.discrete_mi([0, 1], [0, 0.5])
    with pytest.raises(ValueError, match="correction must be"):
        discrete.discrete_entropy([0, 1], "none")
    with pytest.raises(ValueError, match="at least 2 rows"):
        discrete.discrete_entropy([0], "jackknife")
