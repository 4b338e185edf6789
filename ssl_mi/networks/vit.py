"""The Vision Transformer as an encoder: Dosovitskiy et al. 2021, arXiv:2010.11929."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import VisionTransformer

from ssl_mi.networks.encoders import check_images
from ssl_mi.networks.plain import PlainForm, identity_head
from ssl_mi.networks.weights import Weights, start_from


class ViT(nn.Module):
    """torchvision's VisionTransformer without its classifier.

    Patches are embedded, a class token is prepended, learned positions are added, and pre-norm blocks with a hidden
    width of 4 * `width` follow. Positions are learned for `image_size`; images of another size (multi-crop) get them by
    bicubic interpolation (Caron et al. 2021, arXiv:2104.14294). Tiny is width 192, depth 12, heads 3; small is width
    384, depth 12, heads 6 (Touvron et al. 2021, arXiv:2012.12877, table 1).

    Args:
        image_size: Side of an image, in pixels.
        patch_size: Side of a patch, in pixels.
        width: Width of a token and of the output.
        depth: Number of blocks.
        heads: Attention heads of a block.
        pool: "class" returns the class token, "mean" the mean of the patch tokens, after the last norm.
        in_channels: Channels of an image.
        weights: What to start from, see `weights.start_from`; None for random weights.

    Attributes:
        out_dim: Width of the output.
        map_dims: Channels of the one feature map.

    Raises:
        ValueError: If a side is not a multiple of `patch_size`, `width` is not one of `heads`, or `pool` is unknown.

    References:
        Dosovitskiy et al. 2021 (arXiv:2010.11929).

    Example:
        >>> import torch
        >>> from ssl_mi.networks import ViT
        >>> ViT(image_size=16, patch_size=8, width=32, depth=1, heads=2)(torch.randn(2, 3, 16, 16)).shape
        torch.Size([2, 32])
    """

    def __init__(
        self,
        image_size: int,
        patch_size: int,
        width: int,
        depth: int,
        heads: int,
        pool: str = "class",
        in_channels: int = 3,
        weights: Weights = None,
    ) -> None:
        super().__init__()
        if pool not in ("class", "mean"):
            raise ValueError(f"ViT: pool must be 'class' or 'mean', but got {pool!r}")
        if image_size % patch_size:
            raise ValueError(f"ViT: image_size {image_size} is not a multiple of patch_size {patch_size}")
        if width % heads:
            raise ValueError(f"ViT: width {width} is not a multiple of heads {heads}")
        self.patch_size, self.pool, self.in_channels, self.out_dim = patch_size, pool, in_channels, width
        self.image_size, self.map_dims, self.heads = image_size, [width], heads
        self.net = VisionTransformer(image_size, patch_size, depth, heads, width, mlp_dim=4 * width)
        self.net.heads = nn.Identity()
        if in_channels != 3:
            self.net.conv_proj = nn.Conv2d(in_channels, width, patch_size, patch_size)
            nn.init.trunc_normal_(self.net.conv_proj.weight, std=(in_channels * patch_size**2) ** -0.5)
            nn.init.zeros_(self.net.conv_proj.bias)
        start_from(self, weights)

    def forward(self, x: Tensor) -> Tensor:
        """Images [n, in_channels, h, w] -> representations [n, width]."""
        return self._pool(self._tokens(x)[0])

    def with_maps(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Representations [n, width], and the patch tokens after the last norm as one map [n, width, rows, columns]."""
        tokens, grid = self._tokens(x)
        return self._pool(tokens), [tokens[:, 1:].transpose(1, 2).unflatten(2, grid)]

    def visible(self, x: Tensor, keep: Tensor) -> Tensor:
        """The tokens of some patches only, which is what a masked autoencoder encodes.

        Args:
            x: Images [n, in_channels, h, w].
            keep: Indices of the patches, int64 [n, kept].

        Returns:
            Tokens [n, 1 + kept, width]; the class token comes first. Patches keep their positions.

        References:
            He et al. 2022 (arXiv:2111.06377), section 3.
        """
        return self._tokens(x, keep)[0]

    def masked(self, x: Tensor, hidden: Tensor, token: Tensor) -> Tensor:
        """The tokens of whole images, some of whose patches are replaced before the first block.

        Args:
            x: Images [n, in_channels, h, w].
            hidden: Which patches are replaced, bool [n, patches].
            token: What replaces the embedding of a patch, [width]; positions are added to it.

        Returns:
            Tokens [n, 1 + patches, width]; the class token comes first.

        References:
            Xie et al. 2022 (arXiv:2111.09886), section 3.2; Zhou et al. 2022 (arXiv:2111.07832).
        """
        return self._tokens(x, replaced=(hidden, token))[0]

    def blocks(self, x: Tensor, last: int) -> Tensor:
        """The tokens after each of the last blocks, without the norm that follows them, [n, last, 1 + patches, width].

        Args:
            x: Images [n, in_channels, h, w].
            last: How many blocks.

        Raises:
            ValueError: If there are not as many.

        References:
            Baevski et al. 2022 (arXiv:2202.03555), section 3.3.
        """
        layers = self.net.encoder.layers
        if not 1 <= last <= len(layers):
            raise ValueError(f"ViT: the last {last} blocks of {len(layers)}: set objective.last or encoder.depth")
        outputs: list[Tensor] = []
        hooks = [layer.register_forward_hook(lambda _m, _x, y: outputs.append(y)) for layer in layers[-last:]]
        try:
            self._tokens(x)
        finally:
            for hook in hooks:
                hook.remove()
        return torch.stack(outputs, 1)

    def plain_forms(self) -> dict[str, PlainForm]:
        """As torchvision's VisionTransformer whose classifier is the identity, and as timm's without a classifier."""
        return {**self._torchvisions(), "timm": self._timms()}

    def _torchvisions(self) -> dict[str, PlainForm]:
        if self.pool != "class":
            return {}  # torchvision's can only give the class token
        transformer, patch = self.net, self.patch_size
        build = [
            "net = torchvision.models.VisionTransformer(",
            f"    image_size={self.image_size}, patch_size={patch}, num_layers={len(transformer.encoder.layers)},",
            f"    num_heads={self.heads}, hidden_dim={self.out_dim}, mlp_dim={4 * self.out_dim},",
            f"    num_classes={self.out_dim},",
            ")",
        ]
        if self.in_channels != 3:
            build += [f"net.conv_proj = nn.Conv2d({self.in_channels}, {self.out_dim}, {patch}, {patch})"]
        state = {**transformer.state_dict(), **identity_head("heads.head", self.out_dim)}
        differs = "" if self.in_channels == 3 else f"conv_proj takes {self.in_channels} channels"
        return {"torchvision": PlainForm(("import torchvision", "from torch import nn"), tuple(build), state, differs)}

    def _timms(self) -> PlainForm:
        depth, pool = len(self.net.encoder.layers), {"class": "token", "mean": "avg"}[self.pool]
        build = (
            "net = VisionTransformer(",
            f"    img_size={self.image_size}, patch_size={self.patch_size}, in_chans={self.in_channels},",
            f"    embed_dim={self.out_dim}, depth={depth}, num_heads={self.heads}, num_classes=0,",
            f"    global_pool={pool!r}, fc_norm=False,",
            ")",
        )
        state = {_timms_name(name): x for name, x in self.net.state_dict().items()}
        return PlainForm(("from timm.models.vision_transformer import VisionTransformer",), build, state)

    def _pool(self, tokens: Tensor) -> Tensor:
        return tokens[:, 0] if self.pool == "class" else tokens[:, 1:].mean(dim=1)

    def _tokens(
        self, x: Tensor, keep: Tensor | None = None, replaced: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[int, int]]:
        """[n, 1 + rows * columns, width] and (rows, columns); with `keep`, of these patches only.

        replaced: which patches' embeddings a token takes the place of, and the token.
        """
        check_images(x, self.in_channels, "ViT")
        height, width = x.shape[2:]
        if height % self.patch_size or width % self.patch_size:
            raise ValueError(
                f"ViT: images of {height} x {width} do not divide into patches of {self.patch_size}: "
                f"set encoder.patch_size or the size of the augmentation"
            )
        patches = self.net.conv_proj(x)  # [n, d, h/p, w/p]
        grid = patches.shape[2:]
        tokens = patches.flatten(2).transpose(1, 2)
        if replaced is not None:
            hidden, token = replaced
            tokens = torch.where(hidden[:, :, None], token.to(tokens.dtype), tokens)
        positions = self._positions(*grid)
        tokens = tokens + positions[:, 1:]
        if keep is not None:
            tokens = tokens.gather(1, keep[:, :, None].expand(-1, -1, tokens.shape[2]))
        first = (self.net.class_token + positions[:, :1]).expand(x.shape[0], -1, -1)
        transformer = self.net.encoder
        tokens = transformer.dropout(torch.cat([first, tokens], dim=1))
        return transformer.ln(transformer.layers(tokens)), tuple(grid)

    def _positions(self, rows: int, columns: int) -> Tensor:
        """[1, 1 + rows * columns, d]: the learned positions, resized where the grid is another."""
        learned = self.net.encoder.pos_embedding
        side = self.net.image_size // self.patch_size
        if (rows, columns) == (side, side):
            return learned
        grid = learned[:, 1:].transpose(1, 2).unflatten(2, (side, side))
        grid = F.interpolate(grid, size=(rows, columns), mode="bicubic", align_corners=False)
        return torch.cat([learned[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)


_TIMMS_WORDS = (
    ("encoder.layers.encoder_layer_", "blocks."),
    ("self_attention.in_proj_", "attn.qkv."),
    ("self_attention.out_proj", "attn.proj"),
    ("ln_1", "norm1"),
    ("ln_2", "norm2"),
    ("mlp.0", "mlp.fc1"),
    ("mlp.3", "mlp.fc2"),
    ("encoder.ln", "norm"),
    ("encoder.pos_embedding", "pos_embed"),
    ("conv_proj", "patch_embed.proj"),
    ("class_token", "cls_token"),
)


def _timms_name(name: str) -> str:
    """torchvision's name of a weight of a Vision Transformer -> timm's."""
    for theirs, timms in _TIMMS_WORDS:
        name = name.replace(theirs, timms)
    return name
