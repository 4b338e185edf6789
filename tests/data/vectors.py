"""A source of float vectors: tables of numbers, whose views are the rows with noise and with columns masked.

All that data of another kind need stands in this file.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ssl_mi.data.draws import Draws
from ssl_mi.data.module import SPLITS, DataModule, evaluation_epoch
from ssl_mi.data.sets import SampleSet


class Vectors:
    """Samples in memory: float32 [N, d]."""

    def __init__(self, x: Tensor):
        if x.dtype != torch.float32 or x.ndim != 2 or not x.isfinite().all():
            raise ValueError(f"vectors must be finite float32 [N, d], not {x.dtype} {list(x.shape)}")
        self.x = x

    def __len__(self):
        return len(self.x)

    def take(self, rows):
        return Vectors(self.x[rows])


class VectorSource(NamedTuple):
    """A batch before augmentation."""

    x: Tensor
    index: Tensor
    labels: Tensor | None
    split: int
    epoch: int


class NoiseAndMask:
    """Two views: each column masked with chance p, then Gaussian noise."""

    def __init__(self, noise: float = 0.3, p: float = 0.2):
        self.noise, self.p = noise, p

    def __call__(self, source, seed):
        return [self._view(source, seed, view) for view in range(2)]

    def _view(self, source, seed, view):
        n, d = source.x.shape
        u = Draws(seed, source.split, source.epoch, source.index, view).uniform(3 * d).view(n, 3, d)
        normal = (-2 * (1 - u[:, 0]).log()).sqrt() * (2 * torch.pi * u[:, 1]).cos()  # Box and Muller
        return source.x * (u[:, 2] >= self.p) + self.noise * normal

    def describe(self):
        return f"2 x [mask {self.p:g} of the columns > noise of {self.noise:g}]"


class TrainVectors(torch.utils.data.Dataset):
    """Training rows by (epoch, rows)."""

    def __init__(self, samples):
        self.samples = samples

    def __getitem__(self, epoch_and_rows):
        epoch, rows = epoch_and_rows
        return VectorSource(self.samples.samples.x[rows], rows, self.samples.label_rows(rows), SPLITS["train"], epoch)


class VectorData(DataModule):
    """Three clusters in d dimensions, with the first coordinate as a factor."""

    kind = "rows"

    def __init__(self, train=256, val=128, test=128, d=10, batch_size=32, labels=True, seed=0):
        super().__init__(NoiseAndMask(), batch_size, seed)
        self.counts, self.d, self.with_labels = {"train": train, "val": val, "test": test}, d, labels

    def setup(self, stage=None):
        if self.train is None:
            self.train, self.val, self.test = (self._set(name, n) for name, n in self.counts.items())
            self.labelled = self.train

    def _set(self, split, n):
        rng = np.random.default_rng([self.seed, SPLITS[split]])
        labels = rng.integers(0, 3, n)
        x = 2 * np.eye(self.d)[labels] + rng.standard_normal((n, self.d))
        x = torch.from_numpy(x).float()
        known = (torch.from_numpy(labels), ("a", "b", "c")) if self.with_labels else (None, ())
        return SampleSet("clusters", Vectors(x), *known, factors={"first": x[:, 0].clone()})

    def dataset(self):
        return TrainVectors(self.train)

    def read(self, split, rows):
        samples = self._split(split)
        return VectorSource(samples.samples.x[rows], rows, samples.label_rows(rows), SPLITS[split], evaluation_epoch(0))

    def clean_views(self, source):
        return [source.x, source.x]


class MLP(nn.Sequential):
    """The encoder: [n, d] -> [n, out_dim]."""

    def __init__(self, d, width=16, out_dim=8):
        super().__init__(nn.Linear(d, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, out_dim))
        self.out_dim = out_dim
