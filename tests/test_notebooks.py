"""The tutorials run from top to bottom, in an empty folder, as a reader runs them."""

import json
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def cells(path, kind):
    notebook = json.loads(path.read_text())
    assert notebook["nbformat"] == 4
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == kind]


def executed(path):
    """The variables that are left when all cells have run."""
    names = {"__name__": "__main__"}
    for number, code in enumerate(cells(path, "code")):
        exec(compile(code, f"{path.name}, cell {number}", "exec"), names)
    return names


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_first_run_trains_on_the_readers_folder_and_leaves_a_report(tmp_path):
    names = executed(FOLDER / "first_run.ipynb")
    assert names["run"].folder.parent.name == "first"
    assert names["h"].shape == (10, 128)
    assert {"training", "views"} <= set(names["run"].pictures)
    assert "<table>" in names["run"]._repr_html_()
    assert {path.name for path in tmp_path.iterdir()} == {"my_images", "runs", "encoder.pt"}


def test_estimates_of_two_arrays_are_what_the_text_says_of_them(capsys):
    names = executed(FOLDER / "mutual_information.ipynb")
    low, high = names["estimate"].ci
    assert low < 0.693 < high
    printed = capsys.readouterr().out
    gaussian = next(line for line in printed.splitlines() if line.startswith("Gaussian:"))
    neighbours = next(line for line in printed.splitlines() if line.startswith("KSG:"))
    assert abs(float(gaussian.split()[1])) < 0.02
    # The truth by numerical integration; at n = 600 a nearest-neighbour estimate deviates by about 0.04.
    assert abs(float(neighbours.split()[1]) - 0.679) < 0.15


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_links_of_a_tutorial_lead_somewhere(path):
    for text in cells(path, "markdown"):
        for target in re.findall(r"\]\(([^)#]+)", text):
            assert (FOLDER / target).resolve().exists(), target
