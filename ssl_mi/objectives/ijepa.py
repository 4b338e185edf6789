"""I-JEPA: predict the teacher's tokens of some blocks of an image from the tokens of another."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, smooth_l1_loss
from torchvision.models.vision_transformer import EncoderBlock

from ssl_mi.objectives.stepped import SteppedObjective


@dataclass(frozen=True)
class Blocks:
    """Patches of images.

    Attributes:
        context: What the encoder is shown, int64 [n, c].
        targets: What is predicted, int64 [n, blocks, t].
    """

    context: Tensor
    targets: Tensor

    def __getitem__(self, rows: slice) -> Blocks:
        return Blocks(self.context[rows], self.targets[rows])


class IJEPA(SteppedObjective):
    """Image-based joint-embedding predictive architecture.

        loss of an image = mean over its target blocks, their patches p and coordinates of
                           smooth_l1(predictor(context, positions of the block)_p - layer_norm(teacher's tokens)_p)

    The context is one large block without the patches of the targets. The teacher sees the whole image. The predictor
    is `depth` transformer blocks of `width` on the context's tokens and a mask token for every patch of one target
    block, with learned positions, where the paper's are fixed sines. Encoder and predictor get no class token from the
    paper; here the encoder has one, which takes part in its attention, is not given to the predictor and has no loss of
    its own: evaluate `encoder.pool=mean`.

    Which blocks is drawn from the number of the step alone. All images of a view have blocks of one size in places of
    their own; contexts are cut to the smallest of the batch, the last patches in reading order being dropped, as in the
    authors' code. A context of fewer than `min_context` patches gets back those of its last target, then of the one
    before, and so on.

    Relation to mutual information: minus a squared distance is E log q(target | context) of a Gaussian up to constants,
    but the targets are learned, so their entropy is neither known nor constant. Nothing is bounded.

    Args:
        dim: Width of a token.
        image_size: The encoder's, in pixels.
        patch_size: The encoder's, in pixels.
        blocks: Target blocks of a view.
        target_scale: Share of the image that a target block covers, least and most.
        aspect: Height over width of a target block, least and most.
        context_scale: Share of the image that the context block covers, before the targets are taken out of it.
        min_context: Patches that a context has at least. The authors have 10 of 256.
        width: Width of the predictor.
        depth: Blocks of the predictor.
        heads: Attention heads of the predictor.

    Raises:
        ValueError: If a size does not divide, or a number is out of range.

    References:
        Assran et al. 2023 (arXiv:2301.08243), section 3.

    Example:
        >>> from ssl_mi.objectives import IJEPA
        >>> objective = IJEPA(dim=16, image_size=32, patch_size=4, width=16, depth=1, heads=2)
        >>> drawn = objective.orders(rows=5, views=1)[0]
        >>> drawn.targets.shape[:2], bool(set(drawn.context[0].tolist()) & set(drawn.targets[0].flatten().tolist()))
        (torch.Size([5, 4]), False)
    """

    name = "ijepa"
    learns_from = "masked patches"
    teacher = "required"
    evaluated = "teacher"  # section 4: the target encoder
    min_views = 1
    information = "no estimate: the targets are learned, so their entropy is unknown"

    def __init__(
        self,
        dim: int,
        image_size: int = 32,
        patch_size: int = 4,
        blocks: int = 4,
        target_scale: tuple[float, float] = (0.15, 0.2),
        aspect: tuple[float, float] = (0.75, 1.5),
        context_scale: tuple[float, float] = (0.85, 1.0),
        min_context: int = 4,
        width: int = 384,
        depth: int = 6,
        heads: int = 12,
    ) -> None:
        super().__init__()
        if image_size % patch_size or width % heads:
            raise ValueError(
                f"IJEPA: image_size={image_size} must be a multiple of patch_size={patch_size}, and width={width} of "
                f"heads={heads}"
            )
        self.side = image_size // patch_size
        for name, (least, most) in {"target_scale": target_scale, "context_scale": context_scale}.items():
            if not 0 < least <= most <= 1:
                raise ValueError(f"IJEPA: {name}={[least, most]} must be two shares in (0, 1], the smaller first")
        if blocks < 1 or not 0 < aspect[0] <= aspect[1] or not 1 <= min_context < self.side**2 // 2:
            raise ValueError(f"IJEPA: got blocks={blocks}, aspect={list(aspect)}, min_context={min_context}")
        self.blocks, self.min_context = blocks, min_context
        self.target_scale, self.aspect, self.context_scale = tuple(target_scale), tuple(aspect), tuple(context_scale)
        self.enter = nn.Linear(dim, width)
        self.mask_token = nn.Parameter(torch.empty(1, 1, width).normal_(std=0.02))
        self.pos_embedding = nn.Parameter(torch.empty(1, self.side**2, width).normal_(std=0.02))
        norm = partial(nn.LayerNorm, eps=1e-6)
        layers = [EncoderBlock(heads, width, 4 * width, 0.0, 0.0, norm_layer=norm) for _ in range(depth)]
        self.layers = nn.Sequential(*layers, norm(width))
        self.leave = nn.Linear(width, dim)

    def orders(self, rows: int, views: int) -> list[Blocks]:
        """The context and the targets of each image in this step.

        Args:
            rows: Images in the batch of all processes.
            views: Views of each.
        """
        draw = torch.Generator().manual_seed(self.step)
        return [self._drawn(rows, draw) for _ in range(views)]

    def _drawn(self, rows: int, draw: torch.Generator) -> Blocks:
        size = self._size(self.target_scale, self.aspect, draw)
        targets = torch.stack([self._block(size, rows, draw) for _ in range(self.blocks)], 1)  # bool [rows, blocks, P]
        context = self._block(self._size(self.context_scale, (1.0, 1.0), draw), rows, draw)
        shown = context & ~targets.any(1)
        for kept in range(self.blocks - 1, -1, -1):  # the last target first
            few = shown.sum(1) < self.min_context
            shown = torch.where(few[:, None], context & ~targets[:, :kept].any(1), shown)
        count = int(shown.sum(1).min())
        indices = torch.arange(self.side**2)
        first = torch.where(shown, indices, self.side**2).sort(1).values[:, :count]
        places = indices.expand_as(targets)[targets].view(rows, self.blocks, -1)
        device = self.steps.device
        return Blocks(first.to(device), places.to(device))

    def _size(self, scale: tuple[float, ...], aspect: tuple[float, ...], draw: torch.Generator) -> tuple[int, int]:
        """Rows and columns of a block."""
        share, ratio = (low + (high - low) * float(torch.rand((), generator=draw)) for low, high in (scale, aspect))
        area = int(self.side**2 * share)
        height, width = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        return max(1, min(height, self.side - 1)), max(1, min(width, self.side - 1))

    def _block(self, size: tuple[int, int], rows: int, draw: torch.Generator) -> Tensor:
        """A block of a size in a place of its own for each image, bool [rows, patches]."""
        along = torch.arange(self.side)
        inside = []
        for length in size:
            start = torch.randint(self.side - length + 1, (rows, 1), generator=draw)
            inside.append((along >= start) & (along < start + length))
        return (inside[0][:, :, None] & inside[1][:, None, :]).flatten(1)

    def encode(self, encoder: Any, x: Tensor, order: Blocks) -> Tensor:
        """The encoder's tokens of the context, [n, 1 + c, dim].

        Args:
            encoder: A `PatchEncoder`.
            x: Images [n, channels, image_size, image_size].
            order: Rows of `orders`.
        """
        return encoder.visible(x, order.context)

    def taught(self, encoder: Any, x: Tensor) -> Tensor:
        """The teacher's tokens of every patch of whole images, [n, 1 + patches, dim]; the class token comes first.

        Args:
            encoder: A `PatchEncoder`.
            x: Images [n, channels, image_size, image_size].
        """
        return encoder.visible(x, torch.arange(self.side**2, device=x.device).expand(len(x), -1))

    def forward(self, tokens: Tensor, images: Tensor, order: Blocks, target: Tensor) -> Tensor:
        """The loss of each image, [n].

        Args:
            tokens: What `encode` returned.
            images: Not used.
            order: Rows of `orders`.
            target: What `taught` returned.
        """
        n, d = len(tokens), tokens.shape[2]
        every = order.targets.flatten(1)
        wanted = layer_norm(target[:, 1:].detach(), (d,)).gather(1, every[:, :, None].expand(-1, -1, d))
        found = self._predicted(tokens, order).reshape(n, -1, d)
        return smooth_l1_loss(found, wanted, reduction="none").mean((1, 2))

    def _predicted(self, tokens: Tensor, order: Blocks) -> Tensor:
        """The predictor's tokens of each target block, [n blocks, t, dim]: a block does not see the others."""
        n, blocks, t = order.targets.shape
        entered = self.enter(tokens[:, 1:])
        positions = self.pos_embedding.expand(n, -1, -1)

        def placed(where: Tensor) -> Tensor:
            return positions.gather(1, where[:, :, None].expand(-1, -1, positions.shape[2]))

        context = entered + placed(order.context)
        asked = self.mask_token + placed(order.targets.flatten(1)).view(n * blocks, t, -1)
        return self.leave(self.layers(torch.cat([context.repeat_interleave(blocks, 0), asked], 1))[:, -t:])

    def facts(self, rows: int) -> dict[str, str]:
        covered = " to ".join(f"{share:.0%}" for share in self.target_scale)
        return {"targets": f"{self.blocks} blocks of {covered} of {self.side**2} patches", **super().facts(rows)}
