"""Encoders: widths, stems and refusals; torchvision is the twin."""

import pytest
import torch
import torchvision
from torch import nn

from ssl_mi.networks import encoders
from ssl_mi.networks.encoders import ConvNet, MLPEncoder, ResNet, TorchvisionEncoder
from ssl_mi.networks.vit import ViT

SMALL = {
    "convnet": lambda: ConvNet([4, 8], stem_stride=1),
    "convnet_wide_stride": lambda: ConvNet([4, 8, 6], stem_stride=2),
    "resnet18_cifar": lambda: ResNet(18, "cifar"),
    "resnet18_imagenet": lambda: ResNet(18, "imagenet"),
    "mlp": lambda: MLPEncoder([3, 32, 32], [16, 8]),
    "vit": lambda: ViT(32, patch_size=8, width=12, depth=2, heads=3),
    "torchvision": lambda: TorchvisionEncoder("shufflenet_v2_x0_5", image_size=32),
}


@pytest.fixture(params=SMALL)
def encoder(request):
    torch.manual_seed(0)
    return SMALL[request.param]()


def test_every_encoder_gives_rows_of_out_dim_in_either_memory_format(encoder):
    x = torch.randn(2, 3, 32, 32)
    encoder.eval()
    with torch.no_grad():
        h = encoder(x)
        last = encoder.to(memory_format=torch.channels_last)(x.contiguous(memory_format=torch.channels_last))
    assert h.shape == (2, encoder.out_dim)
    torch.testing.assert_close(last, h, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "sides"),
    [
        ("convnet", [16, 32]),
        ("convnet_wide_stride", [4, 8, 16]),
        ("resnet18_cifar", [4, 8, 16, 32]),
        ("resnet18_imagenet", [1, 2, 4, 8]),
        ("vit", [4]),
    ],
)
def test_maps_are_those_that_h_is_made_of_and_have_the_channels_the_encoder_says(name, sides):
    encoder = SMALL[name]().eval()
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        h, maps = encoder.with_maps(x)
        torch.testing.assert_close(h, encoder(x))
    assert [m.shape for m in maps] == [(2, c, s, s) for c, s in zip(encoder.map_dims, sides, strict=True)]
    if name != "vit":  # whose summary is the class token
        torch.testing.assert_close(maps[0].mean((2, 3)), h)


@pytest.mark.parametrize("name", ["convnet", "resnet18_imagenet", "mlp", "vit"])
def test_encoders_give_finite_rows_under_bfloat16_autocast(name):
    encoder = SMALL[name]()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        h = encoder.eval()(torch.randn(2, 3, 32, 32))
    assert h.shape == (2, encoder.out_dim)
    assert h.isfinite().all()


def test_every_weight_of_an_encoder_gets_a_gradient(encoder):
    encoder(torch.randn(2, 3, 32, 32)).square().sum().backward()
    assert [name for name, p in encoder.named_parameters() if p.grad is None] == []


def test_an_encoder_refuses_images_with_other_channels_and_says_how_many_it_takes(encoder):
    with pytest.raises(ValueError, match=r"\[n, 3, h, w\], but got \[2, 1, 32, 32\]"):
        encoder(torch.randn(2, 1, 32, 32))


def test_an_encoder_refuses_images_that_nobody_normalised(encoder):
    with pytest.raises(ValueError, match="uint8"):
        encoder(torch.zeros(2, 3, 32, 32, dtype=torch.uint8))


@pytest.mark.parametrize(("make", "channels"), [(ConvNet, 1), (ResNet, 2)])
def test_the_number_of_channels_can_be_chosen(make, channels):
    encoder = make(in_channels=channels)
    assert encoder(torch.randn(2, channels, 32, 32)).shape == (2, encoder.out_dim)


def test_a_vit_of_one_channel_starts_at_the_scale_torchvision_gives_one_of_three():
    torch.manual_seed(0)
    conv = ViT(32, patch_size=4, width=192, depth=1, heads=3, in_channels=1).net.conv_proj
    assert conv.weight.shape == (192, 1, 4, 4)
    assert conv.weight.detach().std() == pytest.approx(0.25, rel=0.05)  # 1 / sqrt(4 * 4)


def test_convnet_blocks_are_convolution_norm_relu_and_the_output_their_average():
    torch.manual_seed(0)
    net = ConvNet([4, 6]).eval()
    x = torch.randn(2, 3, 8, 8)
    conv1, bn1, _, _, conv2, bn2, _ = net.layers
    twin = torch.max_pool2d(bn1(torch.conv2d(x, conv1.weight, padding=1)).relu(), 2)
    twin = bn2(torch.conv2d(twin, conv2.weight, padding=1)).relu().mean(dim=(2, 3))
    torch.testing.assert_close(net(x), twin)


def test_convnet_says_when_images_are_too_small_to_be_pooled():
    with pytest.raises(ValueError, match="sides of 8 or more"):
        ConvNet([4, 4, 4], stem_stride=2)(torch.randn(2, 3, 7, 32))
    assert ConvNet([4, 4, 4], stem_stride=2)(torch.randn(2, 3, 8, 8)).shape == (2, 4)


@pytest.mark.parametrize("make", [ConvNet, lambda widths: MLPEncoder(widths=widths)])
@pytest.mark.parametrize("widths", [[], [8, 0]])
def test_widths_must_be_there_and_positive(make, widths):
    with pytest.raises(ValueError, match="widths must be positive"):
        make(widths)


def test_the_mlp_encoder_refuses_images_of_another_size():
    with pytest.raises(ValueError, match=r"made for images of \[3, 32, 32\], but got \[3, 16, 16\]"):
        MLPEncoder()(torch.randn(2, 3, 16, 16))


def feature_sides(net, size):
    sides = []
    stages = [net.net.layer1, net.net.layer2, net.net.layer3, net.net.layer4]
    hooks = [s.register_forward_hook(lambda _m, _i, out: sides.append(out.shape[-1])) for s in stages]
    with torch.no_grad():
        net.eval()(torch.randn(1, 3, size, size))
    for hook in hooks:
        hook.remove()
    return sides


def test_the_cifar_stem_keeps_32_pixels_and_the_imagenet_stem_reduces_them_four_times():
    assert feature_sides(ResNet(18, "cifar"), 32) == [32, 16, 8, 4]
    assert feature_sides(ResNet(18, "imagenet"), 32) == [8, 4, 2, 1]


# Parameters without the classifier, as torchvision documents them with it (512 or 2048 x 1000 + 1000 fewer);
# the CIFAR stem has 64 * 3 * (7 * 7 - 3 * 3) = 7680 fewer weights.
@pytest.mark.parametrize(
    ("depth", "out_dim", "documented"), [(18, 512, 11_689_512), (34, 512, 21_797_672), (50, 2048, 25_557_032)]
)
def test_resnets_are_torchvisions_without_the_classifier(depth, out_dim, documented):
    backbone = documented - (out_dim * 1000 + 1000)
    for stem, count in {"imagenet": backbone, "cifar": backbone - 7680}.items():
        with torch.device("meta"):
            encoder = ResNet(depth, stem)
        assert encoder.out_dim == out_dim
        assert sum(p.numel() for p in encoder.parameters()) == count


def test_the_imagenet_resnet_computes_what_torchvisions_does_before_its_classifier():
    ours, twin = ResNet(18, "imagenet").eval(), torchvision.models.resnet18().eval()
    twin.fc = nn.Identity()
    twin.load_state_dict(ours.net.state_dict())
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), twin(x))


@pytest.mark.parametrize("zero", [True, False])
def test_zero_init_starts_residual_branches_at_zero_and_only_when_asked(zero):
    gammas = [block.bn2.weight for block in ResNet(18, zero_init_residual=zero).net.layer1]
    assert all(bool((g == 0).all()) is zero for g in gammas)


def test_resnet_refuses_other_depths_and_stems():
    with pytest.raises(ValueError, match="18, 34 or 50, but got 20"):
        ResNet(20)
    with pytest.raises(ValueError, match="'cifar' or 'imagenet', but got 'cifar10'"):
        ResNet(18, "cifar10")


# Classifiers that are built differently.
@pytest.mark.parametrize(
    ("name", "out_dim", "size"),
    [
        ("squeezenet1_1", 512, 32),  # scores by a convolution
        ("mobilenet_v3_small", 1024, 32),  # two Linear layers, dropout between
        ("efficientnet_b0", 1280, 32),  # dropout first
        ("densenet121", 1024, 32),
        ("regnet_y_400mf", 440, 32),
        ("googlenet", 1024, 32),  # auxiliary classifiers, named tuples while training
    ],
)
def test_any_torchvision_network_gives_what_its_classifier_would_read(name, out_dim, size):
    encoder = TorchvisionEncoder(name, image_size=size)
    assert encoder.out_dim == out_dim
    assert not [m for m in encoder.net.modules() if isinstance(m, nn.Linear) and m.out_features == 1000]
    assert encoder.train()(torch.randn(2, 3, size, size)).shape == (2, out_dim)


def test_torchvision_options_reach_the_builder():
    encoder = TorchvisionEncoder("mobilenet_v3_small", image_size=32, options={"reduced_tail": True})
    assert encoder.out_dim == 512  # of 1024


def test_a_torchvision_network_is_probed_without_a_trace():
    torch.manual_seed(0)
    encoder = TorchvisionEncoder("shufflenet_v2_x0_5", image_size=32)
    assert encoder.net.training
    assert int(encoder.net.conv1[1].num_batches_tracked) == 0


def test_a_misspelt_torchvision_name_is_an_error_that_names_the_nearest():
    with pytest.raises(ValueError, match="did you mean efficientnet_b0"):
        TorchvisionEncoder("efficientnet-b0")
    with pytest.raises(ValueError, match="there are: alexnet, "):
        TorchvisionEncoder("zzzz")


def test_unknown_weights_are_an_error_that_lists_the_known():
    with pytest.raises(ValueError, match=r"no weights 'IMAGENET' for resnet18.*IMAGENET1K_V1"):
        TorchvisionEncoder("resnet18", weights="IMAGENET")


def test_weights_that_cannot_be_downloaded_are_an_error_that_says_where_to_put_them(monkeypatch):
    def offline(*_args, **_kwargs):
        raise encoders.URLError("no network")

    monkeypatch.setattr(torchvision.models, "get_model", offline)
    with pytest.raises(FileNotFoundError, match=r"put https://download.pytorch.org/models/resnet18-\w+\.pth there"):
        TorchvisionEncoder("resnet18", weights="DEFAULT")


def test_a_size_that_a_network_cannot_take_is_said_at_once():
    with pytest.raises(ValueError, match="squeezenet1_1 cannot take images of 8 x 8"):
        TorchvisionEncoder("squeezenet1_1", image_size=8)
