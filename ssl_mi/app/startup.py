"""Between the command line and a run: checks before anything is built, clear errors, building, checkpoints."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from ssl_mi.app.config_checks import check_arguments, entries, one_line

if TYPE_CHECKING:
    from torch import Tensor, nn

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


@contextmanager
def clear_errors() -> Iterator[None]:
    """A mistake of the user's ends with its message and status 1; a mistake of ours with its traceback."""
    try:
        yield
    except Exception as error:
        message = None if os.environ.get("HYDRA_FULL_ERROR") else users_mistake(error)
        if message is None:
            raise
        print_error(message)
        sys.exit(1)


def users_mistake(error: BaseException) -> str | None:
    """The message of an error that whoever uses this can mend; None for all others."""
    if isinstance(error, BrokenPipeError):  # whoever read the output has gone: nobody's mistake
        return None
    from hydra.errors import HydraException, InstantiationException
    from omegaconf.errors import OmegaConfBaseException

    if isinstance(error, InstantiationException):
        cause = error.__cause__
        if cause is None:  # what Hydra refuses to call
            return one_line(error)
        users = isinstance(cause, TypeError | ImportError) or users_mistake(cause) is not None
        where = str(error).rsplit("full_key: ", 1)
        return f"{cause}" + (f" (in '{where[1]}')" if len(where) == 2 else "") if users else None
    if isinstance(error, HydraException | OmegaConfBaseException):
        return one_line(error)
    return str(error) if isinstance(error, (ValueError, OSError, *_errors_of_training())) else None


def _errors_of_training() -> tuple[type[Exception], ...]:
    from lightning_fabric.utilities.exceptions import MisconfigurationException

    from ssl_mi.module import NotFinite

    return NotFinite, MisconfigurationException


def print_error(message: str) -> None:
    print(f"\nerror: {message}", file=sys.stderr)
    print("(HYDRA_FULL_ERROR=1 shows where it was raised)", file=sys.stderr)


def check(cfg: DictConfig) -> None:
    """What can be seen in the configuration alone."""
    missing = [key for key, value in entries(OmegaConf.to_container(cfg)) if value == "???"]
    if missing:
        raise ValueError(f"these keys have no value yet: {', '.join(sorted(missing))}; set them with key=value")
    if cfg.ckpt_path is not None and not Path(cfg.ckpt_path).is_file():
        raise FileNotFoundError(f"ckpt_path={cfg.ckpt_path} is not a file; runs keep theirs in RUN/checkpoints/")
    check_arguments(cfg)
    if not isinstance(cfg.seed, int) or cfg.seed < 0:
        raise ValueError(f"seed={cfg.seed}: a whole number, 0 or more")
    rate = cfg.optimizer.get("lr")
    if rate is None:
        raise ValueError(f"optimizer.lr is not set, and {cfg.optimizer.get('_target_')} has no default here: set it")
    if not isinstance(rate, int | float) or not rate > 0:
        raise ValueError(f"optimizer.lr={rate}: the learning rate is a positive number")
    if cfg.trainer.max_epochs == 0:
        raise ValueError("trainer.max_epochs=0 trains nothing: use 1 or more")
    if str(cfg.trainer.precision) not in ("32-true", "32", "16-mixed", "bf16-mixed"):
        raise ValueError(
            f"trainer.precision={cfg.trainer.precision}: weights are kept in float32; "
            "use 32-true, or bf16-mixed or 16-mixed for speed on a GPU"
        )
    if cfg.get("memory_check", "off") not in ("stop", "warn", "off", False):  # YAML reads a bare off as false
        raise ValueError(f"memory_check={cfg.memory_check}: choose stop, warn or off")
    if cfg.progress not in ("auto", "bar", "lines", "none"):
        raise ValueError(f"progress={cfg.progress}: choose auto, bar, lines or none")


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
        ".*could be decompression bomb.*",  # such a file is left out, by name
    ):
        warnings.filterwarnings("ignore", message)
    logging.getLogger("PIL").setLevel(logging.CRITICAL)  # what Pillow cannot read is named, or read otherwise
    # Each process seeds alike: the towers must start equal. Views and dropout add the rank themselves.
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    torch.set_float32_matmul_precision(cfg.matmul_precision)
    # glibc gives large freed blocks back to the system and faults them in again, step after step. Freeing one
    # just below its upper limit makes it keep them from here on: about 9% of a small network's step.
    torch.empty(2**25 - 2**16, dtype=torch.uint8)


def build(cfg: DictConfig, key: str) -> Any:
    """Instantiate one part of the page; None where the page has none."""
    from hydra.utils import instantiate

    part = cfg.get(key)
    # ~evaluation takes the part away, and leaves what an experiment sets in it.
    if part is None or not (
        "_target_" in part or any(isinstance(p, DictConfig) and "_target_" in p for p in part.values())
    ):
        return None
    return instantiate(part, _convert_="all")


def check_checkpoint(path: str | Path, module: nn.Module, max_epochs: int | None, rate: float | None = None) -> None:
    """Raise ValueError, listing keys, unless the checkpoint is of just this module; without running its code.

    Args:
        path: The file to resume from.
        module: What it is to be loaded into.
        max_epochs: Of the run that resumes.
        rate: Its optimizer.lr, which a checkpoint would silently replace.
    """
    from ssl_mi.resume import inside_epoch

    checkpoint = load_checkpoint(path)
    problems = misfits(checkpoint["state_dict"], module.state_dict())
    if problems:
        raise ValueError(
            f"the checkpoint {path} does not fit this run:\n" + "\n".join(problems) + "\n"
            "Resume with the overrides it was trained with; they are in .hydra/overrides.yaml of its run."
        )
    saved_rates = {
        g.get("initial_lr", g["lr"]) for s in checkpoint.get("optimizer_states", []) for g in s["param_groups"]
    }
    if rate is not None and saved_rates and rate not in saved_rates:
        raise ValueError(
            f"the checkpoint {path} was trained with optimizer.lr={max(saved_rates):g}, which a resumed run goes on "
            f"with, but this run has optimizer.lr={rate:g}: give it the same rate"
        )
    done = checkpoint.get("epoch", -1) + (0 if inside_epoch(checkpoint) else 1)
    if max_epochs is not None and 0 <= max_epochs <= done:
        raise ValueError(
            f"the checkpoint {path} is at epoch {done} and trainer.max_epochs={max_epochs}: "
            "nothing is left to train; raise trainer.max_epochs"
        )


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """A checkpoint of plain tensors and containers; code in the file is never run, and another format is refused."""
    import torch

    from ssl_mi.callbacks.provenance import KEY, description_of

    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle raises whatever the bytes lead it to
        # Of torch's lines the one that names what it found: the first advises to run the file's code.
        said = str(error).splitlines()
        why = next((line.strip() for line in said if "unsupported" in line.lower()), said[0] if said else "it is empty")
        raise ValueError(
            f"{path} cannot be read as a checkpoint of plain tensors, and code in files is never run: "
            f"{type(error).__name__}: {why}"
        ) from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise ValueError(f"{path} is no checkpoint of a run: it has no 'state_dict'; runs keep theirs in checkpoints/")
    if KEY in checkpoint:
        description_of(checkpoint, path)
    return checkpoint


def misfits(saved: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    """A line for each way in which saved weights are not those of a module, with the first keys."""
    shapes = {k: (list(saved[k].shape), list(own[k].shape)) for k in own if k in saved}
    problems = {
        "missing in the file": [k for k in own if k not in saved],
        "unknown to this run": [k for k in saved if k not in own],
        "of another shape": [f"{k} {there} for {here}" for k, (there, here) in shapes.items() if there != here],
    }
    return [
        f"  {what}: {', '.join(keys[:8])}" + (f" and {len(keys) - 8} more" if len(keys) > 8 else "")
        for what, keys in problems.items()
        if keys
    ]
