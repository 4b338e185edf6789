"""What goes wrong while every number is finite is said once, in the log and in the report."""

import math
from types import SimpleNamespace

import pytest
import torch
from specs import DIM, OBJECTIVES
from standins import GaussianViews, Observer

from ssl_mi.callbacks import Health
from ssl_mi.callbacks.health import trivial_loss
from ssl_mi.information.variational.bounds import InfoNCE
from ssl_mi.information.variational.critics import Cosine
from ssl_mi.objectives.infomax import Infomax
from ssl_mi.objectives.negatives import OtherSamples
from ssl_mi.objectives.redundancy import VICReg


def trained(losses, change=None, width=10, epochs=None, health=None, bounds=(), steps=100):
    """The cautions after epochs with these losses, for embeddings that are `change(views)` from the second epoch on."""
    health = Health() if health is None else health
    data, module = GaussianViews(rho=[0.8] * width, n=200), observer(width)
    trainer = SimpleNamespace(datamodule=data, global_step=0, max_epochs=epochs or len(losses), callback_metrics={})
    health.on_train_start(trainer, module)
    trainer.global_step = steps
    module.towers.change = change or (lambda x: x)
    for epoch, loss in enumerate(losses):
        trainer.callback_metrics["train/loss"] = torch.tensor(loss)
        if bounds:
            trainer.callback_metrics["train/bound_nats"] = torch.tensor(bounds[epoch])
        health.on_train_epoch_end(trainer, module)
    return {caution.code: caution for caution in health.cautions}


def test_a_healthy_run_has_no_caution():
    assert trained([4.0, 3.0, 2.5]) == {}


def test_embeddings_that_are_all_alike_or_fill_one_dimension_are_said_once(caplog):
    alike = trained([4.0, 3.9, 3.8], lambda x: 1 + 1e-3 * x)
    assert set(alike) == {"collapsed"}
    # Columns 1 + 1e-3 N(0, 1): their distance from the mean over their length.
    assert alike["collapsed"].numbers["spread"] == pytest.approx(1e-3, rel=0.1)
    assert caplog.text.count("nearly alike") == 1
    thin = trained([4.0, 3.9], lambda x: x * torch.tensor([1.0] + [0.01] * 9))
    assert set(thin) == {"few-dimensions"}
    assert thin["few-dimensions"].numbers["possible"] == 10


def test_a_loss_that_is_no_lower_than_that_of_constant_embeddings_is_said_after_some_epochs():
    constant = math.log(100)  # of 100 candidates, which are all alike
    assert trivial_loss(observer(), 100) == pytest.approx(constant, abs=1e-5)
    assert trained([constant] * 2, epochs=9) == {}
    assert set(trained([constant] * 3, epochs=9)) == {"stuck-loss"}
    assert set(trained([constant])) == {"stuck-loss"}
    assert trained([constant], steps=20) == {}  # too early to say
    assert trained([constant, 3.0, constant, constant], epochs=9) == {}


def test_a_bound_of_nothing_is_a_loss_that_is_stuck():
    assert set(trained([0.0, -0.5, -0.6], bounds=[0.0, 0.0, 0.0])) == {"stuck-loss"}
    assert trained([0.0, -0.5, -0.6], bounds=[0.0, 0.5, 0.6]) == {}


def test_an_objective_that_does_not_prefer_embeddings_that_differ_is_not_judged_by_them():
    module = observer()
    module.objective = VICReg(10, variance=0.0, covariance=0.0)
    assert trivial_loss(module, 20) is None


def test_a_loss_or_embeddings_beyond_sense_are_said():
    assert set(trained([4.0, -1e5])) == {"absurd-loss"}
    assert set(trained([4.0, 3.9], lambda x: 1e7 * x)) == {"absurd-embeddings"}


def test_what_was_found_survives_a_stop():
    health, resumed = Health(), Health()
    trained([4.0, 1e5], health=health)
    resumed.load_state_dict(health.state_dict())
    assert resumed.cautions == health.cautions
    assert trained([1e5], health=resumed).keys() == {"absurd-loss"}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_loss_of_constant_embeddings_is_known_where_the_objective_prefers_others(name):
    row, module = OBJECTIVES[name], SimpleNamespace(objective=OBJECTIVES[name].make(), device="cpu")
    module.towers = SimpleNamespace(out_dim=DIM)
    before = {k: v.clone() for k, v in module.objective.state_dict().items()}
    found = trivial_loss(module, 12)
    assert found is None or math.isfinite(found)
    # Of equal views W-MSE is 0, whatever they are.
    if row.collapse == "raises" and not row.past and "maps" not in module.objective.requires and name != "w_mse":
        assert found is not None
    assert all(torch.equal(v, before[k]) for k, v in module.objective.state_dict().items())


def observer(width=10):
    module = Observer()
    module.objective = Infomax(width, Cosine(1.0), InfoNCE(), OtherSamples())
    module.towers.out_dim = width
    return module
