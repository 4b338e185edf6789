"""What an encoder or features are evaluated on: images with their splits and views, or features with labels."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ssl_mi.app.encoder import LoadedEncoder
from ssl_mi.data import Augmentation, Batch, ImageArrays, ImageData, ImageFolder, ImageSet, SampleSet, Sets
from ssl_mi.data.pairs import PairedData, PairViews
from ssl_mi.data.sets import stratified_order

SPLITS = ("val_fraction", "limit", "val_limit", "test_limit", "labels", "seed")  # of data, what decides its splits
ROW = "row in its set"  # carried through the splits as a factor, and taken out again
NAMES = ("train", "val", "test")


# --------------------------------------------------------------------------------------------------------------- images


class EvaluatedImages(ImageData):
    """Images whose views are drawn by another augmentation than the encoder's plain one, and traced to their files.

    Args:
        drawn: Draws two views; None where there are none.
        **settings: Of `ImageData`.
    """

    def __init__(self, drawn: Augmentation | None, **settings: Any) -> None:
        super().__init__(**settings)
        self.drawn = drawn
        self.paths: dict[str, Sequence[str]] = {}
        self.rows: dict[str, Tensor] = {}

    @property
    def draws_views(self) -> bool:
        """Whether there are two views of each image."""
        return self.drawn is not None

    def setup(self, stage: str | None = None) -> None:
        """See `ImageData.setup`."""
        if self.train is not None:
            return
        self.sets = _Traced(self.sets)
        super().setup(stage)
        self.paths = self.sets.paths
        for split in ("labelled", "val", "test"):
            samples = getattr(self, split)
            if samples is not None:
                factors = dict(samples.factors)
                self.rows[split] = factors.pop(ROW)
                setattr(self, split, replace(samples, factors=factors))
        self.train = self.labelled

    def row_names(self, split: str, row: int) -> str:
        """The file of a row of a split; "" where it is from no file."""
        paths = self.paths.get(split if split in self.paths else "train", ())
        return paths[int(self.rows[split][row])] if paths else ""

    def views(self, source: Any, draw: int) -> Batch:
        """See `DataModule.views`."""
        if self.drawn is None:
            raise ValueError("there is no augmentation to draw views with: name one")
        plain, self.augmentation = self.augmentation, self.drawn
        try:
            return super().views(source, draw)
        finally:
            self.augmentation = plain

    def at_strength(self, strength: float) -> EvaluatedImages:
        """The same images, with views of this strength: 1 is the augmentation as it is."""
        other = copy.copy(self)
        if self.drawn is not None:
            other.drawn = stronger(self.drawn, strength)
        return other


class _Traced:
    """A source of images that numbers its rows, and remembers where the files are."""

    def __init__(self, source: Any) -> None:
        self.source = source
        self.paths: dict[str, Sequence[str]] = {}
        if hasattr(source, "prepare"):
            self.prepare = source.prepare

    def load(self) -> Sets:
        # Images without labels are of no use to an evaluation.
        train, test, _, val = Sets(*self.source.load())
        numbered = self._numbered("train", train)
        return Sets(numbered, self._optional("test", test), None, self._optional("val", val))

    def _optional(self, name: str, images: ImageSet | None) -> ImageSet | None:
        return None if images is None else self._numbered(name, images)

    def _numbered(self, name: str, images: ImageSet) -> ImageSet:
        self.paths[name] = getattr(images.images, "paths", ())
        return replace(images, factors={**images.factors, ROW: torch.arange(len(images))})


def stronger(augmentation: Augmentation, strength: float) -> Augmentation:
    """The augmentation with crops, colours and chances scaled; at 0 nothing is drawn, at 1 it is unchanged.

    Args:
        augmentation: Whose ops with `scale`, `strength`, `degrees` or a chance `p` are scaled.
        strength: 0 or more. Chances end at 1, and the least area of a crop at 1%.
    """
    changed = copy.deepcopy(augmentation)
    for view in changed.views:
        for op in view.ops:
            parts: Any = op
            if hasattr(parts, "scale"):
                parts.scale = (max(0.01, 1 - strength * (1 - parts.scale[0])), 1 - strength * (1 - parts.scale[1]))
            if hasattr(parts, "strength"):
                parts.strength = parts.strength * strength
            elif hasattr(parts, "p") and type(op).__name__ != "HorizontalFlip":
                parts.p = min(1.0, parts.p * strength)
    return changed


def images_for(
    encoder: LoadedEncoder,
    data: Any,
    seed: int = 0,
    limits: Mapping[str, int | None] | None = None,
    augmentation: Any = None,
) -> EvaluatedImages:
    """Images with the encoder's preprocessing; the splits of its run where the data are those of the run.

    Args:
        encoder: What will see them.
        data: A folder, the name of a data set, a pair (images, labels), a source with `load()`; None: its run's.
        seed: Of the splits.
        limits: limit, val_limit, test_limit: just this many images.
        augmentation: Of the views: a name of conf/augmentation, or an `Augmentation`; None: the run's own, or "simclr".

    Raises:
        ValueError: If there are no such data, or no test images.
    """
    splits: dict[str, Any] = {"seed": seed}
    if data is None:
        own = (encoder.provenance.get("config") or {}).get("data") or {}
        splits |= {name: own[name] for name in SPLITS if name in own}
    splits |= {name: value for name, value in (limits or {}).items() if value is not None}
    images = EvaluatedImages(
        drawn=_drawn(encoder, augmentation),
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
    if images.test is None or images.val is None:
        lacking = "test" if images.test is None else "validation"
        raise ValueError(f"the data have no {lacking} images: give a folder with train/ and test/, or one of classes")
    return images


def pairs_for(encoder: LoadedEncoder, limits: Mapping[str, int | None] | None = None) -> PairedData | None:
    """The pairs that the encoder's run was trained on, split as there; None where it was trained on something else.

    Args:
        encoder: Of a run or a checkpoint.
        limits: limit, val_limit, test_limit: just this many pairs of each split.

    Raises:
        FileNotFoundError: If files of the pairs are gone.
        ValueError: If the pairs have no test split, or are not those of the run.
    """
    from hydra.utils import get_class

    config = (encoder.provenance.get("config") or {}).get("data") or {}
    if not str(config.get("_target_", "")).startswith("ssl_mi.data.pairs."):
        return None
    if not issubclass(get_class(config["_target_"]), PairedData):
        return None
    data: PairedData = _built({**config, "batch_size": 2, "limit": None}, "data")  # nothing is trained
    data.limit = config.get("limit")
    data.setup()
    if "tokenizer" in (kept := encoder.preprocessing or {}):
        data.load_state_dict({"tokenizer": kept["tokenizer"]})
    if data.test is None or data.val is None:
        lacking = "test" if data.test is None else "val"
        raise ValueError(f"the run set no {data.kind} aside for {lacking}: data.{lacking}_fraction=0")
    for split, name in {"labelled": "limit", "val": "val_limit", "test": "test_limit"}.items():
        samples, limit = getattr(data, split), (limits or {}).get(name)
        if limit is not None:
            setattr(data, split, samples.take(torch.arange(min(limit, len(samples)))))
    return data


def _drawn(encoder: LoadedEncoder, augmentation: Any) -> Augmentation | None:
    from ssl_mi.app.composition import Sources
    from ssl_mi.app.startup import build

    if isinstance(augmentation, Augmentation):
        return augmentation
    own = (encoder.provenance.get("config") or {}).get("augmentation")
    if augmentation is None and own is not None:
        found = _built(own, "Augmentation")
        if isinstance(found, PairViews):
            raise ValueError(
                "the run was trained on pairs of measurements: to judge its encoder on images, name their views too, "
                "--data FOLDER --augmentation simclr; without --data it is judged on its pairs"
            )
        return found
    sources = Sources.default()
    options = sources.options().get("augmentation", [])
    name = augmentation or "simclr"
    if name not in options:
        raise ValueError(f"augmentation={name!r} is none of {', '.join(options)}")
    numbers = [f"data.size={encoder.size}", f"data.mean={list(encoder.mean)}", f"data.std={list(encoder.std)}"]
    page = sources.compose([f"augmentation={name}", "data=digits", *numbers, "run_dir=."])
    drawn = build(page, "augmentation")
    if drawn.n_views < 2:
        raise ValueError(f"augmentation={name!r} draws one view: choose one that draws two, such as simclr")
    return drawn


def view_words(encoder: LoadedEncoder, augmentation: Any) -> str:
    """How the views are drawn, in a few words."""
    if isinstance(augmentation, str):
        return augmentation
    own = (encoder.provenance.get("config") or {}).get("augmentation")
    return "as given" if augmentation is not None else "as the run drew them" if own is not None else "simclr"


def _source(encoder: LoadedEncoder, data: Any, seed: int) -> Any:
    from ssl_mi.app.composition import Sources
    from ssl_mi.app.startup import build

    if data is None:
        own = (encoder.provenance.get("config") or {}).get("data") or {}
        if "sets" not in own and "_target_" in own:
            source = getattr(_built(own, "data"), "image_source", None)
            if source is not None:
                return source()
        if "sets" not in own:
            raise ValueError(
                "an encoder that is not a run or a checkpoint brings no images: name the data, a folder of images or a "
                "data set (digits, cifar10, ...)"
            )
        return _built(own["sets"], "data")
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


def _built(part: Mapping[str, Any], what: str) -> Any:
    """The data or the augmentation of a run, from its checkpoint."""
    from hydra.utils import instantiate

    from ssl_mi import data

    for target in _targets(part):
        home, _, name = target.rpartition(".")
        homes = {"ssl_mi.data": data, "ssl_mi.data.pairs": data.pairs, "ssl_mi.data.streams": data.streams}
        if home not in homes or name not in homes[home].__all__:
            own = target or "given as an object"
            raise ValueError(f"the checkpoint names {what} of its own, {own}: name one to use")
    return instantiate(dict(part), _convert_="all")


def _targets(part: Any) -> list[str]:
    if isinstance(part, list | tuple):
        return [target for inner in part for target in _targets(inner)]
    if not isinstance(part, Mapping):
        return []
    own = [str(part["_target_"])] if "_target_" in part else []
    return own + [target for inner in part.values() for target in _targets(inner)]


# ------------------------------------------------------------------------------------------------------------- features


class _Rows:
    """Features as the samples of a set, and those of a second view beside them."""

    def __init__(self, h: Tensor, other: Tensor | None = None) -> None:
        self.h, self.other = h, other

    def __len__(self) -> int:
        return len(self.h)

    def take(self, rows: Tensor) -> _Rows:
        return _Rows(self.h[rows], None if self.other is None else self.other[rows])


class _Source(NamedTuple):
    h: Tensor
    index: Tensor  # type: ignore[assignment]  # shadows tuple.index
    labels: Tensor | None
    other: Tensor | None = None


class _Views(NamedTuple):
    views: list[Tensor]


class FeatureData:
    """Features and labels, split as a run splits images: an `EvaluationData`.

    Args:
        features: float `[n, d]`.
        labels: Integers or strings `[n]`; None for none.
        seed: Of the splits, which spread the classes evenly.
        test_fraction, val_fraction: Of all rows, and of the rest.
        splits: "train", "val" or "test" for each row; None for random splits. Without "val", a tenth of "train".
        paired: float `[n, d']`, features of a second view of each sample: another crop, or its caption.
        names: Of the rows, for lists; "" for none.

    Raises:
        ValueError: If rows and labels do not match, or a feature is not finite.
    """

    known = None
    batch_size = 1
    draws_views = False

    def __init__(
        self,
        features: Tensor,
        labels: np.ndarray | None,
        seed: int = 0,
        test_fraction: float = 0.2,
        val_fraction: float = 0.1,
        splits: np.ndarray | None = None,
        paired: Tensor | None = None,
        names: Sequence[str] = (),
    ) -> None:
        for what, rows in {"the features": features, "the paired features": paired}.items():
            if rows is not None and (bad := int((~rows.isfinite()).any(1).sum())):
                raise ValueError(f"{bad} of {len(rows)} rows of {what} hold NaN or infinity: leave them out")
        for what, found in {"labels": labels, "splits": splits, "paired features": paired}.items():
            if found is not None and len(found) != len(features):
                raise ValueError(f"{len(features)} rows of features but {len(found)} {what}")
        codes: Tensor | None = None
        classes: tuple[str, ...] = ()
        if labels is not None:
            distinct, inverse = np.unique(labels, return_inverse=True)
            codes, classes = torch.from_numpy(inverse.astype(np.int64)), tuple(map(str, distinct))
        self.seed, self.paired, self.names = seed, paired is not None, tuple(names)
        everything = SampleSet("features", _Rows(features.float(), paired), codes, classes)
        self.rows = _split_rows(codes, len(features), seed, test_fraction, val_fraction, splits)
        self.labelled, self.val, self.test = (everything.take(self.rows[name]) for name in NAMES)
        self.given_splits = splits is not None

    def row_names(self, split: str, row: int) -> str:
        """The name of a row of a split, or its number among all."""
        at = int(self.rows[split][row])
        return self.names[at] if self.names else str(at)

    def batches(
        self, split: str, limit: int | None = None, batch_size: int = 512, shard: tuple[int, int] = (0, 1)
    ) -> Iterator[_Source]:
        """See `EvaluationData.batches`."""
        samples: SampleSet = getattr(self, split)
        for rows in torch.arange(len(samples))[:limit].tensor_split(shard[1])[shard[0]].split(batch_size):
            other = samples.samples.other
            yield _Source(
                samples.samples.h[rows], rows, samples.label_rows(rows), None if other is None else other[rows]
            )

    def clean_views(self, source: _Source) -> list[Tensor]:
        """The features themselves."""
        return [source.h]

    def views(self, source: _Source, draw: int) -> _Views:
        """The features and those that are paired with them, which are never drawn anew."""
        if source.other is None:
            raise ValueError("features have no views: give paired features, or evaluate an encoder on images")
        return _Views([source.h, source.other])

    def to_display(self, view: Tensor) -> None:
        """Nothing can be drawn."""

    def describe(self) -> str:
        """The splits in one line."""
        classes = f"{len(self.test.class_names)} classes" if self.test.labels is not None else "no labels"
        how = "" if self.given_splits else ", at random"
        return f"features: {len(self.labelled)} to fit on, {len(self.val)} val, {len(self.test)} test{how}; {classes}"


def _split_rows(
    codes: Tensor | None, n: int, seed: int, test: float, val: float, splits: np.ndarray | None
) -> dict[str, Tensor]:
    """Rows of "train" (and "labelled"), "val" and "test", each in a random order that spreads the classes."""
    order = stratified_order(codes, n, [seed])
    if splits is None:
        held = round(test * n)
        chosen = round(val * (n - held))
        found = {"test": order[:held], "val": order[held : held + chosen], "train": order[held + chosen :]}
    else:
        words = np.asarray(splits).astype(str)
        if unknown := sorted(set(words) - set(NAMES)):
            raise ValueError(f"splits name {unknown[0]!r}: each row is train, val or test")
        found = {name: order[torch.from_numpy(words == name)[order]] for name in NAMES}
        if not len(found["val"]):
            chosen = round(val * len(found["train"]))
            found |= {"val": found["train"][:chosen], "train": found["train"][chosen:]}
    if empty := [name for name in NAMES if not len(found[name])]:
        raise ValueError(f"there are no {empty[0]} rows among {n} rows of features: give more, or other splits")
    return {**found, "labelled": found["train"]}


class FeatureTable(NamedTuple):
    """Features as they were given.

    Attributes:
        features: float32 `[n, d]`.
        labels: `[n]`, or None.
        splits: "train", "val" or "test" for each row, or None.
        names: Of the rows; () for none.
        paired: float32 `[n, d']`, of a second view, or None.
    """

    features: Tensor
    labels: np.ndarray | None = None
    splits: np.ndarray | None = None
    names: tuple[str, ...] = ()
    paired: Tensor | None = None


def features_of(what: Any) -> FeatureTable | None:
    """Features, where `what` is that: an array, a .npy, or a table (.parquet, .csv, .npz) with columns.

    Of a table: `h`, a list or an array in each row, or all columns of numbers whose names are not among label, split,
    file; `label`, `split` and `file` where there are such columns; `h2` for a second view.

    Raises:
        ValueError: On another shape, or a table without numbers.
    """
    if isinstance(what, str | Path) and Path(what).suffix in (".parquet", ".csv", ".npz"):
        return _table(Path(what).expanduser())
    if isinstance(what, str | Path) and str(what).endswith(".npy"):
        what = array_of(what)
    if not isinstance(what, Tensor | np.ndarray):
        return None
    return FeatureTable(_matrix(what))


def _matrix(found: Any, name: str = "features") -> Tensor:
    if found.ndim != 2:
        raise ValueError(f"{name} are [n, d], one row a sample; these are {list(found.shape)}")
    return torch.as_tensor(np.array(found, dtype=np.float32))


def _table(path: Path) -> FeatureTable:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is no file")
    columns = {".parquet": _parquet, ".csv": _csv, ".npz": _npz}[path.suffix](path)
    label = columns.pop("label", None)
    split, files = columns.pop("split", None), columns.pop("file", None)
    names = () if files is None else tuple(map(str, files))
    paired = columns.pop("h2", None)
    if "h" in columns:
        features = _matrix(np.asarray(columns["h"]), f"{path}: column h: features")
    else:
        numbers = [x for x in columns.values() if x.ndim == 1 and x.dtype.kind in "fiu"]
        if not numbers:
            raise ValueError(
                f"{path} has neither a column h nor columns of numbers, but {', '.join(columns) or 'none'}: it needs "
                "features in h, or a column each, and may have label, split (train, val, test), file"
            )
        features = _matrix(np.stack(numbers, 1))
    return FeatureTable(features, label, split, names, None if paired is None else _matrix(np.asarray(paired)))


def _parquet(path: Path) -> dict[str, np.ndarray]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ValueError(f"{path} needs pyarrow: pip install 'ssl_mi[parquet]'") from error
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise ValueError(f"{path} cannot be read as Parquet: {error}") from error
    found = {}
    for name in table.column_names:
        column = table.column(name).combine_chunks()
        if pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type):
            found[name] = np.asarray(column.flatten()).reshape(len(column), -1)
        else:
            found[name] = np.asarray(column.to_pylist())
    return found


def _csv(path: Path) -> dict[str, np.ndarray]:
    import csv

    with path.open(newline="") as file:
        header, *lines = list(csv.reader(file)) or [[]]
    if not lines or any(len(line) != len(header) for line in lines):
        raise ValueError(f"{path} is no table: it needs a line of names, and lines of as many cells")
    found = {}
    for name, cells in zip(header, zip(*lines, strict=True), strict=True):
        try:
            found[name] = np.array(cells, dtype=np.int64 if name == "label" else np.float64)
        except ValueError:
            found[name] = np.array(cells)
    return found


def _npz(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as arrays:
        found = {name: arrays[name] for name in arrays}
    if "labels" in found:  # as `ssl-mi embed` writes them
        codes, names = found.pop("labels"), found.pop("class_names", None)
        found["label"] = codes if names is None else names[codes]
    if "files" in found:
        found["file"] = found.pop("files")
    found.pop("z", None)
    return found


def labels_of(data: ArrayLike | str | Path) -> np.ndarray:
    """Labels `[n]`: integers or strings, as an array or a .npy file.

    Raises:
        ValueError: If they are something else.
    """
    found = array_of(data) if isinstance(data, str | Path) else np.asarray(data)
    if found.ndim != 1 or found.dtype.kind not in "iubUS":
        raise ValueError(f"labels are integers or strings [n], one a row; these are {found.dtype} {list(found.shape)}")
    return found


def array_of(path: str | Path) -> np.ndarray:
    """The array in a .npy file.

    Raises:
        ValueError: If it cannot be read without running its code.
    """
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} cannot be read as an array of numbers: {error}") from error
