"""A run in a process of its own, killed at a step or left to end: python resume_run.py FOLDER KILL_AT OVERRIDES ..."""

import os
import signal
import sys
from pathlib import Path

import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir

from ssl_mi.app import startup as cli
from ssl_mi.app.runner import Run

CONF = Path(__file__).parent.parent / "conf"


class KillAt(pl.Callback):
    """Ends the process at once, as the system does when memory is short, after the callbacks of a step."""

    def __init__(self, step):
        self.step = step

    def on_train_batch_end(self, trainer, *rest):
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def main(folder, step, *overrides):
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        cfg = compose("train", [f"run_dir={folder}", *overrides])
    cli.check(cfg)
    cli.start(cfg)
    run = Run(cfg, cli.build(cfg, "data"), cli.build(cfg, "module"))
    run.trainer.callbacks.append(KillAt(int(step)))  # after the checkpoints
    run.trainer.fit(run.module, run.data, ckpt_path=cfg.ckpt_path, weights_only=True)
    if run.trainer.is_global_zero:
        torch.save(outcome(run), Path(folder) / "outcome.pt")


def outcome(run):
    """All that must not depend on a stop: weights, state of the optimizer, rows, history without times."""
    return {
        "weights": run.module.state_dict(),
        "optimizer": run.trainer.optimizers[0].state_dict(),
        "rows": [] if run.evaluate is None else [repr(row) for row in run.evaluate.rows],  # NaN is NaN in these
        "history": [{k: v for k, v in epoch.items() if "second" not in k} for epoch in run.history.epochs],
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
