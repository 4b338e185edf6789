"""Heads: where the norms, biases and ReLUs are."""

import pytest
import torch
from torch import nn

from ssl_mi.networks.heads import MLP, Identity, PrototypeHead


def kinds(head):
    return [type(layer).__name__ for layer in head.layers]


def test_relu_stands_between_layers_and_never_after_the_last():
    assert kinds(MLP(8, [16, 16, 4], batch_norm=False)) == ["Linear", "ReLU", "Linear", "ReLU", "Linear"]
    assert kinds(MLP(8, [16, 4])) == ["Linear", "BatchNorm1d", "ReLU", "Linear"]
    assert kinds(MLP(8, [4])) == ["Linear"]


def test_simclrs_projector_is_two_linear_maps_with_a_relu_between():
    torch.manual_seed(0)
    head, h = MLP(8, [16, 4], batch_norm=False), torch.randn(5, 8)
    first, _, second = head.layers
    twin = (h @ first.weight.T + first.bias).clamp(min=0) @ second.weight.T + second.bias
    torch.testing.assert_close(head(h), twin)
    assert (head(h) < 0).any()
    assert head.out_dim == 4


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("final_norm", [None, "affine", "plain"])
def test_only_layers_without_a_norm_behind_them_may_have_a_bias(bias, final_norm):
    head = MLP(8, [16, 16, 4], final_norm=final_norm, bias=bias)
    linears = [layer for layer in head.layers if isinstance(layer, nn.Linear)]
    assert [layer.bias is not None for layer in linears] == [False, False, bias and final_norm is None]


def test_a_final_plain_norm_standardises_the_embedding_and_learns_nothing():
    torch.manual_seed(0)
    head = MLP(8, [16, 4], final_norm="plain")
    z = head(torch.randn(512, 8) * 3 + 1)
    torch.testing.assert_close(z.mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(z.var(0, unbiased=False), torch.ones(4), atol=1e-3, rtol=0)
    assert head.layers[-1].weight is None
    assert MLP(8, [16, 4], final_norm="affine").layers[-1].weight is not None


@pytest.mark.parametrize("head", [MLP(8, []), Identity(8)])
def test_no_widths_are_the_identity(head):
    h = torch.randn(3, 8)
    assert torch.equal(head(h), h)
    assert head.out_dim == 8
    assert list(head.parameters()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dims": [16, 0]}, "widths must be positive"),
        ({"dims": [4], "final_norm": "batch"}, "'affine' or 'plain', but got 'batch'"),
        ({"dims": [], "final_norm": "plain"}, r"dims=\[\] is the identity"),
    ],
)
def test_impossible_heads_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        MLP(8, **arguments)


def test_rows_of_another_width_are_refused():
    with pytest.raises(ValueError, match=r"rows of 8, but got \[3, 7\]"):
        MLP(8, [4])(torch.randn(3, 7))


def test_logits_of_a_prototype_head_are_cosines_with_its_prototypes():
    torch.manual_seed(0)
    head, x = PrototypeHead(4, [8, 3], prototypes=5), torch.randn(6, 4)
    head.prototypes.data *= torch.tensor([[0.1], [1.0], [2.0], [5.0], [9.0]])  # lengths say nothing
    z = head.mlp(x)
    logits = head(x)
    assert logits.shape == (6, head.out_dim) == (6, 5)
    for i in range(6):
        for k in range(5):
            c = head.prototypes[k]
            torch.testing.assert_close(logits[i, k], z[i] @ c / (z[i].norm() * c.norm()))
    with pytest.raises(ValueError, match="2 prototypes or more, but got 1"):
        PrototypeHead(4, [8, 3], prototypes=1)


def test_the_authors_start_keeps_rows_as_far_apart_as_they_are_and_torchs_moves_them_together():
    """Rows of one direction and small differences: small weights and GELU are nearly linear, ReLU is so at no scale."""
    torch.manual_seed(0)
    x = 1.0 + 0.5 * torch.randn(200, 64)

    def alike(z):
        z = torch.nn.functional.normalize(z, dim=1)
        return ((z @ z.T).sum() - len(z)) / (len(z) * (len(z) - 1))

    def start(**settings):
        torch.manual_seed(1)
        return PrototypeHead(64, [512, 512, 64], prototypes=8, **settings).mlp

    authors, torchs = start(activation="gelu", weight_std=0.02), start()
    assert alike(torchs(x)) > alike(x) + 0.03
    assert alike(authors(x)) < alike(x) + 0.02
    weights = torch.cat([layer.weight.flatten() for layer in authors.modules() if isinstance(layer, nn.Linear)])
    assert weights.std().item() == pytest.approx(0.02, rel=0.02)
    assert all(not layer.bias.any() for layer in authors.modules() if isinstance(layer, nn.Linear))


def test_settings_that_a_head_cannot_have_are_refused_by_name():
    with pytest.raises(ValueError, match="MLP: activation must be one of relu, gelu, but got 'tanh'"):
        PrototypeHead(4, [8, 3], prototypes=5, activation="tanh")
    with pytest.raises(ValueError, match="PrototypeHead: weight_std must be positive"):
        PrototypeHead(4, [8, 3], prototypes=5, weight_std=0.0)
