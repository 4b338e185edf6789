"""Weights in: an encoder that starts from a run, a checkpoint or an exported file, with all of its weights or none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ssl_mi.networks.plain import HasPlainForms

CLASSIFIERS = ("fc.", "head.", "heads.", "classifier.")  # what a file may hold beyond the encoder's weights
EXPORTS = ("weights.pt", "weights.safetensors", "encoder.ts")


def start_from(encoder: nn.Module, weights: str | Path | None, view: int = 0) -> nn.Module:
    """Load an encoder's weights: all of them, or none and an error.

    Afterwards `encoder.started_from` says in words what was loaded and what of the file was left out.

    Args:
        encoder: What is filled.
        weights: The folder of a run or of an export; a checkpoint of a run; or a file of weights (.pt, .pth,
            .safetensors, .ts) with the encoder's own names, or those of torchvision or timm where it has such a form.
            None changes nothing.
        view: Of a run with a tower per view, the tower whose weights are taken.

    Returns:
        The encoder itself.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file cannot be read, or does not hold every weight in its shape, or holds others than a
            classifier's; with the names.
    """
    if weights is None:
        return encoder
    path = _file(Path(weights).expanduser())
    found = _tensors(path, view)
    own = encoder.state_dict()
    attempts = [_renamed(found, names) for names in _namings(encoder, own)]
    state, unknown = min(attempts, key=lambda attempt: len(_problems(own, *attempt)))
    if problems := _problems(own, state, unknown):
        shown = "; ".join(problems[:8]) + (f"; and {len(problems) - 8} more" if len(problems) > 8 else "")
        raise ValueError(f"weights={weights} do not fit {type(encoder).__name__}, and none was loaded: {shown}")
    encoder.load_state_dict(state, strict=True)
    left = f", left out: {', '.join(sorted(unknown))}" if unknown else ""
    encoder.started_from = f"{path}: {len(state)} of {len(own)} tensors{left}"  # type: ignore[assignment]
    return encoder


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


def _tensors(path: Path, view: int) -> dict[str, Tensor]:
    """The weights of a file by name; of a checkpoint of a run those of its encoder."""
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
    if isinstance(found.get("ssl_mi"), Mapping):
        return _of_run(found, path, view)
    inner = next((found[key] for key in ("state_dict", "model") if isinstance(found.get(key), Mapping)), found)
    tensors = {name: x for name, x in inner.items() if isinstance(x, Tensor)}
    if not tensors:
        raise ValueError(f"weights={path} holds no tensors by name: it is no file of weights")
    return tensors


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


def _of_run(checkpoint: Mapping[str, Any], path: Path, view: int) -> dict[str, Tensor]:
    """The encoder's weights in a checkpoint that describes itself: of the teacher where its paper evaluates that."""
    description = checkpoint["ssl_mi"]
    names = list(description["towers"])
    if view >= len(names) > 1:
        raise ValueError(f"weights={path} has {len(names)} towers, and none for view {view}")
    teacher = "teacher." if description["teacher"] and description["evaluated"] == "teacher" else ""
    prefix = f"{teacher}{names[view if len(names) > 1 else 0]}.encoder."
    return {key.removeprefix(prefix): x for key, x in checkpoint["state_dict"].items() if key.startswith(prefix)}


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
