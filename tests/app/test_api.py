"""Runs from Python: silent, without a trace, and each as if it were alone in its process."""

import json

import numpy as np
import pytest
import torch
from conftest import NO_EVALUATION, TINY
from PIL import Image

import ssl_mi
from ssl_mi.app.api import Table, final_measurements, given, short_run
from ssl_mi.data import Augmentation, ImageArrays, ImageData, RandomResizedCrop, View
from ssl_mi.networks import ConvNet
from ssl_mi.objectives import MINE, Objective, SimCLR, VICReg

SHORT = [*TINY, *NO_EVALUATION, "evaluation.evaluations.capture=null", "trainer.max_epochs=1"]


def test_runs_in_one_process_do_not_touch_each_other_and_leave_and_print_nothing(capsys):
    first = short_run([*SHORT, "seed=3"])
    short_run([*SHORT, "seed=4"])
    again = short_run([*SHORT, "seed=3"])
    for one, other in zip(first.module.parameters(), again.module.parameters(), strict=True):
        assert torch.equal(one, other)
    assert not first.folder.exists()
    assert capsys.readouterr() == ("", "")


def test_what_was_measured_at_the_end_comes_by_metric_and_encoder():
    read = [one for one in SHORT if not one.startswith("evaluation.evaluations.geometry")]
    run = short_run(read)
    last = final_measurements(run)
    assert {encoder for metric, encoder in last if metric == "effective_rank_h"} == {"trained", "random"}
    assert 1 <= last["effective_rank_h", "trained"] <= run.module.towers.h_dim


def test_a_mistake_is_raised_as_on_the_command_line():
    with pytest.raises(Exception, match="widht"):
        short_run([*SHORT, "encoder.widht=[8]"])


# ssl_mi.train


def tiny(*overrides, run_dir, **parts):
    """A run on a few drawn shapes, without the evaluations that take time."""
    return ssl_mi.train(*SHORT, *overrides, run_dir=run_dir, quiet=True, **parts)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of objects, with a probe and a picture."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    probe = "evaluation.evaluations.linear_probe={_target_: ssl_mi.evaluation.LinearProbe}"
    return tiny(probe, objective=VICReg(), encoder=ConvNet([4, 8]), run_dir=folder)


def test_a_run_returns_its_measurements_table_encoder_folder_and_pictures(finished):
    assert {row.metric for row in finished.rows} == {"linear_probe_accuracy"}
    assert "linear-probe accuracy" in str(finished.table)
    assert (finished.folder / "report.md").exists()
    assert (finished.folder / "checkpoints" / "last.ckpt").exists()
    assert list(finished.pictures) == sorted(path.stem for path in finished.folder.glob("*.png"))
    images = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    assert not finished.encoder.training
    assert finished.encoder(finished.data.augmentation.clean(images)).shape == (2, 8)
    saved = torch.load(finished.folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    for name, value in finished.encoder.state_dict().items():
        assert torch.equal(value, saved[f"towers.tower.encoder.{name}"]), name


def test_a_run_shows_its_table_and_pictures_in_a_notebook(finished):
    shown = finished._repr_html_()
    assert "<td>linear-probe accuracy</td>" in shown
    assert shown.count("<img") == len(finished.pictures) > 0
    assert str(finished.folder) in shown
    assert repr(finished) == f"TrainedRun(folder='{finished.folder}', 3 measurements)"


def test_text_of_the_users_is_no_html():
    shown = Table(["<b>"], [["<script>"]])._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown


def test_the_report_says_which_call_it_was(finished):
    command = json.loads((finished.folder / "report.json").read_text())["command"]
    assert command.startswith("ssl_mi.train('data=shapes'")
    assert "objective=VICReg(...)" in command
    assert "encoder=ConvNet(...)" in command


def test_objects_give_the_weights_that_their_names_give(tmp_path):
    named = tiny("objective=mine", "towers.projector.dims=[16,8]", run_dir=tmp_path / "a")
    given = tiny("towers.projector.dims=[16,8]", objective=MINE(), run_dir=tmp_path / "b")
    for one, other in zip(named.run.module.parameters(), given.run.module.parameters(), strict=True):
        assert torch.equal(one, other)


def test_what_is_given_does_not_change(tmp_path):
    objective, encoder = MINE(), ConvNet([4, 8])
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    for folder in ("a", "b"):
        tiny(objective=objective, encoder=encoder, run_dir=tmp_path / folder)
    assert objective.dim is None
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


def test_two_towers_of_one_encoder_have_weights_of_their_own(tmp_path):
    run = tiny(encoder=ConvNet([4, 8]), towers="independent", run_dir=tmp_path / "run")
    one, other = (run.run.module.towers.tower_of(v).encoder for v in range(2))
    assert not torch.equal(one.layers[0].weight, other.layers[0].weight)


def colours(n, side=16):
    return np.random.default_rng(0).integers(0, 256, (n, side, side, 3), dtype=np.uint8)


OWN = ["data.batch_size=16", "encoder.widths=[4,8]", *(o for o in SHORT if not o.startswith(("data", "encoder")))]


def test_images_may_be_arrays_with_or_without_labels(tmp_path):
    with_labels = ssl_mi.train(*OWN, data=(colours(60), [0, 1] * 30), run_dir=tmp_path / "a", quiet=True)
    assert with_labels.data.train.shape == (3, 16, 16)
    assert with_labels.data.has_labels
    without = ssl_mi.train(*OWN, "data.size=12", data=colours(60), run_dir=tmp_path / "b", quiet=True)
    assert not without.data.has_labels
    assert without.data.size == 12


def test_images_may_be_a_folder_whatever_it_is_called(tmp_path, monkeypatch):
    folder = tmp_path / "my photos, 'best'=1"
    for i, image in enumerate(colours(60)):
        place = folder / f"class {i % 2}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    run = ssl_mi.train(*OWN, "data.size=16", data=folder, quiet=True)
    assert run.folder.parts[:2] == ("runs", folder.name)
    assert run.data.class_names == ("class 0", "class 1")


def test_data_may_be_a_data_module_with_views_of_its_own(tmp_path):
    view = View([RandomResizedCrop(16)], count=2)
    source = ImageArrays(colours(60))
    data = ImageData(source, Augmentation([view], 16, [0.5] * 3, [0.2] * 3), 16, 16, [0.5] * 3, [0.2] * 3)
    own = [o for o in OWN if not o.startswith("data")]
    run = ssl_mi.train(*own, data=data, encoder="mlp", run_dir=tmp_path / "run", quiet=True)
    assert run.data is data
    assert run.encoder.in_shape == (3, 16, 16)


def test_two_runs_have_a_folder_each(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = {ssl_mi.train(*SHORT, quiet=True, name="mine").folder for _ in range(2)}
    assert len(folders) == 2
    assert all(folder.parts[:2] == ("runs", "mine") for folder in folders)


@pytest.mark.parametrize(
    ("overrides", "parts", "message"),
    [
        (["objectve=simclr"], {}, "there is no key 'objectve'.*did you mean 'objective'"),
        (
            ["objective.critic.temperature=1"],
            {},
            "no key 'objective.critic.temperature': did you mean 'objective.temperature'",
        ),
        (["+objective.critic=1"], {}, "SimCLR takes no 'critic' .*; it takes dim, temperature; remove it"),
        ([], {"objective": "simclrr"}, "there is no objective=simclrr.*did you mean 'simclr'"),
        (["objective.temperature=1"], {"objective": SimCLR()}, r"'objective.temperature=1' and an argument.*both set"),
        (["objective=mine"], {"objective": "simclr"}, "both set objective: give one of the two"),
        (["trainer.max_epochs=3"], {"max_epochs": 2}, "both set trainer.max_epochs"),
        (["data=digits"], {"data": colours(40)}, "both set data"),
        ([SimCLR()], {}, "overrides are strings, got SimCLR: give objects by name"),
        ([], {"objective": SimCLR(dim=7)}, r"SimCLR\(dim=7\) got embeddings of width 128"),
        ([], {"encoder": torch.nn.Flatten()}, "Flatten must have an int attribute `out_dim`"),
        ([], {"data": "no such folder"}, "data='no such folder' is neither a folder of images nor one of .*cifar10, "),
        ([], {"data": 3}, "data of type int: give a folder, an array of images"),
        (["optimizer.lr=-1"], {}, "optimizer.lr=-1: the learning rate is a positive number"),
    ],
)
def test_what_cannot_work_is_a_value_error_that_names_it(overrides, parts, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        ssl_mi.train(*overrides, run_dir=tmp_path / "run", quiet=True, **parts)
    assert not (tmp_path / "run").exists()


def test_a_folder_with_a_run_in_it_is_not_overwritten(finished):
    with pytest.raises(FileExistsError, match="holds a run already: choose another folder"):
        tiny(run_dir=finished.folder)


def test_an_interrupt_is_an_interrupt(tmp_path, monkeypatch):
    def stopped(*_):
        raise SystemExit(1)  # as Lightning ends when Ctrl-C is pressed

    monkeypatch.setattr(Objective, "check", stopped)
    with pytest.raises(KeyboardInterrupt):
        tiny(run_dir=tmp_path / "run")


def test_a_saved_configuration_of_objects_says_that_they_are_missing():
    with pytest.raises(ValueError, match=r"'encoder' was given as an object in Python"):
        given(part="encoder", type="ConvNet")
