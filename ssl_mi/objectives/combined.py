"""Several objectives on the same embeddings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from torch import Tensor, nn

from ssl_mi.objectives.objective import HeldOutBound, Loss, Objective
from ssl_mi.objectives.queue import Queue
from ssl_mi.objectives.share import Share, own_rows


class Sum(Objective):
    """A weighted sum of objectives, so that any regulariser joins any loss.

        loss = sum over parts k of weight_k L_k(online, target)

    Every part gets the same embeddings; one that has no use for a teacher gets the online ones as targets. Terms are
    logged as the name of the part, or name_term where it has several, with their weights.

    Relation to mutual information: that of the parts. Where a part bounds it, its own bound is estimated on held-out
    pairs, whatever else the embeddings were trained for; the first such part is taken.

    Args:
        dim: Width d of an embedding; None to build later.
        parts: name -> an objective, or what makes one.
        weights: name -> weight_k, which may be negative; 1 where it is left out.

    Raises:
        ValueError: If there are no parts, a weight is of no part, a part learns from something else than embeddings, or
            none of them brings views together.

    Example:
        >>> import torch
        >>> from ssl_mi.objectives import KoLeo, SimCLR, Sum
        >>> objective = Sum(parts={"nt_xent": SimCLR(temperature=0.5), "koleo": KoLeo()}, weights={"koleo": 0.1})
        >>> loss = objective([torch.eye(4), torch.eye(4)])
        >>> {name: round(float(term), 4) for name, term in loss.terms.items()}  # log(1 + 6 / e^2), -0.1 log(2) / 2
        {'nt_xent': 0.5944, 'koleo': -0.0347}
    """

    name = "sum"

    def __init__(
        self,
        dim: int | None = None,
        parts: Mapping[str, Objective | Callable[[], Objective]] | None = None,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        made = {name: part if isinstance(part, nn.Module) else part() for name, part in (parts or {}).items()}
        self.weights = {**dict.fromkeys(made, 1.0), **(weights or {})}
        self.parts = nn.ModuleDict(made)
        self.check_settings()
        for _, part in self._named():
            part.checks_finite = False  # the sum has looked
        self.requires = tuple(dict.fromkeys(name for _, part in self._named() for name in part.requires))
        self.towers = next((part.towers for _, part in self._named() if "maps" in part.requires), self.towers)
        self.min_views = max(part.min_views for _, part in self._named())
        uses = {part.teacher for _, part in self._named()}
        self.teacher = "required" if "required" in uses else "optional" if "optional" in uses else "unused"
        if any(part.evaluated == "teacher" for _, part in self._named()):
            self.evaluated = "teacher"
        self.information = "no estimate: a sum of " + ", ".join(part.name for _, part in self._named())
        self.build(dim)

    def check_settings(self) -> None:
        unknown = [name for name in self.weights if name not in self.parts]
        if unknown:
            raise ValueError(f"Sum: a weight for '{unknown[0]}', and the parts are {', '.join(self.parts) or 'none'}")
        for name, part in self._named():
            if part.learns_from != Objective.learns_from:
                raise ValueError(f"Sum: '{name}' learns from {part.learns_from}, and a sum from embeddings")
        if not any(part.attracts for _, part in self._named()):
            raise ValueError("Sum: no part brings the views of an image together: add one to objective.parts")

    def _make(self, dim: int) -> None:
        for name, part in self._named():
            part.build(dim)
            for queue in part.modules():
                if isinstance(queue, Queue):
                    queue.key = queue.key.replace("objective.", f"objective.parts.{name}.", 1)

    def forward(self, online: list[Tensor], target: list[Tensor], **beside: Any) -> Loss:
        terms: dict[str, Tensor] = {}
        metrics: dict[str, Tensor] = {}
        for name, part in self._named():
            own = {key: value for key, value in beside.items() if key in part.requires or key == "rows"}
            own |= self._part(part, beside.get("share"), len(online[0]))
            loss = part(online, online if part.teacher == "unused" else target, **own)
            one = len(loss.terms) == 1
            terms |= {name if one else f"{name}_{key}": self.weights[name] * x for key, x in loss.terms.items()}
            metrics |= {key if key not in metrics else f"{name}_{key}": x for key, x in loss.metrics.items()}
        return Loss(terms, metrics)

    def estimate(self, x: Tensor, y: Tensor, rows: int) -> HeldOutBound | None:
        found = (part.estimate(x, y, rows) for _, part in self._named())
        return next((bound for bound in found if bound is not None), None)

    def can_shard(self) -> bool:
        return all(part.can_shard() for _, part in self._named())

    def can_share(self) -> bool:
        return any(part.can_share() or part.can_shard() for _, part in self._named())

    @staticmethod
    def _part(part: Objective, share: Share | None, n: int) -> dict[str, Any]:
        """A part's share of the work in the form that it takes; one that takes none computes its loss whole."""
        if share is None:
            return {}
        if part.can_share():
            return {"share": share}
        return {"rows": own_rows(share, n)} if part.can_shard() else {}

    def check(self, images: int) -> None:
        for _, part in self._named():
            if part.attracts:
                part.check(images)

    def facts(self, rows: int) -> dict[str, str]:
        """See `Objective.facts`: those of the parts; of two with one heading the first, those of a bound before all."""
        each = sorted((part.facts(rows) for _, part in self._named()), key=lambda facts: "bound's ceiling" not in facts)
        sum_of = " + ".join(f"{weight:g} x {self.parts[name].name}" for name, weight in self.weights.items())
        found = {"sum of": sum_of}
        for facts in each:
            found = {**facts, **found}
        if "bound's ceiling" in found:
            found.pop("mutual information", None)
        else:
            found["mutual information"] = self.information
        return found

    def _named(self) -> list[tuple[str, Objective]]:
        return [(name, cast(Objective, part)) for name, part in self.parts.items()]
