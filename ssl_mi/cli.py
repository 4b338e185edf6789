"""Between the command line and Lightning: checks, what is printed, what is left behind."""

from __future__ import annotations

import difflib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

# Torch and Lightning are imported where they are used: --help and a misspelt key answer at once.


def run_stamp() -> str:
    """The name of a run's folder, the same in every process of a run: the scheduler's job, or the time."""
    for name in ("SLURM_JOB_ID", "TORCHELASTIC_RUN_ID"):
        if os.environ.get(name, "none") != "none":
            return os.environ[name]
    return datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")[:-3]


OmegaConf.register_new_resolver("run_stamp", run_stamp, use_cache=True, replace=True)


def first_process() -> bool:
    return all(os.environ.get(name, "0") == "0" for name in ("LOCAL_RANK", "RANK", "SLURM_PROCID"))


# Overrides


class UnknownOverride(ValueError):
    """A key or an option that does not exist; the message names the nearest one that does."""


def check_overrides(app: Callable, argv: Sequence[str] | None = None) -> None:
    """Exit with a clear message if the command line names a key or an option that does not exist."""
    from hydra._internal.utils import get_args_parser

    args = get_args_parser().parse_args(argv)
    if not first_process() or args.config_path or args.config_name or args.config_dir or args.hydra_help:
        return
    folder = Path(sys.modules[app.__module__].__file__).parent / "conf"
    try:
        find_unknown(folder, args.overrides)
    except UnknownOverride as error:
        _print_error(str(error))
        sys.exit(1)


def find_unknown(folder: Path, overrides: Sequence[str]) -> None:
    """Raise UnknownOverride for the first override that fits neither a group in `folder` nor a key."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import ValueType
    from hydra.errors import HydraException, OverrideParseException

    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except OverrideParseException as error:
        raise UnknownOverride(f"can not read the override '{error.override}': write key=value") from error
    parsed = [o for o in parsed if not o.key_or_group.startswith("hydra")]
    groups = {
        str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_dir() and not p.is_relative_to(folder / "hydra")
    }
    chosen = []
    for override in parsed:
        if override.key_or_group not in groups:
            continue
        options = sorted(p.stem for p in (folder / override.key_or_group).glob("*.yaml"))
        options += [
            str(p.relative_to(folder / override.key_or_group).with_suffix(""))
            for p in (folder / override.key_or_group).glob("*/**/*.yaml")
        ]
        if override.value_type == ValueType.GLOB_CHOICE_SWEEP:
            values = override.value().filter(options)
        else:
            values = list(override.sweep_string_iterator()) if override.is_sweep_override() else [override.value()]
        for value in values:
            if value in (None, "null") and not override.is_delete():
                raise UnknownOverride(
                    f"{override.key_or_group}=null is no choice of '{override.key_or_group}'; "
                    f"there are: {', '.join(options)}; ~{override.key_or_group} leaves it out"
                )
            if value is not None and str(value) not in options:
                raise UnknownOverride(
                    f"there is no {override.key_or_group}={value}{_nearest(str(value), options)}; "
                    f"there are: {', '.join(options)}"
                )
        if override.is_delete():
            chosen.append(f"~{override.key_or_group}")
        elif values:  # the keys of a sweep are checked against its first job
            chosen.append(f"{override.key_or_group}={values[0]}")
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(folder.absolute())):
            cfg = compose("train", overrides=chosen)
    except HydraException as error:
        raise UnknownOverride(str(error)) from error
    keys = set(_keys(cfg))
    for override in parsed:
        key = override.key_or_group
        if key in groups or override.is_add() or override.is_force_add() or key in keys:
            continue
        parents = {k.rsplit(".", 1)[0] for k in keys if "." in k}
        if not override.is_delete() and any(_is_open(cfg, p) for p in parents if key.startswith(p + ".")):
            continue
        raise UnknownOverride(f"there is no key '{key}'{_nearest(key, sorted(keys | groups))}")


def _is_open(cfg: DictConfig, key: str) -> bool:
    """Whether the part at `key` takes whatever keys it is given: an empty dict does."""
    part = OmegaConf.select(cfg, key)
    return isinstance(part, DictConfig) and len(part) == 0


def _keys(cfg: DictConfig, prefix: str = "") -> Iterator[str]:
    for key in cfg:
        yield f"{prefix}{key}"
        if not OmegaConf.is_interpolation(cfg, key) and not OmegaConf.is_missing(cfg, key):
            part = cfg[key]
            if isinstance(part, DictConfig):
                yield from _keys(part, f"{prefix}{key}.")
            elif isinstance(part, ListConfig):
                yield from _keys(OmegaConf.create(dict(enumerate(part))), f"{prefix}{key}.")


def _nearest(word: str, words: Sequence[str]) -> str:
    """'; did you mean ...?', by the whole key or else by its last part."""
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.6)
    if not close:
        last = {w.rsplit(".", 1)[-1]: w for w in reversed(words)}
        close = [last[w] for w in difflib.get_close_matches(word.rsplit(".", 1)[-1], last, n=1, cutoff=0.6)]
    return f": did you mean '{close[0]}'?" if close else ""


# Errors


@contextmanager
def clear_errors() -> Iterator[None]:
    """A mistake of the user's ends with its message and status 1; a mistake of ours with its traceback."""
    from hydra.errors import InstantiationException
    from omegaconf.errors import OmegaConfBaseException

    from ssl_mi.module import NotFinite

    try:
        yield
    except InstantiationException as error:
        cause = error.__cause__
        if os.environ.get("HYDRA_FULL_ERROR") or not isinstance(cause, ValueError | OSError | TypeError | ImportError):
            raise
        where = str(error).rsplit("full_key: ", 1)
        _print_error(f"{cause}" + (f" (in '{where[1]}')" if len(where) == 2 else ""))
        sys.exit(1)
    except (ValueError, OSError, NotFinite, OmegaConfBaseException) as error:
        if os.environ.get("HYDRA_FULL_ERROR"):
            raise
        _print_error(str(error))
        sys.exit(1)


def _print_error(message: str) -> None:
    print(f"\nerror: {message}", file=sys.stderr)
    print("(HYDRA_FULL_ERROR=1 shows where it was raised)", file=sys.stderr)


# Before a run


def check(cfg: DictConfig) -> None:
    """What can be seen in the configuration alone."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    missing = OmegaConf.missing_keys(cfg)
    if missing:
        raise ValueError(f"these keys have no value yet: {', '.join(sorted(missing))}; set them with key=value")
    if cfg.ckpt_path is not None and not Path(cfg.ckpt_path).is_file():
        raise FileNotFoundError(f"ckpt_path={cfg.ckpt_path} is not a file; runs keep theirs in RUN/checkpoints/")
    check_arguments(cfg)
    several = str(cfg.trainer.strategy) != "auto" and str(cfg.trainer.devices) != "1"
    if several and HydraConfig.get().mode == RunMode.MULTIRUN:
        raise ValueError(
            "a sweep (-m) runs its jobs in one process and can not start several processes for each; "
            "start the runs one by one, or with a launcher that gives each job its own process"
        )
    if not isinstance(cfg.seed, int) or cfg.seed < 0:
        raise ValueError(f"seed={cfg.seed}: a whole number, 0 or more")
    if cfg.progress not in ("auto", "bar", "lines", "none"):
        raise ValueError(f"progress={cfg.progress}: choose auto, bar, lines or none")


def check_arguments(cfg: DictConfig) -> None:
    """Raise ValueError for the first key that the part it is given to does not take.

    Partial parts (an optimiser) would otherwise only complain once the data are loaded.
    """
    import inspect

    from hydra.utils import get_object

    def look(node: Any, where: str) -> None:
        if isinstance(node, list):
            for i, part in enumerate(node):
                look(part, f"{where}.{i}")
        if not isinstance(node, dict):
            return
        target = node.get("_target_")
        if target is not None:
            try:
                takes = inspect.signature(get_object(target)).parameters
            except (ImportError, ValueError) as error:
                raise ValueError(f"{where}._target_={target} can not be loaded: {error}") from error
            if not any(p.kind == p.VAR_KEYWORD for p in takes.values()):
                for key in node:
                    if not key.startswith("_") and key not in takes:
                        raise ValueError(
                            f"{target} takes no '{key}' ({where}.{key}){_nearest(key, list(takes))}; "
                            f"remove it with ~{where}.{key}"
                        )
        for key, part in node.items():
            look(part, f"{where}.{key}" if where else str(key))

    look(OmegaConf.to_container(cfg, resolve=True), "")


def start(cfg: DictConfig) -> None:
    """Seeds and library settings; called before anything is built, so that the weights follow from the seed."""
    import logging
    import warnings

    import pytorch_lightning as pl
    import torch

    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*smaller than the logging interval.*",
        ".*sync_dist=True.*",  # every process holds the loss of the whole batch
        ".*The dirpath has changed.*",  # a resumed run has a folder of its own
        ".*Checkpoint directory.*exists and is not empty.*",
        ".*treespec, LeafSpec.*",  # Lightning's own, under a newer torch
    ):
        warnings.filterwarnings("ignore", message)
    # Each process seeds alike: the towers must start equal. Views and dropout add the rank themselves.
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    torch.set_float32_matmul_precision(cfg.matmul_precision)


def build(cfg: DictConfig, key: str) -> Any:
    """Instantiate one part of the page."""
    from hydra.utils import instantiate

    return instantiate(cfg[key], _convert_="all")


def check_checkpoint(path: str | Path, module, max_epochs: int | None) -> None:
    """Raise ValueError, listing keys, unless the checkpoint is of just this module; without running its code."""
    import torch

    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle raises whatever the bytes lead it to
        # Of torch's lines the one that says what it met: the first advises to run the file's code.
        said = str(error).splitlines()
        why = next((line.strip() for line in said if "unsupported" in line.lower()), said[0] if said else "it is empty")
        raise ValueError(
            f"{path} can not be read as a checkpoint of plain tensors, and code in files is never run: "
            f"{type(error).__name__}: {why}"
        ) from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise ValueError(f"{path} is no checkpoint of a run: it has no 'state_dict'; runs keep theirs in checkpoints/")
    saved, own = checkpoint["state_dict"], module.state_dict()
    problems = {
        "missing in the file": [k for k in own if k not in saved],
        "unknown to this run": [k for k in saved if k not in own],
        "of another shape": [
            f"{k} {list(saved[k].shape)} for {list(own[k].shape)}"
            for k in own
            if k in saved and saved[k].shape != own[k].shape
        ],
    }
    problems = {what: keys for what, keys in problems.items() if keys}
    if problems:
        lines = [
            f"  {what}: {', '.join(keys[:8])}" + (f" and {len(keys) - 8} more" if len(keys) > 8 else "")
            for what, keys in problems.items()
        ]
        raise ValueError(
            f"the checkpoint {path} does not fit this run:\n" + "\n".join(lines) + "\n"
            "Resume with the overrides it was trained with; they are in .hydra/overrides.yaml of its run."
        )
    done = checkpoint.get("epoch", -1) + 1
    if max_epochs is not None and 0 <= max_epochs <= done:
        raise ValueError(
            f"the checkpoint {path} is at epoch {done} and trainer.max_epochs={max_epochs}: "
            "nothing is left to train; raise trainer.max_epochs"
        )


# A run


class Run:
    """The trainer of a configuration, what is printed before and after it, and its report."""

    def __init__(self, cfg: DictConfig, data, module) -> None:
        from hydra.utils import instantiate
        from pytorch_lightning.callbacks import LambdaCallback

        from ssl_mi.callbacks.history import History
        from ssl_mi.callbacks.progress import progress_bar

        self.cfg, self.data, self.module = cfg, data, module
        self.folder = Path(cfg.run_dir)
        self.began = time.perf_counter()
        bar = progress_bar(cfg.progress)
        self.history = History(lines=bar is None and cfg.progress != "none")
        self.evaluate = build(cfg, "evaluation")
        announce = LambdaCallback(on_fit_start=lambda trainer, module: self._print_facts())
        callbacks = [announce, self.history, self.evaluate, build(cfg, "checkpoint"), *([bar] if bar else [])]
        logger = build(cfg, "logger") or False
        self.trainer = instantiate(
            cfg.trainer,
            callbacks=callbacks,
            logger=logger,
            enable_progress_bar=bar is not None,
            _convert_="all",
        )
        if cfg.ckpt_path is not None:
            check_checkpoint(cfg.ckpt_path, module, self.trainer.max_epochs)

    def facts(self) -> dict[str, Any]:
        """What counts, before a run."""
        trainer, module = self.trainer, self.module
        groups = module.make_optimizer.keywords
        batch = self.data.batch_size * trainer.accumulate_grad_batches
        accumulated = trainer.accumulate_grad_batches
        split = f"{self.data.batch_size} images a step" + (
            f" over {trainer.world_size} processes" if trainer.world_size > 1 else ""
        )
        if accumulated > 1:
            split += f", {accumulated} steps accumulated: {batch} an update, negatives from one step"
        rate = groups.get("lr")
        return {
            "data": self.data.describe(),
            **({} if self.data.has_labels else {"probes": "left out: the images have no labels"}),
            "views": self.data.augmentation.describe().replace("\n", "; "),
            "effective batch": split,
            "objective": module.objective.name,
            **module.objective.facts(self.data.batch_size),
            "optimizer": f"{_name(module.make_optimizer.func)}, learning rate {rate:g} (as in the configuration)",
            "parameters": _count(module),
            "epochs": trainer.max_epochs,
            "devices": f"{trainer.world_size} x {trainer.accelerator.__class__.__name__.removesuffix('Accelerator')}",
            "precision": str(trainer.precision),
            "seed": self.cfg.seed,
        }

    @contextmanager
    def reported(self) -> Iterator[None]:
        """However the run ends, write its report."""
        ended = "complete"
        try:
            yield
        except BaseException as error:
            # Lightning turns an interrupt into an exit.
            interrupted = isinstance(error, KeyboardInterrupt | SystemExit)
            ended = "stopped: interrupted" if interrupted else f"stopped: {type(error).__name__}: {error}"
            raise
        finally:
            if first_process():
                self._close(ended)

    def _print_facts(self) -> None:
        from rich.console import Console

        if not first_process():
            return
        console = Console(highlight=False)
        for name, value in self.facts().items():
            console.print(f"[bold]{name:>17}[/bold]  {value}", soft_wrap=True)

    def _close(self, ended: str) -> None:
        from rich.console import Console
        from rich.table import Table

        from ssl_mi import report

        rows = [row.as_dict() for row in self.evaluate.rows]
        seconds = time.perf_counter() - self.began
        history = self.history.epochs
        rates = sorted(h["images_per_second"] for h in history)
        facts = {
            "ended": ended,
            "seconds": round(seconds, 1),
            "seconds of training epochs": round(sum(h["seconds"] for h in history), 1),
            "seconds of evaluation": {k: round(v, 2) for k, v in self.evaluate.seconds.items()},
            "images per second": round(rates[len(rates) // 2], 1) if rates else None,
            **(self.facts() if self.data.train is not None else {}),
            "images": self.data.report() if self.data.train is not None else {},
            "command": " ".join(sys.argv),
            **report.environment(Path(__file__).parent),
        }
        config = OmegaConf.to_yaml(self.cfg, resolve=True)
        path = report.write(self.folder, f"{self.cfg.name}, seed {self.cfg.seed}", facts, history, rows, config)
        header, lines = report.closing_table(rows)
        console = Console(width=None if sys.stdout.isatty() else 160)
        if lines:
            table = Table(*header)
            for line in lines:
                table.add_row(*line)
            console.print(table)
        console.print(f"{ended}, {seconds:.0f} s; report: {path}", highlight=False, soft_wrap=True)
        last = self.folder / "checkpoints" / "last.ckpt"
        if ended != "complete" and last.exists():
            console.print(f"resume with the same command and ckpt_path={last}", highlight=False, soft_wrap=True)


def _name(function: Callable) -> str:
    return getattr(function, "__name__", str(function))


def _count(module) -> str:
    def of(part) -> str:
        return f"{sum(p.numel() for p in part.parameters() if p.requires_grad):,}"

    return f"{of(module.towers)} in the towers, {of(module.objective)} in the objective"
