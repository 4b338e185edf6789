"""Seconds of NT-Xent, forward and backward: ours beside plain cross-entropy on the masked 2N x 2N matrix.

    OMP_NUM_THREADS=1 python benchmarks/nt_xent.py [--rows 256 512 1024 4096] [--rounds 15] [--json FILE]

Embeddings of two views, [N, d] each, with gradients to both; rows = 2N. The plain one is what a page of any tutorial
has: normalise, multiply, forbid the diagonal, `cross_entropy`. lightly's where it is installed. One process, rounds
interleaved so that a busy neighbour slows everybody alike; medians over rounds. CPU time is the figure to compare.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from ssl_mi.information.variational.bounds import InfoNCE
from ssl_mi.information.variational.critics import Cosine
from ssl_mi.objectives.infomax import Infomax
from ssl_mi.objectives.negatives import OtherSamplesAndViews

TEMPERATURE = 0.2


def plain(x: Tensor, y: Tensor) -> Tensor:
    """NT-Xent by cross-entropy: row i of [x; y] must find its partner among all rows but itself."""
    n = len(x)
    z = normalize(torch.cat([x, y]), dim=1)
    scores = (z @ z.T / TEMPERATURE).fill_diagonal_(-math.inf)
    return cross_entropy(scores, torch.arange(2 * n).roll(n))


def contestants(dim: int) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    objective = Infomax(dim, Cosine(TEMPERATURE), InfoNCE(), OtherSamplesAndViews(), name="nt_xent")

    def ours(x: Tensor, y: Tensor) -> Tensor:
        both = [x, y]
        return objective(both, both).total

    calls = {"ssl_mi": ours, "plain cross-entropy": plain}
    try:
        from lightly.loss import NTXentLoss
    except ImportError:
        return calls
    return calls | {"lightly NTXentLoss": NTXentLoss(temperature=TEMPERATURE)}


def forward_backward(call: Callable[[Tensor, Tensor], Tensor], views: list[Tensor]) -> tuple[float, list[Tensor]]:
    loss = call(*views)
    return loss.item(), torch.autograd.grad(loss, views)


def measure(rows: int, dim: int, rounds: int, least: float) -> dict[str, dict[str, list[float]]]:
    """Seconds of CPU and of wall time a call, one number a round; a round repeats the call for `least` seconds."""
    generator = torch.Generator().manual_seed(0)
    views = [torch.randn(rows // 2, dim, generator=generator).requires_grad_() for _ in range(2)]
    calls = contestants(dim)
    loss, gradients = forward_backward(plain, views)
    repeats = {}
    for name, call in calls.items():
        value, others = forward_backward(call, views)
        torch.testing.assert_close(value, loss, rtol=1e-5, atol=0)
        torch.testing.assert_close(list(others), list(gradients), rtol=1e-3, atol=1e-8)
        start = time.perf_counter()
        forward_backward(call, views)
        repeats[name] = max(1, math.ceil(least / (time.perf_counter() - start)))
    seconds = {name: {"cpu": [], "wall": []} for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(repeats[name]):
                forward_backward(call, views)
            seconds[name]["cpu"].append((time.process_time() - cpu) / repeats[name])
            seconds[name]["wall"].append((time.perf_counter() - wall) / repeats[name])
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[256, 512, 1024, 4096], help="2N, each")
    parser.add_argument("--dim", type=int, default=128, help="width of an embedding")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--least", type=float, default=0.05, help="seconds that a round of one contestant lasts")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    result = {
        "machine": f"{platform.machine()}, torch {torch.__version__}, {options.threads} threads",
        "setting": {"dim": options.dim, "rounds": options.rounds},
        "milliseconds": {},
    }
    print(f"{'rows':>5}  {'':22}{'CPU ms':>9}{'min':>9}{'max':>9}{'wall ms':>10}{'it / ours':>11}")
    for rows in options.rows:
        seconds = measure(rows, options.dim, options.rounds, options.least)
        result["milliseconds"][rows] = {}
        for name, each in seconds.items():
            cpu, wall = (1e3 * statistics.median(each[clock]) for clock in ("cpu", "wall"))
            low, high = 1e3 * min(each["cpu"]), 1e3 * max(each["cpu"])
            # Pairs of neighbouring turns, so that a slow moment is in both.
            ratio = statistics.median(a / b for a, b in zip(each["cpu"], seconds["ssl_mi"]["cpu"], strict=True))
            print(f"{rows:5}  {name:22}{cpu:9.2f}{low:9.2f}{high:9.2f}{wall:10.2f}{ratio:10.2f}x")
            result["milliseconds"][rows][name] = {
                "cpu": cpu,
                "cpu_min": low,
                "cpu_max": high,
                "wall": wall,
                "this_over_ours": ratio,
            }
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
