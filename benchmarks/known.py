"""Pairs of views with known mutual information drawn per CPU second, each generator of data/known at 32 x 32 pixels.

    OMP_NUM_THREADS=1 python benchmarks/known.py [--pairs 256] [--rounds 7]

One thread, one process. A pair is two views, drawn from counters, rendered to 8 bits and normalised to floats: all
that a training step waits for. Rounds go over all generators in turn, so that a busy neighbour slows everybody alike;
medians over rounds. Wall time has the neighbours in it.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from ssl_mi.data.batch import Source
from ssl_mi.data.known.blob import GaussianBlob
from ssl_mi.data.known.captions import Caption
from ssl_mi.data.known.circle import Rotation, Shift
from ssl_mi.data.known.data import Rendered
from ssl_mi.data.known.digits import FiniteSet, Patches, SharedClass
from ssl_mi.data.known.glyphs import Glyphs
from ssl_mi.data.known.halves import Halves
from ssl_mi.data.known.sphere import Sphere
from ssl_mi.data.known.sprites import FACTORS, Sprites

GENERATORS = {
    "shared_class": SharedClass,
    "finite_set": FiniteSet,
    "patches, 3 x 3, random background": lambda: Patches(grid=3),
    "patches, 3 x 3, plain background": lambda: Patches(grid=3, background="plain"),
    "rotation": Rotation,
    "shift": Shift,
    "sphere": Sphere,
    "sphere in 8 dimensions": lambda: Sphere(dim=8),
    "gaussian_blob": GaussianBlob,
    "sprites": Sprites,
    "caption of all factors": lambda: Caption(named=list(FACTORS)),
    "glyphs": Glyphs,
    "halves": Halves,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pairs", type=int, default=256, help="a batch")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()

    torch.set_num_threads(1)
    # glibc gives freed blocks back to the system until a large one was freed once; training does that at once.
    torch.empty(2**25 - 2**16, dtype=torch.uint8)
    batch = torch.arange(options.pairs)
    views, made, rates = {}, {}, {}
    for name, make in GENERATORS.items():
        began = time.process_time()
        views[name] = Rendered(make(), [0.5] * 3, [0.25] * 3)
        made[name] = time.process_time() - began
        rates[name] = {"cpu": [], "wall": []}
    for epoch in range(options.rounds + 1):
        for name, draw in views.items():
            wall, cpu = time.perf_counter(), time.process_time()
            draw(Source(None, batch, None, split=0, epoch=epoch), seed=0)
            if epoch > 0:  # the first is for warming up
                rates[name]["cpu"].append(options.pairs / (time.process_time() - cpu))
                rates[name]["wall"].append(options.pairs / (time.perf_counter() - wall))
    print(f"{'':36}{'pairs/CPU s':>12}{'min':>9}{'max':>9}{'pairs/s':>10}{'to build, s':>13}")
    for name, rate in rates.items():
        cpu = rate["cpu"]
        print(
            f"{name:36}{statistics.median(cpu):12,.0f}{min(cpu):9,.0f}{max(cpu):9,.0f}"
            f"{statistics.median(rate['wall']):10,.0f}{made[name]:13.2f}"
        )


if __name__ == "__main__":
    main()
