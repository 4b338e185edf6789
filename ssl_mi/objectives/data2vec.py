"""data2vec for images: predict what a teacher makes of hidden patches, averaged over its last blocks."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, smooth_l1_loss

from ssl_mi.objectives.masked import check_masked
from ssl_mi.objectives.stepped import SteppedObjective

TRIES = 10  # blocks that are tried for each image before the rest is hidden one by one


class Data2Vec(SteppedObjective):
    """Predict contextualised targets of hidden patches.

        y_p  = layer_norm(1 / K sum over the teacher's last K blocks l of layer_norm(a_p^l))
        loss of an image = mean over its hidden patches p and coordinates of L(linear(tokens)_p - y_p)
        L(e) = e^2 / (2 beta)  where |e| <= beta,  |e| - beta / 2  elsewhere

    a^l is the output of block l, of the whole image, and layer_norm has no scale and offset. The student sees hidden
    patches as a learned token, as in SimMIM. `masked` of the patches are hidden, in blocks (Bao et al. 2022,
    arXiv:2106.08254, section 2.3) of a share of `least_block` or more and an aspect of 0.3 to 1 / 0.3, of which
    those are kept that do not exceed the number; what is missing then is hidden one by one, so that all images hide as
    many. Places are drawn from the number of the step alone, for the rows of all processes.

    The second layer norm, beta = 2 and K = 6 of 12 blocks are those of the authors' runs on images. They also drop
    paths, scale layers and have relative positions, which are the encoder's and not here.

    Relation to mutual information: minus the loss is E log q(target | visible) of a Huber density up to constants, but
    the targets are learned, so their entropy is neither known nor constant. Nothing is bounded.

    Args:
        dim: Width of a token.
        image_size: The encoder's, in pixels.
        patch_size: The encoder's, in pixels.
        last: K, the teacher's blocks that are averaged.
        masked: Share of the patches that are hidden, rounded down to whole patches.
        least_block: Least share of the image that a block of hidden patches covers.
        beta: Where the loss goes from square to absolute.

    Raises:
        ValueError: If a size does not divide, or a number is out of range.

    References:
        Baevski et al. 2022 (arXiv:2202.03555), section 3.

    Example:
        >>> from ssl_mi.objectives import Data2Vec
        >>> hidden = Data2Vec(dim=16, image_size=32, patch_size=4).orders(rows=5, views=1)[0]
        >>> hidden.sum(1).tolist()  # of 64 patches
        [38, 38, 38, 38, 38]
    """

    name = "data2vec"
    learns_from = "masked patches"
    teacher = "required"
    min_views = 1
    information = "no estimate: the targets are learned, so their entropy is unknown"

    def __init__(
        self,
        dim: int,
        image_size: int = 32,
        patch_size: int = 4,
        last: int = 6,
        masked: float = 0.6,
        least_block: float = 0.08,
        beta: float = 2.0,
    ) -> None:
        super().__init__()
        if last < 1 or beta <= 0 or not 0 < least_block <= masked:
            raise ValueError(
                f"Data2Vec: needs last of 1 or more, beta above 0 and least_block in (0, masked], got last={last}, "
                f"beta={beta}, least_block={least_block}, masked={masked}"
            )
        self.patches, self.hidden = check_masked("Data2Vec", image_size, patch_size, masked)
        self.side, self.last, self.least_block, self.beta = image_size // patch_size, last, least_block, beta
        self.mask_token = nn.Parameter(torch.empty(dim).normal_(std=0.02))
        self.leave = nn.Linear(dim, dim)

    def orders(self, rows: int, views: int) -> list[Tensor]:
        """Which patches are hidden in this step: bool [rows, patches] for each view.

        Args:
            rows: Images in the batch of all processes.
            views: Views of each.
        """
        draw = torch.Generator().manual_seed(self.step)
        return [self._drawn(rows, draw).to(self.steps.device) for _ in range(views)]

    def _drawn(self, rows: int, draw: torch.Generator) -> Tensor:
        hidden = torch.zeros(rows, self.patches, dtype=torch.bool)
        for _ in range(TRIES):
            more = hidden | self._blocks(rows, draw)
            hidden = torch.where((more.sum(1) <= self.hidden)[:, None], more, hidden)
        # Those of the blocks come first, and then any others.
        order = (torch.rand(rows, self.patches, generator=draw) - hidden.float()).argsort(1)
        return torch.zeros_like(hidden).scatter(1, order[:, : self.hidden], True)

    def _blocks(self, rows: int, draw: torch.Generator) -> Tensor:
        """A block of a size and a place of its own for each image, bool [rows, patches]."""
        share, aspect, top, left = torch.rand(4, rows, 1, generator=draw)
        area = self.patches * (self.least_block + (self.hidden / self.patches - self.least_block) * share)
        ratio = torch.exp(math.log(0.3) * (1 - 2 * aspect))
        along = torch.arange(self.side)
        inside = []
        for length, start in (((area * ratio).sqrt(), top), ((area / ratio).sqrt(), left)):
            sides = length.round().clamp(1, self.side)
            first = (start * (self.side - sides + 1)).floor()
            inside.append((along >= first) & (along < first + sides))
        return (inside[0][:, :, None] & inside[1][:, None, :]).flatten(1)

    def encode(self, encoder: Any, x: Tensor, order: Tensor) -> Tensor:
        """The encoder's tokens of the whole grid, [n, 1 + patches, dim].

        Args:
            encoder: A `PatchEncoder`.
            x: Images [n, channels, image_size, image_size].
            order: Rows of `orders`.
        """
        return encoder.masked(x, order, self.mask_token)

    def taught(self, encoder: Any, x: Tensor) -> Tensor:
        """The outputs of the teacher's last K blocks for whole images, [n, K, 1 + patches, dim].

        Args:
            encoder: A `PatchEncoder` with `blocks`.
            x: Images [n, channels, image_size, image_size].

        Raises:
            ValueError: If the encoder has no `blocks`, or not as many.
        """
        if not hasattr(encoder, "blocks"):
            raise ValueError(f"{type(encoder).__name__} does not hand out its blocks' tokens: use encoder=vit_tiny")
        return encoder.blocks(x, self.last)

    def forward(self, tokens: Tensor, images: Tensor, order: Tensor, target: Tensor) -> Tensor:
        """The loss of each image, [n].

        Args:
            tokens: What `encode` returned.
            images: Not used.
            order: Rows of `orders`.
            target: What `taught` returned.
        """
        width = (tokens.shape[2],)
        wanted = layer_norm(layer_norm(target[:, :, 1:].detach(), width).mean(1), width)
        apart = smooth_l1_loss(self.leave(tokens[:, 1:]), wanted, reduction="none", beta=self.beta).mean(2)
        return (apart * order).sum(1) / self.hidden

    def facts(self, rows: int) -> dict[str, str]:
        targets = f"mean of the teacher's last {self.last} blocks"
        return {"masked": f"{self.hidden} of {self.patches} patches", "targets": targets, **super().facts(rows)}
