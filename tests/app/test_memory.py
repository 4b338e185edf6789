"""The estimate of memory is what the parts of a step add up to."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from ssl_mi.app.memory import MemoryNeed, check, estimate
from ssl_mi.data.batch import Batch


class Towers(nn.Module):
    """Two layers: autograd keeps the input of each and the output of the ReLU."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(100, 1000), nn.ReLU(), nn.Linear(1000, 10))

    def forward(self, views):
        return [self.layers(view) for view in views]


class Module(nn.Module):
    def __init__(self):
        super().__init__()
        self.towers = Towers()


class Data:
    batch_size = 64

    def batches(self, split, batch_size):
        yield SimpleNamespace(index=torch.arange(batch_size))

    def views(self, source, draw):
        return Batch([torch.randn(2, 100), torch.randn(2, 100)], torch.arange(2), None)


def test_what_is_counted_is_what_autograd_keeps_and_the_optimizer_holds():
    module = Module()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    need = estimate(module, Data(), lambda groups: torch.optim.AdamW(groups, lr=1.0))
    weights = 4 * sum(p.numel() for p in module.parameters())
    assert need.fixed == pytest.approx(3 * weights, rel=0.01)  # gradients and two moments
    kept = 2 * 4 * (100 + 1000)  # two views in float32: the images and the ReLU's output
    assert need.per_image == pytest.approx(1.25 * kept + 2 * (2 * 4 * 100), rel=0.01)
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())


def test_a_run_that_does_not_fit_is_refused_with_the_batch_that_would():
    need = MemoryNeed(now=10, fixed=2 * 10**9, per_image=10**8, batch=64, available=5 * 10**9)
    with pytest.raises(ValueError, match=r"8\.4 GB more .*100 MB each.*5\.0 GB are free: data\.batch_size=30"):
        check(need)
    check(MemoryNeed(10, 2 * 10**9, 10**8, 30, 5 * 10**9))
    check(MemoryNeed(10, 2 * 10**9, 10**8, 64, None))
    with pytest.raises(ValueError, match="not even 2 images fit"):
        check(MemoryNeed(10, 2 * 10**9, 10**8, 64, 10**9))
