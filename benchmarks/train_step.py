"""Images per second of the whole SimCLR step: augment, forward, loss, backward, optimiser.

    OMP_NUM_THREADS=1 python benchmarks/train_step.py [--encoders convnet resnet18] [--rounds 5] [--json FILE]

    ssl_mi            as a user runs it: the page's data, module and History under a pl.Trainer with a CSV log;
                      no evaluation, no checkpoint
    bare loop         the same parts (our batched augmentation too) in a loop written by hand
    torchvision loop  a loop written by hand: torchvision's transforms on PIL images one by one, the same network,
                      optimiser and schedule, NT-Xent as cross-entropy
    lightly           lightly's transform, loss and training step in a LightningModule under a pl.Trainer, as its
                      documentation has it, on the same network; where it is installed

ssl_mi beside the bare loop is what Lightning and we cost together; the other ratio is what the user gains. All take
the same images and batch. A round is an epoch of `--steps` steps of each, in turn in one process, so that a busy
neighbour slows everybody alike; ratios are medians over rounds of the ratio within a round. CPU time is the figure to
compare: wall time has the neighbours in it.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torchvision.transforms as v1
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from pytorch_lightning.loggers import CSVLogger
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize
from torchvision.transforms.functional import to_pil_image

import ssl_mi.app.data_choice  # noqa: F401  (names the resolvers of the page)
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

    def __init__(self, others: dict[str, Callable[[], dict[str, float] | None]], clocks: Clocks) -> None:
        self.others, self.clocks = others, clocks

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch > 0:
            self.clocks.stop("ssl_mi")
        for name, epoch in self.others.items():
            self.clocks.start()
            seconds = epoch()
            self.clocks.stop(name)
            if seconds is not None:  # of the epoch alone, without what a Trainer does before it
                for clock, value in seconds.items():
                    self.clocks.seconds[name][clock][-1] = value
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


class EpochClock(pl.Callback):
    """Seconds of the epochs of a Trainer, from the start of one to its end."""

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.cpu, self.wall = time.process_time(), time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.seconds = {"cpu": time.process_time() - self.cpu, "wall": time.perf_counter() - self.wall}


class LightlySimCLR(pl.LightningModule):
    """The module of lightly's SimCLR example, on a given network."""

    def __init__(self, towers: torch.nn.Module, optimizer: Callable, loss: torch.nn.Module) -> None:
        super().__init__()
        self.towers, self.make_optimizer, self.criterion = towers, optimizer, loss

    def training_step(self, batch: list, batch_idx: int) -> Tensor:
        (x0, x1), _ = batch
        loss = self.criterion(self.towers.tower(x0)[1], self.towers.tower(x1)[1])
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.make_optimizer(parameter_groups(self.towers))


class Pictures(torch.utils.data.Dataset):
    """PIL images through a transform that makes two views."""

    def __init__(self, pictures: list, transform: Callable) -> None:
        self.pictures, self.transform = pictures, transform

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple:
        return self.transform(self.pictures[index]), 0


def lightly_in_lightning(cfg: DictConfig, data, folder: str) -> Callable[[], dict[str, float]]:
    """A call is an epoch of lightly's module under a Trainer of its own."""
    from lightly.loss import NTXentLoss
    from lightly.transforms import SimCLRTransform

    torch.manual_seed(cfg.seed)
    module = build(cfg, "module")
    model = LightlySimCLR(module.towers, module.make_optimizer, NTXentLoss(TEMPERATURE))
    stack = SimCLRTransform(
        input_size=data.size, cj_strength=STRENGTH, gaussian_blur=0.0, normalize={"mean": data.mean, "std": data.std}
    )
    pictures = Pictures([to_pil_image(image) for image in data.train.images.pixels], stack)
    loader = torch.utils.data.DataLoader(pictures, batch_size=data.batch_size, shuffle=True, drop_last=True)

    def epoch() -> dict[str, float]:
        clock = EpochClock()
        trainer = pl.Trainer(
            max_epochs=1,
            accelerator="cpu",
            devices=1,
            callbacks=[clock],
            logger=CSVLogger(folder, name="lightly"),
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(model, loader)
        return clock.seconds

    return epoch


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
        if importlib.util.find_spec("lightly") is not None:
            others["lightly"] = lightly_in_lightning(cfg, data, folder)
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


def main(
    encoders: tuple[str, ...] = ("convnet", "resnet18"),
    batch: int | None = None,
    steps: int | None = None,
    rounds: int = 7,
    threads: int = 1,
) -> list[dict[str, Any]]:
    """One row for each encoder and contestant.

    Args:
        encoders: Names in conf/encoder.
        batch: Images a step; None for 256 of convnet, 16 of resnet18, else 64.
        steps: A round and contestant; None for 4 of convnet, 1 of resnet18, else 2.
        rounds: Epochs of each; ratios are medians of them.
        threads: With several, CPU time counts their waiting too.

    Returns:
        `work`, `size`, `ours` and `peer` in CPU seconds a step, `ratio` = peer / ours, its `low` and `high`.
    """
    for message in (".*number of training batches.*", ".*does not have many workers.*"):
        warnings.filterwarnings("ignore", message)
    torch.set_num_threads(threads)
    table = []
    for encoder in encoders:
        images, count = DEFAULTS.get(encoder, (64, 2))
        images, count = batch or images, steps or count
        seconds = measure(encoder, images, count, rounds)
        own = seconds["ssl_mi"]["cpu"]
        for name in [name for name in seconds if name != "ssl_mi"]:
            ratios = [b / a for a, b in zip(own, seconds[name]["cpu"], strict=True)]
            table.append(
                {
                    "work": f"SimCLR step, {encoder}, beside {name}",
                    "size": f"{images} images",
                    "ours": statistics.median(own) / count,
                    "peer": statistics.median(seconds[name]["cpu"]) / count,
                    "ratio": statistics.median(ratios),
                    "low": min(ratios),
                    "high": max(ratios),
                }
            )
    return table


def show(table: list[dict[str, Any]]) -> None:
    """Print the rows."""
    print(f"{'work':50}{'size':>12}{'ours s':>9}{'peer s':>9}{'ratio':>8}{'low':>7}{'high':>7}")
    for row in table:
        print("{work:50}{size:>12}{ours:9.3f}{peer:9.3f}{ratio:7.2f}x{low:7.2f}{high:7.2f}".format(**row))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--encoders", nargs="+", default=["convnet", "resnet18"], help="names in conf/encoder")
    parser.add_argument("--batch", type=int, help="images a step; 256 for convnet, 16 for resnet18, else 64")
    parser.add_argument("--steps", type=int, help="a round and contestant; 4 for convnet, 1 for resnet18, else 2")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1, help="with several, CPU time counts their waiting too")
    parser.add_argument("--json", type=Path, help="write the rows here")
    options = parser.parse_args()
    found = main(tuple(options.encoders), options.batch, options.steps, options.rounds, options.threads)
    show(found)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
