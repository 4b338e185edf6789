"""Any encoder, and features alone, are judged by the evaluations of a run."""

import json
import math
import re

import numpy as np
import pytest
import torch
from conftest import CONVNET, TINY
from torch import nn

import ssl_mi
from ssl_mi.app.external_features import features_of
from ssl_mi.app.main import main

FULL = [*TINY, *CONVNET, "trainer.max_epochs=1", "evaluation.every_n_epochs=0"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    left_out = [f"evaluation.evaluations.{name}=null" for name in ("pictures", "capture", "geometry")]
    return ssl_mi.train(*FULL, *left_out, run_dir=tmp_path_factory.mktemp("run") / "run", quiet=True)


def by_metric(rows):
    return {row.metric: row for row in rows}


class Flat(nn.Module):
    """A network without `out_dim`: the mean colour of each quarter of the image."""

    size, mean, std = 32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)

    def forward(self, x):
        return nn.functional.adaptive_avg_pool2d(x, 2).flatten(1)


def clusters(n=600, classes=3, d=5, apart=8.0):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, n)
    return rng.normal(size=(n, d)) + apart * np.eye(classes, d)[labels], labels


def test_a_run_is_judged_as_it_judged_itself(trained):
    own = {row.metric: row for row in trained.rows if row.split == "test" and row.encoder == "trained"}
    found = by_metric(ssl_mi.evaluate(trained.folder, measure="linear,knn,labels").rows)
    for metric in ("linear_probe_accuracy", "knn_accuracy", "mi_h_label_nats"):
        assert found[metric].value == pytest.approx(own[metric].value, abs=1e-3), metric
        assert found[metric].n == own[metric].n


def test_separated_classes_share_their_entropy_with_the_features():
    features, labels = clusters()
    found = by_metric(ssl_mi.evaluate(features, labels).rows)
    assert found["linear_probe_accuracy"].value == 1
    assert found["knn_accuracy"].value == 1
    # H(label) = ln 3 of three equally frequent classes; labels are an injective function of separated features.
    assert found["mi_h_label_nats"].value == pytest.approx(math.log(3), abs=0.15)
    assert found["mi_h_label_nats"].low < found["mi_h_label_nats"].high


def test_features_without_labels_have_geometry_only():
    features, _ = clusters()
    assert {row.evaluation for row in ssl_mi.evaluate(features).rows} == {"geometry"}


def test_labels_may_be_words_and_must_match():
    features, labels = clusters()
    words = np.array(["cat", "dog", "owl"])[labels]
    assert by_metric(ssl_mi.evaluate(features, words).rows)["linear_probe_accuracy"].value == 1
    with pytest.raises(ValueError, match="600 rows of features but 599 labels"):
        ssl_mi.evaluate(features, words[1:])
    with pytest.raises(ValueError, match="1 of 600 rows of the features hold NaN"):
        ssl_mi.evaluate(np.where(np.arange(600)[:, None] == 3, np.nan, features), words)


def test_targets_that_are_numbers_have_an_r2():
    features, _ = clusters()
    target = features @ np.array([1.0, -2.0, 0.0, 0.5, 0.0])
    found = ssl_mi.evaluate(features, target)
    assert by_metric(found.rows)["r2_target"].value == pytest.approx(1, abs=1e-3)  # a linear function of the features
    assert by_metric(found.rows)["mi_h_target_nats"].value > 1
    assert "linear, knn, few_labels left out: there are no labels of classes" in found.left_out
    both = ssl_mi.evaluate(features, np.stack([target, -target], 1), measure="regression")
    assert {row.metric for row in both.rows} == {"r2_target_1", "r2_target_2"}
    with pytest.raises(ValueError, match="1 of 600 labels are NaN"):
        ssl_mi.evaluate(features, np.where(np.arange(600) == 3, np.nan, target))


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["a,b,label", *["1,2,x", "3,4,y"] * 20, "5,,x"], "column 'b' has numbers, but '' in line 42"),
        (["a,b,label", *["1,2,x", "3,4,y"] * 20, "5,6,"], "column label is empty in 1 of 41 rows"),
        (["a,b,label", *["1,2,x", "3,NA,y"] * 20], "column 'b' has numbers, but 'NA' in line 3 and 19 more"),
        (["a,a,label", *["1,2,x", "3,4,y"] * 20], "two columns are called 'a'"),
        (["a,b,Labels", *["1,2,0", "3,4,1"] * 20], "'Labels' would be taken for a feature: rename it 'label'"),
    ],
)
def test_a_table_with_holes_is_refused_and_no_column_is_dropped(lines, words, tmp_path):
    (tmp_path / "t.csv").write_text("\n".join(lines))
    with pytest.raises(ValueError, match=words):
        ssl_mi.evaluate(tmp_path / "t.csv")


def test_a_label_is_no_feature_behind_the_mark_that_spreadsheets_write_or_a_space(tmp_path):
    rows = [f"{i % 2}, {i},{-i}" for i in range(80)]
    (tmp_path / "t.csv").write_text("\n".join(["\ufefflabel, a,b", *rows, "", ""]), encoding="utf-8")
    table = features_of(tmp_path / "t.csv")
    assert (table.columns, table.labels.tolist()) == (("a", "b"), [0, 1] * 40)


def test_a_table_says_which_columns_are_features(tmp_path):
    rng = np.random.default_rng(0)
    rows = [f"{a},{b},n{i}" for i, (a, b) in enumerate(rng.normal(size=(80, 2)))]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,name", *rows]))
    found = ssl_mi.evaluate(tmp_path / "t.csv").what
    assert found == "features [80, 2] of columns a, b; columns without numbers are left out: name"


def test_what_few_rows_do_not_allow_is_left_out_by_name_unless_it_was_asked_for():
    features, labels = clusters(n=90)
    found = ssl_mi.evaluate(features, labels)
    assert {row.metric for row in found.rows} >= {"linear_probe_accuracy", "rankme_clean_h"}
    assert any(line.startswith("labels left out: val samples: 7") for line in found.left_out)
    with pytest.raises(ValueError, match="measure=labels: val samples: 7"):
        ssl_mi.evaluate(features, labels, measure="linear,labels")
    assert all(row.evaluation == "geometry" for row in ssl_mi.evaluate(features, 0 * labels).rows)
    for one in ("linear", "regression"):
        with pytest.raises(ValueError, match=f"measure={one}: "):
            ssl_mi.evaluate(features, measure=one)


def test_features_that_cannot_be_judged_are_refused():
    features, labels = clusters(n=90)
    for bad, words in (
        (features * 1e20, "divide them by a constant"),
        (features + 1j, "real numbers"),
        (features.astype(str), "real numbers"),
        (np.ma.masked_array(features, features > 2), "mask would be lost"),
    ):
        with pytest.raises(ValueError, match=words):
            ssl_mi.evaluate(bad, labels)
    for settings in ({"limit": 3}, {"device": "tpu9"}, {"seed": -1}, {"size": 32}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            ssl_mi.evaluate(features, labels, **settings)


@pytest.mark.parametrize("words", [["--size", "32"], ["--limit", "9"], ["--twin"], ["--pool"], ["--by-order"]])
def test_arguments_without_an_effect_on_features_are_wrong_usage(words, tmp_path):
    np.save(tmp_path / "f.npy", clusters()[0])
    with pytest.raises(SystemExit, match="2"):
        main(["evaluate", str(tmp_path / "f.npy"), *words])


def test_a_module_of_ones_own_needs_no_out_dim():
    found = ssl_mi.evaluate(Flat(), "digits", size=16, measure="linear")
    assert found.what.startswith("Flat: size 16, mean")
    assert by_metric(found.rows)["linear_probe_accuracy"].value > 0.5  # quarters of a digit tell some of them apart


def test_what_is_nothing_is_refused_with_what_there_is():
    with pytest.raises(ValueError, match=r"'resnet1' is no run, checkpoint, export, features\.npy, import path"):
        ssl_mi.evaluate("resnet1", "digits")
    with pytest.raises(ValueError, match="nowhere:make cannot be imported"):
        ssl_mi.evaluate("nowhere:make", "digits")
    with pytest.raises(ValueError, match=r"data='no such' is neither a folder of images nor one of .*cifar10"):
        ssl_mi.evaluate(Flat(), "no such")
    with pytest.raises(ValueError, match="name the data"):
        ssl_mi.evaluate(Flat())


def test_the_command_takes_an_import_path_and_keeps_the_table(tmp_path, monkeypatch, capsys):
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "def make_encoder():\n"
        "    return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(4), torch.nn.Flatten())\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    words = ["evaluate", "mine:make_encoder", "--data", "digits", "--size", "16", "--out", str(tmp_path / "out")]
    words += ["--measure", "linear,knn,labels"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "linear-probe accuracy" in shown
    assert "I(h; label) (nats)" in shown
    rows = json.loads((tmp_path / "out" / "evaluation.json").read_text())["rows"]
    assert {"linear_probe_accuracy", "knn_accuracy", "mi_h_label_nats"} <= {row["metric"] for row in rows}
    assert (tmp_path / "out" / "evaluation.csv").read_text().count("\n") == 1 + len(rows)


def test_the_command_takes_files_of_features(tmp_path, capsys):
    features, labels = clusters()
    np.save(tmp_path / "features.npy", features)
    np.save(tmp_path / "labels.npy", labels)
    assert main(["evaluate", str(tmp_path / "features.npy"), "--labels", str(tmp_path / "labels.npy")]) == 0
    assert "features [600, 5]" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["evaluate", str(tmp_path / "features.npy"), "--data", "digits"])
    assert "give --labels, not --data" in capsys.readouterr().err


def test_an_untrained_network_of_torchvision_needs_no_weights():
    found = ssl_mi.evaluate("squeezenet1_1", "digits", untrained=True, size=32, limit=100, measure="linear")
    assert "untrained" in found.what
    assert by_metric(found.rows)["linear_probe_accuracy"].n == 593  # the test images of digits


def test_evaluation_leaves_the_model_as_it_was():
    model = Flat()
    model.train()
    before = torch.random.get_rng_state()
    ssl_mi.evaluate(model, "digits", size=16, limit=100, measure=("linear", "geometry"))
    assert model.training
    assert torch.equal(before, torch.random.get_rng_state())


def pictures(n=120, side=16):
    """Images whose class is their brightness."""
    labels = np.arange(n) % 2
    rng = np.random.default_rng(0)
    return (rng.integers(0, 120, (n, side, side, 3)) + 100 * labels[:, None, None, None]).astype(np.uint8), labels


def exported(tmp_path, format):
    from ssl_mi.app.encoder import LoadedEncoder
    from ssl_mi.app.export import export
    from ssl_mi.networks import ConvNet

    convnet = {"_target_": "ssl_mi.networks.ConvNet", "widths": [8, 16]}
    towers = {"_target_": "ssl_mi.networks.Siamese", "encoder": convnet, "projector": None}
    preprocessing = {"size": 16, "mean": [0.5] * 3, "std": [0.25] * 3, "views": [[]]}
    where = {"checkpoint": "runs/a/checkpoints/last.ckpt", "which": "online", "config": {"towers": towers}}
    encoder = LoadedEncoder(ConvNet([8, 16]), None, preprocessing, ("a", "b"), provenance=where)
    export(encoder, format, tmp_path / format)
    return encoder


ONNX = pytest.param("onnx", marks=pytest.mark.slow)  # its exporter takes seconds


@pytest.mark.parametrize("format", ["torchvision", "safetensors", "torchscript", ONNX])
def test_an_export_is_evaluated_as_the_encoder_that_it_was(format, tmp_path):
    if format in ("safetensors", "onnx"):
        pytest.importorskip({"onnx": "onnxruntime"}.get(format, format))
    from ssl_mi.app.external_encoders import encoder_of

    encoder = exported(tmp_path, format)
    x = encoder.transform(pictures(4)[0])
    file = next(
        path for path in (tmp_path / format).iterdir() if path.suffix in (".pt", ".safetensors", ".ts", ".onnx")
    )
    for what in (tmp_path / format, file):
        again = encoder_of(what)
        assert again.preprocessing == encoder.preprocessing
        assert torch.allclose(again(x), encoder(x), atol=1e-5)
    assert not torch.allclose(encoder_of(tmp_path / format, untrained=True)(x), encoder(x), atol=1e-2)


def test_several_encoders_and_features_stand_in_one_table(tmp_path):
    together = ssl_mi.evaluate([Flat(), Flat()], pictures(), size=16, measure="linear,geometry", splits=2)
    assert together.table.header == ["on the test split", "[1]", "[2]"]
    rows = by_metric(together.of[0].rows)
    assert rows["linear_probe_accuracy"].value == 1  # brightness tells the classes
    assert rows["linear_probe_accuracy"].note.startswith("mean over 2 splits, sd 0")
    paths = together.write(tmp_path)
    assert {path.name for path in paths} >= {"together.csv", "together.md", "evaluation.csv", "spectrum.csv"}


@pytest.mark.parametrize("name", ["SSL_MI_TRACEBACK", "HYDRA_FULL_ERROR"])
def test_every_command_shows_where_an_error_was_raised_when_asked(name, tmp_path, monkeypatch, capsys):
    words = ["evaluate", str(tmp_path / "nothing.npy")]
    with pytest.raises(SystemExit):
        main(words)
    assert "(SSL_MI_TRACEBACK=1 shows where it was raised)" in capsys.readouterr().err
    monkeypatch.setenv(name, "1")
    with pytest.raises(OSError, match="nothing"):
        main(words)


def test_seeds_of_one_method_are_pooled_into_one_column_of_means(tmp_path, capsys):
    words, values = ["evaluate"], []
    for seed in range(3):
        features = np.random.default_rng(seed).normal(size=(300, 4)) * [5, 1, 1, 1]
        np.save(tmp_path / f"{seed}.npy", features)
        words.append(str(tmp_path / f"{seed}.npy"))
        values.append(by_metric(ssl_mi.evaluate(features, measure="geometry").rows)["rankme_clean_h"].value)
    assert main([*words, "--measure", "geometry", "--pool", "--out", str(tmp_path / "out")]) == 0
    rows = json.loads((tmp_path / "out" / "evaluation.json").read_text())["rows"]
    (row,) = (row for row in rows if row["metric"] == "rankme_clean_h")
    half = 4.303 * np.std(values, ddof=1) / math.sqrt(3)  # Student's t, 97.5%, 2 degrees of freedom
    assert (row["value"], row["low"], row["high"]) == pytest.approx(
        (np.mean(values), np.mean(values) - half, np.mean(values) + half), rel=1e-3
    )
    assert "mean over 3 encoders" in capsys.readouterr().out


def test_fine_tuning_trains_the_encoder_itself_and_leaves_it_as_it_was():
    """Which of two halves is bright: the last layer of this encoder shows nothing of it before it is trained."""
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 2
    images = rng.integers(0, 60, (300, 16, 16, 3), dtype=np.uint8)
    images[labels == 1, :8] += 150
    images[labels == 0, 8:] += 150
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(768, 16))
    nn.init.zeros_(encoder[1].weight)
    encoder.size, encoder.mean, encoder.std = 16, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
    before = encoder[1].weight.clone()
    found = by_metric(ssl_mi.evaluate(encoder, (images, labels), measure="linear,finetune").rows)
    (tuned,) = (row for metric, row in found.items() if "tun" in metric)
    assert tuned.value > 0.95 > found["linear_probe_accuracy"].value
    assert torch.equal(encoder[1].weight, before)


@pytest.mark.slow
def test_a_flow_measures_what_two_views_share():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 2))
    y = 0.9 * x + math.sqrt(1 - 0.81) * rng.normal(size=x.shape)
    found = by_metric(ssl_mi.evaluate(x, paired=y, measure="flow").rows)
    truth = -math.log(1 - 0.81)  # two pairs of -1/2 ln(1 - r^2) each
    (row,) = (row for metric, row in found.items() if "flow" in metric)
    assert row.value == pytest.approx(truth, abs=0.15)


def test_views_of_images_are_measured_and_listed_with_their_files(tmp_path):
    from PIL import Image

    images, labels = pictures(240)
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = tmp_path / ("train" if i < 180 else "test") / "ab"[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{i:03d}.png")
    found = ssl_mi.evaluate(Flat(), tmp_path, size=16, measure="pointwise,strength", augmentation="weak")
    listed = found.tables["pointwise"]
    assert len(listed) == 60
    assert all((tmp_path / "test" / line["label"]).resolve() in list(map(_parent, [line["file"]])) for line in listed)
    assert found.data.endswith("views: weak")
    assert [line["strength"] for line in found.tables["strength"]] == [0.25, 0.5, 1.0, 1.5]


def _parent(file):
    from pathlib import Path

    return Path(file).resolve().parent


@pytest.mark.parametrize("suffix", [".npz", ".csv", ".parquet"])
def test_a_table_brings_its_labels_and_splits(suffix, tmp_path):
    features, labels = clusters(300)
    splits = np.array(["train", "val", "test"])[np.arange(300) % 3]
    path = tmp_path / f"table{suffix}"
    if suffix == ".npz":
        np.savez(path, h=features, label=labels, split=splits)
    elif suffix == ".csv":
        lines = [",".join(["a", "b", "c", "d", "e", "label", "split"])]
        lines += [",".join([*map(str, x), str(y), s]) for x, y, s in zip(features, labels, splits, strict=True)]
        path.write_text("\n".join(lines))
    else:
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        pq.write_table(pa.table({"h": list(features), "label": labels, "split": splits}), path)
    found = ssl_mi.evaluate(str(path), measure="linear")
    assert found.data == "features: 100 to fit on, 100 val, 100 test; 3 classes"
    assert by_metric(found.rows)["linear_probe_accuracy"].value == 1


def test_paired_features_are_two_views():
    features, _ = clusters(600)
    found = ssl_mi.evaluate(features, paired=features[:, :3], measure="pointwise")
    assert len(found.tables["pointwise"]) == 120
    with pytest.raises(ValueError, match="measure='views' needs two views of each sample"):
        ssl_mi.evaluate(features, measure="views")
    with pytest.raises(ValueError, match="measure='vews': choose from default, all, linear"):
        ssl_mi.evaluate(features, measure="vews")


def test_what_cannot_be_made_or_reset_is_named(tmp_path, monkeypatch):
    (tmp_path / "bad.py").write_text(
        "import torch\nfrom torch import nn\n"
        "def needs(x):\n    pass\n"
        "class Own(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.w = nn.Parameter(torch.ones(3))\n"
        "    def forward(self, x):\n        return x.mean((2, 3)) * self.w\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match=r"bad:needs\(\) failed: TypeError: .*called without arguments"):
        ssl_mi.evaluate("bad:needs", "digits")
    with pytest.raises(ValueError, match=r"Own cannot be reset: Own\.w have no reset_parameters"):
        ssl_mi.evaluate("bad:Own", pictures(), untrained=True, size=16)


def test_of_several_encoders_each_is_written_before_the_next_begins_and_progress_is_said(tmp_path, capsys):
    np.save(tmp_path / "good.npy", np.random.default_rng(0).normal(size=(300, 4)))
    np.save(tmp_path / "bad.npy", np.full((300, 4), np.nan))
    words = ["evaluate", *(str(tmp_path / f"{name}.npy") for name in ("good", "bad")), "--measure", "geometry"]
    with pytest.raises(SystemExit):
        main([*words, "--out", str(tmp_path / "out")])
    said = capsys.readouterr().err
    assert re.search(r"Geometry, 1 of \d\n  \d+ s to encode, \d+ s to measure\n", said)
    assert json.loads((tmp_path / "out" / "1" / "evaluation.json").read_text())["rows"]
