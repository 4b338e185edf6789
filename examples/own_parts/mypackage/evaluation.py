"""An evaluation: asks for embeddings, and measures something of them."""

from dataclasses import dataclass, field

from ssl_mi.evaluation import Bench, Evaluation, Row


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

    def collect(self, bench: Bench) -> None:
        bench.features(bench.split, self.limit)

    def measure(self, bench: Bench) -> list[Row]:
        h = bench.features(bench.split, self.limit).h
        deviation = h.double().std(0)
        share = (deviation > self.threshold * deviation.max()).double().mean().item()
        return [bench.row(self.name, "active_units", "share of active units of h", share, ceiling=1.0, n=len(h))]
