"""A loss that is NaN or infinite stops a run, at its step on a CPU and without waiting for a GPU at each step."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

#: Where a look at a number costs nothing.
AT_ONCE = frozenset({"cpu"})
#: Steps between two looks elsewhere; there is one before each checkpoint and at the end of each epoch as well.
EVERY = 50


class NotFinite(RuntimeError):
    """A loss term is NaN or infinite."""


class FiniteLosses:
    """Remembers the first loss that was not finite, and raises where it is looked at.

    On a CPU that is at once. Elsewhere the host would wait for all that the device was given, so the step and the terms
    stay there until somebody looks: `watch` itself every 50 steps, and whoever writes a checkpoint before that.
    """

    def __init__(self) -> None:
        self._step: Tensor | None = None
        self._terms: Tensor | None = None
        self._names: list[str] = []
        self._epochs: dict[int, int] = {}  # first step -> epoch, since the last look

    def watch(self, terms: Mapping[str, Tensor], total: Tensor, step: int, epoch: int) -> None:
        """Take in the loss of a step.

        Args:
            terms: Named scalars.
            total: Their sum.
            step: Its number.
            epoch: The epoch that it belongs to.

        Raises:
            NotFinite: If this loss, or one before that nobody looked at, is not finite.
        """
        at_once = total.device.type in AT_ONCE
        if at_once and torch.isfinite(total):
            return
        if not self._epochs or self._epochs[max(self._epochs)] != epoch:
            self._epochs[step] = epoch
        now = torch.stack([term.detach().float() for term in terms.values()])
        bad = ~torch.isfinite(total.detach())
        if self._step is None or self._terms is None or self._names != list(terms):
            self.look()
            self._step, self._terms = torch.full_like(bad, -1, dtype=torch.int64), now
            self._names, self._epochs = list(terms), {step: epoch}
        first = bad & (self._step < 0)
        self._step = torch.where(first, step, self._step)
        self._terms = torch.where(first, now, self._terms)
        if at_once or step % EVERY == EVERY - 1:
            self.look()

    def look(self) -> None:
        """Raise NotFinite, naming the step, if a loss was not finite."""
        if self._step is None or self._terms is None:
            return
        step = int(self._step)
        epochs, self._epochs = self._epochs, dict(list(self._epochs.items())[-1:])
        if step < 0:
            return
        values = ", ".join(f"{name} = {value:g}" for name, value in zip(self._names, self._terms.tolist(), strict=True))
        epoch = epochs[max(first for first in epochs if first <= step)]
        raise NotFinite(
            f"the loss is not finite at step {step} (epoch {epoch}): {values}. "
            "Lower the learning rate, raise the temperature, or train in float32 (trainer.precision=32-true)."
        )
