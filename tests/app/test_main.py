"""One command, its subcommands, and what each says of itself."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ssl_mi.app.main import COMMANDS, main

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "numpy", "pytorch_lightning", "torchvision", "sklearn", "matplotlib"}


def call(*words):
    """The output of `python -m ssl_mi WORDS`, and the modules that it loads."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "ssl_mi", *words],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "100"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    times = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return done.stdout, {line.rsplit("|", 1)[1].strip() for line in times}


@pytest.mark.parametrize("words", [[], ["--help"]], ids=str)
def test_the_command_lists_its_subcommands_with_examples_and_loads_nothing_heavy(words):
    text, loaded = call(*words)
    assert loaded.isdisjoint({*HEAVY, "hydra", "rich"})
    for name, command in COMMANDS.items():
        assert f"  {name} " in text
        assert command.help in text
    assert text.count("  ssl-mi ") >= 2


@pytest.mark.parametrize("name", list(COMMANDS))
def test_each_help_names_the_others_and_two_examples_and_loads_nothing_heavy(name):
    text, loaded = call(name, "--help")
    assert loaded.isdisjoint(HEAVY)
    assert text.count(f"  ssl-mi {name}") >= 2
    for other in set(COMMANDS) - {name}:
        assert other in text


@pytest.mark.parametrize("name", ["benchmark", "staircase", "canaries"])
def test_no_command_that_runs_for_minutes_starts_bare(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        main([name])
    assert left.value.code == 2
    assert f"ssl-mi {name}: error: " in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "there is no command 'trian': did you mean 'train'?; there are: train, estimate"),
        (["xyz"], "there is no command 'xyz'; there are: train, estimate"),
        (["experiment=simclr_cifar"], "there is no command 'experiment=simclr_cifar'"),
        (["--seed", "3"], "unrecognized arguments: --seed"),
    ],
    ids=str,
)
def test_wrong_usage_is_one_line_and_status_2(words, message, capsys):
    with pytest.raises(SystemExit) as left:
        main(words)
    assert left.value.code == 2
    assert message in capsys.readouterr().err


def test_an_interrupt_is_status_130_and_no_traceback(monkeypatch, capsys):
    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("ssl_mi.app.sweep.run", interrupted)
    assert main(["sweep", "runs"]) == 130
    assert capsys.readouterr().err == "interrupted\n"
