"""Objectives that compare a batch with a queue of earlier embeddings: NNCLR and ReSSL."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax, normalize

from ssl_mi.objectives.objective import Loss, Objective, mean_of, ordered_pairs, renamed
from ssl_mi.objectives.predictor import Predictor, predicted
from ssl_mi.objectives.queue import Queue


class NNCLR(Objective):
    """The partner is the nearest neighbour of the other view in a support set.

        L_i = - log exp(<NN(x_i, Q), q(y_i)>/t) / sum_k exp(<NN(x_i, Q), q(y_k)>/t)

    on unit vectors, averaged over the batch and over both directions. NN is the nearest row of the support set Q, a
    queue of embeddings of the first view of past steps, and carries no gradient. Q receives this step's embeddings
    after all neighbours were found.

    Relation to mutual information: none. (NN(x), y) is not a pair of views, so the loss bounds nothing.

    Args:
        dim: Width d of an embedding; None to build later.
        predictor: Makes q from d; None for `Predictor(d, hidden=4096)`, the paper's.
        queue: Rows of the support set.
        temperature: t. The paper's is 0.1.

    Raises:
        ValueError: If `temperature` is not positive, if a batch is larger than the support set, or if there are fewer
            than 2 views.

    References:
        Dwibedi et al. 2021 (arXiv:2104.14548), section 3.2.

    Example:
        >>> import torch
        >>> from ssl_mi.objectives import NNCLR
        >>> objective = NNCLR(dim=4, queue=12)
        >>> z = [torch.randn(6, 4), torch.randn(6, 4)]
        >>> loss = objective(z)
        >>> list(loss.terms), loss.total.ndim
        (['nnclr'], 0)
    """

    name = "nnclr"
    information = "not bounded: partners come from a support set"

    @renamed(size="queue")
    def __init__(
        self,
        dim: int | None = None,
        predictor: Callable[[int], nn.Module] | None = None,
        queue: int = 65536,
        temperature: float = 0.2,
    ) -> None:
        super().__init__()
        self._predictor = predictor or partial(Predictor, hidden=4096)
        self.size, self.temperature = queue, temperature
        self.check_settings()
        self.build(dim)

    def check_settings(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"NNCLR: temperature must be positive, got {self.temperature}")

    def _make(self, dim: int) -> None:
        self.predictor = self._predictor(dim)
        del self._predictor  # it may be a lambda, which cannot be pickled
        self.support = Queue(self.size, dim)

    def forward(self, online: list[Tensor], target: list[Tensor]) -> Loss:
        keys = [normalize(z.detach(), dim=1) for z in target]
        support = self.support.past()
        neighbours = [support[(key @ support.T).argmax(1)] for key in keys]
        queries = [normalize(q, dim=1) for q in predicted(self.predictor, online)]
        row = torch.arange(len(keys[0]), device=keys[0].device)
        met = ordered_pairs(queries, neighbours)
        loss = mean_of([cross_entropy(near @ query.T / self.temperature, row) for query, near in met])
        if self.training:
            self.support.push(keys[0])
        return Loss({self.name: loss}, {})


class ReSSL(Objective):
    """Relational self-supervision: student and teacher have the same similarities to earlier embeddings.

        p = softmax(<y_i, Q>/t_target),   q = softmax(<x_i, Q>/t_online),   L_i = - sum_k p_k log q_k

    on unit vectors, where y is the teacher's embedding and Q a queue of those of past steps. The paper shows the
    teacher the weaker view only: `EMA(views=1)` and an augmentation whose first view is the weak one.

    Relation to mutual information: none. The loss is H(p) + KL(p || q); only t_target < t_online and the lag of the
    teacher prevent collapse.

    Args:
        dim: Width d of an embedding; None to build later.
        queue: Rows of the queue.
        online_temperature: t_online.
        target_temperature: t_target, below t_online.

    Raises:
        ValueError: If the temperatures are out of range, if no teacher makes the targets, if a batch is larger than the
            queue, or if there are fewer than 2 views.

    References:
        Zheng et al. 2021 (arXiv:2107.09282), section 3.2.

    Example:
        >>> import torch
        >>> from ssl_mi.objectives import ReSSL
        >>> objective = ReSSL(dim=4, queue=12)
        >>> z, keys = [torch.randn(6, 4), torch.randn(6, 4)], [torch.randn(6, 4), torch.randn(6, 4)]  # of a teacher
        >>> loss = objective(z, keys)
        >>> list(loss.terms), loss.total.ndim
        (['ressl'], 0)
    """

    name = "ressl"
    teacher = "required"
    information = "no estimate: relations to a queue are matched, not pairs told apart"

    @renamed(size="queue")
    def __init__(
        self,
        dim: int | None = None,
        queue: int = 65536,
        online_temperature: float = 0.1,
        target_temperature: float = 0.04,
    ) -> None:
        super().__init__()
        self.online_temperature, self.target_temperature = online_temperature, target_temperature
        self.check_settings()
        self.size = queue
        self.build(dim)

    def check_settings(self) -> None:
        if not 0 < self.target_temperature < self.online_temperature:
            raise ValueError(
                f"ReSSL: the target's temperature must be positive and below the online one, got "
                f"target_temperature={self.target_temperature}, online_temperature={self.online_temperature}"
            )

    def _make(self, dim: int) -> None:
        self.queue = Queue(self.size, dim)

    def forward(self, online: list[Tensor], target: list[Tensor]) -> Loss:
        if target is online:
            raise ValueError("ReSSL's relations come from a teacher: set teacher=ema")
        queue = self.queue.past()
        keys = [normalize(z.detach(), dim=1) for z in target]
        relations = [(key @ queue.T / self.target_temperature).softmax(1) for key in keys]
        student = [log_softmax(normalize(z, dim=1) @ queue.T / self.online_temperature, 1) for z in online]
        loss = mean_of([-(p * log_q).sum(1).mean() for log_q, p in ordered_pairs(student, relations)])
        if self.training:
            self.queue.push(torch.cat(keys))
        return Loss({self.name: loss}, {})
