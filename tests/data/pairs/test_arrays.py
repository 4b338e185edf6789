"""Blocks of numbers from files: rows stay paired, training rows standardise the columns, bad files are named."""

import json

import numpy as np
import pytest
import torch

from ssl_mi.data.contracts import Data
from ssl_mi.data.pairs import ArrayData, ArrayView, Corrupt, Noise, PairViews

N = 120


def two_views(*ops):
    return PairViews([ArrayView(list(ops), 0), ArrayView(list(ops), 1)])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """x.npy and y.npy, which are functions of the row, and a table with everything that a table can hold."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    x = 5 + 3 * rng.standard_normal((N, 4))
    np.save("x.npy", x)
    np.save("y.npy", np.column_stack([2 * x[:, 0] + 1, -x[:, 1]]))
    lines = ["id,height,weight,rna_a,rna_b,kind,patient,note"]
    for i, row in enumerate(x):
        gap = "" if i in (3, 50) else f"{row[1]:.6f}"
        lines.append(f"{i},{row[0]:.6f},{gap},{row[2]:.6f},{row[3]:.6f},{'ab'[i % 2]},p{i // 6},hello")
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def made(**options):
    data = ArrayData(**{"x": "x.npy", "y": "y.npy", "augmentation": two_views(Noise(0.1)), "batch_size": 16, **options})
    data.setup()
    return data


def block(data, split, number=0):
    return next(data.batches(split, batch_size=N)).blocks[number].double()


def test_rows_of_both_blocks_stay_together_in_every_split(folder):
    data = made()
    assert isinstance(data, Data)
    assert [len(data.train), len(data.val), len(data.test)] == [84, 18, 18]
    for split in ("train", "val", "test"):
        x, y = block(data, split), block(data, split, 1)
        torch.testing.assert_close(x[:, 0], y[:, 0], rtol=1e-4, atol=1e-4)  # both standardised: 2 x + 1 is x again
        torch.testing.assert_close(x[:, 1], -y[:, 1], rtol=1e-4, atol=1e-4)
    json.dumps(data.report(), allow_nan=False)
    assert "84 train, 18 val, 18 test; no labels; rows; 4 and 2 columns" in data.describe()


def test_columns_are_standardised_by_the_training_rows_alone(folder):
    data = made()
    train, test = block(data, "train"), block(data, "test")
    torch.testing.assert_close(train.mean(0), torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-5)
    torch.testing.assert_close(train.std(0, correction=0), torch.ones(4, dtype=torch.float64), rtol=1e-4, atol=0)
    assert test.mean(0).abs().max() > 1e-3
    scale = data.preprocessing()["columns"][0]
    raw = np.load("x.npy")[[int(name.split()[1]) for name in data.test.samples.names]]
    torch.testing.assert_close(test, torch.from_numpy((raw - scale["mean"]) / scale["std"]), rtol=1e-4, atol=1e-4)


def test_views_are_those_of_the_draw_whatever_the_batch(folder):
    data = made(augmentation=two_views(Noise(0.3), Corrupt(0.5)))
    whole = data.views(next(data.batches("val", batch_size=18)), 3).views
    parts = [data.views(source, 3).views for source in data.batches("val", batch_size=7)]
    for v in range(2):
        torch.testing.assert_close(torch.cat([part[v] for part in parts]), whole[v])


def test_a_table_gives_its_columns_by_name_and_pattern_with_labels_and_groups(folder):
    views = PairViews([ArrayView([]), ArrayView([Corrupt()])])
    data = made(x="t.csv:height|rna_*", y=None, labels="kind", groups="patient", augmentation=views)
    assert data.class_names == ("a", "b")
    x = np.load("x.npy")
    for split in ("train", "val", "test"):
        samples = getattr(data, split)
        rows = [int(name.split()[1]) for name in samples.samples.names]
        assert samples.labels.tolist() == [row % 2 for row in rows]
        column, scale = block(data, split)[:, 1].numpy(), data.columns[0]
        np.testing.assert_allclose(column * scale["std"][1] + scale["mean"][1], x[rows, 2], atol=1e-4)
    patients = [
        {int(name.split()[1]) // 6 for name in getattr(data, split).samples.names} for split in ("train", "val", "test")
    ]
    assert sum(len(some) for some in patients) == 20  # no patient in two splits
    assert all(patients)
    assert "groups, each in one split" in data.describe()


def test_tables_of_all_kinds_hold_the_same_numbers(folder):
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    x = np.load("x.npy")
    columns = {name: x[:, i] for i, name in enumerate("abcd")}
    parquet.write_table(pyarrow.table(columns), folder / "t.parquet")
    (folder / "t.jsonl").write_text(
        "\n".join(json.dumps({k: float(v[i]) for k, v in columns.items()}) for i in range(N))
    )
    expected = block(made(), "test")
    for name in ("t.parquet", "t.jsonl", "t.parquet:a|b|c|d"):
        torch.testing.assert_close(block(made(x=name), "test"), expected)


def test_missing_values_are_refused_by_column_or_replaced_by_choice(folder):
    numbers = "t.csv:height|weight"
    with pytest.raises(
        ValueError, match=r"data.x: values are missing in 'weight' \(2\), of 120 rows: set data.missing"
    ):
        made(x=numbers)
    rows = {name.split()[1]: i for i, name in enumerate(made(x=numbers, missing="mean").train.samples.names)}
    found = [row for row in ("3", "50") if row in rows]
    assert found  # of seed 0: at least one of them is trained on
    for missing, width in (("mean", 2), ("mask", 3)):
        x = block(made(x=numbers, missing=missing), "train")
        assert x.shape[1] == width
        for row in found:
            assert abs(x[rows[row], 1]) < 1e-6  # the mean of the column
            if missing == "mask":
                assert x[rows[row], 2] < -1  # 0 among ones, standardised
                assert (x[:, 2] > 0).sum() == len(x) - len(found)


BAD = {
    "no file": ({"x": "nothing.npy"}, "data.x=nothing.npy: there is no file"),
    "no suffix": ({"x": "x"}, r"data.x=x: a file is expected whose name ends in .csv"),
    "unequal rows": ({"y": "short.npy"}, "data.x=x.npy has 120 rows and data.y=short.npy has 7"),
    "unknown column": ({"x": "t.csv:hight"}, "data.x: t.csv has no column 'hight': did you mean 'height'"),
    "no such pattern": ({"x": "t.csv:dna_*"}, r"no column of t.csv is like 'dna_\*'; it has id, height"),
    "a word": ({"x": "t.csv:height|note"}, "column 'note' of t.csv holds 'hello' in row 0, which is no number"),
    "unknown label": (
        {"x": "t.csv:height", "labels": "kinds"},
        "data.labels: t.csv has no column 'kinds': did you mean",
    ),
    "identifiers": ({"x": "t.csv:height", "labels": "id"}, "120 different labels for 120 rows; classes are needed"),
    "one class": ({"x": "t.csv:height", "labels": "note"}, "every label is 'hello', and a probe needs two classes"),
    "infinity": ({"x": "inf.npy"}, "column '0' of inf.npy holds infinity"),
    "objects": ({"x": "words.npy"}, r"<U1 \[120, 2\]; an array of numbers \[n, d\] is needed"),
    "width": ({"x_dim": 9}, "data.x_dim=9, but data.x has 4 columns"),
    "policy": ({"missing": "drop"}, "data.missing=drop: choose error"),
    "views": ({"y": None}, "a view shows block 1, and data.y is not set"),
    "example": ({"y": "example"}, "data.y=example goes with data.x=example"),
    "batch": ({"batch_size": 100}, "data.batch_size=100 is more than the 84 training"),
    "limit": ({"limit": 90}, "data.limit=90 is more than the 84 training rows"),
    "one group": ({"x": "t.csv:height", "groups": "note"}, "1 group cannot be split in 3"),
    "fractions": ({"val_fraction": 0.5, "test_fraction": 0.5}, "leave nothing to train on"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_work_is_refused_in_one_line_that_names_it(folder, case):
    np.save("short.npy", np.zeros((7, 2)))
    np.save("inf.npy", np.full((N, 1), np.inf))
    np.save("words.npy", np.full((N, 2), "a"))
    options, message = BAD[case]
    with pytest.raises((ValueError, OSError), match=message) as error:
        made(**options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("hole", [None, float("nan"), " "])
@pytest.mark.parametrize("key", ["labels", "groups"])
def test_a_missing_label_or_group_is_refused_and_never_a_class_of_its_own(folder, key, hole):
    lines = [json.dumps({"a": i, "b": hole if i == 7 else f"k{i % 3}"}) for i in range(N)]
    (folder / "holes.jsonl").write_text("\n".join(lines))
    with pytest.raises(ValueError, match=rf"data\.{key}.*: 1 of 120 values are missing or empty, the first in row 7"):
        made(x="holes.jsonl:a", y="holes.jsonl:a", **{key: "b"})


def test_labels_of_numbers_and_words_are_classes(folder):
    lines = [json.dumps({"a": i, "b": i % 2 if i % 3 else "other"}) for i in range(N)]
    (folder / "mixed.jsonl").write_text("\n".join(lines))
    assert made(x="mixed.jsonl:a", y="mixed.jsonl:a", labels="b").class_names == ("0", "1", "other")
