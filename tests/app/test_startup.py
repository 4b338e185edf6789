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
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import InstantiationException
from omegaconf import OmegaConf

import ssl_mi
from ssl_mi.app.startup import check_folder
from ssl_mi.joint_embedding import JointEmbedding
from ssl_mi.objectives import SimCLR

ROOT = Path(__file__).parents[2]


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
        where = [] if folder is None or "-m" in overrides else [f"run_dir={folder}", f"hydra.run.dir={folder}"]
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
    assert "linear probe" in capsys.readouterr().out
    last = tmp_path / "a" / "checkpoints" / "last.ckpt"

    assert main(tmp_path / "b", f"ckpt_path={last}") == 1  # it is finished
    assert "nothing is left to train" in capsys.readouterr().err
    longer = "trainer.max_epochs=2"
    assert main(tmp_path / "b", f"ckpt_path={last}", "encoder.widths=[8,6]", longer) == 1
    err = capsys.readouterr().err
    assert "encoder.widths: [8, 4] there, [8, 6] here; trainer.max_epochs: 1 there, 2 here" in err
    assert "resume_changes=[encoder.widths,trainer.max_epochs]" in err
    assert main(tmp_path / "b", f"ckpt_path={last}", "encoder.widths=[8,6]", longer, "resume_changes=allow") == 1
    err = capsys.readouterr().err
    assert "of another shape: towers.tower.encoder" in err
    assert "Traceback" not in err
    assert not (tmp_path / "b").exists()
    assert main(tmp_path / "c", f"ckpt_path={last}", longer, "resume_changes=[trainer.max_epochs]") == 0
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
        (["progress=loud"], "progress=loud: it must be one of auto, bar, lines, none"),
        (["data.batch_size=1000"], "1000"),
        (["data=image_folder"], "data.root"),
        (["data=image_folder", "data.root=nowhere"], "nowhere"),
        (["encoder.widths=[]"], "encoder"),
        (["seed=null"], "seed=null: it must be a whole number"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_ends_with_one_clear_message_and_status_1(main, tmp_path, capsys, overrides, message):
    assert main(tmp_path, *overrides) == 1
    err = capsys.readouterr().err
    assert "\nerror: " in err
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["name=${nope}"], "Interpolation key 'nope' not found"),
        (["hydra.run.dirr=x"], "Could not override 'hydra.run.dirr'"),
        (["experiment=simclr"], "there is no experiment=simclr: did you mean 'simclr_cifar'?"),
        (["data.sets={_target_: os.system, command: ls}"], "os.system"),
        (["objective={_target_: os.system, command: ls}", "~objective.critic"], "os.system"),
        (["objective._target_=ssl_mi.nowhere.X"], "objective._target_=ssl_mi.nowhere.X cannot be loaded"),
        (["seed=1,2"], "seed=1,2 is a sweep: `ssl-mi train -m`"),
        (["ckpt_path=runs/epoch=2-step=12.ckpt"], "ckpt_path=runs/epoch=2-step=12.ckpt is not a file"),
        (["--config-dir", "nowhere"], "there is no folder"),
        (["--config-name", "other"], "there is no other.yaml in"),
        (["hydra.run.dir=/dev/null/run"], "Not a directory"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_hydra_refuses_is_one_line_too(main, tmp_path, capfd, overrides, message):
    assert main(tmp_path / "run", *overrides) == 1
    lines = capfd.readouterr().err.strip().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("error: ")
    assert message in lines[0]
    assert "SSL_MI_TRACEBACK=1" in lines[1]


@pytest.mark.parametrize(
    "overrides",
    [
        ["trainer.max_epoch=3"],
        ["encoder.widths=[]"],
        ["data=image_folder", "data.root=nowhere"],
        ["data.batch_size=1000"],
    ],
    ids=" ".join,
)
def test_a_start_that_fails_leaves_no_folder(main, tmp_path, monkeypatch, overrides):
    monkeypatch.chdir(tmp_path)
    assert main(None, *overrides) == 1
    assert list(tmp_path.iterdir()) == []


def test_what_an_optimizer_refuses_is_named_with_where_to_set_it(run):
    with pytest.raises(ValueError, match="Invalid weight_decay value: -1: set another value for that key of optimizer"):
        run("optimizer.weight_decay=-1")


def test_views_of_another_size_than_a_checkpoint_would_say_are_refused(run):
    with pytest.raises(InstantiationException, match=r"augmentation\.size=16 and data\.size=32"):
        run("augmentation.size=16")
    with pytest.raises(InstantiationException, match=r"augmentation\.mean=\[0\.1, 0\.5, 0\.5\]"):
        run("augmentation.mean=[.1,.5,.5]")


def test_a_run_dir_that_can_be_no_folder_is_named_before_anything_is_built(tmp_path):
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ValueError, match=rf"run_dir={place}: {tmp_path / 'file'} is a file: name a folder"):
            check_folder(place, ())
    check_folder(tmp_path / "new" / "below", ())


@pytest.mark.parametrize("name", ["notes.txt", "notes.log"])
def test_a_start_that_fails_keeps_what_else_is_in_its_folder(main, tmp_path, name):
    (tmp_path / name).write_text("mine")
    assert main(tmp_path, "encoder.widths=[]") == 1
    assert (tmp_path / name).read_text() == "mine"


def test_a_run_leaves_no_log_that_says_nothing(main, tmp_path):
    assert main(tmp_path, "hydra/job_logging=ssl_mi", "health=null") == 0
    assert not list(tmp_path.glob("*.log"))


def test_keys_that_classes_take_arrive_and_the_run_can_be_resumed_from_a_name_with_equals_signs(main, tmp_path):
    taken = ["optimizer.betas=[.8,.95]", "checkpoint.every_n_train_steps=1", "checkpoint.filename=null"]
    assert main(tmp_path / "a", *taken) == 0
    (last,) = (tmp_path / "a" / "checkpoints").glob("epoch=0-step=*.ckpt")
    state = torch.load(last, weights_only=True)
    assert {group["betas"] for group in state["optimizer_states"][0]["param_groups"]} == {(0.8, 0.95)}
    assert main(tmp_path / "b", *taken, f"ckpt_path={last}", "trainer.max_epochs=2", "resume_changes=allow") == 0
    assert report_of(tmp_path / "b")["history"][-1]["epoch"] == 2


def test_a_sweep_whose_last_job_cannot_work_does_not_begin(main, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(None, "-m", "seed=0,-1") == 1
    assert "seed=-1: a whole number" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_of_a_sweep_with_one_bad_job_the_others_run_and_a_repeat_runs_only_what_failed(main, tmp_path, capsys):
    sweep = ["-m", "encoder.widths=[8,4],[0],[6]", f"hydra.sweep.dir={tmp_path}", "evaluation.evaluations.knn=null"]
    assert main(tmp_path, *sweep) == 1
    out = capsys.readouterr().out
    assert "1 of 3 jobs failed:" in out
    assert "1: encoder.widths=[0]" in out
    reports = [tmp_path / job / "report.json" for job in ("0", "2")]
    before = [path.stat().st_mtime_ns for path in reports]
    assert main(tmp_path, *sweep) == 1
    assert capsys.readouterr().out.count("finished before, not run again") == 2
    assert [path.stat().st_mtime_ns for path in reports] == before


def test_a_folder_that_holds_a_run_is_refused_unless_it_is_resumed_or_replaced(main, tmp_path, capsys):
    (tmp_path / "report.json").write_text("{}")
    assert main(tmp_path, "encoder.widths=[]") == 1
    err = capsys.readouterr().err
    assert f"run_dir={tmp_path} holds a run already" in err
    assert "overwrite=true" in err
    assert main(tmp_path, "overwrite=true") == 0
    assert report_of(tmp_path)["ended"] == "complete"


def test_flags_may_stand_between_overrides(main, tmp_path, capsys):
    assert main(tmp_path, "seed=3", "--package", "seed", "--cfg", "job", "name=x") == 0
    assert capsys.readouterr().out.strip().endswith("3")


def test_a_sweep_takes_the_keys_that_classes_take(main, tmp_path):
    assert main(tmp_path, "-m", "optimizer.eps=1e-8,1e-7", "schedule=glob(const*)", f"hydra.sweep.dir={tmp_path}") == 0
    for job, eps in enumerate((1e-8, 1e-7)):
        assert OmegaConf.load(tmp_path / str(job) / ".hydra" / "config.yaml").optimizer.eps == eps
    assert (tmp_path / "sweep.csv").is_file()


def test_a_loss_that_is_not_finite_stops_with_step_and_term_and_keeps_the_last_good_checkpoint(
    main, tmp_path, capsys, monkeypatch
):
    forward, calls = SimCLR.forward, []

    def broken(self, *views, **beside):
        loss = forward(self, *views, **beside)
        calls.extend([1] * loss.total.requires_grad)  # of training, not of what watches over it
        factor = math.nan if len(calls) == 5 else 1  # the second step of epoch 1
        return loss._replace(terms={name: term * factor for name, term in loss.terms.items()})

    monkeypatch.setattr(SimCLR, "forward", broken)
    assert main(tmp_path, "trainer.max_epochs=3") == 1
    err = capsys.readouterr().err
    assert "the loss is not finite at step 4 (epoch 1): nt_xent = nan" in err
    assert "Traceback" not in err
    assert report_of(tmp_path)["ended"].startswith("diverged: NotFinite: the loss is not finite at step 4")
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


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimiser=sgd", "there is no key 'optimiser': did you mean 'optimizer'?"),
        ("encoder=resnet81", "there is no encoder=resnet81: did you mean 'resnet18'?"),
    ],
)
def test_a_misspelt_part_ends_train_py_at_once(override, message):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "train.py", override],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    assert next(line for line in lines if line.startswith("error:")).startswith(f"error: {message}")
    assert "Traceback" not in done.stderr
    assert "| torch\n" not in done.stderr.replace("|   ", "| ")


def test_a_start_that_fails_leaves_the_run_that_it_would_have_overwritten(run):
    folder = run().folder
    checkpoint = (folder / "checkpoints" / "last.ckpt").read_bytes()
    with pytest.raises(ValueError, match=r"schedule\.warmup_epochs=50"):
        run("overwrite=true", "schedule.warmup_epochs=50")
    assert (folder / "checkpoints" / "last.ckpt").read_bytes() == checkpoint
    assert (folder / "report.json").is_file()
    assert run("overwrite=true", "seed=5").folder == folder
    assert (folder / "checkpoints" / "last.ckpt").read_bytes() != checkpoint


def test_more_batches_than_an_epoch_has_are_not_accumulated_and_a_smaller_last_update_is_named(run, caplog):
    # 160 images, a fifth of them for validation: 4 batches of 32.
    with pytest.raises(ValueError, match=r"trainer\.accumulate_grad_batches=5: an epoch has 4 batches"):
        run("trainer.accumulate_grad_batches=5", "trainer.max_epochs=1")
    with pytest.raises(ValueError, match=r"trainer\.accumulate_grad_batches=4: an epoch has 2 batches"):
        run("trainer.accumulate_grad_batches=4", "trainer.limit_train_batches=2", "trainer.max_epochs=1")
    run("trainer.accumulate_grad_batches=4", "trainer.max_epochs=1", "schedule=constant")
    assert "does not divide" not in caplog.text
    run("trainer.accumulate_grad_batches=3", "trainer.max_epochs=1", "schedule=constant", "overwrite=true")
    assert "does not divide the 4 batches of an epoch: the last update of each is of 1 of them" in caplog.text


@pytest.mark.parametrize(
    "overrides",
    [
        ["experiment=pairs/image_text", "data.limit=200", "encoder.widths=[8,16]"],
        pytest.param(["data.sets.train=160", "data.sets.test=60", "data.batch_size=32"], marks=pytest.mark.slow),
        pytest.param(
            [
                "experiment=known/gaussian_blob",
                "data.train=256",
                "data.val=128",
                "data.test=200",
                "encoder.widths=[8,16]",
            ],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_the_closing_table_has_a_short_name_of_its_own_for_every_measurement(overrides, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    few = ["trainer.max_epochs=1", "trainer.accelerator=cpu", "schedule.warmup_epochs=0", "progress=none"]
    made = ssl_mi.train(*few, "evaluation.every_n_epochs=0", *overrides, run_dir=tmp_path / "run")
    lines = capsys.readouterr().out.splitlines()
    table = lines[next(i for i, line in enumerate(lines) if set(line) == {"-"}) + 1 : -1]
    assert len(table) <= 25
    assert all("\u2026" not in line and len(line) <= 80 for line in table)
    assert len({line[:20] for line in table}) == len(table)
    explained = made.run.evaluate.explained()
    for row in made.rows:
        assert 0 < len(explained[row.metric]["short"]) <= 20, row.metric
        assert explained[row.metric]["meaning"], row.metric


def test_a_start_from_python_that_fails_leaves_no_folder(tmp_path):
    overrides = ["data=shapes", "data.sets.train=160", "data.sets.test=60", "data.batch_size=32", "progress=none"]
    with pytest.raises(ValueError, match=r"schedule\.warmup_epochs=50"):
        ssl_mi.train(*overrides, "schedule.warmup_epochs=50", run_dir=tmp_path / "runs" / "one")
    assert not (tmp_path / "runs" / "one").exists()
