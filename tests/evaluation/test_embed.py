"""Evaluation leaves no trace: modes, weights, statistics and random states are as they were."""

import random

import numpy as np
import pytest
import standins
import torch
from torch import nn

from ssl_mi.evaluation import embed
from ssl_mi.evaluation.context import EvaluationContext


@pytest.fixture(scope="module")
def data():
    data = standins.image_data()
    data.setup()
    return data


def random_states():
    return torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002


def same(one, other):
    return torch.equal(one[0], other[0]) and np.array_equal(one[1], other[1]) and one[2] == other[2]


def test_modes_are_restored_part_by_part():
    module = standins.joint_embedding()
    module.train()
    frozen = module.towers.tower.encoder[2]
    frozen.eval()  # a batch norm that someone froze: not to be woken
    before = {name: part.training for name, part in module.named_modules()}
    with embed.untouched(module):
        assert not any(part.training for part in module.modules())
        assert not torch.is_grad_enabled()
    assert {name: part.training for name, part in module.named_modules()} == before
    assert not frozen.training
    assert module.towers.tower.encoder.training
    assert torch.is_grad_enabled()


def test_modes_and_random_states_are_restored_after_an_error():
    module = standins.joint_embedding()
    states = random_states()

    def fails():
        with embed.untouched(module):
            torch.rand(3), np.random.rand(3), random.random()  # noqa: NPY002
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert same(states, random_states())
    assert module.training
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("read", ["features", "pairs"])
def test_reading_touches_neither_random_states_nor_weights_nor_statistics(data, read):
    module = standins.joint_embedding()

    class Greedy(nn.Module):
        """An encoder that uses every source of randomness there is."""

        out_dim = 2

        def forward(self, x):
            torch.rand(1), np.random.rand(), random.random()  # noqa: NPY002
            return x.flatten(1)[:, :2]

    module.towers.tower.projector = nn.Sequential(Greedy(), nn.BatchNorm1d(2))
    module.towers.tower.encoder.append(Greedy())
    weights = {key: value.clone() for key, value in module.state_dict().items()}
    states = random_states()
    if read == "features":
        embed.features(module, data, "val")
    else:
        embed.pairs(module, data, "val", 0)
    assert same(states, random_states())
    assert all(torch.equal(weights[key], value) for key, value in module.state_dict().items())
    assert all(part.training for part in module.modules())


def test_features_are_the_encoders_output_in_evaluation_mode_in_the_order_of_the_split(data):
    module = standins.joint_embedding()
    read = embed.features(module, data, "val")
    module.eval()
    with torch.no_grad():
        expected = module.towers.tower.encoder(data.augmentation.clean(data.val.images.pixels))
    torch.testing.assert_close(read.h, expected)
    assert torch.equal(read.index, torch.arange(len(data.val)))
    assert torch.equal(read.labels, data.val.labels)
    assert not read.h.requires_grad


def test_a_pair_is_two_views_of_one_image_and_another_draw_gives_others(data):
    module = standins.joint_embedding()
    read, again, other = (embed.pairs(module, data, "val", draw) for draw in (0, 0, 1))
    assert torch.equal(read.z[0], again.z[0])
    assert torch.equal(read.z[1], again.z[1])
    assert not torch.equal(read.z[0], read.z[1])
    assert not torch.equal(read.z[0], other.z[0])
    source = next(data.batches("val", 5))
    module.eval()
    with torch.no_grad():
        out = module.towers(data.views(source, 0).views)
    for view in range(2):
        torch.testing.assert_close(read.z[view][:5], out.z[view])
        torch.testing.assert_close(read.h[view][:5], out.h[view])


class Held(Exception):
    """Stops a process where it would talk to the others."""


@pytest.mark.parametrize("limit", [None, 7, 1])
@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize("read", ["features", "pairs"])
def test_what_processes_read_in_shares_is_what_one_reads_alone(data, monkeypatch, read, processes, limit):
    module = standins.joint_embedding()

    def reading():
        return (
            embed.features(module, data, "val", limit)
            if read == "features"
            else embed.pairs(module, data, "val", 2, limit)
        )

    def hold(share):
        shares.append(share)
        raise Held

    alone, shares = reading(), []
    monkeypatch.setattr(embed, "gather_objects", hold)
    for rank in range(processes):
        monkeypatch.setattr(embed, "world", lambda rank=rank: (rank, processes))
        with pytest.raises(Held):
            reading()
    assert sum(share is not None for share in shares) == (1 if limit == 1 else processes)
    monkeypatch.setattr(embed, "gather_objects", lambda share: shares)
    torch.testing.assert_close(reading(), alone)


def test_an_empty_split_is_named_with_the_remedy():
    data = standins.GaussianViews(n=0)
    with pytest.raises(ValueError, match=r"the val split has no samples .* data.val_fraction"):
        embed.features(standins.Observer(), data, "val")


@pytest.mark.parametrize("read", ["features", "pairs"])
def test_nan_embeddings_are_an_error_that_names_them(read):
    def broken(x):
        return torch.where(torch.arange(len(x))[:, None] == 3, torch.nan, x)

    at = standins.bench(standins.GaussianViews(n=50), "val", epoch=4, change=broken)
    with pytest.raises(ValueError, match=r"h .*val.*1 of 50.*NaN or infin"):
        getattr(at, read)("val")


def test_embeddings_are_computed_once_whoever_asks():
    data = standins.GaussianViews(n=50)
    at = standins.bench(data, "val")
    assert at.pairs("val", 20) is at.pairs("val", 20)
    assert len(data.drawn) == 1
    assert at.pairs("val", None) is not at.pairs("val", 20)
    assert at.features("val") is at.features("val")


def test_pairs_are_the_same_at_every_epoch_so_that_epochs_can_be_compared(data):
    module = standins.joint_embedding()
    one, other = (EvaluationContext(module, data, "val", epoch).pairs("val") for epoch in (0, 7))
    assert torch.equal(one.index, other.index)
    assert torch.equal(one.z[0], other.z[0])
    assert torch.equal(one.z[1], other.z[1])


@pytest.mark.slow
def test_maps_of_umap_leave_the_threads_of_torch_alone():
    pytest.importorskip("umap")
    from ssl_mi.evaluation.samples import _space

    before = torch.get_num_threads()
    assert "umap" in _space(torch.randn(60, 5, generator=torch.Generator().manual_seed(0)))
    assert torch.get_num_threads() == before
