"""The default estimator and KSG beside their peers, from a thousand rows to a million: seconds, memory, estimates.

    pip install -e '.[benchmark]' infomeasure
    python benchmarks/estimates.py [--n 1000 10000 100000 1000000] [--dims 1 2] [--rounds 3] [--no-memory]

Peers: scikit-learn (one dimension a side), NPEET as `npeet-plus` has it, ennemi and infomeasure, as ksg.py calls them,
each up to the rows it manages in about a minute. `mutual_information` brings its interval and its test with 99
permutations; the others are a number alone. Every round runs each of them once, in turn, so that a busy machine slows
all alike. Printed are medians over rounds of wall and of processor time (all threads), ratios to the fastest of ours,
and the estimate beside the truth. Memory is the peak of one call in a process of its own, above what its imports and
samples took. The samples are Gaussian with correlation .6 in each dimension.
"""

from __future__ import annotations

import argparse
import multiprocessing
import platform
import resource
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
from ksg import PEERS, RHO, installed, samples

from ssl_mi.information import gaussian_mi, ksg, mutual_information

MOST_ROWS = {"scikit-learn": 100_000, "NPEET": 10_000, "ennemi": 100_000, "infomeasure": 10_000}


def default(x: np.ndarray, y: np.ndarray) -> float:
    return float(mutual_information(x, y))


def neighbours(x: np.ndarray, y: np.ndarray) -> float:
    return float(ksg(x, y))


OURS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {"mutual_information": default, "ksg": neighbours}


def runners(n: int, d: int) -> dict[str, Callable[[np.ndarray, np.ndarray], float]]:
    """Ours, and those peers that take as many rows and dimensions."""
    found = dict(OURS)
    for name, (function, package, most) in PEERS.items():
        if name in MOST_ROWS and n <= MOST_ROWS[name] and d <= most and installed(package):
            found[name] = partial(function, k=3)
    return found


def race(n: int, d: int, rounds: int) -> None:
    """Run all in turn, `rounds` times, and print medians."""
    x, y = samples(n, d)
    contestants = runners(n, d)
    wall: dict[str, list[float]] = {name: [] for name in contestants}
    processor: dict[str, list[float]] = {name: [] for name in contestants}
    answers = {}
    for warm in [False, *[True] * rounds]:
        for name, run in contestants.items():
            if not warm and n > 10_000:
                continue  # compiled code is warm by then
            started, started_processor = time.perf_counter(), time.process_time()
            answers[name] = float(run(x, y))
            if warm:
                wall[name].append(time.perf_counter() - started)
                processor[name].append(time.process_time() - started_processor)
    print(f"n = {n:,}, {d} + {d} dimensions, true {gaussian_mi([RHO] * d):.4f} nats")
    first = statistics.median(processor["ksg"])
    for name in contestants:
        used = statistics.median(processor[name])
        print(
            f"  {name:20s} wall {statistics.median(wall[name]):9.3f} s   processor {used:9.3f} s {used / first:8.1f} x"
            f"   estimate {answers[name]:.4f}",
            flush=True,
        )


def _peak(name: str, n: int, d: int, queue: multiprocessing.Queue) -> None:
    x, y = samples(n, d)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    OURS[name](x, y)
    queue.put((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)


def memory(name: str, n: int, d: int) -> float:
    """Peak bytes of one call above those of its imports and samples."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_peak, args=(name, n, d, queue))
    process.start()
    found = queue.get()
    process.join()
    return float(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, nargs="+", default=[1000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--dims", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-memory", action="store_true")
    arguments = parser.parse_args()
    versions = ", ".join(f"{name} {installed(package)}" for name, (_, package, _) in PEERS.items() if name in MOST_ROWS)
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, {versions}")
    for n in arguments.n:
        for d in arguments.dims:
            race(n, d, arguments.rounds)
            if not arguments.no_memory:
                for name in OURS:
                    print(f"  {name:20s} peak memory {memory(name, n, d) / 2**30:.2f} GiB", flush=True)


if __name__ == "__main__":
    main()
