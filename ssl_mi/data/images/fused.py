"""Views of 8-bit images on a CPU in one pass: the ops' instructions, collected, and run by the compiled kernel."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ssl_mi.data.draws import Draws
from ssl_mi.data.images.ops import Kind, Op, Steps

log = logging.getLogger(__name__)

# Pixels of a view that are worth a thread: starting one costs as much as a few thousand.
_THREAD = 2**17
_SLOW = 1.0  # seconds that are worth a line

#: Whether they can blur -> the kernels that this process has compiled.
_compiled: dict[bool, Any] = {}


class Program(NamedTuple):
    """The first ops of a view as instructions.

    Attributes:
        kinds: int64 `[n, k]`.
        numbers: float32 `[n, k, 4]`.
        shape: Of the views, `(n, c, h, w)`.
        ops: How many ops they are.
    """

    kinds: Tensor
    numbers: Tensor
    shape: tuple[int, ...]
    ops: int

    def of(self, rows: slice) -> Program:
        """The instructions of some of the views."""
        kinds, numbers = self.kinds[rows], self.numbers[rows]
        return self._replace(kinds=kinds, numbers=numbers, shape=(len(kinds), *self.shape[1:]))


def program(ops: Sequence[Op], draws: Callable[[int], Draws], shape: Sequence[int], first: int = 0) -> Program:
    """The instructions of `ops[first:]` up to the first that has none, or that resizes what is no longer 8 bits.

    Args:
        ops: Of a view.
        draws: The draws of an op, by its place in `ops`.
        shape: Of the images, `[n, c, h, w]`.
        first: The first op; those before it are done.
    """
    n, c, h, w = shape
    parts: list[Steps] = []
    place = first
    for place in range(first, len(ops)):
        found = _steps(ops[place], draws(place), (n, c, h, w))
        if found is None or (found.side is not None and parts):
            break
        parts.append(found)
        h, w = (h, w) if found.side is None else (found.side, found.side)
    else:
        place = max(first, len(ops))
    kinds = torch.cat([part.kinds for part in parts], 1) if parts else torch.zeros(n, 0, dtype=torch.int64)
    numbers = torch.cat([part.numbers for part in parts], 1) if parts else torch.zeros(n, 0, 4)
    return Program(kinds, numbers, (n, c, h, w), place)


def _steps(op: Op, draws: Draws, shape: tuple[int, ...]) -> Steps | None:
    return op.steps(shape, **op.draw(draws, shape)) if op.compiles else None


def run(images: Tensor, what: Program, mean: Tensor, std: Tensor) -> Tensor:
    """(view - mean) / std of every image: uint8 `[n, c, h, w]` -> float32 of the program's shape.

    Large batches are divided among `torch.get_num_threads()` threads, which live no longer than the call: nothing is
    left behind that a forked process would miss.

    Args:
        images: On the CPU.
        what: Their instructions.
        mean, std: One number per channel.
    """
    out = torch.empty(what.shape)
    n = len(out)
    arguments = (images.contiguous().numpy(), what.kinds.numpy(), what.numbers.numpy(), mean.numpy(), (1 / std).numpy())
    kernel, view = _kernel(bool((what.kinds == int(Kind.BLUR)).any())), out.numpy()
    threads = max(1, min(torch.get_num_threads(), n, out.numel() // _THREAD))
    if threads == 1:
        kernel(*arguments, 0, n, view)
        return out
    bounds = [n * k // threads for k in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda k: kernel(*arguments, bounds[k], bounds[k + 1], view), range(threads)))
    return out


def _kernel(blurs: bool) -> Any:
    """The kernel, compiled: the one with a blur where it is needed, or is there already."""
    for place in (True, blurs):
        if place in _compiled:
            return _compiled[place]
    return _compiled.setdefault(blurs, _compile(blurs))


def _compile(blurs: bool) -> Any:
    """From numba's cache where an earlier process left it there."""
    began = time.monotonic()
    import numpy as np

    from ssl_mi.data.images import kernel

    found = kernel.run_with_blur if blurs else kernel.run
    one, zero = np.zeros((1, 1, 1, 1), np.uint8), np.zeros(1, np.float32)
    view = np.empty((1, 1, 1, 1), np.float32)
    found(one, np.zeros((1, 0), np.int64), np.zeros((1, 0, 4), np.float32), zero, zero, 0, 1, view)
    if (took := time.monotonic() - began) > _SLOW:
        on_disk = kernel.kept(found)
        kept = "later runs find it in numba's cache" if on_disk else "it cannot be kept: no writable cache folder"
        log.info("compiled the augmentations for this CPU in %.0f s; %s", took, kept)
    return found
