"""Objectives whose draws or phases depend on the number of the training step."""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_mi.objectives.objective import Objective


class SteppedObjective(Objective):
    """An objective that counts its training steps.

    The count is the buffer `steps`, so it moves, checkpoints and resumes with the model. Reading a tensor makes the
    host wait for the device; `step` is the same number as a Python int, which is read from the tensor only once after
    construction or loading.
    """

    steps: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self._step: int | None = None
        self.register_load_state_dict_post_hook(SteppedObjective._forget)

    @property
    def step(self) -> int:
        """Training steps done."""
        if self._step is None:
            self._step = int(self.steps)
        return self._step

    def count_step(self) -> None:
        """Count one more; called at the end of a training step."""
        done = self.step + 1
        self.steps += 1
        self._step = done

    @staticmethod
    def _forget(module: SteppedObjective, incompatible_keys: object) -> None:
        module._step = None
