"""Sets of Hugging Face `datasets`: a folder of `save_to_disk`, parquet or arrow files, or the name of one on the hub.

The package is an extra, `pip install "ssl_mi[huggingface]"`, and is imported when a set is opened.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ssl_mi import _nearest as nearest
from ssl_mi.data.images.augmentations import Augmentation
from ssl_mi.data.images.decoding import Decoder
from ssl_mi.data.images.encoded import EncodedImage, EncodedImages, encoded_bytes
from ssl_mi.data.images.files import ImageFiles, Survey, few, suitable_side, survey
from ssl_mi.data.images.module import ImageData, SetSource
from ssl_mi.data.sets import ImageSet, Sets, stratified_order

log = logging.getLogger(__name__)

AUTO = "auto"
VALIDATION = ("validation", "valid", "val")  # names of that split, the first that is there
UNLABELLED = -1  # what `datasets` put where a split has no labels
_SAVED = ("dataset_dict.json", "state.json")  # in a folder that `save_to_disk` wrote
_ARROW, _PARQUET = ".arrow", ".parquet"


def opened(path: Any, key: str, streaming: bool = False) -> dict[str, Any]:
    """The splits of a set.

    Args:
        path: A folder that `save_to_disk` wrote; a folder of parquet, arrow or other files that `load_dataset` takes;
            one parquet or arrow file; a name on the hub. Or a `Dataset` or `DatasetDict`.
        key: Of the configuration, for messages.
        streaming: Whether the splits are iterable.

    Returns:
        Split -> `Dataset`, or `IterableDataset`; one alone is called "train".

    Raises:
        FileNotFoundError: If there is no such folder, and no name on the hub that can be reached.
        ValueError: If the package is missing, or the files cannot be read.
    """
    datasets = _package(key)
    kinds = (datasets.DatasetDict, datasets.Dataset, datasets.IterableDatasetDict, datasets.IterableDataset)
    if isinstance(path, kinds):
        found = path
    else:
        with _one_line(key, path), _quiet(datasets):
            found = _read(datasets, str(path), key, streaming)
    splits = dict(found) if isinstance(found, Mapping) else {"train": found}
    if not splits:
        raise ValueError(f"{key}={path}: the set has no splits")
    return splits


def is_saved(path: Path) -> bool:
    """Whether a folder is one that `save_to_disk` wrote, or a file is an arrow file.

    Args:
        path: The folder or file.
    """
    return path.suffix.lower() == _ARROW or any((path / name).is_file() for name in _SAVED)


def _package(key: str) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise ValueError(
            f'{key}: the package datasets reads this: pip install "ssl_mi[huggingface]" ({error})'
        ) from None
    return datasets


def _read(datasets: Any, path: str, key: str, streaming: bool) -> Any:
    place = Path(path).expanduser()
    if place.is_dir() and any((place / name).is_file() for name in _SAVED):
        found = datasets.load_from_disk(str(place))
        if not streaming:
            return found
        return found.to_iterable_dataset() if isinstance(found, datasets.Dataset) else {
            name: split.to_iterable_dataset() for name, split in found.items()
        }  # fmt: skip
    if place.is_file():
        builder = {_ARROW: "arrow", _PARQUET: "parquet"}.get(place.suffix.lower())
        if builder is None:
            raise ValueError(f"{key}={path}: a file is a .parquet or an .arrow; otherwise give the folder")
        return datasets.load_dataset(builder, data_files=str(place), streaming=streaming)
    if place.is_dir():
        return datasets.load_dataset(str(place), streaming=streaming)
    if path.startswith((".", "/", "~")) or path.count("/") > 1 or place.suffix in (_ARROW, _PARQUET):
        raise FileNotFoundError(f"{key}={path}: there is no file or folder {place.absolute()}")
    # Not a folder: a name. Without a network it is refused at once rather than after some tries.
    config = datasets.DownloadConfig(max_retries=0)
    return datasets.load_dataset(path, streaming=streaming, download_config=config)


@contextmanager
def _quiet(datasets: Any) -> Iterator[None]:
    """Neither bars nor the log of every try of the hub."""
    loggers = {name: logging.getLogger(name).level for name in ("huggingface_hub", "datasets", "fsspec")}
    bars = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    for name in loggers:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name, level in loggers.items():
            logging.getLogger(name).setLevel(level)
        if not bars:
            datasets.enable_progress_bars()


@contextmanager
def _one_line(key: str, path: Any) -> Iterator[None]:
    """Whatever the package raises, as one line with the key and the remedy."""
    try:
        yield
    except (ConnectionError, TimeoutError) as error:
        raise FileNotFoundError(
            f"{key}={path}: there is no folder {Path(str(path)).absolute()}, and the hub cannot be reached "
            f"({_line(error)}): give a folder that save_to_disk wrote, or parquet files"
        ) from None
    except (ValueError, FileNotFoundError) as error:
        text, kind = _line(error), FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError
        raise kind(text if text.startswith(key) else f"{key}={path}: {text}") from None
    except Exception as error:  # pyarrow's, and those of builders
        raise ValueError(f"{key}={path} cannot be read as a set of the datasets package: {_line(error)}") from None


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    cause = error.__cause__
    return text if cause is None or len(text) > 200 else f"{text}: {' '.join(str(cause).split())[:200]}"


def column_of(split: Any, name: str, key: str, of: str) -> Any:
    """The feature of a column.

    Args:
        split: A `Dataset` or `IterableDataset`.
        name: Of the column.
        key: Of the configuration, for the message.
        of: What the split is called.

    Raises:
        ValueError: If there is none; the message has the nearest name.
    """
    features = split.features
    if features is not None and name not in features:
        near = nearest.hint(name, features) or f"; it has {few(list(features), 8)}"
        raise ValueError(f"{key}: {of} has no column '{name}'{near}")
    return None if features is None else features[name]


def undecoded(split: Any, column: str, key: str, of: str) -> Any:
    """The split with the cells of a column of images as they are kept: encoded.

    Args:
        split: A `Dataset` or `IterableDataset`.
        column: The column.
        key: Of the configuration, for the message.
        of: What the split is called.

    Raises:
        ValueError: If the column holds no images.
    """
    import datasets

    feature = column_of(split, column, key, of)
    if isinstance(feature, datasets.Image):
        return split.cast_column(column, datasets.Image(decode=False))
    if not _can_be_images(feature):
        images = [name for name, one in (split.features or {}).items() if isinstance(one, datasets.Image)]
        others = f": those of {few(images)} are" if images else ""
        raise ValueError(f"{key}: column '{column}' of {of} holds {_called(feature)}, which are no images{others}")
    return split


def _can_be_images(feature: Any) -> bool:
    import datasets

    if isinstance(feature, datasets.Value):
        return feature.dtype in ("binary", "large_binary", "string", "large_string")
    arrays = (datasets.Array2D, datasets.Array3D)
    nested = isinstance(getattr(feature, "feature", None), datasets.List)  # rows of pixels
    struct = isinstance(feature, dict) and bool({"bytes", "path"} & set(feature))
    return feature is None or struct or nested or isinstance(feature, (*arrays, datasets.Image))


def _called(feature: Any) -> str:
    dtype = getattr(feature, "dtype", None)
    return f"values of type {dtype}" if isinstance(dtype, str) else f"{type(feature).__name__} cells"


class _Cells:
    """The encoded image in each cell of a column; can be pickled, for worker processes."""

    def __init__(self, split: Any, column: str, name: str, folder: Path) -> None:
        self.split, self.column, self.name, self.folder = split.select_columns([column]), column, name, folder

    def __call__(self, row: int) -> EncodedImage:
        return EncodedImage(f"{self.name}: row {row} of '{self.column}'", partial(self._bytes, row))

    def _bytes(self, row: int) -> bytes:
        return encoded_bytes(self.split[row][self.column], self.folder)


def encoded_column(split: Any, column: str, key: str, path: str, of: str) -> EncodedImages:
    """A column of images, none of which is read before it is decoded.

    Args:
        split: A `Dataset`.
        column: The column.
        key: Of the configuration, for messages.
        path: Of the set: names of files are relative to it.
        of: What the split is called.

    Raises:
        ValueError: If there is no such column, or it holds no images.
    """
    plain = undecoded(split.with_format(None), column, key, of)
    place = Path(path).expanduser()
    folder = place if place.is_dir() else place.parent
    return EncodedImages(_Cells(plain, column, of, folder), np.arange(len(plain)))


def class_codes(values: Sequence[Any], key: str, of: str, known: Sequence[Any] | None = None) -> np.ndarray:
    """The place of each label among the classes.

    Args:
        values: Integers, words or truth values, `[n]`.
        key: Of the configuration, for messages.
        of: What the split is called.
        known: The classes; None for the values themselves, sorted.

    Raises:
        ValueError: On missing values, values that are no classes, and classes that are not known.
    """
    gaps = [row for row, value in enumerate(values) if value is None or value == "" or value is np.nan]
    if gaps:
        raise ValueError(
            f"{key}: {len(gaps)} of {len(values)} labels of {of} are missing, the first in row {gaps[0]}: leave those "
            f"rows out, or set {key}=null"
        )
    if odd := [value for value in values if not isinstance(value, int | str)]:
        raise ValueError(
            f"{key}: the labels of {of} are of type {type(odd[0]).__name__} ({str(odd[0])[:40]}); classes are whole "
            f"numbers or words: name another column, or set {key}=null"
        )
    classes = sorted(set(values)) if known is None else list(known)
    place = {value: i for i, value in enumerate(classes)}
    if strange := sorted({str(value) for value in values if value not in place}):
        raise ValueError(f"{key}: {of} has the classes {few(strange)}, which the training images do not have")
    return np.array([place[value] for value in values], dtype=np.int64)


class Columns(Mapping[str, np.ndarray]):
    """The columns of a split, each read when it is asked for: name -> `[n]`.

    Words and `EncodedImage`s in place of the numbers of classes and of images; None where a cell is empty.

    Args:
        path: Of a set with one split, or of one split of a set.
        key: Of the configuration, for messages.

    Raises:
        ValueError: If there are several splits.
    """

    def __init__(self, path: Path, key: str) -> None:
        splits = opened(path, key)
        if len(splits) > 1:
            raise ValueError(
                f"{key}={path}: a table is one split, and the set has {few(list(splits))}: name the folder of one, as "
                f"{path / next(iter(splits))}"
            )
        self.path, self.key = path, key
        self.split = next(iter(splits.values())).with_format(None)

    def __iter__(self) -> Iterator[str]:
        return iter(self.split.column_names)

    def __len__(self) -> int:
        return len(self.split.column_names)

    def __contains__(self, name: object) -> bool:  # Mapping's would read the column
        return name in self.split.column_names

    def __getitem__(self, name: str) -> np.ndarray:
        import datasets

        if name not in self.split.column_names:
            raise KeyError(name)
        feature = self.split.features[name]
        found = np.empty(len(self.split), dtype=object)
        if isinstance(feature, datasets.Image):
            images = encoded_column(self.split, name, self.key, str(self.path), self.path.name)
            found[:] = [None if empty else images[i] for i, empty in enumerate(self._empty(name))]
            return found
        values = list(self.split[name])
        if isinstance(feature, datasets.ClassLabel):
            values = [None if value in (None, UNLABELLED) else feature.names[value] for value in values]
        found[:] = values
        return found

    def _empty(self, name: str) -> list[bool]:
        """Which cells are empty, without reading them."""
        flat = self.split.select_columns([name]).flatten_indices() if self.split._indices else self.split
        return flat.data.column(name).is_null().to_pylist()


class HuggingFaceImages:
    """The images of a Hugging Face set as training, validation and test sets. A `SetSource`.

    Args:
        path: See `opened`.
        image: The column of the images.
        label: The column of the classes; None without. `ClassLabel` has their names.
        train: The split to train on; of a set with one split, that one.
        val: The split for validation: auto takes "validation" where there is one; None holds images out of `train`.
        test: The split for the test: auto takes "test" where there is one with labels; None sets `test_fraction` of
            the training images aside.
        test_fraction: See `ImageFolder`.
        in_memory, memory_gb, on_error: See `ImageFiles`; `memory_gb` holds for each split.
        seed: Decides which images are set aside.
        decoder: How images are decoded; None for RGB.

    Raises:
        FileNotFoundError: If there is no such set.
        ValueError: On splits, columns and labels that are not there or not what they should be.
    """

    def __init__(
        self,
        path: Any,
        image: str = "image",
        label: str | None = "label",
        train: str = "train",
        val: str | None = AUTO,
        test: str | None = AUTO,
        test_fraction: float = 0.1,
        in_memory: bool | str = "auto",
        memory_gb: float = 4.0,
        on_error: str = "skip",
        seed: int = 0,
        decoder: Decoder | None = None,
    ) -> None:
        if in_memory not in (True, False, "auto"):
            raise ValueError(f"data.in_memory={in_memory} is none of auto, true, false")
        if on_error not in ("error", "skip"):
            raise ValueError(f"data.on_error={on_error} is neither 'error' nor 'skip'")
        if not 0 < test_fraction < 1:
            raise ValueError(f"data.test_fraction={test_fraction} must lie between 0 and 1")
        self.path, self.image, self.label = path, image, label
        self.names = {"train": train, "val": val, "test": test}
        self.test_fraction, self.seed = test_fraction, seed
        self.in_memory, self.memory_gb, self.on_error = in_memory, memory_gb, on_error
        self.decoder = Decoder(key="data") if decoder is None else decoder
        self._splits: dict[str, Any] | None = None
        self._classes: Sequence[Any] | None = None

    @property
    def name(self) -> str:
        """What reports call it."""
        return Path(str(self.path)).name if isinstance(self.path, str | os.PathLike) else "datasets"

    def survey(self) -> Survey:
        """What a sample of the training images is like."""
        return survey(self._images("train"), self.decoder)

    def load(self) -> Sets:
        """The splits, of which nothing is decoded yet."""
        found = self.survey()
        for note in found.notes:
            log.warning("%s: %s", self.name, note)
        if found.bits is not None:
            self.decoder = Decoder(**{**self.decoder.settings(), "bits": found.bits}, key=self.decoder.key)
        train = self._set("train")
        val, test = (self._set(split) if self._name(split) else None for split in ("val", "test"))
        if test is not None:
            return Sets(train, test, val=val)
        n = round(self.test_fraction * len(train))
        if not 0 < n < len(train):
            raise ValueError(
                f"data.path={self.path} has no test split, and data.test_fraction={self.test_fraction} of its "
                f"{len(train)} images leaves nothing to test or to train on; add images or change the fraction"
            )
        log.info(
            "%s has no test split: %d of its %d images are set aside (seed %d)", self.name, n, len(train), self.seed
        )
        order = stratified_order(train.labels, len(train), [self.seed])
        return Sets(train.take(order[n:]), train.take(order[:n]), val=val)

    def _found(self) -> dict[str, Any]:
        if self._splits is None:
            self._splits = opened(self.path, "data.path")
        return self._splits

    def _name(self, split: str) -> str | None:
        """The set's name of a split; None where it has none and none is asked for."""
        splits, wanted = self._found(), self.names[split]
        if wanted == AUTO:
            if split == "val":
                return next((name for name in VALIDATION if name in splits), None)
            return "test" if "test" in splits and self._has_labels("test") else None
        if wanted is None or wanted in splits:
            return wanted
        if split == "train" and len(splits) == 1 and wanted == "train":
            return next(iter(splits))
        raise ValueError(f"data.{split}={wanted}: data.path={self.path} has no such split; it has {few(list(splits))}")

    def _has_labels(self, name: str) -> bool:
        """Whether a test split can be used: those of competitions have -1 for every label."""
        if self.label is None or not len(split := self._found()[name]):
            return len(self._found()[name]) > 0
        column_of(split, self.label, "data.label", name)
        known = any(value not in (UNLABELLED, None) for value in split.with_format(None)[self.label])
        if not known:
            log.warning("%s: split '%s' has no labels; training images are set aside for the test", self.name, name)
        return known

    def _images(self, split: str) -> EncodedImages:
        name = self._name(split)
        assert name is not None
        return encoded_column(self._found()[name], self.image, "data.image", str(self.path), f"{self.name}/{name}")

    def _set(self, split: str) -> ImageSet:
        name = self._name(split)
        assert name is not None
        images, of = self._images(split), f"split '{name}'"
        if not len(images):
            raise ValueError(f"data.path={self.path}: {of} has no rows")
        files = ImageFiles(images, self.in_memory, self.memory_gb, self.on_error, self.decoder)
        if self.label is None:
            return ImageSet(self.name, files)
        found = self._found()[name]
        names = getattr(column_of(found, self.label, "data.label", of), "names", None)
        values = list(found.with_format(None)[self.label])
        if names is not None:
            values = [None if value == UNLABELLED else value for value in values]
            self._classes = range(len(names))
        codes = class_codes(values, "data.label", of, self._classes)
        if self._classes is None:
            self._classes = sorted(set(values))
        classes = tuple(str(value) for value in (names or self._classes))
        return ImageSet(self.name, files, torch.from_numpy(codes), classes)


class HuggingFaceData(ImageData):
    """The images of a Hugging Face set; `HuggingFaceImages` as a data module.

    Args:
        path, image, label, train, val, test, test_fraction, in_memory, memory_gb, on_error: See `HuggingFaceImages`.
        augmentation, batch_size, size, mean, std, val_fraction, limit, val_limit, test_limit, upscale, seed,
            num_workers: See `ImageData`.
        channels, levels, max_megapixels: See `decoding.Decoder`.
        split_seed: Decides which images are set aside where there is no test split.

    Raises:
        FileNotFoundError: If there is no such set.
        ValueError: What cannot work.
    """

    def __init__(
        self,
        path: str,
        augmentation: Augmentation,
        batch_size: int,
        size: int,
        mean: Sequence[float],
        std: Sequence[float],
        image: str = "image",
        label: str | None = "label",
        train: str = "train",
        val: str | None = AUTO,
        test: str | None = AUTO,
        test_fraction: float = 0.1,
        val_fraction: float = 0.1,
        limit: int | None = None,
        val_limit: int | None = None,
        test_limit: int | None = None,
        upscale: bool = False,
        in_memory: bool | str = "auto",
        memory_gb: float = 4.0,
        on_error: str = "skip",
        channels: int = 3,
        levels: tuple[float, float] | None = None,
        max_megapixels: float = 100.0,
        split_seed: int = 0,
        seed: int = 0,
        num_workers: int | str = 0,
    ) -> None:
        decoder = Decoder(channels, levels, None, max_megapixels, key="data")
        sets = HuggingFaceImages(
            path, image, label, train, val, test, test_fraction, in_memory, memory_gb, on_error, split_seed, decoder
        )
        super().__init__(
            sets, augmentation, batch_size, size, mean, std, val_fraction, limit, val_limit, test_limit,
            upscale=upscale, seed=seed, num_workers=num_workers,
        )  # fmt: skip

    def image_source(self) -> SetSource:
        """The images, for an evaluation elsewhere."""
        return self.sets

    @classmethod
    def settled(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        """What `auto` stands for in a configuration: the size of the views.

        Args:
            settings: Arguments by name, all but `augmentation`.
        """
        decoder = Decoder(settings["channels"], settings["levels"], None, settings["max_megapixels"], key="data")
        of = {key: settings[key] for key in ("path", "image", "label", "train")}
        return {"size": suitable_side(HuggingFaceImages(**of, decoder=decoder).survey())}
