"""Numbers, hyper-parameters and pictures reach every logger, in the way that each takes them."""

import csv
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import standins
import yaml
from omegaconf import OmegaConf
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.loggers.logger import Logger

from ssl_mi.app.continued_logs import build_loggers
from ssl_mi.callbacks.evaluate import Evaluate
from ssl_mi.callbacks.history import History
from ssl_mi.callbacks.loggers import Hyperparameters, as_loggers, log_measurements
from ssl_mi.evaluation.measurement import Measurement
from ssl_mi.evaluation.pictures import Pictures
from ssl_mi.evaluation.probes import KNN

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*"),
]


class Recorder(Logger):
    """A logger that takes numbers and hyper-parameters alone."""

    name, version = "recorder", 0

    def __init__(self):
        super().__init__()
        self.numbers, self.parameters = {}, None

    def log_metrics(self, metrics, step=None):
        self.numbers.update({name: (value, step) for name, value in metrics.items()})

    def log_hyperparams(self, params, *args, **kwargs):
        self.parameters = params


class LikeWandb(Recorder):
    """Takes pictures and tables as Lightning's WandbLogger: log_image(key, images, step)."""

    version = "abc123"

    def __init__(self):
        super().__init__()
        self.pictures, self.tables = {}, {}

    def log_table(self, key, columns=None, data=None, step=None):
        self.tables[key] = (columns, data)

    def log_image(self, key, images, step=None, **kwargs):
        self.pictures.setdefault(key, []).append((images, step))


class LikeTensorBoard(Recorder):
    """Takes pictures as TensorBoard's writer: experiment.add_image(tag, array, step, dataformats)."""

    def __init__(self):
        super().__init__()
        self.pictures, self.texts = {}, {}

    @property
    def experiment(self):
        return self

    def add_text(self, tag, text, step):
        self.texts[tag] = text

    def add_image(self, tag, img_tensor, global_step=None, walltime=None, dataformats="CHW"):
        self.pictures.setdefault(tag, []).append((img_tensor, global_step, dataformats))


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("logged")
    loggers = [CSVLogger(tmp_path, "logs", ""), LikeWandb(), LikeTensorBoard(), Recorder()]
    evaluate = Evaluate({"knn": KNN(), "pictures": Pictures(tmp_path)}, 1, tmp_path)
    callbacks = [Hyperparameters({"optimizer": {"lr": 0.05}}), History(), evaluate]
    standins.fit(standins.joint_embedding(), standins.image_data(train=96, test=30), callbacks, 1, logger=loggers)
    return tmp_path, evaluate, loggers


def test_every_logger_gets_the_measurements_and_the_history(logged):
    folder, evaluate, (_, *others) = logged
    final = next(r for r in evaluate.rows if r.metric == "knn_accuracy" and (r.split, r.encoder) == ("test", "trained"))
    for logger in others:
        assert logger.numbers["test/knn_accuracy"] == (final.value, 3)  # 48 rows in steps of 16
        assert {"val/knn_accuracy", "train/lr", "train/images_per_second", "train/loss_epoch"} <= set(logger.numbers)
        assert {name.partition("/")[0] for name in logger.numbers} <= {"train", "val", "test", "epoch"}
    with (folder / "logs" / "metrics.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [float(x) for line in lines if (x := line["test/knn_accuracy"])] == [final.value]
    assert [x for line in lines if (x := line["train/images_per_second"])]


def test_every_logger_gets_the_hyperparameters(logged):
    folder, _, (_, *others) = logged
    for logger in others:
        assert logger.parameters == {"optimizer": {"lr": 0.05}}
    written = yaml.safe_load((folder / "logs" / "hparams.yaml").read_text())
    assert written["optimizer"] == {"lr": 0.05}


def test_loggers_that_show_pictures_get_them_at_each_evaluation(logged):
    folder, _, (_, wandb, tensorboard, plain) = logged
    assert not hasattr(plain, "pictures")
    for logger in (wandb, tensorboard):
        assert set(logger.pictures) == {"probes", "views", "map"}
        assert [entry[1] for entry in logger.pictures["views"]] == [0, 3, 3]  # epoch 0, epoch 1, the end
        assert [entry[1] for entry in logger.pictures["map"]] == [3]
    assert wandb.pictures["views"][0][0] == [str(folder / "views.png")]
    image, _, form = tensorboard.pictures["views"][0]
    assert (image.dtype, image.ndim, image.shape[-1], form) == (np.uint8, 3, 3, "HWC")


def test_loggers_that_show_tables_get_the_closing_table(logged):
    _, _, (_, wandb, tensorboard, _) = logged
    columns, data = wandb.tables["results"]
    assert columns == ["test split, epoch 1", "trained (95%)", "untrained", "learned (95%)"]
    assert [line[0] for line in data] == ["kNN"]
    assert "| kNN | " in tensorboard.texts["results"]


def test_a_checkpoint_holds_the_identity_of_a_log_that_can_be_gone_on_with():
    callback = Hyperparameters({})
    callback.on_fit_start(SimpleNamespace(loggers=[LikeWandb(), Recorder()]), None)
    assert callback.state_dict() == {"identities": {"id": "abc123"}}
    # Of a log that is gone on with, the hyper-parameters stay: MLflow refuses others.
    resumed, same = Hyperparameters({"lr": 2.0}), LikeWandb()
    resumed.load_state_dict(callback.state_dict())
    resumed.on_fit_start(SimpleNamespace(loggers=[same]), None)
    assert same.parameters is None


def test_a_resumed_run_gives_its_loggers_the_identity_of_the_checkpoint():
    checkpoint = {"state_dict": {}, "callbacks": {"Hyperparameters": {"identities": {"id": "abc123"}}}}
    logger = {"_target_": "test_loggers_target.Takes", "id": None}
    page = OmegaConf.create({"logger": {"one": logger, "two": {**logger, "id": "own"}}})
    sys.modules["test_loggers_target"] = SimpleNamespace(Takes=dict, __name__="test_loggers_target")
    try:
        built = build_loggers(page, checkpoint)
        fresh = build_loggers(page)
    finally:
        del sys.modules["test_loggers_target"]
    assert (built["one"]["id"], built["two"]["id"]) == ("abc123", "own")
    assert fresh["one"]["id"] is None


def test_at_the_end_only_what_was_followed_and_headlines_are_logged():
    rows = [
        Measurement("mi", 3, "test", "trained", metric, metric, 1.0, headline=head)
        for metric, head in (("followed", ""), ("only_at_the_end", ""), ("head", "ksg_nats"))
    ]
    logger = Recorder()
    log_measurements(SimpleNamespace(loggers=[logger], global_step=7), "test", rows, {"followed"})
    assert logger.numbers == {"test/followed": (1.0, 7), "test/head": (1.0, 7)}


def test_without_a_configuration_the_parts_say_what_they_are(tmp_path):
    logger = Recorder()
    standins.fit(
        standins.joint_embedding(), standins.image_data(train=96, test=30), [Hyperparameters()], 1, logger=logger
    )
    told = logger.parameters
    assert (told["module"], told["objective"], told["towers"]) == ("JointEmbedding", "infonce", "Siamese")
    assert (told["batch_size"], told["seed"], told["max_epochs"]) == (16, 3, 1)
    assert (told["optimizer"], told["lr"]) == ("SGD", 0.05)
    assert "noise: 48 train" in told["data"]
    assert told["parameters"] > 0


def test_a_run_may_have_none_one_or_several_loggers():
    one, other = Recorder(), Recorder()
    assert as_loggers(None) is False
    assert as_loggers(one) == [one]
    assert as_loggers({"a": one, "b": None, "c": other}) == [one, other]
    assert as_loggers({"a": None}) is False


def test_a_run_gives_its_configuration_to_its_logger(run):
    made = run("trainer.max_epochs=1")
    written = yaml.safe_load((made.folder / "logs" / "hparams.yaml").read_text())
    assert written["data"]["batch_size"] == 32
    assert written["optimizer"]["lr"] == made.cfg.optimizer.lr
