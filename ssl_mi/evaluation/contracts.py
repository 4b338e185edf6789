"""What evaluations need of others: the data, the module, the estimators and the projections.

The data module's own contract, `ssl_mi.data.contracts.Data`, has all of `EvaluationData` and more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from ssl_mi.information.core.estimate import Estimate


class Split(Protocol):
    """What is known about the samples of one split.

    Attributes:
        labels: int64 `[n]`, or None.
        class_names: One per class.
        factors: name -> values, `[n]` or `[n, k]`; integers and booleans are discrete, floats continuous.
    """

    @property
    def labels(self) -> Tensor | None: ...

    @property
    def class_names(self) -> Sequence[str]: ...

    @property
    def factors(self) -> Mapping[str, Tensor]: ...

    def __len__(self) -> int: ...


class Known(Protocol):
    """The exact mutual information of the two views, where the data know it."""

    @property
    def nats(self) -> float:
        """I(V1; V2) in nats."""

    def describe(self) -> str:
        """Where it comes from, in one line."""


class EvaluationData(Protocol):
    """The data of a run, as evaluations and callbacks see them, after `setup()`.

    A *source* is a batch of samples before augmentation; only its `index` (int64 `[n]`, rows of the split) and its
    `labels` (int64 `[n]` or None) are looked at.

    Attributes:
        labelled: What probes are fitted on.
        val, test: Held out; None where there is no such split. An optional `val_is_training` (False where it is left
            out) says that `val` is the last rows of `labelled`, since none are held out.
        batch_size: Samples per training step, over all processes.
        seed: Fixes splits and views.
        known: I(V1; V2) where the data know it, else None.
    """

    labelled: Any
    val: Any
    test: Any
    batch_size: int
    seed: int

    @property
    def known(self) -> Known | None: ...

    def batches(
        self, split: str, limit: int | None = None, batch_size: int = 512, shard: tuple[int, int] = (0, 1)
    ) -> Iterator[Any]:
        """The sources of a split in order; `shard` is this process's (rank, world)."""

    def views(self, source: Any, draw: int) -> Any:
        """A batch with `.views`: at least two views `[n, ...]`, the same for the same draw, never those of training."""

    def clean_views(self, source: Any) -> list[Tensor]:
        """The samples without augmentation, once per view."""

    def to_display(self, view: Tensor) -> np.ndarray | list[str] | None:
        """A view for people: images `[n, h, w, c]` in [0, 1], n texts, or None where nothing can be drawn."""


class EncoderModule(Protocol):
    """What is evaluated: a LightningModule with towers and an objective.

    Attributes:
        towers: `towers(views)` gives `.h` and `.z`, a tensor `[n, d]` per view; `towers.encode(clean_views)` gives
            h, `[n, d]`.
        objective: `.estimate(x, y, rows)` gives its own bound on held-out pairs, or None; `.name`.
    """

    towers: Any

    @property
    def device(self) -> torch.device: ...

    def modules(self) -> Iterator[nn.Module]: ...

    def eval(self) -> Any: ...


class Estimator(Protocol):
    """A function of paired samples, for instance `functools.partial(ssl_mi.information.ksg, k=5)`."""

    def __call__(self, x: ArrayLike, y: ArrayLike, /) -> Estimate | float:
        """I(X; Y) from `x: [n, d]` and `y: [n, d']`, in nats. A plain number is an estimate without an interval."""


class FittedProjection(Protocol):
    """A projection fitted on other rows.

    Attributes:
        name: What measurements call it.
    """

    @property
    def name(self) -> str: ...

    def __call__(self, x: Tensor, y: Tensor, /) -> tuple[Any, Any]:
        """`x: [n, d]` and `y: [n, d']` -> two arrays of n rows."""


class Projection(Protocol):
    """Something that is fitted on pairs and then projects other pairs to few dimensions.

    Every `ssl_mi.information.projections.Projection` is one; here it need only take tensors.
    """

    def fit(self, x: Tensor, y: Tensor, /, seed: int = 0) -> FittedProjection:
        """Fit on `x: [n, d]` and `y: [n, d']`."""
