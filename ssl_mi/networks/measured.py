"""Networks of others as encoders: their width is measured."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def measured(module: nn.Module, image_size: int = 224, channels: int = 3) -> nn.Module:
    """A network as an encoder: where it does not say `out_dim`, one blank image is passed through it.

        encoder: {_target_: ssl_mi.networks.measured, module: {_target_: mypackage.Net}, image_size: "${data.size}"}

    Args:
        module: Images [n, channels, image_size, image_size] to [n, d].
        image_size: Side of an image, in pixels.
        channels: Channels of an image.

    Returns:
        The module itself, with the int attribute `out_dim`.

    Raises:
        ValueError: If it cannot take such images or gives something else than [n, d].
    """
    if isinstance(getattr(module, "out_dim", None), int):
        return module
    modes = [(part, part.training) for part in module.modules()]
    module.eval()  # so that the blank image does not change running statistics
    name, device = type(module).__name__, next((p.device for p in module.parameters()), torch.device("cpu"))
    try:
        with torch.no_grad():
            h = module(torch.zeros(1, channels, image_size, image_size, device=device))
    except (RuntimeError, ValueError, AssertionError, TypeError) as error:
        raise ValueError(f"{name} cannot take images [1, {channels}, {image_size}, {image_size}]: {error}") from error
    finally:
        for part, training in modes:
            part.training = training
    if not isinstance(h, Tensor) or h.ndim != 2:
        given = list(h.shape) if isinstance(h, Tensor) else type(h).__name__
        raise ValueError(f"{name} gives {given} of one image: an encoder gives a tensor [n, d]; pool or flatten it")
    module.out_dim = h.shape[1]  # type: ignore[assignment]  # nn.Module declares tensors and modules
    return module
