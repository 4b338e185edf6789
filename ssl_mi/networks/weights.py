"""Weights in: an encoder that starts from a run, a checkpoint or an exported file, with all of its weights or none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ssl_mi.checkpoint_format import KEY, description_of
from ssl_mi.networks.plain import HasPlainForms

CLASSIFIERS = ("fc.", "head.", "heads.", "classifier.")  # what a file may hold beyond the encoder's weights
EXPORTS = ("weights.pt", "weights.safetensors", "encoder.ts")


Weights = str | Path | Mapping[str, Any] | None
SETTINGS = ("path", "which", "view", "match")


def start_from(encoder: nn.Module, weights: Weights, view: int = 0) -> nn.Module:
    """Load an encoder's weights: all of them, or none and an error.

    Afterwards `encoder.started_from` says in words what was loaded and what of the file was left out.

    Args:
        encoder: What is filled.
        weights: The folder of a run or of an export; a checkpoint of a run; or a file of weights (.pt, .pth,
            .safetensors, .ts) with the encoder's own names, or those of torchvision or timm where it has such a form.
            Or a mapping of `path`; `which`, "online" or "teacher" of a run with a teacher, by default what its paper
            evaluates; `view`, of a run with a tower per view; and `match`, "name" or "order": the latter takes a file
            with other names whose tensors have the same kinds and shapes in the same order, which is right only if it
            is the same network. None changes nothing.
        view: Of a run with a tower per view, the tower whose weights are taken where the mapping has no `view`.

    Returns:
        The encoder itself.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file cannot be read, or does not hold every weight in its shape, or holds others than a
            classifier's; with the names.
    """
    if weights is None:
        return encoder
    given = _settings(weights)
    path = _file(Path(given["path"]).expanduser())
    found, chosen = _tensors(path, int(given.get("view", view)), given.get("which"))
    own = encoder.state_dict()
    in_order = _by_order(found, own)
    if given.get("match", "name") == "order" and in_order:
        (state, unknown), chosen, problems = _renamed(found, in_order), f"{chosen}, matched by order", []
    else:
        attempts = [_renamed(found, names) for names in _namings(encoder, own)]
        state, unknown = min(attempts, key=lambda attempt: len(_problems(own, *attempt)))
        problems = _problems(own, state, unknown)
    if problems:
        shown = "; ".join(problems[:8]) + (f"; and {len(problems) - 8} more" if len(problems) > 8 else "")
        raise ValueError(
            f"weights={given['path']} do not fit {type(encoder).__name__}, and none was loaded: {shown}"
            + (ORDER.format(path=given["path"]) if in_order else "")
        )
    encoder.load_state_dict(state, strict=True)
    left = f", left out: {', '.join(sorted(unknown))}" if unknown else ""
    encoder.started_from = f"{path}{chosen}: {len(state)} of {len(own)} tensors{left}"  # type: ignore[assignment]
    return encoder


ORDER = (
    ". All its tensors have the kinds and shapes of this network's, in the same order: if it is the same network under "
    "other names, give encoder.weights={{path:{path},match:order}} (ssl-mi evaluate: --by-order)"
)


def _settings(weights: str | Path | Mapping[str, Any]) -> Mapping[str, Any]:
    if not isinstance(weights, Mapping):
        return {"path": weights}
    if unknown := [str(key) for key in weights if key not in SETTINGS]:
        raise ValueError(f"encoder.weights has no setting {unknown[0]!r}: it has {', '.join(SETTINGS)}")
    if "path" not in weights:
        raise ValueError("encoder.weights={...} needs path, a run or a file")
    for name, allowed in {"which": ("online", "teacher", None), "match": ("name", "order", None)}.items():
        if weights.get(name) not in allowed:
            raise ValueError(f"encoder.weights.{name}={weights[name]!r}: choose {allowed[0]} or {allowed[1]}")
    return {str(key): value for key, value in weights.items() if value is not None}


def _by_order(found: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, str]:
    """Name in a file -> the encoder's own, by place; {} unless kinds and shapes agree, but for a classifier."""
    theirs = list(found.items())[: len(own)]
    same = len(theirs) == len(own) and all(
        (name.rpartition(".")[2], x.shape) == (mine.rpartition(".")[2], y.shape)
        for (name, x), (mine, y) in zip(theirs, own.items(), strict=True)
    )
    rest = list(found.values())[len(own) :]
    if not same or len(rest) > 2 or (rest and rest[-1].shape[:1] != rest[0].shape[:1]):
        return {}
    return {name: mine for (name, _), mine in zip(theirs, own, strict=True)}


def _file(path: Path) -> Path:
    """The file of weights of a run's or an export's folder; the file itself."""
    if path.is_file():
        return path
    inside = [path / "checkpoints" / "last.ckpt", *(path / name for name in EXPORTS)]
    found = [file for file in inside if file.is_file()]
    if not found:
        what = "holds neither checkpoints/last.ckpt nor an export" if path.is_dir() else "is no file and no folder"
        raise FileNotFoundError(f"weights={path} {what}")
    return found[0]


def _tensors(path: Path, view: int, which: str | None) -> tuple[dict[str, Tensor], str]:
    """The weights of a file by name; of a checkpoint of a run those of its encoder, and in words which these are."""
    if path.suffix == ".onnx":
        raise ValueError(f"weights={path}: ONNX does not keep the names of weights: export as safetensors")
    try:
        found = _read(path)
    except ValueError:
        raise
    except Exception as error:  # pickle and zip raise whatever the bytes lead them to
        said = str(error).splitlines()
        raise ValueError(
            f"weights={path} cannot be read without running its code: {said[0] if said else error!r}"
        ) from error
    if isinstance(found.get(KEY), Mapping):
        return _of_run(found, path, view, which)
    if which is not None:
        raise ValueError(f"weights={path} is no run: encoder.weights.which={which} is of runs with a teacher")
    inner = next((found[key] for key in ("state_dict", "model") if isinstance(found.get(key), Mapping)), found)
    tensors = {name: x for name, x in inner.items() if isinstance(x, Tensor)}
    if not tensors:
        raise ValueError(f"weights={path} holds no tensors by name: it is no file of weights")
    return tensors, ""


def _read(path: Path) -> Mapping[str, Any]:
    if path.suffix == ".safetensors":
        try:
            from safetensors.torch import load_file
        except ImportError as error:
            raise ValueError(f"weights={path} needs safetensors: pip install 'ssl_mi[export]'") from error
        return load_file(path)
    if path.suffix == ".ts":
        return torch.jit.load(str(path), map_location="cpu").state_dict()
    found = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(found, Mapping):
        raise ValueError(f"weights={path} holds a {type(found).__name__}, not weights by name")
    return found


def _of_run(checkpoint: Mapping[str, Any], path: Path, view: int, which: str | None) -> tuple[dict[str, Tensor], str]:
    """The encoder's weights in a checkpoint that describes itself: of the teacher where its paper evaluates that."""
    description = description_of(checkpoint, path)
    names = list(description["towers"])
    if view >= len(names) > 1:
        raise ValueError(f"weights={path} has {len(names)} towers, and none for view {view}")
    if which == "teacher" and not description["teacher"]:
        raise ValueError(f"weights={path}: '{description['objective']}' has no teacher: give which=online")
    used = which or (description["evaluated"] if description["teacher"] else "online")
    prefix = f"{'teacher.' if used == 'teacher' else ''}{names[view if len(names) > 1 else 0]}.encoder."
    words = f" ({used}{f', view {view}' if len(names) > 1 else ''})"
    state = {key.removeprefix(prefix): x for key, x in checkpoint["state_dict"].items() if key.startswith(prefix)}
    return state, words


def _namings(encoder: nn.Module, own: Mapping[str, Tensor]) -> Iterator[dict[str, str]]:
    """Name in a file -> the encoder's own: its own names, then those of each library that has it."""
    yield {name: name for name in own}
    if isinstance(encoder, HasPlainForms):
        at = {x.data_ptr(): name for name, x in own.items()}
        for form in encoder.plain_forms().values():  # whose tensors are the encoder's own
            yield {name: at[x.data_ptr()] for name, x in form.state.items() if x.data_ptr() in at}


def _renamed(found: Mapping[str, Tensor], names: Mapping[str, str]) -> tuple[dict[str, Tensor], list[str]]:
    """The weights by the encoder's names, and the names that it does not know."""
    return {names[name]: x for name, x in found.items() if name in names}, [n for n in found if n not in names]


def _problems(own: Mapping[str, Tensor], state: Mapping[str, Tensor], unknown: list[str]) -> list[str]:
    missing = [f"{name} is missing in the file" for name in own if name not in state]
    shapes = [
        f"{name} is {list(x.shape)} in the file and {list(own[name].shape)} here"
        for name, x in state.items()
        if x.shape != own[name].shape
    ]
    return missing + shapes + [f"{name} is unknown here" for name in unknown if not name.startswith(CLASSIFIERS)]
