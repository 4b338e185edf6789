"""KSG beside its peers: seconds, ratios and estimates on the same samples, interleaved in one process.

    pip install -e '.[benchmark]'
    python benchmarks/ksg.py [--n 10000] [--dims 1 2 4 8] [--threads 1 2] [--permutations 99] [--device cuda] [--quick]

Peers: scikit-learn (one dimension a side), NPEET as `npeet-plus` has it, the scipy cKDTree recipe that many packages
are made of (written out below), ennemi and infomeasure. Every round runs each of them once, in turn, so that a busy
machine slows all alike. The best round counts, in wall time and in processor time (all threads): the fairer one where
others share the machine. Ratios are to ssl_mi on as many threads as the first of `--threads`; the peers use one.
The samples are Gaussian with correlation .6 in each dimension.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import math
import multiprocessing
import os
import platform
import time
from collections.abc import Callable
from functools import partial

import numpy as np
from scipy.spatial import cKDTree
from scipy.special import digamma

from benchmarks.memory import most
from ssl_mi.information import gaussian_mi, ksg
from ssl_mi.information.estimators.ksg import ksg_pointwise, null_values

RHO = 0.6
MOST_ROWS = 20_000  # of a peer; beyond, they take minutes


def samples(n: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, d))
    return x, RHO * x + math.sqrt(1 - RHO**2) * rng.standard_normal((n, d))


def scaled(*variables: np.ndarray) -> list[np.ndarray]:
    return [(v - v.mean(0)) / v.std(0) for v in variables]


def on_threads(threads: int, run: Callable, *arguments):
    """run(*arguments) with as many threads of ours: `neighbours.threads` reads this variable at every call."""
    os.environ["NUMBA_NUM_THREADS"] = str(threads)
    return run(*arguments)


def ours(x, y, k, device=None):
    return ksg(x, y, k, device=device).value


def tree_recipe(x, y, k):
    """One cKDTree a space, query, then counts within a radius shrunk by a hair: the recipe most packages follow."""
    x, y = scaled(x, y)
    joint = np.concatenate([x, y], 1)
    radii = np.nextafter(cKDTree(joint).query(joint, k + 1, p=np.inf)[0][:, -1], 0)
    n_x, n_y = (cKDTree(v).query_ball_point(v, radii, p=np.inf, return_length=True) for v in (x, y))
    return digamma(k) + digamma(len(x)) - np.mean(digamma(n_x) + digamma(n_y))


def scikit_learn(x, y, k):
    from sklearn.feature_selection import mutual_info_regression

    return mutual_info_regression(x, y[:, 0], n_neighbors=k, random_state=0)[0]


def npeet(x, y, k):
    from npeet_plus import mi

    return mi(*scaled(x, y), k=k, base=math.e)


def ennemi(x, y, k):
    from ennemi._entropy_estimators import _estimate_single_mi  # the public function takes one dimension a side

    return _estimate_single_mi(*scaled(x, y), k)


def infomeasure(x, y, k):
    import infomeasure as im

    return im.mutual_information(*scaled(x, y), approach="ksg", k=k)


# Its function, its package, and the most dimensions it takes a side.
PEERS = {
    "scikit-learn": (scikit_learn, "scikit-learn", 1),
    "NPEET": (npeet, "npeet-plus", math.inf),
    "cKDTree recipe": (tree_recipe, "scipy", math.inf),
    "ennemi": (ennemi, "ennemi", math.inf),
    "infomeasure": (infomeasure, "infomeasure", math.inf),
}


def installed(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def race(runners: dict[str, Callable[[], float]], rounds: int) -> None:
    """Run all in turn, `rounds` times, and print the best of each beside the best of the first."""
    wall, processor = dict.fromkeys(runners, math.inf), dict.fromkeys(runners, math.inf)
    answers = {}
    for _ in range(rounds):
        for name, run in runners.items():
            started, started_processor = time.perf_counter(), time.process_time()
            answers[name] = float(run())
            wall[name] = min(wall[name], time.perf_counter() - started)
            processor[name] = min(processor[name], time.process_time() - started_processor)
    first = next(iter(runners))
    for name in runners:
        print(
            f"  {name:26s} wall {wall[name]:8.4f} s {wall[name] / wall[first]:6.2f} x   processor "
            f"{processor[name]:8.4f} s {processor[name] / processor[first]:6.2f} x   reads {answers[name]:.4f}"
        )


def against_peers(n: int, d: int, options) -> None:
    x, y = samples(n, d)
    k = options.k
    runners = {f"ssl_mi, {t} threads": partial(on_threads, t, ours, x, y, k) for t in options.threads}
    if options.device:
        runners[f"ssl_mi, torch on {options.device}"] = partial(ours, x, y, k, options.device)
    if n <= MOST_ROWS:
        for name, (run, package, most) in PEERS.items():
            if installed(package) and d <= most:
                runners[name] = partial(run, x, y, k)
    mebibytes = extra_memory(n, d, k, options.threads[-1])
    print(
        f"\nn = {n}, d = {d} + {d}, k = {k}, truth {gaussian_mi([RHO] * d):.4f} nats; "
        f"the samples take {2 * x.nbytes / 2**20:.1f} MiB, ssl_mi took {mebibytes:.1f} MiB more"
    )
    race(runners, options.rounds)


def extra_memory(n: int, d: int, k: int, threads: int) -> float:
    """By how much a call raises the peak memory of a fresh process, in MiB."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_extra_memory, (n, d, k, threads))


def _extra_memory(n: int, d: int, k: int, threads: int) -> float:
    on_threads(threads, ours, *samples(2500, d), k)  # compiled, and its threads started
    x, y = samples(n, d)
    before = most()
    on_threads(threads, ours, x, y, k)
    return (most() - before) / 1024


def permutations(n: int, d: int, options) -> None:
    """The null of a p-value: all pairings in one call, and one call a pairing."""
    x, y = scaled(*samples(n, d))
    partners = np.stack([np.random.default_rng(b).permutation(n) for b in range(options.permutations)])

    def together(device=None):
        return null_values(x, y, options.k, partners, device).mean()

    def one_by_one():
        return np.mean([ksg_pointwise(x, y[partner], options.k).mean() for partner in partners])

    runners = {}
    for threads in options.threads:
        runners[f"together, {threads} threads"] = partial(on_threads, threads, together)
        runners[f"one by one, {threads} threads"] = partial(on_threads, threads, one_by_one)
    if options.device:
        runners[f"together, torch on {options.device}"] = partial(together, options.device)
    print(f"\n{options.permutations} permutations, n = {n}, d = {d} + {d}, k = {options.k}")
    race(runners, max(1, options.rounds // 2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, nargs="*", default=[10_000], help="rows; beyond 20,000 without peers")
    parser.add_argument("--dims", type=int, nargs="+", default=[1, 2, 4, 8], help="columns a side")
    parser.add_argument("--k", type=int, default=3)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--permutations", type=int, default=99, help="0 leaves them out")
    parser.add_argument("--permuted", type=int, nargs="+", default=[1500, 5000], help="rows of the permutations")
    parser.add_argument("--device", help="also in torch, there")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="n = 2000, 1 and 2 dimensions, two rounds")
    options = parser.parse_args()
    if options.quick:
        options.n, options.dims, options.permuted, options.rounds = [2000], [1, 2], [500], 2
    packages = ["numpy", "numba", "torch", *(package for _, package, _ in PEERS.values())]
    print(platform.processor() or platform.machine(), f"{os.cpu_count()} cores", platform.python_version(), sep=", ")
    print(", ".join(f"{package} {installed(package) or 'absent'}" for package in packages))
    started, started_processor = time.perf_counter(), time.process_time()
    ours(*samples(100, 1), 3)
    print(
        f"first call (compiles, or loads what an earlier run compiled): {time.perf_counter() - started:.1f} s, "
        f"processor {time.process_time() - started_processor:.1f} s"
    )
    for n in options.n:
        for d in options.dims:
            against_peers(n, d, options)
    for n in options.permuted if options.permutations else []:
        permutations(n, 2, options)


if __name__ == "__main__":
    main()
