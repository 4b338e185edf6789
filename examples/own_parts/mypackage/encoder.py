"""An encoder: a module [n, 3, h, w] -> [n, out_dim] that says its `out_dim`."""

from torch import Tensor, nn


class StripeNet(nn.Module):
    """Strided convolutions, then the mean over places.

    Args:
        width: Channels of every layer.
        depth: Layers; each halves the image.
    """

    def __init__(self, width: int = 32, depth: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i in range(depth):
            layers += [nn.Conv2d(width if i else 3, width, 3, stride=2, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.out_dim = width

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images).mean((2, 3))
