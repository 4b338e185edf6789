"""Recall at k and classification by prompts, against counts by hand."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from ssl_mi.evaluation import EvaluationContext, Retrieval, ZeroShot, recall_at


def by_hand(x, y, k):
    cos = torch.nn.functional.cosine_similarity(x[:, None], y[None], dim=-1)
    return torch.tensor([float(i in cos[i].topk(k).indices) for i in range(len(x))]).double()


def test_recall_is_the_share_of_partners_among_the_nearest():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 4, generator=generator)
    y = x + torch.randn(60, 4, generator=generator)
    for k in (1, 5, 10):
        assert torch.equal(recall_at(x, y, k), by_hand(x, y, k))
    assert recall_at(x, y, 60).mean() == 1


def test_partners_that_repeat_are_found_as_often_as_under_a_random_order():
    x = torch.eye(4)[[0, 0, 0, 1]]
    assert recall_at(x, x, 1).tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1])
    assert recall_at(x, x, 2).tolist() == pytest.approx([2 / 3, 2 / 3, 2 / 3, 1])


def test_embeddings_that_are_all_alike_retrieve_by_chance():
    x = torch.ones(20, 3)
    assert recall_at(x, x, 5).mean().item() == pytest.approx(5 / 20)


class Data:
    """Samples e_c of class c, seen as they are; the prompt of class c is e_c, but two classes are swapped."""

    def __init__(self, swap=False):
        self.labels = torch.arange(30) % 3
        self.test = SimpleNamespace(labels=self.labels, class_names=("a", "b", "c"))
        self.swap = swap

    def batches(self, split, limit=None, batch_size=10, shard=(0, 1)):
        for rows in torch.arange(30).split(batch_size):
            yield SimpleNamespace(index=rows, labels=self.labels[rows])

    def clean_views(self, source):
        return [torch.eye(3)[source.labels]]

    def prompts(self):
        order = [0, 2, 1] if self.swap else [0, 1, 2]
        return torch.eye(3)[order].repeat_interleave(2, 0), torch.tensor([0, 0, 1, 1, 2, 2])


class Same(nn.Module):
    device = torch.device("cpu")
    towers = SimpleNamespace(tower_of=lambda view: lambda x: (x, x))


@pytest.mark.parametrize(("swap", "accuracy"), [(False, 1.0), (True, 1 / 3)])
def test_zero_shot_is_the_class_of_the_nearest_prompt(swap, accuracy):
    context = EvaluationContext(Same(), Data(swap), "test", 1)
    (row,) = ZeroShot().compute(context)
    assert row.value == pytest.approx(accuracy)
    assert row.baseline == pytest.approx(1 / 3)
    assert row.low <= row.value <= row.high + 1e-9


def test_data_without_prompts_are_not_measured():
    data = Data()
    data.prompts = lambda: None
    assert ZeroShot().compute(EvaluationContext(Same(), data, "test", 1)) == []


def test_every_metric_says_what_it_is():
    assert Retrieval().explain("recall_x_to_y_at_5").short == "recall@5 x>y"
    assert ZeroShot().explain("zero_shot_accuracy").better == "higher"
