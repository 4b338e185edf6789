"""What a training step does, and what a stopped run keeps."""

import math
import warnings
from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from ssl_mi.app.startup import build
from ssl_mi.data.batch import Batch
from ssl_mi.finite import NotFinite
from ssl_mi.information.variational.bounds import InfoNCE
from ssl_mi.information.variational.critics import Cosine
from ssl_mi.joint_embedding import JointEmbedding
from ssl_mi.networks.encoders import ConvNet
from ssl_mi.networks.heads import MLP
from ssl_mi.networks.teacher import EMA
from ssl_mi.networks.towers import Siamese
from ssl_mi.objectives.distillation import BYOL
from ssl_mi.objectives.infomax import Infomax
from ssl_mi.objectives.negatives import OtherSamplesAndViews
from ssl_mi.objectives.objective import Objective
from ssl_mi.objectives.predictor import Predictor


def weights(run) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in run.module.state_dict().items()}


@pytest.mark.parametrize(
    "overrides",
    [
        ["objective=simclr"],
        ["objective=mine", "objective_optimizer={_target_: torch.optim.Adam, _partial_: true, lr: 0.01}"],
        # A queue of 100 rows wraps within an epoch of 256 keys.
        ["objective=moco", "objective.queue=100", "teacher=ema", "encoder.widths=[8]"],
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


def test_a_matrix_that_cannot_be_factored_is_a_loss_that_is_not_finite(run):
    class Poison(pl.Callback):
        def on_train_epoch_start(self, trainer, module):
            next(module.towers.parameters()).data.fill_(float("nan"))

    with pytest.raises(NotFinite, match=r"cannot be computed at step 0 \(epoch 0\): .*linalg"):
        run("objective=mmcr", "trainer.max_epochs=1", before=lambda r: r.trainer.callbacks.append(Poison()))


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
    with pytest.raises(ValueError, match="'supcon' needs labels and the training images have no labels"):
        run("objective=supcon", "data.labels=false", "trainer.max_epochs=1", f"run_dir={tmp_path / 'b'}")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("objective.images=100", "128 training images and a bank of 100: set objective.images=128"),
        ("objective.prototypes=129", "128 training images cannot be put in 129 clusters"),
    ],
)
def test_a_bank_that_does_not_fit_the_images_is_refused_before_training(run, setting, message):
    with pytest.raises(ValueError, match=message):
        run("objective=deepcluster", "objective.prototypes=8", setting)


def test_an_objective_of_maps_and_towers_that_hand_them_out_need_each_other(run):
    made = run("objective=amdim", "towers=siamese_local", "trainer.max_epochs=1")
    assert made.history.epochs[0]["train/local_nats"] < math.log(32)
    with pytest.raises(Exception, match="'amdim' needs feature maps: set towers=siamese_local"):
        run("objective=amdim", "overwrite=true")
    with pytest.raises(Exception, match="'nt_xent' uses no feature maps: set towers=siamese"):
        run("towers=siamese_local", "overwrite=true")


def test_an_objective_of_places_is_told_where_views_were_cut_or_says_that_nobody_knows(run, monkeypatch):
    few = ["objective=vicregl", "objective.parts.local.matches=2", "trainer.max_epochs=1", "overwrite=true"]
    made = run(*few, "towers=siamese_expanders")
    assert math.isfinite(made.history.epochs[0]["train/local_invariance"])
    with pytest.raises(Exception, match="needs feature maps: set towers=siamese_expanders"):
        run(*few)
    with pytest.raises(Exception, match=r"Rotation moves pixels, .* choose an augmentation of crops, flips"):
        run(*few, "towers=siamese_expanders", "augmentation.views.0.ops=[{_target_: ssl_mi.data.Rotation}]")
    monkeypatch.setattr("ssl_mi.data.Augmentation.boxes", lambda self, source, seed: None)
    with pytest.raises(Exception, match="needs boxes and the training images have no boxes: views are to be cut from"):
        run(*few, "towers=siamese_expanders")


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
    with pytest.raises(ValueError, match=r"optimizer.lr: 0.001 there, 0.5 here"):
        run(
            "trainer.max_epochs=2",
            "optimizer.lr=0.5",
            f"ckpt_path={last}",
            "resume_changes=[trainer.max_epochs]",
            f"run_dir={tmp_path / 'resumed'}",
        )


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
    assert "see them together" in run("trainer.max_epochs=1").facts()["forward passes"]
    apart = run("trainer.max_epochs=1", "towers.joint_forward=false", f"run_dir={tmp_path / 'b'}")
    assert apart.facts()["forward passes"] == "one for each view"


# --- parts that do not go together ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["objective=byol"], "'byol' learns from a teacher and there is none: set teacher=ema"),
        (["objective=dino", "towers=prototypes"], "'dino' learns from a teacher"),
        (["objective=ressl"], "'ressl' learns from a teacher"),
        (["objective=moco"], "'moco' learns from a teacher"),
        (["objective=moco_v3"], "'moco_v3' learns from a teacher"),
        (["objective=supcon", "teacher=ema"], "'supcon' has no use for a teacher: set teacher=none"),
        (["objective=swav", "teacher=ema"], "'swav' has no use for a teacher"),
        (
            ["objective=mae"],
            "'mae' learns from masked patches and JointEmbedding gives .*set module=masked_autoencoder",
        ),
        (["module=masked_autoencoder", "encoder=vit_tiny"], "learns from embeddings .*set module=joint_embedding"),
    ],
)
def test_parts_that_do_not_go_together_are_refused_when_the_module_is_built(configure, overrides, message):
    with pytest.raises(Exception, match=message):
        build(configure(*overrides), "module")


def test_an_objective_of_ones_own_kind_names_the_module_that_it_needs():
    class Sorting(Objective):
        name, learns_from = "sorting", "orders"

    with pytest.raises(ValueError, match=r"'sorting' learns from orders .* a module whose gives = 'orders'"):
        JointEmbedding(small_towers(), lambda dim: Sorting(), torch.optim.SGD)


class NeverReached(pl.Callback):
    """Evaluations and training begin here."""

    def on_train_start(self, trainer, module):
        pytest.fail("the run began")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["augmentation.views.0.count=1"], "'nt_xent' compares 2 views or more and the data give 1"),
        (["towers=independent", "augmentation.views.0.count=3"], "Independent has 2 towers.*got 3 views"),
        (["encoder=vit_tiny", "encoder.patch_size=8", "augmentation=multicrop"], "14 x 14 do not divide into patches"),
        (["objective=supcon", "data.labels=false"], "needs labels"),
    ],
)
def test_data_that_the_parts_cannot_train_on_are_refused_before_the_first_evaluation(run, overrides, message):
    with pytest.raises(ValueError, match=message):
        run(*overrides, before=lambda made: made.trainer.callbacks.insert(0, NeverReached()))


def test_the_check_of_the_data_moves_no_statistics_and_no_random_state(configure):
    module = build(configure(), "module")
    before, state = {k: v.clone() for k, v in module.state_dict().items()}, torch.get_rng_state()
    module.towers.tower.encoder.eval()
    module.check_views([torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) for _ in range(2)])
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert module.towers.training
    assert not module.towers.tower.encoder.training  # as it was


# --- a Trainer of Lightning's own -------------------------------------------------------------------------


def small_towers():
    torch.manual_seed(0)
    return Siamese(ConvNet([4]), partial(MLP, dims=[8]))


def nt_xent(dim):
    return Infomax(dim, Cosine(0.5), InfoNCE(), OtherSamplesAndViews(), name="nt_xent")


class Pairs(torch.utils.data.Dataset):
    """Sixteen random images, shown twice with noise."""

    def __init__(self):
        self.images = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(1))

    def __len__(self):
        return 16

    def __getitem__(self, i):
        noise = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(i))
        return Batch([self.images[i] + 0.1 * noise[0], self.images[i] + 0.1 * noise[1]], i, 0)


def fit(module, folder, loader=None, **settings):
    trainer = pl.Trainer(
        **{"max_epochs": 2, "logger": False, **settings},
        accelerator="cpu",
        devices=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    with warnings.catch_warnings():
        for message in (".*does not have many workers.*", ".*logging interval.*", ".*LeafSpec.*"):
            warnings.filterwarnings("ignore", message=message)
        trainer.fit(module, DataLoader(Pairs(), batch_size=8) if loader is None else loader)
    return trainer


@pytest.mark.parametrize(
    ("optimizer", "described"),
    [
        (partial(torch.optim.SGD, lr=0.25), "SGD, learning rate 0.25"),
        (torch.optim.AdamW, "AdamW, learning rate 0.001"),
        (lambda groups: torch.optim.Adam(groups, lr=0.002), "Adam, learning rate 0.002"),
    ],
    ids=["partial", "class", "function"],
)
def test_parts_train_under_a_plain_trainer_whatever_makes_the_optimizer(tmp_path, optimizer, described):
    module = JointEmbedding(towers=small_towers(), objective=nt_xent, optimizer=optimizer)
    assert module.describe_optimizer() == described
    before = [p.detach().clone() for p in module.towers.parameters()]
    trainer = fit(module, tmp_path)
    assert trainer.global_step == 4
    assert not any(torch.equal(a, b) for a, b in zip(before, module.towers.parameters(), strict=True))


def test_an_objective_may_be_given_whole_and_its_width_is_checked(tmp_path):
    objective = BYOL(8, lambda dim: Predictor(dim, 4))
    module = JointEmbedding(small_towers(), objective, torch.optim.SGD, teacher=EMA())
    assert module.objective is objective
    fit(module, tmp_path)
    objective.dim = 5
    with pytest.raises(ValueError, match="BYOL\\(dim=5\\) got embeddings of width 8"):
        JointEmbedding(small_towers(), objective, torch.optim.SGD, teacher=EMA())


def test_a_batch_without_views_is_refused_by_name(tmp_path):
    module = JointEmbedding(small_towers(), nt_xent, torch.optim.SGD)
    with pytest.raises(TypeError, match=r"a training batch is a `Batch\(views, index, labels\)`, but .* gave a list"):
        fit(module, tmp_path, DataLoader(torch.utils.data.TensorDataset(torch.zeros(4, 3, 8, 8)), batch_size=2))


def test_a_teacher_that_moves_over_the_run_needs_a_run_that_ends(tmp_path):
    def moving(**settings):
        return JointEmbedding(
            small_towers(),
            partial(BYOL, predictor=lambda dim: Predictor(dim, 4)),
            torch.optim.SGD,
            teacher=EMA(**settings),
        )

    with pytest.raises(ValueError, match=r"has no end: set trainer\.max_epochs"):
        fit(moving(), tmp_path, max_epochs=-1)
    still = moving(momentum=0.9, final_momentum=None)
    assert fit(still, tmp_path, max_epochs=-1, max_steps=3).global_step == 3
    assert still.teacher.momentum_at(0.7) == 0.9
