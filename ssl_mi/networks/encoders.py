"""Encoders f: [n, c, h, w] -> h: [n, out_dim], the part of a tower that is kept after training.

Every encoder has `out_dim` and refuses, with the reason, images that it was not made for. Inputs are
normalised floats; `.to(memory_format=torch.channels_last)` and bfloat16 autocast are safe on all of them.
Those that have maps say their channels, the coarsest map first, in `map_dims`, and `with_maps(x)` gives
(h, [map [n, c, rows, columns] for each]): ConvNet, ResNet and ViT.
The Vision Transformer has a file of its own, `vit.py`.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from itertools import pairwise
from urllib.error import URLError

import torch
import torchvision
from torch import Tensor, nn


def check_images(x: Tensor, channels: int, name: str) -> None:
    """Raise ValueError unless `x` is a float batch [n, channels, h, w]."""
    if x.ndim != 4 or x.shape[1] != channels:
        raise ValueError(
            f"{name} takes images [n, {channels}, h, w], but got {list(x.shape)}: "
            f"change the data, or give the encoder as many input channels as the images have"
        )
    if not x.is_floating_point():
        raise ValueError(f"{name} takes normalised float images, but got {x.dtype}: augment or clean them first")


class ConvNet(nn.Module):
    """`len(widths)` blocks of 3x3 convolution, batch norm, ReLU; max-pool 2 between them; global average.

    Small enough to train on a CPU: what the default run uses on 32 x 32 images. `stem_stride=2` halves
    the resolution in the first convolution already, where most of the time goes.

    Input [n, in_channels, h, w] with h, w >= 2^(len(widths) - 1) * stem_stride; output [n, widths[-1]].
    Raises ValueError on other shapes, and on no or non-positive widths.
    """

    def __init__(self, widths: Sequence[int] = (32, 64, 128, 256), in_channels: int = 3, stem_stride: int = 1):
        super().__init__()
        if not widths or min(widths) < 1:
            raise ValueError(f"ConvNet: widths must be positive channel counts, one a layer, but got {list(widths)}")
        self.in_channels, self.out_dim = in_channels, int(widths[-1])
        self.smallest = stem_stride * 2 ** (len(widths) - 1)
        layers: list[nn.Module] = []
        for i, (c_in, c_out) in enumerate(pairwise([in_channels, *widths])):
            # The batch norm that follows has the bias.
            stride = stem_stride if i == 0 else 1
            layers += [nn.Conv2d(c_in, c_out, 3, stride, padding=1, bias=False), nn.BatchNorm2d(c_out)]
            layers += [nn.ReLU(inplace=True)]
            if i < len(widths) - 1:
                layers += [nn.MaxPool2d(2)]
        self.layers = nn.Sequential(*layers)
        self.map_dims = [int(width) for width in reversed(widths)]

    def forward(self, x: Tensor) -> Tensor:
        self._check(x)
        return self.layers(x).mean(dim=(2, 3))

    def with_maps(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """h, and the output of every block before it is pooled."""
        self._check(x)
        maps = []
        for layer in self.layers:
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                maps.append(x)
        return x.mean(dim=(2, 3)), maps[::-1]

    def _check(self, x: Tensor) -> None:
        check_images(x, self.in_channels, "ConvNet")
        if min(x.shape[2:]) < self.smallest:
            raise ValueError(
                f"ConvNet: images of {list(x.shape[2:])} vanish in the pooling, which needs sides of "
                f"{self.smallest} or more: use fewer widths or larger images"
            )


class ResNet(nn.Module):
    """torchvision's ResNet-18, -34 or -50 without its classifier: He et al. 2016, arXiv:1512.03385.

    stem: `imagenet` is the paper's (7x7 stride 2, then max-pool 3x3 stride 2);
          `cifar` is SimCLR's for small images (Chen et al. 2020, arXiv:2002.05709, B.9): 3x3 stride 1
          padding 1 and no max-pool, so 32 x 32 images give maps of 32, 16, 8, 4. (solo-learn pads by 2,
          which gives 34, 17, 9, 5 and about a quarter more work: figures from there are of that network.)
    zero_init_residual: start each residual branch at zero, by its last batch norm's gamma
          (Goyal et al. 2017, arXiv:1706.02677, 5.1; SimCLR's reference code does).

    Input [n, in_channels, h, w]; output [n, 512] (18, 34) or [n, 2048] (50).
    """

    def __init__(
        self,
        depth: int = 18,
        stem: str = "imagenet",
        zero_init_residual: bool = False,
        in_channels: int = 3,
    ):
        super().__init__()
        builders = {
            18: torchvision.models.resnet18,
            34: torchvision.models.resnet34,
            50: torchvision.models.resnet50,
        }
        if depth not in builders:
            raise ValueError(f"ResNet: depth must be 18, 34 or 50, but got {depth!r}; others: TorchvisionEncoder")
        if stem not in ("cifar", "imagenet"):
            raise ValueError(f"ResNet: stem must be 'cifar' or 'imagenet', but got {stem!r}")
        net = builders[depth](weights=None, zero_init_residual=zero_init_residual)
        if stem == "cifar":
            net.conv1 = _first_convolution(in_channels, kernel_size=3, stride=1, padding=1)
            net.maxpool = nn.Identity()
        elif in_channels != 3:
            net.conv1 = _first_convolution(in_channels, kernel_size=7, stride=2, padding=3)
        self.in_channels, self.out_dim = in_channels, net.fc.in_features
        net.fc = nn.Identity()
        self.net = net
        self.map_dims = [self.out_dim // 2**i for i in range(4)]

    def forward(self, x: Tensor) -> Tensor:
        check_images(x, self.in_channels, "ResNet")
        return self.net(x)

    def with_maps(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """h, and the outputs of the four stages. A location of the last has seen the whole of a small image."""
        check_images(x, self.in_channels, "ResNet")
        x = self.net.maxpool(self.net.relu(self.net.bn1(self.net.conv1(x))))
        maps = []
        for stage in (self.net.layer1, self.net.layer2, self.net.layer3, self.net.layer4):
            x = stage(x)
            maps.append(x)
        return self.net.avgpool(x).flatten(1), maps[::-1]


def _first_convolution(in_channels: int, **shape: int) -> nn.Conv2d:
    conv = nn.Conv2d(in_channels, 64, bias=False, **shape)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")  # as torchvision's own
    return conv


class MLPEncoder(nn.Module):
    """Flattened pixels through Linear, batch norm, ReLU, once per width. The network without convolution.

    Input [n, *in_shape]; output [n, widths[-1]].
    """

    def __init__(self, in_shape: Sequence[int] = (3, 32, 32), widths: Sequence[int] = (512, 256)):
        super().__init__()
        if not widths or min(widths) < 1:
            raise ValueError(f"MLPEncoder: widths must be positive, one a layer, but got {list(widths)}")
        self.in_shape, self.out_dim = tuple(in_shape), int(widths[-1])
        layers: list[nn.Module] = []
        for d_in, d_out in pairwise([math.prod(in_shape), *widths]):
            layers += [nn.Linear(d_in, d_out, bias=False), nn.BatchNorm1d(d_out), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        check_images(x, self.in_shape[0], "MLPEncoder")
        if x.shape[1:] != self.in_shape:
            raise ValueError(
                f"MLPEncoder was made for images of {list(self.in_shape)}, but got {list(x.shape[1:])}: "
                f"set encoder.in_shape to what the augmentation gives"
            )
        return self.layers(x.flatten(1))


class TorchvisionEncoder(nn.Module):
    """Any of torchvision's classification networks, by name, without its classifier.

    The layer that gives the class scores (the last Linear; SqueezeNet's 1x1 convolution) becomes the
    identity, and the Dropout beside it goes too: h is what the classifier would read. GoogLeNet's and
    Inception's auxiliary classifiers are switched off. `out_dim` is found by passing one blank image
    of `image_size` through, which also shows at once a size the network cannot take.

    name:       as in `torchvision.models.list_models(module=torchvision.models)`.
    weights:    None (random), or a name such as "IMAGENET1K_V2" or "DEFAULT", downloaded by torchvision
                (a supervised start: not self-supervised learning any more).
    image_size: side of the images it will see.
    options:    keyword arguments of torchvision's builder, e.g. {image_size: 32} for its ViTs.

    Raises ValueError on an unknown name (saying the nearest), unknown weights, or images it cannot take;
    FileNotFoundError where the weights are neither cached nor to be had.
    """

    def __init__(self, name: str, weights: str | None = None, image_size: int = 224, options: dict | None = None):
        super().__init__()
        self.net = _build(name, weights, dict(options or {}))
        for auxiliary in ("AuxLogits", "aux1", "aux2"):
            if hasattr(self.net, auxiliary):
                setattr(self.net, auxiliary, None)
                self.net.aux_logits = False
        _drop_classifier(self.net)
        self.name, self.out_dim = name, _output_width(self.net, name, image_size)

    def forward(self, x: Tensor) -> Tensor:
        check_images(x, 3, f"TorchvisionEncoder({self.name!r})")
        return self.net(x)


def _build(name: str, weights: str | None, options: dict) -> nn.Module:
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        near = difflib.get_close_matches(str(name).lower(), known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(known)}"
        raise ValueError(f"torchvision has no classification model {name!r}: {hint}")
    choices = [w.name for w in torchvision.models.get_model_weights(name)]
    if weights is not None and weights not in [*choices, "DEFAULT"]:
        raise ValueError(f"torchvision has no weights {weights!r} for {name}: there are {choices} and DEFAULT")
    if name in ("googlenet", "inception_v3") and weights is None:
        options = {"init_weights": False, **options}  # their truncated normal draws take half a minute
    try:
        return torchvision.models.get_model(name, weights=weights, **options)
    except URLError as error:
        url = torchvision.models.get_model_weights(name)[weights].url
        folder = f"{torch.hub.get_dir()}/checkpoints"
        raise FileNotFoundError(
            f"weights {weights} of {name} are not in {folder} and could not be downloaded ({error.reason}): "
            f"put {url} there, or set weights to null"
        ) from error


def _drop_classifier(net: nn.Module) -> None:
    """Make the layer that gives the class scores, and the Dropout in its block, the identity."""
    scorers = [path for path, layer in net.named_modules() if isinstance(layer, nn.Linear)]
    if not scorers:  # SqueezeNet scores by a convolution
        scorers = [path for path, layer in net.named_modules() if isinstance(layer, nn.Conv2d)]
    classifier = scorers[-1].split(".")[0]
    dropouts = [
        path
        for path, layer in net.named_modules()
        if path.split(".")[0] == classifier and isinstance(layer, nn.Dropout)
    ]
    for path in [scorers[-1], *dropouts]:
        net.set_submodule(path, nn.Identity())


def _output_width(net: nn.Module, name: str, image_size: int) -> int:
    was_training = net.training
    net.eval()  # so that the blank image leaves no trace in running statistics
    try:
        with torch.no_grad():
            h = net(torch.zeros(1, 3, image_size, image_size))
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"{name} cannot take images of {image_size} x {image_size}: {error}") from error
    finally:
        net.train(was_training)
    return h.shape[1]
