"""Any encoder, and features alone, are judged by the evaluations of a run."""

import json
import math

import numpy as np
import pytest
import torch
from conftest import CONVNET, TINY
from torch import nn

import ssl_mi
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


def test_a_module_of_ones_own_needs_no_out_dim():
    found = ssl_mi.evaluate(Flat(), "digits", size=16, measure="linear")
    assert found.what.startswith("Flat: size 16, mean")
    assert by_metric(found.rows)["linear_probe_accuracy"].value > 0.5  # quarters of a digit tell some of them apart


def test_what_is_nothing_is_refused_with_what_there_is():
    with pytest.raises(ValueError, match=r"'resnet1' is no run, checkpoint, export, features\.npy, import path"):
        ssl_mi.evaluate("resnet1", "digits")
    with pytest.raises(ValueError, match="nowhere:make cannot be imported"):
        ssl_mi.evaluate("nowhere:make", "digits")
    with pytest.raises(ValueError, match="data='no such' is neither a folder of images nor one of cifar10"):
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
