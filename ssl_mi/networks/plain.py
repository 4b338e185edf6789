"""Networks of this package as plain PyTorch, for whoever uses the weights without it."""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor


class PlainForm(NamedTuple):
    """A network that torch, torchvision or timm builds, and the weights that it loads with `strict=True`.

    Attributes:
        imports: Lines of Python that `build` needs.
        build: Lines of Python that make `net`, with random weights; net(x) is h once `state` is loaded.
        state: What `net.load_state_dict(state, strict=True)` takes.
        differs: How `net` differs from the library's own network of that name, in words; "" where it does not.
    """

    imports: tuple[str, ...]
    build: tuple[str, ...]
    state: dict[str, Tensor]
    differs: str = ""


@runtime_checkable
class HasPlainForms(Protocol):
    """An encoder that can be built without this package."""

    def plain_forms(self) -> dict[str, PlainForm]:
        """Library ("torchvision", "timm", "torch") -> the form in that library; the first is the most usual one."""


def identity_head(name: str, width: int) -> dict[str, Tensor]:
    """A classifier that gives h itself, so that a network with its classifier loads strictly and its output is h."""
    return {f"{name}.weight": torch.eye(width), f"{name}.bias": torch.zeros(width)}
