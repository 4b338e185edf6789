"""What users bring is right, or refused with its name and its place."""

import datetime

import numpy as np
import pytest
import torch

from ssl_mi.information import discrete_mi, ksg, mutual_information
from ssl_mi.information.core.containers import plain

HOLE = np.arange(4) == 2


class Series:
    """What pandas offers of a column, and no more."""

    def __init__(self, values, dtype=None, missing=None):
        self.values = np.asarray(values)
        self.dtype = dtype or self.values.dtype
        self.missing = np.zeros(len(self.values), bool) if missing is None else missing

    def isna(self):
        return self.missing

    def astype(self, dtype):
        return Series(self.values.astype(dtype))

    def __array__(self, dtype=None, copy=None):
        return self.values.astype(dtype) if dtype else self.values

    def __len__(self):
        return len(self.values)


class Frame:
    """What pandas offers of a table, and no more."""

    def __init__(self, **columns):
        self.columns, self.series = list(columns), list(columns.values())

    @property
    def iloc(self):
        return self

    def __getitem__(self, key):
        return self.series[key[1]]


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.ma.masked_where(HOLE, np.arange(4.0)), "z is masked in 1 rows, first at row 2: drop those rows"),
        (np.ma.masked_where(np.stack([HOLE & False, HOLE], 1), np.zeros((4, 2))), "first at row 2, column 1"),
        (["a", "b", None, "a"], "z is missing in 1 rows, first at row 2"),
        (["a", "b", float("nan"), "a"], "z is missing in 1 rows, first at row 2"),
        (np.array(["a", np.nan]), "the text 'nan', a missing value turned into text, in 1 rows, first at row 1"),
        (["a", 1, "b"], r"object with str \(row 0\), int \(row 1\): pass numbers only, or text only"),
        ([[1, 2], [3]], "z has rows of different lengths"),
        (np.zeros(3, complex), "z is complex"),
        (np.datetime64("2020") + np.arange(3), "z has dtype datetime64.*: times are no numbers"),
        ([datetime.date(2020, 1, 1)] * 3, r"object with date \(row 0\)"),
        (3.0, r"z has shape \(\), one float"),
        (None, r"z has shape \(\), one NoneType"),
        ({"a": [1]}, "z is a dict"),
        ((v for v in (1, 2)), "z is a generator"),
        (np.zeros(3, [("a", float)]), "z has dtype"),
        (torch.zeros(3, 1).to_sparse(), r"z is a sparse tensor .*: pass z.to_dense\(\)"),
        (Series([1.0, 2.0], "Float64", np.array([False, True])), r"z is missing \(Float64\) in 1 rows, first at row 1"),
        (Frame(a=Series([1.0]), b=Series(["u"])), r"z mixes labels \(column 'b'\) and numbers \(column 'a'\)"),
        (Frame(a=Series([1.0]), b=Series([1.0], "Int64", np.array([True]))), r"z, column 'b' is missing \(Int64\)"),
        (Frame(when=Series(np.array(["2020"], "M8[D]"))), "z, column 'when' has dtype datetime64"),
        (Frame(), "z has no columns"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_place(x, message):
    with pytest.raises(ValueError, match=message):
        plain(x, "z")


def test_a_sparse_matrix_is_refused_with_its_remedy():
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(ValueError, match=r"x is a sparse matrix \(csr_matrix\): pass x.toarray\(\)"):
        ksg(sparse.csr_matrix(np.eye(5)), np.arange(5))


@pytest.mark.parametrize(
    ("x", "values", "labels"),
    [
        (np.ma.masked_array([1.0, 2.0]), [1.0, 2.0], False),
        (np.array([1, 2.5], dtype=object), [1.0, 2.5], False),
        (np.array([3, 4], dtype=object), [3, 4], False),
        (["a", "b"], ["a", "b"], True),
        (np.array(["a", "b"], dtype=object), ["a", "b"], True),
        (Series([3, 5], "category"), ["3", "5"], True),
        (Frame(a=Series([1, 2]), b=Series([0.5, 1.5])), [[1.0, 0.5], [2.0, 1.5]], False),
        (torch.tensor([1.5, 2.5], dtype=torch.bfloat16), [1.5, 2.5], False),
    ],
)
def test_what_can_be_used_keeps_its_values(x, values, labels):
    found = plain(x)
    assert found.values.tolist() == values
    assert found.labels == labels


def test_a_category_column_of_whole_numbers_is_labels_for_every_estimator():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 4, 400)
    x = rng.standard_normal(400) + label
    as_category = mutual_information(x, Series(label, "category"), learned=False, permutations=0)
    assert as_category.value == mutual_information(x, label.astype(str), learned=False, permutations=0).value
    assert discrete_mi(Series(label, "category"), label).value == pytest.approx(discrete_mi(label, label).value)


def test_tables_of_real_libraries_are_read():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 100))
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": x, "b": y})
    assert ksg(frame[["a"]], frame["b"].astype("Float64")).value == ksg(x, y).value
    with pytest.raises(ValueError, match=r"column 'b' is missing \(Float64\) in 1 rows, first at row 7"):
        ksg(frame.assign(b=frame["b"].astype("Float64").mask(np.arange(100) == 7)), y)
