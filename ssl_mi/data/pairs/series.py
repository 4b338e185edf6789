"""Windows of recordings: signals of one or many channels over time."""

from __future__ import annotations

import glob
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ssl_mi.data.pairs.blocks import Blocks, WindowBlock
from ssl_mi.data.pairs.module import PairedData, group_names, label_codes, replace_samples
from ssl_mi.data.pairs.tables import is_spec, read_matrix, read_table, split_spec
from ssl_mi.data.pairs.views import PairViews
from ssl_mi.data.sets import SampleSet

log = logging.getLogger(__name__)

EXAMPLE = "example"
SUFFIXES = (".npy", ".csv", ".tsv", ".parquet", ".wav")
_CHUNK = 2**22  # numbers that statistics look at, at once


class Recording(NamedTuple):
    """A signal over time.

    Attributes:
        name: Its file, and where a file has several its number or key.
        values: float32 `[channels, steps]`.
        folder: The folder that its file is in.
        label: Its class, where the file says so.
    """

    name: str
    values: np.ndarray
    folder: str = ""
    label: Any = None


class SeriesData(PairedData):
    """Windows of recordings; all windows of a recording are on one side of every split.

    A sample is a stretch of `span` steps, and the views show windows of it: two random ones that may overlap
    (augmentation=series), or consecutive ones in the order of time (augmentation=consecutive). Channels are
    standardised by the training windows. Windows of one recording are no independent samples: intervals of information
    at the end of a run go by recordings (`groups_of`).

    Args:
        x: Files: .npy of `[steps]`, `[channels, steps]` or `[recordings, channels, steps]`; .csv, .tsv or .parquet with
            a line a step and a column a channel (`FILE:columns`); .wav. A pattern (`data/*.wav`), a folder, a list of
            them; or "example": 120 drawn recordings.
        augmentation: The views.
        batch_size: Samples per step, over all processes.
        window: Steps that a view shows; the augmentation takes it from here.
        span: Steps of a sample; None for 2 windows.
        stride: Steps from one sample to the next; None for `span`: samples do not overlap.
        recording: A column of a table that says which recording a line belongs to.
        labels: Classes of the recordings: "folder", the folder that a file is in; a column of a table; or `FILE` with
            one value for each recording in order.
        pieces: Cut each recording in so many pieces, which then count as recordings: for one long recording.
        channels: Number of channels; "auto" in a configuration, else checked.
        standardize: Whether channels are standardised.
        val_fraction, test_fraction, limit, seed: See `PairedData`.

    Raises:
        FileNotFoundError: If there are no such files.
        ValueError: On recordings shorter than a sample, of different channels or sampling rates, with missing values.
    """

    kind = "windows"

    def __init__(
        self,
        x: str | Sequence[str],
        augmentation: PairViews,
        batch_size: int,
        window: int = 128,
        span: int | None = None,
        stride: int | None = None,
        recording: str | None = None,
        labels: str | None = None,
        pieces: int = 1,
        channels: int | str = "auto",
        standardize: bool = True,
        val_fraction: float = 0.15,
        test_fraction: float = 0.15,
        limit: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(augmentation, batch_size, val_fraction, test_fraction, limit, seed)
        self.span = 2 * window if span is None else span
        self.stride = self.span if stride is None else stride
        if min(window, self.span, self.stride, pieces) < 1:
            raise ValueError(
                f"data.window={window}, data.span={span}, data.stride={stride}, data.pieces={pieces} must be positive"
            )
        if window > self.span:
            raise ValueError(f"data.window={window} is longer than data.span={self.span}, the steps of a sample")
        self.x, self.window, self.recording, self.labels_from = x, window, recording, labels
        self.pieces, self.channels, self.standardize = pieces, channels, standardize
        self.scaling: dict[str, list[float]] = {}

    def survey(self) -> dict[str, Any]:
        """The number of channels."""
        return {"channels": int(self._recordings()[0].values.shape[0])}

    def load(self) -> tuple[SampleSet, np.ndarray]:
        """The samples of every recording, in order."""
        recordings = self._recordings()
        self._check(recordings)
        labels = self._labels(recordings)
        recordings, of = _cut(recordings, self.pieces)
        self._check_lengths(recordings)
        starts, groups, names, first = [], [], [], 0
        for number, one in enumerate(recordings):
            places = np.arange(0, one.values.shape[1] - self.span + 1, self.stride)
            starts.append(first + places)
            groups.append(np.full(len(places), number))
            names += [f"{one.name}, step {place}" for place in places]
            first += one.values.shape[1]
        group = np.concatenate(groups)
        values = torch.from_numpy(np.concatenate([one.values for one in recordings], axis=1))
        block = WindowBlock(values, torch.from_numpy(np.concatenate(starts)), self.span)
        codes, classes = label_codes(
            f"data.labels={self.labels_from}", None if labels is None else np.asarray(labels)[np.asarray(of)[group]]
        )
        name = "the example (oscillators)" if self.x == EXAMPLE else str(self.x)
        return SampleSet(name, Blocks([block], names), codes, classes), group

    def fitted(self, samples: SampleSet, train: Tensor) -> SampleSet:
        """Channels standardised by the training windows."""
        (block,) = samples.samples.blocks
        if not self.standardize:
            return samples
        total = torch.zeros(len(block.values), dtype=torch.float64)
        squares, count = torch.zeros_like(total), 0
        centre = block.values[:, :1].double()  # of a large offset, squares would lose all digits
        for rows in train.split(max(1, _CHUNK // (self.span * len(block.values)))):
            x = block.read(rows).double() - centre
            total, squares = total + x.sum((0, 2)), squares + x.square().sum((0, 2))
            count += len(rows) * self.span
        mean, variance = total / count, squares / count - (total / count).square()
        std = variance.clamp_min(0).sqrt()
        constant = std <= 1e-7 * mean.abs() + 1e-30
        if constant.any():
            log.warning("data.x: channels %s are constant in the training windows: they carry no information",
                        constant.nonzero().flatten().tolist())  # fmt: skip
        std = torch.where(constant, torch.ones_like(std), std)
        mean = mean + centre[:, 0]
        values = ((block.values - mean[:, None]) / std[:, None]).float()
        self.scaling = {"mean": mean.tolist(), "std": std.tolist()}
        return replace_samples(samples, Blocks([WindowBlock(values, block.starts, self.span)], samples.samples.names))

    def preprocessing(self) -> dict[str, Any]:
        """Mean and standard deviation of the channels: an encoder takes (value - mean) / std."""
        return {**super().preprocessing(), "channels": self.scaling, "window": self.window}

    def _form(self) -> str:
        (block,) = self._split("train").samples.blocks
        shape = f"{len(block.values)} channels x {self.span} steps"
        return super()._form().replace(" groups", " recordings", 1) + f"; {shape}"

    # Files

    def _recordings(self) -> list[Recording]:
        if self.x == EXAMPLE:
            return _oscillators()
        found: list[Recording] = []
        rates: dict[int, str] = {}
        for spec in self._files():
            found += self._read(spec, rates)
        if len(rates) > 1:
            shown = ", ".join(f"{rate} Hz ({name})" for rate, name in list(rates.items())[:3])
            raise ValueError(f"data.x: the recordings have different sampling rates: {shown}; resample them to one")
        return found

    def _files(self) -> list[str]:
        given = [self.x] if isinstance(self.x, str) else list(self.x)
        found: list[str] = []
        for spec in given:
            path = Path(spec).expanduser()
            if path.is_dir():
                inside = sorted(str(p) for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
                if not inside:
                    raise FileNotFoundError(f"data.x={spec}: the folder holds no {', '.join(SUFFIXES)}")
                found += inside
            elif any(sign in spec for sign in "*?[") and not is_spec(spec.split("*", 1)[0]):
                met = sorted(glob.glob(str(path), recursive=True))
                if not met:
                    raise FileNotFoundError(f"data.x={spec}: no file is like this")
                found += met
            else:
                found.append(spec)
        return found

    def _read(self, spec: str, rates: dict[int, str]) -> list[Recording]:
        path = Path(spec).expanduser()
        folder, suffix = path.parent.name, path.suffix.lower()
        if suffix == ".wav":
            rate, values = _wav(path)
            rates.setdefault(rate, path.name)
            return [Recording(path.name, values, folder)]
        if suffix == ".npy":
            return [Recording(name, values, folder) for name, values in _npy(path)]
        return self._of_table(spec)

    def _of_table(self, spec: str) -> list[Recording]:
        path, _ = split_spec(spec, "data.x")
        label = self.labels_from if self.labels_from is not None and not is_spec(self.labels_from) else None
        beside = [name for name in (self.recording, label) if name is not None and name != "folder"]
        matrix = read_matrix(spec, "data.x", without=beside)
        gaps = np.isnan(matrix.values).sum(0)
        if gaps.any():
            at = int(gaps.argmax())
            raise ValueError(
                f"data.x: column '{matrix.names[at]}' of {path.name} misses {gaps[at]} of {len(matrix.values)} values: "
                "fill the gaps, or leave the column out"
            )
        values = matrix.values.T.astype(np.float32)
        table = matrix.table
        classes = None if label in (None, "folder") or table is None else table.column(str(label), "data.labels")
        if self.recording is None or table is None:
            return [Recording(path.name, values, path.parent.name, None if classes is None else classes[0])]
        of = group_names(f"data.recording={self.recording}", table.column(self.recording, "data.recording"))
        found = []
        for name in dict.fromkeys(of):
            steps = of == name
            one = None if classes is None else classes[steps][0]
            found.append(Recording(f"{path.name} {name}", values[:, steps], path.parent.name, one))
        return found

    # Checks

    def _check(self, recordings: Sequence[Recording]) -> None:
        counts: dict[int, str] = {}
        for one in recordings:
            counts.setdefault(one.values.shape[0], one.name)
        if len(counts) > 1:
            shown = ", ".join(f"{count} ({name})" for count, name in list(counts.items())[:3])
            raise ValueError(f"data.x: the recordings have different numbers of channels: {shown}")
        (count,) = counts
        if self.channels not in ("auto", count):
            raise ValueError(f"data.channels={self.channels}, but the recordings have {count}: leave it auto")
        for one in recordings:
            odd = int((~np.isfinite(one.values)).sum())
            if odd:
                channel = int((~np.isfinite(one.values)).any(1).argmax())
                raise ValueError(
                    f"data.x: {one.name} holds {odd} values that are missing or infinite, the first in channel "
                    f"{channel}: fill the gaps, or leave the recording out"
                )

    def _check_lengths(self, recordings: Sequence[Recording]) -> None:
        short = [one for one in recordings if one.values.shape[1] < self.span]
        if short:
            steps = min(one.values.shape[1] for one in short)
            raise ValueError(
                f"data.x: {len(short)} of {len(recordings)} recordings are shorter than a sample of data.span="
                f"{self.span} steps, the first is {short[0].name} with {short[0].values.shape[1]}: leave them out, or "
                f"set data.window={max(1, steps // 2)} or less"
            )
        if len(recordings) < 3:
            raise ValueError(
                f"data.x: {len(recordings)} recording{'s' if len(recordings) > 1 else ''} cannot be split for "
                "training, validation and test, since a recording stays on one side: bring more, name them by "
                "data.recording=COLUMN, or cut each with data.pieces=10"
            )

    def _labels(self, recordings: Sequence[Recording]) -> list[Any] | None:
        if self.x == EXAMPLE:
            return [one.label for one in recordings]
        if self.labels_from is None:
            return None
        if self.labels_from == "folder":
            return [one.folder for one in recordings]
        if is_spec(self.labels_from):
            values = _label_file(self.labels_from)
            if len(values) != len(recordings):
                raise ValueError(
                    f"data.labels={self.labels_from} has {len(values)} values for {len(recordings)} recordings"
                )
            return list(values)
        if any(one.label is None for one in recordings):
            raise ValueError(
                f"data.labels={self.labels_from}: a column of a table, and these files have none; use "
                "data.labels=folder or a FILE with one value a recording"
            )
        return [one.label for one in recordings]


def _label_file(spec: str) -> np.ndarray:
    path, wanted = split_spec(spec, "data.labels")
    if path.suffix.lower() == ".npy":
        return np.load(path, allow_pickle=False)
    table = read_table(path, "data.labels")
    names = table.names_like(wanted, "data.labels")
    if len(names) != 1:
        raise ValueError(f"data.labels={spec}: {len(names)} columns; name one, as {path.name}:{names[0]}")
    return table.columns[names[0]]


def _cut(recordings: Sequence[Recording], pieces: int) -> tuple[list[Recording], list[int]]:
    """Each recording in pieces of nearly equal length, and the recording that each piece is of."""
    found, of = [], []
    for number, one in enumerate(recordings):
        parts = np.array_split(one.values, pieces, axis=1) if pieces > 1 else [one.values]
        for place, part in enumerate(parts):
            name = one.name if pieces == 1 else f"{one.name} piece {place}"
            found.append(one._replace(name=name, values=part))
            of.append(number)
    return found, of


def _npy(path: Path) -> list[tuple[str, np.ndarray]]:
    if not path.is_file():
        raise FileNotFoundError(f"data.x={path}: there is no file {path.absolute()}")
    try:
        array = np.load(path, allow_pickle=False)
    except ValueError as error:
        raise ValueError(f"data.x={path}: not an array of numbers ({error})") from None
    if array.dtype.kind not in "fiu" or array.ndim not in (1, 2, 3) or 0 in array.shape:
        raise ValueError(
            f"data.x={path}: {array.dtype} {list(array.shape)}; [steps], [channels, steps] or [recordings, channels, "
            "steps] of numbers is needed"
        )
    if array.ndim == 2 and array.shape[0] > array.shape[1]:
        raise ValueError(
            f"data.x={path}: {list(array.shape)} would be {array.shape[0]} channels of {array.shape[1]} steps: time is "
            "the last axis, so transpose the array"
        )
    values = np.atleast_2d(array).astype(np.float32)
    if array.ndim < 3:
        return [(path.name, values)]
    return [(f"{path.name} {number}", one) for number, one in enumerate(values)]


def _wav(path: Path) -> tuple[int, np.ndarray]:
    """(sampling rate, float32 `[channels, steps]`); whole numbers are divided by the largest of their type."""
    from scipy.io import wavfile

    if not path.is_file():
        raise FileNotFoundError(f"data.x={path}: there is no file {path.absolute()}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", wavfile.WavFileWarning)  # of chunks that are no sound
            rate, values = wavfile.read(path)
    except ValueError as error:
        raise ValueError(f"data.x={path}: not a WAV file that can be read ({error})") from None
    if values.dtype == np.uint8:
        values = (values.astype(np.float32) - 128) / 128
    elif values.dtype.kind == "i":
        values = values / float(np.iinfo(values.dtype).max)
    values = np.atleast_2d(values.T).astype(np.float32)
    if values.shape[1] == 0:
        raise ValueError(f"data.x={path}: the recording is empty")
    return int(rate), values


def _oscillators(count: int = 120, steps: int = 2048, classes: int = 6) -> list[Recording]:
    """Recordings of 3 channels: an oscillation whose period and shape are those of its class, mixed into the channels
    with a random phase and random weights, under a random walk and noise."""
    rng = np.random.default_rng(20181)
    time = np.arange(steps)
    found = []
    for number in range(count):
        kind = number % classes
        period = (12.0, 17.0, 24.0)[kind % 3] * np.exp(0.03 * rng.standard_normal())
        phase = 2 * np.pi * (time / period + rng.random())
        wave = np.sin(phase) if kind < 3 else 1.2 * np.sign(np.sin(phase)) * np.abs(np.sin(phase)) ** 4
        mixed = rng.uniform(0.5, 1.5, (3, 1)) * wave
        walk = 0.03 * np.cumsum(rng.standard_normal((3, steps)), axis=1)
        walk -= walk.mean(1, keepdims=True)
        values = mixed + walk + 0.7 * rng.standard_normal((3, steps))
        found.append(Recording(f"oscillator {number}", values.astype(np.float32), label=f"kind {kind}"))
    return found
