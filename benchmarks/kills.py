"""Runs that are killed at random places and resumed, against a run that was never stopped.

    python benchmarks/kills.py                                  every objective, 1 and 2 processes, ten kills each
    python benchmarks/kills.py --objectives simclr --processes 1 --kills 3

A run is ended by SIGKILL at a random step, before it, between its backward pass and the optimizer, or after it, resumed
by the same command with `ckpt_path=RUN`, and killed again, until it ends. Of several processes a random one is killed
by the run, and the others after it. The table has, for each objective and number of processes, the kills and the
largest difference of any weight, of any measurement and of any number in the history from those of the whole run.

Each start is a process of its own, forked from one that has imported the libraries and done nothing else.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import signal
import socket
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch

from ssl_mi.app.train import compose, prepare

OBJECTIVES = {
    "simclr": ["objective=simclr"],
    "mine": ["objective=mine", "objective_optimizer={_target_: torch.optim.Adam, _partial_: true, lr: 0.01}"],
    "moco": ["objective=moco", "objective.queue=112", "teacher=ema"],
    "byol": ["objective=byol", "teacher=ema", "teacher.momentum=0.5", "objective.predictor.hidden=8"],
    "swav": ["objective=swav", "towers=prototypes"],
    "dino": ["objective=dino", "teacher=ema", "towers=prototypes"],
    "deepcluster": ["objective=deepcluster", "objective.images=140", "objective.prototypes=8"],
}
TINY = [
    *("data=shapes", "data.sets.train=160", "data.sets.test=60", "data.batch_size=28", "encoder.widths=[8]"),
    *("trainer.accelerator=cpu", "trainer.max_epochs=4", "progress=none", "evaluation.every_n_epochs=1"),
    *("++checkpoint.every_n_train_steps=1", "logger=csv", "memory_check=off"),
    *(f"evaluation.evaluations.{name}=null" for name in ("mi", "capture", "linear_probe", "pictures")),
]
PLACES = ("on_train_batch_start", "on_after_backward", "on_train_batch_end")


class Kill(NamedTuple):
    """Where a run is killed: in which process, after how many steps, in which hook."""

    rank: int
    step: int
    place: str


class Killed(pl.Callback):
    """Ends this process by SIGKILL at one place."""

    def __init__(self, kill: Kill) -> None:
        def end(trainer: pl.Trainer, *rest: Any) -> None:
            if trainer.global_step == kill.step and trainer.global_rank == kill.rank:
                os.kill(os.getpid(), signal.SIGKILL)

        setattr(self, kill.place, end)


def child(folder: Path, kill: Kill | None, overrides: list[str]) -> None:
    """One run in this process, which is killed or comes to its end."""
    run = prepare(compose(overrides, run_dir=folder))
    run.quiet = True
    if kill is not None:
        run.trainer.callbacks.append(Killed(kill))  # type: ignore[attr-defined]  # after the checkpoints
    run.train()
    if run.trainer.is_global_zero:
        history = [{k: v for k, v in epoch.items() if "second" not in k} for epoch in run.history.epochs]
        rows = [row.value for row in run.evaluate.rows]
        torch.save({"weights": run.module.state_dict(), "rows": rows, "history": history}, folder / "end.pt")


def start(folder: Path, kill: Kill | None, overrides: list[str], processes: int) -> list[int]:
    """`child`, in processes of its own. Returns how each of them ended: 0, a status, or minus a signal."""
    port = _free_port()
    running = [
        _fork(folder, kill, overrides, {"rank": rank, "of": processes, "port": port}) for rank in range(processes)
    ]
    ended: dict[int, int] = {}
    while len(ended) < processes:
        pid, status = os.wait()
        ended[pid] = os.waitstatus_to_exitcode(status)
        if ended[pid]:  # the others would wait for it
            for other in set(running) - set(ended):
                os.kill(other, signal.SIGKILL)
    return [ended[pid] for pid in running]


def _fork(folder: Path, kill: Kill | None, overrides: list[str], group: dict[str, int]) -> int:
    """The pid of a process that runs `child` as one of a group; torchrun's variables say which."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        if group["of"] > 1:
            os.environ.update(
                {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(group["port"]), "TORCHELASTIC_RUN_ID": "kills"}
                | {"LOCAL_RANK": str(group["rank"]), "RANK": str(group["rank"]), "GROUP_RANK": "0"}
                | {"WORLD_SIZE": str(group["of"]), "LOCAL_WORLD_SIZE": str(group["of"])}
            )
        child(folder, kill, overrides)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def difference(one: dict[str, Any], other: dict[str, Any]) -> tuple[float, float, float]:
    """The largest of weights, rows and history; infinity where something is missing."""

    def largest(a: list[float], b: list[float]) -> float:
        if len(a) != len(b):
            return math.inf
        return max(
            (abs(x - y) for x, y in zip(a, b, strict=True) if not (math.isnan(x) and math.isnan(y))), default=0.0
        )

    weights = [float((v.double() - other["weights"][k].double()).abs().max()) for k, v in one["weights"].items()]
    history = [[float(epoch[name]) for epoch in run["history"] for name in sorted(epoch)] for run in (one, other)]
    return max(weights), largest(one["rows"], other["rows"]), largest(*history)


def killed_run(folder: Path, overrides: list[str], processes: int, steps: list[int], rng: random.Random) -> None:
    """Kill a run after each of these steps, at a random place of the next, and let it end."""
    for i, step in enumerate(steps):
        kill = Kill(rng.randrange(processes), step, rng.choice(PLACES))
        resume = [f"ckpt_path={folder}"] if i else []
        if -signal.SIGKILL not in start(folder, kill, [*overrides, *resume], processes):
            raise SystemExit(f"the run was not killed at {kill}")
    if any(start(folder, None, [*overrides, f"ckpt_path={folder}"], processes)):
        raise SystemExit("the resumed run failed")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objectives", nargs="+", default=list(OBJECTIVES), choices=list(OBJECTIVES))
    parser.add_argument("--processes", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    print("| objective | processes | kills | weights | measurements | history |")
    print("| --- | --- | --- | --- | --- | --- |", flush=True)
    for name in arguments.objectives:
        for processes in arguments.processes:
            several = ["trainer=ddp"] if processes > 1 else []
            overrides = [*TINY, *OBJECTIVES[name], *several, f"trainer.devices={processes}"]
            with tempfile.TemporaryDirectory() as place:
                whole, stopped = Path(place) / "whole", Path(place) / "stopped"
                if any(start(whole, None, overrides, processes)):
                    raise SystemExit("the whole run failed")
                steps = torch.load(whole / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
                places = sorted(rng.sample(range(1, steps), min(arguments.kills, steps - 1)))
                killed_run(stopped, overrides, processes, places, rng)
                both = [torch.load(run / "end.pt", weights_only=False) for run in (whole, stopped)]
            found = " | ".join(f"{x:.1e}" if x else "0" for x in difference(*both))
            print(f"| {name} | {processes} | {len(places)} | {found} |", flush=True)


if __name__ == "__main__":
    main()
