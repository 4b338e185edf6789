"""W processes compute what one would: values and gradients, batch norm included."""

import socket

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from ssl_mi.distributed import SyncBatchNorm, gather_objects, gather_views, synchronise_batch_norm, world
from ssl_mi.information.bounds import JS, MINE, InfoNCE
from ssl_mi.information.critics import Bilinear, Concat, Cosine
from ssl_mi.networks.heads import MLP
from ssl_mi.networks.towers import Siamese
from ssl_mi.objectives.infomax import Infomax
from ssl_mi.objectives.negatives import OtherSamples, OtherSamplesAndViews

OBJECTIVES = {
    "nt_xent": lambda: Infomax(6, Cosine(0.2), InfoNCE(), OtherSamplesAndViews()),
    "infonce": lambda: Infomax(6, Bilinear, InfoNCE(), OtherSamples()),
    "clip": lambda: Infomax(6, Cosine(0.1, learned=True), InfoNCE(), OtherSamples()),
    "mine": lambda: Infomax(6, Concat, MINE(), OtherSamples()),
    "js": lambda: Infomax(6, Concat, JS(), OtherSamples()),
}
N = 16  # images of the whole batch


class Encoder(nn.Sequential):
    out_dim = 8


def parts(name: str) -> nn.ModuleDict:
    """Towers and an objective, the same in every process."""
    torch.manual_seed(0)
    encoder = Encoder(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    towers = Siamese(encoder, lambda d: MLP(d, [8, 6], batch_norm=True, final_norm="plain"))
    return nn.ModuleDict({"towers": towers, "objective": OBJECTIVES[name]()}).double()


def images() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(N, 3, 6, 6, generator=generator, dtype=torch.float64) for _ in range(2)]


def gradients(model: nn.ModuleDict, views: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    z = gather_views(model["towers"](views).z)
    total = model["objective"](z, z).total
    total.backward()
    return {"loss": total.detach(), **{n: p.grad for n, p in model.named_parameters()}}


def work(rank: int, size: int, port: int, results) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=size)
    assert world() == (rank, size)
    share = N // size
    for name in OBJECTIVES:
        model = synchronise_batch_norm(parts(name), torch.device("cpu"))
        found = gradients(model, [v[rank * share : (rank + 1) * share] for v in images()])
        for value in found.values():  # what DDP does with gradients; the loss must be the same everywhere
            dist.all_reduce(value)
            value /= size
        if rank == 0:
            buffers = {n: b.clone() for n, b in model.named_buffers() if "running" in n}
            results[name] = {k: v.numpy() for k, v in {**found, **buffers}.items()}
    assert gather_objects(rank) == list(range(size))
    dist.destroy_process_group()


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.mark.parametrize("size", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_several_processes_have_the_loss_gradients_and_statistics_of_one(size):
    with mp.Manager() as manager:
        results = manager.dict()
        mp.spawn(work, (size, free_port(), results), nprocs=size)
        results = dict(results)
    for name in OBJECTIVES:
        model = parts(name)
        expected = gradients(model, images())
        expected |= {n: b for n, b in model.named_buffers() if "running" in n}
        assert expected.keys() == results[name].keys()
        for key, value in expected.items():
            got = torch.from_numpy(results[name][key])
            # In float64, with synchronised batch norms and their running statistics.
            torch.testing.assert_close(got, value, rtol=1e-9, atol=1e-10, msg=lambda m, k=key, o=name: f"{o} {k}: {m}")


def test_in_one_process_nothing_is_gathered():
    z = [torch.randn(3, 2), torch.randn(3, 2)]
    assert gather_views(z) is z
    assert world() == (0, 1)


def test_synchronised_batch_norm_keeps_parameters_and_keys():
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    keys, weight = list(module.state_dict()), module[1].weight
    other = synchronise_batch_norm(module, torch.device("cpu"))
    assert isinstance(other[1], SyncBatchNorm)
    assert other[1].weight is weight
    assert list(other.state_dict()) == keys
