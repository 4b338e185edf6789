"""What encoders take that are of no images: rows of a table, windows of recordings, sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor


class Input(Protocol):
    """How samples reach an encoder, as a checkpoint keeps it."""

    def transform(self, samples: Any) -> Tensor:
        """Samples as they are in their files -> what the encoder takes; ValueError on others."""

    def example(self, n: int, generator: torch.Generator) -> Tensor:
        """n samples at random, as the encoder takes them."""

    def describe(self) -> str:
        """What the encoder takes, in words."""


class Rows:
    """Rows of a table, standardised by the columns of the training rows.

    Args:
        preprocessing: With "columns": mean and std of each block.
        view: Its block; a single block has all views.
    """

    def __init__(self, preprocessing: Mapping[str, Any], view: int) -> None:
        columns = preprocessing["columns"]
        self.mean, self.std = _scaling(columns[min(view, len(columns) - 1)])

    def transform(self, samples: Any) -> Tensor:
        """float `[n, d]` -> float32 `[n, d]`."""
        x = _finite(samples, "rows")
        if x.ndim != 2 or x.shape[1] != len(self.mean):
            raise ValueError(f"rows [n, {len(self.mean)}] of numbers are taken, these are {list(x.shape)}")
        return ((x - self.mean) / self.std).float()

    def example(self, n: int, generator: torch.Generator) -> Tensor:
        """float32 `[n, d]`."""
        return torch.randn(n, len(self.mean), generator=generator)

    def describe(self) -> str:
        """The shape, and what was done to the values."""
        return f"float32 [n, {len(self.mean)}]: rows, (x - mean) / std by column, see columns in encoder.json"


class Windows:
    """Windows of recordings, standardised by the channels of the training windows.

    Args:
        preprocessing: With "channels", mean and std, or None; and "window", the steps.
        view: Not used: all views are of one recording.
    """

    def __init__(self, preprocessing: Mapping[str, Any], view: int) -> None:
        self.mean, self.std = _scaling(preprocessing["channels"])
        self.steps = int(preprocessing["window"])

    def transform(self, samples: Any) -> Tensor:
        """float `[n, channels, steps]` -> float32 `[n, channels, steps]`."""
        x = _finite(samples, "windows")
        if x.ndim != 3 or x.shape[1] != len(self.mean):
            raise ValueError(f"windows [n, {len(self.mean)}, steps] of numbers are taken, these are {list(x.shape)}")
        return ((x - self.mean[:, None]) / self.std[:, None]).float()

    def example(self, n: int, generator: torch.Generator) -> Tensor:
        """float32 `[n, channels, steps]`."""
        return torch.randn(n, len(self.mean), self.steps, generator=generator)

    def describe(self) -> str:
        """The shape, and what was done to the values."""
        return (
            f"float32 [n, {len(self.mean)}, steps], trained on {self.steps} steps: windows, (x - mean) / std by "
            "channel, see channels in encoder.json"
        )


class Sentences:
    """Sentences as the tokens of a tokenizer.

    Args:
        preprocessing: With "tokenizer", the text of its tokenizer.json, and "length", the tokens of a row.
        view: Not used: one view is a sentence.
    """

    def __init__(self, preprocessing: Mapping[str, Any], view: int) -> None:
        from ssl_mi.data.pairs.tokens import Tokenizer

        self.tokenizer = Tokenizer.from_json(preprocessing["tokenizer"])
        self.length = int(preprocessing["length"])

    def transform(self, samples: Any) -> Tensor:
        """Strings -> int64 `[n, length]`."""
        texts = [samples] if isinstance(samples, str) else samples
        if not isinstance(texts, Sequence) or not texts or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"sentences are taken, a list of strings, not {type(samples).__name__}")
        return self.tokenizer.ids(texts, self.length)

    def example(self, n: int, generator: torch.Generator) -> Tensor:
        """int64 `[n, length]`."""
        return torch.randint(1, len(self.tokenizer), (n, self.length), generator=generator)

    def describe(self) -> str:
        """The shape, and whose tokens they are."""
        return f"int64 [n, {self.length}]: tokens of the tokenizer in encoder.json, cut there or padded with 0 behind"


KINDS: Mapping[str, type[Rows] | type[Windows] | type[Sentences]] = {
    "columns": Rows,
    "channels": Windows,
    "tokenizer": Sentences,
}  # by the key of the preprocessing that describes them


def input_of(preprocessing: Mapping[str, Any] | None, view: int) -> Input | None:
    """How samples of a view that is no image reach its encoder; None where the checkpoint does not say.

    Args:
        preprocessing: Of a checkpoint.
        view: Whose.
    """
    how = preprocessing or {}
    return next((kind(how, view) for key, kind in KINDS.items() if how.get(key)), None)


def _scaling(found: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    return torch.tensor(found["mean"], dtype=torch.float64), torch.tensor(found["std"], dtype=torch.float64)


def _finite(samples: Any, what: str) -> Tensor:
    if isinstance(samples, np.ma.MaskedArray):
        raise ValueError(f"{what}: a masked array's mask would be lost")
    try:
        x = torch.as_tensor(samples).double()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{what} are arrays of numbers, not {type(samples).__name__}") from error
    if bad := int((~x.isfinite()).sum()):
        raise ValueError(f"{what}: {bad} of {x.numel()} values are NaN or infinite: fill them in or leave them out")
    return x
