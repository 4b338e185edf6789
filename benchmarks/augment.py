"""Views per second of augmentation: ours beside per-image torchvision, and lightly where it is installed.

    OMP_NUM_THREADS=1 python benchmarks/augment.py [--side 32] [--blur] [--rounds 7] [--json FILE]

Everybody makes SimCLR's two views of the same images (Chen et al. 2020, colour strength 0.5), as one normalised
float batch per view. One thread, one process, rounds interleaved so that a busy neighbour slows everybody alike;
medians over rounds. Views per CPU second are the figure to compare: wall time has the neighbours in it.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
import torchvision.transforms as v1
from torchvision.transforms import v2
from torchvision.transforms.functional import to_pil_image

from ssl_mi.data.batch import Source
from ssl_mi.data.images.augmentations import (
    Augmentation,
    ColorJitter,
    GaussianBlur,
    Grayscale,
    HorizontalFlip,
    RandomResizedCrop,
    View,
)

MEAN, STD = [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]
STRENGTH = 0.5


def ours(images: torch.Tensor, side: int, blur: bool) -> Callable[[], object]:
    ops = [RandomResizedCrop(side), HorizontalFlip(), ColorJitter(strength=STRENGTH), Grayscale()]
    augmentation = Augmentation([View(ops + [GaussianBlur()] * blur, count=2)], side, MEAN, STD)
    source = Source(images, torch.arange(len(images)), labels=None, split=0, epoch=0)
    return lambda: augmentation(source, seed=0)


def torchvision_stack(v, side: int, blur: bool, end: list) -> Callable:
    """SimCLR's stack in torchvision's v1 or v2 (`v`), which have the same names for these."""
    jitter = v.ColorJitter(0.8 * STRENGTH, 0.8 * STRENGTH, 0.8 * STRENGTH, 0.2 * STRENGTH)
    taps = max(3, 2 * round((side / 10 - 1) / 2) + 1)
    return v.Compose(
        [v.RandomResizedCrop(side), v.RandomHorizontalFlip(), v.RandomApply([jitter], p=0.8), v.RandomGrayscale(0.2)]
        + [v.RandomApply([v.GaussianBlur(taps, (0.1, 2.0))], p=0.5)] * blur
        + end
        + [v.Normalize(MEAN, STD)]
    )


def per_image(images: Iterable, transform: Callable) -> Callable[[], object]:
    return lambda: [torch.stack([transform(image) for image in images]) for _ in range(2)]


def contestants(n: int, side: int, blur: bool) -> dict[str, tuple[int, Callable[[], object]]]:
    """name -> (views a call makes, the call). Ours gets 8 times the images: it is made for batches."""
    # Smooth images: the speed of PIL's colour code depends on the pixels.
    coarse = torch.rand(8 * n, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    images = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic").mul(255).clamp(0, 255).byte()
    some, pictures = list(images[:n]), [to_pil_image(image) for image in images[:n]]
    to_float = [v2.ToDtype(torch.float32, scale=True)]
    calls = {
        "ssl_mi": (16 * n, ours(images, side, blur)),
        "torchvision v1, PIL": (2 * n, per_image(pictures, torchvision_stack(v1, side, blur, [v1.ToTensor()]))),
        "torchvision v2, PIL": (
            2 * n,
            per_image(pictures, torchvision_stack(v2, side, blur, [v2.ToImage()] + to_float)),
        ),
        "torchvision v2, tensors": (2 * n, per_image(some, torchvision_stack(v2, side, blur, to_float))),
    }
    try:
        from lightly.transforms import SimCLRTransform
    except ImportError:
        return calls
    stack = SimCLRTransform(
        input_size=side,
        cj_strength=STRENGTH,
        gaussian_blur=0.5 * blur,
        normalize={"mean": MEAN, "std": STD},
    )
    calls["lightly SimCLRTransform, PIL"] = (
        2 * n,
        lambda: [torch.stack(view) for view in zip(*map(stack, pictures), strict=True)],
    )
    return calls


def measure(calls: dict[str, tuple[int, Callable[[], object]]], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Views per CPU second and per second of wall time, one number per round."""
    rates = {name: {"cpu": [], "wall": []} for name in calls}
    for round_ in range(rounds + 1):
        for name, (views, call) in calls.items():
            wall, cpu = time.perf_counter(), time.process_time()
            call()
            if round_ > 0:  # the first is for warming up
                rates[name]["cpu"].append(views / (time.process_time() - cpu))
                rates[name]["wall"].append(views / (time.perf_counter() - wall))
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--side", type=int, default=32, help="of the images and of the views, in pixels")
    parser.add_argument("--images", type=int, default=128, help="images per call of the per-image peers")
    parser.add_argument("--blur", action="store_true", help="blur half of the views")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()

    torch.set_num_threads(1)
    torch.manual_seed(0)
    # glibc gives freed blocks back to the system until a large one was freed once; training steps do that at once.
    torch.empty(2**25 - 2**16, dtype=torch.uint8)
    rates = measure(contestants(options.images, options.side, options.blur), options.rounds)

    ours_cpu = statistics.median(rates["ssl_mi"]["cpu"])
    result = {
        "machine": f"{platform.machine()}, torch {torch.__version__}, 1 thread",
        "setting": {"side": options.side, "blur": options.blur, "rounds": options.rounds},
        "views_per_second": {},
    }
    print(f"{'':30}{'views/CPU s':>12}{'min':>9}{'max':>9}{'views/s':>10}{'ours is':>10}")
    for name, rate in rates.items():
        cpu, wall = statistics.median(rate["cpu"]), statistics.median(rate["wall"])
        low, high = min(rate["cpu"]), max(rate["cpu"])
        print(f"{name:30}{cpu:12.0f}{low:9.0f}{high:9.0f}{wall:10.0f}{ours_cpu / cpu:9.1f}x")
        result["views_per_second"][name] = {
            "cpu": cpu,
            "cpu_min": low,
            "cpu_max": high,
            "wall": wall,
            "ours_over_this": ours_cpu / cpu,
        }
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
