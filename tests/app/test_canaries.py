"""The list of short runs covers every objective, and a run is judged by what is written."""

import math

import pytest
from conftest import CONF
from omegaconf import OmegaConf

from ssl_mi.app import canaries
from ssl_mi.app import config_checks as overrides

LIST = OmegaConf.load(CONF / "canaries.yaml")


def test_every_objective_has_a_run():
    assert set(LIST.runs) == {path.stem for path in (CONF / "objective").glob("*.yaml")}


@pytest.mark.parametrize("name", ["cmc", "dino", "moco_v3"])
def test_a_run_is_one_the_command_line_takes(configure, name):
    chosen = [f"objective={name}", *LIST.common, *LIST.runs[name].overrides]
    overrides.check_arguments(configure(*chosen, tiny=False))


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


def test_an_unknown_name_is_refused_with_those_there_are(capsys):
    with pytest.raises(SystemExit):
        canaries.main(["simcl"])
    assert "no such run: simcl; there are simclr, infonce" in capsys.readouterr().err
