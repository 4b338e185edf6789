"""The data module of paired samples: any two measurements of one thing."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ssl_mi.data.contracts import UnreadableRows
from ssl_mi.data.module import SPLITS, DataModule, evaluation_epoch
from ssl_mi.data.pairs.blocks import PairSource
from ssl_mi.data.pairs.views import ArrayView, PairViews
from ssl_mi.data.sampler import check_batch_size, this_process
from ssl_mi.data.sets import SampleSet, stratified_order

log = logging.getLogger(__name__)


class TrainSamples(Dataset[PairSource]):
    """Training samples by (epoch, rows). A row that cannot be read is replaced by another of the batch."""

    def __init__(self, samples: SampleSet) -> None:
        self.samples = samples

    def __getitem__(self, epoch_and_rows: tuple[int, Tensor]) -> PairSource:
        epoch, rows = epoch_and_rows
        while True:
            try:
                blocks = self.samples.samples.read(rows)
                return PairSource(blocks, rows, self.samples.label_rows(rows), SPLITS["train"], epoch)
            except UnreadableRows as error:
                good = rows[~torch.isin(rows, torch.tensor(error.rows))]
                if not len(good):
                    raise
                rows = good[torch.arange(len(rows)) % len(good)]


class PairedData(DataModule):
    """Splits paired samples, makes training batches, and gives the same samples for evaluation.

    A subclass gives `load`; the others have defaults:

        load()                      all samples, and the group of each (or None)
        fitted(samples, train)      the samples once it is known which rows are trained on: standardised, as tokens
        survey()                    what `auto` in a configuration stands for

    Samples of one group (a patient, a recording) are all on one side of every split.

    Args:
        augmentation: The views, a `PairViews`.
        batch_size: Samples per step, over all processes.
        val_fraction: Held out for validation.
        test_fraction: Held out for the test; 0 for no test: validation samples are measured at the end.
        limit: Train on just this many samples.
        seed: Fixes the splits, the order of the batches, and every view.

    Raises:
        ValueError: What cannot work: in `__init__` where the numbers alone show it, else in `setup`.
    """

    kind = "pairs"
    augmentation: PairViews

    def __init__(
        self,
        augmentation: PairViews,
        batch_size: int,
        val_fraction: float = 0.15,
        test_fraction: float = 0.15,
        limit: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(augmentation, batch_size, seed)
        if not isinstance(augmentation, PairViews):
            raise ValueError(
                f"{type(self).__name__} takes its views from PairViews, not from {type(augmentation).__name__}: choose "
                "the augmentation of this kind of data, such as augmentation=arrays, or its experiment, such as "
                "experiment=pairs/arrays"
            )
        for name, value in {"val_fraction": val_fraction, "test_fraction": test_fraction}.items():
            if not 0 <= value < 1:
                raise ValueError(f"data.{name}={value} must be at least 0 and less than 1")
        if val_fraction + test_fraction >= 1:
            raise ValueError(
                f"data.val_fraction={val_fraction} and data.test_fraction={test_fraction} leave nothing to train on"
            )
        if limit is not None and limit < batch_size:
            raise ValueError(f"data.limit={limit} is less than one batch (data.batch_size={batch_size})")
        self.val_fraction, self.test_fraction, self.limit = val_fraction, test_fraction, limit
        self.groups: dict[str, int] = {}  # split -> groups, where there are groups
        self.decoder: dict[str, Any] | None = None  # the settings of the decoder, of images that come from files
        self._groups: dict[str, np.ndarray] = {}  # split -> the group of each row

    # What a subclass gives

    def load(self) -> tuple[SampleSet, np.ndarray | None]:
        """All samples, and the group of each, `[N]` of any type, or None."""
        raise NotImplementedError

    def fitted(self, samples: SampleSet, train: Tensor) -> SampleSet:
        """All samples, once it is known that the rows `train` are trained on."""
        return samples

    def survey(self) -> dict[str, Any]:
        """Keys of the configuration below `data` whose value may be `auto`, and what it stands for."""
        return {}

    @classmethod
    def settled(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        """`survey` of the data that have these settings, before there are views.

        Args:
            settings: Arguments by name, all but `augmentation`.
        """
        views = PairViews([ArrayView([]), ArrayView([])])
        return cls(**{**settings, "augmentation": views}).survey()

    # Splits

    def setup(self, stage: str | None = None) -> None:
        """Load the samples, and split them."""
        if self.train is not None:
            return
        whole, groups = self.load()
        rows = self._rows(whole, groups)
        if self.limit is not None:
            if self.limit > len(rows["train"]):
                raise ValueError(
                    f"data.limit={self.limit} is more than the {len(rows['train'])} training {self.kind} of "
                    f"{whole.name}; use less, or null for all"
                )
            rows["train"] = rows["train"][: self.limit]
        check_batch_size(self.batch_size, len(rows["train"]), this_process()[1])
        if groups is not None:
            self._groups = {name: groups[some.numpy()] for name, some in rows.items()}
        whole = self.fitted(whole, rows["train"])
        splits = {name: whole.take(some) if len(some) else None for name, some in rows.items()}
        train = splits["train"]
        assert train is not None  # a batch of it is there
        for view in self.augmentation.views:
            view.fit(train.samples)
        self.val, self.test = splits["val"], splits["test"]
        self.train = self.labelled = train

    def _rows(self, whole: SampleSet, groups: np.ndarray | None) -> dict[str, Tensor]:
        """The rows of each split, each in a seeded order that spreads classes evenly."""
        n = len(whole)
        fractions = {"test": self.test_fraction, "val": self.val_fraction}
        wanted = {name: max(1, round(share * n)) if share else 0 for name, share in fractions.items()}
        if groups is None:
            order = stratified_order(whole.labels, n, [self.seed, SPLITS["val"]])
            test, val = wanted["test"], wanted["test"] + wanted["val"]
            return {"train": order[val:], "val": order[test:val], "test": order[:test]}
        split_of = self._split_groups(whole, groups, wanted)
        rows = {}
        for number, name in enumerate(("train", "val", "test")):
            some = torch.from_numpy(np.flatnonzero(split_of == number))
            labels = None if whole.labels is None else whole.labels[some]
            rows[name] = some[stratified_order(labels, len(some), [self.seed, number])]
        return rows

    def _split_groups(self, whole: SampleSet, groups: np.ndarray, wanted: Mapping[str, int]) -> np.ndarray:
        """The split of each row, 0 to 2: whole groups, in a seeded order that spreads their classes (that of a group's
        first row), until a split has as many rows as wanted."""
        found, first, of = np.unique(groups, return_index=True, return_inverse=True)
        needed = 1 + sum(count > 0 for count in wanted.values())
        if len(found) < needed:
            have = "1 group" if len(found) == 1 else f"{len(found)} groups"
            raise ValueError(
                f"{whole.name}: {have} cannot be split in {needed}, and all rows of a group stay together: bring more "
                "groups, or set data.test_fraction=0"
            )
        counts = np.bincount(of)
        labels = None if whole.labels is None else whole.labels[torch.from_numpy(first)]
        order = stratified_order(labels, len(found), [self.seed, SPLITS["val"]]).tolist()[::-1]
        split_of_group = np.zeros(len(found), dtype=np.int64)
        for split in ("test", "val"):
            held = 0
            # At least one group is left for each split that is still to come.
            while held < wanted[split] and len(order) > (2 if split == "test" and wanted["val"] else 1):
                group = order.pop()
                split_of_group[group] = SPLITS[split]
                held += counts[group]
        self.groups = {split: int((split_of_group == SPLITS[split]).sum()) for split in ("train", "val", "test")}
        return split_of_group[of]

    # Batches

    def dataset(self) -> TrainSamples:
        """The training samples, by (epoch, rows)."""
        return TrainSamples(self._split("train"))

    def read(self, split: str, rows: Tensor) -> PairSource:
        """The source of `rows` (int64 `[n]`) of a split, for evaluation."""
        samples: SampleSet = self._split(split)
        return PairSource(
            samples.samples.read(rows), rows, samples.label_rows(rows), SPLITS[split], evaluation_epoch(0)
        )

    def clean_views(self, source: PairSource) -> list[Tensor]:
        """The samples without augmentation, once per view; views from the first one of tokens on are left out."""
        found = []
        for view in self.augmentation.views:
            if not view.numbers:
                break
            found.append(view.clean(source.blocks[view.block]))
        return found

    def to_display(self, view: Tensor) -> np.ndarray | list[str] | None:
        """A view for people, where one of the kinds of view can draw it."""
        shown = (kind.display(view) for kind in self.augmentation.views)
        return next((some for some in shown if some is not None), None)

    def row_names(self, split: str, row: int) -> str:
        """What to call a row of a split: its file, its line of a table, its number in the files."""
        names = self._split(split).samples.names
        return "" if names is None else str(names[row])

    def groups_of(self, split: str) -> np.ndarray | None:
        """The group of each row of a split, `[n]`; None where every row is on its own."""
        return self._groups.get("train" if split == "labelled" else split)

    def preprocessing(self) -> dict[str, Any]:
        """How samples reach the encoder, in plain values: what a checkpoint keeps. `views` has an entry per view,
        None for one that is no image."""
        each = [view.preprocessing() for view in self.augmentation.views]
        images: dict[str, Any] = next((some for some in each if "size" in some), {})
        decoder = {} if self.decoder is None else {"decoder": self.decoder}
        return {**images, "views": [some.get("views") for some in each], **decoder}

    # Descriptions

    def report(self) -> dict[str, Any]:
        """What a report records of the samples."""
        found = super().report()
        return {**found, "groups": dict(self.groups)} if self.groups else found

    def _form(self) -> str:
        if not self.groups:
            return self.kind
        counts = " + ".join(str(self.groups[split]) for split in ("train", "val", "test"))
        return (
            f"{self.kind} of {counts} groups, each in one split. Rows of one group are alike: intervals and p of "
            "information at the end go by groups; those during training take rows for independent, and are too narrow"
        )


def label_codes(name: str, values: Sequence[Any] | np.ndarray | None) -> tuple[Tensor | None, tuple[str, ...]]:
    """Labels as int64 `[N]`, and the names of the classes; (None, ()) without labels.

    Args:
        name: What the values are, for messages.
        values: Integers or words, `[N]`.

    Raises:
        ValueError: Missing values, numbers that are not whole, one class only.
    """
    if values is None:
        return None, ()
    array = np.asarray(values)
    _refuse_missing(name, array)
    if array.dtype.kind == "f":
        odd = ~(np.isfinite(array) & (array == np.round(array)))
        if odd.any():
            raise ValueError(
                f"{name}: {int(odd.sum())} labels are missing or no whole numbers (row {int(odd.argmax())}: "
                f"{array[odd.argmax()]}); labels are classes: leave those rows out, or set data.labels=null"
            )
        array = array.astype(np.int64)
    # Words and numbers in one column cannot be sorted; as words they can.
    classes, codes = np.unique(array.astype(str) if array.dtype == object else array, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"{name}: every label is '{classes[0]}', and a probe needs two classes: set data.labels=null")
    if len(classes) > max(2, len(array) // 2):
        raise ValueError(
            f"{name}: {len(classes)} different labels for {len(array)} rows; classes are needed, not identifiers: name "
            "another column, or set data.labels=null"
        )
    return torch.from_numpy(codes.reshape(-1).astype(np.int64)), tuple(str(c) for c in classes)


def group_names(name: str, values: Sequence[Any] | np.ndarray) -> np.ndarray:
    """The group of each row as a word, `[N]`.

    Args:
        name: What the values are, for messages.
        values: Integers or words, `[N]`.

    Raises:
        ValueError: Missing values: the rows of no group would be one group.
    """
    array = np.asarray(values)
    _refuse_missing(name, array)
    return array.astype(str)


def _refuse_missing(name: str, values: np.ndarray) -> None:
    """ValueError where some of the values are None, NaN or empty."""
    if values.dtype == object:
        missing = np.array([v is None or v != v or not str(v).strip() for v in values], dtype=bool)
    elif values.dtype.kind == "f":
        missing = np.isnan(values)
    else:
        missing = np.char.strip(values.astype(str)) == ""
    if missing.any():
        raise ValueError(
            f"{name}: {int(missing.sum())} of {len(values)} values are missing or empty, the first in row "
            f"{int(missing.argmax())}: leave those rows out, or set {name.partition('=')[0]}=null"
        )


def replace_samples(samples: SampleSet, blocks: Any) -> SampleSet:
    """The same set with other samples."""
    return replace(samples, samples=blocks)
