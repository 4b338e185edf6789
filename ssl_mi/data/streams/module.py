"""Data modules of streams: training images from shards, and a bounded number of images for evaluation."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssl_mi.data.batch import Source
from ssl_mi.data.huggingface import class_codes
from ssl_mi.data.images.augmentations import Augmentation
from ssl_mi.data.images.decoding import Decoder
from ssl_mi.data.images.encoded import EncodedImages
from ssl_mi.data.images.files import ImageFiles, few, suitable_side, survey
from ssl_mi.data.images.module import ImageModule
from ssl_mi.data.module import available_workers
from ssl_mi.data.sampler import check_batch_size, this_process
from ssl_mi.data.sets import ImageSet, Sets, stratified_order
from ssl_mi.data.streams.loader import Reading, StreamLoader
from ssl_mi.data.streams.shards import AUTO, HuggingFaceShards, Sample, Scan, Shards, TarShards

log = logging.getLogger(__name__)

_SURVEYED = 64  # images that are looked at


@dataclass(frozen=True)
class StreamSet:
    """The training samples of a stream: how many, and nothing that needs a row. A `contracts.Split`.

    Attributes:
        name: What reports call it.
        count: Samples.
        class_names: One per class.
    """

    name: str
    count: int
    class_names: tuple[str, ...] = ()
    labels: None = None
    factors: Mapping[str, Tensor] = field(default_factory=dict)
    unreadable: tuple[str, ...] = ()
    in_memory: bool = False

    def __len__(self) -> int:
        return self.count


class StreamData(ImageModule):
    """Training images from a stream of shards. A subclass gives `shards`.

    Of the training stream nothing is known by row: samples come in the order of `streams.order`, and their draws are
    keyed by their keys. Probes are fitted on the first samples of all training shards; what is measured is read from
    shards of its own. Both are bounded by their limits.

    Args:
        augmentation, batch_size, size, mean, std, seed: See `ImageModule`.
        image: The field or column of the images.
        label: The field or column of the classes; None without.
        classes: The names of the classes, in their order; None for those that are found.
        counts: Samples of each shard: one number for all, or a JSON file with a number a file name. None counts them
            once, and keeps the result in `$XDG_CACHE_HOME/ssl_mi/shards`.
        shuffle: Samples in the shuffle buffers of all readers together.
        readers: Places of the stream that are read at a time, over all processes; divides the batch.
        probe_limit, val_limit, test_limit: Images for probes and evaluation, spread over their shards.
        in_memory, memory_gb, on_error: See `ImageFiles`; of the images for evaluation.
        channels, levels, max_megapixels: See `decoding.Decoder`.
        upscale: Allow images smaller than `size`.
        num_workers: Processes that read, decode and crop; at most as many as readers. "auto" for `available_workers`.

    Raises:
        FileNotFoundError: If shards are missing.
        ValueError: What cannot work.
    """

    numbered = False  # a training batch's `index` are numbers of keys, not rows

    def __init__(
        self,
        augmentation: Augmentation,
        batch_size: int,
        size: int,
        mean: Sequence[float],
        std: Sequence[float],
        image: str,
        label: str | None,
        classes: Sequence[str] | None = None,
        counts: int | str | None = None,
        shuffle: int = 4096,
        readers: int = 4,
        probe_limit: int = 10_000,
        val_limit: int = 5_000,
        test_limit: int = 10_000,
        in_memory: bool | str = "auto",
        memory_gb: float = 4.0,
        on_error: str = "skip",
        channels: int = 3,
        levels: tuple[float, float] | None = None,
        max_megapixels: float = 100.0,
        upscale: bool = False,
        seed: int = 0,
        num_workers: int | str = 0,
    ) -> None:
        super().__init__(augmentation, batch_size, size, mean, std, seed)
        self.image, self.label = image, label
        self.given_classes, self.given_counts = None if classes is None else list(classes), counts
        self.shuffle, self.readers = shuffle, readers
        self.limits = {"labelled": probe_limit, "val": val_limit, "test": test_limit}
        self.in_memory, self.memory_gb, self.on_error = in_memory, memory_gb, on_error
        self.decoder = Decoder(channels, levels, None, max_megapixels, key="data")
        self.upscale, self.num_workers = upscale, num_workers
        self.left_out: list[str] = []
        self.reading: Reading | None = None
        self._sources: dict[str, Shards | None] = {}
        self._check_numbers()

    def _check_numbers(self) -> None:
        whole = {"shuffle": self.shuffle, "readers": self.readers, "probe_limit": self.limits["labelled"]}
        whole |= {"val_limit": self.limits["val"], "test_limit": self.limits["test"]}
        for name, value in whole.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"data.{name}={value}: use a whole number, 1 or more")
        if self.batch_size % self.readers:
            raise ValueError(
                f"data.batch_size={self.batch_size} is not a multiple of data.readers={self.readers}, and every reader "
                "gives as many samples to a batch"
            )
        if self.in_memory not in (True, False, "auto"):
            raise ValueError(f"data.in_memory={self.in_memory} is none of auto, true, false")
        if self.on_error not in ("error", "skip"):
            raise ValueError(f"data.on_error={self.on_error} is neither 'error' nor 'skip'")
        if self.num_workers != "auto" and (isinstance(self.num_workers, bool | str) or self.num_workers < 0):
            raise ValueError(f"data.num_workers={self.num_workers}: use a whole number, 0 or more, or auto")

    # What a subclass gives

    #: Settings that what `load` gives has already followed: where there are fewer images than a limit, all of them.
    applied = ("val_limit", "test_limit")

    def shards(self) -> dict[str, Shards | None]:
        """The shards of "train", "val" and "test"; None for a split that there is not."""
        raise NotImplementedError

    # Splits

    def setup(self, stage: str | None = None) -> None:
        """Count the samples, and read the images for evaluation."""
        if self.train is not None:
            return
        self._sources = self.shards()
        train = self._sources["train"]
        assert train is not None
        world = this_process()[1]
        self._check_processes(world)
        self._look(train)
        scans = self._scanned(train)
        counts = [scan.size for scan in scans]
        check_batch_size(self.batch_size, sum(counts), world)
        classes, names = self._classes(train, scans)
        labelled = self._held("labelled", train, classes, names)
        val, test = (
            None if (of := self._sources[split]) is None else self._held(split, of, classes, names)
            for split in ("val", "test")
        )
        if val is None:
            log.warning("no shards for validation are named: nothing is measured during training")
        self.reading = Reading(
            train, counts, classes, self.batch_size, self.readers, self.shuffle,
            self.augmentation, self.decoder, self.on_error, self.seed,
        )  # fmt: skip
        self.labelled, self.val, self.test = labelled, val, test
        self.train = StreamSet(train.name, sum(counts), names)

    def _check_processes(self, world: int) -> None:
        if self.readers % world:
            raise ValueError(
                f"data.readers={self.readers} cannot be divided evenly over {world} processes: use a multiple of "
                f"{world}, such as data.readers={max(world, self.readers - self.readers % world)}"
            )

    def _look(self, train: Shards) -> None:
        """Learn from some images how all are scaled to 8 bits, and say what is done to them."""
        found = survey([sample.image for sample in _spread(train, _SURVEYED)], self.decoder)
        for note in found.notes:
            log.warning("%s: %s", train.name, note)
        self.decoder = replace(self.decoder, bits=found.bits)

    def _scanned(self, train: Shards) -> list[Scan]:
        """What each training shard holds: as stated, as kept, or counted now."""
        if self.given_counts is not None:
            return [Scan(count, (), ()) for count in _stated(self.given_counts, train.names)]
        scans = scanned(train)
        self._leave_out([f"{n}: {why}" for n, scan in zip(train.names, scans, strict=True) for why in scan.left_out])
        return scans

    def _leave_out(self, wrong: Sequence[str]) -> None:
        """Name what cannot be used, once; refuse it where `on_error` asks for that."""
        new = [text for text in wrong if text not in self.left_out]
        if new and self.on_error == "error":
            raise ValueError(f"{few(new, 3)} cannot be used, {len(new)} in all; data.on_error=skip leaves them out")
        if new:
            log.warning("left out what cannot be used, %d in all: %s", len(new), few(new, 3))
        self.left_out += new

    def _classes(self, train: Shards, scans: Sequence[Scan]) -> tuple[dict[int | str, int] | None, tuple[str, ...]]:
        """Label -> class, and the names of the classes."""
        if self.label is None:
            return None, ()
        names = train.class_names if self.given_classes is None else self.given_classes
        found: set[int | str] = {label for scan in scans for label in scan.labels}
        if names is None and not found:
            found = {s.label for i in range(len(train.names)) for s in train.read(i) if s.label is not None}
        if names is not None:
            numbers = all(isinstance(label, int) for label in found)
            known: dict[int | str, int] = {name: i for i, name in enumerate(names)}
            if numbers:
                known |= {i: i for i in range(len(names))}
            if strange := sorted(str(label) for label in found if label not in known):
                raise ValueError(f"data.classes has {len(names)} classes, and these labels are none: {few(strange)}")
            return known, tuple(map(str, names))
        ordered = sorted(found, key=lambda label: (isinstance(label, str), label))
        if len(ordered) < 2:
            raise ValueError(f"data.label={self.label}: every label is '{ordered[0]}', and a probe needs two classes")
        return {label: i for i, label in enumerate(ordered)}, tuple(map(str, ordered))

    def _held(
        self, split: str, shards: Shards, classes: dict[int | str, int] | None, names: tuple[str, ...]
    ) -> ImageSet:
        """The first samples of every shard, up to the limit of the split, in a seeded order."""
        wrong: list[str] = []
        samples = list(_spread(shards, self.limits[split], wrong))
        self._leave_out(wrong)
        if not samples:
            raise ValueError(f"the {split} shards of {shards.name} hold no samples")
        images = EncodedImages([sample.image for sample in samples].__getitem__, np.arange(len(samples)))
        files = ImageFiles(images, self.in_memory, self.memory_gb, self.on_error, self.decoder)
        labels = None
        if classes is not None:
            known = list(classes)
            codes = class_codes([sample.label for sample in samples], "data.label", f"the {split} shards", known)
            labels = torch.tensor([classes[known[code]] for code in codes.tolist()])
        found = ImageSet(shards.name, files, labels, names if labels is not None else ())
        self._check_shape(found)
        order = stratified_order(labels, len(found), [self.seed, ("labelled", "val", "test").index(split)])
        return found.take(order).decoded()

    def _check_shape(self, images: ImageSet) -> None:
        shape = images.shape
        if shape is not None and min(shape[1:]) < self.size and not self.upscale:
            raise ValueError(
                f"{images.name}: the images are {shape[1]}x{shape[2]} pixels, smaller than data.size={self.size}; use "
                f"data.size={min(shape[1:])}, or data.upscale=true to enlarge them"
            )
        if self.decoder.channels != len(self.mean):
            raise ValueError(
                f"data.channels={self.decoder.channels}, but data.mean and data.std have {len(self.mean)} numbers"
            )

    # Batches

    def train_dataloader(self) -> StreamLoader:
        """The training batches of this process, as sources."""
        self._split("train")
        assert self.reading is not None
        rank, world = this_process()
        self._check_processes(world)
        return StreamLoader(self.reading, rank, world, self._workers(), torch.cuda.is_available())

    def _workers(self) -> int:
        wanted = available_workers() if isinstance(self.num_workers, str) else self.num_workers
        return min(wanted, self.readers // this_process()[1])

    def batches(
        self, split: str, limit: int | None = None, batch_size: int = 512, shard: tuple[int, int] = (0, 1)
    ) -> Iterator[Source]:
        """See `DataModule.batches`; of training samples, those that probes are fitted on."""
        return super().batches("labelled" if split == "train" else split, limit, batch_size, shard)

    def image_source(self) -> StreamData:
        """What has the images for an evaluation elsewhere: `load`."""
        return self

    def load(self) -> Sets:
        """The images that probes are fitted on, those of the test and of the validation, as sets.

        Without images for the test, half of those for validation are set aside: what is chosen is chosen on others.
        """
        self.setup()
        if self.test is not None or self.val is None:
            return Sets(self.labelled, self.test, None, self.val)
        half = len(self.val) // 2
        log.warning(
            "%s has no test images: settings are chosen on the first %d of the %d validation images, and the others "
            "are measured; data.test_shards or data.test names more",
            self.val.name,
            half,
            len(self.val),
        )
        rows = torch.arange(len(self.val))  # they are in a seeded order
        return Sets(self.labelled, self.val.take(rows[half:]), None, self.val.take(rows[:half]))

    def _uncropped(self, source: Source) -> Source:
        images = (self.labelled, self.val, self.test)[source.split]
        if images.in_memory:
            return source
        crops = images.images.crops(source.index.cpu(), self.augmentation, self.seed, source.split, source.epoch)
        return source._replace(images=None, crops=[crop.to(source.index.device) for crop in crops])

    def _decoder_settings(self) -> dict[str, Any]:
        return {"decoder": self.decoder.settings()}

    # Descriptions

    def report(self) -> dict[str, Any]:
        """What a report records of the stream."""
        source = self._sources["train"]
        stream = {"shards": 0 if source is None else len(source.names), "shuffle": self.shuffle}
        found = super().report()
        skipped = [*found["skipped"], *self.left_out, *self._split("labelled").unreadable]
        return {**found, "stream": {**stream, "readers": self.readers}, "skipped": skipped}

    def _form(self) -> str:
        stream = self.report()["stream"]
        return (
            f"a stream of {stream['shards']} shards, {self.readers} read at a time by {self._workers()} workers, "
            f"shuffled in a buffer of {self.shuffle:,}"
        )


class WebDataset(StreamData):
    """Images from tar archives, as WebDataset has them.

    Args:
        shards: Of the training images: `a-{000..012}.tar`, a pattern, a folder, or a list of these.
        val_shards: Of the images that are measured during training; None for no evaluation.
        test_shards: Of those that are measured at the end; None for those of `val_shards`.
        image: The field of the images, such as jpg; auto for the one whose name is that of an image format.
        label: The field of the classes, such as cls; None without.
        settings: See `StreamData`.
    """

    def __init__(
        self,
        shards: str | Sequence[str],
        augmentation: Augmentation,
        batch_size: int,
        size: int,
        mean: Sequence[float],
        std: Sequence[float],
        val_shards: str | Sequence[str] | None = None,
        test_shards: str | Sequence[str] | None = None,
        image: str = AUTO,
        label: str | None = "cls",
        **settings: Any,
    ) -> None:
        super().__init__(augmentation, batch_size, size, mean, std, image, label, **settings)
        self.paths = {"train": shards, "val": val_shards, "test": test_shards}

    def shards(self) -> dict[str, Shards | None]:
        """The archives of each split."""
        keys = {"train": "data.shards", "val": "data.val_shards", "test": "data.test_shards"}
        found: dict[str, Shards | None] = {
            split: None if paths is None else TarShards(paths, self.image, self.label, keys[split])
            for split, paths in self.paths.items()
        }
        _refuse_shared(found)
        return found

    @classmethod
    def settled(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        """What `auto` stands for in a configuration: the size of the views.

        Args:
            settings: Arguments by name, all but `augmentation`.
        """
        shards = TarShards(settings["shards"], settings["image"], settings["label"], "data.shards")
        return {"size": _suitable(shards, settings)}


class HuggingFaceStream(StreamData):
    """Images from an iterable set of Hugging Face `datasets`, a shard for each of its files.

    Args:
        path: See `huggingface.opened`.
        train: The split to train on.
        val: The split that is measured during training; None for no evaluation.
        test: The split that is measured at the end; None for `val`.
        image: The column of the images.
        label: The column of the classes; None without.
        settings: See `StreamData`.
    """

    def __init__(
        self,
        path: str,
        augmentation: Augmentation,
        batch_size: int,
        size: int,
        mean: Sequence[float],
        std: Sequence[float],
        train: str = "train",
        val: str | None = "validation",
        test: str | None = None,
        image: str = "image",
        label: str | None = "label",
        **settings: Any,
    ) -> None:
        super().__init__(augmentation, batch_size, size, mean, std, image, label, **settings)
        self.path, self.splits = path, {"train": train, "val": val, "test": test}

    def shards(self) -> dict[str, Shards | None]:
        """The files of each split."""
        return {
            split: None if name is None else HuggingFaceShards(self.path, name, self.image, self.label, f"data.{split}")
            for split, name in self.splits.items()
        }

    @classmethod
    def settled(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        """What `auto` stands for in a configuration: the size of the views.

        Args:
            settings: Arguments by name, all but `augmentation`.
        """
        shards = HuggingFaceShards(
            settings["path"], settings["train"], settings["image"], settings["label"], "data.train"
        )
        return {"size": _suitable(shards, settings)}


def _suitable(shards: Shards, settings: Mapping[str, Any]) -> int:
    images = [sample.image for sample in islice(shards.read(0), _SURVEYED)]
    if not images:
        shards.scan(0)  # which says why none can be used
    decoder = Decoder(settings["channels"], settings["levels"], None, settings["max_megapixels"], key="data")
    return suitable_side(survey(images, decoder))


def _spread(shards: Shards, limit: int, left_out: list[str] | None = None) -> Iterator[Sample]:
    """The first samples of every shard, or of some that are spread over all, `limit` in all at most."""
    chosen = np.linspace(0, len(shards.names) - 1, min(limit, len(shards.names))).round().astype(int).tolist()
    left = limit
    for place, shard in enumerate(chosen):
        share = -(-left // (len(chosen) - place))
        for sample in islice(shards.read(shard, left_out=left_out), share):
            left -= 1
            yield sample


def _refuse_shared(found: Mapping[str, Shards | None]) -> None:
    """Refuse a shard that two splits name: what is measured on it would not be held out."""
    held: dict[str, str] = {}
    for split, shards in found.items():
        for name in () if shards is None else shards.names:
            path = os.path.realpath(name)
            if path in held:
                raise ValueError(f"{name} is a shard of {held[path]} and of {split}: a split has shards of its own")
            held[path] = split


def _stated(counts: int | str, names: Sequence[str]) -> list[int]:
    """Samples of each shard, as `data.counts` states them."""
    if isinstance(counts, int):
        found: dict[str, Any] = {Path(name).name: counts for name in names}
    else:
        path = Path(counts).expanduser()
        if not path.is_file():
            raise FileNotFoundError(
                f"data.counts={counts}: a number, or a JSON file; there is no file {path.absolute()}"
            )
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"data.counts={counts} is no JSON: {error}") from None
    missing = [name for name in names if not isinstance(found.get(Path(name).name), int)]
    if missing or min(found[Path(name).name] for name in names) < 1:
        of = few(missing, 3) if missing else "some shards"
        raise ValueError(
            f"data.counts={counts}: a number of samples, 1 or more, is needed for each shard; not for {of}"
        )
    return [found[Path(name).name] for name in names]


def scanned(shards: Shards) -> list[Scan]:
    """What each shard holds: gone through once, and kept until the shard changes.

    Args:
        shards: The set.
    """
    key = hashlib.blake2b("\0".join(os.path.abspath(n) for n in shards.names).encode(), digest_size=12).hexdigest()
    place = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ssl_mi" / "shards" / f"{key}.json"
    kept = _kept(place)
    stamps = [shards.stamp(i) for i in range(len(shards.names))]
    known = [bool(stamp) and kept.get(name, [""])[0] == stamp for name, stamp in zip(shards.names, stamps, strict=True)]
    if not all(known):
        log.info("%s: counting the samples of %d shards", shards.name, known.count(False))
    found = []
    for i, name in enumerate(shards.names):
        _, count, labels, left_out = kept[name] if known[i] else ("", *shards.scan(i))
        found.append(Scan(count, tuple(labels), tuple(left_out)))
    if not all(known) and all(stamps):
        _keep(place, {name: [stamp, *scan] for name, stamp, scan in zip(shards.names, stamps, found, strict=True)})
    return found


def _kept(place: Path) -> dict[str, list[Any]]:
    try:
        return dict(json.loads(place.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError) as error:
        log.warning("%s is damaged (%s): the samples are counted again", place, " ".join(str(error).split()))
        return {}


def _keep(place: Path, scans: Mapping[str, Any]) -> None:
    temporary = place.with_suffix(f".{os.getpid()}.tmp")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(scans), encoding="utf-8")
        os.replace(temporary, place)
    except OSError as error:
        log.info("the numbers of samples are not kept: %s", error)
        temporary.unlink(missing_ok=True)
