"""Images per second from a folder of JPEG files to two normalised views: ours beside torchvision's ImageFolder.

    OMP_NUM_THREADS=1 python -m benchmarks.jpeg_folder [words of the rows] [--rounds 5] [--json FILE]

Files of 500 x 400 pixels, views of 224, SimCLR's stack with and without blur, two worker processes, batches of 64. A
round is an epoch of each, in turn. Figures are images per second of the processor time of all processes, medians over
rounds; the ratio is the median of the ratios within a round, with the lowest and the highest beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder as TorchvisionFolder

from benchmarks.augment import MEAN, STD, STRENGTH, check, table, torchvision_stack
from ssl_mi.data import (
    Augmentation,
    ColorJitter,
    GaussianBlur,
    Grayscale,
    HorizontalFlip,
    ImageData,
    ImageFolder,
    RandomResizedCrop,
    View,
)

FILES, BATCH, WORKERS, SIDE = 256, 64, 2, 224
Epoch = Callable[[], list[list[torch.Tensor]]]


def make_files(root: Path, width: int = 500, height: int = 400) -> None:
    """Photograph-like files of 40 kB: smooth areas with some noise."""
    rng = np.random.default_rng(0)
    for i in range(FILES):
        coarse = Image.fromarray(rng.integers(0, 256, (12, 15, 3), dtype=np.uint8)).resize((width, height))
        noisy = np.asarray(coarse).astype(np.int16) + rng.integers(-12, 13, (height, width, 1))
        folder = root / "train" / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / f"{i}.jpg", quality=85)


def ours(root: Path, blur: bool, **options: Any) -> Epoch:
    ops = [RandomResizedCrop(SIDE), HorizontalFlip(), ColorJitter(strength=STRENGTH), Grayscale()]
    augmentation = Augmentation([View(ops + [GaussianBlur()] * blur, count=2)], SIDE, MEAN, STD)
    folder = ImageFolder(str(root), in_memory=False, test_fraction=0.01, **options)
    data = ImageData(folder, augmentation, BATCH, SIDE, MEAN, STD, val_fraction=0, num_workers=WORKERS)
    data.setup()

    def epoch() -> list[list[torch.Tensor]]:
        # A new loader, so that its workers end with the epoch and their time is counted.
        return [data.on_after_batch_transfer(source, 0).views for source in data.train_dataloader()]

    return epoch


class TwoViews:
    def __init__(self, transform: Callable) -> None:
        self.transform = transform

    def __call__(self, image: Image.Image) -> list[torch.Tensor]:
        return [self.transform(image), self.transform(image)]


def torchvision(root: Path, blur: bool) -> Epoch:
    from torchvision.transforms import v2

    stack = torchvision_stack(SIDE, blur)
    stack.transforms.insert(-2, v2.ToImage())
    images = TorchvisionFolder(str(root / "train"), TwoViews(stack))

    def epoch() -> list[list[torch.Tensor]]:
        return [views for views, _ in DataLoader(images, BATCH, shuffle=True, num_workers=WORKERS, drop_last=True)]

    return epoch


def processor_time() -> float:
    """Of this process and of those that ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def rate(epoch: Epoch) -> float:
    """Images per second of processor time."""
    began = processor_time()
    batches = len(epoch())
    return batches * BATCH / (processor_time() - began)


def main(rows: Sequence[str] = (), rounds: int = 5) -> list[dict[str, Any]]:
    """One row with and one without blur.

    Args:
        rows: Only rows whose work and size have one of these in them; all by default.
        rounds: Pairs of timings.

    Returns:
        Rows of work, size, ours and peer (images per second of processor time), ratio, low and high.
    """
    found = []
    with tempfile.TemporaryDirectory() as folder:
        make_files(Path(folder))
        for blur in (False, True):
            row = {"work": f"JPEG folder beside torchvision{', blur' * blur}", "size": f"{SIDE} px"}
            if rows and not any(word in f"{row['work']} {row['size']}" for word in rows):
                continue
            mine, theirs = ours(Path(folder), blur), torchvision(Path(folder), blur)
            check(mine()[0], theirs()[0], "torchvision")
            pairs = [(rate(mine), rate(theirs)) for _ in range(rounds)]
            ratios = [a / b for a, b in pairs]
            figures = {
                "ours": statistics.median(a for a, _ in pairs),
                "peer": statistics.median(b for _, b in pairs),
                "ratio": statistics.median(ratios),
                "low": min(ratios),
                "high": max(ratios),
            }
            found.append({**row, **figures})
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("rows", nargs="*", help="words of the rows to run; all by default")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the rows here")
    options = parser.parse_args()
    torch.set_num_threads(1)
    measured = main(options.rows, options.rounds)
    print(table(measured))
    if options.json:
        options.json.write_text(json.dumps(measured, indent=2) + "\n")
