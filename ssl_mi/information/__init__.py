"""Mutual information: estimators that say how far they can be trusted. Knows no images and no training."""

from ssl_mi.information.core.estimate import Estimate
from ssl_mi.information.estimators.auto.pipeline import mutual_information
from ssl_mi.information.estimators.discrete import conditional_entropy, entropy
from ssl_mi.information.estimators.gaussian import cca_mi, copula_mi, gaussian_mi, rank_gaussianize
from ssl_mi.information.estimators.ksg import (
    conditional_ksg,
    entropy_kl,
    ksg,
    mixed_ksg_gao,
    mixed_ksg_ross,
    pointwise_mi,
)
from ssl_mi.information.estimators.lnc import lnc
from ssl_mi.information.estimators.sliced import sliced_mi
from ssl_mi.information.inference.axioms import all_checks
from ssl_mi.information.inference.uncertainty import assess, with_interval, with_null
from ssl_mi.information.projections.linear import CCA, PCA, Random
from ssl_mi.information.projections.neural import Learned
from ssl_mi.information.variational import bounds, critics
from ssl_mi.information.variational.flow import flow_mi
from ssl_mi.information.variational.neural import neural_mi
from ssl_mi.information.variational.upper_bounds import club, difference_of_entropies, leave_one_out

__all__ = [
    "CCA",
    "PCA",
    "Estimate",
    "Learned",
    "Random",
    "all_checks",
    "assess",
    "bounds",
    "cca_mi",
    "club",
    "conditional_entropy",
    "conditional_ksg",
    "copula_mi",
    "critics",
    "difference_of_entropies",
    "entropy",
    "entropy_kl",
    "flow_mi",
    "gaussian_mi",
    "ksg",
    "leave_one_out",
    "lnc",
    "mixed_ksg_gao",
    "mixed_ksg_ross",
    "mutual_information",
    "neural_mi",
    "pointwise_mi",
    "rank_gaussianize",
    "sliced_mi",
    "with_interval",
    "with_null",
]
