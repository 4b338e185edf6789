"""The teacher: towers whose weights are an exponential moving average of the trained ones."""

from __future__ import annotations

import copy
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from ssl_mi.schedules import cosine


class EMA(nn.Module):
    """Mean teacher xi of the online towers theta: xi <- m xi + (1 - m) theta after every step of the optimizer.

    With p in [0, 1] the part of training that is done,

        m(p) = final - (final - momentum) (cos(pi p) + 1) / 2,

    from `momentum` to `final_momentum`; None keeps m at `momentum`, which a schedule may then move (target
    `teacher.momentum`). m is computed from p alone, so nothing is lost on resume. Buffers (batch norm's running
    statistics and its count) are copied, not averaged.

    Use: `copy_from(towers)` once, before the optimizer is made and before `load_state_dict`, which can only fill
    weights that exist; `teacher(views)` for targets, without gradients; `update(towers, p)` after each step of the
    optimizer (not each backward pass: with accumulated gradients that would average too fast). `JointEmbedding` does
    all of this.

    Args:
        momentum: m at the start.
        final_momentum: m at the end.
        batch_norm: What the teacher normalises by while the online towers train. "batch": the statistics of its own
            batch, as in BYOL, MoCo v3 and DINO; it follows train() and eval(). (Such a pass changes its running
            statistics, but the next update overwrites them with those of the online towers.) "running": the running
            statistics, i.e. always eval mode, which also switches dropout off.
        views: How many of the views, from the first, the teacher sees; None for all. DINO's teacher sees the two large
            crops of multi-crop, ReSSL's the weaker of two views.

    Raises:
        ValueError: If a number is out of range, or on an unknown `batch_norm`.

    References:
        Grill et al. 2020 (arXiv:2006.07733), section 3; Caron et al. 2021 (arXiv:2104.14294).

    Example:
        >>> from ssl_mi.networks import MLP, MLPEncoder, Siamese
        >>> teacher = EMA(momentum=0.99, final_momentum=1.0)
        >>> teacher.copy_from(Siamese(MLPEncoder((3, 8, 8), widths=[16]), MLP(dims=[8, 4])))
        >>> any(parameter.requires_grad for parameter in teacher.parameters())
        False
    """

    def __init__(
        self,
        momentum: float = 0.99,
        final_momentum: float | None = 1.0,
        batch_norm: str = "batch",
        views: int | None = None,
    ) -> None:
        super().__init__()
        _check_share("momentum", momentum)
        if final_momentum is not None:
            _check_share("final_momentum", final_momentum)
        if batch_norm not in ("batch", "running"):
            raise ValueError(f"EMA: batch_norm must be 'batch' or 'running', but got {batch_norm!r}")
        if views is not None and views < 1:
            raise ValueError(f"EMA: views must be null (all) or at least 1, but got {views}")
        self._momentum, self.final_momentum, self.batch_norm = momentum, final_momentum, batch_norm
        self.views = views
        self.towers: nn.Module | None = None

    @property
    def momentum(self) -> float:
        """m at the start of the run; throughout where there is no `final_momentum`."""
        return self._momentum

    @momentum.setter
    def momentum(self, value: float) -> None:
        if self.final_momentum is not None:
            raise ValueError(
                f"it already moves to teacher.final_momentum={self.final_momentum:g}: set teacher.final_momentum=null"
            )
        _check_share("momentum", value)
        self._momentum = value

    @property
    def needs_end(self) -> bool:
        """Whether m depends on the part of the run that is done."""
        return self.final_momentum is not None and self.final_momentum != self.momentum

    def describe(self) -> str:
        """The momentum in a few words, for the first lines of a run."""
        moves = f" -> {self.final_momentum:g}, cosine over the run" if self.needs_end else ""
        return f"momentum {self.momentum:g}{moves}"

    def copy_from(self, towers: nn.Module) -> None:
        """Start as a copy of `towers` without gradients."""
        self.towers = copy.deepcopy(towers).requires_grad_(False)
        self.train(self.training)

    def momentum_at(self, progress: float) -> float:
        """m at `progress`, the part of training that is done, in [0, 1]."""
        if not 0 <= progress <= 1:
            raise ValueError(f"EMA: progress must be the part of training done, in [0, 1], but got {progress}")
        end = self.momentum if self.final_momentum is None else self.final_momentum
        return cosine(progress, self.momentum, end, steps=1)

    @torch.no_grad()
    def update(self, towers: nn.Module, progress: float) -> None:
        """Average `towers` in, with the momentum at `progress`.

        Raises:
            ValueError: If `towers` have other parameters than those that were copied.
        """
        old, new = _named_weights(self._copy()), _named_weights(towers)
        if [(name, p.shape) for name, p in old] != [(name, p.shape) for name, p in new]:
            raise ValueError("EMA.update got towers of another shape than those copied: call copy_from(towers) first")
        torch._foreach_lerp_([p for _, p in old], [p for _, p in new], 1 - self.momentum_at(progress))
        for mine, theirs in zip(self._copy().buffers(), towers.buffers(), strict=True):
            mine.copy_(theirs)

    @torch.no_grad()
    def forward(self, views: list[Tensor]) -> Any:
        """The towers' `Embeddings` of the first `self.views` views, without gradients."""
        return self._copy()(views[: self.views])

    def tower_of(self, view: int) -> Any:
        """The averaged tower that sees a view."""
        return cast(Any, self._copy()).tower_of(view)

    def train(self, mode: bool = True) -> Self:
        """Training mode follows the module's with batch_norm="batch"; with "running" it is always eval mode."""
        return super().train(mode and self.batch_norm == "batch")

    def _copy(self) -> nn.Module:
        if self.towers is None:
            raise RuntimeError("EMA has no towers yet: call copy_from(towers) first")
        return self.towers


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"EMA: {name} must be in [0, 1], but got {value}")


def _named_weights(module: nn.Module) -> list[tuple[str, Tensor]]:
    return [(name, p.detach()) for name, p in module.named_parameters()]
