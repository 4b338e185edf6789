"""`ssl-mi export RUN --format F --out DIR`: an encoder for whoever does not have ssl_mi.

Every format is read back from its files as a stranger would and compared with the encoder on random images.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

    from ssl_mi.app.encoder import LoadedEncoder
    from ssl_mi.networks.plain import PlainForm

# Torch is imported where it is used: --help answers at once.

WEIGHTS = (".pt", ".safetensors", ".ts", ".onnx")
TOLERANCE = 1e-4  # of the largest |h|: other kernels sum in another order

ABOUT = """\
Write the encoder of a run for use without ssl_mi: weights, code that builds the network, preprocessing and a model
card. The files are read back and compared with the encoder before the command ends. `ssl-mi evaluate` and
encoder.weights take the folder again: encoder.json in it holds what they need."""

MORE = """\
formats
  torchvision   weights.pt and build.py; torchvision's own ResNet or ViT loads them with strict=True. Other networks
                are built by build.py, which says what differs
  timm          the same for timm
  safetensors   weights.safetensors and build.py
  torchscript   encoder.ts; needs no code, torch.jit.load reads it
  onnx          encoder.onnx; any number of images at once

  safetensors, timm and onnx need packages: pip install 'ssl_mi[export]'

examples
  ssl-mi export runs/simclr_cifar/2026-01-01_12-00-00-000 --format torchvision --out resnet
  ssl-mi export last.ckpt --format onnx --out encoder --which teacher

exit status
  0  written and compared      1  failed: the reason on stderr      2  wrong usage"""


class Format(NamedTuple):
    """A format: what writes it and gives a function x -> h of what was written, and the packages that it needs."""

    write: Callable[[LoadedEncoder, Path], Callable[[Tensor], Tensor]]
    packages: tuple[str, ...] = ()


class Exported(NamedTuple):
    """What `export` has written.

    Attributes:
        files: In order of their names.
        difference: The largest difference of h, exported and not, over the largest |h|.
        differs: How the network differs from a stock one, in words; "" where it does not.
    """

    files: tuple[Path, ...]
    difference: float
    differs: str


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments.

    Args:
        parser: Of `ssl-mi export`, changed in place.
    """
    parser.description, parser.epilog = ABOUT, MORE
    parser.add_argument("run", metavar="RUN", help="folder of a run, or a checkpoint")
    parser.add_argument("--format", required=True, choices=list(FORMATS))
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new or empty folder")
    add_choice(parser)


def add_choice(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say which encoder of a run is meant: those of `ssl_mi.load`."""
    parser.add_argument(
        "--which", choices=("online", "teacher"), help="of a method with a teacher; default: as its paper evaluates"
    )
    parser.add_argument("--view", type=int, default=0, help="of a method with a tower per view; default: 0")
    parser.add_argument("--trust", action="store_true", help="import parts of other packages that the file names")


def run(arguments: argparse.Namespace) -> int:
    """Export, print what was written and how it compares, and return the exit status."""
    from ssl_mi.app.loading import load
    from ssl_mi.app.startup import clear_errors

    with clear_errors():
        encoder = load(arguments.run, arguments.which, arguments.view, trust=arguments.trust)
        done = export(encoder, arguments.format, arguments.out)
    where = encoder.provenance
    print(f"encoder: {where['which']} weights of {where['checkpoint']}, epoch {where['epoch']}")
    if done.differs:
        print(f"differs: {done.differs}; build.py builds it")
    print(f"parity: largest difference of h {done.difference:.1e} of the largest |h|, allowed {TOLERANCE:g}")
    for path in done.files:
        print(f"written: {path}")
    return 0


def export(encoder: LoadedEncoder, format: str, out: str | Path) -> Exported:
    """Write an encoder for use without ssl_mi, and compare what was written with it.

    Args:
        encoder: As `ssl_mi.load` gives it.
        format: One of `FORMATS`.
        out: A folder, which must be new or empty.

    Returns:
        The files and the largest difference.

    Raises:
        ValueError: If a package is missing, the network has no form in that format, or what was written gives
            another h.
        FileExistsError: If the folder holds something.
    """
    from ssl_mi.app.external_encoders import CARD, export_card
    from ssl_mi.app.model_card import card

    if format not in FORMATS:
        raise ValueError(f"there is no format {format!r}; there are: {', '.join(FORMATS)}")
    _need(format, FORMATS[format].packages)
    folder = Path(out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"--out {folder} is not an empty folder: name a new one")
    differs = _differs(encoder, format)
    if not encoder.takes_images:
        encoder.input()  # which raises where its input is not known
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        difference = _written(encoder, format, folder)
    except BaseException:  # half an export is of no use
        for path in folder.iterdir():
            path.unlink()
        if made:
            folder.rmdir()
        raise
    text = card(encoder, format, difference, differs, buildable=(folder / "build.py").exists())
    (folder / "README.md").write_text(text)
    weights = next(path.name for path in sorted(folder.iterdir()) if path.suffix in WEIGHTS)
    (folder / CARD).write_text(export_card(encoder, weights))
    return Exported(tuple(sorted(folder.iterdir())), difference, differs)


def _written(encoder: LoadedEncoder, format: str, folder: Path) -> float:
    """Write the files, and compare what is read back from them; the largest difference of h."""
    try:
        written = FORMATS[format].write(encoder.cpu().eval(), folder)
        difference = _difference(encoder, written)
    except (RuntimeError, TypeError, NotImplementedError) as error:  # of torch's exporters, whose errors share no base
        others = ", ".join(name for name in ("torchscript", "safetensors") if name != format)
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"--format {format} cannot write {type(encoder.encoder).__name__}: {reason[:200]}; use --format {others}"
        ) from error
    if not difference <= TOLERANCE:
        raise ValueError(
            f"--format {format} gives another h than the encoder: they differ by {difference:.1e} of the largest |h|, "
            f"more than {TOLERANCE:g}; choose another format"
        )
    return difference


def _need(format: str, packages: tuple[str, ...]) -> None:
    from importlib.util import find_spec

    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise ValueError(
            f"--format {format} needs {' and '.join(missing)}: pip install {' '.join(missing)}, or all that exports "
            "need, pip install 'ssl_mi[export]'"
        )


def _differs(encoder: LoadedEncoder, format: str) -> str:
    """How the network that this format describes differs from a stock one; ValueError where it cannot be described."""
    if format in ("torchvision", "timm"):
        return _form(encoder, format).differs
    return ""


def _form(encoder: LoadedEncoder, library: str) -> PlainForm:
    """The plain form in a library; for torchvision also one of torch alone."""
    from ssl_mi.networks.plain import HasPlainForms

    network = encoder.encoder
    forms = network.plain_forms() if isinstance(network, HasPlainForms) else {}
    found = forms.get(library) or (forms.get("torch") if library == "torchvision" else None)
    if found is None:
        others: list[str] = [name for name in ("torchvision", "timm") if name in forms]
        others += ["torchvision"] if "torch" in forms else []
        others += [] if forms else ["safetensors"]
        raise ValueError(
            f"{type(network).__name__} has no form in {library}: use --format "
            f"{', '.join([*dict.fromkeys(others), 'torchscript'])} or onnx"
        )
    return found


def _difference(encoder: LoadedEncoder, written: Callable[[Tensor], Tensor]) -> float:
    """The largest |difference| over the largest |h|, on batches of two sizes."""
    import torch

    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    for n in (2, 5):  # a batch size that a trace has baked in shows here
        x = encoder.example(n, generator)
        with torch.no_grad():
            h, other = encoder(x), written(x)
        if other.shape != h.shape:
            raise ValueError(f"the export gives {list(other.shape)} where the encoder gives {list(h.shape)}")
        worst = max(worst, ((h - other).abs().max() / h.abs().max().clamp_min(1e-12)).item())
    return worst


# ------------------------------------------------------------------------------------------------------------- formats


def _torchvision(encoder: LoadedEncoder, folder: Path) -> Callable[[Tensor], Tensor]:
    return _plain(encoder, folder, _form(encoder, "torchvision"))


def _timm(encoder: LoadedEncoder, folder: Path) -> Callable[[Tensor], Tensor]:
    return _plain(encoder, folder, _form(encoder, "timm"))


def _plain(encoder: LoadedEncoder, folder: Path, form: PlainForm) -> Callable[[Tensor], Tensor]:
    import torch

    torch.save(_contiguous(form.state), folder / "weights.pt")
    return _built(encoder, folder, form, "torch.load(folder / 'weights.pt', weights_only=True)", "import torch")


def _safetensors(encoder: LoadedEncoder, folder: Path) -> Callable[[Tensor], Tensor]:
    from safetensors.torch import save_file

    from ssl_mi.networks.plain import HasPlainForms

    path = folder / "weights.safetensors"
    if not isinstance(encoder.encoder, HasPlainForms):  # the weights alone: ssl_mi builds the network
        save_file(_contiguous(encoder.encoder.state_dict()), path)
        return _refilled(encoder, path)
    form = next(iter(encoder.encoder.plain_forms().values()))
    save_file(_contiguous(form.state), path)
    return _built(
        encoder, folder, form, "load_file(folder / 'weights.safetensors')", "from safetensors.torch import load_file"
    )


def _refilled(encoder: LoadedEncoder, path: Path) -> Callable[[Tensor], Tensor]:
    import copy

    from safetensors.torch import load_file

    network = copy.deepcopy(encoder.encoder)
    network.load_state_dict(load_file(path), strict=True)
    return network.eval()


def _built(encoder: LoadedEncoder, folder: Path, form: PlainForm, read: str, reader: str) -> Callable[[Tensor], Tensor]:
    """Write build.py, and do what it says."""
    import runpy

    imports = dict.fromkeys(["from pathlib import Path", reader, *form.imports])
    lines = [
        '"""An encoder in plain PyTorch, written by ssl-mi export. net = load(); h = net(normalised images)."""',
        "",
        *sorted(imports),
        "",
        f"SIZE = {encoder.size}  # pixels a side",
        f"MEAN, STD = {encoder.mean}, {encoder.std}  # of images in [0, 1]",
        "",
        "",
        "def build():",
        f"    # {form.differs or 'as the library has it'}",
        *(f"    {line}" for line in form.build),
        "    return net",
        "",
        "",
        "def load(folder=Path(__file__).parent):",
        "    net = build()",
        f"    net.load_state_dict({read}, strict=True)",
        "    return net.eval()",
        "",
    ]
    path = folder / "build.py"
    path.write_text("\n".join(lines))
    return runpy.run_path(str(path))["load"]()


def _contiguous(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: x.detach().cpu().contiguous().clone() for name, x in state.items()}


def _example(encoder: LoadedEncoder) -> Tensor:
    import torch

    return encoder.example(2, torch.Generator().manual_seed(0))


def _torchscript(encoder: LoadedEncoder, folder: Path) -> Callable[[Tensor], Tensor]:
    import warnings

    import torch

    path = folder / "encoder.ts"
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of checks of the input, which a trace does not keep
        torch.jit.save(torch.jit.trace(encoder.encoder, _example(encoder)), str(path))
        return torch.jit.load(str(path))


def _onnx(encoder: LoadedEncoder, folder: Path) -> Callable[[Tensor], Tensor]:
    import contextlib
    import io
    import warnings

    import torch

    path = folder / "encoder.onnx"
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        warnings.simplefilter("ignore")
        torch.onnx.export(
            encoder.encoder,
            (_example(encoder),),
            str(path),
            input_names=["images"],
            output_names=["h"],
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    return _onnx_session(path)


def _onnx_session(path: Path) -> Callable[[Tensor], Tensor]:
    """By onnxruntime where it is installed, else by onnx's own slow evaluator."""
    from importlib.util import find_spec

    import torch

    if find_spec("onnxruntime") is not None:
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    else:
        from onnx.reference import ReferenceEvaluator

        session = ReferenceEvaluator(str(path))
    return lambda x: torch.from_numpy(session.run(None, {"images": x.numpy()})[0])


FORMATS = {
    "torchvision": Format(_torchvision),
    "timm": Format(_timm, ("timm",)),
    "safetensors": Format(_safetensors, ("safetensors",)),
    "torchscript": Format(_torchscript),
    "onnx": Format(_onnx, ("onnx", "onnxscript")),
}
