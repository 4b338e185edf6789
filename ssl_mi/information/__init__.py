"""Mutual information of paired samples: estimators, bounds, and what their numbers are worth.

Knows no images, no training and no configuration. Names are imported on first use; those of nearest neighbours, of
counts and of closed forms do not import torch.

    mutual_information(x, y)      the default: chooses, and reports what it chose
    ksg(x, y), mine(x, y), ...    an estimator by name; all return an `Estimate`, in nats
    with_uncertainty(ksg, x, y)   any estimator with an interval and a permutation test around it
    bounds, critics               variational bounds and critics, for training as for estimating
    projections                   PCA, CCA, ... : to few dimensions, fitted on some rows, applied to others
    distributions, inference      samplers whose mutual information is known; uncertainty of any estimator
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ssl_mi.information.core import lazy

if TYPE_CHECKING:
    from ssl_mi.information import distributions, inference, projections
    from ssl_mi.information.core.caution import Caution
    from ssl_mi.information.core.estimate import Estimate
    from ssl_mi.information.estimators.auto.pipeline import mutual_information
    from ssl_mi.information.estimators.conditional import conditional_mutual_information
    from ssl_mi.information.estimators.discrete import (
        discrete_conditional_entropy,
        discrete_conditional_mi,
        discrete_entropy,
        discrete_mi,
        entropy,
        nsb_entropy,
    )
    from ssl_mi.information.estimators.gaussian import cca_mi, copula_mi, gaussian_mi, rank_gaussianize
    from ssl_mi.information.estimators.ksg import (
        conditional_ksg,
        differential_entropy,
        ksg,
        mixed_ksg_gao,
        mixed_ksg_ross,
        pointwise_mi,
    )
    from ssl_mi.information.estimators.lnc import lnc
    from ssl_mi.information.estimators.series import lagged_mutual_information, transfer_entropy
    from ssl_mi.information.estimators.several import interaction_information, total_correlation
    from ssl_mi.information.estimators.sliced import sliced_mi
    from ssl_mi.information.feature_selection import (
        MutualInformationSelector,
        mutual_info_classif,
        mutual_info_regression,
    )
    from ssl_mi.information.inference.axioms import all_checks
    from ssl_mi.information.inference.permutation import with_permutation_test
    from ssl_mi.information.inference.subsampling import with_interval
    from ssl_mi.information.inference.uncertainty import with_uncertainty
    from ssl_mi.information.matrix import MIMatrix, mi_matrix
    from ssl_mi.information.variational import bounds, critics
    from ssl_mi.information.variational.bound_estimators import dv, infonce, interpolated, js, mine, nwj, smile, tuba
    from ssl_mi.information.variational.densities import Mixture
    from ssl_mi.information.variational.flow import flow_mi
    from ssl_mi.information.variational.neural import neural_mi
    from ssl_mi.information.variational.pointwise import pointwise_neural_mi
    from ssl_mi.information.variational.splits import Split
    from ssl_mi.information.variational.training import Training
    from ssl_mi.information.variational.upper_bounds import club, difference_of_entropies, leave_one_out

__all__ = [  # noqa: RUF022 - grouped
    # what an estimator returns
    "Estimate",
    "Caution",
    # the default
    "mutual_information",
    "conditional_mutual_information",
    # series, and more than two variables
    "lagged_mutual_information",
    "transfer_entropy",
    "total_correlation",
    "interaction_information",
    # tables: every pair of columns, every feature with a target
    "mi_matrix",
    "MIMatrix",
    "mutual_info_regression",
    "mutual_info_classif",
    "MutualInformationSelector",
    # nearest neighbours
    "ksg",
    "lnc",
    "mixed_ksg_ross",
    "mixed_ksg_gao",
    "conditional_ksg",
    "pointwise_mi",
    "differential_entropy",
    "sliced_mi",
    # closed forms
    "cca_mi",
    "copula_mi",
    "gaussian_mi",
    "rank_gaussianize",
    # counts
    "discrete_mi",
    "discrete_conditional_mi",
    "discrete_entropy",
    "discrete_conditional_entropy",
    "entropy",
    "nsb_entropy",
    # variational bounds with a learned critic
    "neural_mi",
    "pointwise_neural_mi",
    "Split",
    "Training",
    "Mixture",
    "infonce",
    "dv",
    "mine",
    "nwj",
    "tuba",
    "interpolated",
    "js",
    "smile",
    # learned densities
    "flow_mi",
    "difference_of_entropies",
    "club",
    "leave_one_out",
    # around any estimator
    "with_uncertainty",
    "with_interval",
    "with_permutation_test",
    "all_checks",
    # sub-modules
    "bounds",
    "critics",
    "projections",
    "distributions",
    "inference",
]

__getattr__, __dir__ = lazy.attach(
    __name__,
    {
        "core.caution": ("Caution",),
        "core.estimate": ("Estimate",),
        "estimators.auto.pipeline": ("mutual_information",),
        "estimators.conditional": ("conditional_mutual_information",),
        "estimators.discrete": (
            "discrete_conditional_entropy",
            "discrete_conditional_mi",
            "discrete_entropy",
            "discrete_mi",
            "entropy",
            "nsb_entropy",
        ),
        "estimators.gaussian": ("cca_mi", "copula_mi", "gaussian_mi", "rank_gaussianize"),
        "estimators.ksg": (
            "conditional_ksg",
            "differential_entropy",
            "ksg",
            "mixed_ksg_gao",
            "mixed_ksg_ross",
            "pointwise_mi",
        ),
        "estimators.lnc": ("lnc",),
        "estimators.series": ("lagged_mutual_information", "transfer_entropy"),
        "estimators.several": ("interaction_information", "total_correlation"),
        "estimators.sliced": ("sliced_mi",),
        "feature_selection": ("MutualInformationSelector", "mutual_info_classif", "mutual_info_regression"),
        "matrix": ("MIMatrix", "mi_matrix"),
        "inference.axioms": ("all_checks",),
        "inference.permutation": ("with_permutation_test",),
        "inference.subsampling": ("with_interval",),
        "inference.uncertainty": ("with_uncertainty",),
        "variational.densities": ("Mixture",),
        "variational.flow": ("flow_mi",),
        "variational.bound_estimators": ("dv", "infonce", "interpolated", "js", "mine", "nwj", "smile", "tuba"),
        "variational.neural": ("neural_mi",),
        "variational.pointwise": ("pointwise_neural_mi",),
        "variational.splits": ("Split",),
        "variational.training": ("Training",),
        "variational.upper_bounds": ("club", "difference_of_entropies", "leave_one_out"),
    },
    {
        "bounds": "variational.bounds",
        "critics": "variational.critics",
        "distributions": "distributions",
        "inference": "inference",
        "projections": "projections",
    },
)
