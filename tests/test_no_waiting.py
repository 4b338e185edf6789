"""A training step never makes the host wait for a GPU, and a loss that is not finite is named all the same."""

import pytest
import pytorch_lightning as pl
import torch

from ssl_mi import finite
from ssl_mi.finite import FiniteLosses, NotFinite
from ssl_mi.objectives import small_matrix, tiles
from tests.data.images.test_no_waiting import Waits

OBJECTIVES = {
    "simclr": [],
    "moco": ["objective=moco", "objective.queue=100", "teacher=ema"],
    "byol": ["objective=byol", "teacher=ema"],
    "swav": ["objective=swav"],
}


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """Choices that are made for an accelerator, made on this CPU."""
    monkeypatch.setattr(finite, "AT_ONCE", frozenset())
    for module in (tiles, small_matrix):
        monkeypatch.setattr(module, "small", lambda left, right: False)


class Counted(pl.Callback):
    """What would wait in the third step, from its batch on the device to the end of the optimizer's step."""

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if batch_idx == 2:
            self.waits = Waits()
            self.waits.__enter__()

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if batch_idx == 2:
            self.waits.__exit__(None, None, None)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_no_step_waits_for_the_device(name, run, as_on_a_gpu):
    counted = Counted()
    # torch's Adam keeps its counts on the CPU and looks at them there, which is no wait but counts as one here.
    run(
        *OBJECTIVES[name],
        "optimizer=sgd",
        "trainer.max_epochs=1",
        before=lambda r: r.trainer.callbacks.append(counted),
    )
    assert counted.waits.names == []


@pytest.mark.parametrize("saved", ["at the end of the epoch", "inside the epoch"])
def test_what_nobody_waited_for_is_named_by_its_step_before_a_checkpoint_is_written(saved, run, as_on_a_gpu, tmp_path):
    class Poison(pl.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            if trainer.global_step == 5:
                next(module.towers.parameters()).data.fill_(float("nan"))

        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            if trainer.global_step == 7 and saved == "inside the epoch":
                trainer.save_checkpoint(tmp_path / "other.ckpt")

    with pytest.raises(NotFinite, match=r"step 5 \(epoch 1\): nt_xent = nan"):
        run("trainer.max_epochs=3", before=lambda r: r.trainer.callbacks.append(Poison()))
    assert not (tmp_path / "other.ckpt").exists()
    kept = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert kept["epoch"] == 0
    assert all(torch.isfinite(v).all() for v in kept["state_dict"].values() if v.is_floating_point())


def test_a_run_that_ends_inside_an_epoch_is_looked_at_before_it_is_measured(run, as_on_a_gpu):
    class Poison(pl.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            if trainer.global_step == 1:
                next(module.towers.parameters()).data.fill_(float("nan"))

        def on_train_epoch_end(self, trainer, module):
            pytest.fail("measured")

    with pytest.raises(NotFinite, match=r"step 1 \(epoch 0\)"):
        run("trainer.max_steps=2", "schedule=constant", before=lambda r: r.trainer.callbacks.insert(0, Poison()))


def test_a_loss_that_is_not_finite_is_named_within_fifty_steps(as_on_a_gpu):
    losses, seen = FiniteLosses(), []

    def train():
        for step in range(200):
            seen.append(step)
            terms = {"pull": torch.tensor(1.0), "push": torch.tensor(float("inf") if step >= 120 else 0.5)}
            losses.watch(terms, terms["pull"] + terms["push"], step, epoch=step // 60)

    with pytest.raises(NotFinite, match=r"step 120 \(epoch 2\): pull = 1, push = inf"):
        train()
    assert seen[-1] < 120 + finite.EVERY


def test_terms_of_which_two_infinities_make_no_number_are_both_shown(as_on_a_gpu):
    losses = FiniteLosses()
    terms = {"a": torch.tensor(float("inf")), "b": torch.tensor(-float("inf"))}
    losses.watch(terms, terms["a"] + terms["b"], 3, epoch=0)
    with pytest.raises(NotFinite, match=r"step 3 \(epoch 0\): a = inf, b = -inf"):
        losses.look()
