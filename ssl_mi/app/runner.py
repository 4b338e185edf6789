"""A run: its trainer, what is printed before and after it, and its report."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from ssl_mi import atomic
from ssl_mi.app.startup import build, check_checkpoint, first_process

if TYPE_CHECKING:
    from rich.console import Console

    from ssl_mi.app.memory import MemoryNeed

log = logging.getLogger(__name__)


class Run:
    """The trainer of a configuration, what is printed before and after it, and its report."""

    def __init__(self, cfg: DictConfig, data, module) -> None:
        from hydra.core.hydra_config import HydraConfig
        from hydra.types import RunMode
        from hydra.utils import instantiate
        from pytorch_lightning.callbacks import LambdaCallback

        from ssl_mi.callbacks.checkpoints import write_whole
        from ssl_mi.callbacks.history import History
        from ssl_mi.callbacks.loggers import Hyperparameters, as_loggers
        from ssl_mi.callbacks.progress import progress_bar
        from ssl_mi.callbacks.provenance import Provenance

        self.cfg, self.data, self.module = cfg, data, module
        self.folder = Path(cfg.run_dir)
        self.command = " ".join(sys.argv)  # the report shows it, to repeat the run
        self.quiet = False
        self.began = time.perf_counter()
        self.started = False  # training, with the data at hand
        bar = progress_bar(cfg.progress)
        self.history = History(lines=bar is None and cfg.progress != "none")
        self.evaluate = build(cfg, "evaluation")
        self.health = build(cfg, "health")
        self.need: MemoryNeed | None = None
        self.schedules = [part for part in (build(cfg, "schedules") or {}).values() if part is not None]
        announce = LambdaCallback(on_fit_start=lambda trainer, module: self._print_facts())
        config: Any = OmegaConf.to_container(cfg, resolve=True)
        parameters = Hyperparameters(config)
        self.provenance = Provenance(config, self.command)
        checkpoint = build(cfg, "checkpoint")
        parts = [*self.schedules, announce, parameters, self.provenance, self.history, self.health, self.evaluate]
        parts += [checkpoint, bar]
        callbacks = [part for part in parts if part is not None]
        logger = as_loggers(build(cfg, "logger"))
        self.trainer = instantiate(
            cfg.trainer,
            callbacks=callbacks,
            logger=logger,
            enable_progress_bar=bar is not None,
            _convert_="all",
        )
        write_whole(self.trainer)
        if first_process():
            self._remove_orphans()
        sweep = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
        if sweep and self.trainer.world_size > 1:
            raise ValueError(
                "a sweep (-m) runs its jobs in one process and cannot start several processes for each: use "
                "trainer.devices=1, or start the runs one by one"
            )
        if cfg.ckpt_path is not None:
            check_checkpoint(cfg.ckpt_path, module, self.trainer.max_epochs, cfg.optimizer.get("lr"))

    def facts(self) -> dict[str, Any]:
        """What counts, before a run."""
        from ssl_mi.data.sets import rare_classes

        trainer, module = self.trainer, self.module
        batch = self.data.batch_size * trainer.accumulate_grad_batches
        accumulated = trainer.accumulate_grad_batches
        split = f"{self.data.batch_size} images a step" + (
            f" over {trainer.world_size} processes" if trainer.world_size > 1 else ""
        )
        if accumulated > 1:
            split += f", {accumulated} steps accumulated: {batch} an update, negatives from one step"
        moving = [*module.describe_schedules(), *(schedule.describe(trainer.max_epochs) for schedule in self.schedules)]
        data = self.data
        rare = rare_classes({"labelled": data.labelled, "val": data.val, "test": data.test})
        return {
            "data": self.data.describe(),
            **({} if self.data.labelled.labels is not None else {"probes": "left out: the images have no labels"}),
            **({"rare classes": rare} if rare else {}),
            "views": self.data.describe_views().replace("\n", "; "),
            "forward passes": module.towers.forward_passes,
            **_described(module),
            **_started_from(module),
            "effective batch": split,
            "objective": module.objective.name,
            **module.objective.facts(self.data.batch_size),
            "optimizer": f"{module.describe_optimizer()} ({self.cfg.optimizer_note or 'as in the configuration'})",
            **({"schedules": "; ".join(moving)} if moving else {}),
            **_own_optimizer(module.make_objective_optimizer),
            "parameters": _count(module),
            "epochs": trainer.max_epochs,
            "devices": f"{trainer.world_size} x {trainer.accelerator.__class__.__name__.removesuffix('Accelerator')}",
            "precision": str(trainer.precision),
            **({} if self.need is None else {"memory": self.need.describe()}),
            "seed": self.cfg.seed,
        }

    def fit(self) -> None:
        """Train, from `ckpt_path` where the configuration names one, and write the report however it ends."""
        with self.reported():
            self.trainer.fit(self.module, self.data, ckpt_path=self.cfg.ckpt_path, weights_only=True)

    @contextmanager
    def reported(self) -> Iterator[None]:
        """However the run ends, write its report, unless it ends before it trains."""
        ended = "complete"
        try:
            yield
        except BaseException as error:
            # Lightning turns an interrupt into an exit.
            interrupted = isinstance(error, KeyboardInterrupt | SystemExit)
            ended = "stopped: interrupted" if interrupted else f"stopped: {type(error).__name__}: {error}"
            try:
                self._report(ended)
            except OSError as unwritten:  # what ended the run is told, not this
                print(f"the report is not written: {unwritten}", file=sys.stderr)
            raise
        else:
            self._report(ended)

    def _report(self, ended: str) -> None:
        if first_process() and self.started:
            self._close(ended)

    def _remove_orphans(self) -> None:
        """What was being written when an earlier process in this folder, or beside this checkpoint, was killed."""
        folders = {self.folder, self.folder / "checkpoints"}
        folders |= {Path(c.dirpath) for c in self.trainer.checkpoint_callbacks if getattr(c, "dirpath", None)}
        if self.cfg.ckpt_path is not None:
            folders.add(Path(self.cfg.ckpt_path).parent)
        for folder in folders:
            atomic.remove_orphans(folder)

    def _print_facts(self) -> None:
        from rich.text import Text

        self._estimate_memory()
        self.started = True
        if not first_process():
            return
        console = _console(quiet=self.quiet)
        for name, value in self.facts().items():
            console.print(Text.assemble((f"{name:>17}", "bold"), f"  {value}"), soft_wrap=True)

    def _has_cautions(self) -> bool:
        return self.health is not None and bool(self.health.cautions)

    def _estimate_memory(self) -> None:
        """Say what the run will need; refuse what would not fit, unless the configuration lets it start."""
        from ssl_mi.app import memory

        mode = self.cfg.get("memory_check", "off")
        if mode in ("off", False):
            return
        world = self.trainer.world_size
        self.need = memory.estimate(self.module, self.data, self.module.make_optimizer, world)
        try:
            memory.check(self.need, world)
        except ValueError as error:
            if mode == "stop":
                raise
            log.warning("%s", error)

    def _close(self, ended: str) -> None:
        from rich.table import Table

        from ssl_mi import report

        rows = [] if self.evaluate is None else [row.as_dict() for row in self.evaluate.rows]
        evaluated = {} if self.evaluate is None else self.evaluate.seconds
        seconds = time.perf_counter() - self.began
        history = self.history.epochs
        rates = sorted(h["images_per_second"] for h in history)
        facts = {
            "ended": ended,
            **({"cautions": [str(caution) for caution in self.health.cautions]} if self._has_cautions() else {}),
            "seconds": round(seconds, 1),
            "seconds of training epochs": round(sum(h["seconds"] for h in history), 1),
            "seconds of evaluation": {k: round(v, 2) for k, v in evaluated.items()},
            "images per second": round(rates[len(rates) // 2], 1) if rates else None,
            **(self.facts() if self.data.train is not None else {}),
            "images": self.data.report() if self.data.train is not None else {},
            "command": self.command,
            **report.environment(Path(__file__).parent),
        }
        config = OmegaConf.to_yaml(self.cfg, resolve=True)
        plots = [] if self.evaluate is None else self.evaluate.plots()
        title = f"{self.cfg.name}, seed {self.cfg.seed}"
        path = report.write(self.folder, title, facts, history, rows, config, plots)
        header, lines = report.closing_table(rows)
        console = _console(width=None if sys.stdout.isatty() else 160, quiet=self.quiet)
        if lines:
            table = Table(*header)
            for line in lines:
                table.add_row(*line)
            console.print(table)
        console.print(f"{ended}, {seconds:.0f} s; report: {path}", soft_wrap=True)
        last = self.folder / "checkpoints" / "last.ckpt"
        if ended != "complete" and last.exists():
            console.print(f"resume with the same command and ckpt_path={last}", soft_wrap=True)


def _console(width: int | None = None, quiet: bool = False) -> Console:
    """Prints texts as they stand: an error, a class or a folder may hold brackets and colons."""
    from rich.console import Console

    return Console(width=width, quiet=quiet, markup=False, emoji=False, highlight=False)


def _described(module: Any) -> dict[str, str]:
    """The encoders that describe themselves."""
    found = [part.describe() for part in module.towers.modules() if hasattr(part, "describe")]
    return {"encoder": "; ".join(dict.fromkeys(found))} if found else {}


def _started_from(module: Any) -> dict[str, str]:
    """What the encoders started from, where that is no draw."""
    found = [getattr(part, "started_from", None) for part in module.towers.modules()]
    starts = [start for start in found if start is not None]
    if not starts:
        return {}
    return {"starts from": "; ".join(starts) + "; 'random' in the tables is the encoder as it starts"}


def _own_optimizer(make: Callable[..., Any] | None) -> dict[str, str]:
    if make is None:
        return {}
    import torch

    optimizer = make([{"params": [torch.nn.Parameter(torch.zeros(1))]}])
    return {"objective's optimizer": f"{type(optimizer).__name__}, learning rate {optimizer.param_groups[0]['lr']:g}"}


def _count(module) -> str:
    def of(part) -> str:
        return f"{sum(p.numel() for p in part.parameters() if p.requires_grad):,}"

    return f"{of(module.towers)} in the towers, {of(module.objective)} in the objective"
