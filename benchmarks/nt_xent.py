"""NT-Xent, forward and backward: ours beside cross-entropy on the masked 2N x 2N matrix and lightly's.

    pip install -e '.[benchmark]'
    OMP_NUM_THREADS=1 python benchmarks/nt_xent.py [--rows 256 1024 4096 16384 32768] [--pairs 5] [--json FILE]

Embeddings of two views, [N, d] each, with gradients to both; rows = 2N. The cross-entropy form is what a page of any
tutorial has: normalise, multiply, forbid the diagonal, `cross_entropy`. All have the same value and gradients, which is
checked. One process, in turn, so that a busy neighbour slows everybody alike; CPU time on one thread; medians of the
ratios of pairs, with the smallest and largest. The peak of memory is measured in a process of its own for each, above
what torch and the embeddings take. What would not fit into `--memory` is left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from ssl_mi.objectives import SimCLR

ROWS = (256, 1024, 4096, 16384, 32768)
MANY = 16384
TEMPERATURE = 0.2
COPIES = {"ssl_mi": 0, "cross-entropy": 3, "lightly": 5}  # n x n matrices that each holds at once, about

Call = Callable[[Tensor, Tensor], Tensor]


def plain(x: Tensor, y: Tensor) -> Tensor:
    """NT-Xent by cross-entropy: row i of [x; y] must find its partner among all rows but itself."""
    n = len(x)
    z = normalize(torch.cat([x, y]), dim=1)
    scores = (z @ z.T / TEMPERATURE).fill_diagonal_(-math.inf)
    return cross_entropy(scores, torch.arange(2 * n).roll(n))


def ours(dim: int) -> Call:
    """What a user of ssl_mi calls."""
    objective = SimCLR(dim, TEMPERATURE)
    return lambda x, y: objective([x, y]).total


def lightlys(dim: int) -> Call:
    """lightly's loss."""
    from lightly.loss import NTXentLoss

    return NTXentLoss(temperature=TEMPERATURE)


MAKE: dict[str, Callable[[int], Call]] = {"ssl_mi": ours, "cross-entropy": lambda dim: plain, "lightly": lightlys}


def contestants(dim: int) -> dict[str, Call]:
    """What is compared; lightly where it is installed."""
    here = importlib.util.find_spec("lightly") is not None
    return {name: make(dim) for name, make in MAKE.items() if here or name != "lightly"}


def forward_backward(call: Call, views: list[Tensor]) -> tuple[float, list[Tensor]]:
    """The loss and its gradients."""
    loss = call(*views)
    return loss.item(), list(torch.autograd.grad(loss, views))


def views_of(rows: int, dim: int) -> list[Tensor]:
    """Two views of rows / 2 images."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(rows // 2, dim, generator=generator).requires_grad_() for _ in range(2)]


def fits(name: str, rows: int, memory: float) -> bool:
    """Whether a contestant would stay below `memory` GiB."""
    return COPIES[name] * 4 * rows**2 <= memory * 2**30


def seconds(rows: int, dim: int, pairs: int, memory: float, least: float = 0.05) -> dict[str, list[float]]:
    """CPU seconds of a call of each contestant, one number a round."""
    views = views_of(rows, dim)
    calls = {name: call for name, call in contestants(dim).items() if fits(name, rows, memory)}
    loss, gradients = forward_backward(calls["ssl_mi"], views)
    repeats = {}
    for name, call in calls.items():
        start = time.process_time()
        value, others = forward_backward(call, views)
        repeats[name] = max(1, math.ceil(least / max(1e-9, time.process_time() - start)))
        torch.testing.assert_close(value, loss, rtol=1e-5, atol=0)
        torch.testing.assert_close(others, gradients, rtol=1e-3, atol=1e-7)
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(pairs):
        for name, call in calls.items():
            start = time.process_time()
            for _ in range(repeats[name]):
                forward_backward(call, views)
            found[name].append((time.process_time() - start) / repeats[name])
    return found


def peak(name: str, rows: int, dim: int) -> float:
    """MiB above torch and the embeddings, in a process of its own."""
    code = (
        "import torch; torch.set_num_threads(1); from benchmarks import memory, nt_xent as b;"
        f"call = b.MAKE[{name!r}]({dim}); b.forward_backward(call, b.views_of(64, {dim}));"
        f"views = b.views_of({rows}, {dim}); before = memory.most();"
        "b.forward_backward(call, views); print((memory.most() - before) / 1024)"
    )
    here = Path(__file__).parents[1]
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=here)
    return float(found.stdout.split()[-1])


def main(
    rows: tuple[int, ...] = ROWS, dim: int = 128, pairs: int = 5, memory: float = 6.0, peaks: bool = True
) -> list[dict[str, Any]]:
    """One row for each number of rows and peer.

    Args:
        rows: 2N, each.
        dim: Width of an embedding.
        pairs: Rounds; ratios are medians of them. Of 16,384 rows and more there are three at most.
        memory: GiB that a contestant may take.
        peaks: Whether memory is measured.

    Returns:
        `work`, `size`, `ours` and `peer` in CPU seconds, `ratio` = peer / ours, its `low` and `high`, and the peaks of
        memory `ours_mib` and `peer_mib`.
    """
    torch.set_num_threads(1)
    table: list[dict[str, Any]] = []
    for size in rows:
        found = seconds(size, dim, pairs if size < MANY else min(pairs, 3), memory)
        mib = {name: peak(name, size, dim) if peaks else math.nan for name in found}
        own = statistics.median(found["ssl_mi"])
        if len(found) == 1:
            alone = {"work": "NT-Xent", "size": f"{size} rows", "ours": own, "ours_mib": mib["ssl_mi"]}
            table.append({**alone, "peer": None, "ratio": None, "low": None, "high": None, "peer_mib": None})
        for name in [name for name in found if name != "ssl_mi"]:
            ratios = [a / b for a, b in zip(found[name], found["ssl_mi"], strict=True)]
            row = {
                "work": f"NT-Xent beside {name}",
                "size": f"{size} rows",
                "ours": own,
                "peer": statistics.median(found[name]),
                "ratio": statistics.median(ratios),
                "low": min(ratios),
                "high": max(ratios),
                "ours_mib": mib["ssl_mi"],
                "peer_mib": mib[name],
            }
            table.append(row)
    return table


def show(table: list[dict[str, Any]]) -> None:
    """Print the rows."""
    head = f"{'ours s':>10}{'peer s':>10}{'ratio':>8}{'low':>7}{'high':>7}{'ours MiB':>10}{'peer':>6}"
    print(f"{'work':28}{'size':>12}" + head)
    for row in table:
        if row["peer"] is None:
            print(f"{row['work']:28}{row['size']:>12}{row['ours']:10.4f}{'':32}{row['ours_mib']:10.0f}")
        else:
            print(
                "{work:28}{size:>12}{ours:10.4f}{peer:10.4f}{ratio:7.2f}x{low:7.2f}{high:7.2f}".format(**row)
                + "{ours_mib:10.0f}{peer_mib:6.0f}".format(**row)
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS, help="2N, each")
    parser.add_argument("--dim", type=int, default=128, help="width of an embedding")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--memory", type=float, default=6.0, help="GiB that a contestant may take")
    parser.add_argument("--json", type=Path, help="write the rows here")
    options = parser.parse_args()
    rows = main(tuple(options.rows), options.dim, options.pairs, options.memory)
    show(rows)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")
