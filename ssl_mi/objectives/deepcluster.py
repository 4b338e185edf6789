"""DeepCluster-v2: the class of an image is the cluster of its own embedding of the epoch before."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize, one_hot

from ssl_mi.objectives.objective import Loss, Objective, need_views, sum_of

CHUNK = 4096  # rows of the bank that are compared with all centroids at once


class DeepClusterV2(Objective):
    """DeepCluster-v2: cross-entropy against k-means clusters of the epoch before.

        c_h(i) = argmax_k <m_i, C_hk>                                          m_i: bank, of the epoch before
        loss   = mean over heads h, views v, images i of - log softmax_k(<z_vi, C_hk> / t) at k = c_h(i)

    on unit vectors. The bank [code_views, images, d] holds the last embedding of each training image in each of the
    first `code_views` views. When an image appears a second time, an epoch is over: spherical k-means of `iterations`
    steps over the bank gives each head its own centroids C_h and assignments, head h from the bank of view
    h mod code_views. Centroids are buffers and are not learned. The first epoch only fills the bank: its loss is 0 with
    zero gradient, where the authors' code makes a pass without training. An image that has never been embedded has no
    class and is left out of the mean.

    Bank, centroids and assignments belong to the state. k-means starts from rows drawn from the number of the
    clustering alone, and the bank is in the order of the images, so several processes, and a resumed run, cluster
    identically.

    Relation to mutual information: H(c) - loss is below I(view; c) (Barber & Agakov 2003), but c is known for the
    training images only, where the network may have memorised it. Held-out images have no c.

    Args:
        dim: Width d of an embedding; None to build later.
        images: Places in the bank: the number of training images, or more.
        prototypes: Centroids per head.
        heads: Clusterings, each with a cross-entropy of its own.
        temperature: t.
        iterations: k-means iterations.
        code_views: Views with a bank, from the first: the large ones of multi-crop.

    Raises:
        ValueError: If a number is out of range, if an image is beyond the bank, if there are fewer images than
            centroids, or if there are fewer than 2 views.

    References:
        Caron et al. 2020 (arXiv:2006.09882), appendix D.1, after Caron et al. 2018 (arXiv:1807.05520).

    Example:
        >>> import torch
        >>> from ssl_mi.objectives import DeepClusterV2
        >>> objective = DeepClusterV2(dim=4, images=8, prototypes=3, heads=2)
        >>> z = torch.randn(4, 4)
        >>> list(objective([z, z], index=torch.arange(4)).terms)
        ['deepcluster']
    """

    name = "deepcluster"
    requires = ("index",)
    teacher = "unused"
    information = "no estimate: only images that are trained on have an assignment"

    def __init__(
        self,
        dim: int | None = None,
        images: int = 50000,
        prototypes: int = 3000,
        heads: int = 3,
        temperature: float = 0.1,
        iterations: int = 10,
        code_views: int = 2,
    ) -> None:
        super().__init__()
        if not 2 <= prototypes <= images or heads < 1 or temperature <= 0 or iterations < 1 or code_views < 1:
            raise ValueError(
                f"DeepClusterV2: needs 2 <= prototypes <= images and the rest positive, got prototypes={prototypes}, "
                f"images={images}, heads={heads}, temperature={temperature}, iterations={iterations}, "
                f"code_views={code_views}"
            )
        self.temperature, self.iterations = temperature, iterations
        self._sizes = code_views, images, heads, prototypes
        self.build(dim)

    def _make(self, dim: int) -> None:
        code_views, images, heads, prototypes = self._sizes
        self.register_buffer("bank", torch.zeros(code_views, images, dim))
        self.register_buffer("known", torch.zeros(images, dtype=torch.bool))  # embedded ever
        self.register_buffer("fresh", torch.zeros(images, dtype=torch.bool))  # embedded since the last clustering
        self.register_buffer("centroids", torch.zeros(heads, prototypes, dim))
        self.register_buffer("assignment", torch.full((heads, images), -1))
        self.register_buffer("clusterings", torch.zeros((), dtype=torch.int64))

    def forward(self, online: list[Tensor], target: list[Tensor], index: Tensor) -> Loss:
        """See `Objective`; index: int64 [n], the row of each image in the training set."""
        need_views(online)
        # One look at the device for both questions; an index that has no place asks for the last.
        seen = self.fresh[index.clamp(max=len(self.known) - 1)].any()
        last, again = torch.stack([index.max(), seen.long()]).tolist()
        if last >= len(self.known):
            raise ValueError(
                f"image {last} has no place in a bank of {len(self.known)}: set objective.images to the number of "
                "training images"
            )
        if self.training and again:
            self._cluster()
        views = [normalize(z, dim=1) for z in online]
        loss = self._loss(views, self.assignment[:, index])
        if self.training:
            self._remember(views, index)
        return Loss({self.name: loss}, {"clusters_in_use": self._in_use()})

    def check(self, images: int) -> None:
        places, k = len(self.known), self.centroids.shape[1]
        if images > places:
            raise ValueError(f"{images} training images and a bank of {places}: set objective.images={images}")
        if images < k:
            raise ValueError(f"{images} training images cannot be put in {k} clusters: lower objective.prototypes")

    def _loss(self, views: list[Tensor], classes: Tensor) -> Tensor:
        """views: [n, d] each; classes: [heads, n], -1 where there is none."""
        total = sum_of(
            [
                cross_entropy(z @ centroids.T / self.temperature, own, ignore_index=-1, reduction="sum")
                for centroids, own in zip(self.centroids.to(views[0].dtype), classes, strict=True)
                for z in views
            ]
        )
        # 0 of no images, and not 0 / 0, while no image has a class.
        return total / (len(views) * (classes >= 0).sum().clamp(min=1))

    @torch.no_grad()
    def _remember(self, views: list[Tensor], index: Tensor) -> None:
        for rows, z in zip(self.bank, views, strict=False):
            rows.index_copy_(0, index, z.detach().to(rows.dtype))
        self.known[index] = True
        self.fresh[index] = True

    @torch.no_grad()
    def _cluster(self) -> None:
        here = self.known.nonzero().squeeze(1)
        heads, k, _ = self.centroids.shape
        if len(here) < k:
            raise ValueError(f"{len(here)} images cannot be put in {k} clusters: lower objective.prototypes")
        for h in range(heads):
            seed = int(self.clusterings) * heads + h
            start = torch.randperm(len(here), generator=torch.Generator().manual_seed(seed))[:k]
            points = self.bank[h % len(self.bank), here]
            centroids, own = spherical_kmeans(points, points[start.to(points.device)], self.iterations)
            self.centroids[h] = centroids
            self.assignment[h, here] = own
        self.clusterings += 1
        self.fresh.zero_()

    def _in_use(self) -> Tensor:
        """The mean over heads of the number of clusters that have an image."""
        heads, k, _ = self.centroids.shape
        used = self.known.new_zeros(heads, k + 1)  # the first place is that of no cluster
        return used.scatter_(1, self.assignment + 1, True)[:, 1:].sum(1).float().mean()


def spherical_kmeans(points: Tensor, start: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """k-means on the unit sphere: assign, then replace each centroid by the direction of the sum of its points.

    A centroid without points stays where it is. Sums are products with one-hot matrices: scattered additions would give
    different results in each process on a GPU.

    Args:
        points: Unit vectors [n, d].
        start: First centroids [k, d].
        iterations: Number of updates.

    Returns:
        Centroids [k, d], and for each point the index of the centroid with the largest dot product, int64 [n].

    References:
        Dhillon & Modha 2001, Concept decompositions for large sparse text data using clustering.
    """
    centroids = start
    k = len(start)
    for _ in range(iterations):
        total, count = torch.zeros_like(centroids), centroids.new_zeros(k)
        for part in points.split(CHUNK):
            members = one_hot((part @ centroids.T).argmax(1), k).to(part.dtype)
            total += members.T @ part
            count += members.sum(0)
        centroids = torch.where(count[:, None] > 0, normalize(total, dim=1), centroids)
    return centroids, torch.cat([(part @ centroids.T).argmax(1) for part in points.split(CHUNK)])
