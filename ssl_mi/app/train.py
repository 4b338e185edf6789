"""From overrides to a finished run: the one path behind `ssl-mi train`, `train.py` and training from Python."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from ssl_mi.app.paths import PAGE, conf_dir
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
        hydra.errors.HydraException: If an override fits nothing that there is.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    # Hydra names the folder of a run only in a process that it has started itself.
    folder = "runs/${name}/${run_stamp:}" if run_dir is None else str(run_dir)
    first = [f"run_dir={_quoted(folder)}"]
    if config_dir is not None:
        first.append(f"hydra.searchpath=[{_quoted(f'file://{Path(config_dir).absolute()}')}]")
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        return hydra_compose(PAGE, [*first, *overrides])


def _quoted(text: str) -> str:
    """A text as a quoted value of Hydra's grammar."""
    return "'" + text.replace("'", r"\'") + "'"


def prepare(cfg: DictConfig) -> Run:
    """Check a configuration, seed, and build what it names: a run that has not begun.

    Raises:
        ValueError: If the configuration cannot work; the message names the key.
        hydra.errors.InstantiationException: If a part refuses its arguments.
    """
    from ssl_mi.app.runner import Run

    check(cfg)
    start(cfg)
    return Run(cfg, build(cfg, "data"), build(cfg, "module"))


def run_training(cfg: DictConfig) -> Run:
    """Train as the configuration says, evaluations included.

    Returns:
        The finished run: its `module`, its `data`, in `evaluate.rows` what was measured, in `folder` its files.

    Raises:
        ValueError: If the configuration cannot work; the message names the key.
        ssl_mi.module.NotFinite: If the loss leaves the finite numbers.
    """
    run = prepare(cfg)
    run.fit()
    return run
