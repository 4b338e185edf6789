"""Objectives: the embeddings of two or more views -> a loss with named terms.

Classes have the names of their papers. `SimCLR(temperature=0.5)` can be given to `JointEmbedding` as it is; in a loop
of one's own, `objective([z1, z2]).total` is the loss, and objectives with parameters take the width: `MINE(dim=128)`.
"""

from ssl_mi.objectives.all4one import All4One
from ssl_mi.objectives.clustering import DINO, SwAV
from ssl_mi.objectives.combined import Sum
from ssl_mi.objectives.contrastive import DCL, AlignmentUniformity, SpectralContrastive, SupCon
from ssl_mi.objectives.covariance import MMCR, CodingRate, TiCo
from ssl_mi.objectives.data2vec import Data2Vec
from ssl_mi.objectives.deepcluster import DeepClusterV2
from ssl_mi.objectives.dense import DenseContrast
from ssl_mi.objectives.distillation import BYOL, SimSiam
from ssl_mi.objectives.frossl import FroSSL
from ssl_mi.objectives.ibot import IBOT, Hidden
from ssl_mi.objectives.ijepa import IJEPA, Blocks
from ssl_mi.objectives.infomax import Infomax
from ssl_mi.objectives.koleo import KoLeo
from ssl_mi.objectives.local import AMDIM, DeepInfoMaxLocal
from ssl_mi.objectives.masked import MaskedPixels
from ssl_mi.objectives.matched import LocalVICReg
from ssl_mi.objectives.msn import MSN
from ssl_mi.objectives.nearest import NearestTargets
from ssl_mi.objectives.negatives import Negatives, OtherSamples, OtherSamplesAndViews, OtherTargets, PastTargets
from ssl_mi.objectives.neighbours import NNCLR, ReSSL
from ssl_mi.objectives.objective import HeldOutBound, Loss, Objective, ordered_pairs, view_pairs
from ssl_mi.objectives.predictive_coding import CPC
from ssl_mi.objectives.predictor import Predictor
from ssl_mi.objectives.queue import Queue
from ssl_mi.objectives.redundancy import BarlowTwins, VIbCReg, VICReg
from ssl_mi.objectives.sigmoid import SigLIP
from ssl_mi.objectives.sigreg import LeJEPA
from ssl_mi.objectives.simmim import SimMIM
from ssl_mi.objectives.variational import (
    CLIP,
    CMC,
    MINE,
    NWJ,
    SMILE,
    DeepInfoMax,
    InfoNCE,
    MoCo,
    MoCoV3,
    SimCLR,
)
from ssl_mi.objectives.whitening import WMSE

__all__ = [  # noqa: RUF022 - grouped
    # bounds on mutual information
    "CLIP",
    "CMC",
    "CPC",
    "DeepInfoMax",
    "InfoNCE",
    "MINE",
    "MoCoV3",
    "NWJ",
    "SMILE",
    "SigLIP",
    "SimCLR",
    # bounds between a summary and the locations of a feature map
    "AMDIM",
    "DeepInfoMaxLocal",
    # contrastive, no bound
    "AlignmentUniformity",
    "DCL",
    "MoCo",
    "NNCLR",
    "ReSSL",
    "SpectralContrastive",
    "SupCon",
    # prediction
    "BYOL",
    "SimSiam",
    # clusters and prototypes
    "DINO",
    "DeepClusterV2",
    "SwAV",
    # second moments
    "BarlowTwins",
    "CodingRate",
    "LeJEPA",
    "MMCR",
    "FroSSL",
    "TiCo",
    "VICReg",
    "VIbCReg",
    "WMSE",
    # masked images
    "Blocks",
    "Data2Vec",
    "Hidden",
    "IBOT",
    "IJEPA",
    "MSN",
    "MaskedPixels",
    "SimMIM",
    # locations of maps, nearest neighbours
    "All4One",
    "DenseContrast",
    "LocalVICReg",
    "NearestTargets",
    # regularisers and sums
    "KoLeo",
    "Sum",
    # to build others from
    "Infomax",
    "Loss",
    "Negatives",
    "Objective",
    "OtherSamples",
    "OtherSamplesAndViews",
    "OtherTargets",
    "PastTargets",
    "Predictor",
    "Queue",
    "HeldOutBound",
    "ordered_pairs",
    "view_pairs",
]
