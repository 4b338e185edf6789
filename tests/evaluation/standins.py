"""Small stand-ins: data whose views have known information, and a run of seconds on noise images."""

import logging
import math
from types import SimpleNamespace

import pytorch_lightning as pl
import torch
from torch import nn

from ssl_mi.data.batch import Batch, Source
from ssl_mi.data.images.augmentations import Augmentation, HorizontalFlip, RandomResizedCrop, View
from ssl_mi.data.images.module import ImageData
from ssl_mi.data.module import SPLITS
from ssl_mi.data.sets import ImageSet, Sets
from ssl_mi.evaluation.context import EvaluationContext
from ssl_mi.information.variational.bounds import InfoNCE
from ssl_mi.information.variational.critics import Cosine
from ssl_mi.joint_embedding import JointEmbedding
from ssl_mi.networks.towers import Embeddings, Siamese
from ssl_mi.objectives.infomax import Infomax
from ssl_mi.objectives.negatives import OtherSamples

logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)


class Split:
    """The labels and factors of a split, without its images."""

    class_names = ("a", "b", "c")

    def __init__(self, n, labels=None, factors=None):
        self.n, self.labels, self.factors = n, labels, factors or {}

    def __len__(self):
        return self.n


class GaussianViews:
    """Images whose two views are Gaussian vectors with correlations rho, one a column, and columns of noise beside.

    I(x; y) = -1/2 sum log(1 - rho^2). `noise` columns a side, of standard deviation `spread`. clean: split -> [n, d],
    what stands for the images themselves. `drawn` keeps (split, index) of all views that were asked for.
    """

    batch_size = 100
    known = None

    def __init__(self, rho=(0.8, 0.5), noise=0, spread=1.0, n=600, clean=None, labels=None, factors=None, seed=0):
        self.rho, self.noise, self.spread, self.seed = rho, noise, spread, seed
        self.n = {"train": n, "labelled": n, "val": n, "test": n}
        self.clean_images = clean or {}
        for name in self.n:
            split = Split(n, (labels or {}).get(name), (factors or {}).get(name))
            setattr(self, name, split)
        self.drawn = []

    @property
    def truth(self):
        return sum(-0.5 * math.log(1 - r * r) for r in self.rho)

    def batches(self, split, limit=None, batch_size=128, shard=(0, 1)):
        rows = torch.arange(min(self.n[split], limit or self.n[split])).tensor_split(shard[1])[shard[0]]
        clean, of = self.clean_images.get(split), getattr(self, split)
        for some in rows.split(batch_size) if len(rows) else ():
            labels = None if of.labels is None else of.labels[some]
            yield Source(torch.zeros(len(some), 1) if clean is None else clean[some], some, labels, SPLITS[split], -1)

    def views(self, source, draw):
        split = next(name for name, number in SPLITS.items() if number == source.split)
        self.drawn.append((split, source.index))
        generator = torch.Generator().manual_seed(1000 * self.seed + 100 * source.split + draw)
        n, d, m = self.n[split], len(self.rho), self.noise
        x, e, u, v = torch.randn(n, 2 * d + 2 * m, generator=generator).split([d, d, m, m], 1)
        rho = torch.tensor(self.rho)
        y = rho * x + (1 - rho**2).sqrt() * e
        views = [torch.cat([x, self.spread * u], 1), torch.cat([y, self.spread * v], 1)]
        return Batch([view[source.index] for view in views], source.index, source.labels)

    def clean_views(self, source):
        return [source.images, source.images]


class Identity(nn.Module):
    """Towers that see what is there: h = z = the view, each through `change`."""

    def __init__(self, change=None):
        super().__init__()
        self.change = change or (lambda x: x)

    def encode(self, views):
        return self.change(views[0])

    def forward(self, views):
        seen = [self.change(view) for view in views]
        return Embeddings(seen, seen)


class Observer(nn.Module):
    """A module that only looks: identity towers and an InfoNCE objective."""

    device = torch.device("cpu")

    def __init__(self, change=None, temperature=1.0):
        super().__init__()
        self.towers = Identity(change)
        self.objective = Infomax(2, Cosine(temperature), InfoNCE(), OtherSamples(), "infonce")


def bench(data, split="test", epoch=1, encoder="trained", change=None):
    return EvaluationContext(Observer(change), data, split, epoch, encoder)


def rows_of(evaluation, at):
    """metric -> row, as `Evaluate` would get them."""
    evaluation.embed(at)
    return {row.metric: row for row in evaluation.compute(at)}


# A run


def images(n, seed, labels=True):
    """Noise images 8 x 8 whose brightness tells their class."""
    generator = torch.Generator().manual_seed(seed)
    classes = torch.arange(n) % 3
    pixels = torch.randint(0, 100, (n, 3, 8, 8), generator=generator) + 60 * classes[:, None, None, None]
    pixels = pixels.to(torch.uint8)
    return ImageSet("noise", pixels, classes, ("a", "b", "c")) if labels else ImageSet("noise", pixels)


def image_data(train=160, test=60, labels=True, val_fraction=0.5, seed=3):
    sets = Sets(images(train, 0, labels), images(test, 1, labels) if test else None)
    size, mean, std = 8, [0.5, 0.5, 0.5], [0.2, 0.2, 0.2]
    views = [View([RandomResizedCrop(size, scale=(0.5, 1.0)), HorizontalFlip(0.5)], count=2)]
    data = ImageData(
        SimpleNamespace(load=lambda: sets), Augmentation(views, size, mean, std), 16, size, mean, std, val_fraction
    )
    data.seed = seed
    return data


class Encoder(nn.Sequential):
    """Has all that an evaluation could disturb: weights, running statistics, dropout."""

    out_dim = 6

    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(192, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 6))


def joint_embedding(seed=0):
    torch.manual_seed(seed)
    return JointEmbedding(
        Siamese(Encoder()),
        lambda dim: Infomax(dim, Cosine(0.2), InfoNCE(), OtherSamples(), "infonce"),
        lambda groups: torch.optim.SGD(groups, lr=0.05),
        seed=seed,
    )


def fit(module, data, callbacks, epochs=2, ckpt_path=None, **options):
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        devices=1,
        callbacks=list(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        **{"logger": False, "enable_checkpointing": False, "log_every_n_steps": 1, **options},
    )
    trainer.fit(module, data, ckpt_path=ckpt_path, weights_only=ckpt_path is not None)
    return trainer
