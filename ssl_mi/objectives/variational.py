"""Variational bounds as objectives, under the names of their papers: thin compositions of `Infomax`.

Each class fixes critic, bound and negatives of one method, and has its defaults. `SimCLR(temperature=0.5)` can be given
to `JointEmbedding` as it is; in a loop of one's own, objectives with parameters take the width: `MINE(dim=128)`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from ssl_mi.information.variational import bounds
from ssl_mi.information.variational.critics import Concat, Cosine
from ssl_mi.objectives.infomax import Infomax
from ssl_mi.objectives.negatives import OtherSamples, OtherSamplesAndViews, OtherTargets, PastTargets
from ssl_mi.objectives.objective import renamed
from ssl_mi.objectives.predictor import Predictor

Critic = nn.Module | Callable[..., nn.Module]


class SimCLR(Infomax):
    """NT-Xent: cosine critic, InfoNCE, the other samples of both views as negatives.

        L_i = - log( exp <x_i, y_i>/t / sum over the 2N - 1 other embeddings z of exp <x_i, z>/t )

    on unit vectors, averaged over all rows of both views as in the paper; the authors' code adds up the means of the
    two views, which is twice as much. log(2N - 1) - loss is a lower bound on I(Z_X; Z_Y); it cannot exceed log(2N - 1),
    and stops near 1/t with spread-out negatives.

    Args:
        dim: Width of an embedding; only checked.
        temperature: t.

    Raises:
        ValueError: If `temperature` is below 0.01.

    References:
        Chen et al. 2020 (arXiv:2002.05709).

    Example:
        >>> import torch
        >>> from ssl_mi.objectives import SimCLR
        >>> z = torch.eye(4)  # four orthogonal embeddings; the two views are equal
        >>> round(float(SimCLR(temperature=0.5)([z, z]).total), 4)  # log(e^2 + 6) - 2
        0.5944
    """

    def __init__(self, dim: int | None = None, temperature: float = 0.2) -> None:
        super().__init__(dim, Cosine(temperature), bounds.InfoNCE(), OtherSamplesAndViews(), name="nt_xent")


class InfoNCE(Infomax):
    """InfoNCE with a bilinear critic, in both directions (contrastive predictive coding).

    log(N) - loss is a lower bound on I(Z_X; Z_Y) with the ceiling log(N). The scores need standardised embeddings: a
    projector with `final_norm="plain"`.

    Args:
        dim: Width of an embedding; None to build later.
        critic: A module, or what makes one from `dim_x` and `dim_y`; None for `Bilinear`.

    References:
        van den Oord et al. 2018 (arXiv:1807.03748).

    Example:
        >>> import torch
        >>> from ssl_mi.objectives import InfoNCE
        >>> objective = InfoNCE(dim=4)
        >>> z = [torch.randn(6, 4), torch.randn(6, 4)]
        >>> loss = objective(z)
        >>> list(loss.terms), loss.total.ndim
        (['infonce'], 0)
    """

    def __init__(self, dim: int | None = None, critic: Critic | None = None) -> None:
        super().__init__(dim, critic, bounds.InfoNCE(), OtherSamples(), name="infonce")


class CLIP(Infomax):
    """Symmetric InfoNCE with a cosine critic whose temperature is learned.

    log(N) - loss is a lower bound on I(Z_X; Z_Y); it cannot exceed log(N), nor 2/t.

    Args:
        dim: Width of an embedding; only checked.
        temperature: The initial t.

    Raises:
        ValueError: If `temperature` is below 0.01.

    References:
        Radford et al. 2021 (arXiv:2103.00020), figure 3.

    Example:
        >>> import torch
        >>> from ssl_mi.objectives import CLIP
        >>> z = torch.eye(4)  # four orthogonal embeddings; the two views are equal
        >>> round(float(CLIP(temperature=0.5)([z, z]).total.detach()), 4)  # log(e^2 + 3) - 2
        0.3408
    """

    def __init__(self, dim: int | None = None, temperature: float = 0.07) -> None:
        super().__init__(dim, Cosine(temperature, learned=True), bounds.InfoNCE(), OtherSamples(), name="clip")


class CMC(Infomax):
    """Contrastive multiview coding: symmetric InfoNCE with a cosine critic, for two kinds of view.

    Negatives are those of the batch, where the paper has a memory bank of 16,384, so log(N) - loss is a lower bound on
    I(Z_X; Z_Y). It cannot exceed log(N), nor 2/t. The loss is the mean of the two directions, where the authors add
    them up.

    Args:
        dim: Width of an embedding; only checked.
        temperature: t.

    Raises:
        ValueError: If `temperature` is below 0.01.

    References:
        Tian et al. 2019 (arXiv:1906.05849).

    Example:
        >>> import torch
        >>> from ssl_mi.objectives import CMC
        >>> z = torch.eye(4)  # four orthogonal embeddings; the two views are equal
        >>> round(float(CMC(temperature=0.5)([z, z]).total.detach()), 4)  # log(e^2 + 3) - 2
        0.3408
    """

    def __init__(self, dim: int | None = None, temperature: float = 0.07) -> None:
        super().__init__(dim, Cosine(temperature), bounds.InfoNCE(), OtherSamples(), name="cmc")


class MINE(Infomax):
    """Mutual information neural estimation: Donsker-Varadhan, with a moving average in the gradient.

        I(X; Y) >= E[T(x, y)] - log E[e^T(x, y')]

    over the pairs of the batch and all pairs of different images. It has no ceiling; its variance grows like e^I. The
    scores need standardised embeddings: a projector with `final_norm="plain"`.

    Args:
        dim: Width of an embedding; None to build later.
        decay: Of the moving average of E[e^T], which is corrected for its start as Adam's are; an average that starts
            at 1 has other gradients in the first 1 / (1 - decay) steps or so. The paper does not say.
        critic: T: a module, or what makes one from `dim_x` and `dim_y`; None for `Concat` with two layers of 256.

    Raises:
        ValueError: If `decay` is not in [0, 1).

    References:
        Belghazi et al. 2018 (arXiv:1801.04062).

    Example:
        >>> import torch
        >>> from ssl_mi.objectives import MINE
        >>> objective = MINE(dim=4)
        >>> z = [torch.randn(6, 4), torch.randn(6, 4)]
        >>> loss = objective(z)
        >>> list(loss.terms), loss.total.ndim
        (['mine'], 0)
    """

    def __init__(self, dim: int | None = None, decay: float = 0.99, critic: Critic | None = None) -> None:
        super().__init__(dim, critic or Concat, bounds.MINE(decay), OtherSamples(), name="mine")


class NWJ(Infomax):
    """The bound of Nguyen, Wainwright and Jordan (f-GAN's KL, MINE-f).

        I(X; Y) >= E[T(x, y)] - E[e^(T(x, y') - 1)]

    over the pairs of the batch and all pairs of different images. It has no ceiling; its variance grows like e^I. The
    scores need standardised embeddings: a projector with `final_norm="plain"`.

    Args:
        dim: Width of an embedding; None to build later.
        critic: T: a module, or what makes one from `dim_x` and `dim_y`; None for `Concat` with two layers of 256.

    References:
        Nguyen et al. 2010 (arXiv:0809.0853); Poole et al. 2019 (arXiv:1905.06922), section 2.2.

    Example:
        >>> import torch
        >>> from ssl_mi.objectives import NWJ
        >>> objective = NWJ(dim=4)
        >>> z = [torch.randn(6, 4), torch.randn(6, 4)]
        >>> loss = objective(z)
        >>> list(loss.terms), loss.total.ndim
        (['nwj'], 0)
    """

    def __init__(self, dim: int | None = None, critic: Critic | None = None) -> None:
        super().__init__(dim, critic or Concat, bounds.NWJ(), OtherSamples(), name="nwj")


class SMILE(Infomax):
    """Trains along the Jensen-Shannon bound and evaluates Donsker-Varadhan with clipped marginal scores.

    A point estimate that may exceed the truth, not a bound. The scores need standardised embeddings: a projector with
    `final_norm="plain"`.

    Args:
        dim: Width of an embedding; None to build later.
        clip: tau: marginal scores are clipped to [-tau, tau].
        critic: A module, or what makes one from `dim_x` and `dim_y`; None for `Concat` with two layers of 256.

    Raises:
        ValueError: If `clip` is not positive.

    References:
        Song & Ermon 2020 (arXiv:1910.06222), section 5.

    Example:
        >>> import torch
        >>> from ssl_mi.objectives import SMILE
        >>> objective = SMILE(dim=4)
        >>> z = [torch.randn(6, 4), torch.randn(6, 4)]
        >>> loss = objective(z)
        >>> list(loss.terms), loss.total.ndim
        (['smile'], 0)
    """

    def __init__(self, dim: int | None = None, clip: float = 5.0, critic: Critic | None = None) -> None:
        super().__init__(dim, critic or Concat, bounds.SMILE(clip), OtherSamples(), name="smile")


class DeepInfoMax(Infomax):
    """Deep InfoMax's Jensen-Shannon objective in its global form: embedding against embedding.

    Between two views, as in AMDIM (Bachman et al. 2019, arXiv:1906.00910), where the paper has an image and its own
    embedding. Its bound in nats is NWJ with the critic plus one. The scores need standardised embeddings: a projector
    with `final_norm="plain"`.

    Args:
        dim: Width of an embedding; None to build later.
        critic: A module, or what makes one from `dim_x` and `dim_y`; None for `Concat` with two layers of 256.

    References:
        Hjelm et al. 2019 (arXiv:1808.06670).

    Example:
        >>> import torch
        >>> from ssl_mi.objectives import DeepInfoMax
        >>> objective = DeepInfoMax(dim=4)
        >>> z = [torch.randn(6, 4), torch.randn(6, 4)]
        >>> loss = objective(z)
        >>> list(loss.terms), loss.total.ndim
        (['deep_infomax'], 0)
    """

    def __init__(self, dim: int | None = None, critic: Critic | None = None) -> None:
        super().__init__(dim, critic or Concat, bounds.JS(), OtherSamples(), name="deep_infomax")


class MoCo(Infomax):
    """Momentum contrast (v2+): cosine critic, InfoNCE, a queue of past keys as negatives, both directions.

    Needs a teacher, which makes the keys. The keys in the queue come from older weights, so the loss is a score and not
    a bound on mutual information.

    Args:
        dim: Width of an embedding; None to build later.
        temperature: t.
        queue: Keys in the queue, of all views; each step adds one per view and image.

    Raises:
        ValueError: If `temperature` is below 0.01, if no teacher makes the targets, or if the keys of a step do not fit
            into the queue.

    References:
        He et al. 2020 (arXiv:1911.05722); Chen et al. 2020 (arXiv:2003.04297).

    Example:
        >>> import torch
        >>> from ssl_mi.objectives import MoCo
        >>> objective = MoCo(dim=4, queue=12)
        >>> z, keys = [torch.randn(6, 4), torch.randn(6, 4)], [torch.randn(6, 4), torch.randn(6, 4)]  # of a teacher
        >>> loss = objective(z, keys)
        >>> list(loss.terms), loss.total.ndim
        (['moco'], 0)
    """

    @renamed(size="queue")
    def __init__(self, dim: int | None = None, temperature: float = 0.2, queue: int = 32768) -> None:
        past = partial(PastTargets, size=queue, key="objective.queue")
        super().__init__(dim, Cosine(temperature), bounds.InfoNCE(), past, name="moco")


class MoCoV3(Infomax):
    """MoCo v3: a predictor on the online side, the other keys of the batch as negatives.

    Needs a teacher, which makes the keys. log(N) - loss / weight is a lower bound on I(q(Z_X); Z_Y); it cannot exceed
    log(N), nor 2/t.

    Args:
        dim: Width of an embedding; None to build later.
        temperature: t.
        weight: Factor of the loss; algorithm 1 has 2t and the sum of two directions: 0.8 at t = 0.2.
        predictor: Makes q from the width; None for `Predictor(d, hidden=4096, final_norm=True)`, the paper's.

    Raises:
        ValueError: If `temperature` is below 0.01, or if no teacher makes the targets.

    References:
        Chen et al. 2021 (arXiv:2104.02057), algorithm 1.

    Example:
        >>> import torch
        >>> from ssl_mi.objectives import MoCoV3
        >>> from torch import nn
        >>> z = torch.eye(4)  # four orthogonal embeddings; the two views are equal
        >>> objective = MoCoV3(dim=4, temperature=0.5, weight=1, predictor=lambda _: nn.Identity())
        >>> round(float(objective([z, z], [z, z]).total), 4)  # log(e^2 + 3) - 2
        0.3408
    """

    def __init__(
        self,
        dim: int | None = None,
        temperature: float = 0.2,
        weight: float = 0.8,
        predictor: Callable[[int], nn.Module] | None = None,
    ) -> None:
        super().__init__(
            dim,
            Cosine(temperature),
            bounds.InfoNCE(),
            OtherTargets(),
            name="moco_v3",
            predictor=predictor or partial(Predictor, hidden=4096, final_norm=True),
            weight=weight,
        )
