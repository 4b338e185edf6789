"""Numbers that move with training, as pure functions of the optimizer step.

    constant(step)    value
    linear(step)      start + (end - start) t,                          t = step / steps, at most 1
    cosine(step)      end - (end - start) (1 + cos(pi t)) / 2
    jump(step)        start while t < 1, then end
    milestones(step)  the value of the last milestone reached
    warmup(step)      value (step + 1) / steps, then value

Steps are optimizer steps and count from 0: with accumulated gradients several batches share a step. A value depends on
the step and on nothing that happened before, so a resumed run continues with the same values and there is no state to
save. `progress`-like arguments may be fractions of a step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any


def constant(step: float, value: float) -> float:
    """`value` at every step.

    Args:
        step: Not used.
        value: The value.
    """
    return value


def linear(step: float, start: float, end: float, steps: float) -> float:
    """A straight line.

    Args:
        step: The optimizer step, from 0.
        start: Value at step 0.
        end: Value at `steps` and after.
        steps: Length of the line in steps; 0 for `end` at once.

    Returns:
        The value at `step`.
    """
    return start + (end - start) * _share(step, steps)


def cosine(step: float, start: float, end: float, steps: float) -> float:
    """Half a cosine: flat at both ends.

    Args:
        step: The optimizer step, from 0.
        start: Value at step 0.
        end: Value at `steps` and after.
        steps: Length in steps; 0 for `end` at once.

    Returns:
        The value at `step`.

    References:
        Loshchilov & Hutter 2017, arXiv:1608.03983, equation 5.
    """
    return end - (end - start) * ((1 + math.cos(math.pi * _share(step, steps))) / 2)


def jump(step: float, start: float, end: float, steps: float) -> float:
    """`start` before step `steps`, `end` from there on.

    Args:
        step: The optimizer step, from 0.
        start: Value before step `steps`.
        end: Value from there on.
        steps: Where it changes.
    """
    return start if step < steps else end


def milestones(step: float, values: Mapping[float, float]) -> float:
    """A staircase.

    Args:
        step: The optimizer step, from 0.
        values: {first step: value}. One of them must start at 0.

    Returns:
        The value whose first step is the largest that is not beyond `step`.

    Raises:
        ValueError: If no value starts at 0.
    """
    if min(values, default=1) != 0:
        raise ValueError(f"milestones: one value must start at 0, got {dict(values)}")
    return values[max(first for first in values if first <= step)]


def warmup(step: float, value: float, steps: float) -> float:
    """A line up to `value` whose last step has the full value and whose first is not 0.

    Args:
        step: The optimizer step, from 0.
        value: The value at step `steps - 1` and after.
        steps: Length in steps; 0 for none.

    Returns:
        value (step + 1) / steps, at most `value`.
    """
    return value * min((step + 1) / steps, 1.0) if steps > 0 else value


#: What a schedule between two values may look like, by the name that a configuration uses.
SHAPES: dict[str, Callable[[float, float, float, float], float]] = {"linear": linear, "cosine": cosine, "jump": jump}


def run_length(trainer: Any) -> tuple[float, int]:
    """How long a run is, in optimizer steps.

    Asking sets up the trainer's loader, so hooks that run before a checkpoint is restored must not.

    Args:
        trainer: A Lightning trainer that fits a module.

    Returns:
        (steps in all, infinity if the run has no end; steps per epoch).
    """
    total = trainer.estimated_stepping_batches
    return total, -(-trainer.num_training_batches // trainer.accumulate_grad_batches)


def _share(step: float, steps: float) -> float:
    """How much of the way is done, in [0, 1]."""
    return min(step / steps, 1.0) if steps > 0 else 1.0
