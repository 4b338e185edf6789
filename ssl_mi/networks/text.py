"""An encoder for sentences: tokens [n, length] -> h [n, out_dim]."""

from __future__ import annotations

from torch import Tensor, nn


class TextEncoder(nn.Module):
    """Embedding, GRU, mean over the words.

    Sentences are padded with 0 at the end. The GRU runs from left to right, so its states at the words do not depend on
    the padding, and the mean leaves the padding out. A sentence of padding only gives zeros.

    Args:
        vocabulary: Number of tokens, or more; rows that no token uses cost only memory.
        width: Width of the embedding.
        out_dim: Width of the GRU's state and of h.
        layers: Number of stacked GRUs.

    Raises:
        ValueError: On a number that is not positive, on anything but int64 [n, length], and on tokens outside the
            vocabulary.

    References:
        Cho et al. 2014 (arXiv:1406.1078).

    Example:
        >>> import torch
        >>> from ssl_mi.networks import TextEncoder
        >>> TextEncoder(vocabulary=10, width=8, out_dim=16)(torch.randint(10, (2, 5))).shape
        torch.Size([2, 16])
    """

    def __init__(self, vocabulary: int, width: int = 64, out_dim: int = 128, layers: int = 1) -> None:
        super().__init__()
        if min(vocabulary, width, out_dim, layers) < 1:
            raise ValueError(
                f"TextEncoder: vocabulary={vocabulary}, width={width}, out_dim={out_dim}, layers={layers}: "
                "all of them must be positive"
            )
        self.vocabulary, self.out_dim = vocabulary, out_dim
        self.embedding = nn.Embedding(vocabulary, width, padding_idx=0)
        self.reader = nn.GRU(width, out_dim, num_layers=layers, batch_first=True)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens int64 [n, length] -> representations [n, out_dim]."""
        if tokens.ndim != 2 or tokens.is_floating_point():
            raise ValueError(
                f"TextEncoder takes tokens int64 [n, length], but got {tokens.dtype} {list(tokens.shape)}: pictures go "
                "to another tower (towers=image_text has one of each)"
            )
        highest = int(tokens.max())
        if highest >= self.vocabulary:
            raise ValueError(
                f"TextEncoder: token {highest} is outside a vocabulary of {self.vocabulary}: "
                f"set text_encoder.vocabulary={highest + 1} or more"
            )
        shown = (tokens != 0)[:, :, None]
        states, _ = self.reader(self.embedding(tokens))
        return (states * shown).sum(1) / shown.sum(1).clamp_min(1)
