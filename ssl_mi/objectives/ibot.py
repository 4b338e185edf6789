"""iBOT and DINOv2's objective: self-distillation of the class token and of hidden patches."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from ssl_mi.objectives.clustering import sinkhorn, warn_of_prototypes
from ssl_mi.objectives.koleo import KoLeo
from ssl_mi.objectives.objective import Loss, mean_of, ordered_pairs, sum_of
from ssl_mi.objectives.stepped import SteppedObjective


@dataclass(frozen=True)
class Hidden:
    """The hidden patches of the images of a view.

    Attributes:
        places: Their indices, int64 [n, m]; of an image with fewer than m the rest are any others.
        weights: 1 / (hidden patches of the image), [n, m]; 0 for the rest.
    """

    places: Tensor
    weights: Tensor

    def hides(self, patches: int) -> Tensor:
        """bool [n, patches].

        Args:
            patches: Of an image.
        """
        none = self.weights.new_zeros(len(self.places), patches)
        return none.scatter(1, self.places, self.weights) > 0

    def __getitem__(self, rows: slice) -> Hidden:
        return Hidden(self.places[rows], self.weights[rows])


class IBOT(SteppedObjective):
    """Image BERT with an online tokenizer; with `centring="sinkhorn"` and `koleo=0.1` the objective of DINOv2.

        p = softmax((y - centre) / t_target)  or  sinkhorn(y / t_target),     log q = log softmax(x / t_online)
        class = mean over pairs of views i != j of - <p_j, log q_i>,  of the class tokens; j a large view
        patch = mean over large views v and images of the mean over the image's hidden patches of - <p_v, log q_v>
        loss  = class + patch_weight patch + koleo sum over large views of KoLeo(class tokens)

    x and y are logits of student and teacher. The student sees the large views with patches replaced by a learned
    token, the teacher sees them whole. Each image has patches hidden with chance `chance`, a share U(shares) of them,
    one by one (an option of iBOT's code, whose default hides blocks), drawn from the number of the step alone; images
    without hidden patches count in the mean. Class tokens and patches have a centre each, moved after the loss.
    Sinkhorn balances the class tokens of all large views together, and so all hidden patches, as in DINOv2's code.
    KoLeo takes the encoder's class tokens, before the head.

    Relation to mutual information: none, as for DINO.

    Args:
        dim: Number of prototypes, the width of the logits; None to build later.
        width: Width of a token.
        patches: Of a large view.
        online_temperature: t_online, of the student.
        target_temperature: t_target, of the teacher; lower than the student's.
        centring: "mean" or "sinkhorn", over the tokens of the batch.
        momentum: Of the centres.
        patch_weight: Weight of the second term.
        koleo: Weight of the third term.
        chance: Of an image to have patches hidden.
        shares: Of the patches that are hidden then, least and most.
        name: Heads plots and tables.

    Raises:
        ValueError: If a number is out of range, or on an unknown `centring`.

    References:
        Zhou et al. 2022 (arXiv:2111.07832), section 3; Oquab et al. 2024 (arXiv:2304.07193), section 4.

    Example:
        >>> from ssl_mi.objectives import IBOT
        >>> objective = IBOT(dim=8, width=12, patches=16)
        >>> objective.learns_from, objective.hidden(rows=6, views=1)[0].places.shape[0]
        ('masked tokens', 6)
    """

    name = "ibot"  # of the class, which messages name before there is an object
    learns_from = "masked tokens"
    teacher = "required"
    evaluated = "teacher"
    information = "no estimate: centre and temperature hold the entropy of the assignments by feedback"

    def __init__(
        self,
        dim: int | None = None,
        width: int = 192,
        patches: int = 64,
        online_temperature: float = 0.1,
        target_temperature: float = 0.07,
        centring: str = "mean",
        momentum: float = 0.9,
        patch_weight: float = 1.0,
        koleo: float = 0.0,
        chance: float = 0.5,
        shares: tuple[float, float] = (0.1, 0.5),
        name: str = "ibot",
    ) -> None:
        super().__init__()
        self.name, self.patches, self.centring = name, patches, centring
        self.online_temperature, self.target_temperature = online_temperature, target_temperature
        self.momentum, self.patch_weight, self.koleo = momentum, patch_weight, koleo
        self.chance, self.shares = chance, tuple(shares)
        self.check_settings()
        self.mask_token = nn.Parameter(torch.empty(width).normal_(std=0.02))
        self.build(dim)

    def check_settings(self) -> None:
        if not 0 < self.target_temperature < self.online_temperature or not 0 <= self.momentum < 1:
            raise ValueError(
                f"IBOT: needs 0 < target_temperature < online_temperature and momentum in [0, 1), got "
                f"{self.target_temperature}, {self.online_temperature}, {self.momentum}"
            )
        if self.centring not in ("mean", "sinkhorn"):
            raise ValueError(f"IBOT: centring must be 'mean' or 'sinkhorn', got {self.centring!r}")
        least, most = self.shares
        if not 0 < self.chance <= 1 or not 0 < least <= most < 1 or int(least * self.patches) < 1:
            raise ValueError(
                f"IBOT: chance={self.chance} and shares={list(self.shares)} of {self.patches} patches must hide a "
                "patch or more and not all: raise the least share"
            )

    def _make(self, dim: int) -> None:
        self.register_buffer("class_centre", torch.zeros(dim))
        self.register_buffer("patch_centre", torch.zeros(dim))

    def hidden(self, rows: int, views: int) -> list[Hidden]:
        """The patches that are hidden in this step, for each large view.

        Args:
            rows: Images in the batch of all processes.
            views: Large views of each.
        """
        draw = torch.Generator().manual_seed(self.step)
        return [self._drawn(rows, draw) for _ in range(views)]

    def _drawn(self, rows: int, draw: torch.Generator) -> Hidden:
        least, most = self.shares
        chosen, share = torch.rand(2, rows, generator=draw)
        counts = ((least + (most - least) * share) * self.patches).long() * (chosen < self.chance)
        order = torch.rand(rows, self.patches, generator=draw).argsort(1)[:, : max(1, int(counts.max()))]
        weights = (torch.arange(order.shape[1]) < counts[:, None]) / counts.clamp(min=1)[:, None]
        return Hidden(order.to(self.steps.device), weights.to(self.steps.device))

    def forward(self, online: list[list[Tensor]], target: list[list[Tensor]], hidden: list[Hidden]) -> Loss:
        """The loss of the batch of all processes.

        Args:
            online: Of the student, for each view: class logits [n, K], logits of hidden patches [n, m, K], class token
                [n, width]; views beyond the large ones have no patches.
            target: Of the teacher, for each large view: class logits and logits of the same patches.
            hidden: What `hidden` returned.
        """
        log_q = [log_softmax(logits / self.online_temperature, 1) for logits, *_ in online]
        p = self._assigned(torch.cat([logits for logits, _ in target]), self.class_centre).split(len(online[0][0]))
        terms = {f"{self.name}_class": mean_of([-(b * a).sum(1).mean() for a, b in ordered_pairs(log_q, list(p))])}
        terms[f"{self.name}_patch"] = self.patch_weight * self._of_patches(online, target, hidden)
        if self.koleo:
            apart = KoLeo()
            terms["koleo"] = self.koleo * sum_of([apart([x[2]]).total for x, _ in zip(online, target, strict=False)])
        mean = torch.cat(p).mean(0)
        if self.training:
            self._move(target, hidden)
            self.count_step()
        return Loss(terms, {"entropy_of_mean_assignment": -torch.xlogy(mean, mean).sum()})

    @torch.no_grad()
    def _assigned(self, logits: Tensor, centre: Tensor) -> Tensor:
        """[n, K], rows that sum to 1; Sinkhorn balances them over all of these rows."""
        if self.centring == "sinkhorn":
            return sinkhorn(logits, self.target_temperature, 3)
        return ((logits - centre) / self.target_temperature).softmax(1)

    def _of_patches(self, online: list[list[Tensor]], target: list[list[Tensor]], hidden: list[Hidden]) -> Tensor:
        used = [at.weights > 0 for at in hidden]
        p = self._assigned(self._flat(target, used), self.patch_centre)
        log_q = log_softmax(self._flat(online[: len(target)], used) / self.online_temperature, 1)
        weights = torch.cat([at.weights[some] for at, some in zip(hidden, used, strict=True)]).to(log_q.dtype)
        return -((p * log_q).sum(1) * weights).sum() / sum(len(at.places) for at in hidden)

    @staticmethod
    def _flat(seen: list[list[Tensor]], used: list[Tensor]) -> Tensor:
        """The logits of all hidden patches of all large views, [., K]."""
        return torch.cat([parts[1][some] for parts, some in zip(seen, used, strict=True)])

    @torch.no_grad()
    def _move(self, target: list[list[Tensor]], hidden: list[Hidden]) -> None:
        patches = self._flat(target, [at.weights > 0 for at in hidden])
        for centre, logits in ((self.class_centre, torch.cat([y for y, _ in target])), (self.patch_centre, patches)):
            if len(logits):
                centre.lerp_(logits.mean(0).to(centre.dtype), 1 - self.momentum)

    def check(self, images: int) -> None:
        super().check(images)
        warn_of_prototypes(self.name, len(self.class_centre), images, "towers.projector.prototypes")

    def facts(self, rows: int) -> dict[str, str]:
        least, most = self.shares
        hidden = f"{least:.0%} to {most:.0%} of the patches of {self.chance:.0%} of the images"
        return {"hidden": hidden, **super().facts(rows)}
