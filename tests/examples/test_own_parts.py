"""The example of parts of one's own, run as its README says, in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "own_parts"
SHORT = ["trainer.max_epochs=1", "data.sets.train=160", "data.sets.test=60", "data.batch_size=32", "progress=none"]
SHORT += ["evaluation.every_n_epochs=0", "evaluation.evaluations.mi=null", "evaluation.evaluations.pictures=null"]


@pytest.fixture
def train(tmp_path):
    """`ssl-mi train --config-dir my_conf experiment=mine` with further overrides, beside a copy of the example."""
    for part in ("mypackage", "my_conf"):
        (tmp_path / part).symlink_to(EXAMPLE / part)

    def run(*overrides):  # -P: as with the script, the current folder is on the path only where the command puts it
        command = [sys.executable, "-P", "-m", "ssl_mi", "train", "--config-dir", "my_conf", "experiment=mine"]
        return subprocess.run(
            [*command, *SHORT, *overrides],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


def test_an_objective_an_encoder_data_and_an_evaluation_of_ones_own_train(train, tmp_path):
    done = train("encoder.depth=2", "objective.spread=0.5", "trainer.accelerator=cpu")  # neither is in the YAML
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("runs/mine/*/report.json")
    report = json.loads(path.read_text())
    assert report["objective"] == "align_and_spread"
    assert report["data"].startswith("stripes: ")
    assert report["ended"] == "complete"
    units = {row["encoder"]: row["value"] for row in report["rows"] if row["metric"] == "active_units"}
    assert set(units) == {"trained", "random"}
    assert all(0 < value <= 1 for value in units.values())
    assert report["history"][0]["train/spread"] > 0


def test_their_keys_are_checked_as_all_others(train):
    done = train("encoder.widht=8")
    assert done.returncode == 1
    assert "error: there is no key 'encoder.widht': did you mean 'encoder.width'?" in done.stderr
    done = train("objective=align_and_spraed")
    assert "did you mean 'align_and_spread'?" in done.stderr
