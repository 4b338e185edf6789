"""From overrides to a finished run: the one path behind `ssl-mi train`, `train.py` and training from Python."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from ssl_mi.app.composition import Sources, quoted
from ssl_mi.app.config_checks import accepted
from ssl_mi.app.data_choice import settle, with_data_defaults
from ssl_mi.app.startup import build, check, start

if TYPE_CHECKING:
    from ssl_mi.app.runner import Run


def compose(
    overrides: Sequence[str], run_dir: str | Path | None = None, config_dir: str | Path | None = None
) -> DictConfig:
    """The configuration of one run, as the command line composes it.

    Args:
        overrides: What one writes after `ssl-mi train`: `group=option` and `key=value`.
        run_dir: The folder of the run, unless an override names it. Default: runs/NAME/TIME in the current folder.
        config_dir: A folder of further configurations, as `--config-dir`.

    Returns:
        The page of conf/train.yaml with every choice made; `run_training` takes it.

    Raises:
        ValueError: If an override fits nothing that there is; the message names the nearest.
        hydra.errors.HydraException: If Hydra cannot compose them.
    """
    sources = Sources.default(config_dir)
    sources.check()
    # Hydra names the folder of a run only in a process that it has started itself.
    folder = "runs/${name}/${run_stamp:}" if run_dir is None else str(run_dir)
    return sources.compose([f"run_dir={quoted(folder)}", *accepted(sources, with_data_defaults(overrides))])


def prepare(cfg: DictConfig) -> Run:
    """Check a configuration, seed, and build what it names: a run that has not begun.

    Raises:
        ValueError: If the configuration cannot work; the message names the key.
        hydra.errors.InstantiationException: If a part refuses its arguments.
    """
    from ssl_mi.app.runner import Run

    check(cfg)
    start(cfg)
    settle(cfg)
    return Run(cfg, build(cfg, "data"), build(cfg, "module"))


def run_training(cfg: DictConfig) -> Run:
    """Train as the configuration specifies, evaluations included.

    Returns:
        The finished run: its `module`, its `data`, in `evaluate.rows` what was measured, in `folder` its files.

    Raises:
        ValueError: If the configuration cannot work; the message names the key.
        ssl_mi.finite.NotFinite: If the loss leaves the finite numbers.
    """
    run = prepare(cfg)
    run.fit()
    return run


def main(argv: Sequence[str] | None = None) -> int:
    """`ssl-mi train ...` -> its exit status. argv: flags of Hydra and overrides; default: those of this process."""
    from ssl_mi.app.hydra_command import run

    return run(sys.argv[1:] if argv is None else argv, prepare)
