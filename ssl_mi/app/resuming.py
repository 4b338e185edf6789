"""Going on with a run that stopped: which checkpoint, whether all of it is there, and whether it is of this run."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from ssl_mi.app import precision
from ssl_mi.app.config_checks import parameter_defaults
from ssl_mi.checkpoint_format import KEY, description_of

if TYPE_CHECKING:
    from torch import Tensor, nn

LAST = "last"  # ckpt_path=last: the newest checkpoint of this folder, or else of the newest run beside it
CHECKPOINTS = "checkpoints"  # a run's folder of checkpoints

#: What a resumed run may have otherwise than the run that it goes on with: where it runs, what it prints, what it
#: keeps, what it measures. None of it changes what is trained. A name stands for all keys below it.
HARMLESS = (
    *("name", "run_dir", "ckpt_path", "resume_changes", "overwrite", "progress", "optimizer_note"),
    "precision_note",
    *("memory_check", "health"),
    *("logger", "checkpoint", "evaluation", "data.num_workers", "data.sets.in_memory", "data.sets.memory_gb"),
    *("trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.strategy", "trainer.default_root_dir"),
    *("trainer.log_every_n_steps", "trainer.profiler", "trainer.detect_anomaly"),
)


class Unreadable(ValueError):
    """A file that is no whole checkpoint."""


# ------------------------------------------------------------------------------------------------ which checkpoint


def candidates(ckpt_path: str | None, run_dir: str | Path) -> list[Path]:
    """The checkpoints that a configuration may mean, the newest first; empty for a run from the start.

    Args:
        ckpt_path: A file, the folder of a run, "last", or None. A job that its scheduler has started again takes the
            newest checkpoint of its own folder where this is None.
        run_dir: The folder of the run that is about to start.

    Raises:
        FileNotFoundError: If there is none.
    """
    own = Path(run_dir)
    if ckpt_path is None:
        return in_folder(own) if started_again() else []
    path = Path(ckpt_path)
    if path.is_file():
        return [path]
    if path.is_dir():
        found = in_folder(path)
        if not found:
            raise FileNotFoundError(
                f"ckpt_path={path} is a folder without checkpoints; runs keep theirs in RUN/{CHECKPOINTS}/"
            )
        return found
    if ckpt_path != LAST:
        raise FileNotFoundError(
            f"ckpt_path={ckpt_path} is not a file, nor the folder of a run, nor '{LAST}' (the newest run); runs keep "
            f"their checkpoints in RUN/{CHECKPOINTS}/"
        )
    runs = [own, *sorted((run for run in _folders(own.parent) if run != own), key=_age)]
    for run in runs:
        if found := in_folder(run):
            return found
    raise FileNotFoundError(f"ckpt_path={LAST}: neither {own} nor a run beside it has a checkpoint")


def in_folder(run: str | Path) -> list[Path]:
    """The checkpoints of a run, the newest first."""
    places = (Path(run) / CHECKPOINTS, Path(run))
    found = [path for place in places if place.is_dir() for path in place.glob("*.ckpt") if path.is_file()]
    return sorted((path for path in found if not path.name.startswith(".")), key=_age)


def run_of(checkpoint: str | Path) -> Path:
    """The folder of the run that a checkpoint belongs to."""
    folder = Path(checkpoint).absolute().parent
    return folder.parent if folder.name == CHECKPOINTS else folder


def holds_a_run(folder: str | Path) -> bool:
    """Whether a run has left its report, or checkpoints, in a folder."""
    return (Path(folder) / "report.json").exists() or bool(in_folder(folder))


def remove_run(folder: str | Path, kept: Path | None = None) -> None:
    """Remove the report and the checkpoints of an earlier run, which the next one in this folder replaces.

    Args:
        folder: Of the run.
        kept: A checkpoint that is the next run's already.
    """
    for path in [Path(folder) / "report.json", *(Path(folder) / CHECKPOINTS).glob("*.ckpt")]:
        if path != kept:
            path.unlink(missing_ok=True)


def started_again() -> bool:
    """Whether a scheduler has started this job before: SLURM after a requeue, torchrun after a failure."""
    return any(int(os.environ.get(name) or 0) > 0 for name in ("SLURM_RESTART_COUNT", "TORCHELASTIC_RESTART_COUNT"))


def newest_whole(paths: Sequence[Path]) -> tuple[Path, dict[str, Any]]:
    """The first that can be read, and what it holds; those that cannot are passed over and named.

    Raises:
        Unreadable: If none can.
    """
    for path in paths[:-1]:
        try:
            return path, read(path)
        except Unreadable as error:
            print(f"passed over: {error}", file=sys.stderr)
    return paths[-1], read(paths[-1])


def _folders(parent: Path) -> Iterator[Path]:
    return (path for path in parent.iterdir() if path.is_dir()) if parent.is_dir() else iter(())


def _age(path: Path) -> float:
    """For sorting: the newest first. A run is as old as its newest checkpoint."""
    inside = [p.stat().st_mtime for p in (path / CHECKPOINTS).glob("*.ckpt")] if path.is_dir() else []
    return -max(inside, default=path.stat().st_mtime)


# ---------------------------------------------------------------------------------------------------- what it holds


def read(path: str | Path) -> dict[str, Any]:
    """A checkpoint of plain tensors and containers; code in the file is never run, and another format is refused.

    Raises:
        Unreadable: If it is none.
        ValueError: If it is one of another program or another version of this one.
    """
    import torch

    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle raises whatever the bytes lead it to
        # Of torch's lines the one that names what it found: the first advises to run the file's code.
        said = str(error).splitlines()
        why = next((line.strip() for line in said if "unsupported" in line.lower()), said[0] if said else "it is empty")
        raise Unreadable(
            f"{path} cannot be read as a checkpoint of plain tensors, and code in files is never run: "
            f"{type(error).__name__}: {why}"
        ) from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise ValueError(f"{path} is no checkpoint of a run: it has no 'state_dict'; runs keep theirs in checkpoints/")
    weights = checkpoint["state_dict"]
    if not isinstance(weights, dict) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor | Mapping | int | float | str | bytes | None)
        for key, value in weights.items()
    ):
        raise ValueError(f"{path} is damaged: its 'state_dict' is no mapping of names to tensors")
    if KEY in checkpoint:
        checkpoint[KEY] = description_of(checkpoint, path)
    return checkpoint


def check_whole(checkpoint: Mapping[str, Any], path: str | Path) -> None:
    """Raise ValueError unless training can go on from a checkpoint: weights alone are not enough.

    Args:
        checkpoint: As it was read.
        path: Its file, for messages.
    """
    kinds: dict[str, Any] = {"loops": Mapping, "optimizer_states": list, "lr_schedulers": list, "callbacks": Mapping}
    kinds |= {"epoch": int, "global_step": int, "pytorch-lightning_version": str}
    missing = [key for key in kinds if key not in checkpoint]
    if missing:
        raise ValueError(
            f"{path} cannot be gone on with: it has no {', '.join(missing)}, so it does not say where training was. "
            "To start a new run from its weights, use encoder.weights=FILE"
        )
    wrong = [key for key, kind in kinds.items() if not isinstance(checkpoint[key], kind)]
    if not wrong and not _has_places(checkpoint):
        wrong = ["loops"]
    if not wrong and not all(_is_optimizer_state(state) for state in checkpoint["optimizer_states"]):
        wrong = ["optimizer_states"]
    if wrong:
        raise ValueError(f"{path} is damaged: {', '.join(wrong)} in it is not what a checkpoint of Lightning holds")
    _check_lightning(str(checkpoint["pytorch-lightning_version"]), path)


def _has_places(checkpoint: Mapping[str, Any]) -> bool:
    """Whether the counters of the loops are there, and are numbers."""
    part: Any = checkpoint["loops"]
    for key in ("fit_loop", "epoch_progress", "current"):
        part = part.get(key) if isinstance(part, Mapping) else None
    batches = checkpoint["loops"].get("fit_loop") if isinstance(checkpoint["loops"].get("fit_loop"), Mapping) else {}
    steps = batches.get("epoch_loop.batch_progress")
    current = steps.get("current") if isinstance(steps, Mapping) else None
    return all(
        isinstance(counts, Mapping) and all(isinstance(counts.get(k), int) for k in ("ready", "started", "processed"))
        for counts in (part, current)
    )


def _is_optimizer_state(state: Any) -> bool:
    groups = state.get("param_groups") if isinstance(state, Mapping) else None
    return (
        isinstance(groups, list)
        and all(isinstance(group, Mapping) and isinstance(group.get("params"), list) for group in groups)
        and isinstance(state.get("state"), Mapping)
        and all(isinstance(own, Mapping) for own in state["state"].values())
    )


def _check_lightning(written: str, path: str | Path) -> None:
    from importlib.metadata import version

    def release(text: str) -> tuple[int, ...]:
        numbers = text.split("+")[0].split(".")[:2]
        return tuple(int(n) for n in numbers) if all(n.isdigit() for n in numbers) else ()

    here = version("pytorch-lightning")
    if not release(written):
        raise ValueError(f"{path} is damaged: pytorch-lightning_version={written!r} in it is no version")
    if release(written) > release(here):
        raise ValueError(
            f"{path} was written by Lightning {written} and this is Lightning {here}, which may not know its layout: "
            f"install pytorch-lightning>={written}"
        )


def check_callbacks(checkpoint: Mapping[str, Any], callbacks: Sequence[Any], path: str | Path) -> None:
    """Raise ValueError for a callback whose state in the checkpoint it cannot take; tried on a copy.

    Args:
        checkpoint: As it was read.
        callbacks: Of the run that goes on.
        path: The file, for messages.
    """
    import copy

    for callback in callbacks:
        state = checkpoint["callbacks"].get(callback.state_key)
        if state is None:
            continue
        try:
            copy.copy(callback).load_state_dict(copy.deepcopy(state))
        except Exception as error:  # whatever is in the file
            raise ValueError(
                f"{path} is damaged: the state of {type(callback).__name__} in it cannot be taken over "
                f"({type(error).__name__}: {error})"
            ) from error


def misfits(saved: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    """A line for each way in which saved weights are not those of a module, with the first keys."""

    def shape(value: Any) -> list[int]:
        return list(getattr(value, "shape", ()))

    shapes = {k: (shape(saved[k]), shape(own[k])) for k in own if k in saved}
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


# -------------------------------------------------------------------------------------------- whether it is this run


def differences(saved: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """{key: (value in the checkpoint, value of this run)} of all that makes them different runs.

    Args:
        saved: The resolved configuration of the checkpoint.
        own: That of this run.
    """
    missing = object()
    there, here = dict(_leaves(saved)), dict(_leaves(own))
    if here.get("trainer.precision") == precision.FASTEST and precision.chosen_before(saved):
        here["trainer.precision"] = there["trainer.precision"]  # what was measured then is not measured again
    found: dict[str, tuple[Any, Any]] = {}
    for key in [*there, *(key for key in here if key not in there)]:
        values = there.get(key, missing), here.get(key, missing)
        # A part that is not there and null are the same.
        absent = all(value is None or value is missing for value in values)
        # So are one that is not there and the default of the class that takes it, which a later version may name.
        default = missing in values and values[0 if values[1] is missing else 1] == _default(own, key)
        if values[0] != values[1] and not absent and not default and not _is_below(key, HARMLESS):
            first, second = ("not set" if value is missing else value for value in values)
            found[key] = (first, second)
    return found


def _default(config: Mapping[str, Any], key: str) -> Any:
    """The default of a parameter of the part that a key belongs to; another value than any where there is none."""
    *place, name = key.split(".")
    part: Any = config
    for step in place:
        part = part.get(step) if isinstance(part, Mapping) else None
    target = part.get("_target_") if isinstance(part, Mapping) else None
    none = object()
    return parameter_defaults(target).get(name, none) if isinstance(target, str) else none


def _leaves(part: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(part, Mapping):
        for key, value in part.items():
            yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, part


def _is_below(key: str, names: Sequence[str]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in names)


def check_same_run(checkpoint: Mapping[str, Any], cfg: DictConfig, path: str | Path) -> list[str]:
    """The keys in which this run differs from the one it goes on with, all of them allowed by `resume_changes`.

    Raises:
        ValueError: If others differ, with both values.
    """
    allowed = cfg.get("resume_changes")
    everything = allowed == "allow"
    saved = checkpoint.get(KEY, {}).get("config")
    if saved is None:
        if everything:
            return []
        raise ValueError(
            f"{path} does not hold the configuration it was trained with (it is of an earlier version, or of another "
            "program), so nothing shows that this run is the same: resume_changes=allow goes on where the weights fit"
        )
    own: Any = OmegaConf.to_container(cfg, resolve=True)
    found = differences(saved, own)
    names = () if allowed is None or everything else (allowed,) if isinstance(allowed, str) else tuple(allowed)
    accepted = {key: found[key] for key in found if _is_below(key, names)}
    refused = [] if everything else [key for key in found if key not in accepted and not _is_copy(key, accepted)]
    if refused:
        own_keys = [key for key in refused if not _is_copy(key, found)]
        shown = [f"{key}: {found[key][0]} there, {found[key][1]} here" for key in own_keys]
        more = f"; and {len(shown) - 6} more" if len(shown) > 6 else ""
        raise ValueError(
            f"{path} is of a run with another configuration: {'; '.join(shown[:6])}{more}. Give this run the same "
            f"overrides, or name what may differ: resume_changes=[{','.join(own_keys[:6])}] "
            "(resume_changes=allow: everything)"
        )
    return list(found)


def _is_copy(key: str, found: Mapping[str, tuple[Any, Any]]) -> bool:
    """Whether a key repeats another's value, as `data.seed` does `seed`."""
    return any(key.endswith(f".{other}") and found[other] == found[key] for other in found)


class Resumed:
    """The checkpoint that a run goes on from, checked.

    Args:
        path: Its file.
        checkpoint: What it holds.
        cfg: The configuration of the run that goes on.

    Attributes:
        run: The folder of the run that it goes on with.
        changes: Keys of the configuration in which the two differ.

    Raises:
        ValueError: If it is not whole, or of another run.
    """

    def __init__(self, path: Path, checkpoint: Mapping[str, Any], cfg: DictConfig) -> None:
        check_whole(checkpoint, path)
        self.path, self.checkpoint, self.cfg = path, checkpoint, cfg
        self.run = run_of(path)
        self.step = int(checkpoint["global_step"])
        self.changes = check_same_run(checkpoint, cfg, path)

    def check(self, module: nn.Module, callbacks: Sequence[Any], max_epochs: int | None) -> None:
        """Raise ValueError unless a module and its callbacks can take the checkpoint, and something is left to do."""
        check_fits(self.checkpoint, module, self.path)
        check_callbacks(self.checkpoint, callbacks, self.path)
        done = epochs_done(self.checkpoint)
        if max_epochs is not None and 0 <= max_epochs <= done and ended(self.run) == "complete":
            raise ValueError(
                f"the checkpoint {self.path} is at epoch {done}, trainer.max_epochs={max_epochs} and the run is "
                f"evaluated: nothing is left to train; see {self.run / 'report.md'}, or raise trainer.max_epochs"
            )

    def describe(self) -> str:
        """The checkpoint and what differs, for the first lines of a run."""
        return f"{self.path}, step {self.step}" + (f"; changed: {', '.join(self.changes)}" if self.changes else "")

    def config(self) -> Mapping[str, Any]:
        """The configuration of the run that it goes on with; empty where the checkpoint has none."""
        return self.checkpoint.get(KEY, {}).get("config") or {}

    def optimizer_changes(self) -> list[str]:
        """The settings of the optimizer that are not those of the checkpoint."""
        return [key.removeprefix("optimizer.") for key in self.changes if key.startswith("optimizer.")]

    def same_evaluation(self) -> bool:
        """Whether what was measured before the stop is measured in the same way now."""

        def settings(config: Any) -> dict[str, Any]:
            leaves = dict(_leaves(config.get("evaluation") or {}))
            return {key: value for key, value in leaves.items() if key.split(".")[-1] != "folder"}

        saved = self.checkpoint.get(KEY, {}).get("config") or {}
        return settings(saved) == settings(OmegaConf.to_container(self.cfg, resolve=True))


def ended(run: Path) -> str:
    """How a run ended, by its report; "" without one."""
    import json

    try:
        return str(json.loads((run / "report.json").read_text()).get("ended", ""))
    except (OSError, ValueError):
        return ""


def is_finished(cfg: DictConfig) -> bool:
    """Whether the folder of a run holds just this run, complete."""
    found = in_folder(cfg.run_dir)
    if ended(Path(cfg.run_dir)) != "complete" or not found:
        return False
    saved = newest_whole(found)[1].get(KEY, {}).get("config") or {}
    own: Any = OmegaConf.to_container(cfg, resolve=True)
    return not differences(saved, own)


def epochs_done(checkpoint: Mapping[str, Any]) -> int:
    """How many epochs of training a checkpoint has behind it."""
    from ssl_mi.resume import inside_epoch

    return int(checkpoint["epoch"]) + (0 if inside_epoch(checkpoint) else 1)


def find(cfg: DictConfig) -> Resumed | None:
    """What a configuration goes on from; None for a run from the start."""
    paths = candidates(cfg.ckpt_path, cfg.run_dir)
    return Resumed(*newest_whole(paths), cfg) if paths else None


def check_fits(checkpoint: Mapping[str, Any], module: nn.Module, path: str | Path) -> None:
    """Raise ValueError, listing keys, unless the weights in a checkpoint are of just this module."""
    problems = misfits(checkpoint["state_dict"], module.state_dict())
    if problems:
        raise ValueError(
            f"the checkpoint {path} does not fit this run:\n" + "\n".join(problems) + "\n"
            "Resume with the overrides it was trained with; they are in .hydra/overrides.yaml of its run."
        )
