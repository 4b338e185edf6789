"""Views per second of augmentation, beside torchvision, lightly, albumentations and kornia, at 32, 96 and 224 pixels.

    OMP_NUM_THREADS=1 python benchmarks/augment.py [words of the rows] [--rounds 5] [--json FILE]

Everybody makes SimCLR's two views (Chen et al. 2020, colour strength 0.5; with and without blur) of the same 8-bit
images, as normalised float tensors. Before it is timed, a peer's views are held against ours: same shape and type, and
a mean, a spread and a contrast of the normalised pixels that differ by less than 0.15. One thread in one process; ours
and the peer take turns, so that a busy neighbour slows both alike. Figures are views per second of processor time,
medians over rounds; the ratio is the median of the ratios within a round, with the lowest and the highest beside it.
Peers that are not installed are left out.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.functional import to_pil_image

from ssl_mi.data import (
    Augmentation,
    ColorJitter,
    GaussianBlur,
    Grayscale,
    HorizontalFlip,
    RandomResizedCrop,
    Source,
    View,
)

MEAN, STD = [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]
STRENGTH = 0.5
# side -> images of a peer's call, and times as many in ours, which is that much shorter. More would measure the system,
# which clears the pages of every view of more than 32 MB.
IMAGES = {32: (128, 8), 96: (48, 3), 224: (16, 2)}

Call = Callable[[], list[Tensor]]


def pictures(side: int, n: int) -> Tensor:
    """Smooth images, uint8 [n, 3, side, side]: the speed of some colour code depends on the pixels."""
    coarse = torch.rand(n, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic").mul(255).clamp(0, 255).byte()


def ours(images: Tensor, blur: bool) -> Call:
    side = images.shape[-1]
    ops = [RandomResizedCrop(side), HorizontalFlip(), ColorJitter(strength=STRENGTH), Grayscale()]
    augmentation = Augmentation([View(ops + [GaussianBlur()] * blur, count=2)], side, MEAN, STD)
    source = Source(images, torch.arange(len(images)), labels=None, split=0, epoch=0)
    return lambda: augmentation(source, seed=0)


def taps(side: int) -> int:
    """The blur's kernel: a tenth of the image, as ours."""
    return max(3, 2 * round((side / 10 - 1) / 2) + 1)


def jitter() -> dict[str, float]:
    return {
        "brightness": 0.8 * STRENGTH,
        "contrast": 0.8 * STRENGTH,
        "saturation": 0.8 * STRENGTH,
        "hue": 0.2 * STRENGTH,
    }


def one_by_one(images: Iterable[Any], transform: Callable) -> Call:
    images = list(images)
    return lambda: [torch.stack([transform(image) for image in images]) for _ in range(2)]


def torchvision_stack(side: int, blur: bool) -> Callable:
    stack = [
        v2.RandomResizedCrop(side),
        v2.RandomHorizontalFlip(),
        v2.RandomApply([v2.ColorJitter(**jitter())], p=0.8),
        v2.RandomGrayscale(0.2),
        *[v2.RandomApply([v2.GaussianBlur(taps(side), (0.1, 2.0))], p=0.5)] * blur,
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(MEAN, STD),
    ]
    return v2.Compose(stack)


def torchvision_tensors(images: Tensor, blur: bool) -> Call:
    return one_by_one(images, torchvision_stack(images.shape[-1], blur))


def torchvision_pil(images: Tensor, blur: bool) -> Call:
    stack = torchvision_stack(images.shape[-1], blur)
    stack.transforms.insert(-2, v2.ToImage())
    return one_by_one([to_pil_image(image) for image in images], stack)


def lightly(images: Tensor, blur: bool) -> Call:
    from lightly.transforms import SimCLRTransform

    side = images.shape[-1]
    norm = {"mean": MEAN, "std": STD}
    stack = SimCLRTransform(input_size=side, cj_strength=STRENGTH, gaussian_blur=0.5 * blur, normalize=norm)
    some = [to_pil_image(image) for image in images]
    return lambda: [torch.stack(view) for view in zip(*map(stack, some), strict=True)]


def albumentations(images: Tensor, blur: bool) -> Call:
    import albumentations as A
    from albumentations.pytorch import ToTensorV2

    side, k = images.shape[-1], taps(images.shape[-1])
    ranges = {name: (1 - q, 1 + q) for name, q in jitter().items()} | {"hue": (-jitter()["hue"], jitter()["hue"])}
    stack = A.Compose([
        A.RandomResizedCrop(size=(side, side), scale=(0.08, 1.0)),
        A.HorizontalFlip(p=0.5),
        A.ColorJitter(**ranges, p=0.8),
        A.ToGray(p=0.2),
        *[A.GaussianBlur(blur_limit=(k, k), sigma_limit=(0.1, 2.0), p=0.5)] * blur,
        A.Normalize(mean=MEAN, std=STD),
        ToTensorV2(),
    ])  # fmt: skip
    arrays = np.ascontiguousarray(images.permute(0, 2, 3, 1).numpy())
    return one_by_one(arrays, lambda image: stack(image=image)["image"])


def kornia(images: Tensor, blur: bool) -> Call:
    import kornia.augmentation as K

    side, k = images.shape[-1], taps(images.shape[-1])
    stack = torch.nn.Sequential(
        K.RandomResizedCrop((side, side), scale=(0.08, 1.0)),
        K.RandomHorizontalFlip(p=0.5),
        K.ColorJitter(**jitter(), p=0.8),
        K.RandomGrayscale(p=0.2),
        *[K.RandomGaussianBlur((k, k), (0.1, 2.0), p=0.5)] * blur,
        K.Normalize(torch.tensor(MEAN), torch.tensor(STD)),
    )
    return lambda: [stack(images.float().div(255)) for _ in range(2)]


PEERS: dict[str, Callable[[Tensor, bool], Call]] = {
    "torchvision v2, tensors": torchvision_tensors,
    "torchvision v2, PIL": torchvision_pil,
    "lightly": lightly,
    "albumentations": albumentations,
    "kornia": kornia,
}


def check(mine: list[Tensor], theirs: list[Tensor], name: str) -> None:
    """Raise ValueError unless both did the same work."""
    a, b = torch.cat(mine), torch.cat(theirs)
    if a.shape[1:] != b.shape[1:] or b.dtype != torch.float32:
        raise ValueError(f"{name} makes {b.dtype} {list(b.shape)}, ours {list(a.shape)}")
    moments = torch.tensor([[x.mean(), x.std(), x.std((2, 3)).mean()] for x in (a, b)])
    if (moments[0] - moments[1]).abs().max() > 0.15:
        raise ValueError(
            f"{name}: mean, spread and contrast of the views {moments[1].tolist()}, ours {moments[0].tolist()}"
        )


def processor_time(call: Call) -> float:
    began = time.process_time()
    call()
    return time.process_time() - began


def compare(mine: Call, theirs: Call, times: int, views: int, rounds: int) -> dict[str, float]:
    """Both rates and their ratio; `mine` makes `times` as many views."""
    pairs = []
    for round_ in range(rounds + 1):
        pair = (times * views / processor_time(mine), views / processor_time(theirs))
        pairs += [pair] * (round_ > 0)  # the first warms up
    ratios = [a / b for a, b in pairs]
    return {
        "ours": statistics.median(a for a, _ in pairs),
        "peer": statistics.median(b for _, b in pairs),
        "ratio": statistics.median(ratios),
        "low": min(ratios),
        "high": max(ratios),
    }


def main(rows: Sequence[str] = (), rounds: int = 5) -> list[dict[str, Any]]:
    """One row per peer, size and with or without blur.

    Args:
        rows: Only rows whose work and size have one of these in them ("kornia", "224 px", "blur"); all by default.
        rounds: Pairs of timings.

    Returns:
        Rows of work, size, ours and peer (views per second of processor time), ratio, low and high.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    # glibc gives freed blocks back to the system until a large one was freed once; training steps do that at once.
    torch.empty(2**25 - 2**16, dtype=torch.uint8)
    found = []
    for side, (n, times) in IMAGES.items():
        images = pictures(side, times * n)
        for blur in (False, True):
            mine = ours(images, blur)
            for name, make in PEERS.items():
                row = {"work": f"views beside {name}{', blur' * blur}", "size": f"{side} px"}
                if rows and not any(word in f"{row['work']} {row['size']}" for word in rows):
                    continue
                try:
                    theirs = make(images[:n], blur)
                except ImportError:
                    continue
                check(mine(), theirs() + theirs(), name)
                found.append({**row, **compare(mine, theirs, times, 2 * n, rounds)})
    torch.set_num_threads(threads)
    return found


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Rows for people."""
    lines = [f"{'':46}{'size':>8}{'ours':>10}{'peer':>10}{'ratio':>8}"]
    for row in rows:
        spread = f"({row['low']:.2f} to {row['high']:.2f})"
        lines.append(
            f"{row['work']:46}{row['size']:>8}{row['ours']:>10,.0f}{row['peer']:>10,.0f}{row['ratio']:>8.2f} {spread}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("rows", nargs="*", help="words of the rows to run; all by default")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the rows here")
    options = parser.parse_args()
    measured = main(options.rows, options.rounds)
    print(table(measured))
    if options.json:
        options.json.write_text(json.dumps(measured, indent=2) + "\n")
