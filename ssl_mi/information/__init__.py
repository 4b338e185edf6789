"""Mutual information: estimators that say how far they can be trusted. Knows no images and no training."""

from ssl_mi.information.discrete import conditional_entropy, entropy
from ssl_mi.information.estimate import Estimate
from ssl_mi.information.gaussian import cca_mi, copula_mi, gaussian_mi, rank_gaussianize
from ssl_mi.information.knn import entropy_kl, ksg, mixed_ksg_gao, mixed_ksg_ross, pointwise_mi
from ssl_mi.information.projections import CCA, PCA, Random
from ssl_mi.information.trust import assess, with_interval, with_null

__all__ = [
    "CCA",
    "PCA",
    "Estimate",
    "Random",
    "assess",
    "cca_mi",
    "conditional_entropy",
    "copula_mi",
    "entropy",
    "entropy_kl",
    "gaussian_mi",
    "ksg",
    "mixed_ksg_gao",
    "mixed_ksg_ross",
    "pointwise_mi",
    "rank_gaussianize",
    "with_interval",
    "with_null",
]
