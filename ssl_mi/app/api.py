"""A run of `train.py` from Python, in silence and without a trace: overrides in, the finished run out."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ssl_mi.app.runner import Run

CONF = Path(__file__).parents[2] / "conf"


def short_run(overrides: Sequence[str]) -> Run:
    """Train as `python train.py OVERRIDES` does, evaluations included, with nothing printed and no folder left.

    The run comes back trained: its `module`, its `data`, and in `evaluate.rows` what was measured. Any number of runs
    fit in one process, and each gives what it gives in a process of its own: the seed is set again before each.
    Mistakes in the overrides raise what they raise on the command line.
    """
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    from ssl_mi.app import startup as cli
    from ssl_mi.app.optimizer_choice import settle_optimizer

    with tempfile.TemporaryDirectory() as folder:
        GlobalHydra.instance().clear()
        with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
            chosen = [f"run_dir={folder}", "progress=none", *overrides]
            cfg = compose("train", chosen)
            note = settle_optimizer(cfg, chosen)
        cli.check(cfg)
        cli.start(cfg)
        run = Run(cfg, cli.build(cfg, "data"), cli.build(cfg, "module"), optimizer_note=note)
        with contextlib.redirect_stdout(io.StringIO()):  # the facts of each run would bury what its caller prints
            run.trainer.fit(run.module, run.data)
    return run


def last_reading(run: Run) -> dict[tuple[str, str], float]:
    """{(metric, encoder): value} of the evaluation at the end, on the test split; encoder: trained, random, pixels."""
    return {(row.metric, row.encoder): row.value for row in run.evaluate.rows if row.split == "test"}
