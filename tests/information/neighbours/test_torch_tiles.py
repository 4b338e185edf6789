"""The torch path counts what `neighbours` counts: the same integers, tile by tile, pairing by pairing."""

import numpy as np
import pytest
import torch

from ssl_mi.information.estimators import ksg as knn
from ssl_mi.information.neighbours import queries as neighbours
from ssl_mi.information.neighbours import torch_tiles as tiled


def tied(n, d, seed):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((n, d))
    return np.where(rng.random((n, d)) < 0.5, np.round(values, 1), values)


@pytest.mark.parametrize("variant", [1, 2])
@pytest.mark.parametrize("elements", [7, 200, 2**18], ids=["single rows", "parts of rows", "all at once"])
def test_tiles_of_any_size_count_what_trees_count(variant, elements):
    # k = 9 neighbours are more than the 7 columns of the smallest tile.
    x, y = tied(50, 2, seed=0), tied(50, 3, seed=1)
    n_x, n_y = tiled.counts(torch.from_numpy(x), torch.from_numpy(y), 9, variant, elements=elements)
    if variant == 1:
        _, expected_x, expected_y = neighbours.joint_counts(x, y, 9)
    else:
        tree = neighbours.Tree(np.concatenate([x, y], 1))
        extents = tree.extents(tree.radii(9), 2)
        expected_x, expected_y = (neighbours.count_within(v, extents[:, i], closed=True) for i, v in enumerate((x, y)))
    assert n_x.dtype == torch.int64
    assert n_x[0].tolist() == expected_x.tolist()
    assert n_y[0].tolist() == expected_y.tolist()


@pytest.mark.parametrize("elements", [1000, 2**18], ids=["parts of rows", "all at once"])
def test_pairings_are_counted_together_as_they_are_alone(elements):
    x, y = tied(120, 1, seed=2), tied(120, 2, seed=3)
    partners = np.stack([np.random.default_rng(b).permutation(120) for b in range(6)])
    x, y, partners = (torch.from_numpy(v) for v in (x, y, partners))
    together = tiled.counts(x, y, 3, partners=partners, elements=elements)
    for b, partner in enumerate(partners):
        n_x, n_y = neighbours.joint_counts(x.numpy(), y[partner].numpy(), 3)[1:]
        assert together[0][b].tolist() == n_x.tolist()
        assert together[1][b].tolist() == n_y.tolist()


@pytest.mark.parametrize("variant", [1, 2])
def test_ksg_reads_the_same_on_a_named_device_and_says_so(variant):
    x, y = tied(200, 2, seed=4), tied(200, 2, seed=5)
    there = knn.ksg(x, y, 4, variant, device="cpu")
    assert there.value == pytest.approx(knn.ksg(x, y, 4, variant).value, abs=1e-12)
    assert there.settings == {"k": 4, "device": "cpu"}


def test_null_values_are_the_same_on_a_named_device():
    x, y = tied(120, 2, seed=6), tied(120, 1, seed=7)
    partners = np.stack([np.random.default_rng(b).permutation(120) for b in range(4)])
    expected = knn.null_values(x, y, 3, partners)
    assert knn.null_values(x, y, 3, partners, device="cpu") == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("device", ["nowhere", "meta"])
def test_a_device_that_cannot_count_is_named(device):
    with pytest.raises(ValueError, match=f"device '{device}' cannot hold float64 numbers"):
        knn.ksg(np.arange(9.0), np.arange(9.0), device=device)


def test_tensors_and_arrays_in_memory_are_left_to_the_trees():
    assert tiled.chosen_device(None, torch.zeros(3), np.zeros(3)) is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_tensor_on_a_gpu_is_counted_there():
    x, y = tied(3000, 2, seed=8), tied(3000, 3, seed=9)
    there = knn.ksg(torch.from_numpy(x).cuda(), torch.from_numpy(y).cuda())
    assert there.settings["device"].startswith("cuda")
    assert there.value == pytest.approx(knn.ksg(x, y).value, abs=1e-12)
