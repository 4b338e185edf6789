"""What a masked autoencoder learns from: the pixels that its encoder did not see.

A sibling of the objectives over embeddings: it takes tokens and images from the module whose step hides patches.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.vision_transformer import EncoderBlock

from ssl_mi.objectives.stepped import SteppedObjective


def patches_of(images: Tensor, size: int) -> Tensor:
    """The pixels of each patch, [n, patches, c size size], row by row of patches.

    Args:
        images: [n, c, h, w].
        size: Side of a patch, in pixels.
    """
    cut = images.unfold(2, size, size).unfold(3, size, size)  # [n, c, rows, columns, size, size]
    return cut.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)


def check_masked(name: str, image_size: int, patch_size: int, masked: float) -> tuple[int, int]:
    """How many patches there are and how many of them are hidden.

    Args:
        name: The objective's.
        image_size: In pixels.
        patch_size: In pixels.
        masked: Share of the patches that are hidden, rounded down.

    Raises:
        ValueError: If a size does not divide, or no patch or every patch is hidden.
    """
    if image_size % patch_size:
        raise ValueError(f"{name}: image_size={image_size} must be a multiple of patch_size={patch_size}")
    patches = (image_size // patch_size) ** 2
    hidden = int(masked * patches)
    if not 0 < hidden < patches:
        raise ValueError(f"{name}: masked={masked} hides {hidden} of {patches} patches")
    return patches, hidden


class MaskedPixels(SteppedObjective):
    """Reconstruct hidden patches from visible ones: MAE.

        loss of an image = mean over its masked patches p and their pixels of (decoder(tokens)_p - pixels_p)^2

    The pixels of a patch are standardised by their own mean and variance (`normalised`, the paper's better
    variant), and patches that the encoder saw cost nothing. The decoder is `depth` transformer blocks of `width` on
    the visible tokens, mapped to `width`, and a learned mask token in every other place, with positions of its own
    (learned, where the paper's are fixed sines). It exists for the loss only, so it belongs to the objective and is
    not probed. Which patches are hidden is drawn from the number of the step alone, an order of the patches for each
    image and view, for the rows of all processes: each process takes its own.

    Mutual information: minus the loss is, up to constants, E log q(masked | visible) of a Gaussian, the second term of
    I >= H(masked) + E log q (Barber & Agakov 2003). H of pixels is unknown, so nothing is bounded.

    Args:
        dim: Width of a token.
        image_size: The encoder's, in pixels.
        patch_size: The encoder's, in pixels.
        channels: Channels of an image.
        masked: Share of the patches that are hidden, rounded down to whole patches.
        width: Width of the decoder.
        depth: Blocks of the decoder.
        heads: Attention heads of the decoder.
        normalised: Standardise each patch by its own mean and variance.

    Raises:
        ValueError: If `masked` leaves no patch visible or none hidden, or a size does not divide.

    References:
        He et al. 2022, arXiv:2111.06377, section 3.

    Example:
        >>> from ssl_mi.objectives import MaskedPixels
        >>> objective = MaskedPixels(dim=16, image_size=8, patch_size=4, width=16, depth=1, heads=2)
        >>> objective.learns_from
        'masked patches'
    """

    name = "mae"
    learns_from = "masked patches"
    teacher = "unused"
    min_views = 1
    information = "no estimate: the likelihood of hidden pixels, whose entropy is unknown"

    def __init__(
        self,
        dim: int,
        image_size: int = 32,
        patch_size: int = 4,
        channels: int = 3,
        masked: float = 0.75,
        width: int = 512,
        depth: int = 8,
        heads: int = 16,
        normalised: bool = True,
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"MaskedPixels: width={width} must be a multiple of heads={heads}")
        self.patches, self.hidden = check_masked("MaskedPixels", image_size, patch_size, masked)
        self.patch_size, self.channels, self.normalised = patch_size, channels, normalised
        self.enter = nn.Linear(dim, width)
        self.mask_token = nn.Parameter(torch.empty(1, 1, width).normal_(std=0.02))
        self.pos_embedding = nn.Parameter(torch.empty(1, 1 + self.patches, width).normal_(std=0.02))
        norm = partial(nn.LayerNorm, eps=1e-6)
        self.blocks = nn.Sequential(
            *(
                EncoderBlock(heads, width, 4 * width, dropout=0.0, attention_dropout=0.0, norm_layer=norm)
                for _ in range(depth)
            ),
            norm(width),
        )
        self.leave = nn.Linear(width, channels * patch_size**2)

    def orders(self, rows: int, views: int) -> list[Tensor]:
        """Which patches are hidden in this step.

        Args:
            rows: Images in the batch of all processes.
            views: Views of each.

        Returns:
            For each view an order of the patches, int64 [rows, patches]; the first `hidden` of them are hidden.
        """
        draw = torch.Generator().manual_seed(self.step)
        return [torch.rand(rows, self.patches, generator=draw).argsort(1).to(self.steps.device) for _ in range(views)]

    def seen(self, order: Tensor) -> Tensor:
        """The patches that the encoder is shown: int64 [n, patches - hidden]."""
        return order[:, self.hidden :]

    def encode(self, encoder: Any, x: Tensor, order: Tensor) -> Tensor:
        """What the encoder makes of the patches that it is shown, [n, 1 + patches - hidden, dim].

        Args:
            encoder: A `PatchEncoder`.
            x: Images [n, channels, image_size, image_size].
            order: Rows of `orders`.
        """
        return encoder.visible(x, self.seen(order))

    def forward(self, tokens: Tensor, images: Tensor, order: Tensor) -> Tensor:
        """The loss of each image.

        Args:
            tokens: What the encoder makes of `seen(order)`, [n, 1 + patches - hidden, dim].
            images: The whole images, [n, channels, image_size, image_size].
            order: Rows of `orders`, int64 [n, patches].

        Returns:
            [n].
        """
        masked = order[:, : self.hidden]
        wanted = self._pixels(images).gather(1, masked[:, :, None].expand(-1, -1, self.leave.out_features))
        found = self._decoded(tokens, order).gather(1, masked[:, :, None].expand(-1, -1, self.leave.out_features))
        return (found - wanted).square().mean((1, 2))

    def _decoded(self, tokens: Tensor, order: Tensor) -> Tensor:
        """The decoder's pixels of every patch, [n, patches, c p p], in the order of the image."""
        entered = self.enter(tokens)
        n, _, width = entered.shape
        # Masked first, then visible, as in `order`; the inverse order puts each in its place.
        jumbled = torch.cat([self.mask_token.to(entered.dtype).expand(n, self.hidden, -1), entered[:, 1:]], 1)
        placed = jumbled.gather(1, order.argsort(1)[:, :, None].expand(-1, -1, width))
        everything = torch.cat([entered[:, :1], placed], 1) + self.pos_embedding
        return self.leave(self.blocks(everything))[:, 1:]

    def _pixels(self, images: Tensor) -> Tensor:
        """The pixels to predict, [n, patches, c p p], row by row of patches."""
        pixels = patches_of(images, self.patch_size)
        if not self.normalised:
            return pixels
        centred = pixels - pixels.mean(2, keepdim=True)
        return centred * (pixels.var(2, keepdim=True) + 1e-6).rsqrt()

    def facts(self, rows: int) -> dict[str, str]:
        return {"masked": f"{self.hidden} of {self.patches} patches", **super().facts(rows)}
