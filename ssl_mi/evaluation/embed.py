"""Embeddings of held-out samples, computed without leaving a trace in the module.

    features   h of samples without augmentation       -> for probes
    pairs      h and z of two freshly drawn views      -> for mutual information

Both go through the samples of a split in order, in shares over the processes, and hold float32 on the CPU.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, nn

from ssl_mi.distributed import gather_objects, world
from ssl_mi.evaluation.contracts import EncoderModule, EvaluationData


class Features(NamedTuple):
    """h of samples without augmentation.

    Attributes:
        h: float32 `[n, d]`.
        index: int64 `[n]`, rows of the split.
        labels: int64 `[n]` or None.
    """

    h: Tensor
    index: Tensor  # type: ignore[assignment]  # shadows tuple.index
    labels: Tensor | None


class Pairs(NamedTuple):
    """Both embeddings of two views.

    Attributes:
        h, z: One float32 `[n, d]` per view; a row is one sample.
        index: int64 `[n]`, rows of the split.
    """

    h: tuple[Tensor, Tensor]
    z: tuple[Tensor, Tensor]
    index: Tensor  # type: ignore[assignment]


class NotFiniteEmbeddings(ValueError):
    """Embeddings hold NaN or infinity: the towers have diverged."""


class HasModes(Protocol):
    """A module with training and evaluation modes."""

    def modules(self) -> Iterator[nn.Module]: ...

    def eval(self) -> Any: ...


@contextmanager
def untouched(module: HasModes) -> Iterator[None]:
    """Evaluation mode and no gradients inside; outside, modes and random states are as they were."""
    modes = {part: part.training for part in module.modules()}
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the state that others may use
    cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    try:
        with torch.random.fork_rng(devices=range(cuda)), torch.no_grad():
            module.eval()
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        for part, mode in modes.items():
            part.training = mode


def features(module: EncoderModule, data: EvaluationData, split: str, limit: int | None = None) -> Features:
    """h of the samples of a split, unaugmented; towers that see different views are concatenated.

    Raises:
        ValueError: An empty split.
        NotFiniteEmbeddings: Embeddings that are not finite.
    """

    def one(source: Any) -> tuple[Tensor, ...]:
        return (module.towers.encode(data.clean_views(source)),)

    (h,), index, labels = _collect(module, data, split, limit, one)
    _check_finite({"h": [h]}, split)
    return Features(h, index, labels)


def pairs(module: EncoderModule, data: EvaluationData, split: str, draw: int, limit: int | None = None) -> Pairs:
    """h and z of the first two views of each sample, drawn anew for each `draw`.

    Raises:
        ValueError: An empty split.
        NotFiniteEmbeddings: Embeddings that are not finite.
    """

    def one(source: Any) -> tuple[Tensor, ...]:
        out = module.towers(data.views(source, draw).views)
        return out.h[0], out.h[1], out.z[0], out.z[1]

    (hx, hy, zx, zy), index, _ = _collect(module, data, split, limit, one)
    _check_finite({"h": [hx, hy], "z": [zx, zy]}, split)
    return Pairs((hx, hy), (zx, zy), index)


def _check_finite(embeddings: dict[str, list[Tensor]], split: str) -> None:
    for name, views in embeddings.items():
        for x in views:
            bad = int((~x.isfinite()).any(1).sum())
            if bad:
                raise NotFiniteEmbeddings(
                    f"{name} of the {split} samples: {bad} of {len(x)} rows hold NaN or infinity, nothing can be "
                    "measured on them; the towers have diverged: lower the learning rate, or train in float32 "
                    "(trainer.precision=32-true)"
                )


def _collect(
    module: EncoderModule,
    data: EvaluationData,
    split: str,
    limit: int | None,
    one: Callable[[Any], tuple[Tensor, ...]],
) -> tuple[list[Tensor], Tensor, Tensor | None]:
    """Run `one` over the batches of a split and join the results of all processes, in order."""
    outputs, indices, labels = [], [], []
    with untouched(module), torch.autocast(module.device.type, enabled=False):
        for source in data.batches(split, limit, shard=world()):
            indices.append(source.index)
            labels.append(source.labels)
            source = apply_to_collection(source, Tensor, lambda x: x.to(module.device))
            outputs.append(tuple(x.float().cpu() for x in one(source)))
    share = None
    if outputs:
        share = (
            [torch.cat(parts) for parts in zip(*outputs, strict=True)],
            torch.cat(indices),
            None if labels[0] is None else torch.cat(labels),
        )
    shares = [s for s in gather_objects(share) if s is not None]
    if not shares:
        raise ValueError(f"the {split} split has no samples to embed: raise data.val_fraction or add samples")
    tensors = [torch.cat(parts) for parts in zip(*(s[0] for s in shares), strict=True)]
    every_label = None if shares[0][2] is None else torch.cat([s[2] for s in shares])
    return tensors, torch.cat([s[1] for s in shares]), every_label
