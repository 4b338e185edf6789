"""Where an encoder runs: a device by name, refused in a line where it is not there."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

Movable = TypeVar("Movable", nn.Module, Tensor)


def on_device(what: Movable, name: str) -> Movable:
    """A module or a tensor on a device.

    Args:
        what: What is moved.
        name: "cpu", "cuda", "cuda:1", "mps", ...

    Returns:
        It, there.

    Raises:
        ValueError: If there is no such device.
    """
    try:
        device = torch.device(name)
        if device.type == "meta":
            raise RuntimeError("it holds no numbers")
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(
            f"device={name}: torch {torch.__version__} cannot use it here ({str(error).splitlines()[0].rstrip('.')}); "
            "use cpu, or install a build of torch for this machine's driver"
        ) from error
    return what.to(device)
