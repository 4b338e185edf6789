"""Mutual information: estimators that say how far they can be trusted. Knows no images and no training."""

from ssl_mi.information.automatic import mutual_information
from ssl_mi.information.consistency import all_checks
from ssl_mi.information.discrete import conditional_entropy, entropy
from ssl_mi.information.estimate import Estimate
from ssl_mi.information.gaussian import cca_mi, copula_mi, gaussian_mi, rank_gaussianize
from ssl_mi.information.knn import (
    conditional_ksg,
    entropy_kl,
    ksg,
    lnc,
    mixed_ksg_gao,
    mixed_ksg_ross,
    pointwise_mi,
    sliced_mi,
)
from ssl_mi.information.learned import Learned
from ssl_mi.information.projections import CCA, PCA, Random
from ssl_mi.information.trust import assess, with_interval, with_null

__all__ = [
    "CCA",
    "PCA",
    "Estimate",
    "Learned",
    "Random",
    "all_checks",
    "assess",
    "cca_mi",
    "conditional_entropy",
    "conditional_ksg",
    "copula_mi",
    "entropy",
    "entropy_kl",
    "gaussian_mi",
    "ksg",
    "lnc",
    "mixed_ksg_gao",
    "mixed_ksg_ross",
    "mutual_information",
    "pointwise_mi",
    "rank_gaussianize",
    "sliced_mi",
    "with_interval",
    "with_null",
]
