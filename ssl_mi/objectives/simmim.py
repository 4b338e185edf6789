"""SimMIM: pixels of hidden patches by one linear layer on the encoder's own tokens."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ssl_mi.objectives.masked import check_masked, patches_of
from ssl_mi.objectives.stepped import SteppedObjective


class SimMIM(SteppedObjective):
    """Predict the raw pixels of hidden patches, which the encoder sees as mask tokens.

        loss of an image = mean over its masked patches p and their pixels of |linear(tokens)_p - pixels_p|

    The encoder gets the whole grid: the embedding of a hidden patch is replaced by a learned token before the first
    block. Pixels are those of the normalised view. Patches are hidden one by one, where the paper hides squares of
    32 pixels: the encoder's patch is the unit here, and `masked` = 0.6 is the paper's share. Which are hidden is drawn
    from the number of the step alone, for the rows of all processes.

    Relation to mutual information: as in `MaskedPixels`, with a Laplacian in place of the Gaussian: nothing is bounded.

    Args:
        dim: Width of a token.
        image_size: The encoder's, in pixels.
        patch_size: The encoder's, in pixels.
        channels: Channels of an image.
        masked: Share of the patches that are hidden, rounded down to whole patches.

    Raises:
        ValueError: If `masked` leaves no patch visible or none hidden, or a size does not divide.

    References:
        Xie et al. 2022 (arXiv:2111.09886), section 3.

    Example:
        >>> from ssl_mi.objectives import SimMIM
        >>> SimMIM(dim=16, image_size=8, patch_size=4).hidden  # of four patches
        2
    """

    name = "simmim"
    learns_from = "masked patches"
    teacher = "unused"
    min_views = 1
    information = "no estimate: the likelihood of hidden pixels, whose entropy is unknown"

    def __init__(
        self, dim: int, image_size: int = 32, patch_size: int = 4, channels: int = 3, masked: float = 0.6
    ) -> None:
        super().__init__()
        self.patches, self.hidden = check_masked("SimMIM", image_size, patch_size, masked)
        self.patch_size = patch_size
        self.mask_token = nn.Parameter(torch.empty(dim).normal_(std=0.02))
        self.leave = nn.Linear(dim, channels * patch_size**2)

    def orders(self, rows: int, views: int) -> list[Tensor]:
        """Which patches are hidden in this step: bool [rows, patches] for each view.

        Args:
            rows: Images in the batch of all processes.
            views: Views of each.
        """
        draw = torch.Generator().manual_seed(self.step)
        ranks = [torch.rand(rows, self.patches, generator=draw).argsort(1).argsort(1) for _ in range(views)]
        return [(rank < self.hidden).to(self.steps.device) for rank in ranks]

    def encode(self, encoder: Any, x: Tensor, order: Tensor) -> Tensor:
        """The encoder's tokens of the whole grid, [n, 1 + patches, dim].

        Args:
            encoder: A `PatchEncoder`.
            x: Images [n, channels, image_size, image_size].
            order: Rows of `orders`.
        """
        return encoder.masked(x, order, self.mask_token)

    def forward(self, tokens: Tensor, images: Tensor, order: Tensor) -> Tensor:
        """The loss of each image, [n].

        Args:
            tokens: What `encode` returned.
            images: The whole images.
            order: Rows of `orders`, bool [n, patches].
        """
        apart = (self.leave(tokens[:, 1:]) - patches_of(images, self.patch_size)).abs().mean(2)
        return (apart * order).sum(1) / self.hidden

    def facts(self, rows: int) -> dict[str, str]:
        return {"masked": f"{self.hidden} of {self.patches} patches", **super().facts(rows)}
