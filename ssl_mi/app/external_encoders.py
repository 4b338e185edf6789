"""Any encoder by what it is called: a run, an export, a name of torchvision or timm, an import path, a module."""

from __future__ import annotations

import copy
import importlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ssl_mi.app.encoder import LoadedEncoder
from ssl_mi.app.loading import load
from ssl_mi.networks.measured import measured
from ssl_mi.networks.weights import start_from

IMAGENET: dict[str, Any] = {"size": 224, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
CARD = "encoder.json"  # beside every export: how images reach it, and how its network is built
GRAPHS = (".ts", ".onnx")  # that need no network to be built


def encoder_of(
    what: Any,
    which: str | None = None,
    view: int = 0,
    trust: bool = False,
    untrained: bool = False,
    size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    weights: Any = None,
    seed: int = 0,
) -> LoadedEncoder:
    """Any encoder, with the preprocessing that it needs.

    Args:
        what: The folder of a run, a checkpoint, the folder of an export or a file in it, a name of torchvision or timm
            ("resnet18"; "timm:resnet18" where both have it), an import path "package:make_encoder", or a module.
        which, view, trust: Of a run, see `load`.
        untrained: The network with random weights: of a name, freshly built; of a run, as its parts are initialised;
            of another module, every layer reset.
        size, mean, std: How images reach it, where it does not say so itself; by default those of ImageNet.
        weights: Of a name: a file of weights, see `networks.weights.start_from`.
        seed: Of random weights.

    Raises:
        ValueError: If it is none of these.
        FileNotFoundError: If weights are not on this disk and cannot be downloaded.
    """
    given = {"size": size, "mean": mean, "std": std}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if isinstance(what, LoadedEncoder):
            return _named(_reset(what) if untrained else what, f"encoder {type(what.encoder).__name__}")
        if isinstance(what, nn.Module):
            return _of_module(_reset(what) if untrained else what, type(what).__name__, given, untrained)
        text = str(what)
        if Path(text).expanduser().exists():
            return _of_path(Path(text).expanduser(), which, view, trust, untrained, given)
        library, _, name = text.rpartition(":")
        if library not in ("", "torchvision", "timm"):
            made = _made(text)
            return _of_module(_reset(made) if untrained else made, text, given, untrained)
        return _of_name(library, name, untrained, given, weights)


# ---------------------------------------------------------------------------------------------------------------- files


def _of_path(
    path: Path, which: str | None, view: int, trust: bool, untrained: bool, given: Mapping[str, Any]
) -> LoadedEncoder:
    folder = path if path.is_dir() else path.parent
    if (folder / CARD).is_file() and (path.is_dir() or path.suffix in (*GRAPHS, ".pt", ".safetensors", ".json")):
        return load_export(path, trust, untrained)
    if path.suffix in GRAPHS:
        if untrained:
            raise ValueError(f"{path} holds one set of weights: --untrained is of a run, a name or an import path")
        return _of_module(_graph(path), str(path), given, False)
    encoder = load(path, which, view, trust=trust, untrained=untrained)
    where = encoder.provenance
    kind = "as initialised" if untrained else f"epoch {where['epoch']}"
    return _named(encoder, f"{where['which']} encoder of {where['checkpoint']}, {kind}")


def load_export(path: Path, trust: bool = False, untrained: bool = False) -> LoadedEncoder:
    """What `ssl-mi export` has written, with its preprocessing. No code of the folder is executed.

    Args:
        path: The folder, or a file in it.
        trust: Import parts of other packages that the card names.
        untrained: The network with random weights.

    Raises:
        ValueError: If its network cannot be built from what is there.
    """
    from ssl_mi.app.loading import built_encoder

    folder = path if path.is_dir() else path.parent
    card = json.loads((folder / CARD).read_text())
    named = path if path.is_file() and path.suffix != ".json" else folder / card["weights"]
    if named.suffix in GRAPHS and not untrained:
        network: Any = _graph(named)
        network.out_dim = int(card["out_dim"])
    else:
        network = built_encoder(card["config"], named, trust, int(card["view"]))
        if not untrained:
            start_from(network, named)
    what = f"export {named}{', as initialised' if untrained else ''}"
    provenance = {**card["provenance"], "what": what}
    return LoadedEncoder(network, None, card["preprocessing"], card["class_names"], int(card["view"]), provenance)


def export_card(encoder: LoadedEncoder, weights: str) -> str:
    """The text of `CARD`: all that `load_export` needs.

    Args:
        encoder: What was exported.
        weights: The name of the file with its weights.
    """
    kept = ("objective", "epoch", "seed", "which", "name", "commit", "data")
    found = {
        "weights": weights,
        "out_dim": encoder.out_dim,
        "view": encoder.view,
        "preprocessing": encoder.preprocessing,
        "class_names": list(encoder.class_names),
        "config": {"towers": (encoder.provenance.get("config") or {}).get("towers")},
        "provenance": {key: encoder.provenance.get(key) for key in kept},
    }
    return json.dumps(found, indent=1, default=str) + "\n"


def _graph(path: Path) -> nn.Module:
    if path.suffix == ".onnx":
        return OnnxEncoder(path)
    try:
        return torch.jit.load(str(path), map_location="cpu").eval()
    except RuntimeError as error:
        raise ValueError(f"{path} cannot be read as TorchScript: {str(error).splitlines()[0]}") from error


class OnnxEncoder(nn.Module):
    """An encoder in an ONNX file, run by onnxruntime on the CPU.

    Args:
        path: The file; its only input is a batch of images, its first output h.

    Raises:
        ValueError: If onnxruntime is not installed, or it cannot read the file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        try:
            import onnxruntime
        except ImportError as error:
            raise ValueError(f"{path} needs onnxruntime: pip install onnxruntime") from error
        try:
            self.session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors share no base class
            raise ValueError(f"{path} cannot be read as ONNX: {str(error).splitlines()[0]}") from error
        self.input = self.session.get_inputs()[0].name

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images [n, c, size, size] -> h [n, d], without gradients."""
        return torch.from_numpy(self.session.run(None, {self.input: x.detach().cpu().contiguous().numpy()})[0])


# -------------------------------------------------------------------------------------------------------------- modules


def _named(encoder: LoadedEncoder, what: str) -> LoadedEncoder:
    encoder.provenance.setdefault("what", what)
    return encoder


def _made(path: str) -> nn.Module:
    """What an import path names: a module, or what makes one."""
    home, _, name = path.partition(":")
    try:
        made = getattr(importlib.import_module(home), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{path} cannot be imported: {error}; write package.module:name") from error
    if not isinstance(made, nn.Module):
        if not callable(made):
            raise ValueError(f"{path} is a {type(made).__name__}: it must be, or make, an nn.Module")
        try:
            made = made()
        except Exception as error:  # whatever the user's own code raises
            raise ValueError(
                f"{path}() failed: {type(error).__name__}: {error}; it is called without arguments"
            ) from error
    if not isinstance(made, nn.Module):
        raise ValueError(f"{path} gives a {type(made).__name__}: it must be, or make, an nn.Module")
    return made


def _reset(module: Any) -> Any:
    """A copy whose every layer is initialised anew."""
    fresh = copy.deepcopy(module)
    fixed = []
    for name, part in fresh.named_modules():
        own = [*part.named_parameters(recurse=False)]
        if hasattr(part, "reset_parameters"):
            part.reset_parameters()
        elif own:
            fixed.append(f"{name or type(part).__name__}.{own[0][0]}")
    if fixed:
        raise ValueError(
            f"{type(module).__name__} cannot be reset: {', '.join(fixed[:5])} have no reset_parameters(); give an "
            "untrained network as a module or import path of its own"
        )
    return fresh


def _of_module(module: nn.Module, what: str, given: Mapping[str, Any], untrained: bool) -> LoadedEncoder:
    found: dict[str, Any] = {}
    for name, default in IMAGENET.items():
        own = getattr(module, name, None) if given[name] is None else given[name]
        found[name] = default if own is None else own
    encoder = measured(module, int(found["size"]), len(found["mean"]))
    return _with(encoder, f"{what}{', untrained' if untrained else ''}", found)


def _with(encoder: nn.Module, what: str, shown: Mapping[str, Any], said: str = "") -> LoadedEncoder:
    """The encoder of images of this size, mean and std."""
    numbers = {"size": int(shown["size"]), "mean": [*map(float, shown["mean"])], "std": [*map(float, shown["std"])]}
    how = said or ", ".join(f"{name} {value}" for name, value in numbers.items())
    return LoadedEncoder(encoder, None, {**numbers, "views": [[]]}, provenance={"what": f"{what}: {how}"})


# ---------------------------------------------------------------------------------------------------------------- names


def _of_name(library: str, name: str, untrained: bool, given: Mapping[str, Any], weights: Any) -> LoadedEncoder:
    import torchvision

    if library != "timm" and name in torchvision.models.list_models(module=torchvision.models):
        return _of_torchvision(name, untrained, given, weights)
    timm = _timm()
    if library != "torchvision" and timm is not None and timm.is_model(name):
        return _of_timm(name, untrained, given, weights)
    missing = "" if timm is not None else "; timm's need pip install 'ssl_mi[export]'"
    near = [] if timm is None else timm.list_models(f"*{name}*")[:3]
    raise ValueError(
        f"'{name}' is no run, checkpoint, export, features.npy, import path (package:make_encoder) or network of "
        f"torchvision or timm (resnet18, {', '.join(near) or '...'}): torchvision.models.list_models() and "
        f"timm.list_models() have their names{missing}"
    )


def _timm() -> Any:
    try:
        import timm
    except ImportError:
        return None
    return timm


def _of_torchvision(name: str, untrained: bool, given: Mapping[str, Any], weights: Any) -> LoadedEncoder:
    import torchvision

    from ssl_mi.networks import TorchvisionEncoder

    stock = torchvision.models.get_model_weights(name)["DEFAULT"]
    shown = stock.transforms()
    own = {"size": int(shown.crop_size[0]), "mean": shown.mean, "std": shown.std}
    used = {key: own[key] if given[key] is None else given[key] for key in own}
    plain = untrained or weights is not None
    encoder = TorchvisionEncoder(name, None if plain else "DEFAULT", int(used["size"]))
    if weights is not None and not untrained:
        start_from(encoder, weights)
    return _with(encoder, f"torchvision's {name}, {_words(encoder, untrained, f'weights {stock.name}')}", used)


def _of_timm(name: str, untrained: bool, given: Mapping[str, Any], weights: Any) -> LoadedEncoder:
    import timm

    from ssl_mi.networks import TimmEncoder

    stock = timm.get_pretrained_cfg(name)
    own = {"size": 224, "mean": IMAGENET["mean"], "std": IMAGENET["std"]}
    if stock is not None:
        own = {"size": stock.input_size[-1], "mean": stock.mean, "std": stock.std}
    used = {key: own[key] if given[key] is None else given[key] for key in own}
    plain = untrained or weights is not None
    encoder = TimmEncoder(
        name, pretrained=not plain, image_size=int(used["size"]), weights=None if untrained else weights
    )
    return _with(encoder, f"timm's {name}, {_words(encoder, untrained, 'its default weights')}", used)


def _words(encoder: Any, untrained: bool, stock: str) -> str:
    if untrained:
        return "untrained"
    return f"weights {encoder.started_from}" if hasattr(encoder, "started_from") else stock


@contextmanager
def modes_kept(model: Any) -> Iterator[None]:
    """A module of the user's is in the modes afterwards that it was in."""
    modes = [(part, part.training) for part in model.modules()] if isinstance(model, nn.Module) else []
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
