"""Evaluations: what is measured of an encoder, in a run or outside one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ssl_mi import _lazy

if TYPE_CHECKING:
    from ssl_mi.evaluation.anywhere import measure, measure_embeddings
    from ssl_mi.evaluation.capture_ratio import Capture
    from ssl_mi.evaluation.context import Evaluation, EvaluationContext, Plot
    from ssl_mi.evaluation.geometry import (
        Geometry,
        alignment,
        alpha_req,
        effective_rank,
        lidar,
        rankme,
        spectrum,
        uniformity,
    )
    from ssl_mi.evaluation.measurement import Measurement
    from ssl_mi.evaluation.mutual_information import MutualInformation
    from ssl_mi.evaluation.pictures import Pictures
    from ssl_mi.evaluation.probe_protocols import FewLabels, FineTuning, KNNSweep, RegressionProbe, SGDProbe
    from ssl_mi.evaluation.probes import KNN, LinearProbe
    from ssl_mi.evaluation.retrieval import Retrieval, ZeroShot, recall_at
    from ssl_mi.evaluation.view_information import PointwiseInformation, StrengthSweep, ViewFamilies, ViewGeometry

__all__ = [  # noqa: RUF022 - grouped
    # evaluations
    "Capture",
    "FewLabels",
    "FineTuning",
    "Geometry",
    "KNN",
    "KNNSweep",
    "LinearProbe",
    "MutualInformation",
    "Pictures",
    "PointwiseInformation",
    "RegressionProbe",
    "Retrieval",
    "SGDProbe",
    "StrengthSweep",
    "ViewFamilies",
    "ViewGeometry",
    "ZeroShot",
    # in a loop of one's own
    "measure",
    "measure_embeddings",
    # to write others
    "Evaluation",
    "EvaluationContext",
    "Measurement",
    "Plot",
    # functions of embeddings
    "alignment",
    "alpha_req",
    "effective_rank",
    "lidar",
    "rankme",
    "recall_at",
    "spectrum",
    "uniformity",
]

__getattr__, __dir__ = _lazy.attach(
    __name__,
    {
        "anywhere": ("measure", "measure_embeddings"),
        "capture_ratio": ("Capture",),
        "context": ("Evaluation", "EvaluationContext", "Plot"),
        "geometry": (
            "Geometry",
            "alignment",
            "alpha_req",
            "effective_rank",
            "lidar",
            "rankme",
            "spectrum",
            "uniformity",
        ),
        "measurement": ("Measurement",),
        "mutual_information": ("MutualInformation",),
        "pictures": ("Pictures",),
        "probe_protocols": ("FewLabels", "FineTuning", "KNNSweep", "RegressionProbe", "SGDProbe"),
        "probes": ("KNN", "LinearProbe"),
        "retrieval": ("Retrieval", "ZeroShot", "recall_at"),
        "view_information": ("PointwiseInformation", "StrengthSweep", "ViewFamilies", "ViewGeometry"),
    },
)
