"""From the command line to a report: what is misspelt is named, what can not work ends with one clear line."""

import json
import math
import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from torch import nn

from ssl_mi.app import startup as cli
from ssl_mi.app.config_checks import UnknownOverride, find_unknown
from ssl_mi.information.variational.bounds import InfoNCE
from ssl_mi.module import JointEmbedding

ROOT = Path(__file__).parents[2]
CONF = ROOT / "conf"


# Overrides


@pytest.mark.parametrize(
    ("override", "nearest"),
    [
        ("trainer.max_epoch=3", "did you mean 'trainer.max_epochs'"),
        ("optimizer.learning_rate=1", "there is no key 'optimizer.learning_rate'"),
        ("optimiser=sgd", "did you mean 'optimizer'"),
        ("max_epochs=3", "did you mean 'trainer.max_epochs'"),  # the right word in the wrong place
        ("encoder=resnet81", "did you mean 'resnet18'"),
        ("objective=simclr,mnie", "did you mean 'mine'"),  # the second of a sweep
        ("~objektive", "did you mean 'objective'"),
        ("augmentation.views.0.ops.99.strength=1", "there is no key 'augmentation.views.0.ops.99.strength'"),
        ("augmentation.views.0.ops.2.strenght=1", "did you mean 'augmentation.views.0.ops.2.strength'"),
        ("just a word", "write key=value"),
        ("teacher=null", "there are: ema, none; ~teacher leaves it out"),
    ],
)
def test_what_does_not_exist_is_named_with_the_nearest_that_does(override, nearest):
    with pytest.raises(UnknownOverride) as error:
        find_unknown(CONF, [override])
    assert nearest in str(error.value)


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF / "augmentation").glob("*.yaml")))
def test_every_augmentation_can_be_chosen_on_the_command_line(name):
    find_unknown(CONF, [f"augmentation={name}", "augmentation.views.0.count=2"])


def test_a_misspelt_option_lists_all_there_are():
    with pytest.raises(UnknownOverride, match=r"there are: .*mine.*simclr"):
        find_unknown(CONF, ["objective=nothing_like_it"])


@pytest.mark.parametrize(
    "overrides",
    [
        ["augmentation.views.0.ops.2.strength=0.5"],
        ["objective=simclr,mine", "seed=1,2,3"],
        ["objective=glob(*)", "optimizer.lr=1e-3,1e-4"],
        ["teacher=none,ema", "experiment=infonce_cifar,simclr_cifar"],
        ["+new=1", "++trainer.new=2", "~evaluation.evaluations.knn", "~logger"],
        ["experiment=mine_cifar", "data=image_folder", "data.root=somewhere"],
        ["hydra.run.dir=elsewhere", "towers=independent", "towers.towers.0.projector.dims=[8,4]"],
    ],
    ids=" ".join,
)
def test_what_exists_is_accepted(overrides):
    find_unknown(CONF, overrides)


def test_a_number_inside_a_list_arrives():
    GlobalHydra.instance().clear()
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        cfg = compose("train", overrides=["augmentation.views.0.ops.2.strength=0.125"])
    assert cfg.augmentation.views[0].ops[2].strength == 0.125


def test_a_key_of_the_chosen_option_exists_and_of_another_does_not():
    find_unknown(CONF, ["objective=mine", "objective.critic.hidden=[8]"])
    with pytest.raises(UnknownOverride, match=r"objective\.critic\.hidden"):
        find_unknown(CONF, ["objective=simclr", "objective.critic.hidden=[8]"])


# Checkpoints


def saved(path, **changes):
    torch.save({"state_dict": nn.Linear(3, 2).state_dict(), "epoch": 4, **changes}, path)
    return path


def test_a_checkpoint_of_just_this_module_is_accepted(tmp_path):
    cli.check_checkpoint(saved(tmp_path / "a.ckpt"), nn.Linear(3, 2), max_epochs=6)
    cli.check_checkpoint(saved(tmp_path / "a.ckpt"), nn.Linear(3, 2), max_epochs=-1)


def test_a_checkpoint_of_another_architecture_lists_its_keys(tmp_path):
    module = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    state = {"0.weight": torch.zeros(5, 3), "0.bias": torch.zeros(2), "old.weight": torch.zeros(1)}
    with pytest.raises(ValueError, match="does not fit this run") as error:
        cli.check_checkpoint(saved(tmp_path / "a.ckpt", state_dict=state), module, 6)
    text = str(error.value)
    assert "missing in the file: 1.weight, 1.bias" in text
    assert "unknown to this run: old.weight" in text
    assert "of another shape: 0.weight [5, 3] for [2, 3]" in text


def test_many_keys_are_counted_and_not_all_printed(tmp_path):
    module = nn.Sequential(*(nn.Linear(1, 1) for _ in range(20)))
    with pytest.raises(ValueError, match="and 32 more"):
        cli.check_checkpoint(saved(tmp_path / "a.ckpt", state_dict={}), module, 6)


def test_a_finished_run_has_nothing_left_to_train(tmp_path):
    with pytest.raises(ValueError, match=r"is at epoch 5 and trainer.max_epochs=5: nothing is left.*raise"):
        cli.check_checkpoint(saved(tmp_path / "a.ckpt"), nn.Linear(3, 2), max_epochs=5)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("content", [b"hello world\n", b"", b"PK\x03\x04 half of a file", b"\x80\x04N."])
def test_what_is_no_checkpoint_is_named(tmp_path, content):
    path = tmp_path / "a.ckpt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.ckpt (can not be read as a|is no) checkpoint"):
        cli.check_checkpoint(path, nn.Linear(3, 2), 6)


@pytest.mark.parametrize("content", [torch.zeros(3), [1, 2], {"weights": torch.zeros(3)}])
def test_a_file_of_something_else_is_no_checkpoint_of_a_run(tmp_path, content):
    torch.save(content, tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match="no checkpoint of a run: it has no 'state_dict'"):
        cli.check_checkpoint(tmp_path / "a.ckpt", nn.Linear(3, 2), 6)


class Code:
    """Whoever unpickles this runs it."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path):
    mark = tmp_path / "ran"
    saved(tmp_path / "a.ckpt", hyper=Code(mark))
    with pytest.raises(ValueError, match=r"code in files is never run: .*(?i:unsupported)") as error:
        cli.check_checkpoint(tmp_path / "a.ckpt", nn.Linear(3, 2), 6)
    assert not mark.exists()
    assert "weights_only" not in str(error.value)  # torch advises to turn the protection off; we do not
    torch.load(tmp_path / "a.ckpt", weights_only=False)
    assert mark.exists()  # so it would have run


# Whole runs, in this process: a subprocess a case would cost seconds of imports


TINY = [
    "data.size=16",
    "data.batch_size=16",
    "encoder=mlp",
    "encoder.widths=[8,4]",
    "towers.projector.dims=[8,4]",
    "trainer.max_epochs=1",
    "trainer.accelerator=cpu",
    "progress=none",
    "evaluation.every_n_epochs=0",
    "evaluation.evaluations.mi=null",
    "evaluation.evaluations.pictures=null",
    "hydra/job_logging=none",
    "hydra/hydra_logging=none",
]
SHAPES = ["data.sets.train=60", "data.sets.test=30"]


@pytest.fixture
def main(monkeypatch):
    """train.py with these arguments -> its exit status."""
    interrupt = signal.getsignal(signal.SIGINT)
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):  # Lightning leaves the seed in the environment
        monkeypatch.setenv(name, os.environ.get(name, "0"))

    def run(folder, *overrides):
        where = [f"run_dir={folder}", f"hydra.run.dir={folder}"]
        shapes = [] if any(o.startswith("data=") for o in overrides) else SHAPES
        monkeypatch.setattr(sys, "argv", ["train.py", *TINY, *shapes, *where, *overrides])
        GlobalHydra.instance().clear()
        try:
            runpy.run_path(str(ROOT / "train.py"), run_name="__main__")
        except SystemExit as error:
            return error.code
        return 0

    yield run
    signal.signal(signal.SIGINT, interrupt)  # after one interrupt Lightning ignores all others
    GlobalHydra.instance().clear()


@pytest.fixture(autouse=True)
def random_states():
    """A run seeds everything; other tests are not to notice."""
    with torch.random.fork_rng():
        yield


def report_of(folder):
    return json.loads((folder / "report.json").read_text())


def test_a_run_leaves_its_report_and_can_be_gone_on_with(main, tmp_path, capsys):
    assert main(tmp_path / "a") == 0
    report = report_of(tmp_path / "a")
    assert report["ended"] == "complete"
    assert report["seed"] == 0
    assert {row["split"] for row in report["rows"]} == {"test"}
    assert {row["encoder"] for row in report["rows"] if row["evaluation"] == "probes"} == {
        "trained",
        "random",
        "pixels",
    }
    assert "linear-probe" in capsys.readouterr().out
    last = tmp_path / "a" / "checkpoints" / "last.ckpt"

    assert main(tmp_path / "b", f"ckpt_path={last}") == 1  # it is finished
    assert "nothing is left to train" in capsys.readouterr().err
    assert main(tmp_path / "b", f"ckpt_path={last}", "encoder.widths=[8,6]", "trainer.max_epochs=2") == 1
    err = capsys.readouterr().err
    assert "does not fit this run" in err
    assert "of another shape: towers.tower.encoder" in err
    assert "Traceback" not in err
    assert main(tmp_path / "c", f"ckpt_path={last}", "trainer.max_epochs=2") == 0
    assert [entry["epoch"] for entry in report_of(tmp_path / "c")["history"]] == [1, 2]


def test_a_run_without_labels_says_that_probes_are_left_out(main, tmp_path, capsys):
    assert main(tmp_path, "data.labels=false") == 0
    assert "left out: the images have no labels" in capsys.readouterr().out
    report = report_of(tmp_path)
    assert {row["evaluation"] for row in report["rows"]} == {"geometry"}
    assert "no labels" in report["probes"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["ckpt_path=nowhere/last.ckpt"], "ckpt_path=nowhere/last.ckpt is not a file"),
        (["trainer.max_epoch=3"], "did you mean 'trainer.max_epochs'"),
        (["progress=loud"], "progress=loud: choose auto, bar, lines or none"),
        (["data.val_fraction=0"], "set data.val_fraction above 0"),
        (["data.batch_size=1000"], "1000"),
        (["data=image_folder"], "data.root"),
        (["data=image_folder", "data.root=nowhere"], "nowhere"),
        (["encoder.widths=[]"], "encoder"),
        (["seed=null"], "seed=None: a whole number"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_ends_with_one_clear_message_and_status_1(main, tmp_path, capsys, overrides, message):
    assert main(tmp_path, *overrides) == 1
    err = capsys.readouterr().err
    assert "\nerror: " in err
    assert message in err
    assert "Traceback" not in err


def test_a_loss_that_is_not_finite_stops_with_step_and_term_and_keeps_the_last_good_checkpoint(
    main, tmp_path, capsys, monkeypatch
):
    bound, calls = InfoNCE.from_logits, []

    def broken(self, scores, partner, k):
        calls.append(1)
        return bound(self, scores, partner, k) * (math.nan if len(calls) == 5 else 1)  # the second step of epoch 1

    monkeypatch.setattr(InfoNCE, "from_logits", broken)
    assert main(tmp_path, "trainer.max_epochs=3") == 1
    err = capsys.readouterr().err
    assert "the loss is not finite at step 4 (epoch 1): nt_xent = nan" in err
    assert "Traceback" not in err
    assert report_of(tmp_path)["ended"].startswith("stopped: NotFinite: the loss is not finite at step 4")
    kept = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert kept["epoch"] == 0
    assert all(value.isfinite().all() for value in kept["state_dict"].values())


def test_an_interrupted_run_keeps_what_it_has_and_says_how_to_go_on(main, tmp_path, capsys, monkeypatch):
    step = JointEmbedding.training_step

    def interrupted(self, batch, batch_idx):
        if self.trainer.current_epoch == 1:
            raise KeyboardInterrupt
        return step(self, batch, batch_idx)

    monkeypatch.setattr(JointEmbedding, "training_step", interrupted)
    assert main(tmp_path, "trainer.max_epochs=3", "evaluation.every_n_epochs=1") == 1
    report = report_of(tmp_path)
    assert report["ended"] == "stopped: interrupted"
    assert {row["epoch"] for row in report["rows"]} == {0, 1}
    assert {row["split"] for row in report["rows"]} == {"val"}
    out = capsys.readouterr().out
    last = tmp_path / "checkpoints" / "last.ckpt"
    assert last.exists()
    assert f"ckpt_path={last}" in out


# The real thing, where importing is what is tested


def test_a_misspelt_key_ends_train_py_at_once():
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "train.py", "trainer.max_epoch=3"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    assert [line for line in lines if line.startswith("error:")] == [
        "error: there is no key 'trainer.max_epoch': did you mean 'trainer.max_epochs'?"
    ]
    assert "Traceback" not in done.stderr
    assert "| torch\n" not in done.stderr.replace("|   ", "| ")
