"""The bank and the clusterings of DeepCluster-v2."""

import copy

import pytest
import torch
from torch.nn.functional import normalize

from ssl_mi.objectives.deepcluster import DeepClusterV2, spherical_kmeans
from tests.data.images.test_no_waiting import Waits


def views(n, seed, d=4):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, d, generator=generator, dtype=torch.float64) for _ in range(2)]


def made(images=12, **settings):
    return DeepClusterV2(4, images, **{"prototypes": 3, "heads": 2, **settings}).double()


def epoch(objective, seed, batches):
    losses = []
    for b, index in enumerate(batches):
        both = views(len(index), 10 * seed + b)
        losses.append(objective(both, both, index).total.item())
    return losses


def test_clusters_that_lie_apart_are_found_from_any_start():
    axes = torch.eye(4, dtype=torch.float64)
    truth = torch.arange(40) % 4
    points = normalize(axes[truth] + 0.1 * views(40, 0)[0], dim=1)
    centroids, own = spherical_kmeans(points, points[[1, 4, 6, 7]], 5)  # one of each, in another order
    assert len(set(zip(truth.tolist(), own.tolist(), strict=True))) == 4
    for k in range(4):
        expected = normalize(points[own == k].sum(0), dim=0)
        torch.testing.assert_close(centroids[k], expected)


def test_a_centroid_that_nobody_is_near_stays_where_it_is():
    points = torch.tensor([[1.0, 0.0]] * 3)
    centroids, own = spherical_kmeans(points, torch.tensor([[1.0, 0.0], [0.0, -1.0]]), 3)
    assert own.tolist() == [0, 0, 0]
    assert centroids.tolist() == [[1.0, 0.0], [0.0, -1.0]]


def test_the_first_epoch_fills_the_bank_and_the_next_one_begins_with_a_clustering():
    objective, order = made(), torch.randperm(12, generator=torch.Generator().manual_seed(0))
    assert epoch(objective, 1, order.split(4)) == [0, 0, 0]
    assert objective.known.all()
    assert int(objective.clusterings) == 0
    second = epoch(objective, 2, order.flip(0).split(4))
    assert min(second) > 0
    assert int(objective.clusterings) == 1  # once an epoch and not a step


def test_no_row_of_the_bank_is_dropped_and_each_is_the_last_embedding_of_its_image():
    objective = made()
    epoch(objective, 1, [torch.arange(0, 4), torch.arange(4, 8), torch.arange(8, 12)])
    both = views(4, 20)
    objective(both, both, torch.tensor([11, 0, 5, 2]))
    for v in (0, 1):
        torch.testing.assert_close(objective.bank[v, [11, 0, 5, 2]], normalize(both[v], dim=1))
        torch.testing.assert_close(objective.bank[v, 8:11], normalize(views(4, 12)[v], dim=1)[:3])


def test_an_image_that_an_epoch_left_out_is_clustered_as_it_was():
    objective = made()
    epoch(objective, 1, [torch.arange(0, 6), torch.arange(6, 12)])
    epoch(objective, 2, [torch.arange(0, 6)])  # as if the rest had not fitted a batch
    objective(views(6, 7), views(6, 7), torch.arange(6))
    assert int(objective.clusterings) == 2
    assert (objective.assignment >= 0).all()


def test_an_image_without_a_class_is_left_out_of_the_mean():
    objective = made()
    epoch(objective, 1, [torch.arange(0, 8)])
    both = views(6, 3)
    mixed, known = copy.deepcopy(objective), objective
    with_new = mixed(both, both, torch.tensor([0, 1, 2, 9, 10, 11])).total  # 9, 10, 11 were never seen
    first = [z[:3] for z in both]
    assert with_new.item() == pytest.approx(known(first, first, torch.tensor([0, 1, 2])).total.item(), rel=1e-12)


def test_a_bank_too_small_and_too_many_clusters_are_refused_with_the_key_to_set():
    both = views(3, 0)
    with pytest.raises(ValueError, match=r"image 12 has no place .* set objective.images"):
        made()(both, both, torch.tensor([0, 12, 1]))
    few = made(prototypes=5)
    few(both, both, torch.arange(3))
    with pytest.raises(ValueError, match=r"3 images cannot be put in 5 clusters: lower objective.prototypes"):
        few(both, both, torch.arange(3))
    with pytest.raises(ValueError, match="prototypes=13, images=12"):
        made(prototypes=13)


def test_a_step_looks_at_the_device_once(monkeypatch):
    objective, looks = made(), []
    objective.checks_finite = False  # as in a run, which looks at the loss itself
    epoch(objective, 1, [torch.arange(12)])
    epoch(objective, 2, [torch.arange(4)])  # clusters
    original = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda self: looks.append(self.shape) or original(self))
    both = views(4, 3)
    with Waits() as waits:
        objective(both, both, torch.arange(4, 8))
    assert waits.names == []
    assert looks == [(2,)]
