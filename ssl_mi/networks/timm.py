"""Networks of timm as encoders."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ssl_mi.networks.encoders import check_images
from ssl_mi.networks.measured import measured
from ssl_mi.networks.plain import PlainForm
from ssl_mi.networks.weights import Weights, start_from


class TimmEncoder(nn.Module):
    """Any network of timm, by name, without its classifier.

    Args:
        name: As in `timm.list_models()`.
        pretrained: Start from timm's supervised weights, from its cache or downloaded: no longer self-supervised.
        image_size: Side of an image, in pixels.
        in_channels: Channels of an image.
        options: Keyword arguments of `timm.create_model`, e.g. {img_size: 32} for ViTs.
        weights: See `weights.start_from`.

    Attributes:
        out_dim: Width of the output, measured on a blank image.

    Raises:
        ValueError: If timm is not installed or has no such network, its weights cannot be had, or it cannot take such
            images.
    """

    def __init__(
        self,
        name: str,
        pretrained: bool = False,
        image_size: int = 224,
        in_channels: int = 3,
        options: dict[str, Any] | None = None,
        weights: Weights = None,
    ) -> None:
        super().__init__()
        try:
            import timm
        except ImportError as error:
            raise ValueError("encoder=timm needs timm: pip install 'ssl_mi[export]'") from error
        if not timm.is_model(name):
            near = timm.list_models(f"*{name}*")[:5]
            raise ValueError(f"timm has no network {name!r}; {', '.join(near) or 'timm.list_models()'} are there")
        self.name, self.in_channels, self.options = name, in_channels, dict(options or {})
        try:
            self.net = timm.create_model(
                name, pretrained=pretrained, num_classes=0, in_chans=in_channels, **self.options
            )
        except (OSError, RuntimeError) as error:
            if not pretrained:
                raise
            raise ValueError(
                f"weights of {name} are not on this disk and could not be downloaded ({type(error).__name__}): set "
                "encoder.pretrained=false, or name a file with encoder.weights"
            ) from error
        width: Any = measured(self.net, image_size, in_channels).out_dim
        self.out_dim = int(width)
        start_from(self, weights)

    def forward(self, x: Tensor) -> Tensor:
        """Images [n, in_channels, h, w] -> representations [n, out_dim]."""
        check_images(x, self.in_channels, f"TimmEncoder({self.name!r})")
        return self.net(x)

    def plain_forms(self) -> dict[str, PlainForm]:
        """As timm's network without its classifier."""
        options = "".join(f", {key}={value!r}" for key, value in self.options.items())
        line = f"net = timm.create_model({self.name!r}, num_classes=0, in_chans={self.in_channels}{options})"
        return {"timm": PlainForm(("import timm",), (line,), self.net.state_dict())}
