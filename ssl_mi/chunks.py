"""Batches larger than memory: towers that see a few images at a time and keep none of their activations.

    z = towers(views)                      activations of all n images are kept for the backward pass
    z = in_chunks(towers, views, size)     those of `size` images, made again when their gradient is due

The loss sees all n embeddings at once, and its gradient is that of the whole batch: with z_c the embeddings of chunk c,

    dL/dtheta = sum_c (dz_c/dtheta)^T dL/dz_c,

so the chunks can be differentiated one after the other once dL/dz is known (Gao et al. 2021, arXiv:2101.06983,
GradCache). The cost is a second forward pass of the towers. Views and embeddings of the whole batch stay in memory.

A batch norm sees a chunk and not the batch: its statistics, and so the gradients, are those of smaller batches. Its
running averages take in every chunk once. Networks without batch norm have exactly the gradients of the whole batch;
dropout has other draws.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def in_chunks(towers: Any, views: Sequence[Tensor], size: int | None) -> Any:
    """The embeddings of a batch, `size` images at a time.

    Args:
        towers: Views -> a named tuple of lists with one tensor, or one list of tensors, for each view.
        views: One [n, ...] each.
        size: Images of a chunk; None for all at once.

    Returns:
        What the towers give for all views, row for row.
    """
    if size is None or size >= len(views[0]):
        return towers(views)
    parts = [_chunk(towers, list(some)) for some in zip(*(view.split(size) for view in views), strict=True)]
    return type(parts[0])(*(_joined(list(fields)) for fields in zip(*parts, strict=True)))


def _chunk(towers: Any, views: list[Tensor]) -> Any:
    if not torch.is_grad_enabled():
        return towers(views)

    def contexts() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
        return nullcontext(), _without_tracking(towers)

    return checkpoint(towers, views, use_reentrant=False, context_fn=contexts)


def _joined(fields: list[Any]) -> Any:
    """Tensors one after the other; of lists, entry by entry."""
    if isinstance(fields[0], Tensor):
        return torch.cat(fields)
    return [_joined(list(entries)) for entries in zip(*fields, strict=True)]


@contextmanager
def _without_tracking(towers: nn.Module) -> Iterator[None]:
    """The second pass over a chunk leaves the running averages of batch norms alone: the first has moved them."""
    tracking = [m for m in towers.modules() if isinstance(m, _BatchNorm) and m.training and m.track_running_stats]
    before = [(m.momentum, None if m.num_batches_tracked is None else m.num_batches_tracked.clone()) for m in tracking]
    for module in tracking:
        module.momentum = 0.0
    try:
        yield
    finally:
        for module, (momentum, count) in zip(tracking, before, strict=True):
            module.momentum = momentum
            if count is not None and module.num_batches_tracked is not None:
                module.num_batches_tracked.copy_(count)


def batch_norms(towers: nn.Module) -> list[str]:
    """The names of the batch norms of some towers.

    Args:
        towers: Any module.
    """
    return [name for name, module in towers.named_modules() if isinstance(module, _BatchNorm)]
