"""Runs that are killed at random steps and resumed, against a run that was never stopped.

    python benchmarks/kills.py                                  every objective, 1 and 2 processes, ten kills each
    python benchmarks/kills.py --objectives simclr --processes 1 --kills 3

A run is ended by SIGKILL after a random step, resumed by the same command with `ckpt_path=RUN`, and killed again, until
it ends. The table has, for each objective and number of processes, the kills and the largest difference of any weight,
of any measurement and of any number in the history from those of the whole run.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

OBJECTIVES = {
    "simclr": ["objective=simclr"],
    "mine": ["objective=mine", "objective_optimizer={_target_: torch.optim.Adam, _partial_: true, lr: 0.01}"],
    "moco": ["objective=moco", "objective.size=112", "teacher=ema"],
    "byol": ["objective=byol", "teacher=ema", "teacher.momentum=0.5", "objective.predictor.hidden=8"],
    "swav": ["objective=swav", "towers=prototypes"],
    "dino": ["objective=dino", "teacher=ema", "towers=prototypes"],
    "deepcluster": ["objective=deepcluster", "objective.images=140", "objective.prototypes=8"],
}
TINY = [
    *("data=shapes", "data.sets.train=160", "data.sets.test=60", "data.batch_size=28", "encoder.widths=[8]"),
    *("trainer.accelerator=cpu", "trainer.max_epochs=4", "progress=none", "evaluation.every_n_epochs=1"),
    *("++checkpoint.every_n_train_steps=1", "logger=csv"),
    *(f"evaluation.evaluations.{name}=null" for name in ("mi", "capture", "linear_probe", "pictures")),
]
STEPS = 20  # 5 an epoch


def child(folder: str, step: int, overrides: list[str]) -> None:
    """One run in this process, ended by SIGKILL after a step, or left to end (0)."""
    import pytorch_lightning as pl
    import torch

    from ssl_mi.app.train import compose, prepare

    class Kill(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *rest: Any) -> None:
            if trainer.global_step == step:
                os.kill(os.getpid(), signal.SIGKILL)

    run = prepare(compose(overrides, run_dir=folder))
    run.trainer.callbacks.append(Kill())  # type: ignore[attr-defined]  # after the checkpoints
    run.train()
    if run.trainer.is_global_zero:
        history = [{k: v for k, v in epoch.items() if "second" not in k} for epoch in run.history.epochs]
        rows = [row.value for row in run.evaluate.rows]
        torch.save({"weights": run.module.state_dict(), "rows": rows, "history": history}, Path(folder) / "end.pt")


def start(folder: Path, step: int, overrides: list[str]) -> subprocess.CompletedProcess[str]:
    """`child`, in a process of its own."""
    words = [sys.executable, __file__, "--child", str(folder), str(step), *overrides]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def difference(one: dict[str, Any], other: dict[str, Any]) -> tuple[float, float, float]:
    """The largest of weights, rows and history; infinity where something is missing."""

    def largest(a: list[float], b: list[float]) -> float:
        if len(a) != len(b):
            return math.inf
        return max(
            (abs(x - y) for x, y in zip(a, b, strict=True) if not (math.isnan(x) and math.isnan(y))), default=0.0
        )

    weights = [float((v.double() - other["weights"][k].double()).abs().max()) for k, v in one["weights"].items()]
    history = [[float(x) for epoch in run["history"] for x in epoch.values()] for run in (one, other)]
    return max(weights), largest(one["rows"], other["rows"]), largest(*history)


def killed_run(folder: Path, overrides: list[str], kills: int, rng: random.Random) -> int:
    """Kill a run up to so many times at random steps, and let it end. Returns how often it was killed."""
    steps = sorted(rng.sample(range(1, STEPS), min(kills, STEPS - 1)))
    done = 0
    for step in [*steps, 0]:
        resume = [f"ckpt_path={folder}"] if done else []
        ended = start(folder, step, [*overrides, *resume])
        if step == 0 and ended.returncode:
            raise SystemExit(f"the resumed run failed:\n{ended.stderr[-2000:]}")
        done += step > 0
    return done


def main() -> None:
    """Print the table."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objectives", nargs="+", default=list(OBJECTIVES), choices=list(OBJECTIVES))
    parser.add_argument("--processes", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    print("| objective | processes | kills | weights | measurements | history |\n|---|---|---|---|---|---|", flush=True)
    for name in arguments.objectives:
        for processes in arguments.processes:
            several = ["trainer=ddp"] if processes > 1 else []
            overrides = [*TINY, *OBJECTIVES[name], *several, f"trainer.devices={processes}"]
            with tempfile.TemporaryDirectory() as place:
                whole, stopped = Path(place) / "whole", Path(place) / "stopped"
                ended = start(whole, 0, overrides)
                if ended.returncode:
                    raise SystemExit(ended.stderr[-2000:])
                kills = killed_run(stopped, overrides, arguments.kills, rng)
                both = [torch.load(run / "end.pt", weights_only=False) for run in (whole, stopped)]
            found = " | ".join(f"{x:.1e}" if x else "0" for x in difference(*both))
            print(f"| {name} | {processes} | {kills} | {found} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], int(sys.argv[3]), sys.argv[4:])
    else:
        main()
