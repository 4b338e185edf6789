"""Encoders: images [n, c, h, w] -> representations h [n, out_dim], the part of a tower that is kept after training.

The contract is `contracts.Encoder`. Inputs are normalised floats; `.to(memory_format=torch.channels_last)` and bfloat16
autocast are safe for all encoders here. The Vision Transformer is in `vit.py`.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
import torchvision
from torch import Tensor, nn

from ssl_mi.networks.plain import PlainForm, identity_head
from ssl_mi.networks.weights import start_from


def check_images(x: Tensor, channels: int, name: str) -> None:
    """Raise ValueError unless `x` is a float batch [n, channels, h, w]; `name` is the encoder's in the message."""
    if x.ndim != 4 or x.shape[1] != channels:
        raise ValueError(
            f"{name} takes images [n, {channels}, h, w], but got {list(x.shape)}: "
            "change the data, or give the encoder as many input channels as the images have (encoder.in_channels)"
        )
    if not x.is_floating_point():
        raise ValueError(f"{name} takes normalised float images, but got {x.dtype}: augment or clean them first")


class ConvNet(nn.Module):
    """Blocks of 3x3 convolution, batch norm, max-pool 2 (but in the last), ReLU; global average.

    Small enough to train on a CPU: the default run uses it on 32 x 32 images.

    Args:
        widths: Channels of each block; the last is the width of the output.
        in_channels: Channels of an image.
        stem_stride: Stride of the first convolution; 2 halves the resolution there, where most of the time is spent.
        weights: What to start from, see `weights.start_from`; None for random weights.

    Attributes:
        out_dim: Width of the output, widths[-1].
        map_dims: Channels of the feature maps, the coarsest first.

    Raises:
        ValueError: On no or non-positive widths, images of another number of channels, or images with a side below
            2^(len(widths) - 1) * stem_stride.

    Example:
        >>> import torch
        >>> from ssl_mi.networks import ConvNet
        >>> ConvNet([16, 32])(torch.randn(2, 3, 32, 32)).shape
        torch.Size([2, 32])
    """

    def __init__(
        self,
        widths: Sequence[int] = (32, 64, 128, 256),
        in_channels: int = 3,
        stem_stride: int = 1,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        if not widths or min(widths) < 1:
            raise ValueError(f"ConvNet: widths must be positive channel counts, one a layer, but got {list(widths)}")
        self.in_channels, self.stem_stride, self.out_dim = in_channels, stem_stride, int(widths[-1])
        self.smallest = stem_stride * 2 ** (len(widths) - 1)
        layers: list[nn.Module] = []
        for i, (c_in, c_out) in enumerate(pairwise([in_channels, *widths])):
            # The batch norm that follows has the bias.
            stride = stem_stride if i == 0 else 1
            layers += [nn.Conv2d(c_in, c_out, 3, stride, padding=1, bias=False), nn.BatchNorm2d(c_out)]
            # ReLU keeps the order, so that it gives after the pooling what it gives before, at a quarter of the work.
            layers += [nn.MaxPool2d(2)] if i < len(widths) - 1 else []
            layers += [nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers)
        self.map_dims = [int(width) for width in reversed(widths)]
        start_from(self, weights)

    def forward(self, x: Tensor) -> Tensor:
        """Images [n, in_channels, h, w] -> representations [n, out_dim]."""
        self._check(x)
        return self.layers(x).mean(dim=(2, 3))

    def with_maps(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Representations [n, out_dim], and the output [n, c, rows, columns] of every block before it is pooled."""
        self._check(x)
        maps = []
        for layer in self.layers:
            x = layer(x)
            if isinstance(layer, nn.BatchNorm2d):
                maps.append(nn.functional.relu(x))
        return x.mean(dim=(2, 3)), maps[::-1]

    def plain_forms(self) -> dict[str, PlainForm]:
        """As a plain `nn.Sequential`."""
        widths, lines = self.map_dims[::-1], []
        for i, (c_in, c_out) in enumerate(pairwise([self.in_channels, *widths])):
            stride = self.stem_stride if i == 0 else 1
            lines += [f"nn.Conv2d({c_in}, {c_out}, 3, {stride}, padding=1, bias=False)", f"nn.BatchNorm2d({c_out})"]
            lines += [*(["nn.MaxPool2d(2)"] if i < len(widths) - 1 else []), "nn.ReLU(inplace=True)"]
        lines += ["nn.AdaptiveAvgPool2d(1)", "nn.Flatten()"]
        build = ("net = nn.Sequential(", *(f"    {line}," for line in lines), ")")
        differs = "ConvNet is a network of ssl_mi; torchvision and timm have none like it"
        return {"torch": PlainForm(("from torch import nn",), build, self.layers.state_dict(), differs)}

    def _check(self, x: Tensor) -> None:
        check_images(x, self.in_channels, "ConvNet")
        if min(x.shape[2:]) < self.smallest:
            raise ValueError(
                f"ConvNet: images of {list(x.shape[2:])} vanish in the pooling, which needs sides of "
                f"{self.smallest} or more: use fewer widths or larger images"
            )


class ResNet(nn.Module):
    """torchvision's ResNet-18, -34 or -50 without its classifier.

    Args:
        depth: 18, 34 or 50.
        stem: "imagenet" is the paper's (7x7 stride 2, then max-pool 3x3 stride 2). "cifar" is SimCLR's for small images
            (Chen et al. 2020, arXiv:2002.05709, B.9): 3x3 stride 1 padding 1 and no max-pool, so 32 x 32 images give
            maps of 32, 16, 8, 4. (solo-learn pads by 2, which gives 34, 17, 9, 5 and about a quarter more work: its
            figures are of that network.)
        zero_init_residual: Start each residual branch at zero, by the gamma of its last batch norm (Goyal et al. 2017,
            arXiv:1706.02677, 5.1; SimCLR's reference code does).
        in_channels: Channels of an image.
        weights: What to start from, see `weights.start_from`; None for random weights.

    Attributes:
        out_dim: Width of the output: 512 (18, 34) or 2048 (50).
        map_dims: Channels of the feature maps, the coarsest first.

    Raises:
        ValueError: On another depth or stem, or images of another number of channels.

    References:
        He et al. 2016 (arXiv:1512.03385).

    Example:
        >>> import torch
        >>> from ssl_mi.networks import ResNet
        >>> ResNet(18, stem="cifar")(torch.randn(2, 3, 32, 32)).shape
        torch.Size([2, 512])
    """

    def __init__(
        self,
        depth: int = 18,
        stem: str = "imagenet",
        zero_init_residual: bool = False,
        in_channels: int = 3,
        weights: str | None = None,
    ) -> None:
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
        self.depth, self.stem = depth, stem
        self.in_channels, self.out_dim = in_channels, net.fc.in_features
        net.fc = nn.Identity()
        self.net = net
        self.map_dims = [self.out_dim // 2**i for i in range(4)]
        start_from(self, weights)

    def forward(self, x: Tensor) -> Tensor:
        """Images [n, in_channels, h, w] -> representations [n, out_dim]."""
        check_images(x, self.in_channels, "ResNet")
        return self.net(x)

    def with_maps(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Representations [n, out_dim], and the outputs [n, c, rows, columns] of the four stages.

        A location of the last stage sees the whole of a small image.
        """
        check_images(x, self.in_channels, "ResNet")
        x = self.net.maxpool(self.net.relu(self.net.bn1(self.net.conv1(x))))
        maps = []
        for stage in (self.net.layer1, self.net.layer2, self.net.layer3, self.net.layer4):
            x = stage(x)
            maps.append(x)
        return self.net.avgpool(x).flatten(1), maps[::-1]

    def plain_forms(self) -> dict[str, PlainForm]:
        """As torchvision's ResNet whose classifier is the identity, and as timm's without a classifier."""
        stem, differs = self._stem()
        name, state = f"resnet{self.depth}", self.net.state_dict()
        ours = f"net = torchvision.models.{name}(weights=None, num_classes={self.out_dim})"
        timms = f"net = timm.create_model({name!r}, pretrained=False, num_classes=0)"
        return {
            "torchvision": PlainForm(
                ("import torchvision", "from torch import nn"),
                (ours, *stem),
                {**state, **identity_head("fc", self.out_dim)},
                differs,
            ),
            "timm": PlainForm(("import timm", "from torch import nn"), (timms, *stem), state, differs),
        }

    def describe(self) -> str:
        """Depth and stem, for the first lines of a run."""
        stem = "7x7 stride 2 and a max-pool" if self.stem == "imagenet" else "3x3 stride 1, for small images"
        return f"ResNet-{self.depth}, stem '{self.stem}' ({stem})"

    def _stem(self) -> tuple[tuple[str, ...], str]:
        """Lines that change the stem of a stock network, and the change in words."""
        if self.stem == "cifar":
            lines = (
                f"net.conv1 = nn.Conv2d({self.in_channels}, 64, 3, 1, 1, bias=False)",
                "net.maxpool = nn.Identity()",
            )
            return lines, "its stem is that for small images: conv1 is 3x3 with stride 1, and there is no max-pool"
        if self.in_channels != 3:
            line = f"net.conv1 = nn.Conv2d({self.in_channels}, 64, 7, 2, 3, bias=False)"
            return (line,), f"conv1 takes {self.in_channels} channels"
        return (), ""


def _first_convolution(in_channels: int, kernel_size: int, stride: int, padding: int) -> nn.Conv2d:
    conv = nn.Conv2d(in_channels, 64, kernel_size, stride, padding, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")  # as torchvision's own
    return conv


class MLPEncoder(nn.Module):
    """Flattened pixels through Linear, batch norm, ReLU, once per width: a network without convolution.

    Args:
        in_shape: Channels, height and width of an image.
        widths: Widths of the layers; the last is the width of the output.
        weights: What to start from, see `weights.start_from`; None for random weights.

    Attributes:
        out_dim: Width of the output, widths[-1].

    Raises:
        ValueError: On no or non-positive widths, or images of another shape.

    Example:
        >>> import torch
        >>> from ssl_mi.networks import MLPEncoder
        >>> MLPEncoder((3, 8, 8), widths=[32, 16])(torch.randn(2, 3, 8, 8)).shape
        torch.Size([2, 16])
    """

    def __init__(
        self, in_shape: Sequence[int] = (3, 32, 32), widths: Sequence[int] = (512, 256), weights: str | None = None
    ) -> None:
        super().__init__()
        if not widths or min(widths) < 1:
            raise ValueError(f"MLPEncoder: widths must be positive, one a layer, but got {list(widths)}")
        self.in_shape, self.out_dim = tuple(in_shape), int(widths[-1])
        layers: list[nn.Module] = []
        for d_in, d_out in pairwise([math.prod(in_shape), *widths]):
            layers += [nn.Linear(d_in, d_out, bias=False), nn.BatchNorm1d(d_out), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers)
        start_from(self, weights)

    def forward(self, x: Tensor) -> Tensor:
        """Images [n, *in_shape] -> representations [n, out_dim]."""
        check_images(x, self.in_shape[0], "MLPEncoder")
        if x.shape[1:] != self.in_shape:
            raise ValueError(
                f"MLPEncoder was made for images of {list(self.in_shape)}, but got {list(x.shape[1:])}: "
                f"set encoder.in_shape to what the augmentation gives"
            )
        return self.layers(x.flatten(1))


class TorchvisionEncoder(nn.Module):
    """Any of torchvision's classification networks, by name, without its classifier.

    The layer that gives the class scores (the last Linear; SqueezeNet's 1x1 convolution) becomes the identity, and the
    Dropout next to it is removed: h is the input of the classifier. The auxiliary classifiers of GoogLeNet and
    Inception are switched off. `out_dim` is found by passing one blank image of `image_size` through the network, which
    also shows at once a size that the network cannot take.

    Args:
        name: As in `torchvision.models.list_models(module=torchvision.models)`.
        weights: None (random), or a name such as "IMAGENET1K_V2" or "DEFAULT", downloaded by torchvision (a supervised
            start, which is no longer self-supervised learning); or a file or run, see `weights.start_from`.
        image_size: Side of the images, in pixels.
        options: Keyword arguments of torchvision's builder, e.g. {image_size: 32} for its ViTs.
        pretrained: True is weights="DEFAULT".

    Attributes:
        out_dim: Width of the output.

    Raises:
        ValueError: On an unknown name (the message has the nearest), unknown weights, or images that the network cannot
            take.
        FileNotFoundError: If the weights are neither cached nor can be downloaded.

    Example:
        >>> import torch
        >>> from ssl_mi.networks import TorchvisionEncoder
        >>> TorchvisionEncoder("squeezenet1_1", image_size=64)(torch.randn(2, 3, 64, 64)).shape
        torch.Size([2, 512])
    """

    def __init__(
        self,
        name: str,
        weights: str | None = None,
        image_size: int = 224,
        options: dict[str, Any] | None = None,
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        if pretrained and weights is not None:
            raise ValueError(f"TorchvisionEncoder: give pretrained=true or weights={weights}, not both")
        weights = "DEFAULT" if pretrained else weights
        file = weights if weights is not None and Path(weights).expanduser().exists() else None
        weights = None if file is not None else weights
        self.options = dict(options or {})
        self.net = _build(name, weights, dict(self.options))
        for auxiliary in ("AuxLogits", "aux1", "aux2"):
            if hasattr(self.net, auxiliary):
                setattr(self.net, auxiliary, None)
                self.net.aux_logits = False  # type: ignore[assignment]  # torchvision's is a bool
        self.dropped = _drop_classifier(self.net)
        self.name, self.out_dim = name, _output_width(self.net, name, image_size)
        start_from(self, file)

    def forward(self, x: Tensor) -> Tensor:
        """Images [n, 3, h, w] -> representations [n, out_dim]."""
        check_images(x, 3, f"TorchvisionEncoder({self.name!r})")
        return self.net(x)

    def plain_forms(self) -> dict[str, PlainForm]:
        """As torchvision's network without its classifier."""
        options = "".join(f", {key}={value!r}" for key, value in self.options.items())
        build = [f"net = torchvision.models.get_model({self.name!r}, weights=None{options})"]
        for auxiliary in ("AuxLogits", "aux1", "aux2"):
            if hasattr(self.net, auxiliary):
                build += [f"net.{auxiliary} = None", "net.aux_logits = False"]
        build += [f"net.set_submodule({path!r}, nn.Identity())" for path in self.dropped]
        differs = f"its classifier is the identity: {', '.join(self.dropped)}"
        imports = ("import torchvision", "from torch import nn")
        return {"torchvision": PlainForm(imports, tuple(build), self.net.state_dict(), differs)}


def _build(name: str, weights: str | None, options: dict[str, Any]) -> nn.Module:
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


def _drop_classifier(net: nn.Module) -> list[str]:
    """Make the layer that gives the class scores, and the Dropout in its block, the identity; their names."""
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
    return [scorers[-1], *dropouts]


def _output_width(net: nn.Module, name: str, image_size: int) -> int:
    was_training = net.training
    net.eval()  # so that the blank image does not change running statistics
    try:
        with torch.no_grad():
            h = net(torch.zeros(1, 3, image_size, image_size))
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"{name} cannot take images of {image_size} x {image_size}: {error}") from error
    finally:
        net.train(was_training)
    return h.shape[1]
