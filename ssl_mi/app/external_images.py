"""Images that an encoder is evaluated on, with their splits and views."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssl_mi.app.encoder import LoadedEncoder
from ssl_mi.data import Augmentation, Batch, ImageArrays, ImageData, ImageFolder, ImageSet, PlacedBatch, Sets
from ssl_mi.data.pairs import PairedData, PairViews

SPLITS = ("val_fraction", "limit", "val_limit", "test_limit", "labels", "seed")  # of data, what decides its splits
ROW = "row in its set"  # carried through the splits as a factor, and taken out again


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

    def views(self, source: Any, draw: int) -> Batch | PlacedBatch:
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
    source = _source(encoder, data, seed)
    if data is None:
        own = (encoder.provenance.get("config") or {}).get("data") or {}
        splits |= {name: own[name] for name in SPLITS if name in own and name not in getattr(source, "applied", ())}
    splits |= {name: value for name, value in (limits or {}).items() if value is not None}
    images = EvaluatedImages(
        drawn=_drawn(encoder, augmentation),
        sets=source,
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
