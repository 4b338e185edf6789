"""What is refused at the door, and what is brought to float64."""

import numpy as np
import pytest
import torch

from ssl_mi.information.core import inputs as samples


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64, torch.bool]
)
def test_tensors_of_any_type_become_float64_columns(dtype):
    variable = samples.read(torch.tensor([0, 1, 1]).to(dtype), "z")
    assert variable.values.dtype == np.float64
    assert variable.values.tolist() == [[0.0], [1.0], [1.0]]
    assert variable.stored == str(dtype).removeprefix("torch.")


def test_gradients_are_left_behind():
    assert samples.read(torch.ones(3, 2, requires_grad=True)).values.sum() == 6


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(3, dtype=torch.complex64), "z is complex"),
        (np.array([1, None]), "z is missing in 1 rows, first at row 1"),
        (np.zeros(()), "z has shape"),
        (np.zeros((0, 3)), "it is empty"),
        (np.array([[1.0, 2.0], [3.0, -np.inf]]), "first -inf at row 1, column 1"),
    ],
)
def test_what_cannot_be_read_is_named(x, message):
    with pytest.raises(ValueError, match=message):
        samples.read(x, "z")


def test_labels_become_codes_whatever_their_type():
    for labels in (["b", "a", "b"], np.array([7, 3, 7]), torch.tensor([True, False, True]), np.array([1.0, 0.0, 1.0])):
        codes, m = samples.read_labels(labels)
        assert codes.tolist() == [1, 0, 1]
        assert m == 2
    codes, m = samples.read_labels(np.array([[0, 1], [1, 0], [0, 1]]))
    assert codes.tolist() == [0, 1, 0]
    assert m == 2


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((2, 2, 2), int), "shape"),
        (np.array([0.0, 0.5]), "holds 0.5"),
        (np.array([0.0, np.nan]), "NaN"),
        (np.array([1j]), "is complex"),
    ],
)
def test_what_cannot_be_a_label_is_named(labels, message):
    with pytest.raises(ValueError, match=message):
        samples.read_labels(labels)


def test_standardized_columns_have_mean_zero_and_variance_one_at_any_scale():
    rng = np.random.default_rng(0)
    values = rng.standard_normal((500, 4)) * [1e-100, 1.0, 1e100, 1.0] + [0, 1e9, 0, 0]
    values[:, 3] = 0.1
    scaled, scales, cautions = samples.standardize(samples.read(values, "z"))
    assert scaled.values[:, :3].mean(0) == pytest.approx(np.zeros(3), abs=1e-6)
    assert scaled.values[:, :3].std(0) == pytest.approx(np.ones(3), abs=1e-6)
    assert (scaled.values[:, 3] == 0).all()
    assert scales[:3] / values[:, :3].std(0) == pytest.approx(np.ones(3), rel=1e-6)
    assert tuple(map(str, cautions)) == ("1 of 4 columns of z are constant (3): no information",)


def test_equal_rows_have_equal_hashes_and_others_do_not():
    rng = np.random.default_rng(0)
    values = rng.integers(-3, 4, (5000, 3)).astype(float)
    values[values == 0] *= -1.0  # -0.0 equals 0.0
    hashes = samples.row_hash(values)
    assert samples.n_distinct(hashes) == len(np.unique(values, axis=0))
    assert samples.row_hash(np.array([[0.0]])) == samples.row_hash(np.array([[-0.0]]))
    assert samples.row_hash(np.array([[1.0, 2.0]])) != samples.row_hash(np.array([[2.0, 1.0]]))


def test_grids_and_float32_are_not_taken_for_rounded_values():
    rng = np.random.default_rng(5)
    grid = rng.integers(0, 256, (4000, 2)) / 256.0
    whole = rng.integers(-1000, 1000, (4000, 2)).astype(np.float32)
    for values in (grid, whole, rng.standard_normal((4000, 2)).astype(np.float32)):
        assert samples.rounded(samples.read(values)).stored in ("float32", "float64")
    half = torch.from_numpy(rng.uniform(0, 1, (4000, 2)))
    assert samples.rounded(samples.read(half.half().float())).stored == "float16"
    assert samples.rounded(samples.read(half.bfloat16().double())).stored == "bfloat16"
