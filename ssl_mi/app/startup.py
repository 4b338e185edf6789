"""Between the command line and a run: checks before anything is built, clear errors, building."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ssl_mi.app.config_checks import check_arguments, check_values, entries, one_line
from ssl_mi.app.resuming import candidates, holds_a_run, run_of

# Torch and Lightning are imported where they are used: --help and a misspelt key answer at once.


WITH_TRACEBACK = ("SSL_MI_TRACEBACK", "HYDRA_FULL_ERROR")  # in the environment, either of them
LARGEST_SIDE = 10_000  # of an image, in pixels
SHARDING = ("fsdp", "deepspeed", "model_parallel", "xla_fsdp")  # strategies that leave no process the whole network


def run_stamp() -> str:
    """The name of a run's folder, the same in every process of a run: the scheduler's job, or the time.

    Several runs of one SLURM allocation are steps of it, each with a folder of its own; a requeued job has its steps
    again, and so its folders.
    """
    step = os.environ.get("SLURM_STEP_ID", "0")
    if os.environ.get("SLURM_JOB_ID", "none") != "none" and step.isdigit() and step != "0":
        return f"{os.environ['SLURM_JOB_ID']}.{step}"
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
        message = None if any(map(os.environ.get, WITH_TRACEBACK)) else users_mistake(error)
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
        # What a part cannot be built from: torch raises RuntimeError for sizes that are negative or beyond the memory.
        values = TypeError | ImportError | RuntimeError | ArithmeticError | MemoryError
        users = isinstance(cause, values) or users_mistake(cause) is not None
        where = str(error).rsplit("full_key: ", 1)
        return one_line(cause) + (f" (in '{where[1]}')" if len(where) == 2 else "") if users else None
    if isinstance(error, HydraException | OmegaConfBaseException):
        return one_line(error)
    return str(error) if isinstance(error, (ValueError, OSError, *_errors_of_training())) else None


def _errors_of_training() -> tuple[type[Exception], ...]:
    from lightning_fabric.utilities.exceptions import MisconfigurationException

    from ssl_mi.app.processes import LostProcess
    from ssl_mi.finite import NotFinite

    return NotFinite, MisconfigurationException, LostProcess


def print_error(message: str) -> None:
    print(f"\nerror: {message}", file=sys.stderr)
    print(f"({WITH_TRACEBACK[0]}=1 shows where it was raised)", file=sys.stderr)


def check(cfg: DictConfig) -> None:
    """What can be seen in the configuration alone."""
    missing = [key for key, value in entries(OmegaConf.to_container(cfg)) if value == "???"]
    if missing:
        raise ValueError(f"these keys have no value yet: {', '.join(sorted(missing))}; set them with key=value")
    check_arguments(cfg)
    check_values(cfg)
    resumed = candidates(cfg.ckpt_path, cfg.run_dir)
    check_folder(cfg.run_dir, resumed, cfg.get("overwrite", False))
    if not 0 <= cfg.seed < 2**32:
        raise ValueError(f"seed={cfg.seed}: a whole number from 0 to {2**32 - 1}")
    rate = cfg.optimizer.get("lr")
    if rate is None:
        raise ValueError(f"optimizer.lr is not set, and {cfg.optimizer.get('_target_')} has no default here: set it")
    if not isinstance(rate, int | float) or not rate > 0:
        raise ValueError(f"optimizer.lr={rate}: the learning rate is a positive number")
    if cfg.trainer.max_epochs == 0:
        raise ValueError("trainer.max_epochs=0 trains nothing: use 1 or more")
    if str(cfg.trainer.precision) not in ("32-true", "32", "16-mixed", "bf16-mixed", "fastest"):
        raise ValueError(
            f"trainer.precision={cfg.trainer.precision}: weights are kept in float32; "
            "use 32-true, bf16-mixed or 16-mixed for speed on a GPU, or fastest, which measures two of them first"
        )
    check_sizes(cfg)
    check_device(cfg.trainer)
    if cfg.get("memory_check", "off") not in ("stop", "warn", "off", False):  # YAML reads a bare off as false
        raise ValueError(f"memory_check={cfg.memory_check}: choose stop, warn or off")
    if cfg.resume_changes is not None and isinstance(cfg.resume_changes, str) and cfg.resume_changes != "allow":
        raise ValueError(f"resume_changes={cfg.resume_changes}: give a list of keys, [{cfg.resume_changes}], or allow")


def check_sizes(cfg: DictConfig) -> None:
    """Raise ValueError for an image that no memory holds."""
    for key in ("data.size", "augmentation.size"):
        side = OmegaConf.select(cfg, key)
        if isinstance(side, int) and not 1 <= side <= LARGEST_SIDE:
            raise ValueError(f"{key}={side}: the side of an image, from 1 to {LARGEST_SIDE} pixels")


def check_device(trainer: DictConfig) -> None:
    """Raise ValueError for an accelerator that is not there, or a precision that it does not have."""
    import torch

    wanted, devices = str(trainer.accelerator), trainer.devices
    if str(trainer.strategy).startswith(SHARDING):
        raise ValueError(
            f"trainer.strategy={trainer.strategy} divides the weights among processes, and teachers, evaluations and "
            "checkpoints here need them whole: use trainer=ddp, with trainer.precision=bf16-mixed where memory is short"
        )
    cuda = torch.cuda.is_available()
    if wanted in ("gpu", "cuda") and not cuda and not (wanted == "gpu" and torch.backends.mps.is_available()):
        raise ValueError(
            f"trainer.accelerator={wanted}: torch {torch.__version__} sees no GPU here. Use trainer.accelerator=cpu "
            "(or auto), or install a build of torch for this machine's driver; `nvidia-smi` shows whether there is one"
        )
    if wanted in ("gpu", "cuda", "auto") and cuda and isinstance(devices, int) and devices > torch.cuda.device_count():
        raise ValueError(
            f"trainer.devices={devices}: this machine has {torch.cuda.device_count()} GPUs; use as many or fewer, or "
            "trainer.accelerator=cpu"
        )
    on_cpu = wanted == "cpu" or (wanted == "auto" and not cuda and not torch.backends.mps.is_available())
    if str(trainer.precision) == "16-mixed" and on_cpu:
        raise ValueError(
            "trainer.precision=16-mixed needs a GPU, and this run is on the CPU: use bf16-mixed, or 32-true, which is "
            "exact"
        )


def check_folder(run_dir: str | Path, resumed: Sequence[Path], overwrite: bool = False) -> None:
    """Raise where the folder of a run holds another run, which it would overwrite, or can be no folder.

    Args:
        run_dir: The folder.
        resumed: The checkpoints that the run may go on from; one of this folder makes it the same run.
        overwrite: Whether that is wanted.

    Raises:
        FileExistsError: If it holds another run.
        ValueError: If nothing can be written there.
    """
    folder = Path(run_dir)
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    if not there.is_dir():
        raise ValueError(f"run_dir={folder}: {there} is a file: name a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ValueError(f"run_dir={folder}: nothing can be written to {there}: name another folder")
    same = any(run_of(path) == folder.absolute() for path in resumed)
    if holds_a_run(folder) and not same and not overwrite:
        raise FileExistsError(
            f"run_dir={folder} holds a run already: choose another folder, go on with that run by ckpt_path={folder}, "
            "or replace it by overwrite=true"
        )


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
        ".*Experiment logs directory.*exists and is not empty.*",  # a resumed run keeps the rows before it
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
