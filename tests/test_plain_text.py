"""What others wrote (errors, classes, folders, names) is printed and drawn as it stands, never read as markup."""

import ast
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_mi.app import startup as cli
from ssl_mi.app import sweep_table as sweep
from ssl_mi.app.runner import Run
from ssl_mi.callbacks.history import History
from ssl_mi.data.images import files
from ssl_mi.information.apps import render as answer
from ssl_mi.information.apps.files import Side
from ssl_mi.information.core.estimate import Estimate
from ssl_mi.report.plots import draw_map, draw_views

PACKAGE = Path(__file__).parents[1] / "ssl_mi"
HOSTILE = [r"[/]", "[bold]", "[/bold]", r"\[red]", ":smile:", "$a_{$", "_hidden", "50% {x}", "[link=x"]


def calls(name):
    """(file and line, keywords) of every call of `name` in the package."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == name:
                keywords = {k.arg: getattr(k.value, "value", None) for k in node.keywords}
                yield f"{path.relative_to(PACKAGE)}:{node.lineno}", keywords


@pytest.mark.parametrize(("part", "off"), [("Console", ("markup", "emoji")), ("TextColumn", ("markup",))])
def test_no_console_and_no_bar_reads_markup(part, off):
    found = dict(calls(part))
    assert len(found) > 4
    # `**options` is spelt None: those are given by name where they are made.
    open_to_it = [
        at for at, given in found.items() if None not in given and any(given.get(o) is not False for o in off)
    ]
    assert not open_to_it


def image_files(root, names):
    rng = np.random.default_rng(0)
    for split, n in (("train", 40), ("test", 12)):
        for i in range(n):
            path = root / split / names[i % len(names)] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(path)
    return root


@pytest.fixture
def hostile_run(configure, tmp_path):
    """A run on classes with hostile names, in a folder and under a name of that kind."""

    def make(*overrides):
        names = [name for name in HOSTILE if "/" not in name]
        root = image_files(tmp_path / "[bold]images:cat:", names)
        cfg = configure(
            *("data=image_folder", f'data.root="{root}"', "data.size=8", "data.batch_size=8", "data.val_fraction=0.4"),
            *("encoder.widths=[4]", "trainer.max_epochs=1", "trainer.accelerator=cpu", "progress=lines"),
            *(f'run_dir="{tmp_path}/[red]runs"', 'name="[/a] :smile: $x_{"'),
            *overrides,
            tiny=False,
        )
        cli.start(cfg)
        return Run(cfg, cli.build(cfg, "data"), cli.build(cfg, "module"))

    return make


def test_a_run_on_folders_and_classes_of_any_name_ends_with_its_report(hostile_run, tmp_path, capsys):
    run = hostile_run("evaluation.evaluations.mi=null")
    with run.reported():
        run.trainer.fit(run.module, run.data)
    printed = capsys.readouterr().out
    assert "[bold]images:cat:" in printed
    assert "[red]runs/report.html" in printed
    for name in ("report.html", "report.md", "report.json", "map.png", "views.png", "samples.npz"):
        assert (tmp_path / "[red]runs" / name).stat().st_size > 100
    with np.load(tmp_path / "[red]runs/samples.npz", allow_pickle=False) as kept:
        classes = [Path(file).parent.name for file in kept["files"]]
        assert classes == [str(kept["class_names"][label]) for label in kept["labels"]]


@pytest.mark.parametrize("message", HOSTILE)
def test_an_error_with_brackets_is_shown_and_not_replaced(hostile_run, capsys, message):
    run = hostile_run("~evaluation")
    run.data.setup()
    run.started = True  # the report is written once training has begun
    with pytest.raises(RuntimeError) as raised, run.reported():
        raise RuntimeError(f"expected {message} here")
    assert str(raised.value) == f"expected {message} here"
    assert f"stopped: RuntimeError: expected {message} here" in capsys.readouterr().out


def test_facts_are_printed_as_they_stand(run, capsys):
    made = run("trainer.max_epochs=1")
    made.facts = lambda: {f"{i} {text}": text for i, text in enumerate(HOSTILE)}
    capsys.readouterr()
    made._print_facts()
    printed = capsys.readouterr().out
    for i, text in enumerate(HOSTILE):
        assert f"{i} {text}  {text}\n" in printed


def test_lines_of_epochs_are_printed_as_they_stand(capsys):
    trainer = SimpleNamespace(
        callback_metrics={f"train/{text}": torch.tensor(1.0) for text in HOSTILE},
        num_training_batches=2,
        datamodule=SimpleNamespace(batch_size=4),
        current_epoch=0,
        global_step=2,
        optimizers=[SimpleNamespace(param_groups=[{"lr": 0.1}])],
        loggers=[],
        is_global_zero=True,
        max_epochs=3,
    )
    history = History(lines=True)
    history.on_train_epoch_start(trainer, None)
    history.on_train_epoch_end(trainer, None)
    printed = capsys.readouterr().out
    for text in HOSTILE:
        assert f"{text} 1.0000" in printed


def test_the_table_of_a_sweep_shows_overrides_and_endings_as_they_stand(capsys):
    numbers = {**dict.fromkeys(sweep.Line._fields, 1.0), "others": {}}
    lines = [
        sweep.Line(**{**numbers, "run": text, "ended": f"stopped: {text}", "objective": text, "overrides": f"x={text}"})
        for text in HOSTILE
    ]
    sweep.print_table(lines)
    printed = capsys.readouterr().out
    for text in HOSTILE:
        assert f"stopped: {text}" in printed


def test_an_estimate_shows_files_settings_and_warnings_as_they_stand(capsys):
    for text in HOSTILE:
        side = Side(np.zeros((3, 1)), f"{text}.csv")
        estimate = Estimate(1.0, estimator=text, settings={"chosen": text}, warnings=(f"mind {text}",))
        answer.show(answer.Answer(estimate, (f"see {text}",)), side, side, bits=False)
        printed = capsys.readouterr().out
        for shown in (f"{text}.csv", f"chosen={text}", f"warning: mind {text}", f"note: see {text}"):
            assert shown in printed


def test_a_bar_shows_what_it_counts_as_it_stands(capsys, monkeypatch):
    results = files._with_progress(iter(range(3)), 3, "[/] images", after=-1.0)
    assert list(results) == [0, 1, 2]


def test_pictures_show_names_as_they_stand(tmp_path):
    h = np.random.default_rng(0).normal(size=(40, 5))
    labels = np.arange(40) % len(HOSTILE)
    assert draw_map(h, labels, HOSTILE, tmp_path / "map.png").stat().st_size > 1000
    assert draw_views([HOSTILE, HOSTILE], tmp_path / "views.png").stat().st_size > 1000
