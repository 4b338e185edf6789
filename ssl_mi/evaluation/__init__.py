"""Evaluations: what is measured of an encoder, in a run or outside one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ssl_mi import _lazy

if TYPE_CHECKING:
    from ssl_mi.evaluation.capture_ratio import Capture
    from ssl_mi.evaluation.context import Evaluation, EvaluationContext, Plot
    from ssl_mi.evaluation.geometry import Geometry, alignment, effective_rank, uniformity
    from ssl_mi.evaluation.measurement import Measurement
    from ssl_mi.evaluation.mutual_information import MutualInformation
    from ssl_mi.evaluation.pictures import Pictures
    from ssl_mi.evaluation.probes import KNN, LinearProbe

__all__ = [  # noqa: RUF022 - grouped
    # evaluations
    "Capture",
    "Geometry",
    "KNN",
    "LinearProbe",
    "MutualInformation",
    "Pictures",
    # to write others
    "Evaluation",
    "EvaluationContext",
    "Measurement",
    "Plot",
    # functions of embeddings
    "alignment",
    "effective_rank",
    "uniformity",
]

__getattr__, __dir__ = _lazy.attach(
    __name__,
    {
        "capture_ratio": ("Capture",),
        "context": ("Evaluation", "EvaluationContext", "Plot"),
        "geometry": ("Geometry", "alignment", "effective_rank", "uniformity"),
        "measurement": ("Measurement",),
        "mutual_information": ("MutualInformation",),
        "pictures": ("Pictures",),
        "probes": ("KNN", "LinearProbe"),
    },
)
