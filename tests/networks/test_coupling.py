"""The encoder that can be undone."""

import pytest
import torch

from ssl_mi.networks.coupling import CouplingEncoder
from ssl_mi.networks.towers import Siamese


def random_encoder(in_shape, depth=6, gain=1.0):
    """Weights as torch draws them for any linear layer, the last one of each network too."""
    torch.manual_seed(0)
    encoder = CouplingEncoder(in_shape, depth, hidden=(32,))
    with torch.no_grad():
        for net in encoder.nets:
            net[-1].reset_parameters()
        for p in encoder.parameters():
            p.mul_(gain)
    return encoder


SHAPES = pytest.mark.parametrize("in_shape", [(1, 4, 8), (3, 5, 5), (1, 1, 2)], ids=str)  # 75: an odd number


@SHAPES
def test_what_random_weights_encode_comes_back_to_1e_5(in_shape):
    encoder = random_encoder(in_shape)
    x = torch.randn(200, *in_shape)
    z = encoder(x)
    assert z.shape == (200, encoder.out_dim)
    assert (z.norm(dim=1) / x.flatten(1).norm(dim=1)).log().abs().mean() > 0.05  # it did something
    assert (encoder.inverse(z) - x).abs().max() <= 1e-5
    assert (encoder(encoder.inverse(x.flatten(1))) - x.flatten(1)).abs().max() <= 1e-5


@SHAPES
def test_with_large_weights_only_rounding_stands_between_a_picture_and_its_return(in_shape):
    encoder = random_encoder(in_shape, gain=3.0).double()
    x = torch.randn(200, *in_shape, dtype=torch.float64)
    z = encoder(x)
    assert z.abs().max() > 30
    assert (encoder.inverse(z) - x).abs().max() <= 1e-9


def test_what_a_trained_encoder_encodes_comes_back_too():
    torch.manual_seed(0)
    encoder = CouplingEncoder((1, 4, 8), depth=4)
    x = torch.randn(256, 1, 4, 8)
    optimizer = torch.optim.Adam(encoder.parameters(), 1e-2)
    before = encoder(x).square().mean().item()
    for _ in range(100):
        optimizer.zero_grad()
        encoder(x).square().mean().backward()
        optimizer.step()
    z = encoder(x)
    assert z.square().mean().item() < before / 2
    assert (encoder.inverse(z) - x).abs().max() <= 1e-5


def test_an_encoder_that_has_not_been_trained_permutes_pixels():
    encoder = CouplingEncoder((1, 4, 8))
    x = torch.randn(5, 1, 4, 8)
    z = encoder(x)
    assert torch.equal(z.sort(1).values, x.flatten(1).sort(1).values)
    assert not torch.equal(z, x.flatten(1))


def test_two_layers_move_every_pixel():
    encoder = random_encoder((1, 4, 8), depth=2)
    x = torch.randn(50, 1, 4, 8)
    moved = [(encoder(x)[:, :, None] != x.flatten(1)[:, None, :]).all(2)]
    assert moved[0].all()


def test_a_stretch_has_its_limit():
    encoder = random_encoder((1, 1, 2), depth=1)
    with torch.no_grad():
        encoder.nets[0][-1].bias.copy_(torch.tensor([1e6, 0.0]))
        encoder.nets[0][-1].weight.zero_()
    x = torch.ones(1, 1, 1, 2)
    assert encoder(x)[0, 1].item() == pytest.approx(torch.tensor(1.0).exp().item())


def test_every_weight_learns_after_the_first_step():
    encoder = random_encoder((1, 4, 8))
    encoder(torch.randn(8, 1, 4, 8)).pow(4).sum().backward()
    assert all(p.grad.abs().max() > 0 for p in encoder.parameters())


def test_a_tower_can_be_made_of_it():
    towers = Siamese(CouplingEncoder((1, 4, 8)))
    views = [torch.randn(3, 1, 4, 8) for _ in range(2)]
    assert [z.shape for z in towers(views).z] == [(3, 32), (3, 32)]


@pytest.mark.parametrize("wrong", [{"in_shape": (1, 1, 1)}, {"depth": 0}, {"hidden": ()}, {"limit": 0.0}], ids=str)
def test_an_encoder_of_nothing_is_refused(wrong):
    with pytest.raises(ValueError, match="CouplingEncoder: in_shape"):
        CouplingEncoder(**{"in_shape": (1, 4, 8)} | wrong)


def test_other_images_and_embeddings_are_refused():
    encoder = CouplingEncoder((1, 4, 8))
    with pytest.raises(ValueError, match=r"images of \[1, 4, 8\], but got \[1, 8, 4\]"):
        encoder(torch.randn(2, 1, 8, 4))
    with pytest.raises(ValueError, match=r"\[n, 1, h, w\]"):
        encoder(torch.randn(2, 3, 4, 8))
    with pytest.raises(ValueError, match=r"takes \[n, 32\], but got \[2, 31\]"):
        encoder.inverse(torch.randn(2, 31))
