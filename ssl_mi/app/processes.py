"""The other processes of a run: which of them is gone, in one line, and SLURM's requeue."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PATIENCE = 3.0  # seconds in which a process that broke a connection is seen to have ended


class LostProcess(RuntimeError):
    """Another process of the run is gone, and with it the run."""


@contextmanager
def one_line_for_a_lost_process(trainer: Any) -> Iterator[None]:
    """Within, a failed communication is a `LostProcess` that names the process which is gone.

    Args:
        trainer: Of the run.
    """
    parent = os.getppid()
    try:
        yield
    except RuntimeError as error:
        if trainer.world_size == 1 or not _of_communication(error):
            raise
        _stop_watching()
        raise LostProcess(_who(trainer, parent, error)) from error


def _of_communication(error: BaseException) -> bool:
    """Whether torch raised it where processes exchange something: in a collective, or in the backward pass of DDP."""
    import torch

    inside = Path(torch.__file__).parent
    files = [Path(frame.filename) for frame in traceback.extract_tb(error.__traceback__)]
    places = {
        name for file in files if inside in file.parents for name in file.relative_to(inside).with_suffix("").parts
    }
    return type(error) is not RuntimeError or bool({"distributed", "autograd"} & places)


def _who(trainer: Any, parent: int, error: BaseException) -> str:
    children = list(getattr(trainer.strategy.launcher, "procs", ()))
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        for rank, child in enumerate(children, 1):
            status = child.poll()
            if status:
                return f"process {rank} of {trainer.world_size} (pid {child.pid}) {_ended(status)}; so the run ends"
        if os.getppid() != parent:
            return f"process 0 of {trainer.world_size} (pid {parent}) is gone; so process {trainer.global_rank} ends"
        time.sleep(0.1)
    said = (str(error).strip().splitlines() or [""])[0]
    return f"process {trainer.global_rank} of {trainer.world_size} has lost the others, which ended or hang: {said}"


def _ended(status: int) -> str:
    if status > 0:
        return f"ended with status {status}, its own message says why"
    name = signal.Signals(-status).name
    return f"was ended by {name}" + (", as the system does when memory is short" if name == "SIGKILL" else "")


def _stop_watching() -> None:
    """Have Lightning's observer of child processes not kill this one while it writes its report."""
    for thread in threading.enumerate():
        if thread.name == "child-process-observer":
            vars(thread)["_child_processes"] = []


def requeue() -> str:
    """Ask SLURM to start this job again, with the same command; it goes on from its newest checkpoint.

    Returns:
        What happened, in words; "" outside a SLURM batch job.
    """
    job = os.environ.get("SLURM_JOB_ID", "")
    if os.environ.get("SLURM_ARRAY_JOB_ID"):
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ.get('SLURM_ARRAY_TASK_ID', '')}"
    if not re.fullmatch(r"[0-9]+(_[0-9]+)?", job) or os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive"):
        return ""
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"SLURM job {job} is not requeued: {error}"
    if done.returncode:
        return f"SLURM job {job} is not requeued: scontrol: {' '.join(done.stderr.split())}"
    return f"SLURM job {job} is requeued: it goes on from its newest checkpoint"
