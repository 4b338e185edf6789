"""Images per second of the whole SimCLR step: augment, forward, loss, backward, optimiser.

    OMP_NUM_THREADS=1 python benchmarks/train_step.py [--encoders convnet resnet18] [--rounds 5] [--json FILE]

    ssl_mi            as a user runs it: the page's data, module and History under a pl.Trainer with a CSV log;
                      no evaluation, no checkpoint
    bare loop         the same parts (our batched augmentation too) in a loop written by hand
    torchvision loop  a loop written by hand: torchvision's transforms on PIL images one by one, the same network,
                      optimiser and schedule, NT-Xent as cross-entropy
    lightly parts     the same, with lightly's transform and loss, where it is installed

ssl_mi beside the bare loop is what Lightning and we cost together; the other ratio is what the user gains. All take
the same images and batch. A round is an epoch of `--steps` steps of each, in turn in one process, so that a busy
neighbour slows everybody alike; ratios are medians over rounds of the ratio within a round. CPU time is the figure to
compare: wall time has the neighbours in it.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytorch_lightning as pl
import torch
import torchvision.transforms as v1
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize
from torchvision.transforms.functional import to_pil_image

from ssl_mi.app.startup import build, start
from ssl_mi.callbacks.history import History
from ssl_mi.optim import parameter_groups

CONF = Path(__file__).parents[1] / "conf"
DEFAULTS = {"convnet": (256, 4), "resnet18": (16, 1)}  # images a step, steps a round: half a minute each
STRENGTH, TEMPERATURE = 0.5, 0.2  # as in augmentation=simclr and objective=simclr


def page(encoder: str, batch: int, steps: int, rounds: int, folder: str) -> DictConfig:
    """The page of a run on `steps` batches of embedded shapes an epoch."""
    overrides = [
        f"encoder={encoder}",
        "augmentation=simclr",
        f"objective.temperature={TEMPERATURE}",
        f"data.batch_size={batch}",
        f"data.sets.train={batch * steps}",
        "data.sets.test=64",
        "data.val_fraction=0",
        f"trainer.max_epochs={rounds + 1}",
        "trainer.accelerator=cpu",
        "trainer.devices=1",
        f"run_dir={folder}",
    ]
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        return compose("train", overrides)


class Clocks:
    """Seconds of CPU and of wall time of each contestant, one number a round."""

    def __init__(self) -> None:
        self.seconds: dict[str, dict[str, list[float]]] = {}

    def start(self) -> None:
        self.cpu, self.wall = time.process_time(), time.perf_counter()

    def stop(self, name: str) -> None:
        cpu, wall = time.process_time() - self.cpu, time.perf_counter() - self.wall
        each = self.seconds.setdefault(name, {"cpu": [], "wall": []})
        each["cpu"].append(cpu)
        each["wall"].append(wall)


class Turns(pl.Callback):
    """Lets the other contestants run an epoch between two epochs of the Trainer, whose clock stands still then.

    A turn of the Trainer lasts from one start of an epoch to the next: all its bookkeeping is inside.
    """

    def __init__(self, others: dict[str, Callable[[], None]], clocks: Clocks) -> None:
        self.others, self.clocks = others, clocks

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch > 0:
            self.clocks.stop("ssl_mi")
        for name, epoch in self.others.items():
            self.clocks.start()
            epoch()
            self.clocks.stop(name)
        self.clocks.start()

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.clocks.stop("ssl_mi")


def loop(
    cfg: DictConfig, steps: int, batches: Callable[[], Iterator[list[Tensor]]], loss: Callable | None = None
) -> Callable[[], None]:
    """A training loop by hand over the page's network, optimiser and schedule; a call is an epoch.

    batches: makes the iterator of an epoch, whose items are lists of views. loss: of the two views'
    embeddings; None for the page's objective.
    """
    torch.manual_seed(cfg.seed)
    module = build(cfg, "module")
    optimizer = module.make_optimizer(parameter_groups(module.towers))
    schedule = module.make_schedule(optimizer, total_steps=cfg.trainer.max_epochs * steps, steps_per_epoch=steps)
    module.train()

    def epoch() -> None:
        for views in batches():
            z = module.towers(views).z
            value = module.objective(z, z).total if loss is None else loss(*z)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            schedule.step()

    return epoch


def batched(data) -> Callable[[], Iterator[list[Tensor]]]:
    """Our augmentation, whole batches at a time."""
    loader, epochs = data.train_dataloader(), count()

    def batches() -> Iterator[list[Tensor]]:
        loader.sampler.set_epoch(next(epochs))
        for source in loader:
            yield data.augmentation(source, data.seed)

    return batches


def per_image(data, transforms: list[Callable]) -> Callable[[], Iterator[list[Tensor]]]:
    """One image at a time through one transform a view."""
    pictures = [to_pil_image(image) for image in data.train.images.pixels]

    def batches() -> Iterator[list[Tensor]]:
        for rows in torch.randperm(len(pictures)).split(data.batch_size):
            some = [pictures[i] for i in rows]
            yield [torch.stack([transform(picture) for picture in some]) for transform in transforms]

    return batches


def torchvision_stack(data) -> Callable:
    jitter = v1.ColorJitter(0.8 * STRENGTH, 0.8 * STRENGTH, 0.8 * STRENGTH, 0.2 * STRENGTH)
    return v1.Compose(
        [
            v1.RandomResizedCrop(data.size),
            v1.RandomHorizontalFlip(),
            v1.RandomApply([jitter], p=0.8),
            v1.RandomGrayscale(0.2),
            v1.ToTensor(),
            v1.Normalize(data.mean, data.std),
        ]
    )


def nt_xent(x: Tensor, y: Tensor) -> Tensor:
    """Row i of [x; y] must find its partner among all rows but itself."""
    n = len(x)
    z = normalize(torch.cat([x, y]), dim=1)
    scores = (z @ z.T / TEMPERATURE).fill_diagonal_(-math.inf)
    return cross_entropy(scores, torch.arange(2 * n).roll(n))


def measure(encoder: str, batch: int, steps: int, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Seconds per epoch of each contestant; the first epoch is for warming up and left out."""
    with tempfile.TemporaryDirectory() as folder:
        cfg = page(encoder, batch, steps, rounds, folder)
        start(cfg)
        data = build(cfg, "data")
        data.setup("fit")
        others = {
            "bare loop": loop(cfg, steps, batched(data)),
            "torchvision loop": loop(cfg, steps, per_image(data, [torchvision_stack(data)] * 2), nt_xent),
        }
        try:
            from lightly.loss import NTXentLoss
            from lightly.transforms import SimCLRViewTransform
        except ImportError:
            pass
        else:
            stack = SimCLRViewTransform(
                input_size=data.size,
                cj_strength=STRENGTH,
                gaussian_blur=0.0,
                normalize={"mean": data.mean, "std": data.std},
            )
            others["lightly parts"] = loop(cfg, steps, per_image(data, [stack] * 2), NTXentLoss(TEMPERATURE))
        clocks = Clocks()
        torch.manual_seed(cfg.seed)
        module = build(cfg, "module")
        trainer = pl.Trainer(
            **{k: v for k, v in cfg.trainer.items() if k != "_target_"},
            callbacks=[History(), Turns(others, clocks)],
            logger=build(cfg, "logger"),
            enable_checkpointing=False,
            enable_progress_bar=False,
        )
        trainer.fit(module, data)
    return {name: {clock: each[clock][1:] for clock in each} for name, each in clocks.seconds.items()}


def added(seconds: dict[str, dict[str, list[float]]]) -> float:
    """CPU seconds of a round that the bare loop does not need."""
    return statistics.median(a - b for a, b in zip(*(seconds[n]["cpu"] for n in ("ssl_mi", "bare loop")), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--encoders", nargs="+", default=["convnet", "resnet18"], help="names in conf/encoder")
    parser.add_argument("--batch", type=int, help="images a step; 256 for convnet, 16 for resnet18, else 64")
    parser.add_argument("--steps", type=int, help="a round and contestant; 4 for convnet, 1 for resnet18, else 2")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1, help="with several, CPU time counts their waiting too")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()

    warnings.filterwarnings("ignore", ".*number of training batches.*smaller than the logging interval.*")
    torch.set_num_threads(options.threads)
    result = {
        "machine": f"{platform.machine()}, torch {torch.__version__}, {options.threads} threads",
        "setting": {"rounds": options.rounds},
        "images_per_second": {},
    }
    for encoder in options.encoders:
        batch, steps = DEFAULTS.get(encoder, (64, 2))
        batch, steps = options.batch or batch, options.steps or steps
        seconds = measure(encoder, batch, steps, options.rounds)
        print(f"\n{encoder}, {batch} images a step, {options.threads} threads")
        print(f"{'':18}{'images/CPU s':>13}{'min':>8}{'max':>8}{'images/s':>10}{'ours is':>10}{'min':>7}{'max':>7}")
        result["images_per_second"][encoder] = {"batch": batch, "steps": steps}
        for name in sorted(seconds, key=lambda name: name != "ssl_mi"):
            images = batch * steps
            cpu, wall = ([images / s for s in seconds[name][clock]] for clock in ("cpu", "wall"))
            ratios = [a / b for a, b in zip(seconds[name]["cpu"], seconds["ssl_mi"]["cpu"], strict=True)]
            figures = {
                "cpu": statistics.median(cpu),
                "cpu_min": min(cpu),
                "cpu_max": max(cpu),
                "wall": statistics.median(wall),
                "ours_over_this": statistics.median(ratios),
                "ours_over_this_min": min(ratios),
                "ours_over_this_max": max(ratios),
            }
            result["images_per_second"][encoder][name] = figures
            line = "{cpu:13.1f}{cpu_min:8.1f}{cpu_max:8.1f}{wall:10.1f}{ours_over_this:9.2f}x"
            print(f"{name:18}" + (line + "{ours_over_this_min:7.2f}{ours_over_this_max:7.2f}").format(**figures))
        cost = [100 * (a / b - 1) for a, b in zip(*(seconds[n]["cpu"] for n in ("ssl_mi", "bare loop")), strict=True)]
        print(
            f"Lightning and we cost {statistics.median(cost):.1f}% over the bare loop "
            f"({min(cost):.1f} to {max(cost):.1f}), {1e3 * added(seconds) / steps:.1f} ms a step",
            flush=True,
        )
        result["images_per_second"][encoder]["cost_over_bare_loop_percent"] = statistics.median(cost)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
