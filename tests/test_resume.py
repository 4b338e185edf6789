"""A run that was stopped anywhere and resumed ends as the run that was never stopped, bit for bit."""

import csv
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import standins
import torch
from PIL import Image
from pytorch_lightning.callbacks import ModelCheckpoint
from resume_run import outcome

from ssl_mi.callbacks.checkpoints import finish_after_resume
from ssl_mi.callbacks.continued_log import ContinuedLog
from ssl_mi.callbacks.evaluate import FINAL, Evaluate
from ssl_mi.callbacks.history import History
from ssl_mi.callbacks.progress import progress_bar
from ssl_mi.callbacks.stopping import StopOnSignal, Stopped
from ssl_mi.evaluation.probes import KNN
from ssl_mi.optim import warmup_cosine_epochs

pytestmark = [  # Lightning's own
    pytest.mark.filterwarnings(f"ignore:.*{text}.*")
    for text in ("LeafSpec", "The dirpath has changed", "Checkpoint directory", "many workers", "logging interval")
]

HERE = Path(__file__).parent
EVERY_STEP = "+checkpoint.every_n_train_steps=1"
STEPS = 5  # an epoch of the tiny runs below: 160 images less a tenth for validation, 28 a batch


class Stop(Exception):
    """What stops a run in the tests."""


class StopAt(pl.Callback):
    def __init__(self, step):
        self.step = step

    def on_train_batch_end(self, trainer, *rest):
        if trainer.global_step == self.step:
            raise Stop


def equal(found, expected):
    assert found["history"] == expected["history"]
    assert found["rows"] == expected["rows"]
    for name, value in expected["weights"].items():
        assert torch.equal(found["weights"][name], value), name
    assert repr(found["optimizer"]) == repr(expected["optimizer"])


# --- under a plain Trainer ------------------------------------------------------------------------------------------


def plain(folder, stop=None, resume=None, log=False, bar=None, every=1, more=(), **options):
    """Three epochs of five steps, with dropout, a schedule, evaluations and a checkpoint at every step.

    every: None for a checkpoint an epoch. more: further callbacks.
    """
    module = standins.joint_embedding()
    module.make_schedule = partial(warmup_cosine_epochs, warmup_epochs=1)
    data = standins.image_data(train=160, test=30)
    history, evaluate = History(), Evaluate({"knn": KNN()}, 1, folder)
    evaluate.earlier_folder = None if resume is None else resume.parent
    saver = ModelCheckpoint(folder, "last", every_n_train_steps=every, enable_version_counter=False)
    logger = pl.loggers.CSVLogger(folder, "logs", "") if log else False
    callbacks = [history, evaluate, *([] if bar is None else [bar]), *more, saver]
    trainer = pl.Trainer(
        max_epochs=options.pop("max_epochs", 3),
        accelerator="cpu",
        devices=1,
        callbacks=callbacks,
        logger=logger,
        enable_progress_bar=bar is not None,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        **options,
    )
    finish_after_resume(trainer)
    if stop:
        trainer.callbacks.append(StopAt(stop))  # after the checkpoint, which the trainer calls last of its own
    run = type("Done", (), {"trainer": trainer, "module": module, "history": history, "evaluate": evaluate})
    try:
        trainer.fit(module, data, ckpt_path=resume, weights_only=resume is not None)
    except Stop:
        return None
    return run


@pytest.mark.parametrize("step", [1, 3, 5, 6, 10, 15])
def test_a_run_stopped_after_any_step_goes_on(tmp_path, step):
    whole = outcome(plain(tmp_path / "whole"))
    assert plain(tmp_path / "run", stop=step) is None
    resumed = plain(tmp_path / "resumed", resume=tmp_path / "run" / "last.ckpt")
    equal(outcome(resumed), whole)


@pytest.mark.parametrize("step", [2, 3])
@pytest.mark.parametrize(
    "options",
    [{"accumulate_grad_batches": 2}, {"limit_train_batches": 0.6}, {"max_steps": 7}, {"limit_train_batches": 4}],
    ids=repr,
)
def test_also_where_epochs_are_shortened_or_gradients_accumulated(tmp_path, step, options):
    whole = outcome(plain(tmp_path / "whole", **options))
    assert plain(tmp_path / "run", stop=step, **options) is None
    equal(outcome(plain(tmp_path / "resumed", resume=tmp_path / "run" / "last.ckpt", **options)), whole)


def test_gradients_that_wait_for_their_step_survive(tmp_path):
    class SaveAfter(pl.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            if trainer.current_epoch == 1 and batch_idx == 3:  # of three that are accumulated the first
                trainer.save_checkpoint(tmp_path / "waiting.ckpt")

    whole = plain(tmp_path / "whole", accumulate_grad_batches=3, bar=SaveAfter())
    resumed = plain(tmp_path / "resumed", resume=tmp_path / "waiting.ckpt", accumulate_grad_batches=3)
    equal(outcome(resumed), outcome(whole))


@pytest.mark.parametrize("step", [3, 5])
def test_the_loggers_epoch_means_are_those_of_whole_epochs(tmp_path, step):
    def means(folder):
        with (folder / "logs" / "metrics.csv").open() as file:
            rows = [row for row in csv.DictReader(file) if row.get("train/loss_epoch")]
        return [(row["epoch"], row["train/loss_epoch"]) for row in rows]

    plain(tmp_path / "whole", log=True)
    plain(tmp_path / "run", stop=step, log=True)
    plain(tmp_path / "resumed", resume=tmp_path / "run" / "last.ckpt", log=True)
    assert means(tmp_path / "resumed") == means(tmp_path / "whole")


def test_an_epoch_takes_the_time_of_both_its_parts(tmp_path, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("ssl_mi.callbacks.history.time.perf_counter", lambda: now[0])

    class Tick(pl.Callback):
        def on_train_batch_start(self, *rest):
            now[0] += 7.0

    plain(tmp_path / "run", stop=3, bar=Tick())
    now[0] = 50_000.0
    resumed = plain(tmp_path / "resumed", resume=tmp_path / "run" / "last.ckpt", bar=Tick())
    assert [epoch["seconds"] for epoch in resumed.history.epochs] == [35.0, 35.0, 35.0]
    assert [epoch["images_per_second"] for epoch in resumed.history.epochs] == [80 / 35] * 3


@pytest.mark.parametrize(
    ("every", "options"),
    [
        (None, {}),
        pytest.param(1, {}, marks=pytest.mark.slow),
        (1, {"max_steps": 7}),
        pytest.param(None, {"max_steps": 7}, marks=pytest.mark.slow),
    ],
)
def test_a_run_stopped_in_the_evaluation_at_its_end_has_only_the_rest_of_it_left(tmp_path, monkeypatch, every, options):
    whole = outcome(plain(tmp_path / "whole", every=every, **options))
    compute, measured, broken = KNN.compute, [], [True]

    def watched(self, context):
        if context.final:
            if broken[0] and context.encoder == "trained":
                raise Stop
            measured.append(context.encoder)
        return compute(self, context)

    monkeypatch.setattr(KNN, "compute", watched)
    assert plain(tmp_path / "run", every=every, **options) is None
    broken[0] = False
    resumed = plain(tmp_path / "resumed", resume=tmp_path / "run" / "last.ckpt", every=every, **options)
    equal(outcome(resumed), whole)
    assert measured.count("random") == 1
    assert "trained" in measured
    assert not (tmp_path / "resumed" / FINAL).exists()


class SignalAt(pl.Callback):
    def __init__(self, step, number):
        self.step, self.number = step, number

    def on_train_batch_start(self, trainer, *rest):
        if trainer.global_step == self.step:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), pytest.param(signal.SIGUSR1, 138, marks=pytest.mark.slow)]
)
def test_a_signal_ends_a_run_after_the_step_with_a_checkpoint(tmp_path, number, status):
    whole = outcome(plain(tmp_path / "whole"))
    stop = StopOnSignal(tmp_path / "run")
    with pytest.raises(Stopped) as error:
        plain(tmp_path / "run", every=1000, more=[stop.first, SignalAt(7, number), stop])
    stop.release()
    assert signal.getsignal(number) is signal.SIG_DFL
    assert error.value.code == status
    kept = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)
    assert kept["global_step"] == 8
    equal(outcome(plain(tmp_path / "resumed", resume=tmp_path / "run" / "last.ckpt")), whole)


@pytest.mark.parametrize("step", [3, None, pytest.param(5, marks=pytest.mark.slow)])
def test_the_log_of_a_resumed_run_is_that_of_the_whole_run(tmp_path, step):
    def rows(folder):
        with (folder / "logs" / "metrics.csv").open() as file:
            found = [{k: v for k, v in row.items() if v and "second" not in k} for row in csv.DictReader(file)]
        return sorted((row for row in found if row.keys() != {"step"}), key=lambda row: (float(row["step"]), *row))

    class Stopper(pl.Callback):
        def on_train_epoch_start(self, trainer, module):
            if step is None and trainer.current_epoch == 2:
                raise Stop

    every = 1 if step else None
    plain(tmp_path / "whole", log=True, more=[ContinuedLog(tmp_path / "whole")])
    plain(tmp_path / "run", step, log=True, every=every, more=[ContinuedLog(tmp_path / "run"), Stopper()])
    last = tmp_path / "run" / "last.ckpt"
    log = ContinuedLog(tmp_path / "resumed", tmp_path / "run", torch.load(last, weights_only=True))
    read = pl.callbacks.LambdaCallback(setup=lambda trainer, module, stage: log.read(trainer))
    plain(tmp_path / "resumed", resume=last, log=True, more=[read, log])
    assert rows(tmp_path / "resumed") == rows(tmp_path / "whole")


def test_a_live_bar_lives_through_it(tmp_path, capsys):
    plain(tmp_path / "run", stop=3)
    resumed = plain(tmp_path / "resumed", resume=tmp_path / "run" / "last.ckpt", bar=progress_bar("bar"))
    assert len(resumed.history.epochs) == 3


# --- whole runs -----------------------------------------------------------------------------------------------------

LIGHT = [
    *("data.sets.train=160", "data.batch_size=28", "trainer.max_epochs=2", "evaluation.every_n_epochs=1", EVERY_STEP),
    *("evaluation.evaluations.mi=null", "evaluation.evaluations.linear_probe=null"),
    *("evaluation.evaluations.pictures=null", "evaluation.evaluations.capture=null"),
]


@pytest.mark.parametrize(
    "overrides",
    [
        ["objective=byol", "teacher=ema", "teacher.momentum=0.5", "objective.predictor.hidden=8"],
        ["objective=moco", "objective.queue=100", "teacher=ema", "trainer.accumulate_grad_batches=2"],
        ["objective=mine", "objective_optimizer={_target_: torch.optim.Adam, _partial_: true, lr: 0.01}"],
        ["objective=deepcluster", "objective.images=144", "objective.prototypes=8", "towers.joint_forward=false"],
        pytest.param(
            ["objective=vicregl", "towers=siamese_expanders", "objective.parts.local.matches=2"], marks=pytest.mark.slow
        ),
        pytest.param(
            ["objective=all4one", "teacher=ema", "towers.projector.final_norm=affine", "objective.queue=100"],
            marks=pytest.mark.slow,
        ),
    ],
    ids=["teacher's schedule", "queue, accumulated", "critic", "bank and clusters", "boxes", "support and attention"],
)
def test_parts_with_a_state_of_their_own_go_on(run, tmp_path, overrides):
    settings = [*LIGHT, "encoder.widths=[8]", *overrides]
    whole = outcome(run(f"run_dir={tmp_path / 'whole'}", *settings))
    with pytest.raises(Stop):
        run(*settings, before=lambda made: made.trainer.callbacks.append(StopAt(2)))
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    equal(outcome(run(f"run_dir={tmp_path / 'resumed'}", f"ckpt_path={last}", *settings)), whole)


def test_images_read_from_files_by_workers_go_on_at_their_place(configure, tmp_path):
    from ssl_mi.app import startup as cli
    from ssl_mi.app.runner import Run

    rng = np.random.default_rng(0)
    for i in range(100):
        path = tmp_path / "images" / "train" / f"{'ab'[i % 2]}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    settings = [
        *("data=image_folder", f"data.root={tmp_path / 'images'}", "data.sets.in_memory=false", "data.num_workers=2"),
        *("data.size=16", "data.batch_size=16", "encoder.widths=[4]", "trainer.max_epochs=2", "~evaluation"),
        *("trainer.accelerator=cpu", "progress=none", EVERY_STEP),
    ]

    def go(name, *more, stop=None):
        cfg = configure(*settings, f"run_dir={tmp_path / name}", *more, tiny=False)
        cli.start(cfg)
        made = Run(cfg, cli.build(cfg, "data"), cli.build(cfg, "module"))
        if stop:
            made.trainer.callbacks.append(StopAt(stop))
        made.trainer.fit(made.module, made.data, ckpt_path=cfg.ckpt_path, weights_only=True)
        return made

    whole = outcome(go("whole"))
    with pytest.raises(Stop):
        go("run", stop=2)
    equal(outcome(go("resumed", f"ckpt_path={tmp_path / 'run' / 'checkpoints' / 'last.ckpt'}")), whole)


def in_a_process(folder, step, *overrides):
    tiny = [
        *("data=shapes", "data.sets.test=60", "trainer.accelerator=cpu", "progress=none", "encoder.widths=[8]"),
        *("teacher=ema", "teacher.momentum=0.5", *LIGHT),
    ]
    return subprocess.run(
        [sys.executable, HERE / "resume_run.py", folder, str(step), *tiny, *overrides],
        cwd=HERE.parent,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE)])},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def load(folder):
    return torch.load(folder / "outcome.pt", weights_only=False)


@pytest.mark.parametrize(
    ("step", "overrides"),
    [
        (7, ["trainer.devices=1"]),
        pytest.param(2, ["trainer=ddp", "trainer.devices=2"], marks=pytest.mark.slow),
        pytest.param(5, ["trainer=ddp", "trainer.devices=2"], marks=pytest.mark.slow),
    ],
)
def test_a_process_that_was_killed_lost_nothing_but_time(tmp_path, step, overrides):
    assert in_a_process(tmp_path / "whole", 0, *overrides).returncode == 0
    killed = in_a_process(tmp_path / "run", step, *overrides)
    assert killed.returncode == -signal.SIGKILL
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    done = in_a_process(tmp_path / "resumed", 0, *overrides, f"ckpt_path={last}")
    assert done.returncode == 0, done.stderr[-2000:]
    found, expected = load(tmp_path / "resumed"), load(tmp_path / "whole")
    # Other processes may round otherwise; the same rows in the same order give the same up to that.
    torch.testing.assert_close(found["weights"], expected["weights"], rtol=1e-4, atol=1e-5)
    for epoch, as_expected in zip(found["history"], expected["history"], strict=True):
        assert epoch == pytest.approx(as_expected, rel=1e-4)
    assert len(found["rows"]) == len(expected["rows"])
