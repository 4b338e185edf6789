"""Objectives that compare assignments to prototypes: SwAV and DINO.

Relation to mutual information: the assignment c of an image is a code, with I(view; c) = H(c) - H(c | view). SwAV's
Sinkhorn step keeps H(c) at its maximum, log K, and its cross-entropy bounds H(c | other view) from above. So log K
minus the loss is below I(other view; balanced code) *on that batch*. The balance is computed from the rows themselves
and from a queue, so this is no bound on held-out images. DINO's centre and temperature keep H(c) up by feedback only.
Neither loss is used as an estimate.
"""

from __future__ import annotations

import logging
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, normalize

from ssl_mi.objectives.objective import Loss, Objective, mean_of, need_views, ordered_pairs
from ssl_mi.objectives.queue import Queue
from ssl_mi.objectives.stepped import SteppedObjective

log = logging.getLogger(__name__)


@torch.no_grad()
def sinkhorn(scores: Tensor, epsilon: float, iterations: int) -> Tensor:
    """Balanced codes: rows sum to 1, and all prototypes are used equally.

    exp(scores / epsilon), whose columns and rows are scaled in turn to sums n/K and 1. Computed with logarithms: a
    score of 1 is e^20 at the usual epsilon.

    Args:
        scores: Products with the prototypes [n, K].
        epsilon: Weight of the entropy; smaller values give sharper codes.
        iterations: Number of Sinkhorn-Knopp iterations.

    Returns:
        Codes [n, K].

    References:
        Cuturi 2013 (arXiv:1306.0895), as in Caron et al. 2020 (arXiv:2006.09882), section 3.1.
    """
    log_codes = scores / epsilon
    for _ in range(iterations):
        log_codes = log_softmax(log_codes, 0)  # every prototype alike
        log_codes = log_softmax(log_codes, 1)  # every row one
    return log_codes.exp()


def warn_of_prototypes(name: str, prototypes: int, images: int, key: str) -> None:
    """Warn where there are more prototypes than training images.

    Args:
        name: The objective's.
        prototypes: How many.
        images: That are trained on.
        key: Of the configuration, that sets their number.
    """
    if prototypes > images:
        log.warning(
            "%s: %s prototypes for %s training images: most can have no image of their own; set %s to %s or less",
            *(name, f"{prototypes:,}", f"{images:,}", key, images),
        )


class SwAV(SteppedObjective):
    """Swapped prediction of balanced codes.

        codes(v) = sinkhorn(<z_v, c_k> / epsilon),   log p(v) = log softmax_k(<z_v, c_k> / t)
        loss     = - mean over pairs v != w of sum_k codes(v)_k log p(w)_k,   v one of the first `code_views` views

    on unit vectors and unit prototypes c_k, which are parameters. Codes carry no gradient. Sinkhorn runs over the batch
    of all processes. Queues belong to the state from the start, full or not, so a stopped run can be resumed.

    Args:
        dim: Width d of an embedding; None to build later.
        prototypes: Number K of prototypes.
        temperature: t, of the predictions.
        epsilon: Weight of the entropy in the codes.
        iterations: Sinkhorn-Knopp iterations.
        queue: Past embeddings of each code view that join the batch, so that a batch smaller than K can be balanced;
            0 for none. Used when it is full and `queue_from` steps are done.
        queue_from: Steps before the queue is used.
        frozen_steps: Steps before the prototypes get a gradient.
        code_views: Views, from the first, that get codes: the large ones of multi-crop.

    Raises:
        ValueError: If a number is out of range, or if there are fewer than 2 views.

    References:
        Caron et al. 2020 (arXiv:2006.09882).

    Example:
        >>> import torch
        >>> from ssl_mi.objectives import SwAV
        >>> objective = SwAV(dim=4, prototypes=3)
        >>> z = [torch.randn(6, 4), torch.randn(6, 4)]
        >>> loss = objective(z)
        >>> list(loss.terms), loss.total.ndim
        (['swav'], 0)
    """

    queues: nn.ModuleList

    name = "swav"
    teacher = "unused"
    information = "no estimate: codes are balanced on the rows that they are computed for"

    def __init__(
        self,
        dim: int | None = None,
        prototypes: int = 3000,
        temperature: float = 0.1,
        epsilon: float = 0.05,
        iterations: int = 3,
        queue: int = 0,
        queue_from: int = 0,
        frozen_steps: int = 0,
        code_views: int = 2,
    ) -> None:
        super().__init__()
        if prototypes < 2 or iterations < 1 or code_views < 1:
            raise ValueError(f"SwAV: got prototypes={prototypes}, iterations={iterations}, code_views={code_views}")
        self.temperature, self.epsilon, self.iterations = temperature, epsilon, iterations
        self.check_settings()
        self.queue_from, self.frozen_steps, self.code_views = queue_from, frozen_steps, code_views
        self._sizes = prototypes, queue
        self.build(dim)

    def check_settings(self) -> None:
        if self.temperature <= 0 or self.epsilon <= 0:
            raise ValueError(
                f"SwAV: temperature and epsilon must be positive, got temperature={self.temperature}, "
                f"epsilon={self.epsilon}"
            )

    def _make(self, dim: int) -> None:
        prototypes, queue = self._sizes
        self.prototypes = nn.Parameter(normalize(torch.randn(prototypes, dim), dim=1))
        self.queues = nn.ModuleList([Queue(queue, dim) for _ in range(self.code_views)] if queue else [])

    def forward(self, online: list[Tensor], target: list[Tensor]) -> Loss:
        need_views(online)
        steps = self.step
        prototypes = normalize(self.prototypes, dim=1)
        if self.training and steps < self.frozen_steps:
            # Multiplied by zero, not detached: a parameter that DDP waits for must be in the graph.
            prototypes = prototypes.detach() + 0 * prototypes
        views = [normalize(z, dim=1) for z in online]
        scores = [z @ prototypes.T for z in views]
        codes = [self._codes(v, scores[v].detach(), prototypes.detach(), steps) for v in range(self.code_views)]
        log_p = [log_softmax(s / self.temperature, 1) for s in scores]
        loss = mean_of([-(code * p).sum(1).mean() for p, code in ordered_pairs(log_p, codes)])
        if self.training:
            for z, queue in zip(views, self._queues(), strict=False):
                queue.push(z)
            self.count_step()
        return Loss({self.name: loss}, {})

    def check(self, images: int) -> None:
        super().check(images)
        warn_of_prototypes(self.name, len(self.prototypes), images, "objective.prototypes")

    def _codes(self, view: int, scores: Tensor, prototypes: Tensor, steps: int) -> Tensor:
        n = scores.shape[0]
        if self.queues and steps >= self.queue_from:
            queue = self._queues()[view]
            if int(queue.pushed) >= queue.size:
                scores = torch.cat([scores, queue.rows.to(scores.dtype) @ prototypes.T])
        return sinkhorn(scores, self.epsilon, self.iterations)[:n]

    def _queues(self) -> list[Queue]:
        return [cast(Queue, queue) for queue in self.queues]


class DINO(Objective):
    """Self-distillation without labels.

        p = softmax((y - centre) / t_target),   log q = log softmax(x / t_online)
        loss = mean over pairs of views i != j of - sum_k p_jk log q_ik,   j a view of the teacher
        centre <- momentum centre + (1 - momentum) mean of y over the batch and the teacher's views

    x and y are logits over prototypes, so the towers end in a `PrototypeHead`, and the teacher has a moving average of
    it. With multi-crop and `EMA(views=2)` every student view meets the two large views except itself. The centre is
    that of the whole batch; it moves after the loss and is part of the state.

    Args:
        dim: Number d of prototypes, the width of the logits; None to build later.
        online_temperature: t_online, of the student.
        target_temperature: t_target, of the teacher; lower than the student's.
        momentum: Of the centre.

    Raises:
        ValueError: If a number is out of range, or if no teacher makes the targets.

    References:
        Caron et al. 2021 (arXiv:2104.14294).

    Example:
        >>> import torch
        >>> from ssl_mi.objectives import DINO
        >>> z = torch.eye(4)  # four orthogonal embeddings; the two views are equal
        >>> objective = DINO(dim=4, online_temperature=0.5)
        >>> round(float(objective([z, z], [z, z]).total), 4)  # log(e^2 + 3) - 2: the teacher is sure
        0.3408
    """

    name = "dino"
    teacher = "required"
    evaluated = "teacher"  # section 4.1: better than the student throughout training
    information = "no estimate: centre and temperature hold the entropy of the assignments by feedback"

    def __init__(
        self,
        dim: int | None = None,
        online_temperature: float = 0.1,
        target_temperature: float = 0.07,
        momentum: float = 0.9,
    ) -> None:
        super().__init__()
        self.online_temperature, self.target_temperature = online_temperature, target_temperature
        self.momentum = momentum
        self.check_settings()
        self.build(dim)

    def _make(self, dim: int) -> None:
        self.register_buffer("centre", torch.zeros(dim))

    def check_settings(self) -> None:
        if not 0 < self.target_temperature < self.online_temperature or not 0 <= self.momentum < 1:
            raise ValueError(
                f"DINO: needs 0 < target_temperature < online_temperature and momentum in [0, 1), got "
                f"{self.target_temperature}, {self.online_temperature}, {self.momentum}"
            )

    def check(self, images: int) -> None:
        super().check(images)
        warn_of_prototypes(self.name, len(self.centre), images, "towers.projector.prototypes")

    def forward(self, online: list[Tensor], target: list[Tensor]) -> Loss:
        if target is online:
            raise ValueError("DINO's targets come from a teacher: set teacher=ema")
        held = [y.detach() for y in target]
        teacher = [((y - self.centre) / self.target_temperature).softmax(1) for y in held]
        student = [log_softmax(x / self.online_temperature, 1) for x in online]
        loss = mean_of([-(p * log_q).sum(1).mean() for log_q, p in ordered_pairs(student, teacher)])
        # Both kinds of collapse show here: one prototype for all images (0), or all prototypes alike (log d).
        mean = mean_of([p.mean(0) for p in teacher])
        entropy = -torch.xlogy(mean, mean).sum()
        if self.training:
            self.centre.lerp_(torch.cat(held).mean(0).to(self.centre.dtype), 1 - self.momentum)
        return Loss({self.name: loss}, {"entropy_of_mean_assignment": entropy})
