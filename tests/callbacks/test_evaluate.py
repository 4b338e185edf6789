"""When evaluations run, what they may read, and what survives a stop."""

import csv
import re
from collections import Counter
from dataclasses import dataclass, field

import pytest
import pytorch_lightning as pl
import standins
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from ssl_mi.callbacks.evaluate import Evaluate
from ssl_mi.callbacks.history import History
from ssl_mi.evaluation.context import Evaluation, Plot
from ssl_mi.evaluation.geometry import Geometry
from ssl_mi.evaluation.mutual_information import MutualInformation
from ssl_mi.evaluation.probe_protocols import KNNSweep
from ssl_mi.evaluation.probes import KNN, LinearProbe
from ssl_mi.information.projections import PCA

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*"),
    pytest.mark.filterwarnings("ignore:.*Checkpoint directory.*exists and is not empty.*"),
    pytest.mark.filterwarnings("ignore:.*callbacks used to create the checkpoint.*"),
]


@dataclass
class Look(Evaluation):
    """An evaluation that notes when it ran, on what, and reads one number of h."""

    seen: list = field(default_factory=list)
    name: str = "look"

    def embed(self, context):
        context.features(context.split)

    def compute(self, context):
        h = context.features(context.split).h
        self.seen.append((context.epoch, context.split, context.encoder, tuple(h.shape)))
        return [context.measurement(self.name, "sum", "sum of h", h.double().sum())]


def counted(data):
    """The data with every read of a split noted in `data.reads`: (epoch in training, split)."""
    data.reads, batches = [], data.batches

    def noted(split, *args, **kwargs):
        epoch = data.trainer.current_epoch if data.trainer else None
        data.reads.append((epoch, split))
        return batches(split, *args, **kwargs)

    data.batches = noted
    return data


def run(tmp_path, evaluations, epochs=3, every=1, module=None, data=None, callbacks=(), **options):
    evaluate = Evaluate(evaluations, every, tmp_path)
    module, data = module or standins.joint_embedding(), data or standins.image_data(train=96, test=30)
    trainer = standins.fit(module, data, [evaluate, *callbacks], epochs, **options)
    return evaluate, module, data, trainer


@pytest.mark.parametrize(
    ("every", "epochs", "expected"), [(1, 3, [0, 1, 2, 3]), (2, 5, [0, 2, 4]), (5, 3, [0]), (0, 2, [])]
)
def test_validation_is_read_before_training_and_every_n_epochs(tmp_path, every, epochs, expected):
    look = Look()
    run(tmp_path, {"look": look}, epochs, every)
    assert [epoch for epoch, split, _, _ in look.seen if split == "val"] == expected
    assert {encoder for _, split, encoder, _ in look.seen if split == "val"} <= {"trained"}


def test_the_test_split_is_read_at_the_end_alone_by_each_encoder_once(tmp_path):
    look, data = Look(), counted(standins.image_data(train=96, test=30))
    run(tmp_path, {"look": look, "knn": KNN()}, 3, data=data)
    read = [(epoch, encoder) for epoch, split, encoder, _ in look.seen if split == "test"]
    assert read == [(3, "random"), (3, "trained")]
    epochs = Counter(epoch for epoch, split in data.reads if split == "test")
    assert epochs == {3: 3}  # one pass for the trained encoder, the random one and the pixels (kNN's) each
    first = [split for _, split in data.reads].index("test")
    assert "train" not in [split for _, split in data.reads[first:]]


def test_the_random_encoder_is_the_one_that_training_began_with(tmp_path):
    look = Look()
    evaluate, module, data, _ = run(tmp_path, {"look": look}, 2)
    values = {(row.epoch, row.split, row.encoder): row.value for row in evaluate.rows}
    assert values[2, "test", "trained"] != values[2, "test", "random"]
    fresh = standins.joint_embedding().eval()
    with torch.no_grad():
        h = fresh.towers.tower.encoder(data.augmentation.clean(data.test.images.pixels))
    assert values[2, "test", "random"] == pytest.approx(h.double().sum().item(), rel=1e-5)
    # and the trained one is back in its place
    with torch.no_grad():
        h = module.eval().towers.tower.encoder(data.augmentation.clean(data.test.images.pixels))
    assert values[2, "test", "trained"] == pytest.approx(h.double().sum().item(), rel=1e-5)


def test_raw_pixels_are_probed_beside_the_encoders(tmp_path):
    evaluate, *_ = run(tmp_path, {"linear": LinearProbe(), "look": Look()}, 1)
    assert {row.encoder for row in evaluate.rows if row.metric == "linear_probe_accuracy"} == {
        "trained",
        "random",
        "pixels",
    }
    assert {row.encoder for row in evaluate.rows if row.metric == "sum"} == {"trained", "random"}


def test_an_evaluation_of_ones_own_gets_pixels_by_declaring_it(tmp_path):
    @dataclass
    class LookAtPixels(Look):
        wants_pixels = True

    evaluate, *_ = run(tmp_path, {"look": LookAtPixels()}, 1)
    values = {row.encoder: row for row in evaluate.rows if row.split == "test"}
    assert set(values) == {"trained", "random", "pixels"}


def test_what_is_no_evaluation_is_refused_by_name():
    with pytest.raises(TypeError, match=r"evaluation\.evaluations\.mine is a dict: make it a subclass of"):
        Evaluate({"mine": {}})


def test_an_evaluation_hands_out_plots_of_all_measurements_and_one_that_fails_is_named(tmp_path, caplog):
    @dataclass
    class Draws(Look):
        def plots(self, rows, folder):
            (folder / "drawn.txt").write_text(str(len(rows)))
            return [Plot("Drawn by hand", folder / "drawn.txt")]

    @dataclass
    class Fails(Look):
        def plots(self, rows, folder):
            raise KeyError("colour")

    evaluate, *_ = run(tmp_path, {"fails": Fails(), "draws": Draws()}, 1)
    assert evaluate.plots() == [Plot("Drawn by hand", tmp_path / "drawn.txt")]
    assert (tmp_path / "drawn.txt").read_text() == str(len(evaluate.rows))
    assert "evaluation 'look' could not draw: KeyError: 'colour'" in caplog.text


def test_pixels_of_two_kinds_of_view_are_both_shown_and_of_one_kind_once():
    from ssl_mi.callbacks.evaluate import _Pixels

    x, y = torch.rand(5, 3, 4, 4), torch.rand(5, 3, 4, 4)
    pixels = _Pixels(torch.device("cpu"))
    assert torch.equal(pixels.towers.encode([x, x.clone()]), x.flatten(1))
    assert torch.equal(pixels.towers.encode([x, y]), torch.cat([x.flatten(1), y.flatten(1)], 1))


def test_without_a_test_split_the_end_is_read_on_validation_images_once(tmp_path):
    look = Look()
    evaluate, *_ = run(tmp_path, {"look": look}, 2, data=standins.image_data(train=96, test=0))
    assert {split for _, split, _, _ in look.seen} == {"val"}
    moments = Counter((row.epoch, row.split, row.encoder, row.metric) for row in evaluate.rows)
    assert set(moments.values()) == {1}
    assert (2, "val", "random", "sum") in moments


def test_with_no_image_held_out_training_images_are_measured_and_named(tmp_path):
    probe, sweep = LinearProbe(limit=None), KNNSweep()
    mi = MutualInformation({"pca": PCA(1)}, permutations=0)
    data = standins.image_data(train=200, test=60, val_fraction=0)
    evaluate, *_ = run(tmp_path, {"probe": probe, "sweep": sweep, "mi": mi}, 1, data=data)
    assert (len(data.train), len(data.val), len(data.test)) == (200, 40, 60)
    assert "200 train, 40 of them val, 60 test" in data.describe()
    assert torch.equal(data.val.images.read(torch.arange(40), 8), data.labelled.images.read(torch.arange(160, 200), 8))
    fitted = {row.split: re.search(r"fitted on (\d+)", row.note)[1] for row in evaluate.rows if "linear" in row.metric}
    assert fitted == {"val": "160", "test": "200"}  # never on what it is judged on
    chosen = {re.search(r"fitted on (\d+)", row.note)[1] for row in evaluate.rows if "sweep" in row.metric}
    assert chosen == {"160"}  # nor on what it chooses by
    assert all(("of training images" in row.note) == (row.split == "val") for row in evaluate.rows)
    assert all("cross-fitted" in row.note for row in evaluate.rows if "mi_ksg" in row.metric)


def test_without_validation_images_the_run_says_what_to_set(tmp_path):
    data = standins.image_data(val_fraction=0)
    data.setup()
    data.val = None
    with pytest.raises(ValueError, match="val_fraction"):
        run(tmp_path, {"look": Look()}, 1, data=data)


def test_without_labels_probes_are_left_out_and_the_rest_is_measured(tmp_path):
    evaluate, *_ = run(
        tmp_path,
        {"linear": LinearProbe(), "knn": KNN(), "look": Look()},
        1,
        data=standins.image_data(train=96, test=30, labels=False),
    )
    assert {row.metric for row in evaluate.rows} == {"sum"}


def test_an_evaluation_set_to_null_is_left_out(tmp_path):
    evaluate, *_ = run(tmp_path, {"look": None, "knn": KNN()}, 1)
    assert {row.metric for row in evaluate.rows} == {"knn_accuracy"}


def test_a_negative_cadence_is_refused():
    with pytest.raises(ValueError, match="every_n_epochs must not be negative, got -1"):
        Evaluate({}, every_n_epochs=-1)


def test_rows_are_written_as_csv_a_file_per_evaluation(tmp_path):
    evaluate, *_ = run(tmp_path, {"look": Look(), "knn": KNN()}, 1)
    with (tmp_path / "look.csv").open() as file:
        written = list(csv.DictReader(file))
    rows = [row for row in evaluate.rows if row.evaluation == "look"]
    assert [float(row["value"]) for row in written] == [row.value for row in rows]
    assert [row["split"] for row in written] == [row.split for row in rows]
    assert {path.name for path in tmp_path.glob("*")} == {"look.csv", "probes.csv"}


def test_logged_metrics_name_the_split_and_only_the_trained_encoder(tmp_path):
    logged = []

    class Log(pl.loggers.logger.DummyLogger):
        def log_metrics(self, metrics, step=None):
            logged.append(metrics)

    evaluate, *_ = run(tmp_path, {"look": Look()}, 1, logger=Log())
    ours = [m for metrics in logged for m in metrics.items() if "sum" in m[0]]
    values = {(row.epoch, row.split, row.encoder): row.value for row in evaluate.rows}
    assert ours == [
        ("val/sum", values[0, "val", "trained"]),
        ("val/sum", values[1, "val", "trained"]),
        ("test/sum", values[1, "test", "trained"]),
    ]


# What survives a stop


def same(one, other):
    """Equal rows, where NaN is NaN."""
    return repr(one) == repr(other)


def test_rows_and_history_survive_a_checkpoint_that_is_read_without_running_code(tmp_path):
    history, saver = History(), ModelCheckpoint(tmp_path, "last", enable_version_counter=False)
    evaluate, *_ = run(
        tmp_path, {"look": Look(), "knn": KNN()}, 2, callbacks=[history, saver], enable_checkpointing=True
    )
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)["callbacks"]
    restored, history_restored = Evaluate({}, 1, tmp_path), History()
    restored.load_state_dict(next(s for name, s in state.items() if "Evaluate" in name))
    history_restored.load_state_dict(next(s for name, s in state.items() if "History" in name))
    kept = [row for row in evaluate.rows if row.split == "val"]
    assert len(kept) == 6
    assert same(restored.rows, kept)
    assert "test" not in {row.split for row in restored.rows}
    assert history_restored.epochs == history.epochs
    assert [entry["epoch"] for entry in history.epochs] == [1, 2]


def test_a_resumed_run_goes_on_with_its_rows_and_ends_with_those_of_an_unbroken_one(tmp_path):
    whole, *_ = run(tmp_path / "whole", {"look": Look()}, 4, every=2)
    saver = ModelCheckpoint(tmp_path, "last", enable_version_counter=False)
    run(tmp_path, {"look": Look()}, 2, every=2, callbacks=[saver], enable_checkpointing=True)

    look = Look()
    resumed = Evaluate({"look": look}, 2, tmp_path)
    trainer = pl.Trainer(
        max_epochs=4,
        accelerator="cpu",
        callbacks=[resumed],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    data = standins.image_data(train=96, test=30)
    trainer.fit(standins.joint_embedding(), data, ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    assert [(epoch, split) for epoch, split, _, _ in look.seen] == [(4, "val"), (4, "test"), (4, "test")]
    assert same(resumed.rows, whole.rows)


def test_what_was_learned_before_a_stop_is_never_read_as_epoch_0(tmp_path):
    saver = ModelCheckpoint(tmp_path, "last", enable_version_counter=False)
    run(tmp_path, {"look": Look()}, 1, every=0, callbacks=[saver], enable_checkpointing=True)
    evaluate = Evaluate({"look": Look()}, 1, tmp_path)
    trainer = pl.Trainer(
        max_epochs=2,
        accelerator="cpu",
        callbacks=[evaluate],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    data = standins.image_data(train=96, test=30)
    trainer.fit(standins.joint_embedding(), data, ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    assert 0 not in {row.epoch for row in evaluate.rows}


def test_an_evaluation_leaves_the_next_step_as_it_would_have_been(tmp_path):
    """Modes, statistics and random states, over a whole evaluation and not its embeddings alone."""
    import random

    import numpy as np

    class Witness(pl.Callback):
        def states(self, module):
            return (
                torch.get_rng_state().tolist(),
                np.random.get_state()[1].tolist(),  # noqa: NPY002
                random.getstate(),
                [part.training for part in module.modules()],
                {key: value.clone() for key, value in module.state_dict().items()},
            )

    class Before(Witness):
        def on_train_epoch_end(self, trainer, pl_module):
            self.seen = self.states(pl_module)

    class After(Witness):
        def on_train_epoch_end(self, trainer, pl_module):
            self.seen = self.states(pl_module)

    before, after = Before(), After()
    evaluate = Evaluate({"linear": LinearProbe(), "knn": KNN()}, 1, tmp_path)
    data = standins.image_data(train=96, test=30)
    standins.fit(standins.joint_embedding(), data, [before, evaluate, after], 1)
    assert len(evaluate.rows) > 2
    assert before.seen[:4] == after.seen[:4]
    assert all(torch.equal(before.seen[4][key], after.seen[4][key]) for key in before.seen[4])


@pytest.mark.parametrize("part", [KNN(limit=-1), KNN(k=0), Geometry(limit=0)])
def test_a_number_of_samples_below_one_is_named_before_the_run(part, tmp_path):
    with pytest.raises(ValueError, match=r"evaluation\.evaluations\.mine\.(limit|k)=(-1|0): use 1 or more"):
        Evaluate({"mine": part}, 1, tmp_path)
