"""What a training step does, and what a stopped run keeps."""

import math

import pytest
import pytorch_lightning as pl
import torch

from ssl_mi.module import NotFinite


def weights(run) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in run.module.state_dict().items()}


@pytest.mark.parametrize(
    "overrides",
    [
        ["objective=simclr"],
        ["objective=mine", "objective_optimizer={_target_: torch.optim.Adam, _partial_: true, lr: 0.01}"],
        # A queue of 100 rows wraps within an epoch of 256 keys.
        ["objective=moco", "objective.negatives.size=100", "teacher=ema", "encoder.widths=[8]"],
        ["objective=deepcluster", "objective.images=128", "objective.prototypes=8", "encoder.widths=[8]"],
    ],
    ids=["simclr", "mine", "queue and teacher", "bank and clusters"],
)
def test_two_epochs_and_two_more_after_a_stop_are_four(run, tmp_path, overrides):
    whole = weights(run("trainer.max_epochs=4", f"run_dir={tmp_path / 'whole'}", *overrides))

    class Stop(pl.Callback):
        def on_train_epoch_start(self, trainer, module):
            if trainer.current_epoch == 2:
                raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        run("trainer.max_epochs=4", *overrides, before=lambda r: r.trainer.callbacks.append(Stop()))
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    resumed = run("trainer.max_epochs=4", f"run_dir={tmp_path / 'resumed'}", f"ckpt_path={last}", *overrides)
    assert [h["epoch"] for h in resumed.history.epochs] == [1, 2, 3, 4]
    for name, value in weights(resumed).items():
        assert torch.equal(value, whole[name]), name


def test_a_seed_decides_everything(run, tmp_path):
    first, again, other = (
        weights(run("trainer.max_epochs=1", f"seed={s}", f"run_dir={tmp_path / d}"))
        for s, d in ((1, "a"), (1, "b"), (2, "c"))
    )
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not all(torch.equal(first[k], other[k]) for k in first)


def test_the_teacher_moves_once_per_optimizer_step(run):
    calls = []

    def count(made):
        original = made.module.teacher.update
        made.module.teacher.update = lambda towers, progress: (calls.append(progress), original(towers, progress))

    run("teacher=ema", "trainer.max_epochs=2", "trainer.accumulate_grad_batches=2", before=count)
    # 128 training images in batches of 32, two a step: 2 steps an epoch.
    assert calls == [0.25, 0.5, 0.75, 1.0]


def test_the_teacher_learns_nothing_by_gradient(run):
    made = run("teacher=ema", "trainer.max_epochs=1")
    assert not any(p.requires_grad for p in made.module.teacher.parameters())
    trained = {id(p) for group in made.trainer.optimizers[0].param_groups for p in group["params"]}
    assert trained == {id(p) for p in [*made.module.towers.parameters(), *made.module.objective.parameters()]}


def test_a_critic_gets_its_own_optimizer_and_rate(run):
    made = run(
        "objective=mine",
        "objective_optimizer={_target_: torch.optim.SGD, _partial_: true, lr: 0.5}",
        "schedule=constant",
        "trainer.max_epochs=1",
    )
    rates = {id(p): g["lr"] for g in made.trainer.optimizers[0].param_groups for p in g["params"]}
    assert {rates[id(p)] for p in made.module.objective.parameters()} == {0.5}
    assert {rates[id(p)] for p in made.module.towers.parameters()} == {0.001}


def test_an_optimizer_for_an_objective_without_parameters_is_refused(run):
    with pytest.raises(Exception, match="has no parameters"):
        run("objective_optimizer={_target_: torch.optim.SGD, _partial_: true, lr: 0.5}")


def test_a_loss_that_is_not_finite_stops_with_step_and_term_and_keeps_the_last_checkpoint(run, tmp_path):
    class Poison(pl.Callback):
        def on_train_epoch_start(self, trainer, module):
            if trainer.current_epoch == 1:
                next(module.towers.parameters()).data.fill_(float("nan"))

    with pytest.raises(NotFinite, match=r"step 4 \(epoch 1\): nt_xent = nan"):
        run("trainer.max_epochs=3", before=lambda r: r.trainer.callbacks.append(Poison()))
    saved = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["epoch"] == 0
    assert all(torch.isfinite(v).all() for k, v in saved["state_dict"].items() if v.is_floating_point())
    assert (tmp_path / "run" / "report.md").exists()


def test_the_rate_in_the_yaml_is_reached_and_not_multiplied(run):
    made = run("optimizer.lr=0.003", "schedule.warmup_epochs=1", "schedule.final_ratio=1.0", "trainer.max_epochs=2")
    assert made.history.epochs[-1]["lr"] == pytest.approx(0.003)
    assert "0.003" in made.facts()["optimizer"]


def test_labels_never_reach_the_loss(run, tmp_path):
    with_labels = weights(run("trainer.max_epochs=1", f"run_dir={tmp_path / 'a'}"))

    # The split is stratified by class where labels are known, so compare on the same rows: permuted labels.
    def shuffle(made):
        made.data.setup()
        made.data.train.labels.copy_(made.data.train.labels.flip(0))

    without = weights(run("trainer.max_epochs=1", f"run_dir={tmp_path / 'b'}", before=shuffle))
    assert all(torch.equal(with_labels[k], without[k]) for k in with_labels)


def test_a_supervised_objective_reads_the_labels_of_its_rows(run, tmp_path):
    made = run("objective=supcon", "trainer.max_epochs=1")
    assert made.history.epochs[0]["train/supcon"] > 0
    with pytest.raises(ValueError, match="images have no labels"):
        run("objective=supcon", "data.labels=false", "trainer.max_epochs=1", f"run_dir={tmp_path / 'b'}")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("objective.images=100", "128 training images and a bank of 100: set objective.images=128"),
        ("objective.prototypes=129", "128 training images can not be put in 129 clusters"),
    ],
)
def test_a_bank_that_does_not_fit_the_images_is_refused_before_training(run, setting, message):
    with pytest.raises(ValueError, match=message):
        run("objective=deepcluster", "objective.prototypes=8", setting)


def test_an_objective_of_maps_and_towers_that_hand_them_out_need_each_other(run):
    made = run("objective=amdim", "towers=siamese_local", "trainer.max_epochs=1")
    assert made.history.epochs[0]["train/local_nats"] < math.log(32)
    with pytest.raises(Exception, match="'amdim' reads feature maps: set towers=siamese_local"):
        run("objective=amdim")
    with pytest.raises(Exception, match="'nt_xent' reads no feature maps: set towers=siamese"):
        run("towers=siamese_local")


def test_a_predictor_may_keep_its_rate_while_the_towers_follow_a_schedule(run):
    made = run(
        "objective=simsiam",
        "objective_optimizer={_target_: torch.optim.SGD, _partial_: true, lr: 0.5}",
        "objective_schedule=false",
        "trainer.max_epochs=1",
    )
    rates = {id(p): g["lr"] for g in made.trainer.optimizers[0].param_groups for p in g["params"]}
    assert {rates[id(p)] for p in made.module.objective.parameters()} == {0.5}
    assert {rates[id(p)] for p in made.module.towers.parameters()} == {0.0}  # the end of the cosine


def test_a_rate_can_not_be_kept_without_an_optimizer_of_its_own(run):
    with pytest.raises(Exception, match="objective_schedule=false"):
        run("objective=simsiam", "objective_schedule=false")


def test_weights_ruined_by_the_last_step_of_an_epoch_never_reach_the_checkpoint(run, tmp_path):
    class Poison(pl.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            if trainer.current_epoch == 1 and batch_idx == trainer.num_training_batches - 1:
                next(module.towers.parameters()).data.fill_(float("nan"))

    with pytest.raises(NotFinite, match="weights are not finite after step 8"):
        run("trainer.max_epochs=3", before=lambda r: r.trainer.callbacks.append(Poison()))
    saved = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["epoch"] == 0
    assert all(torch.isfinite(v).all() for v in saved["state_dict"].values() if v.is_floating_point())


def test_resuming_with_another_rate_is_refused_rather_than_ignored(run, tmp_path):
    run("trainer.max_epochs=1")
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    with pytest.raises(ValueError, match=r"trained with optimizer.lr=0.001.*this run has optimizer.lr=0.5"):
        run("trainer.max_epochs=2", "optimizer.lr=0.5", f"ckpt_path={last}")


def test_too_few_images_to_measure_are_refused_before_training(run):
    with pytest.raises(ValueError, match="test samples: 12 to estimate mutual information on"):
        run("data.sets.test=12", "data.sets.train=400", "trainer.max_epochs=1", evaluate=True)


def test_lars_has_its_momentum_and_spares_norms_and_biases_of_towers_and_objective(run):
    predictor = ["objective=byol", "objective.predictor.hidden=8", "teacher=ema"]
    made = run("optimizer=lars", *predictor, "trainer.max_epochs=1")
    (optimizer,) = made.trainer.optimizers
    spared = {id(p) for g in optimizer.param_groups for p in g["params"] if not g["adapt"] and g["weight_decay"] == 0}
    adapted = {id(p) for g in optimizer.param_groups for p in g["params"] if g["adapt"] and g["weight_decay"] > 0}
    assert {g["momentum"] for g in optimizer.param_groups} == {0.9}
    for part in (made.module.towers, made.module.objective):
        assert {id(p) for p in part.parameters() if p.ndim == 1} <= spared
        assert {id(p) for p in part.parameters() if p.ndim > 1} <= adapted


def test_a_run_says_whether_views_share_a_pass(run, tmp_path):
    assert "see them together" in run("trainer.max_epochs=1").facts()["passes"]
    apart = run("trainer.max_epochs=1", "towers.together=false", f"run_dir={tmp_path / 'b'}")
    assert apart.facts()["passes"] == "one for each view"
