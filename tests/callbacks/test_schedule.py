"""Numbers that move while a run trains: their values at each step, resumed, accumulated, and what is refused."""

import json
import math
import os
import re
import subprocess
import sys
import warnings
from itertools import pairwise
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from ssl_mi.callbacks.schedule import Freeze, Milestones, Schedule
from ssl_mi.information.variational.critics import Cosine

ROOT = Path(__file__).parents[2]
SCHEDULE = "ssl_mi.callbacks.schedule.Schedule"
NARROW = ["encoder.widths=[8]", "towers.projector.dims=[16,8]"]
DINO = ["objective=dino", "towers=prototypes", "towers.projector.prototypes=16", "teacher=ema", "encoder.widths=[8]"]


def entry(name, target, start, end, **settings):
    more = "".join(f", {key}: {value}" for key, value in settings.items())
    return f"+schedules.{name}={{_target_: {SCHEDULE}, target: {target}, start: {start}, end: {end}{more}}}"


def freeze(target, **length):
    ((key, value),) = length.items()
    return f"+schedules.frozen={{_target_: ssl_mi.callbacks.schedule.Freeze, target: {target}, {key}: {value}}}"


class Watch(pl.Callback):
    """What the parts hold while each optimizer step is computed and taken."""

    def __init__(self, **readers):
        self.readers, self.steps = readers, []

    def on_before_optimizer_step(self, trainer, module, optimizer):
        found = {name: read(module, optimizer) for name, read in self.readers.items()}
        self.steps.append((trainer.global_step, found))


def temperature(module, optimizer):
    return module.objective.critic.temperature


def decays(module, optimizer):
    return [group["weight_decay"] for group in optimizer.param_groups]


@pytest.fixture
def watched(run):
    def make(*overrides, **readers):
        watch = Watch(**readers)
        made = run(*overrides, before=lambda r: r.trainer.callbacks.append(watch))
        return made, watch

    return make


# --- what moves -------------------------------------------------------------------------------------------


def test_a_temperature_follows_its_cosine_over_the_run_and_is_logged_at_the_end_of_each_epoch(watched):
    moving = entry("t", "objective.critic.temperature", 0.5, 0.1)
    made, watch = watched("objective=simclr", *NARROW, moving, "trainer.max_epochs=2", t=temperature)
    # 128 images in batches of 32: 8 steps.
    expected = [0.1 + 0.4 * (1 + math.cos(math.pi * step / 8)) / 2 for step in range(8)]
    assert [step for step, _ in watch.steps] == list(range(8))
    assert [found["t"] for _, found in watch.steps] == pytest.approx(expected, rel=1e-6)
    logged = [h["train/objective.critic.temperature"] for h in made.history.epochs]
    assert logged == pytest.approx([expected[3], expected[7]], rel=1e-6)
    assert made.facts()["schedules"] == "objective.critic.temperature 0.5 -> 0.1, cosine over the run"


def test_weight_decay_moves_where_parameters_decay_and_stays_zero_for_biases_and_norms(watched):
    moving = entry("wd", "optimizer.weight_decay", 0.04, 0.4, shape="linear", over_steps=4)
    _, watch = watched(*NARROW, moving, "trainer.max_epochs=2", wd=decays)
    assert [found["wd"][0] for _, found in watch.steps] == pytest.approx([0.04, 0.13, 0.22, 0.31, *[0.4] * 4])
    assert {found["wd"][1] for _, found in watch.steps} == {0.0}


def test_each_optimizer_has_a_weight_decay_of_its_own(watched):
    own = "objective_optimizer={_target_: torch.optim.AdamW, _partial_: true, lr: 0.01, weight_decay: 0.3}"
    moving = entry("wd", "objective_optimizer.weight_decay", 0.1, 0.2, over_steps=1, shape="jump")
    _, watch = watched("objective=mine", own, *NARROW, moving, "trainer.max_epochs=1", wd=decays)
    # Towers: decayed and spared; objective: decayed and spared.
    assert [found["wd"] for _, found in watch.steps] == [[1e-4, 0.0, 0.1, 0.0], *[[1e-4, 0.0, 0.2, 0.0]] * 3]


def test_a_teachers_momentum_may_follow_a_schedule_in_place_of_its_own(watched):
    moving = entry("m", "teacher.momentum", 0.5, 0.9, shape="linear", over_epochs=1)
    byol = ["objective=byol", "objective.predictor.hidden=8", "teacher=ema", "teacher.final_momentum=null", *NARROW]
    _, watch = watched(*byol, moving, "trainer.max_epochs=2", m=lambda module, _: module.teacher.momentum_at(0.5))
    assert [found["m"] for _, found in watch.steps] == pytest.approx([0.5, 0.6, 0.7, 0.8, *[0.9] * 4])


def test_a_teachers_own_momentum_is_logged_and_named_in_the_first_lines(run):
    made = run("objective=byol", "objective.predictor.hidden=8", "teacher=ema", *NARROW, "trainer.max_epochs=2")
    assert made.facts()["schedules"] == "teacher.momentum 0.99 -> 1, cosine over the run"
    logged = [h["train/teacher.momentum"] for h in made.history.epochs]
    expected = [1 - 0.01 * (1 + math.cos(math.pi * step / 8)) / 2 for step in range(1, 9)]
    assert logged == pytest.approx([sum(expected[:4]) / 4, sum(expected[4:]) / 4], rel=1e-6)


def test_milestones_change_the_value_at_the_first_step_of_their_epoch(watched):
    steps = "+schedules.t={_target_: ssl_mi.callbacks.schedule.Milestones, target: objective.critic.temperature"
    made, watch = watched(*NARROW, steps + ", values: {0: 0.5, 1: 0.25}}", "trainer.max_epochs=2", t=temperature)
    assert [found["t"] for _, found in watch.steps] == pytest.approx([*[0.5] * 4, *[0.25] * 4], rel=1e-6)
    assert made.facts()["schedules"] == "objective.critic.temperature 0.5 from 0, 0.25 from 1 (epochs)"


def test_accumulated_batches_share_the_value_of_their_step(run):
    seen = []

    class Batches(pl.Callback):
        def on_before_backward(self, trainer, module, loss):
            seen.append((trainer.global_step, round(module.objective.critic.temperature, 6)))

    moving = entry("t", "objective.critic.temperature", 0.5, 0.1, shape="linear")
    overrides = [*NARROW, moving, "trainer.max_epochs=2", "trainer.accumulate_grad_batches=2"]
    run(*overrides, before=lambda made: made.trainer.callbacks.append(Batches()))
    assert seen == [(step, round(0.5 - 0.1 * step, 6)) for step in range(4) for _ in range(2)]


def test_a_schedule_changes_what_is_learned(run, tmp_path):
    moving = entry("t", "objective.critic.temperature", 0.5, 0.1)
    still = "objective.temperature=0.5"
    first, second = (
        run(*NARROW, how, "trainer.max_epochs=1", f"run_dir={tmp_path / name}").module.towers.state_dict()
        for name, how in (("a", moving), ("b", still))
    )
    assert not all(torch.equal(first[key], second[key]) for key in first)


def test_a_run_too_short_for_its_schedules_says_so(run):
    moving = [entry("t", "objective.target_temperature", 0.04, 0.07, over_epochs=30, shape="linear")]
    moving += [freeze("towers.tower.projector.prototypes", for_epochs=2)]
    described = run(*DINO, *moving, "trainer.max_epochs=1").facts()["schedules"]
    assert "0.04 -> 0.07, linear over 30 epochs (the run ends after 1)" in described
    assert "frozen for 2 epochs (the run ends after 1)" in described


# --- what is kept still -----------------------------------------------------------------------------------


def test_dinos_last_layer_keeps_still_for_an_epoch_and_the_rest_does_not(run):
    moved = []

    class Follow(pl.Callback):
        def on_train_epoch_start(self, trainer, module):
            self.before = {n: p.detach().clone() for n, p in module.towers.named_parameters()}

        def on_train_epoch_end(self, trainer, module):
            moved.append({n: not torch.equal(p, self.before[n]) for n, p in module.towers.named_parameters()})

    frozen = freeze("towers.tower.projector.prototypes", for_epochs=1)
    overrides = [*DINO, frozen, "trainer.max_epochs=2", "optimizer.weight_decay=0.1"]
    overrides += ["trainer.gradient_clip_val=1.0", "schedule=constant"]
    made = run(*overrides, before=lambda r: r.trainer.callbacks.append(Follow()))
    last = "tower.projector.prototypes"
    assert [epoch[last] for epoch in moved] == [False, True]  # not even by decay
    assert all(epoch[name] for epoch in moved for name in epoch if name != last)
    logged = [h["train/towers.tower.projector.prototypes.frozen"] for h in made.history.epochs]
    assert logged == [1.0, 0.0]
    assert made.facts()["schedules"].endswith("towers.tower.projector.prototypes frozen for 1 epoch")


def test_a_module_is_frozen_whole_for_a_number_of_steps(run):
    encoders = []

    class Follow(pl.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            encoders.append(torch.cat([p.detach().flatten() for p in module.towers.tower.encoder.parameters()]))

    run(
        *NARROW,
        freeze("towers.tower.encoder", for_steps=3),
        "trainer.max_epochs=2",
        before=lambda r: r.trainer.callbacks.append(Follow()),
    )
    assert [torch.equal(a, b) for a, b in pairwise(encoders)] == [True, True, *[False] * 5]


def test_the_recipe_of_dino_moves_what_the_paper_moves(watched):
    readers = {"t": lambda module, _: module.objective.target_temperature, "wd": decays}
    recipe = [*DINO, "schedules=dino", "optimizer.weight_decay=0.04", "schedules.teacher_temperature.over_epochs=1"]
    _, watch = watched(*recipe, "trainer.max_epochs=2", **readers)
    assert [found["t"] for _, found in watch.steps] == pytest.approx([0.04, 0.0475, 0.055, 0.0625, *[0.07] * 4])
    expected = [0.4 - 0.36 * (1 + math.cos(math.pi * step / 8)) / 2 for step in range(8)]
    assert [found["wd"][0] for _, found in watch.steps] == pytest.approx(expected)


# --- stopped and resumed ----------------------------------------------------------------------------------

MOVING = [
    *DINO,
    "trainer.max_epochs=4",
    "objective.online_temperature=0.2",
    "teacher.final_momentum=null",
    entry("t", "objective.target_temperature", 0.04, 0.1, over_epochs=3, shape="linear"),
    entry("m", "teacher.momentum", 0.5, 1.0),
    entry("wd", "optimizer.weight_decay", 0.04, 0.4),
    freeze("towers.tower.projector.prototypes", for_steps=6),
]
READERS = {
    "t": lambda module, _: module.objective.target_temperature,
    "m": lambda module, _: module.teacher.momentum,
    "wd": decays,
    "frozen": lambda module, _: module.towers.tower.projector.prototypes.grad is None,
}


@pytest.mark.parametrize("stop", [4, 6], ids=["between epochs", "inside an epoch"])
def test_a_resumed_run_has_the_values_of_the_run_that_never_stopped(run, watched, tmp_path, stop):
    # Steps 4 to 7 are the second epoch.
    _, whole = watched(*MOVING, f"run_dir={tmp_path / 'whole'}", **READERS)

    class Stop(pl.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            if trainer.global_step == stop:
                trainer.save_checkpoint(tmp_path / "stopped.ckpt")
                raise RuntimeError("killed")

    first = Watch(**READERS)
    with pytest.raises(RuntimeError, match="killed"):
        run(*MOVING, f"run_dir={tmp_path / 'a'}", before=lambda made: made.trainer.callbacks.extend([first, Stop()]))
    _, rest = watched(*MOVING, f"ckpt_path={tmp_path / 'stopped.ckpt'}", f"run_dir={tmp_path / 'b'}", **READERS)
    assert [step for step, _ in first.steps] == list(range(stop))
    assert rest.steps[0][0] == stop
    assert first.steps + rest.steps == whole.steps


# --- several processes ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_processes_have_the_values_and_the_losses_of_one(tmp_path):
    moving = [*NARROW, entry("t", "objective.critic.temperature", 0.5, 0.1), "trainer.max_epochs=2", "progress=none"]
    moving += ["data.sets.train=160", "data.sets.test=60", "data.batch_size=32", "trainer.accelerator=cpu"]
    moving += ["evaluation.every_n_epochs=0", "encoder=convnet"]
    moving += [f"evaluation.evaluations.{e}=null" for e in ("mi", "linear_probe", "knn", "geometry", "pictures")]
    histories = []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        command = [sys.executable, "train.py", "trainer=ddp", f"trainer.devices={processes}", f"run_dir={folder}"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        done = subprocess.run([*command, *moving], cwd=ROOT, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr[-2000:]
        histories.append(json.loads((folder / "report.json").read_text())["history"])
    for one, two in zip(*histories, strict=True):
        assert two["train/objective.critic.temperature"] == one["train/objective.critic.temperature"]
        assert two["train/loss"] == pytest.approx(one["train/loss"], rel=1e-4)  # float32, other orders of sums


# --- what is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            [entry("t", "objective.critic.temprature", 0.5, 0.1)],
            "there is no objective.critic.temprature to schedule: did you mean 'objective.critic.temperature'?",
        ),
        (
            [entry("t", "optimizer.weight_decy", 0.1, 0.2)],
            "there is no optimizer.weight_decy to schedule: did you mean 'optimizer.weight_decay'?",
        ),
        ([entry("t", "temperature", 0.5, 0.1)], "did you mean 'objective.critic.temperature'?"),
        ([entry("t", "optimizer.lr", 0.5, 0.1)], "optimizer.lr has a schedule of its own: choose it with schedule="),
        ([entry("t", "optimizer.betas", 0.5, 0.1)], "optimizer.betas cannot be scheduled: it is (0.9, 0.999), not"),
        ([entry("t", "objective.name", 0.5, 0.1)], "objective.name cannot be scheduled to 0.1: it is a str"),
        ([entry("t", "towers.joint_forward", 0.5, 0.1)], "it is a bool, not a number"),
        ([entry("t", "objective.critic.score_range", 0.5, 0.1)], "it follows from other numbers"),
        (
            ["objective=clip", entry("t", "objective.critic.temperature", 0.5, 0.1)],
            "objective.critic.temperature cannot be scheduled to 0.1: the temperature is learned: set learned=false",
        ),
        (
            ["objective=clip", entry("t", "objective.critic.log_inverse", 0.5, 0.1)],
            "it is a parameter, which is learned",
        ),
        ([entry("t", "objective.critic.temperature", 0.5, 0.0)], "temperature must be at least minimum=0.01, got 0.0"),
        (
            [*DINO, entry("t", "objective.target_temperature", 0.04, 0.2)],
            "objective.target_temperature cannot be scheduled to 0.2: DINO: needs 0 < target_temperature < online",
        ),
        (
            [*DINO, entry("t", "teacher.momentum", 0.5, 0.9)],
            "it already moves to teacher.final_momentum=1: set teacher.final_momentum=null",
        ),
        (
            [entry(name, "objective.critic.temperature", 0.5, 0.1) for name in ("a", "b")],
            "2 schedules move objective.critic.temperature: keep one of them",
        ),
        (
            [freeze("towers.tower.encodr", for_steps=3)],
            "there is no part towers.tower.encodr to freeze: did you mean 'towers.tower.encoder'?",
        ),
        (
            [*DINO, freeze("teacher", for_steps=3)],
            "teacher has no trainable parameter to freeze",
        ),
    ],
)
def test_what_cannot_be_scheduled_is_refused_before_anything_is_computed(run, overrides, message):
    class NeverReached(pl.Callback):
        def on_train_start(self, trainer, module):
            pytest.fail("the run began")

    with pytest.raises(ValueError, match=re.escape(message)):
        run(*overrides, before=lambda made: made.trainer.callbacks.insert(0, NeverReached()))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Schedule("a.b", 0, 1, shape="cosin"), "there is no shape=cosin; choose linear, cosine, jump"),
        (lambda: Schedule("a.b", 0, 1, over_steps=3, over_epochs=1), "over_steps=3 and over_epochs=1: set one"),
        (lambda: Schedule("a.b", 0, 1, over_epochs=0), "over_epochs=0 must be positive"),
        (lambda: Milestones("a.b", {1: 0.5}), "one value must start at 0"),
        (lambda: Milestones("a.b", {0: 0.5}, unit="epoch"), "unit=epoch; choose epochs or steps"),
        (lambda: Freeze("a"), "set for_epochs or for_steps"),
        (lambda: Freeze("a", for_steps=-1), "for_steps=-1 must be positive"),
    ],
)
def test_impossible_schedules_are_refused_when_they_are_built(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# --- any module of Lightning's ----------------------------------------------------------------------------


class Regression(pl.LightningModule):
    """A module that is none of ours, with a buffer and a number."""

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(4, 1)
        self.loss = Penalty()

    def training_step(self, batch, batch_idx):
        return self.net(batch[0]).square().mean() + self.loss(self.net.weight)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1, weight_decay=0.5)


class Penalty(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("strength", torch.tensor(1.0))
        self.seen = []

    def forward(self, weight):
        self.seen.append(self.strength.item())
        return self.strength * weight.abs().sum()


def fit(module, folder, schedules, **settings):
    trainer = pl.Trainer(
        **settings,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=schedules,
    )
    with warnings.catch_warnings():
        for message in (".*does not have many workers.*", ".*logging interval.*", ".*LeafSpec.*"):
            warnings.filterwarnings("ignore", message=message)
        trainer.fit(module, DataLoader(TensorDataset(torch.ones(8, 4)), batch_size=4))
    return trainer


def test_a_schedule_serves_any_lightning_module(tmp_path):
    module = Regression()
    schedules = [
        Schedule("loss.strength", 1.0, 0.0, shape="linear"),
        Schedule("optimizer.weight_decay", 0.5, 0.1, over_epochs=1, shape=lambda step, start, end, steps: end),
    ]
    trainer = fit(module, tmp_path, schedules, max_epochs=2)
    assert module.loss.seen == pytest.approx([1.0, 0.75, 0.5, 0.25])
    assert trainer.optimizers[0].param_groups[0]["weight_decay"] == 0.1


def test_a_schedule_over_the_run_needs_a_run_that_ends(tmp_path):
    module = Regression()
    with pytest.raises(ValueError, match="goes over the whole run, which has no end: set over_steps"):
        fit(module, tmp_path, [Schedule("loss.strength", 1.0, 0.0)], max_epochs=-1)
    assert module.loss.seen == []  # before the first step


# --- the temperature of a critic --------------------------------------------------------------------------


def test_a_critic_whose_temperature_is_set_is_one_that_was_made_with_it():
    x, y = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0))
    moved, made = Cosine(0.5), Cosine(0.2)
    moved.temperature = 0.2
    torch.testing.assert_close(moved(x, y), made(x, y))
    assert moved.temperature == pytest.approx(0.2)
    assert moved.score_range == pytest.approx(10.0)
