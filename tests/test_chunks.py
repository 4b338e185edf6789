"""A batch that passes the towers in chunks has the loss and the gradients of the whole batch."""

from functools import partial

import pytest
import torch
from largest import Largest
from torch import nn

from ssl_mi.chunks import in_chunks
from ssl_mi.data.batch import Batch
from ssl_mi.joint_embedding import JointEmbedding
from ssl_mi.networks.heads import MLP, LocalHeads
from ssl_mi.networks.teacher import EMA
from ssl_mi.networks.towers import Siamese
from ssl_mi.objectives import BYOL, CLIP, DeepInfoMaxLocal, Predictor, SimCLR

WIDTH = 64  # of the hidden layer


class Encoder(nn.Sequential):
    """A convolution and layer norm: no statistics over images."""

    out_dim = 8
    map_dims = (8,)

    def __init__(self):
        norm = nn.GroupNorm(2, 8)
        super().__init__(nn.Conv2d(3, 8, 3), norm, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def with_maps(self, x):
        first, last = nn.Sequential(*list(self)[:3]), nn.Sequential(*list(self)[3:])
        grid = first(x)
        return last(grid), [grid]


def linear_heads(map_dims, dim):
    """Local embeddings without batch norm."""
    heads = LocalHeads(map_dims, dim, scales=[0], hidden=[4])
    for parent in list(heads.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.modules.batchnorm._BatchNorm):
                setattr(parent, name, nn.Identity())
    return heads


def module(chunk, objective=SimCLR, norm=False, local=None, teacher=None, joint=True):
    torch.manual_seed(0)
    projector = partial(MLP, dims=[WIDTH, 6], batch_norm=norm)
    towers = Siamese(Encoder(), lambda dim: projector(dim), joint_forward=joint, local=local)
    made = JointEmbedding(towers, objective, optimizer=None, teacher=teacher, chunk=chunk).double()
    made.objective.float()
    return made


def batch(n=10):
    generator = torch.Generator().manual_seed(1)
    views = [torch.randn(n, 3, 6, 6, generator=generator, dtype=torch.float64) for _ in range(2)]
    return Batch(views, torch.arange(n), None)


def gradients(model):
    loss = model.loss(batch()).total
    loss.backward()
    return [loss.detach(), *(p.grad for p in model.parameters() if p.requires_grad)]


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"joint": False},
        {"objective": CLIP},
        {"objective": DeepInfoMaxLocal, "local": linear_heads},
        {"objective": lambda dim: BYOL(dim, lambda d: Predictor(d, 5)), "teacher": EMA},
    ],
)
@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_gradients_of_chunks_are_those_of_the_batch(parts, chunk):
    teacher = parts.get("teacher")
    made = [module(c, **{**parts, "teacher": None if teacher is None else teacher()}) for c in (None, chunk)]
    whole, chunked = (gradients(model) for model in made)
    for a, b in zip(whole, chunked, strict=True):
        # The embeddings are handed over in float32.
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_gradients_of_chunks_of_towers_alone_are_exact():
    towers = module(None).towers
    found = []
    for size in (None, 3):
        towers.zero_grad()
        z = in_chunks(towers, batch().views, size).z
        (z[0] * z[1].sin()).sum().backward()
        found.append([p.grad for p in towers.parameters()])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_no_activation_of_the_whole_batch_is_made():
    largest = {}
    for chunk in (None, 4):
        model = module(chunk)
        given = batch(32)
        with Largest() as seen:
            model.loss(given).total.backward()
        largest[chunk] = seen.numbers
    activations = 2 * 32 * 8 * 16  # of the convolution, for both views
    assert largest[None] >= activations
    assert largest[4] <= activations / 2  # the scores of 64 rows


def test_batch_norms_are_named_and_their_averages_take_in_each_chunk_once():
    with pytest.warns(UserWarning, match=r"module.chunk=5: the 1 batch norms .*tower\.projector"):
        model = module(5, norm=True)
    norm = next(m for m in model.modules() if isinstance(m, nn.BatchNorm1d))
    model.loss(batch()).total.backward()
    assert int(norm.num_batches_tracked) == 2  # chunks
    twin = module(None, norm=True)
    twin_norm = next(m for m in twin.modules() if isinstance(m, nn.BatchNorm1d))
    for part in (slice(5), slice(5, 10)):
        twin.towers([view[part] for view in batch().views])
    torch.testing.assert_close(norm.running_mean, twin_norm.running_mean)
    once = norm.running_mean.clone()
    model.loss(batch())
    assert not torch.equal(norm.running_mean, once)
    assert norm.momentum == 0.1


def test_a_chunk_of_no_image_is_refused():
    with pytest.raises(ValueError, match=r"module.chunk .* at least 1"):
        module(0)
