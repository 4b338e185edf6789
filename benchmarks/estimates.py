"""The default estimator and KSG beside their peers, from a thousand rows to a million: processor seconds and memory.

    pip install -e '.[benchmark]' infomeasure
    python -m benchmarks.estimates [--n 1000 10000 100000 1000000] [--dims 1 2] [--rounds 3] [--limit 60] [--json FILE]

Peers, where installed: scikit-learn (one dimension a side), NPEET as `npeet-plus` has it, ennemi and infomeasure, as
ksg.py calls them. `mutual_information` brings its interval and its test with 99 permutations; the others are a number
alone. Each contestant has a process of its own, warmed by a small sample, on one thread. A round asks each of them
once, in turn, so that a busy machine slows all alike. A peer that takes more than `--limit` seconds of wall time is
ended, and its row says so; larger samples are then not tried. Memory is the most that a process held beyond its start.
The samples are Gaussian with correlation .6 in each dimension.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ksg import PEERS, installed, samples
from ssl_mi.information import ksg, mutual_information

SIZES = 1000, 10_000, 100_000, 1_000_000
NAMES = "scikit-learn", "NPEET", "ennemi", "infomeasure"
WARM_ROWS = 500
PATIENCE = 600.0  # seconds for one of ours


def default(x: np.ndarray, y: np.ndarray) -> float:
    return float(mutual_information(x, y))


def neighbours(x: np.ndarray, y: np.ndarray) -> float:
    return float(ksg(x, y))


OURS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {"mutual_information": default, "ksg": neighbours}


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _serve(name: str, asked: Connection) -> None:
    """Answer (n, d) with (seconds, estimate, bytes beyond the samples and the start), until None comes."""
    os.environ["NUMBA_NUM_THREADS"] = "1"
    run = OURS[name] if name in OURS else lambda x, y: PEERS[name][0](x, y, 3)
    for d in (1, 2):
        if name in OURS or d <= PEERS[name][2]:
            run(*samples(WARM_ROWS, d))
    asked.send(None)
    while (task := asked.recv()) is not None:
        x, y = samples(*task)
        before, started = _peak(), time.process_time()
        value = float(run(x, y))
        asked.send((time.process_time() - started, value, _peak() - before))


class Contestant:
    """An estimator in a process of its own.

    Args:
        name: a key of `OURS` or `PEERS`.
        limit: seconds of wall time that it may take for one estimate.
    """

    def __init__(self, name: str, limit: float) -> None:
        self.name, self.limit = name, PATIENCE if name in OURS else limit
        self.ended_at: dict[int, int] = {}  # dimensions -> rows that took too long
        self.start()

    def start(self) -> None:
        """A new process, warm."""
        context = multiprocessing.get_context("spawn")
        self.asked, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(self.name, theirs), daemon=True)
        self.process.start()
        self.asked.recv()

    def takes(self, n: int, d: int) -> bool:
        """Whether it estimates so many rows of so many dimensions, as far as is known."""
        return (self.name in OURS or d <= PEERS[self.name][2]) and n < self.ended_at.get(d, n + 1)

    def estimate(self, n: int, d: int) -> tuple[float, float, float] | None:
        """Processor seconds, nats and bytes; None where it took too long."""
        self.asked.send((n, d))
        if self.asked.poll(self.limit):
            return self.asked.recv()
        self.process.kill()
        self.ended_at[d] = n
        self.start()
        return None

    def stop(self) -> None:
        """End the process."""
        self.asked.send(None)
        self.process.join()


def race(contestants: Sequence[Contestant], n: int, d: int, rounds: int) -> list[dict[str, Any]]:
    """Ask all in turn, `rounds` times; a row for each of ours beside each peer."""
    found: dict[str, list[tuple[float, float, float]]] = {one.name: [] for one in contestants if one.takes(n, d)}
    for _ in range(rounds):
        for one in contestants:
            answer = one.estimate(n, d) if one.takes(n, d) else None
            if answer is not None:
                found[one.name].append(answer)
    size = f"{n:,} rows, {d} + {d}"
    rows = []
    for own in OURS:
        ours = [seconds for seconds, _, _ in found[own]]
        mib = max(held for _, _, held in found[own]) / 2**20
        facts = {"size": size, "ours": statistics.median(ours), "note": f"{mib:.0f} MiB"}
        peers = [one for one in contestants if one.name in found and one.name not in OURS]
        if not peers:
            rows.append({"work": own, **facts, "peer": "", "ratio": None, "low": None, "high": None})
        for peer in peers:
            theirs = [seconds for seconds, _, _ in found[peer.name]]
            row = {"work": f"{own} beside {peer.name}", **facts}
            if len(theirs) < rounds:
                rows.append({**row, "peer": f"over {peer.limit:.0f} s", "ratio": None, "low": None, "high": None})
                continue
            ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
            ends = {"ratio": statistics.median(ratios), "low": min(ratios), "high": max(ratios)}
            rows.append({**row, "peer": statistics.median(theirs), **ends})
    return rows


def main(
    sizes: Sequence[int] = SIZES, dims: Sequence[int] = (1, 2), rounds: int = 3, limit: float = 60.0
) -> list[dict[str, Any]]:
    """A row for each size, each of ours and each peer that is installed.

    Args:
        sizes: Rows of the samples.
        dims: Columns of a side.
        rounds: Ratios are medians of them. A million rows are estimated once.
        limit: Seconds of wall time after which a peer is ended.

    Returns:
        `work`, `size`, `ours` and `peer` in processor seconds, `ratio` = peer / ours, its `low` and `high`, and the
        memory that ours took as a `note`.
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    names = [*OURS, *(name for name in NAMES if installed(PEERS[name][1]))]
    contestants = [Contestant(name, limit) for name in names]
    table = []
    for n in sorted(sizes):
        for d in dims:
            table += race(contestants, n, d, rounds if n < max(SIZES) else 1)
            show(table[-1:])
    for one in contestants:
        one.stop()
    return table


def show(table: list[dict[str, Any]]) -> None:
    """Print the rows."""
    for row in table:
        peer = row["peer"] if isinstance(row["peer"], str) else f"{row['peer']:.3f}"
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f} x ({row['low']:.2f} .. {row['high']:.2f})"
        print(f"{row['work']:36}{row['size']:>22}{row['ours']:10.3f}{peer:>12}  {ratio}  {row['note']}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--dims", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=float, default=60.0, help="seconds after which a peer is ended")
    parser.add_argument("--json", type=Path, help="write the rows here")
    options = parser.parse_args()
    found = main(options.n, options.dims, options.rounds, options.limit)
    print()
    show(found)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
