"""Projections of two variables to few dimensions, fitted on some rows and applied to others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ssl_mi.information.core import lazy

if TYPE_CHECKING:
    from ssl_mi.information.projections.linear import CCA, PCA, FittedProjection, Linear, Projection, Random
    from ssl_mi.information.projections.neural import Learned

__all__ = ["CCA", "PCA", "FittedProjection", "Learned", "Linear", "Projection", "Random"]

__getattr__, __dir__ = lazy.attach(
    __name__,
    {"linear": ("CCA", "PCA", "FittedProjection", "Linear", "Projection", "Random"), "neural": ("Learned",)},
)
