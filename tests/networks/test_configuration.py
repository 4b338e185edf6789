"""Every entry of the encoder, towers, teacher and optimizer groups composes and does what its name says."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from ssl_mi.networks import ConvNet1d, TableMLP
from ssl_mi.networks.coupling import CouplingEncoder
from ssl_mi.networks.encoders import ConvNet, MLPEncoder, ResNet, TorchvisionEncoder
from ssl_mi.networks.teacher import EMA
from ssl_mi.networks.text import TextEncoder
from ssl_mi.networks.timm import TimmEncoder
from ssl_mi.networks.vit import ViT
from ssl_mi.optim import LARS, parameter_groups

CONF = Path(__file__).parents[2] / "conf"


def composed(*overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(overrides=["+data.size=32", "+data.x_dim=9", "+data.channels=3", *overrides])


def options(group):
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


ENCODERS = {
    "convnet": (ConvNet, 256),
    "convnet1d": (ConvNet1d, 128),
    "coupling": (CouplingEncoder, 3072),
    "mlp": (MLPEncoder, 256),
    "resnet18": (ResNet, 512),
    "resnet18_imagenet": (ResNet, 512),
    "resnet34": (ResNet, 512),
    "resnet50": (ResNet, 2048),
    "table_mlp": (TableMLP, 128),
    "text": (TextEncoder, 128),
    "timm": (TimmEncoder, 512),
    "torchvision": (TorchvisionEncoder, 1024),
    "vit_small": (ViT, 384),
    "vit_tiny": (ViT, 192),
}


FROM_DISK = ["transformers"]  # takes its weights and its width from a folder


def test_the_list_of_encoders_is_the_folder():
    assert options("encoder") == sorted([*ENCODERS, *FROM_DISK])


@pytest.mark.parametrize("name", ENCODERS)
def test_every_encoder_of_the_configuration_has_the_width_of_its_name(name):
    kind, out_dim = ENCODERS[name]
    if kind is TimmEncoder:
        pytest.importorskip("timm")
    with torch.device("meta"):  # shapes without numbers
        encoder = instantiate(composed(f"+encoder={name}").encoder)
    assert type(encoder) is kind
    assert encoder.out_dim == out_dim


@pytest.mark.parametrize("name", ["vit_tiny", "mlp", "coupling"])
def test_the_size_of_the_images_is_said_once_in_the_data(name):
    encoder = instantiate(composed(f"+encoder={name}", "data.size=16").encoder)
    assert encoder(torch.randn(2, 3, 16, 16)).shape == (2, encoder.out_dim)


def test_there_is_no_teacher_or_an_average():
    assert options("teacher") == ["ema", "none"]
    assert instantiate(composed("+teacher=none").teacher) is None
    teacher = instantiate(composed("+teacher=ema").teacher)
    assert isinstance(teacher, EMA)
    assert teacher.momentum_at(0.0) == 0.99


@pytest.mark.parametrize(("name", "kind"), [("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD), ("lars", LARS)])
def test_every_optimizer_takes_parameter_groups_and_keeps_the_numbers_of_its_file(name, kind):
    config = composed(f"+optimizer={name}").optimizer
    optimizer = instantiate(config)(parameter_groups(ConvNet([4, 6])))
    assert type(optimizer) is kind
    decayed, spared = optimizer.param_groups
    assert decayed["lr"] == spared["lr"] == config.lr
    assert (decayed["weight_decay"], spared["weight_decay"]) == (config.weight_decay, 0.0)


def test_towers_for_pictures_and_sentences_have_an_encoder_for_each():
    # The default package of an included option is that of the page: both groups are composed as a run does.
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", ["towers=image_text", "text_encoder.out_dim=32", "run_dir=nowhere"])
    towers = instantiate(config.towers)
    assert [type(towers.tower_of(v).encoder) for v in range(2)] == [ConvNet, TextEncoder]
    views = [torch.randn(4, 3, 32, 32), torch.randint(0, 50, (4, 7))]
    assert [h.shape for h in towers(views).h] == [(4, 256), (4, 32)]
    assert [z.shape for z in towers(views).z] == [(4, 128), (4, 128)]
