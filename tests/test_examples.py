"""The three ways of use run as they are written, and the documentation quotes them as they are."""

import re
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
SMALL = ["data.sets.train=160", "data.sets.test=60", "data.batch_size=32", "trainer.accelerator=cpu"]
SMALL += ["trainer.devices=1", "evaluation.every_n_epochs=0"]
SMALL += [f"evaluation.evaluations.{name}=null" for name in ("mi", "capture", "knn", "pictures")]
WORDS = {"quickstart_train": SMALL, "plain_trainer": ["1", "400"], "bare_loop": ["2", "300"]}


@pytest.fixture
def output_of(monkeypatch, tmp_path, capsys):
    """name, words of the command line -> what an example prints, run in an empty folder."""

    def run(name, *words):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *words])
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_a_run_from_python_leaves_a_folder_and_prints_its_table(output_of, tmp_path):
    text = output_of("quickstart_train", *SMALL)
    assert re.search(r"linear-probe accuracy +0\.\d+ +0\.\d+", text)
    assert re.search(r"linear probe: 0\.\d\d trained, 0\.\d\d random", text)
    (report,) = tmp_path.glob("runs/shapes/*/report.md")
    assert "VICReg(...)" in report.read_text()


@pytest.mark.filterwarnings("ignore")  # what Lightning says of a trainer that its user set up
def test_the_module_trains_and_is_evaluated_under_a_trainer_of_ones_own(output_of, tmp_path):
    text = output_of("plain_trainer", *WORDS["plain_trainer"])
    for encoder in ("trained", "random", "pixels"):
        assert re.search(rf"linear-probe accuracy +{encoder} +0\.\d+", text), encoder
    assert (tmp_path / "runs" / "plain_trainer").is_dir()


def test_the_loss_falls_in_a_bare_loop(output_of):
    losses = [float(x) for x in re.findall(r"loss (\S+),", output_of("bare_loop", "4", "600"))]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", WORDS)
def test_an_example_has_at_most_25_lines_and_no_partial(name):
    code = (EXAMPLES / f"{name}.py").read_text()
    assert len(code.splitlines()) <= 25
    assert "partial" not in code


@pytest.mark.parametrize("name", WORDS)
def test_the_documentation_quotes_the_example(name):
    assert f"```python\n{(EXAMPLES / f'{name}.py').read_text()}```" in (ROOT / "docs" / "python.md").read_text()
