"""Objectives that compare assignments to prototypes: SwAV and DINO.

What they have to do with mutual information: an assignment c of an image is a code, with
I(view; c) = H(c) - H(c | view). SwAV's Sinkhorn step holds H(c) at its largest, log K, and its cross-entropy bounds
H(c | other view) from above, so log K minus the loss is below I of the other view and the balanced code *on that
batch*, whose balance is made from the very rows it is read on, and from a queue: no bound on held-out images. DINO's
centre and temperature hold H(c) up by feedback alone. Both are read as nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, normalize

from ssl_mi.objectives.objective import Loss, Objective, crossings, need_views
from ssl_mi.objectives.queue import Queue
from ssl_mi.objectives.stepped import SteppedObjective


@torch.no_grad()
def sinkhorn(scores: Tensor, epsilon: float, iterations: int) -> Tensor:
    """Codes [n, K] of scores [n, K]: rows that sum to 1 over prototypes that are used alike.

    Cuturi 2013 (arXiv:1306.0895) as in SwAV, section 3.1: exp(scores / epsilon), whose columns and rows are scaled in
    turn to sums n/K and 1, `iterations` times. In logarithms: a score of 1 is e^20 at the usual epsilon.
    """
    log_codes = scores / epsilon
    for _ in range(iterations):
        log_codes = log_softmax(log_codes, 0)  # every prototype alike
        log_codes = log_softmax(log_codes, 1)  # every row one
    return log_codes.exp()


class SwAV(SteppedObjective):
    """Swapped prediction of balanced codes: Caron et al. 2020 (arXiv:2006.09882).

        codes(v) = sinkhorn(<z_v, c_k> / epsilon),   log p(v) = log softmax_k(<z_v, c_k> / t)
        loss     = - mean over pairs v != w of sum_k codes(v)_k log p(w)_k,   v one of the first `code_views` views

    on unit vectors and unit prototypes c_k, which are parameters; codes take no gradient. Sinkhorn runs over the
    batch of all processes. queue: rows of each code view's past embeddings that join it, so that a batch smaller than
    K can be balanced; used once it is full and `queue_from` steps are done; 0 for none. Queues are part of the state
    from the start, full or not, so a run that stopped resumes. frozen_steps: prototypes get no gradient before.
    """

    name = "swav"
    teacher = "unused"
    information = "no estimate: codes are balanced on the rows they are read on"

    def __init__(
        self,
        dim: int,
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
        self.prototypes = nn.Parameter(normalize(torch.randn(prototypes, dim), dim=1))
        self.queues = nn.ModuleList([Queue(queue, dim) for _ in range(code_views)] if queue else [])
        self.queue_from, self.frozen_steps, self.code_views = queue_from, frozen_steps, code_views

    def check_settings(self) -> None:
        if self.temperature <= 0 or self.epsilon <= 0:
            raise ValueError(
                f"SwAV: temperature and epsilon must be positive, got temperature={self.temperature}, "
                f"epsilon={self.epsilon}"
            )

    def forward(self, online: list[Tensor], target: list[Tensor]) -> Loss:
        need_views(online)
        steps = self.step
        prototypes = normalize(self.prototypes, dim=1)
        if self.training and steps < self.frozen_steps:
            # Times zero and not detached: a parameter that DDP waits for must be in the graph.
            prototypes = prototypes.detach() + 0 * prototypes
        views = [normalize(z, dim=1) for z in online]
        scores = [z @ prototypes.T for z in views]
        codes = [self._codes(v, scores[v].detach(), prototypes.detach(), steps) for v in range(self.code_views)]
        log_p = [log_softmax(s / self.temperature, 1) for s in scores]
        met = crossings(log_p, codes)
        loss = sum(-(code * p).sum(1).mean() for p, code in met) / len(met)
        if self.training:
            for z, queue in zip(views, self.queues, strict=False):
                queue.push(z)
            self.count_step()
        return Loss({self.name: loss}, {})

    def _codes(self, view: int, scores: Tensor, prototypes: Tensor, steps: int) -> Tensor:
        n = scores.shape[0]
        if self.queues and steps >= self.queue_from:
            queue = self.queues[view]
            if int(queue.pushed) >= queue.size:
                scores = torch.cat([scores, queue.rows.to(scores.dtype) @ prototypes.T])
        return sinkhorn(scores, self.epsilon, self.iterations)[:n]


class DINO(Objective):
    """Self-distillation without labels: Caron et al. 2021 (arXiv:2104.14294).

        p = softmax((y - centre) / t_target),   log q = log softmax(x / t_online)
        loss = mean over pairs of views i != j of - sum_k p_jk log q_ik,   j a view of the teacher
        centre <- momentum centre + (1 - momentum) mean of y over the batch and the teacher's views

    x and y are logits over prototypes, so the towers end in one (`heads.PrototypeHead`), whose moving average the
    teacher has. Multi-crop: `teacher.views=2`, every student view meets the two large ones but not itself.
    The centre is that of the whole batch, moves after the loss and is part of the state.

    Raises ValueError without a teacher.
    """

    name = "dino"
    teacher = "required"
    information = "no estimate: centre and temperature hold the entropy of the assignments by feedback"

    def __init__(
        self,
        dim: int,
        online_temperature: float = 0.1,
        target_temperature: float = 0.04,
        momentum: float = 0.9,
    ) -> None:
        super().__init__()
        self.online_temperature, self.target_temperature = online_temperature, target_temperature
        self.momentum = momentum
        self.check_settings()
        self.register_buffer("centre", torch.zeros(dim))

    def check_settings(self) -> None:
        if not 0 < self.target_temperature < self.online_temperature or not 0 <= self.momentum < 1:
            raise ValueError(
                f"DINO: needs 0 < target_temperature < online_temperature and momentum in [0, 1), got "
                f"{self.target_temperature}, {self.online_temperature}, {self.momentum}"
            )

    def forward(self, online: list[Tensor], target: list[Tensor]) -> Loss:
        if target is online:
            raise ValueError("DINO's targets come from a teacher: set teacher=ema")
        held = [y.detach() for y in target]
        teacher = [((y - self.centre) / self.target_temperature).softmax(1) for y in held]
        student = [log_softmax(x / self.online_temperature, 1) for x in online]
        met = crossings(student, teacher)
        loss = sum(-(p * log_q).sum(1).mean() for log_q, p in met) / len(met)
        # H(p) small and KL from uniform large is one collapse, the reverse the other: both are seen here.
        mean = sum(p.mean(0) for p in teacher) / len(teacher)
        entropy = -torch.xlogy(mean, mean).sum()
        if self.training:
            self.centre.lerp_(torch.cat(held).mean(0).to(self.centre.dtype), 1 - self.momentum)
        return Loss({self.name: loss}, {"entropy_of_mean_assignment": entropy})
