"""W processes compute what one would: values and gradients, batch norm included."""

import socket
from functools import partial

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from specs import DIM, OBJECTIVES, beside
from torch import nn

from ssl_mi.data.batch import Batch
from ssl_mi.distributed import (
    Processes,
    SyncBatchNorm,
    gather,
    gather_objects,
    gather_views,
    mean_over_processes,
    synchronise_batch_norm,
    world,
)
from ssl_mi.joint_embedding import JointEmbedding
from ssl_mi.masked import MaskedAutoencoder
from ssl_mi.masked_distillation import MaskedDistillation
from ssl_mi.masked_siamese import MaskedSiamese
from ssl_mi.networks.heads import MLP, LocalHeads, PrototypeHead
from ssl_mi.networks.teacher import EMA
from ssl_mi.networks.towers import Siamese
from ssl_mi.networks.vit import ViT
from ssl_mi.objectives import IBOT, IJEPA, MSN, Data2Vec, SimMIM
from ssl_mi.objectives.masked import MaskedPixels

N = 16  # images of the whole batch
SHARDED = [name for name in OBJECTIVES if OBJECTIVES[name].make().can_shard()]
SHARED = [name for name in OBJECTIVES if OBJECTIVES[name].make().can_share()]


class Encoder(nn.Sequential):
    """Convolution, norm, ReLU; average; flatten."""

    out_dim = 8
    map_dims = (8, 8)

    def with_maps(self, x):
        grid = self[:3](x)
        return self[3:](grid), [nn.functional.avg_pool2d(grid, 2), grid]


def parts(name: str) -> nn.ModuleDict:
    """Towers, a teacher and an objective, the same in every process."""
    torch.manual_seed(0)
    encoder = Encoder(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    row = OBJECTIVES[name]
    needed = "maps" in row.make().requires
    local = (row.heads or partial(LocalHeads, scales=[0, 1], hidden=[4])) if needed else None
    towers = Siamese(encoder, lambda d: MLP(d, [8, DIM], batch_norm=True, final_norm="plain"), local=local)
    teacher = EMA(views=OBJECTIVES[name].targets)
    teacher.copy_from(towers)
    return nn.ModuleDict({"towers": towers, "teacher": teacher, "objective": OBJECTIVES[name].make()}).double()


def images(views: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(N, 3, 6, 6, generator=generator, dtype=torch.float64) for _ in range(views)]


def two_steps(model: nn.ModuleDict, name: str, mine: slice, part: dict) -> dict[str, torch.Tensor]:
    """Loss and gradients of the second step, whose queues, centres and averages the first one filled.

    part: what of the loss is this process's, as the objective takes it: `rows` or `share`.
    """
    row, objective = OBJECTIVES[name], model["objective"]
    others = {k: gather(v[mine]) for k, v in beside(objective.requires, N).items()}
    views = [v[mine] for v in images(row.views)]
    for _ in range(2):
        model.zero_grad()
        seen = model["towers"](views)
        online = gather_views(seen.z)
        if "maps" in objective.requires:
            others["maps"] = [[gather(m) for m in scales] for scales in seen.maps]
        taught = model["teacher"](views) if row.teacher else seen
        target = gather_views(taught.z) if row.teacher else online
        if "target_maps" in objective.requires:
            others["target_maps"] = [[gather(m) for m in scales] for scales in taught.maps]
        loss = objective(online, target, **others, **part)
        if part:
            loss = loss._replace(terms=mean_over_processes(loss.terms), metrics=mean_over_processes(loss.metrics))
        loss.total.backward()
    values = {"loss": loss.total.detach(), **loss.metrics}
    return {**values, **{n: p.grad for n, p in model.named_parameters() if p.requires_grad}}


MASKED = {
    "mae": partial(MaskedPixels, masked=0.5, width=8, depth=1, heads=2),
    "simmim": partial(SimMIM, masked=0.5),
    "ijepa": partial(IJEPA, blocks=2, width=8, depth=1, heads=2),
    "data2vec": partial(Data2Vec, last=1),
}


def masked(rows: slice, name: str = "mae") -> dict[str, torch.Tensor]:
    """Loss and gradients of a masked autoencoder's second step, in the float32 that it hands its objective."""
    torch.manual_seed(0)
    encoder = ViT(16, 4, width=12, depth=1, heads=3, pool="mean")
    teacher = EMA() if name in ("ijepa", "data2vec") else None
    model = MaskedAutoencoder(Siamese(encoder), MASKED[name], None, teacher=teacher)
    generator = torch.Generator().manual_seed(1)
    views = [torch.randn(N, 3, 16, 16, generator=generator)[rows] for _ in range(2)]
    for _ in range(2):
        model.zero_grad()
        total = model.loss(Batch(views, torch.arange(N)[rows], None)).total
        total.backward()
    return {"loss": total.detach(), **{n: p.grad for n, p in model.named_parameters() if p.requires_grad}}


def joint(rows: slice, chunk: int | None = None) -> dict[str, torch.Tensor]:
    """Loss, metric and gradients of a joint embedding, in float32, as its training step has them."""
    torch.manual_seed(0)
    towers = Siamese(MLP(6, [8]), lambda d: MLP(d, [DIM], batch_norm=False))
    model = JointEmbedding(towers, lambda dim: OBJECTIVES["infonce"].make(), optimizer=None, chunk=chunk)
    generator = torch.Generator().manual_seed(1)
    views = [torch.randn(N, 6, generator=generator)[rows] for _ in range(2)]
    loss = model.loss(Batch(views, torch.arange(N)[rows], None))
    loss.total.backward()
    assert all(p.grad is not None for p in model.parameters())
    return {"loss": loss.total.detach(), **loss.metrics, **{n: p.grad for n, p in model.named_parameters()}}


def distilled(rows: slice, **settings) -> dict[str, torch.Tensor]:
    """Loss and gradients of the second step of a masked distillation: the first moved the centres."""
    torch.manual_seed(0)
    towers = Siamese(ViT(16, 4, 12, 1, 3), PrototypeHead(dims=[8, 4], prototypes=6), joint_forward=False)
    model = MaskedDistillation(towers, partial(IBOT, **settings), None, teacher=EMA())
    generator = torch.Generator().manual_seed(1)
    views = [torch.randn(N, 3, 16, 16, generator=generator)[rows] for _ in range(2)]
    for _ in range(2):
        model.zero_grad()
        total = model.loss(Batch(views, torch.arange(N)[rows], None)).total
        total.backward()
    return {"loss": total.detach(), **{n: p.grad for n, p in model.named_parameters() if p.requires_grad}}


def masked_siamese(rows: slice) -> dict[str, torch.Tensor]:
    """Loss and gradients of the second step of a masked Siamese network, whose targets are balanced over the batch."""
    torch.manual_seed(0)
    towers = Siamese(ViT(16, 4, 12, 1, 3), MLP(dims=[8, DIM], batch_norm=False), joint_forward=False)
    settings = partial(MSN, prototypes=6, dropped=0.5, iterations=3)
    model = MaskedSiamese(towers, settings, None, teacher=EMA())
    generator = torch.Generator().manual_seed(1)
    views = [torch.randn(N, 3, side, side, generator=generator)[rows] for side in (16, 16, 8)]
    for _ in range(2):
        model.zero_grad()
        total = model.loss(Batch(views, torch.arange(N)[rows], None)).total
        total.backward()
    return {"loss": total.detach(), **{n: p.grad for n, p in model.named_parameters() if p.requires_grad}}


STEPS = {
    "msn": masked_siamese,
    "ibot": distilled,
    "dinov2": partial(distilled, centring="sinkhorn", koleo=0.1),
    "joint": joint,
    "chunks": partial(joint, chunk=3),
    **{name: partial(masked, name=name) for name in MASKED},
}


def state(model: nn.ModuleDict) -> dict[str, torch.Tensor]:
    return {n: b.clone() for n, b in model.named_buffers() if "running" in n or n.startswith("objective")}


def work(rank: int, size: int, port: int, results) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=size)
    assert world() == (rank, size)
    share = N // size
    mine = slice(rank * share, (rank + 1) * share)
    for name in OBJECTIVES:
        model = parts(name)
        for part in ("towers", "teacher"):  # the objective holds the rows of all processes already
            synchronise_batch_norm(model[part], torch.device("cpu"))
        found = two_steps(model, name, mine, {})
        for value in found.values():  # what DDP does with gradients; the loss must be the same everywhere
            dist.all_reduce(value)
            value /= size
        if rank == 0:
            results[name] = {k: v.numpy() for k, v in {**found, **state(model)}.items()}
    divided = [(f"sharded {name}", name, {"rows": mine}) for name in SHARDED]
    divided += [(f"shared {name}", name, {"share": Processes()}) for name in SHARED]
    for called, name, part in divided:
        model = parts(name)
        for network in ("towers", "teacher"):
            synchronise_batch_norm(model[network], torch.device("cpu"))
        found = two_steps(model, name, mine, part)
        own = found["loss"].clone()
        for value in found.values():
            dist.all_reduce(value)
            value /= size
        assert torch.equal(own, found["loss"])  # every process holds the loss of the whole batch
        if rank == 0:
            results[called] = {k: v.numpy() for k, v in {**found, **state(model)}.items()}
    for name, step in STEPS.items():
        found = step(slice(rank * share, (rank + 1) * share))
        for value in found.values():
            dist.all_reduce(value)
            value /= size
        if rank == 0:
            results[name] = {k: v.numpy() for k, v in found.items()}
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
        expected = {**two_steps(model, name, slice(N), {}), **state(model)}
        assert expected.keys() == results[name].keys()
        for key, value in expected.items():
            got = torch.from_numpy(results[name][key])
            # In float64, with synchronised batch norms and their running statistics.
            torch.testing.assert_close(got, value, rtol=1e-9, atol=1e-10, msg=lambda m, k=key, o=name: f"{o} {k}: {m}")
            for divided in (f"sharded {name}", f"shared {name}"):
                if divided in results:
                    got = torch.from_numpy(results[divided][key])
                    assert (got - value).abs().max() <= 1e-10 * max(1.0, value.abs().max()), f"{divided} {key}"

    for name, step in {**STEPS, "chunks": joint}.items():
        for key, value in step(slice(N)).items():
            got = torch.from_numpy(results[name][key])
            torch.testing.assert_close(got, value, rtol=1e-5, atol=1e-6, msg=f"{name} {key}")


def test_what_is_a_mean_over_rows_is_shared_out_and_nothing_else():
    by_rows = [
        "simclr",
        "infonce",
        "infomax",
        "clip",
        "cmc",
        "cpc",
        "siglip",
        "moco",
        "moco_v3",
        "dcl",
        "dclw",
        "supcon",
    ]
    assert by_rows == SHARDED
    by_pairs = ["simclr", "infonce", "infomax", "clip", "cmc", "mine", "dcl", "dclw", "supcon"]
    assert set(by_pairs) < set(SHARED)
    assert not {"moco", "moco_v3", "siglip", "byol", "vicreg", "barlow_twins"} & set(SHARED)


@pytest.mark.parametrize("name", SHARDED)
def test_the_shards_of_a_batch_have_together_the_loss_of_the_batch(name):
    row = OBJECTIVES[name]
    torch.manual_seed(0)
    objective = row.make().double().eval()
    online = [torch.randn(12, DIM, dtype=torch.float64) for _ in range(row.views)]
    target = [torch.randn(12, DIM, dtype=torch.float64) for _ in range(row.views)] if row.teacher else online
    others = beside(objective.requires, 12)
    whole = objective(online, target, **others)
    shards = [objective(online, target, rows=slice(start, start + 4), **others) for start in (0, 4, 8)]
    assert len({shard.total.item() for shard in shards}) == 3
    assert sum(shard.total.item() for shard in shards) / 3 == pytest.approx(whole.total.item(), rel=1e-12)


def scores_of(objective, online, target, **rows):
    """How many scores the critic is asked for."""
    asked = []
    hook = objective.critic.register_forward_hook(lambda module, inputs, output: asked.append(output.numel()))
    objective(online, target, **rows)
    hook.remove()
    return sum(asked)


@pytest.mark.parametrize(("name", "share"), [("simclr", 8), ("moco_v3", 8), ("clip", 4)])
def test_a_process_of_eight_computes_an_eighth_of_the_scores(name, share):
    # Both directions of a critic that need not be symmetric: its two passes are n x N each, a quarter in all.
    row = OBJECTIVES[name]
    objective = row.make().eval()
    online = [torch.randn(16, DIM) for _ in range(2)]
    target = [torch.randn(16, DIM) for _ in range(2)] if row.teacher else online
    whole = scores_of(objective, online, target)
    assert scores_of(objective, online, target, rows=slice(0, 2)) * share == whole


def test_in_one_process_nothing_is_averaged():
    values = {"a": torch.ones((), requires_grad=True)}
    assert mean_over_processes(values) is values


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
