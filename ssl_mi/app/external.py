"""`ssl_mi.evaluate`: any encoder, or features alone, judged by the evaluations of a run."""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from ssl_mi.app.api import Table
from ssl_mi.app.encoder import LoadedEncoder, load
from ssl_mi.data import ImageArrays, ImageData, ImageFolder, SampleSet
from ssl_mi.data.sets import stratified_order
from ssl_mi.evaluation import external
from ssl_mi.evaluation.measurement import Measurement, write_csv
from ssl_mi.networks.measured import measured
from ssl_mi.report import closing_table

SPLITS = ("val_fraction", "limit", "val_limit", "test_limit", "labels", "seed")  # of data, what decides its splits
IMAGENET: dict[str, Any] = {"size": 224, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


@dataclass(frozen=True)
class Evaluated:
    """What `evaluate` measured.

    Attributes:
        what: What was evaluated, in words.
        data: On what, in words.
        rows: The measurements: metric, value, interval, baseline, ceiling, p, n, note.
    """

    what: str
    data: str
    rows: Sequence[Measurement] = field(repr=False)

    @property
    def table(self) -> Table:
        """A line per quantity."""
        header, lines = closing_table([row.as_dict() for row in self.rows])
        # One encoder, of which a run's words for its own are not always true.
        return Table(["on the test split", "value", *header[2:]], lines)

    def __str__(self) -> str:
        return f"{self.what}\n{self.data}\n{self.table}"

    def _repr_html_(self) -> str:
        return self.table._repr_html_()

    def write(self, folder: str | Path) -> tuple[Path, Path]:
        """Write evaluation.json and evaluation.csv, and return their paths."""
        where = Path(folder)
        where.mkdir(parents=True, exist_ok=True)
        write_csv(where / "evaluation.csv", self.rows)
        rows = [{key: _json(value) for key, value in row.as_dict().items()} for row in self.rows]
        text = json.dumps({"what": self.what, "data": self.data, "rows": rows}, indent=1, allow_nan=False)
        (where / "evaluation.json").write_text(text)
        return where / "evaluation.json", where / "evaluation.csv"


def _json(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def evaluate(
    model_or_features: Any,
    data: Any = None,
    *,
    seed: int = 0,
    limit: int | None = None,
    device: str = "cpu",
    **settings: Any,
) -> Evaluated:
    """Judge an encoder, or features, as a run judges its own at the end.

    The linear probe, kNN, geometry of h, and I(h; label) in nats. Probes are fitted on training samples, the projection
    for I(h; label) on validation samples, and everything is measured on test samples, once.

        ssl_mi.evaluate("resnet50", "photos")
        ssl_mi.evaluate(model, (images, labels), size=96)
        ssl_mi.evaluate(features, labels)

    Args:
        model_or_features: The folder of a run, a checkpoint, a name of torchvision, an import path
            "package:make_encoder", an `nn.Module`, a `LoadedEncoder`; or features [n, d] as an array, a tensor or a
            .npy file.
        data: For an encoder: a folder of images, the name of a data set in conf/data, a pair (images, labels), or a
            source with `load()`; None for the data of the run. For features: labels [n], integers or strings, or a
            .npy file; None measures geometry only.
        seed: Of the splits and the probes.
        limit: Fit probes on just this many images.
        device: Where the encoder runs.
        **settings: See `encoder_of`: which, view, trust; untrained, for a name of torchvision; size, mean, std, for a
            module that does not say them.

    Returns:
        The measurements, which print as a table.

    Raises:
        ValueError: If there is no such thing, or the data cannot be measured, with the remedy.
    """
    features = _features(model_or_features)
    found: FeatureData | ImageData
    if features is not None:
        found = FeatureData(features, None if data is None else _labels(data), seed)
        module, what, epoch = external.External(nn.Identity()), f"features {list(features.shape)}", 0
    else:
        with _modes_kept(model_or_features):
            encoder = encoder_of(model_or_features, **settings)
            found = _images(encoder, data, seed, limit)
        module = external.External(encoder.encoder.to(device))
        what, epoch = str(encoder.provenance["what"]), int(encoder.provenance.get("epoch", 0))
    rows = external.evaluate(module, found, external.feature_evaluations(seed), epoch)
    return Evaluated(what, found.describe(), rows)


@contextmanager
def _modes_kept(model: Any) -> Iterator[None]:
    """A module of the user's is in the modes afterwards that it was in."""
    modes = [(part, part.training) for part in model.modules()] if isinstance(model, nn.Module) else []
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


# ------------------------------------------------------------------------------------------------------------ encoders


def encoder_of(
    what: Any,
    which: str | None = None,
    view: int = 0,
    trust: bool = False,
    untrained: bool = False,
    size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> LoadedEncoder:
    """Any encoder, with the preprocessing that it needs.

    Args:
        what: The folder of a run, a checkpoint, a name of torchvision, an import path "package:make_encoder", or a
            module.
        which, view, trust: Of a run, see `load`.
        untrained: A network of torchvision with random weights.
        size, mean, std: Of a module, where it has no attributes of these names; by default those of ImageNet.

    Raises:
        ValueError: If it is none of these.
        FileNotFoundError: If torchvision's weights are not on this disk and cannot be downloaded.
    """
    given = {"size": size, "mean": mean, "std": std}
    if isinstance(what, LoadedEncoder):
        return _named(what, f"encoder {type(what.encoder).__name__}")
    if isinstance(what, nn.Module):
        return _of_module(what, type(what).__name__, given)
    text = str(what)
    if Path(text).expanduser().exists():
        encoder = load(text, which, view, trust=trust)
        where = encoder.provenance
        return _named(encoder, f"{where['which']} encoder of {where['checkpoint']}, epoch {where['epoch']}")
    if ":" in text:
        return _of_module(_made(text), text, given)
    return _of_torchvision(text, untrained, size)


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
    made = made if isinstance(made, nn.Module) else made()
    if not isinstance(made, nn.Module):
        raise ValueError(f"{path} gives a {type(made).__name__}: it must be, or make, an nn.Module")
    return made


def _of_module(module: nn.Module, what: str, given: Mapping[str, Any]) -> LoadedEncoder:
    found: dict[str, Any] = {}
    for name, default in IMAGENET.items():
        own = getattr(module, name, None) if given[name] is None else given[name]
        found[name] = default if own is None else own
    channels = len(found["mean"])
    preprocessing: dict[str, Any] = {
        "size": int(found["size"]),
        "mean": list(found["mean"]),
        "std": list(found["std"]),
        "views": [[]],
    }
    encoder = measured(module, int(found["size"]), channels)
    how = ", ".join(f"{name} {value}" for name, value in preprocessing.items() if name != "views")
    return LoadedEncoder(encoder, None, preprocessing, provenance={"what": f"{what}: {how}"})


def _of_torchvision(name: str, untrained: bool, size: int | None) -> LoadedEncoder:
    import torchvision  # type: ignore[import-untyped]

    from ssl_mi.networks import TorchvisionEncoder

    if name not in torchvision.models.list_models(module=torchvision.models):
        raise ValueError(
            f"'{name}' is no run, checkpoint, features.npy, import path (package:make_encoder) or network of "
            "torchvision (resnet18, ...): torchvision.models.list_models() has their names"
        )
    weights = torchvision.models.get_model_weights(name)["DEFAULT"]
    shown = weights.transforms()
    side = size or int(shown.crop_size[0])
    encoder = TorchvisionEncoder(name, None if untrained else "DEFAULT", side)
    preprocessing = {"size": side, "mean": list(shown.mean), "std": list(shown.std), "views": [[]]}
    what = f"torchvision's {name}, {'untrained' if untrained else f'weights {weights.name}'}, {side} pixels"
    return LoadedEncoder(encoder, None, preprocessing, provenance={"what": what})


# ---------------------------------------------------------------------------------------------------------------- data


def _images(encoder: LoadedEncoder, data: Any, seed: int, limit: int | None) -> ImageData:
    """Images with the encoder's preprocessing; the splits of its run where the data are those of the run."""
    splits: dict[str, Any] = {"seed": seed}
    if data is None:
        own = (encoder.provenance.get("config") or {}).get("data") or {}
        splits |= {name: own[name] for name in SPLITS if name in own}
    if limit is not None:
        splits["limit"] = limit
    images = ImageData(
        sets=_source(encoder, data, seed),
        augmentation=encoder.augmentation(),
        batch_size=2,  # nothing is trained
        size=encoder.size,
        mean=encoder.mean,
        std=encoder.std,
        upscale=True,
        **splits,
    )
    images.prepare_data()
    images.setup()
    return images


def _source(encoder: LoadedEncoder, data: Any, seed: int) -> Any:
    from ssl_mi.app.composition import Sources
    from ssl_mi.app.startup import build

    if data is None:
        config = encoder.provenance.get("config") or {}
        if "sets" not in (config.get("data") or {}):
            raise ValueError("name the data: a folder of images, or a data set (digits, cifar10, ...)")
        return _instantiated(config["data"]["sets"], encoder)
    if hasattr(data, "load"):
        return data
    if isinstance(data, tuple):
        images, labels = data
        return ImageArrays(images, labels, seed=seed)
    folder = Path(str(data)).expanduser()
    if folder.is_dir():
        return ImageFolder(str(folder), on_error="skip", seed=seed)
    names = Sources.default().options().get("data", [])
    if str(data) not in names:
        raise ValueError(f"data={str(data)!r} is neither a folder of images nor one of {', '.join(names)}")
    page = Sources.default().compose([f"data={data}", "run_dir=."])
    if page.data.get("sets") is None:
        raise ValueError(f"data={data} draws its views and has no images of its own to evaluate on: choose another")
    return build(page.data, "sets")


def _instantiated(part: Mapping[str, Any], encoder: LoadedEncoder) -> Any:
    """The data of a run, from its checkpoint."""
    from hydra.utils import instantiate

    from ssl_mi import data

    target = str(part.get("_target_", ""))
    home, _, name = target.rpartition(".")
    if home != "ssl_mi.data" or name not in data.__all__:
        raise ValueError(f"the checkpoint names data of its own, {target or 'given as an object'}: name data to use")
    return instantiate(dict(part), _convert_="all")


class _Rows:
    """Features as the samples of a set."""

    def __init__(self, h: Tensor) -> None:
        self.h = h

    def __len__(self) -> int:
        return len(self.h)

    def take(self, rows: Tensor) -> _Rows:
        return _Rows(self.h[rows])


class _Source(NamedTuple):
    h: Tensor
    index: Tensor  # type: ignore[assignment]  # shadows tuple.index
    labels: Tensor | None


class FeatureData:
    """Features and labels, split at random as a run splits images: an `EvaluationData` without views.

    Args:
        features: float `[n, d]`.
        labels: Integers or strings `[n]`; None for none.
        seed: Of the splits, which spread the classes evenly.
        test_fraction, val_fraction: Of all rows, and of the rest.

    Raises:
        ValueError: If rows and labels do not match, or a feature is not finite.
    """

    known = None
    batch_size = 1

    def __init__(
        self,
        features: Tensor,
        labels: np.ndarray | None,
        seed: int = 0,
        test_fraction: float = 0.2,
        val_fraction: float = 0.1,
    ) -> None:
        if bad := int((~features.isfinite()).any(1).sum()):
            raise ValueError(f"{bad} of {len(features)} rows of the features hold NaN or infinity: leave them out")
        if labels is not None and len(labels) != len(features):
            raise ValueError(f"{len(features)} rows of features but {len(labels)} labels")
        codes: Tensor | None = None
        names: tuple[str, ...] = ()
        if labels is not None:
            classes, inverse = np.unique(labels, return_inverse=True)
            codes, names = torch.from_numpy(inverse.astype(np.int64)), tuple(map(str, classes))
        self.seed = seed
        everything = SampleSet("features", _Rows(features.float()), codes, names)
        order = stratified_order(codes, len(features), [seed])
        held = round(test_fraction * len(order))
        val = round(val_fraction * (len(order) - held))
        self.test, self.val = everything.take(order[:held]), everything.take(order[held : held + val])
        self.labelled = everything.take(order[held + val :])

    def batches(
        self, split: str, limit: int | None = None, batch_size: int = 512, shard: tuple[int, int] = (0, 1)
    ) -> Iterator[_Source]:
        """See `EvaluationData.batches`."""
        samples: SampleSet = getattr(self, split)
        for rows in torch.arange(len(samples))[:limit].tensor_split(shard[1])[shard[0]].split(batch_size):
            yield _Source(samples.samples.h[rows], rows, samples.label_rows(rows))

    def clean_views(self, source: _Source) -> list[Tensor]:
        """The features themselves."""
        return [source.h]

    def views(self, source: _Source, draw: int) -> Any:
        """Features have no views."""
        raise ValueError("features have no views: evaluate an encoder on images to compare views")

    def to_display(self, view: Tensor) -> None:
        """Nothing can be drawn."""

    def describe(self) -> str:
        """The splits in one line."""
        classes = f"{len(self.test.class_names)} classes" if self.test.labels is not None else "no labels"
        return f"features: {len(self.labelled)} to fit on, {len(self.val)} val, {len(self.test)} test; {classes}"


def _features(what: Any) -> Tensor | None:
    """Features, where `what` is that: float [n, d]."""
    if isinstance(what, str | Path) and str(what).endswith(".npy"):
        what = _array(what)
    if not isinstance(what, Tensor | np.ndarray):
        return None
    if what.ndim != 2:
        raise ValueError(f"features are [n, d], one row a sample; these are {list(what.shape)}")
    return torch.as_tensor(np.asarray(what, dtype=np.float32))


def _labels(data: ArrayLike | str | Path) -> np.ndarray:
    found = _array(data) if isinstance(data, str | Path) else np.asarray(data)
    if found.ndim != 1 or found.dtype.kind not in "iubUS":
        raise ValueError(f"labels are integers or strings [n], one a row; these are {found.dtype} {list(found.shape)}")
    return found


def _array(path: str | Path) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} cannot be read as an array of numbers: {error}") from error
