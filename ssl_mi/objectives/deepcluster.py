"""DeepCluster-v2: the class of an image is the cluster that its own embedding of an epoch ago fell into."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize, one_hot

from ssl_mi.objectives.objective import Loss, Objective, need_views

CHUNK = 4096  # rows of the bank that are compared with all centroids at once


class DeepClusterV2(Objective):
    """Caron et al. 2020 (arXiv:2006.09882), appendix D.1, after Caron et al. 2018 (arXiv:1807.05520):

        c_h(i) = argmax_k <m_i, C_hk>                                          m_i: bank, of the epoch before
        loss   = mean over heads h, views v, images i of - log softmax_k(<z_vi, C_hk> / t) at k = c_h(i)

    on unit vectors. bank [code_views, images, d] holds the last embedding of each training image in each of the first
    `code_views` views. When an image comes a second time an epoch is over, and spherical k-means of `iterations` steps
    over the bank gives each of the `heads` its own `prototypes` centroids C_h and assignments, head h from the bank
    of view h mod code_views. Centroids are buffers and not learned. The first epoch only fills the bank: its loss is 0
    and has no slope, where the authors' code makes a pass without training. An image that has never been embedded has
    no class and is left out of the mean.

    images: places in the bank, as many as there are training images, or more. Bank, centroids and assignments are
    part of the state. k-means starts from rows drawn by the number of the clustering alone, and the bank is in the
    order of the images: several processes, and a resumed run, cluster alike.

    Mutual information: H(c) - loss is below I(view; c) (Barber & Agakov 2003), but c is only known of the images
    that are trained on, where the network may have learned it by heart. On held-out images there is no c to read.

    Raises ValueError on settings that are not positive, an image beyond the bank, and fewer images than centroids.
    """

    name = "deepcluster"
    requires = ("index",)
    teacher = "unused"
    information = "no estimate: only images that are trained on have an assignment"

    def __init__(
        self,
        dim: int,
        images: int,
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
        self.register_buffer("bank", torch.zeros(code_views, images, dim))
        self.register_buffer("known", torch.zeros(images, dtype=torch.bool))  # embedded ever
        self.register_buffer("fresh", torch.zeros(images, dtype=torch.bool))  # embedded since the last clustering
        self.register_buffer("centroids", torch.zeros(heads, prototypes, dim))
        self.register_buffer("assignment", torch.full((heads, images), -1))
        self.register_buffer("clusterings", torch.zeros((), dtype=torch.int64))

    def forward(self, online: list[Tensor], target: list[Tensor], index: Tensor) -> Loss:
        """index: int64 [n], the row of each image in the training set."""
        need_views(online)
        if (last := int(index.max())) >= len(self.known):
            raise ValueError(
                f"image {last} has no place in a bank of {len(self.known)}: set objective.images to the number of "
                "training images"
            )
        if self.training and self.fresh[index].any():
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
            raise ValueError(f"{images} training images can not be put in {k} clusters: lower objective.prototypes")

    def _loss(self, views: list[Tensor], classes: Tensor) -> Tensor:
        """views: [n, d] each; classes: [heads, n], -1 where there is none."""
        total = sum(
            cross_entropy(z @ centroids.T / self.temperature, own, ignore_index=-1, reduction="sum")
            for centroids, own in zip(self.centroids.to(views[0].dtype), classes, strict=True)
            for z in views
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
            raise ValueError(f"{len(here)} images can not be put in {k} clusters: lower objective.prototypes")
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
        """The mean over heads of how many clusters have an image."""
        heads, k, _ = self.centroids.shape
        return sum((torch.bincount(own[own >= 0], minlength=k) > 0).sum() for own in self.assignment) / heads


def spherical_kmeans(points: Tensor, start: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """Centroids [k, d] on the unit sphere from `start`, and the nearest one, by dot product, of each point: [n].

    Dhillon & Modha 2001: assign, then replace each centroid by the direction of its points' sum, `iterations` times.
    One without points stays where it is. Sums are products with one-hot matrices: scattered additions would come out
    differently in each process on a GPU.
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
