"""Runs in processes of their own that are sent signals: what they leave, and how they end."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from ssl_mi.app import processes
from ssl_mi.app.startup import run_stamp

ROOT = Path(__file__).parents[1]
TINY = [
    *("data.sets.train=300", "data.sets.test=60", "data.batch_size=30", "encoder.widths=[8]", "progress=lines"),
    *("trainer.accelerator=cpu", "trainer.max_epochs=500", "evaluation.every_n_epochs=0"),
    *(f"evaluation.evaluations.{name}=null" for name in ("mi", "capture", "linear_probe", "pictures")),
]


def start(folder, *overrides, **environment):
    """A run that is in its second epoch or a later one."""
    process = subprocess.Popen(
        [sys.executable, "-m", "ssl_mi", "train", *TINY, f"hydra.run.dir={folder}", *overrides],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    seen = []
    for line in process.stdout:
        seen.append(line)
        if line.startswith("epoch ") and not line.startswith("epoch 1/"):
            return process
    raise AssertionError("".join(seen))


def end(process):
    """(status, what it printed since)."""
    with process:
        said = process.stdout.read()
        return process.wait(timeout=120), said


def children(process):
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "devices"), [(signal.SIGTERM, 1), (signal.SIGUSR1, 1), (signal.SIGTERM, 2)])
def test_a_signal_leaves_a_checkpoint_and_a_report_and_the_status_of_the_signal(tmp_path, number, devices):
    several = ["trainer=ddp"] if devices > 1 else []
    process = start(tmp_path, *several, f"trainer.devices={devices}")
    process.send_signal(number)
    status, said = end(process)
    assert status == 128 + number
    assert "Traceback" not in said
    assert f"resume with the same command and ckpt_path={tmp_path / 'checkpoints' / 'last.ckpt'}" in said
    assert json.loads((tmp_path / "report.json").read_text())["ended"] == f"stopped: {number.name}"
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] > 0


@pytest.mark.slow
def test_a_second_signal_ends_the_run_at_once_without_a_traceback(tmp_path):
    process = start(tmp_path, "trainer.devices=1")
    process.send_signal(signal.SIGTERM)
    time.sleep(processes.PATIENCE / 5)
    process.send_signal(signal.SIGTERM)
    status, said = end(process)
    assert status in (128 + signal.SIGTERM, -signal.SIGTERM)
    assert "Traceback" not in said


@pytest.mark.slow
@pytest.mark.parametrize("which", ["the second", "the first"])
def test_a_run_that_lost_a_process_says_which_in_one_line(tmp_path, which):
    process = start(tmp_path, "trainer=ddp", "trainer.devices=2")
    (other,) = children(process)
    os.kill(other if which == "the second" else process.pid, signal.SIGKILL)
    _, said = end(process)
    errors = [line for line in said.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert (f"process 1 of 2 (pid {other}) was ended by SIGKILL" if which == "the second" else "is gone") in errors[0]
    assert "Traceback" not in said


@pytest.mark.slow
def test_a_job_of_slurm_is_requeued_and_goes_on_in_its_folder_by_the_same_command(tmp_path):
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    scontrol.chmod(0o755)
    job = {"SLURM_JOB_ID": "77", "SLURM_JOB_NAME": "ssl_mi", "PATH": f"{scontrol.parent}:{os.environ['PATH']}"}
    process = start(tmp_path / "run", "trainer.devices=1", **job)
    process.send_signal(signal.SIGUSR1)
    status, said = end(process)
    assert status == 128 + signal.SIGUSR1
    assert "SLURM job 77 is requeued" in said
    assert (tmp_path / "asked").read_text() == "requeue 77\n"
    before = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    again = start(tmp_path / "run", "trainer.devices=1", **job, SLURM_RESTART_COUNT="1")
    again.send_signal(signal.SIGTERM)
    assert end(again)[0] == 128 + signal.SIGTERM
    assert torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] > before


def test_outside_slurm_and_where_it_refuses_nothing_is_requeued(monkeypatch, tmp_path):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert processes.requeue() == ""
    monkeypatch.setenv("SLURM_JOB_ID", "5")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "job 5 is not requeued" in processes.requeue()
    monkeypatch.setenv("SLURM_JOB_ID", "5; rm -rf x")
    assert processes.requeue() == ""


def test_the_steps_of_one_allocation_have_folders_of_their_own(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "5")
    assert run_stamp() == "5"
    monkeypatch.setenv("SLURM_STEP_ID", "0")
    assert run_stamp() == "5"
    monkeypatch.setenv("SLURM_STEP_ID", "2")
    assert run_stamp() == "5.2"
