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
from ssl_mi.app import precision, resuming
from ssl_mi.app.processes import one_line_for_a_lost_process, requeue
from ssl_mi.app.run_folders import remove_bare
from ssl_mi.app.startup import build, first_process

if TYPE_CHECKING:
    from rich.console import Console

    from ssl_mi.app.memory import MemoryNeed

log = logging.getLogger(__name__)


class Run:
    """The trainer of a configuration, what is printed before and after it, and its report."""

    def __init__(self, cfg: DictConfig, data: Any, module: Any) -> None:
        self.cfg, self.data, self.module = cfg, data, module
        self.folder = Path(cfg.run_dir)
        self.command = " ".join(sys.argv)  # the report shows it, to repeat the run
        self.quiet = False
        self.began = time.perf_counter()
        self.started = False  # training, with the data at hand
        self.made = not self.folder.exists()  # by this run
        self.resumed = resuming.find(cfg)
        precision.settle(cfg, data, module, {} if self.resumed is None else self.resumed.config())
        self.evaluate = build(cfg, "evaluation")
        self.health = build(cfg, "health")
        self.need: MemoryNeed | None = None
        self.schedules = [part for part in (build(cfg, "schedules") or {}).values() if part is not None]
        self._build_trainer()
        self._refuse_what_cannot_run()
        if self.resumed is not None:
            self.resumed.check(module, self.trainer.callbacks, self.trainer.max_epochs)

    def _build_trainer(self) -> None:
        from hydra.utils import instantiate
        from pytorch_lightning.callbacks import LambdaCallback

        from ssl_mi.app.continued_logs import build_loggers
        from ssl_mi.callbacks.checkpoints import finish_after_resume, write_whole
        from ssl_mi.callbacks.continued_log import ContinuedLog
        from ssl_mi.callbacks.handed_back import HandedBack
        from ssl_mi.callbacks.history import History
        from ssl_mi.callbacks.loggers import Hyperparameters, as_loggers
        from ssl_mi.callbacks.progress import progress_bar
        from ssl_mi.callbacks.provenance import Provenance
        from ssl_mi.callbacks.stopping import StopOnSignal

        cfg = self.cfg
        config: Any = OmegaConf.to_container(cfg, resolve=True)
        bar = progress_bar(cfg.progress)
        self.history = History(lines=bar is None and cfg.progress != "none")
        announce = LambdaCallback(
            on_fit_start=lambda trainer, module: self._print_facts(),
            on_train_start=lambda trainer, module: self._remove_overwritten(),
        )
        self.provenance = Provenance(config, self.command)
        checkpoint = build(cfg, "checkpoint")
        self.stop = StopOnSignal(getattr(checkpoint, "dirpath", None) or self.folder / resuming.CHECKPOINTS)
        self.log = ContinuedLog(self.folder, *self._earlier())
        self.handed_back = HandedBack(self.folder)
        parts = [self.stop.first, *self.schedules, announce, self.log, Hyperparameters(config), self.provenance]
        parts += [self.history, self.health, self.evaluate, *self._changed_optimizer(), self.stop, checkpoint, bar]
        parts.append(self.handed_back)
        self.trainer: Any = instantiate(
            cfg.trainer,
            callbacks=[part for part in parts if part is not None],
            logger=as_loggers(build_loggers(cfg, None if self.resumed is None else self.resumed.checkpoint)),
            enable_progress_bar=bar is not None,
            _convert_="all",
        )
        write_whole(self.trainer)
        finish_after_resume(self.trainer)

    def _earlier(self) -> tuple[Path, Any] | tuple[()]:
        """The run that this one goes on with: its folder, and the checkpoint."""
        if self.resumed is None:
            return ()
        if self.evaluate is not None and self.resumed.same_evaluation():
            self.evaluate.earlier_folder = self.resumed.run
        return self.resumed.run, self.resumed.checkpoint

    def _changed_optimizer(self) -> list[Any]:
        from ssl_mi.callbacks.checkpoints import ChangedOptimizer

        settings = [] if self.resumed is None else self.resumed.optimizer_changes()
        return [ChangedOptimizer(settings)] if settings else []

    def _refuse_what_cannot_run(self) -> None:
        from hydra.core.hydra_config import HydraConfig
        from hydra.types import RunMode

        from ssl_mi.data.sampler import check_batch_size

        sweep = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
        if sweep and self.trainer.world_size > 1:
            raise ValueError(
                "a sweep (-m) runs its jobs in one process and cannot start several processes for each: use "
                "trainer.devices=1, or start the runs one by one"
            )
        if getattr(self.trainer.strategy, "_start_method", None) in ("spawn", "forkserver"):
            raise ValueError(
                f"trainer.strategy={self.cfg.trainer.strategy} would give the run to its processes by pickle, which "
                "its parts do not allow: use ddp, or ddp_notebook in a notebook"
            )
        try:
            self.module.describe_optimizer()
        except (ValueError, TypeError) as error:  # torch names no key of ours
            raise ValueError(f"{error}: set another value for that key of optimizer") from error
        if hasattr(self.data, "batch_size"):  # before the processes wait for each other
            check_batch_size(self.data.batch_size, world=self.trainer.world_size)

    @property
    def kind(self) -> str:
        """What the samples of the data are called."""
        return getattr(self.data, "kind", "samples")

    def facts(self) -> dict[str, Any]:
        """What counts, before a run."""
        from ssl_mi.data.sets import rare_classes

        trainer, module = self.trainer, self.module
        batch = self.data.batch_size * trainer.accumulate_grad_batches
        accumulated = trainer.accumulate_grad_batches
        split = f"{self.data.batch_size} {self.kind} a step" + (
            f" over {trainer.world_size} processes" if trainer.world_size > 1 else ""
        )
        if accumulated > 1:
            split += f", {accumulated} steps accumulated: {batch} an update, negatives from one step"
        moving = [*module.describe_schedules(), *(schedule.describe(trainer.max_epochs) for schedule in self.schedules)]
        data = self.data
        rare = rare_classes({"labelled": data.labelled, "val": data.val, "test": data.test})
        return {
            **({} if self.resumed is None else {"resumed from": self.resumed.describe()}),
            "data": self.data.describe(),
            **(
                {} if self.data.labelled.labels is not None else {"probes": f"left out: the {self.kind} have no labels"}
            ),
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
            "precision": str(trainer.precision) + (f" ({note})" if (note := self.cfg.get("precision_note")) else ""),
            **({} if self.need is None else {"memory": self.need.describe()}),
            "seed": self.cfg.seed,
        }

    def fit(self) -> None:
        """Train, from `ckpt_path` where the configuration names one, and write the report however it ends."""
        from ssl_mi.callbacks.stopping import Stopped

        try:
            with self.reported(), one_line_for_a_lost_process(self.trainer):
                self.train()
        except Stopped as stopped:
            if stopped.signal.name == "SIGUSR1" and first_process():
                said = requeue()  # last: SLURM ends the job at once
                if said:
                    print(said, flush=True)
            raise
        finally:
            self.stop.release()
            if self.made and not self.started and first_process():
                remove_bare(self.folder)

    def train(self) -> None:
        """Train without a report."""
        path = None if self.resumed is None else self.resumed.path
        if first_process():
            self._prepare_folder()
        if self.resumed is not None:
            self.resumed.checkpoint = {}  # Lightning reads it again: two of them would double the memory
        self.trainer.fit(self.module, self.data, ckpt_path=path, weights_only=True)
        self._take_what_other_processes_measured()

    def _take_what_other_processes_measured(self) -> None:
        from ssl_mi.callbacks.handed_back import in_other_processes

        if in_other_processes(self.trainer):
            self.handed_back.take(self.trainer)
            self.data.setup("fit")
            self.started = True

    @contextmanager
    def reported(self) -> Iterator[None]:
        """However the run ends, write its report, unless it ends before it trains."""
        ended = "complete"
        try:
            yield
        except BaseException as error:
            ended = _how_it_ended(error)
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

    def _prepare_folder(self) -> None:
        """Remove what an earlier run was writing when it was killed."""
        self.log.read(self.trainer)
        folders = {self.folder, self.folder / resuming.CHECKPOINTS}
        folders |= {Path(c.dirpath) for c in self.trainer.checkpoint_callbacks if getattr(c, "dirpath", None)}
        if self.resumed is not None:
            folders.add(self.resumed.path.parent)
        for folder in folders:
            atomic.remove_orphans(folder)
        if self.resumed is not None and self.resumed.run != self.folder.absolute():
            # This run's from the first moment: it may be stopped before it writes one, or have only to be evaluated.
            atomic.write(self.folder / resuming.CHECKPOINTS / "last.ckpt", self.resumed.path.read_bytes())

    def _remove_overwritten(self) -> None:
        """Remove the run that this one overwrites, now that this one has started: a failed start leaves it."""
        own = self.resumed is not None and self.resumed.run == self.folder.absolute()
        if first_process() and self.cfg.overwrite and not own:
            kept = self.folder / resuming.CHECKPOINTS / "last.ckpt" if self.resumed is not None else None
            resuming.remove_run(self.folder, kept)

    def _print_facts(self) -> None:
        from ssl_mi.app.closing import print_facts

        self._check_accumulation()
        self._estimate_memory()
        self.started = True
        if first_process():
            print_facts(_console(quiet=self.quiet), self.facts())

    def _check_accumulation(self) -> None:
        """Lightning ends an update with the epoch: refuse more batches than it has, and name a last one of fewer."""
        accumulated, samples = self.trainer.accumulate_grad_batches, getattr(self.data.train, "__len__", None)
        if accumulated == 1 or samples is None:
            return
        batches, limit = samples() // self.data.batch_size, self.trainer.limit_train_batches
        batches = int(batches * limit) if isinstance(limit, float) else min(batches, limit)
        if accumulated > batches:
            raise ValueError(
                f"trainer.accumulate_grad_batches={accumulated}: an epoch has {batches} batches and an update ends "
                f"with it, so that its gradient would be the sum of {batches}, divided by {accumulated}; use {batches} "
                "or fewer"
            )
        if (rest := batches % accumulated) and first_process():
            log.warning(
                "trainer.accumulate_grad_batches=%d does not divide the %d batches of an epoch: the last update of "
                "each is of %d of them, with a gradient that is divided by %d",
                *(accumulated, batches, rest, accumulated),
            )

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
        from ssl_mi import report
        from ssl_mi.app.closing import print_table

        rows = [] if self.evaluate is None else [row.as_dict() for row in self.evaluate.rows]
        evaluated = {} if self.evaluate is None else self.evaluate.seconds
        seconds = time.perf_counter() - self.began
        history = self.history.epochs
        rates = sorted(h["images_per_second"] for h in history)
        facts = {
            "ended": ended,
            "seconds": round(seconds, 1),
            "seconds of training epochs": round(sum(h["seconds"] for h in history), 1),
            "seconds of evaluation": {k: round(v, 2) for k, v in evaluated.items()},
            f"{self.kind} per second": round(rates[len(rates) // 2], 1) if rates else None,
            **(self.facts() if self.data.train is not None else {}),
            "images": self.data.report() if self.data.train is not None else {},
            "command": self.command,
            "cautions": [
                {"code": caution.code, "message": caution.message}
                for callback in self.trainer.callbacks
                for caution in getattr(callback, "cautions", ())
            ],
            **report.environment(Path(__file__).parent),
        }
        config = OmegaConf.to_yaml(self.cfg, resolve=True)
        plots = [] if self.evaluate is None else self.evaluate.plots()
        title = f"{self.cfg.name}, seed {self.cfg.seed}"
        explained = {} if self.evaluate is None else self.evaluate.explained()
        written = report.write(self.folder, title, facts, history, rows, config, plots, explained)
        console = _console(quiet=self.quiet)
        print_table(console, *report.short_table(rows, explained))
        state, why = written.ending
        told = f"{state}: {why}" if state == report.DIVERGED else ended
        console.print(f"{told}, {seconds:.0f} s; report: {written.page}", soft_wrap=True)
        if ended != "complete":
            console.print(self._how_to_go_on(), soft_wrap=True)

    def _how_to_go_on(self) -> str:
        """Advice for a run that did not end; never another run's checkpoint."""
        own = resuming.in_folder(self.folder)
        if not own:
            return "it has no checkpoint yet: start it again"
        return f"resume with the same command and ckpt_path={own[0]}"


def _how_it_ended(error: BaseException) -> str:
    from ssl_mi.callbacks.stopping import Stopped
    from ssl_mi.evaluation.embed import NotFiniteEmbeddings
    from ssl_mi.finite import NotFinite

    if isinstance(error, Stopped):
        return f"stopped: {error}"
    # Lightning turns an interrupt into an exit.
    if isinstance(error, KeyboardInterrupt | SystemExit):
        return "stopped: interrupted"
    state = "diverged" if isinstance(error, NotFinite | NotFiniteEmbeddings) else "stopped"
    return f"{state}: {type(error).__name__}: {error}"


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
