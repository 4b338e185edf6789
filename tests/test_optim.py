"""Optimisation: LARS against a slow twin, the schedule against its formula, several optimisers as one."""

import copy
import math
import warnings

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from ssl_mi.networks.encoders import ResNet
from ssl_mi.networks.heads import MLP
from ssl_mi.networks.vit import ViT
from ssl_mi.optim import LARS, CompositeOptimizer, parameter_groups, warmup_cosine

# --- parameter groups -------------------------------------------------------------------------------------


def names(module, group):
    by_parameter = {p: name for name, p in module.named_parameters()}
    return {by_parameter[p] for p in group["params"]}


def test_matrices_decay_and_biases_norms_scalars_and_tokens_do_not():
    module = nn.ModuleDict({"vit": ViT(8, 4, 12, 1, 3), "head": MLP(12, [8, 4]), "ln": nn.LayerNorm([3, 4])})
    module.register_parameter("temperature", nn.Parameter(torch.tensor(0.1)))
    decayed, spared = parameter_groups(module, weight_decay=0.3)
    layer = "vit.net.encoder.layers.encoder_layer_0"
    assert names(module, decayed) == {
        "vit.net.conv_proj.weight",
        f"{layer}.self_attention.in_proj_weight",
        f"{layer}.self_attention.out_proj.weight",
        f"{layer}.mlp.0.weight",
        f"{layer}.mlp.3.weight",
        "head.layers.0.weight",
        "head.layers.3.weight",
    }
    assert {"temperature", "ln.weight", "vit.net.class_token", "vit.net.encoder.pos_embedding"} <= names(module, spared)
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.3, 0.0)
    assert (decayed["adapt"], spared["adapt"]) == (True, False)


def test_every_trainable_parameter_is_in_exactly_one_group_even_when_shared():
    module = nn.ModuleDict({"a": ResNet(18, "cifar"), "b": MLP(512, [8, 8])})
    module["c"] = module["b"]  # the same weights by another name
    module["a"].net.layer1.requires_grad_(False)
    held = [p for group in parameter_groups(module) for p in group["params"]]
    expected = {p for p in module.parameters() if p.requires_grad}
    assert len(held) == len(expected)
    assert set(held) == expected


def test_decay_is_the_optimisers_own_unless_it_is_given():
    module = MLP(8, [8, 4])
    decays = [g["weight_decay"] for g in torch.optim.AdamW(parameter_groups(module), weight_decay=0.2).param_groups]
    assert decays == [0.2, 0.0]


def test_a_module_with_nothing_to_train_is_refused():
    with pytest.raises(ValueError, match="Linear has no trainable parameter"):
        parameter_groups(nn.Linear(3, 2).requires_grad_(False))


# --- LARS -------------------------------------------------------------------------------------------------


def lars_twin(weights, gradients, lr, momentum, weight_decay, eta, clip, nesterov):
    """Algorithm 1 with Python floats, one parameter (a list) at a time; gradients[step][parameter]."""
    weights = [list(w) for w in weights]
    velocity = [[0.0] * len(w) for w in weights]
    for step in gradients:
        for w, g, v in zip(weights, step, velocity, strict=True):
            w_norm, g_norm = (math.sqrt(sum(a * a for a in x)) for x in (w, g))
            ratio = 1.0
            if w_norm > 0 and g_norm > 0:
                ratio = eta * w_norm / (g_norm + weight_decay * w_norm)
            if clip:
                ratio = min(ratio / lr, 1.0)
            for i in range(len(w)):
                u = ratio * (g[i] + weight_decay * w[i])
                v[i] = momentum * v[i] + u
                w[i] -= lr * (u + momentum * v[i] if nesterov else v[i])
    return weights


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize(("momentum", "nesterov"), [(0.9, False), (0.9, True), (0.0, False)])
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
@pytest.mark.parametrize("eta", [0.02, 30.0])  # the second makes ratio / lr exceed 1, where clip acts
def test_lars_is_algorithm_1(clip, momentum, nesterov, weight_decay, eta):
    torch.manual_seed(0)
    settings = {"lr": 0.4, "momentum": momentum, "weight_decay": weight_decay, "eta": eta, "clip": clip}
    params = [nn.Parameter(torch.randn(n, dtype=torch.float64)) for n in (6, 3)]
    params.append(nn.Parameter(torch.zeros(4, dtype=torch.float64)))  # |w| = 0 at the first step
    gradients = [[torch.randn_like(p) for p in params] for _ in range(5)]
    gradients[2][0] = torch.zeros_like(params[0])  # |g| = 0
    twin = lars_twin(
        [p.tolist() for p in params],
        [[g.tolist() for g in step] for step in gradients],
        nesterov=nesterov,
        **settings,
    )
    optimizer = LARS(params, nesterov=nesterov, **settings)
    for step in gradients:
        for p, g in zip(params, step, strict=True):
            p.grad = g.clone()
        optimizer.step()
        assert all(torch.equal(p.grad, g) for p, g in zip(params, step, strict=True))  # left as they were
    for p, expected in zip(params, twin, strict=True):
        torch.testing.assert_close(p.detach(), torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("nesterov", [False, True])
def test_without_adaptation_lars_is_torchs_sgd(nesterov):
    torch.manual_seed(0)
    ours = MLP(4, [4, 3]).double()
    theirs = copy.deepcopy(ours)
    settings = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "nesterov": nesterov}
    pair = [
        (ours, LARS([{"params": list(ours.parameters()), "adapt": False}], **settings)),
        (theirs, torch.optim.SGD(theirs.parameters(), **settings)),
    ]
    x = torch.randn(8, 4, dtype=torch.float64)
    for _ in range(4):
        for module, optimizer in pair:
            optimizer.zero_grad()
            module(x).square().sum().backward()
            optimizer.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


def test_a_lars_step_is_the_same_share_of_every_matrix_whatever_the_size_of_its_gradient():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3))
    optimizer = LARS(parameter_groups(module), lr=2.0, momentum=0.0, eta=0.01)
    before = [p.detach().clone() for p in module.parameters()]
    for scale, p in zip([1e-3, 1.0, 1e3, 1.0], module.parameters(), strict=True):
        p.grad = torch.randn_like(p) * scale
    optimizer.step()
    for old, p in zip(before, module.parameters(), strict=True):
        step = old - p.detach()
        expected = 2.0 * 0.01 * old.norm() if p.ndim == 2 else 2.0 * p.grad.norm()  # biases: plain SGD
        torch.testing.assert_close(step.norm(), expected)


def test_parameters_without_a_gradient_stay():
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = LARS([used, unused], lr=0.1, weight_decay=0.1)
    used.grad = torch.ones(2)
    optimizer.step()
    assert torch.equal(unused.detach(), torch.ones(2))
    assert not torch.equal(used.detach(), torch.ones(2))


def train(module, optimizer, steps, start=0):
    """Deterministic steps; the data of step s depends on s only."""
    for s in range(start, start + steps):
        x = torch.randn(16, 4, generator=torch.Generator().manual_seed(s))
        optimizer.zero_grad()
        module(x).square().sum().backward()
        optimizer.step()


def small(seed=0):
    torch.manual_seed(seed)
    return MLP(4, [6, 3])


def lars(module):
    return LARS(parameter_groups(module), lr=0.5, weight_decay=0.01, eta=0.02)


def pair(module):
    """Different optimisers for two parts, as for an encoder and its critic."""
    parts = module.layers[:2], module.layers[2:]
    return CompositeOptimizer([lars(parts[0]), torch.optim.Adam(parts[1].parameters(), lr=1e-2)])


@pytest.mark.parametrize("make", [lars, pair])
def test_training_resumed_from_a_file_is_training_that_never_stopped(make, tmp_path):
    whole = small()
    train(whole, make(whole), steps=6)

    first = small()
    optimizer = make(first)
    train(first, optimizer, steps=3)
    torch.save({"module": first.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "state.pt")

    second = small(seed=9)
    optimizer = make(second)
    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    second.load_state_dict(saved["module"])
    optimizer.load_state_dict(saved["optimizer"])
    train(second, optimizer, steps=3, start=3)
    for a, b in zip(whole.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lr": -1.0}, "lr must not be negative"),
        ({"lr": 1.0, "weight_decay": -1.0}, "weight_decay must not be negative"),
        ({"lr": 1.0, "eta": 0.0}, "eta must be positive"),
        ({"lr": 1.0, "momentum": 1.0}, r"momentum must be in \[0, 1\)"),
        ({"lr": 1.0, "momentum": 0.0, "nesterov": True}, "nesterov needs a momentum"),
    ],
)
def test_impossible_lars_settings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        LARS([nn.Parameter(torch.ones(1))], **arguments)


# --- warm-up and cosine -----------------------------------------------------------------------------------


def rates(total, warmup, final_ratio=0.0, lr=0.4):
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=lr)
    scheduler = warmup_cosine(optimizer, total, warmup, final_ratio)
    used = []
    for _ in range(total):
        used.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return used, optimizer.param_groups[0]["lr"]


def test_warm_up_is_a_line_that_ends_at_the_rate_of_the_configuration_exactly():
    used, _ = rates(total=12, warmup=4)
    assert used[:4] == pytest.approx([0.1, 0.2, 0.3, 0.4], rel=1e-15)
    assert used[3] == 0.4
    assert max(used) == 0.4


def test_after_warm_up_the_rate_falls_along_half_a_cosine():
    used, end = rates(total=12, warmup=4)
    expected = [0.4 * (1 + math.cos(math.pi * k / 8)) / 2 for k in range(8)]
    assert used[4:] == pytest.approx(expected, rel=1e-12)
    assert used[8] == pytest.approx(0.2, rel=1e-12)
    assert end == pytest.approx(0.0, abs=1e-15)


def test_the_rate_ends_at_the_final_ratio_and_without_warm_up_starts_at_the_full_one():
    used, end = rates(total=10, warmup=0, final_ratio=0.25)
    assert used[0] == 0.4
    assert end == pytest.approx(0.1, rel=1e-12)


@pytest.mark.parametrize(("total", "warmup"), [(10, 10), (5, 10), (0, 0), (5, -1)])
def test_a_warm_up_that_does_not_fit_is_refused(total, warmup):
    with pytest.raises(ValueError, match=f"{warmup} warm-up steps do not fit in {total} steps"):
        rates(total, warmup)


def test_a_final_ratio_is_a_share():
    with pytest.raises(ValueError, match="final_ratio must be in"):
        rates(10, 0, final_ratio=2.0)


# --- several optimisers as one ----------------------------------------------------------------------------


def test_together_takes_the_steps_its_parts_would_take_alone():
    ours, twin = small(), small()
    together = pair(ours)
    alone = pair(twin).optimizers
    for s in range(4):
        train(ours, together, steps=1, start=s)
        x = torch.randn(16, 4, generator=torch.Generator().manual_seed(s))
        twin.zero_grad()
        twin(x).square().sum().backward()
        for part in alone:
            part.step()
    for a, b in zip(ours.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def groups_are_shared(together):
    held = [group for part in together.optimizers for group in part.param_groups]
    return len(held) == len(together.param_groups) and all(
        a is b for a, b in zip(held, together.param_groups, strict=True)
    )


def test_groups_are_the_parts_own_before_and_after_loading():
    module = small()
    together = pair(module)
    assert groups_are_shared(together)
    train(module, together, steps=1)
    together.load_state_dict(together.state_dict())
    assert groups_are_shared(together)
    assert together.state
    assert all(part.state is together.state for part in together.optimizers)


def test_a_schedule_scales_the_rate_of_every_part():
    together = pair(small())
    scheduler = warmup_cosine(together, total_steps=10, warmup_steps=4)
    assert [g["lr"] for part in together.optimizers for g in part.param_groups] == [0.125, 0.125, 0.0025]
    together.step()
    scheduler.step()
    assert [g["lr"] for part in together.optimizers for g in part.param_groups] == [0.25, 0.25, 0.005]


def test_the_closure_runs_once_and_its_loss_is_returned():
    module, calls = small(), []
    together = pair(module)
    before = [p.detach().clone() for p in module.parameters()]

    def closure():
        calls.append(1)
        loss = module(torch.ones(8, 4) + torch.arange(8.0)[:, None]).square().sum()
        loss.backward()
        return loss

    loss = together.step(closure)
    assert len(calls) == 1
    assert loss.item() > 0
    assert not any(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))
    together.zero_grad()
    assert all(p.grad is None for p in module.parameters())


def test_a_parameter_belongs_to_one_part_only():
    module = small()
    with pytest.raises(ValueError, match="more than one parameter group"):
        CompositeOptimizer([lars(module), torch.optim.Adam(module.parameters())])
    with pytest.raises(ValueError, match="at least one optimizer"):
        CompositeOptimizer([])


def test_a_state_of_other_parts_is_refused():
    module = small()
    with pytest.raises(ValueError, match="different number of parameter groups"):
        pair(module).load_state_dict(lars(module).state_dict())


class Regression(pl.LightningModule):
    """The smallest module that trains under a CompositeOptimizer and a schedule."""

    def __init__(self, steps):
        super().__init__()
        self.net, self.steps = small(), steps

    def training_step(self, batch, batch_idx):
        return self.net(batch[0]).square().mean()

    def configure_optimizers(self):
        optimizer = pair(self.net)
        scheduler = warmup_cosine(optimizer, self.steps, warmup_steps=2)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def fit(folder, epochs, ckpt_path=None):
    x = torch.randn(32, 4, generator=torch.Generator().manual_seed(0))
    module = Regression(steps=16)
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        gradient_clip_val=1.0,
        default_root_dir=folder,
    )
    with warnings.catch_warnings():
        # Lightning's advice on loader workers and logging, and its use of a name that torch has deprecated.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*logging interval.*")
        warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
        trainer.fit(module, DataLoader(TensorDataset(x), batch_size=8), ckpt_path=ckpt_path, weights_only=True)
    return trainer, module


def test_lightning_trains_clips_schedules_and_resumes_a_together(tmp_path):
    _, whole = fit(tmp_path, epochs=4)
    trainer, half = fit(tmp_path, epochs=2)
    assert isinstance(half.optimizers(), CompositeOptimizer)
    assert groups_are_shared(trainer.optimizers[0])
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    trainer, resumed = fit(tmp_path, epochs=4, ckpt_path=tmp_path / "half.ckpt")
    assert trainer.global_step == 16
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.0, abs=1e-15)
