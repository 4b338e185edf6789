"""Pairs from files are trained, evaluated and reported, by the shortest command that names them."""

import csv
import html

import numpy as np
import pytest
import torch
from PIL import Image

import ssl_mi
from ssl_mi.app.data_choice import settle
from ssl_mi.app.startup import check
from ssl_mi.app.train import run_training
from ssl_mi.data import Augmentation, View
from ssl_mi.data.pairs import ArrayData, Tokenizer

CPU = ["trainer.accelerator=cpu", "trainer.devices=1", "progress=none", "data.batch_size=32", "trainer.max_epochs=1"]
QUICK = [*CPU, "evaluation.every_n_epochs=0", "schedule.warmup_epochs=0"]
QUICK += ["evaluation.evaluations.mi.permutations=0", "evaluation.evaluations.mi.subsets=0"]
QUICK += ["evaluation.evaluations.pictures=null", "evaluation.evaluations.geometry=null"]
NARROW = ["encoder.widths=[16]", "y_encoder.widths=[16]", "towers.towers.0.projector.dims=[8]"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.filterwarnings("ignore")  # what estimators say of few rows
def test_two_arrays_are_trained_measured_and_reported(here, configure):
    rng = np.random.default_rng(0)
    shared = rng.standard_normal((300, 2))
    np.save("x.npy", np.hstack([shared, rng.standard_normal((300, 3))]))
    np.save("y.npy", np.hstack([rng.standard_normal((300, 1)), shared**3]))
    made = run_training(configure("data=arrays", "data.x=x.npy", "data.y=y.npy", *QUICK, *NARROW, tiny=False))
    assert made.cfg.name == "pairs/arrays"
    assert [tower.encoder.in_dim for tower in made.module.towers.towers] == [5, 3]
    found = {row.metric for row in made.evaluate.rows if row.encoder == "trained"}
    assert {"mi_ksg_cca4_nats", "recall_x_to_y_at_1", "recall_y_to_x_at_10", "pointwise_mi_lowest_nats"} <= found
    page = html.unescape((made.folder / "report.html").read_text())
    assert "x.npy and y.npy: 210 train, 45 val, 45 test; no labels; rows; 5 and 3 columns" in page
    assert (made.folder / "retrieval.csv").exists()
    assert made.facts()["effective batch"] == "32 rows a step"
    assert "32 rows of" in made.facts()["memory"]
    # A run on pairs is judged afterwards as it was at its end: on the same pairs, by both encoders.
    again = ssl_mi.evaluate(made.folder, measure="retrieval,pointwise,geometry,views")
    values = {row.metric: row for row in again.rows}
    for way in ("recall_x_to_y_at_10", "recall_y_to_x_at_1"):
        one = next(row for row in made.evaluate.rows if row.encoder == "trained" and row.metric == way)
        assert values[way].value == pytest.approx(one.value)
    assert values["pointwise_mi_lowest_nats"].n == 45
    assert any(metric.startswith("mi_") and "z" in metric for metric in values)
    assert "alignment_h" not in values  # h of two encoders lie in spaces of their own
    with pytest.raises(ValueError, match="measure='finetune' needs the images, and there are pairs of other measurem"):
        ssl_mi.evaluate(made.folder, measure="finetune")


@pytest.mark.filterwarnings("ignore")
def test_images_and_captions_are_trained_and_the_text_tower_takes_new_sentences(here, configure):
    rng = np.random.default_rng(0)
    lines = ["file,said,kind"]
    for number in range(150):
        kind = number % 2
        pixels = rng.integers(0, 100, (16, 16, 3)) + 150 * np.eye(3, dtype=int)[kind]
        Image.fromarray(pixels.astype(np.uint8)).save(f"{number}.png")
        lines.append(f"{number}.png,a {('red', 'green')[kind]} square,{('red', 'green')[kind]}")
    (here / "t.csv").write_text("\n".join(lines))
    words = ["data=image_text", "data.table=t.csv", "data.image=file", "data.text=said", "data.labels=kind"]
    made = run_training(
        configure(*words, *QUICK, "encoder.widths=[8]", "trainer.max_epochs=3", "data.prompts=['a {}']", tiny=False)
    )
    assert made.cfg.data.size == 16
    final = {row.metric: row for row in made.evaluate.rows if row.encoder == "trained"}
    assert final["zero_shot_accuracy"].value > 0.8  # two plain colours
    lowest = next(csv.DictReader((made.folder / "pointwise.csv").read_text().splitlines()))
    assert (lowest["rank"], lowest["candidate"]) == ("1", "True")
    assert ".png: a " in lowest["file"]
    text = ssl_mi.load(made.folder, view=1)
    tokens = Tokenizer.from_json(text.preprocessing["tokenizer"]).ids(["a green square"], 8)
    assert text.embed(tokens)[0].shape == (1, text.out_dim)
    assert torch.isfinite(text(tokens)).all()
    values = {row.metric: row.value for row in ssl_mi.evaluate(made.folder, measure="knn,retrieval").rows}
    assert values["zero_shot_accuracy"] == pytest.approx(final["zero_shot_accuracy"].value)
    with pytest.raises(ValueError, match="view=1 of the run's pairs is of tokens"):
        ssl_mi.evaluate(made.folder, view=1)


def test_a_choice_of_pairs_brings_the_views_and_networks_of_its_kind(here, configure):
    np.save("x.npy", np.random.default_rng(0).standard_normal((50, 6)))
    one = configure("data=arrays", "data.x=x.npy", tiny=False)
    settle(one)
    assert (one.name, one.data.x_dim, one.encoder.in_dim) == ("pairs/table", 6, 6)
    with pytest.raises(ValueError, match=r"these keys have no value yet: data\.table"):
        check(configure("data=image_text", tiny=False))


def test_an_experiment_of_images_is_refused_with_the_choice_to_make(configure):
    with pytest.raises(ValueError, match="experiment=simclr_cifar is of images and data=arrays is not: leave the exp"):
        configure("experiment=simclr_cifar", "data=arrays", "data.x=x.npy", tiny=False)
    views = Augmentation([View([], count=2)], 8, [0.5], [0.2])
    with pytest.raises(ValueError, match="ArrayData takes its views from PairViews, not from Augmentation: choose"):
        ArrayData("x.npy", views, batch_size=4)
