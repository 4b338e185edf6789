"""KSG beside its peers: seconds, ratios and estimates on the same samples, interleaved in one process.

    python benchmarks/ksg.py [--n 10000] [--dims 1 2 4 8] [--repeats 5] [--quick]

Peers: scikit-learn (one dimension a side), the scipy cKDTree recipe that NPEET and its like are made of (written out
below), and ennemi and infomeasure where they are installed (`pip install ennemi infomeasure`). Every round times
each of them once, in turn, so that a busy machine slows all alike. The best round counts, in wall time and in
processor time (all threads): the fairer one where others share the machine. The samples are Gaussian with
correlation .6 in each dimension. Set OMP_NUM_THREADS=1 to compare single threads: the peers use one.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import math
import os
import platform
import resource
import time

import numpy as np
from scipy.spatial import cKDTree
from scipy.special import digamma

from ssl_mi.information import gaussian_mi, ksg
from ssl_mi.information.neighbours import threads

RHO = 0.6


def ours(x, y, k):
    return ksg(x, y, k).value


def tree_recipe(x, y, k):
    """One cKDTree a space, query, then counts within a radius shrunk by a hair: the recipe most packages follow."""
    x, y = ((v - v.mean(0)) / v.std(0) for v in (x, y))
    joint = np.concatenate([x, y], 1)
    radii = np.nextafter(cKDTree(joint).query(joint, k + 1, p=np.inf)[0][:, -1], 0)
    n_x, n_y = (cKDTree(v).query_ball_point(v, radii, p=np.inf, return_length=True) for v in (x, y))
    return digamma(k) + digamma(len(x)) - np.mean(digamma(n_x) + digamma(n_y))


def scikit_learn(x, y, k):
    from sklearn.feature_selection import mutual_info_regression

    return mutual_info_regression(x, y[:, 0], n_neighbors=k, random_state=0)[0]


def ennemi(x, y, k):
    from ennemi._entropy_estimators import _estimate_single_mi

    x, y = ((v - v.mean(0)) / v.std(0) for v in (x, y))
    return _estimate_single_mi(x, y, k)


def infomeasure(x, y, k):
    import infomeasure as im

    x, y = ((v - v.mean(0)) / v.std(0) for v in (x, y))
    return im.mutual_information(x, y, approach="ksg", k=k)


PEERS = {
    "scikit-learn": (scikit_learn, "scikit-learn", 1),
    "cKDTree recipe": (tree_recipe, "scipy", math.inf),
    "ennemi": (ennemi, "ennemi", math.inf),
    "infomeasure": (infomeasure, "infomeasure", math.inf),
}


def installed(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def measure(n: int, d: int, k: int, repeats: int) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, d))
    y = RHO * x + math.sqrt(1 - RHO**2) * rng.standard_normal((n, d))
    runners = {"ssl_mi": ours}
    runners |= {name: run for name, (run, package, most) in PEERS.items() if installed(package) and d <= most}
    best, best_cpu = dict.fromkeys(runners, math.inf), dict.fromkeys(runners, math.inf)
    answers = {}
    for _ in range(repeats):
        for name, run in runners.items():
            started, started_cpu = time.perf_counter(), time.process_time()
            answers[name] = float(run(x, y, k))
            best[name] = min(best[name], time.perf_counter() - started)
            best_cpu[name] = min(best_cpu[name], time.process_time() - started_cpu)
    print(f"\nn = {n}, d = {d} + {d}, k = {k}, truth {gaussian_mi([RHO] * d):.4f} nats")
    for name, seconds in best.items():
        ratio, cpu = seconds / best["ssl_mi"], best_cpu[name]
        print(
            f"  {name:16s} wall {seconds:8.4f} s {ratio:6.1f} x   "
            f"cpu {cpu:8.4f} s {cpu / best_cpu['ssl_mi']:6.1f} x   reads {answers[name]:.4f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, nargs="+", default=[10_000])
    parser.add_argument("--dims", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--k", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="n = 2000, two rounds")
    options = parser.parse_args()
    if options.quick:
        options.n, options.repeats = [2000], 2
    versions = ", ".join(f"{p} {installed(p) or 'absent'}" for _, p, _ in PEERS.values())
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {threads()} threads; {versions}")
    started = time.perf_counter()
    for d in (1, 2, 8):  # compiles trees and the brute-force scan
        ksg(*np.random.default_rng(0).standard_normal((2, 100, d)))
    print(f"first calls (compiling, or loading what an earlier run compiled): {time.perf_counter() - started:.1f} s")
    for n in options.n:
        for d in options.dims:
            measure(n, d, options.k, options.repeats)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\npeak memory of the process {peak:.0f} MiB")


if __name__ == "__main__":
    main()
