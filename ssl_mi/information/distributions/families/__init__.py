"""Samplers that carry their exact mutual information, in nats.

An estimator is believed when it finds a number that was known before. Each distribution here is a pair of
random variables (X, Y) with

    .sample(n, rng) -> (x [n, dim_x], y [n, dim_y])   float64, drawn with the numpy Generator `rng`
    .mi                                               I(X; Y) in nats, exact
    .pointwise(x, y) -> [n]                           log p(x, y) / (p(x) p(y)), whose mean is I(X; Y)

`pointwise` is the optimal critic of every variational bound (up to the constant that the bound asks for) and
an independent route to `mi`. MI does not change under invertible maps of X alone or of Y alone, so
`transforms.Transformed` and `transforms.Embedded` make hard distributions out of these easy ones, and
`Product` adds independent pairs up.

Bad parameters raise ValueError with the name and the value.
"""

from ssl_mi.information.distributions.families.base import Distribution, Product
from ssl_mi.information.distributions.families.channel import NoisyCurve
from ssl_mi.information.distributions.families.copula import Clayton
from ssl_mi.information.distributions.families.counts import (
    GammaPoisson,
    Independent,
    LabelledClusters,
    Rectified,
    SharedPoisson,
)
from ssl_mi.information.distributions.families.discrete import SymmetricChannel, binary_symmetric_channel
from ssl_mi.information.distributions.families.gaussian import (
    Gaussian,
    additive_gaussian,
    correlated_gaussian,
    dense_gaussian,
    gaussian_with_mi,
    sparse_gaussian,
)
from ssl_mi.information.distributions.families.mixed import BernoulliGaussian, GaoMixed, ZeroInflatedPoisson
from ssl_mi.information.distributions.families.mixture import (
    GaussianMixture,
    clusters,
    crossing_lines,
    digits,
    random_clusters,
)
from ssl_mi.information.distributions.families.noise import (
    AdditiveUniform,
    MultiplicativeLogNormal,
    MultiplicativeUniform,
)
from ssl_mi.information.distributions.families.signs import Parity
from ssl_mi.information.distributions.families.sphere import PhasePair, VonMisesFisher
from ssl_mi.information.distributions.families.student import StudentT, student_t

__all__ = [
    "AdditiveUniform",
    "BernoulliGaussian",
    "Clayton",
    "Distribution",
    "GammaPoisson",
    "GaoMixed",
    "Gaussian",
    "GaussianMixture",
    "Independent",
    "LabelledClusters",
    "MultiplicativeLogNormal",
    "MultiplicativeUniform",
    "NoisyCurve",
    "Parity",
    "PhasePair",
    "Product",
    "Rectified",
    "SharedPoisson",
    "StudentT",
    "SymmetricChannel",
    "VonMisesFisher",
    "ZeroInflatedPoisson",
    "additive_gaussian",
    "binary_symmetric_channel",
    "clusters",
    "correlated_gaussian",
    "crossing_lines",
    "dense_gaussian",
    "digits",
    "gaussian_with_mi",
    "random_clusters",
    "sparse_gaussian",
    "student_t",
]
