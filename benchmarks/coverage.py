"""How often the default estimator's 95% intervals cover the truth, and how often it warns, by kind of sample.

    python benchmarks/coverage.py [--seeds 100] [--rows 1000] [--kinds counts labels ...] [--networks]

Small samples of tasks of the everyday suite in up to 3 + 3 dimensions, where networks are hardly ever fitted; they
are left out unless asked for. Each task is drawn with as many seeds as asked for. Printed for each kind: intervals
without a warning and how many of them cover, all intervals and how many of those cover, the mean error, errors beyond
max(10%, .1 nats) and how many of these were warned of, and accurate estimates that were warned of.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field

import numpy as np

from ssl_mi.information import mutual_information
from ssl_mi.information.core.estimate import Estimate
from ssl_mi.information.distributions.everyday import EVERYDAY

TASKS = {
    "counts": ["poisson-4", "poisson-1", "shared-poisson-5-2", "independent-zipf"],
    "labels": ["labels-3-in-1", "labels-5-in-2"],
    "zero inflation": ["rectified-0.8", "rectified-0.9-rare", "zero-inflated-poisson-0.4"],
    "copula": ["heavy-gaussian-1-0.8", "clayton-2", "clayton-5-pareto", "clayton-1-twice"],
    "mixture": ["crossing-1-0.9", "blobs-3-in-1", "blobs-5-in-2", "crossing-2-0.9"],
    "clusters": ["clusters-8-in-2"],
    "parity": ["parity-1", "parity-2", "parity-2-0.1"],
    "heavy tails": ["student-1-1-0.7", "student-2-1-0.5", "student-3-1-0.5"],
    "curves": ["square", "wave", "spread", "step"],
    "sphere": ["vmf-2-5.0", "vmf-3-10.0"],
    "sheet": ["circle-0.5", "helix-0.9", "cap-2-in-3"],
    "repeated rows": ["independent-blobs-2"],
}
EVERYDAY_TASKS = {task.name: task for task in EVERYDAY}
EXPECTED = {"few-rows"}  # of any sample of fewer than 1,000 rows: said of all of them, it tells none apart


@dataclass
class Tally:
    """Counts of one kind."""

    runs: int = 0
    covered: int = 0
    unwarned: int = 0
    unwarned_covered: int = 0
    far: int = 0
    far_warned: int = 0
    accurate_warned: int = 0
    errors: list[float] = field(default_factory=list)

    def add(self, estimate: Estimate, truth: float) -> None:
        """Count one estimate."""
        assert estimate.ci is not None
        covers = estimate.ci[0] <= truth <= estimate.ci[1]
        warned = bool({warning.code for warning in estimate.warnings} - EXPECTED)
        error = estimate.value - truth
        far = abs(error) > max(0.1, 0.1 * truth)
        self.errors.append(error)
        self.runs += 1
        self.covered += covers
        self.unwarned += not warned
        self.unwarned_covered += covers and not warned
        self.far += far
        self.far_warned += far and warned
        self.accurate_warned += warned and not far

    def row(self, name: str) -> str:
        """A line of the table."""
        share = 100 * self.unwarned_covered / max(self.unwarned, 1)
        return (
            f"| {name} | {self.unwarned_covered} of {self.unwarned} ({share:.0f}%) | {self.covered} of {self.runs} "
            f"| {np.mean(self.errors):+.3f} | {self.far}, {self.far_warned} "
            f"| {self.runs - self.far}, {self.accurate_warned} |"
        )


def sampled(kind: str, name: str, rows: int, seed: int) -> tuple[np.ndarray, np.ndarray, float]:
    """One sample and its mutual information; rows of the kind "repeated rows" are drawn with replacement."""
    task = EVERYDAY_TASKS[f"everyday-{name}"]
    rng = np.random.default_rng(seed)
    x, y = task.sample(rows, rng)
    if kind == "repeated rows":
        some = rng.integers(0, rows, rows)
        x, y = np.maximum(x[some], 0), np.maximum(y[some], 0)
    return x, y, task.mi


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--kinds", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--networks", action="store_true")
    parser.add_argument("--tasks", action="store_true", help="a line for each task as well")
    arguments = parser.parse_args()
    print(f"n = {arguments.rows}, seeds {arguments.first} to {arguments.first + arguments.seeds - 1}")
    print("| kind | unwarned that cover | all that cover | mean error | far, warned | accurate, warned |")
    print("|---|---|---|---|---|---|")
    started = time.process_time()
    for kind in arguments.kinds:
        tally = Tally()
        for name in TASKS[kind]:
            own = Tally()
            for seed in range(arguments.first, arguments.first + arguments.seeds):
                x, y, truth = sampled(kind, name, arguments.rows, seed)
                estimate = mutual_information(x, y, learned=arguments.networks, permutations=0)
                tally.add(estimate, truth)
                own.add(estimate, truth)
            if arguments.tasks:
                print(own.row(f"({name})"), flush=True)
        print(tally.row(kind), flush=True)
    print(f"{time.process_time() - started:.0f} s of processor time")


if __name__ == "__main__":
    main()
