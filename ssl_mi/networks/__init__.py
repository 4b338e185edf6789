"""Networks: encoders and projectors, towers that put views through them, and the EMA teacher."""

from ssl_mi.networks.coupling import CouplingEncoder
from ssl_mi.networks.dense import DenseHeads
from ssl_mi.networks.encoders import ConvNet, MLPEncoder, ResNet, TorchvisionEncoder
from ssl_mi.networks.heads import MLP, LocalHeads, PrototypeHead
from ssl_mi.networks.measured import measured
from ssl_mi.networks.series import ConvNet1d
from ssl_mi.networks.table import TableMLP
from ssl_mi.networks.teacher import EMA
from ssl_mi.networks.text import TextEncoder
from ssl_mi.networks.timm import TimmEncoder
from ssl_mi.networks.towers import Embeddings, Independent, Siamese, Tower
from ssl_mi.networks.transformers import TransformersEncoder
from ssl_mi.networks.vit import ViT
from ssl_mi.networks.weights import start_from

__all__ = [  # noqa: RUF022 - grouped
    # encoders
    "ConvNet",
    "ConvNet1d",
    "CouplingEncoder",
    "MLPEncoder",
    "ResNet",
    "TableMLP",
    "TextEncoder",
    "TimmEncoder",
    "TransformersEncoder",
    "TorchvisionEncoder",
    "ViT",
    "measured",
    "start_from",
    # heads
    "DenseHeads",
    "LocalHeads",
    "MLP",
    "PrototypeHead",
    # towers
    "EMA",
    "Embeddings",
    "Independent",
    "Siamese",
    "Tower",
]
