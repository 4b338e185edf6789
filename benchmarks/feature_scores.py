"""Scores of features beside scikit-learn's: seconds and differences on the same samples, interleaved in one process.

    python benchmarks/feature_scores.py [--n 10000] [--columns 100] [--rounds 3] [--threads 1]

Every round runs each function once, in turn, so that a busy machine slows all alike; the best round counts, in wall
time. The first call of ours, which compiles, is made before.
"""

from __future__ import annotations

import argparse
import platform
import time

import numpy as np
import sklearn
from sklearn import feature_selection

from ssl_mi.information import mutual_info_classif, mutual_info_regression


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--columns", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    X = rng.standard_normal((arguments.n, arguments.columns))
    y = X[:, :5].sum(1) + rng.standard_normal(arguments.n)
    labels = np.digitize(y, [-2, 0, 2])
    print(f"{platform.processor()}, scikit-learn {sklearn.__version__}, n = {arguments.n}, {arguments.columns} columns")
    for name, ours, theirs, target in (
        ("regression", mutual_info_regression, feature_selection.mutual_info_regression, y),
        ("classif", mutual_info_classif, feature_selection.mutual_info_classif, labels),
    ):
        ours(X[:500, :1], target[:500])
        seconds: dict[str, list[float]] = {"ssl_mi": [], "scikit-learn": []}
        scores = {}
        for _ in range(arguments.rounds):
            for who, score in (("ssl_mi", ours), ("scikit-learn", theirs)):
                started = time.perf_counter()
                scores[who] = score(X, target, random_state=0, n_jobs=arguments.threads)
                seconds[who].append(time.perf_counter() - started)
        best = {who: min(times) for who, times in seconds.items()}
        apart = np.abs(scores["ssl_mi"] - scores["scikit-learn"]).max()
        print(
            f"{name:<12} ssl_mi {best['ssl_mi']:.2f} s, scikit-learn {best['scikit-learn']:.2f} s, "
            f"{best['scikit-learn'] / best['ssl_mi']:.1f} times as long; largest difference {apart:.1e} nats"
        )


if __name__ == "__main__":
    main()
