"""The probes beside scikit-learn and faiss on the same features: seconds of CPU on one thread.

    pip install -e '.[benchmark]'
    OMP_NUM_THREADS=1 python benchmarks/probes.py [--rows 50000] [--dim 512] [--pairs 5] [--json FILE]

Features are random mixtures whose classes overlap; their spectrum falls by two powers of ten, like that of an encoder.
Beside scikit-learn's `LogisticRegression` (L-BFGS, the same penalty, `max_iter=1000`: to its optimum) the linear probe
must reach the same loss, which is checked; the tuned one chooses among five decays and has no peer in one call, so its
ratio is to five fits and one on scikit-learn's side, counted as six times the one. Beside faiss (`IndexFlatIP`, exact)
the neighbours must be the same. All in one process, in turn; medians of the ratios of pairs, the smallest, the largest.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from ssl_mi.evaluation.logistic import fit_linear, tuned_linear
from ssl_mi.evaluation.neighbours import nearest

DECAY = 0.01
CLASSES = 10


def features(rows: int, dim: int) -> tuple[Tensor, Tensor]:
    """Features [rows, dim] and overlapping labels [rows]."""
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(dim, dim, generator=generator) * torch.logspace(0, -2, dim)[:, None]
    x = torch.randn(rows, dim, generator=generator) @ mixing
    scores = x @ torch.randn(dim, CLASSES, generator=generator)
    noise = torch.randn(rows, CLASSES, generator=generator)
    return x, (scores / scores.std() + noise).argmax(1)


def in_turn(calls: dict[str, Callable[[], Any]], pairs: int) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """CPU seconds of each call in each round, and what the last round gave; a first round is left out."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    given: dict[str, Any] = {}
    for _ in range(pairs + 1):
        for name, call in calls.items():
            start = time.process_time()
            given[name] = call()
            found[name].append(time.process_time() - start)
    return {name: each[1:] for name, each in found.items()}, given


def row(work: str, size: str, ours: list[float], peer: list[float], factor: float = 1.0) -> dict[str, Any]:
    """A row of the table; factor: calls of the peer that do the same work."""
    ratios = [factor * b / a for a, b in zip(ours, peer, strict=True)]
    return {
        "work": work,
        "size": size,
        "ours": statistics.median(ours),
        "peer": factor * statistics.median(peer),
        "ratio": statistics.median(ratios),
        "low": min(ratios),
        "high": max(ratios),
    }


def linear(rows: int, dim: int, pairs: int) -> list[dict[str, Any]]:
    """Linear probes beside scikit-learn."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    x, labels = features(rows, dim)
    mean, scale = x.mean(0), x.std(0, correction=0)

    def sklearn_fit() -> Any:
        z = ((x - mean) / scale).numpy()  # as ours, which standardises
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return LogisticRegression(C=1 / (DECAY * rows), max_iter=1000, tol=1e-4).fit(z, labels.numpy())

    found, given = in_turn(
        {
            "one": lambda: fit_linear(x, labels, CLASSES, DECAY),
            "tuned": lambda: tuned_linear(x, labels, CLASSES),
            "scikit-learn": sklearn_fit,
        },
        pairs,
    )
    peer = given["scikit-learn"]
    weight, bias = torch.from_numpy(peer.coef_).float(), torch.from_numpy(peer.intercept_).float()
    loss = cross_entropy((x - mean) / scale @ weight.T + bias, labels) + DECAY / 2 * weight.square().sum()
    assert given["one"].loss <= loss.item() + 1e-4, "the same optimum, or a better one"
    size = f"{rows} x {dim}"
    return [
        row("linear probe beside scikit-learn", size, found["one"], found["scikit-learn"]),
        row("tuned linear probe beside 6 of scikit-learn", size, found["tuned"], found["scikit-learn"], 6),
    ]


def neighbours(rows: int, dim: int, pairs: int, queries: int = 2000, k: int = 200) -> list[dict[str, Any]]:
    """Nearest neighbours beside faiss, with making its index."""
    import faiss

    faiss.omp_set_num_threads(1)
    x = features(rows + queries, dim)[0]
    bank, asked = x[:rows], x[rows:]

    def search() -> Any:
        index = faiss.IndexFlatIP(dim)
        index.add(normalize(bank, dim=1).numpy())
        return index.search(normalize(asked, dim=1).numpy(), k)

    found, given = in_turn({"ours": lambda: nearest(bank, asked, k), "faiss": search}, pairs)
    torch.testing.assert_close(given["ours"][0], torch.from_numpy(given["faiss"][0]), rtol=1e-4, atol=1e-5)
    return [row(f"{k} neighbours beside faiss", f"{queries} of {rows} x {dim}", found["ours"], found["faiss"])]


def main(rows: int = 50_000, dim: int = 512, pairs: int = 5) -> list[dict[str, Any]]:
    """One row for each comparison whose peer is installed.

    Args:
        rows: Features to fit on, and of the bank.
        dim: Their columns.
        pairs: Rounds; ratios are medians of them.

    Returns:
        `work`, `size`, `ours` and `peer` in CPU seconds, `ratio` = peer / ours, its `low` and `high`.
    """
    torch.set_num_threads(1)
    table = []
    for part in (linear, neighbours):
        try:
            table += part(rows, dim, pairs)
        except ImportError as error:
            print(f"left out: {error}")
    return table


def show(table: list[dict[str, Any]]) -> None:
    """Print the rows."""
    print(f"{'work':46}{'size':>22}{'ours s':>9}{'peer s':>9}{'ratio':>8}{'low':>7}{'high':>7}")
    for each in table:
        print("{work:46}{size:>22}{ours:9.2f}{peer:9.2f}{ratio:7.2f}x{low:7.2f}{high:7.2f}".format(**each))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the rows here")
    options = parser.parse_args()
    found = main(options.rows, options.dim, options.pairs)
    show(found)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
