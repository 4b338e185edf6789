"""Train encoders without labels, and measure in nats what two learned views share.

    ssl_mi.train("experiment=simclr_cifar")      a whole run: trained, evaluated, written to a folder
    ssl_mi.load("runs/simclr_cifar/...")         the trained encoder with its preprocessing: `.encode(folder)`
    ssl_mi.evaluate("resnet18", "photos")       any encoder, or features, judged as a run judges its own
    ssl_mi.JointEmbedding(towers, objective)     the LightningModule, for a Trainer of one's own
    ssl_mi.mutual_information(x, y)              an `Estimate` of I(X; Y) of two arrays, in nats

    ssl_mi.objectives    embeddings -> loss: SimCLR, MINE, BYOL, VICReg, ...
    ssl_mi.networks      encoders, projectors, towers, the EMA teacher
    ssl_mi.data          images, augmentations, views with known mutual information
    ssl_mi.information   estimators and bounds of mutual information
    ssl_mi.evaluation    what is measured of an encoder
    ssl_mi.callbacks     when it is measured during training
    ssl_mi.optim         LARS, schedules, parameter groups

Everything is imported on first use.
"""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING

from ssl_mi import _lazy

if TYPE_CHECKING:
    from ssl_mi import callbacks, data, evaluation, information, networks, objectives, optim
    from ssl_mi.app.api import train
    from ssl_mi.app.encoder import LoadedEncoder
    from ssl_mi.app.external import evaluate
    from ssl_mi.app.loading import load
    from ssl_mi.information import Estimate, mutual_information
    from ssl_mi.joint_embedding import JointEmbedding
    from ssl_mi.masked import MaskedAutoencoder
    from ssl_mi.masked_distillation import MaskedDistillation
    from ssl_mi.masked_siamese import MaskedSiamese

__all__ = [
    "Estimate",
    "JointEmbedding",
    "LoadedEncoder",
    "MaskedAutoencoder",
    "MaskedDistillation",
    "MaskedSiamese",
    "__version__",
    "callbacks",
    "data",
    "evaluate",
    "evaluation",
    "information",
    "load",
    "mutual_information",
    "networks",
    "objectives",
    "optim",
    "train",
]

try:
    __version__ = metadata.version("ssl_mi")
except metadata.PackageNotFoundError:  # a checkout that is on the path and not installed
    __version__ = "0+unknown"

__getattr__, __dir__ = _lazy.attach(
    __name__,
    {
        "app.api": ("train",),
        "app.encoder": ("LoadedEncoder",),
        "app.external": ("evaluate",),
        "app.loading": ("load",),
        "information": ("Estimate", "mutual_information"),
        "joint_embedding": ("JointEmbedding",),
        "masked": ("MaskedAutoencoder",),
        "masked_distillation": ("MaskedDistillation",),
        "masked_siamese": ("MaskedSiamese",),
    },
    ("callbacks", "data", "evaluation", "information", "networks", "objectives", "optim"),
)
