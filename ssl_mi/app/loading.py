"""Loading an encoder from a run or a checkpoint: its towers are built as they were configured and take its weights.

A checkpoint is data: no code in it is executed, and parts of other packages that it names are imported only on trust.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ssl_mi.app.encoder import LoadedEncoder
from ssl_mi.app.resuming import misfits, read
from ssl_mi.checkpoint_format import description_of, writer

GIVEN = "ssl_mi.app.api.given"


def load(
    run_or_checkpoint: str | Path,
    which: str | None = None,
    view: int = 0,
    encoder: nn.Module | None = None,
    trust: bool = False,
    untrained: bool = False,
) -> LoadedEncoder:
    """The trained encoder of a run, ready for use. No code in the file is executed.

    Args:
        run_or_checkpoint: The folder of a run, or a checkpoint file.
        which: Of a method with a teacher: "online" or "teacher". None: what the method's paper evaluates, which is the
            teacher of DINO and the online encoder of all others. `provenance["which"]` says which it is.
        view: Of a method with a tower per view: the tower of this view.
        encoder: A module to fill, for a run whose encoder was given as an object in Python: one that is built alike.
        trust: Import and build the parts of other packages that the checkpoint names. Parts of ssl_mi and torch.nn
            need no trust.
        untrained: Leave the network as its parts initialise it, from torch's random state: a twin to compare with.

    Returns:
        The encoder in eval mode, on the CPU.

    Raises:
        FileNotFoundError: If there is no checkpoint.
        ValueError: If it cannot be read, is of another format, does not fit, or names parts of other packages.
    """
    path = checkpoint_of(run_or_checkpoint)
    checkpoint = read(path)
    description = description_of(checkpoint, path)
    which = _which(which, description, path)
    prefix = ("teacher." if which == "teacher" else "") + _tower(view, description, path) + "."
    state = {key.removeprefix(prefix): x for key, x in checkpoint["state_dict"].items() if key.startswith(prefix)}
    if encoder is None:
        tower = _built(description["config"], path, trust, writer(description)).tower_of(view)
        if not untrained:
            _fill(tower, state, path)
        built, projector = tower.encoder, tower.projector
    else:
        own = {key.removeprefix("encoder."): x for key, x in state.items() if key.startswith("encoder.")}
        if not untrained:
            _fill(encoder, own, path)
        built, projector = encoder, None
    provenance = {key: value for key, value in description.items() if key not in ("preprocessing", "class_names")}
    provenance |= {"checkpoint": str(path), "which": which, "view": view, "epoch": checkpoint.get("epoch", -1) + 1}
    return LoadedEncoder(built, projector, description["preprocessing"], description["class_names"], view, provenance)


def checkpoint_of(run_or_checkpoint: str | Path) -> Path:
    """The checkpoint file of a run's folder, or the file itself.

    Raises:
        FileNotFoundError: If there is none, or several of which none is `last.ckpt`.
    """
    if not isinstance(run_or_checkpoint, str | Path):
        raise ValueError(f"the folder of a run or a checkpoint is a path, not {type(run_or_checkpoint).__name__}")
    path = Path(run_or_checkpoint).expanduser()
    if path.is_file():
        return path
    if not path.is_dir():
        raise FileNotFoundError(f"{path} is neither the folder of a run nor a checkpoint")
    place = path / "checkpoints" if (path / "checkpoints").is_dir() else path
    last = place / "last.ckpt"
    found = [last] if last.is_file() else sorted(place.glob("*.ckpt"))
    if len(found) == 1:
        return found[0]
    if found:
        raise FileNotFoundError(f"{place} has several checkpoints: name one of {', '.join(map(str, found[:5]))}")
    below = (folder for depth in ("*", "*/*") for folder in path.glob(f"{depth}/checkpoints/*.ckpt"))
    runs = [str(run) for run in dict.fromkeys(sorted(folder.parent.parent for folder in below))]
    several = f", but holds runs: name one of {', '.join(runs[-5:])}" if runs else ""
    raise FileNotFoundError(f"{path} is not the folder of a run, which has a checkpoint in checkpoints/{several}")


def _which(which: str | None, description: Mapping[str, Any], path: Path) -> str:
    if which not in (None, "online", "teacher"):
        raise ValueError(f"which={which!r}: choose 'online' or 'teacher', or None for what the paper evaluates")
    if which == "teacher" and not description["teacher"]:
        raise ValueError(f"{path}: '{description['objective']}' was trained without a teacher; use which='online'")
    return which or (description["evaluated"] if description["teacher"] else "online")


def _tower(view: int, description: Mapping[str, Any], path: Path) -> str:
    """The name of the tower of a view in the state dict; one tower sees all views."""
    names = description["towers"]
    if not isinstance(view, int) or view < 0:
        raise ValueError(f"view={view!r}: the number of a view, from 0")
    if view >= len(names) and len(names) > 1:
        raise ValueError(f"{path} has {len(names)} towers, one per view: use view=0 to {len(names) - 1}, not {view}")
    views = (description["preprocessing"] or {}).get("views") or ()
    if len(names) == 1 and len(views) and view >= len(views):
        raise ValueError(f"{path} was trained on {len(views)} views: use view=0 to {len(views) - 1}, not {view}")
    return names[view if len(names) > 1 else 0]


def _built(config: Mapping[str, Any] | None, path: Path, trust: bool, by: str = "another version") -> Any:
    """The towers that a configuration describes, with random weights; by: the version that wrote it."""
    part = None if config is None else config.get("towers")
    if part is None:
        raise ValueError(f"{path} was trained from Python objects: build its encoder alike and give load(encoder=...)")
    targets = _targets(part)
    if GIVEN in targets:
        raise ValueError(
            f"{path}: a part of the towers was given as an object in Python, which a checkpoint does not hold: build "
            "the encoder alike and give load(encoder=...)"
        )
    own = f"use that version, or build the encoder alike and give load(encoder=...): {path} was written by {by}"
    gone = sorted(target for target in targets if target.startswith("ssl_mi.networks.") and not _is_there(target))
    if gone:
        raise ValueError(f"{path} names {', '.join(gone)}, which this version of ssl_mi does not have; {own}")
    foreign = sorted(target for target in targets if not _is_known(target))
    if foreign and not trust:
        raise ValueError(
            f"{path} names parts of another package, {', '.join(foreign)}: if you know where the file is from, allow "
            "it to import them with trust=True (on the command line --trust)"
        )
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    try:
        return instantiate(_without_weights(part), _convert_="all")
    except InstantiationException as error:
        if not isinstance(error.__cause__, TypeError | AttributeError | ImportError):
            raise
        raise ValueError(f"{path} describes towers that this version cannot build: {error.__cause__}; {own}") from error


def built_encoder(config: Mapping[str, Any] | None, path: Path, trust: bool, view: int) -> nn.Module:
    """The encoder of a view that a configuration describes, with random weights.

    Args:
        config: Resolved, with the key "towers".
        path: Where it is from, for messages.
        trust: Import parts of other packages.
        view: Whose encoder.

    Raises:
        ValueError: If it describes none, or names parts of other packages without trust.
    """
    encoder: Any = _built(config, path, trust).tower_of(view).encoder
    return encoder


def _is_known(target: str) -> bool:
    """Whether it is a public part of ssl_mi.networks or a layer of torch: what a checkpoint may name unasked.

    A module holds more than its own names (ssl_mi.networks.encoders.torch.hub.load), so whole names are compared.
    """
    from ssl_mi import networks

    home, _, name = target.rpartition(".")
    layer = getattr(nn, name, None) if home == "torch.nn" else None
    return (home == "ssl_mi.networks" and name in networks.__all__) or (
        isinstance(layer, type) and issubclass(layer, nn.Module)
    )


def _is_there(target: str) -> bool:
    """Whether a name of ssl_mi.networks is one, without importing anything that only the file names."""
    from ssl_mi import networks

    first, *rest = target.removeprefix("ssl_mi.networks.").split(".")
    return first in networks.__all__ or bool(rest)


def _targets(part: Any) -> set[str]:
    """Every class and function that a part of a configuration names."""
    inner = part.values() if isinstance(part, Mapping) else part if isinstance(part, list | tuple) else ()
    own = {str(part["_target_"])} if isinstance(part, Mapping) and "_target_" in part else set()
    return own.union(*map(_targets, inner))


def _without_weights(part: Any) -> Any:
    """The part without the weights it started from: they are in the checkpoint, and their file may be gone."""
    if isinstance(part, list | tuple):
        return [_without_weights(inner) for inner in part]
    if not isinstance(part, Mapping):
        return part
    kept = {key: _without_weights(value) for key, value in part.items()}
    if _is_known(str(kept.get("_target_", ""))):
        kept |= {key: None if key == "weights" else False for key in ("weights", "pretrained") if key in kept}
    return kept


def _fill(module: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Load all weights, or none and raise ValueError with the keys."""
    problems = misfits(state, module.state_dict())
    if problems:
        raise ValueError(f"{path}: its weights do not fit {type(module).__name__}:\n" + "\n".join(problems))
    module.load_state_dict(dict(state))
