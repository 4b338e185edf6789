"""The evaluations of a run for any encoder in any training loop: a function, a loader, and nothing else of ours.

    rows = measure(encode, loader)                      in a loop of one's own
    rows = measure_embeddings(h, second, labels)        of embeddings that are there already

`callbacks.MeasureEncoder` calls this under a Lightning Trainer. Half of the rows are fitted on, by probes and
projections, and the other half is measured.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ssl_mi.evaluation.context import Evaluation
from ssl_mi.evaluation.embed import untouched
from ssl_mi.evaluation.external import External, FeatureGeometry, LabelInformation, evaluate
from ssl_mi.evaluation.measurement import Measurement
from ssl_mi.evaluation.probes import KNN, LinearProbe
from ssl_mi.evaluation.view_information import ViewFamilies, ViewGeometry, families

log = logging.getLogger(__name__)

Unpack = Callable[[Any], tuple[Sequence[Tensor], Tensor | None]]
FEWEST = 64  # rows: half of them fitted on, in four parts for the interval


def views_and_labels(batch: Any) -> tuple[list[Tensor], Tensor | None]:
    """The views of a batch, one or two, and its labels or None.

    Args:
        batch: images; (images, labels, ...); ([view, view, ...], labels, ...), as lightly and solo-learn give them;
            (view, view); a mapping with "views" or "image", and "label"; or several mappings with "image", one for
            each view, in a sequence or by name, as stable-pretraining gives them.

    Raises:
        ValueError: If it is none of these.
    """
    several = list(batch.values()) if isinstance(batch, Mapping) else batch
    if isinstance(several, list | tuple) and several and all(isinstance(part, Mapping) for part in several):
        views, labels = [part.get("image") for part in several], several[0].get("label")
    elif isinstance(batch, Mapping):
        found, labels = batch.get("views", batch.get("image")), batch.get("label")
        views = [found] if isinstance(found, Tensor) else list(found or ())
    elif isinstance(batch, Tensor):
        views, labels = [batch], None
    else:
        parts = list(batch)
        if parts and _indices(parts[0]) and len(parts) > 1:  # solo-learn's index comes first
            parts = parts[1:]
        first, second = parts[0] if parts else None, parts[1] if len(parts) > 1 else None
        if isinstance(first, list | tuple):
            views, labels = list(first), second
        elif isinstance(second, Tensor) and isinstance(first, Tensor) and second.shape == first.shape:
            views, labels = [first, second], None
        else:
            views, labels = [first], second
    if not views or not all(isinstance(view, Tensor) and view.is_floating_point() for view in views[:2]):
        raise ValueError(
            f"a batch of type {type(batch).__name__} is neither images, (images, labels) nor ([view, view], labels), "
            "as float tensors: give unpack=lambda batch: ([view, view], labels or None)"
        )
    if isinstance(labels, Tensor) and labels.ndim == 1 and not labels.is_floating_point():
        return views[:2], labels.long()
    if labels is not None:
        _left_out(f"{labels.dtype} {list(labels.shape)}" if isinstance(labels, Tensor) else type(labels).__name__)
    return views[:2], None


@cache
def _left_out(what: str) -> None:
    log.warning(
        "labels of type %s are left out, so nothing of labels is measured: give whole numbers [n], by the loader or by "
        "unpack=lambda batch: ([view, view], labels)",
        what,
    )


def _indices(part: Any) -> bool:
    return isinstance(part, Tensor) and part.ndim == 1 and not part.is_floating_point()


class Embedded(NamedTuple):
    """What an encoder gave.

    Attributes:
        h: float32 `[n, d]`, of the first view.
        second: The same of the second view; None where there is one view.
        labels: int64 `[n]`, or None.
    """

    h: Tensor
    second: Tensor | None
    labels: Tensor | None


def embedded(
    encode: Callable[[Tensor], Tensor],
    loader: Iterable[Any],
    limit: int = 4000,
    device: torch.device | str = "cpu",
    unpack: Unpack = views_and_labels,
    seed: int = 0,
) -> Embedded:
    """The first `limit` samples of a loader, encoded. Random states are left as they were.

    Views that the loader draws in this process or in fresh workers are the same at every call.

    Args:
        encode: Images `[n, ...]` on `device` to h `[n, d]`.
        loader: Of batches that `unpack` takes.
        limit: Samples.
        device: Of the encoder.
        unpack: A batch to ([view] or [view, view], labels or None).
        seed: Of what the loader draws.

    Raises:
        ValueError: On batches or embeddings of another shape, on too few samples, and on NaN.
    """
    hs: list[list[Tensor]] = []
    labels: list[Tensor | None] = []
    n = 0
    with untouched(nn.Identity()):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - what others' augmentations use
        for batch in loader:
            views, known = unpack(batch)
            hs.append([_encoded(encode, view.to(device)) for view in views[:2]])
            labels.append(known)
            n += len(hs[-1][0])
            if n >= limit:
                break
    if n < FEWEST:
        raise ValueError(f"the loader gave {n} samples: at least {FEWEST} are needed, better 2,000")
    if len({len(parts) for parts in hs}) > 1:
        raise ValueError("some batches of the loader have one view and others two: give all of them the same")
    sides = [torch.cat(side)[:limit] for side in zip(*hs, strict=True)]
    if bad := int(sum((~side.isfinite()).any(1).sum() for side in sides)):
        raise ValueError(f"{bad} embeddings hold NaN or infinity: the encoder has diverged")
    given = [x for x in labels if x is not None]
    if 0 < len(given) < len(labels):
        raise ValueError(f"{len(given)} of {len(labels)} batches have labels: give all of them labels, or none")
    every = torch.cat(given)[:limit].cpu() if given else None
    return Embedded(sides[0], sides[1] if len(sides) > 1 else None, every)


def _encoded(encode: Callable[[Tensor], Tensor], view: Tensor) -> Tensor:
    h = encode(view)
    if not isinstance(h, Tensor) or h.ndim != 2 or len(h) != len(view):
        shape = list(h.shape) if isinstance(h, Tensor) else type(h).__name__
        raise ValueError(
            f"encode gives {shape} of {list(view.shape)}: it must give a tensor [n, d]; pool or flatten(1) it"
        )
    return h.detach().float().cpu()


def measure(
    encode: Callable[[Tensor], Tensor],
    loader: Iterable[Any],
    *,
    limit: int = 4000,
    device: torch.device | str = "cpu",
    unpack: Unpack = views_and_labels,
    evaluations: Sequence[Evaluation] | None = None,
    seed: int = 0,
    epoch: int = 0,
) -> list[Measurement]:
    """Measure an encoder in a loop of one's own: information of its views and labels, probes, geometry.

        model.eval()
        for row in measure(model.backbone, loader):
            print(row.quantity, row.value, row.low, row.high)

    Args:
        encode: Images `[n, ...]` on `device` to h `[n, d]`; in the mode in which it is to be measured.
        loader: Held-out samples: images, or pairs of views, with labels where there are any.
        limit: Samples; half are fitted on, half measured.
        device: Of the encoder.
        unpack: A batch to ([view] or [view, view], labels or None), see `views_and_labels`.
        evaluations: What to measure; None: what can be measured of these, see `measure_embeddings`.
        seed: Of the halves, and of what the loader draws.
        epoch: Noted in the rows.

    Raises:
        ValueError: See `embedded`.
    """
    found = embedded(encode, loader, limit, device, unpack, seed)
    return measure_embeddings(*found, evaluations=evaluations, seed=seed, epoch=epoch)


def measure_embeddings(
    h: Tensor,
    second: Tensor | None = None,
    labels: Tensor | None = None,
    *,
    evaluations: Sequence[Evaluation] | None = None,
    seed: int = 0,
    epoch: int = 0,
) -> list[Measurement]:
    """Measure embeddings: I(H_X; H_Y), alignment of two views; I(h; label), probes with labels; geometry.

    Args:
        h: float `[n, d]`, of a view or of the samples as they are.
        second: float `[n, d]`, of a second view of the same samples; None for none.
        labels: int64 `[n]`; None for none.
        evaluations: What to measure; None: all of these that can be measured.
        seed: Of the halves.
        epoch: Noted in the rows.

    Returns:
        The measurements of one half of the rows, as of split "val"; the other half was fitted on.
    """
    data = Halves(h.float(), None if second is None else second.float(), labels, seed)
    if evaluations is None:
        evaluations = default_evaluations(second is not None, labels is not None, seed)
    rows = evaluate(External(nn.Identity()), data, evaluations, epoch)
    # Whether the first view is augmented is the loader's to know.
    return [replace(row, split="val", quantity=row.quantity.removesuffix(", unaugmented")) for row in rows]


def default_evaluations(views: bool, labels: bool, seed: int = 0) -> list[Evaluation]:
    """What `measure_embeddings` measures.

    Args:
        views: Whether there are two views.
        labels: Whether there are labels.
        seed: Of projections and probes.
    """
    found: list[Evaluation] = [FeatureGeometry()]
    if views:
        found += [ViewFamilies(seed=seed, families={"ksg": families()["ksg"]}), ViewGeometry()]
    if labels:
        found += [LabelInformation(seed=seed), LinearProbe(seed=seed), KNN()]
    return found


class _Half(NamedTuple):
    h: Tensor
    second: Tensor | None
    labels: Tensor | None
    class_names: tuple[str, ...]

    factors: Mapping[str, Tensor] = {}

    def __len__(self) -> int:
        return len(self.h)


class _Source(NamedTuple):
    h: Tensor
    second: Tensor | None
    index: Tensor  # type: ignore[assignment]  # shadows tuple.index
    labels: Tensor | None


class _Views(NamedTuple):
    views: list[Tensor]


class Halves:
    """Embeddings as an `EvaluationData`: a random half to fit on ("labelled", "val"), the other to measure ("test").

    Args:
        h: float32 `[n, d]`.
        second: float32 `[n, d]`, or None.
        labels: int64 `[n]`, or None.
        seed: Of the halves.
    """

    known = None
    batch_size = 1
    draws_views = False

    def __init__(self, h: Tensor, second: Tensor | None, labels: Tensor | None, seed: int = 0) -> None:
        order = torch.randperm(len(h), generator=torch.Generator().manual_seed(seed))
        names: tuple[str, ...] = ()
        if labels is not None:
            values, labels = labels.unique(return_inverse=True)
            names = tuple(map(str, values.tolist()))
        self.seed = seed
        halves = []
        for rows in order.tensor_split(2):
            beside = [None if x is None else x[rows] for x in (second, labels)]
            halves.append(_Half(h[rows], beside[0], beside[1], names))
        self.labelled = self.val = halves[0]
        self.test = halves[1]

    def batches(
        self, split: str, limit: int | None = None, batch_size: int = 512, shard: tuple[int, int] = (0, 1)
    ) -> Iterator[_Source]:
        """See `EvaluationData.batches`; all of them in every process, which has all."""
        half: _Half = getattr(self, split)
        for rows in torch.arange(len(half.h))[:limit].tensor_split(shard[1])[shard[0]].split(batch_size):
            beside = [None if x is None else x[rows] for x in (half.second, half.labels)]
            yield _Source(half.h[rows], beside[0], rows, beside[1])

    def clean_views(self, source: _Source) -> list[Tensor]:
        """The embeddings of the first view."""
        return [source.h]

    def views(self, source: _Source, draw: int) -> _Views:
        """The embeddings of both views."""
        if source.second is None:
            raise ValueError("there is one view of each sample: give two to compare views")
        return _Views([source.h, source.second])

    def to_display(self, view: Tensor) -> None:
        """Nothing can be drawn."""
