"""Runs over several nodes, and in processes that Lightning starts otherwise."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

ROOT = Path(__file__).parents[1]
TINY = [
    *("data.batch_size=28", "encoder=convnet", "encoder.widths=[8]", "trainer.accelerator=cpu"),
    *("trainer.max_epochs=2", "progress=none", "evaluation.every_n_epochs=0", "data.num_workers=0"),
    *(f"evaluation.evaluations.{name}=null" for name in ("mi", "capture", "linear_probe", "pictures")),
]


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def photos(folder):
    for i in range(120):
        path = folder / "train" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    return folder


def weights(folder):
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


@pytest.mark.slow
def test_two_nodes_of_torchrun_give_one_run_that_is_the_run_of_one_process(tmp_path):
    """The script of the examples, twice on this machine."""
    settings = [*TINY, "data.size=16", "augmentation=simclr"]
    common = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "DATA": str(photos(tmp_path / "photos"))}
    nodes = {"HEAD": "127.0.0.1", "PORT": str(free_port()), "NODES": "2", "GPUS": "1", "RUN": "two", "RESTARTS": "0"}
    (tmp_path / "runs").mkdir()
    started = [
        subprocess.Popen(
            ["bash", str(ROOT / "examples" / "clusters" / "torchrun.sh"), *settings],
            env={**common, **nodes, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
            cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    said = [process.communicate(timeout=170)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    (report,) = (tmp_path / "runs").rglob("report.json")  # one folder, written by the first process alone
    assert report.parent.name == "two"
    assert json.loads(report.read_text())["devices"] == "2 x CPU"
    alone = [sys.executable, "-m", "ssl_mi", "train", "data=image_folder", f"data.root={common['DATA']}", *settings]
    subprocess.run([*alone, "trainer.devices=1", f"hydra.run.dir={tmp_path / 'one'}"], env=common, check=True)
    one, two = weights(tmp_path / "one"), weights(report.parent)
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-4)  # float32, sums in another order


NOTEBOOK = """
import sys, ssl_mi
found = ssl_mi.train("trainer.strategy=ddp_notebook", "trainer.devices=2", *sys.argv[2:], run_dir=sys.argv[1])
print("MEASURED", sorted({row.encoder for row in found.run.evaluate.rows}), len(found.run.history.epochs))
"""


@pytest.mark.slow
def test_processes_of_a_notebook_bring_back_what_they_measured(tmp_path):
    """In a program without `if __name__ == "__main__"`, as a notebook is."""
    settings = [*TINY, "data.sets.train=160", "data.sets.test=60"]
    done = subprocess.run(
        [sys.executable, "-c", NOTEBOOK, tmp_path / "run", *settings],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=170,
        check=True,
    )
    assert "MEASURED ['pixels', 'random', 'trained'] 2" in done.stdout
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["ended"] == "complete"
    assert {row["encoder"] for row in report["rows"]} == {"pixels", "random", "trained"}
    assert not (tmp_path / "run" / ".handed_back.pt").exists()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.strategy=fsdp", "divides the weights among processes.*use trainer=ddp"),
        ("trainer.strategy=deepspeed_stage_2", "divides the weights among processes"),
        ("trainer.strategy=ddp_spawn", "by pickle.*ddp_notebook in a notebook"),
        ("trainer.num_nodes=1000000007", "cannot be split evenly over 1000000007"),
        ("augmentation.size=1000000007", "augmentation.size=1000000007: the side of an image"),
    ],
)
def test_what_cannot_run_in_several_processes_is_refused_before_it_starts(configure, tmp_path, override, message):
    from ssl_mi.app.train import prepare

    with pytest.raises(ValueError, match=message):
        prepare(configure(override, "trainer.accelerator=cpu", f"run_dir={tmp_path}"))
