"""The list of short runs covers every objective, and a run is judged by what is written."""

import math
import re

import pytest
from conftest import CONF
from omegaconf import OmegaConf
from specs import REGULARISERS

from ssl_mi.app import canaries
from ssl_mi.app.config_checks import check_arguments
from ssl_mi.app.main import main

LIST = OmegaConf.load(CONF / "canaries.yaml")


def test_every_objective_has_a_run():
    assert set(LIST.runs) == {path.stem for path in (CONF / "objective").glob("*.yaml")} - REGULARISERS


def test_the_page_that_helps_to_choose_shows_the_accuracies_that_are_written():
    page = (CONF.parent / "docs" / "choosing.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)`(?: \(digits\))? \|" + 6 * r"(.*)\|" + "$", page, re.MULTILINE)
    shown = {name: [float(cell) if cell.strip() else None for cell in cells] for name, *cells in rows}
    written = {}
    for name, row in ((name, row) for name, row in LIST.runs.items() if "accuracy" in row):
        more = row.get("measured", {})
        keys = ("seed", "random", "probe", "ksg", "seconds")
        written[name] = [row.accuracy, *(more.get(key) for key in keys)]
    assert shown == written
    without = {name for name, row in LIST.runs.items() if "accuracy" not in row}
    assert without == set(re.findall(r"`(\w+)`", re.search(r"No figure is written for (.*?), which", page)[1]))


@pytest.mark.parametrize("name", ["cmc", "dino", "moco_v3"])
def test_a_run_is_one_the_command_line_takes(configure, name):
    chosen = [f"objective={name}", *LIST.common, *LIST.runs[name].overrides]
    check_arguments(configure(*chosen, tiny=False))


def test_a_run_fails_near_the_random_encoder_and_away_from_the_accuracy_written():
    found = {"probe": 0.80, "random": 0.60}
    assert canaries.judge(found, math.nan, margin=0.1, tolerance=0.05) == "ok"
    assert canaries.judge(found, 0.84, margin=0.1, tolerance=0.05) == "ok"
    assert canaries.judge(found, 0.86, margin=0.1, tolerance=0.05) == "not within 0.05 of what is expected"
    assert canaries.judge(found, 0.80, margin=0.25, tolerance=0.05) == "not 0.25 above random"


def test_a_run_reads_probe_geometry_and_information_of_the_last_evaluation(monkeypatch):
    tiny = ["data.sets.train=400", "data.sets.test=120", "data.batch_size=32", "encoder.widths=[8]"]
    tiny += ["trainer.max_epochs=1", "trainer.accelerator=cpu", "trainer.devices=1"]
    found = canaries.measure("simclr", [*LIST.common, *tiny])
    assert set(found) == {"probe", "random", "rank_h", "rank_z", "uniformity", "ksg", "bound", "seconds"}
    assert 0 < found["random"] < 1
    assert 1 <= found["rank_h"] <= 8


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["simcl"], "no such run: simcl; there are simclr, infonce"),
        ([], "name objectives (simclr, mine, ...), or give --all"),
        (["trainer.max_epochs=1"], "name objectives"),
        (["simclr", "--all"], "not both"),
    ],
    ids=str,
)
def test_wrong_usage_is_named_before_anything_runs(capsys, words, message):
    with pytest.raises(SystemExit) as left:
        main(["canaries", *words])
    assert left.value.code == 2
    assert message in capsys.readouterr().err


def test_another_seed_is_held_against_its_own_untrained_network_only(monkeypatch, capsys):
    monkeypatch.setattr(canaries, "measure", lambda name, overrides: {"probe": 0.60, "random": 0.47})
    assert main(["canaries", "simclr"]) == 1  # .71 with seed 0
    assert main(["canaries", "simclr", "--seed", "1"]) == 0
    monkeypatch.setattr(canaries, "measure", lambda name, overrides: {"probe": 0.50, "random": 0.47})
    assert main(["canaries", "simclr", "--seed", "1"]) == 1


def test_with_overrides_a_run_is_not_judged(monkeypatch, capsys):
    asked = []

    def measure(name, overrides):
        asked.append((name, overrides[-2:]))
        return {"probe": 0.1, "random": 0.9}

    monkeypatch.setattr(canaries, "measure", measure)
    assert main(["canaries", "simclr", "trainer.max_epochs=1", "--seed", "3"]) == 0
    assert asked == [("simclr", ["seed=3", "trainer.max_epochs=1"])]
    assert "not judged" in capsys.readouterr().out
    assert main(["canaries", "simclr"]) == 1
