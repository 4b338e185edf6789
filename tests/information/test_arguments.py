"""Settings and samples that cannot be right are refused by their own names, in every public estimator."""

import inspect

import numpy as np
import pytest

from ssl_mi import information

RNG = np.random.default_rng(0)
X, Y, Z = RNG.standard_normal((3, 300))
LABELS = RNG.integers(0, 3, 300)
# Samples that each takes; all estimators of the public names, and what is around them.
SAMPLES = {
    **dict.fromkeys(
        ["mutual_information", "ksg", "lnc", "mixed_ksg_gao", "pointwise_mi", "sliced_mi", "cca_mi", "copula_mi"],
        (X, Y),
    ),
    **dict.fromkeys(
        ["neural_mi", "infonce", "dv", "mine", "nwj", "tuba", "interpolated", "js", "smile"],
        (X, Y),
    ),
    **dict.fromkeys(["flow_mi", "difference_of_entropies", "club", "leave_one_out"], (X, Y)),
    **dict.fromkeys(["lagged_mutual_information", "transfer_entropy"], (X, Y)),
    **dict.fromkeys(["conditional_ksg", "conditional_mutual_information", "interaction_information"], (X, Y, Z)),
    "total_correlation": (X, Y, Z),
    "pointwise_neural_mi": (X, Y),
    "mixed_ksg_ross": (X, LABELS),
    **dict.fromkeys(["discrete_mi", "discrete_conditional_entropy"], (LABELS, LABELS)),
    "discrete_conditional_mi": (LABELS, LABELS, LABELS),
    **dict.fromkeys(["discrete_entropy", "entropy", "nsb_entropy"], (LABELS,)),
    "differential_entropy": (X,),
    "mi_matrix": (np.stack([X, Y], 1),),
    **dict.fromkeys(["with_uncertainty", "with_interval", "with_permutation_test"], (information.ksg, X, Y)),
}
NOT_ESTIMATORS = {"gaussian_mi", "rank_gaussianize", "all_checks", "mutual_info_regression", "mutual_info_classif"}
WRONG = {
    "level": (0, 1, 1.5, -0.5, float("nan"), "0.95", True),
    "permutations": (-3, 1.5, "9", True),
    "subsets": (1, -1, 2.5),
    "repeats": (0, 1.5),
    "seed": (-1, 0.5, "0"),
    "k": (0, -1, 2.5, "3", None, True),
    "slices": (0, 1, 2.5),
    "lags": (0, 1.5),
    "history": (0, 1.5),
    "lag": (1.5, "1"),
    "symbols": (0, 1.5),
    "blocks": (0, 2.5, True),
    "groups": (np.arange(3), np.zeros(300)),
    "correction": ("none",),
    "variant": (3,),
}


def taken(name):
    return inspect.signature(getattr(information, name)).parameters


def test_every_public_function_of_samples_is_looked_at():
    functions = {name for name in information.__all__ if inspect.isfunction(getattr(information, name))}
    assert functions - NOT_ESTIMATORS == set(SAMPLES)


@pytest.mark.parametrize(
    ("name", "setting"), [(name, setting) for name in SAMPLES for setting in WRONG if setting in taken(name)]
)
def test_a_setting_out_of_its_range_is_refused_by_name_before_any_work(name, setting):
    for value in WRONG[setting]:
        with pytest.raises(ValueError, match=rf"\b{setting}\b"):
            getattr(information, name)(*SAMPLES[name], **{setting: value})


@pytest.mark.parametrize("name", [name for name in SAMPLES if "k" in taken(name) and name != "mixed_ksg_ross"])
def test_more_neighbours_than_rows_are_refused_as_they_were_passed(name):
    with pytest.raises(ValueError, match=r"k=700 neighbours need at least"):
        getattr(information, name)(*SAMPLES[name], k=700)


@pytest.mark.parametrize("name", [name for name, samples in SAMPLES.items() if len(samples) > 1])
def test_lengths_that_differ_are_refused_with_both(name):
    *others, last = SAMPLES[name]
    with pytest.raises(ValueError, match=r"300 .*299"):
        getattr(information, name)(*others, last[:-1])


@pytest.mark.parametrize("name", [name for name in SAMPLES if np.asarray(SAMPLES[name][-1]).dtype.kind == "f"])
def test_missing_values_are_refused_with_their_row(name):
    *others, last = SAMPLES[name]
    broken = last.copy()
    broken[7] = np.nan
    with pytest.raises(ValueError, match="NaN or infinity, first nan at row 7"):
        getattr(information, name)(*others, broken)


@pytest.mark.parametrize(
    "name",
    ["mutual_information", "ksg", "mixed_ksg_gao", "copula_mi", "cca_mi", "lagged_mutual_information"]
    + ["transfer_entropy", "conditional_ksg", "conditional_mutual_information", "total_correlation"],
)
def test_a_constant_shares_nothing(name):
    first, _, *others = SAMPLES[name]
    given = [] if name == "total_correlation" else others
    assert abs(float(getattr(information, name)(first, np.ones(300), *given))) < 0.05


@pytest.mark.parametrize("name", ["ksg", "lnc", "mixed_ksg_gao", "sliced_mi"])
def test_infinite_information_is_named(name):
    for y in (X, X**2):
        codes = {caution.code for caution in getattr(information, name)(X, y).warnings}
        assert codes & {"grows-with-rows", "near-ceiling"}
