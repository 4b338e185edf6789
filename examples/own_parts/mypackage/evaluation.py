"""An evaluation: asks for embeddings, and measures something of them."""

from dataclasses import dataclass, field

from ssl_mi.evaluation import Evaluation, EvaluationContext, Measurement


@dataclass
class ActiveUnits(Evaluation):
    """Share of the units of h whose standard deviation over images is above a threshold.

    Args:
        threshold: As a share of the largest one.
        limit: Images measured.
    """

    threshold: float = 0.1
    limit: int | None = 1000
    name: str = field(default="units", init=False)

    def embed(self, context: EvaluationContext) -> None:
        context.features(context.split, self.limit)

    def compute(self, context: EvaluationContext) -> list[Measurement]:
        h = context.features(context.split, self.limit).h
        deviation = h.double().std(0)
        share = (deviation > self.threshold * deviation.max()).double().mean().item()
        quantity = "share of active units of h"
        return [context.measurement(self.name, "active_units", quantity, share, ceiling=1.0, n=len(h))]
