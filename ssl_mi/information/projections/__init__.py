"""Projections of two variables to few dimensions, fitted on some rows and applied to others."""

from ssl_mi.information.projections.linear import CCA, PCA, Linear, Random
from ssl_mi.information.projections.neural import Learned

__all__ = ["CCA", "PCA", "Learned", "Linear", "Random"]
