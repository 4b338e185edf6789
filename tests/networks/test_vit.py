"""The Vision Transformer against torchvision's own forward pass."""

import pytest
import torch
from torchvision.models import VisionTransformer

from ssl_mi.networks.vit import ViT


def small(**changes):
    torch.manual_seed(0)
    return ViT(**{"image_size": 16, "patch_size": 4, "width": 12, "depth": 2, "heads": 3, **changes}).eval()


def test_the_class_token_is_what_torchvisions_forward_gives_its_classifier():
    ours, x = small(), torch.randn(3, 3, 16, 16)
    torch.testing.assert_close(ours(x), VisionTransformer.forward(ours.net, x))


def test_mean_pooling_averages_the_patches_without_the_class_token():
    ours, x = small(pool="mean"), torch.randn(3, 3, 16, 16)
    tokens = {}
    ours.net.encoder.ln.register_forward_hook(lambda _m, _i, out: tokens.update(out=out))
    h = ours(x)
    assert tokens["out"].shape == (3, 1 + 16, 12)
    torch.testing.assert_close(h, tokens["out"][:, 1:].mean(dim=1))


# Parameters of DeiT's tiny and small at 224 pixels, patch 16 (arXiv:2012.12877, table 1: 5 M and 22 M),
# less the classifier's 1000 (d + 1); counted from the architecture by hand.
@pytest.mark.parametrize(("width", "heads"), [(192, 3), (384, 6)])
@pytest.mark.parametrize(("size", "patch"), [(32, 4), (224, 16)])
def test_tiny_and_small_have_the_parameters_of_the_paper(width, heads, size, patch):
    d, n = width, (size // patch) ** 2
    block = 2 * 2 * d + (3 * d * d + 3 * d) + (d * d + d) + (4 * d * d + 4 * d) + (4 * d * d + d)
    expected = (3 * patch * patch * d + d) + d + (n + 1) * d + 12 * block + 2 * d
    assert expected + 1000 * (d + 1) < {192: 6e6, 384: 22.1e6}[width]
    with torch.device("meta"):
        encoder = ViT(size, patch, width, depth=12, heads=heads)
    assert sum(p.numel() for p in encoder.parameters()) == expected


def test_smaller_crops_get_the_positions_of_the_grid_they_are_a_picture_of():
    ours = small()
    side, d = 4, 12
    # Positions linear in the row: halving the grid reads them at the middle of each pair of rows,
    # away from the border, where bicubic interpolation is exact on a line.
    rows = torch.arange(8.0).repeat_interleave(8)
    wide = small(image_size=32)
    with torch.no_grad():
        wide.net.encoder.pos_embedding[0, 1:] = rows[:, None].expand(-1, d)
    resized = wide._positions(4, 4)[0, 1:].reshape(4, 4, d)
    torch.testing.assert_close(resized[1:3, :, 0], torch.tensor([[2.5], [4.5]]).expand(2, 4))
    assert torch.equal(wide._positions(4, 4)[:, :1], wide.net.encoder.pos_embedding[:, :1])
    assert ours._positions(side, side) is ours.net.encoder.pos_embedding
    assert ours(torch.randn(2, 3, 8, 12)).shape == (2, d)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pool": "cls"}, "pool must be 'class' or 'mean', but got 'cls'"),
        ({"image_size": 18}, "image_size 18 is not a multiple of patch_size 4"),
        ({"heads": 5}, "width 12 is not a multiple of heads 5"),
    ],
)
def test_impossible_transformers_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        small(**changes)


def test_images_that_do_not_divide_into_patches_are_refused():
    with pytest.raises(ValueError, match="10 x 16 do not divide into patches of 4"):
        small()(torch.randn(2, 3, 10, 16))
