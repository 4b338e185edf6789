"""What the pages show is so: Python runs, commands are accepted, YAML names what there is, links lead somewhere.

A comment above a Python block sets its scene:

    <!-- needs: run -->          the current folder is that of a finished run
    <!-- test: small -->         ssl_mi.train takes few images, ssl_mi.mutual_information fits no networks
    <!-- test: compose -->       ssl_mi.train composes and checks the configuration, and trains nothing
    <!-- test: example NAME -->  the block is examples/NAME.py, which tests/test_examples.py runs
"""

import argparse
import glob
import importlib
import inspect
import json
import re
import shlex
import shutil
import tomllib
from functools import partial, reduce
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

import ssl_mi
from ssl_mi.app import hydra_command
from ssl_mi.app.main import COMMANDS, main
from ssl_mi.app.startup import check
from ssl_mi.app.train import compose

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")]
)
RUN_HERE = [page for page in PAGES if page.parent == ROOT / "docs" or page.name == "README.md"]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SMALL = ["data.sets.train=160", "data.sets.test=60", "data.batch_size=32", "trainer.accelerator=cpu"]
SMALL += ["trainer.devices=1", "evaluation.every_n_epochs=0"]
SMALL += [f"evaluation.evaluations.{name}=null" for name in ("mi", "capture", "linear_probe", "pictures")]
BLOCK = re.compile(r"(?:<!-- (needs|test): ([^>]*?) -->\n)?^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def named(page):
    return str(page.relative_to(ROOT))


def blocks(page, *languages):
    """(what the comment above says, code) of the page's blocks in these languages."""
    return [(m[2] or "", m[4]) for m in BLOCK.finditer(page.read_text(encoding="utf-8")) if m[3] in languages]


# ---------------------------------------------------------------------------------------------------------- Python


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("docs") / "run"
    words = [
        "data.sets.train=300",
        "data.sets.test=60",
        "data.batch_size=64",
        "encoder.widths=[8]",
        "towers.projector.dims=[16]",
    ]
    words += ["trainer.accelerator=cpu", "trainer.devices=1", "evaluation.every_n_epochs=1"]
    words += ["evaluation.evaluations.mi.permutations=3", "evaluation.evaluations.knn=null"]
    words += [f"evaluation.evaluations.{name}=null" for name in ("capture", "geometry", "pictures")]
    ssl_mi.train(*words, max_epochs=2, run_dir=folder, quiet=True)
    return folder


def only_composed(*overrides, **parts):
    assert not parts
    check(compose(overrides))


@pytest.mark.filterwarnings("ignore")  # what Lightning says of a small run, and estimators of few rows
@pytest.mark.parametrize("page", [page for page in RUN_HERE if blocks(page, "python")], ids=named)
def test_python_runs_in_order_in_an_empty_folder(page, tmp_path, monkeypatch, request):
    names = {"__name__": "__main__"}
    for number, (scene, code) in enumerate(blocks(page, "python")):
        if scene.startswith("example "):
            assert code == (ROOT / "examples" / f"{scene.split()[1]}.py").read_text(encoding="utf-8")
            continue
        with monkeypatch.context() as here:
            here.chdir(request.getfixturevalue("finished_run") if scene == "run" else tmp_path)
            if scene == "small":
                here.setattr(ssl_mi, "train", partial(ssl_mi.train, *SMALL))
                quick = partial(ssl_mi.mutual_information, learned=False, permutations=9)
                here.setattr(ssl_mi, "mutual_information", quick)
            if scene == "compose":
                here.setattr(ssl_mi, "train", only_composed)
            exec(compile(code, f"{page.name}, block {number}", "exec"), names)


def test_the_example_of_the_readme_is_short():
    (code,) = (code for _, code in blocks(ROOT / "README.md", "python"))
    assert 5 <= sum(bool(line.strip()) for line in code.splitlines()) <= 15


# -------------------------------------------------------------------------------------------------------- commands


def commands(page):
    """The commands of the page, comments and prompts aside, each continued line joined."""
    found = []
    for _, block in blocks(page, "", "console"):
        lines = block.replace("\\\n", " ").splitlines()
        transcript = any(line.startswith("$ ") for line in lines)
        lines = [line[2:] for line in lines if line.startswith("$ ")] if transcript else lines
        for line in lines:
            found += [part.strip() for part in re.sub(r"\s#\s.*", "", line).split("&&")]
    return [command for command in found if re.match(r"(ssl-mi|pip|pytest|python|\.ci/run|git) ?(?!/)", command)]


def trainings():
    """{words after `ssl-mi train`: the page}."""
    found = {}
    for page in PAGES:
        for command in commands(page):
            match = re.match(r"(?:ssl-mi train|python train\.py)(?: |$)(.*)", command)
            if match:
                found.setdefault(match[1].strip(), named(page))
    return found


@pytest.fixture
def a_folder(tmp_path, monkeypatch):
    """A folder that holds what commands name: a checkpoint, files of samples, parts of one's own."""
    monkeypatch.chdir(tmp_path)
    own = ROOT / "examples" / "own_parts"
    shutil.copytree(own / "my_conf", tmp_path / "my_conf")
    monkeypatch.syspath_prepend(str(own))
    for folder in ("runs/NAME/TIME/checkpoints", "RUN/checkpoints"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "last.ckpt").touch()
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 16))
    y = x + 3 * rng.standard_normal((400, 16)) * (np.arange(16) > 1)
    for name, array in {"x": x[:, :2], "y": y[:, :2] + rng.standard_normal((400, 2)), "wide_x": x, "wide_y": y}.items():
        np.save(tmp_path / f"{name}.npy", array)
    table = np.column_stack([x[:, :2], y[:, 0]])
    np.savetxt(tmp_path / "table.csv", table, delimiter=",", header="height,weight,pulse", comments="")
    return tmp_path


@pytest.mark.parametrize("words", trainings(), ids=lambda words: f"{trainings()[words]}: {words}")
def test_a_training_is_accepted(words, a_folder):
    given = shlex.split(words)
    if "-m" in given:  # the last job of a sweep stands for all
        given = [re.sub(r"=[^=\[]*,", "=", word) for word in given if word != "-m"]
    if any(word.startswith("hydra/launcher=submitit") for word in given):  # a plugin that users install for it
        pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    hydra_command._checked(given)  # composes, and checks what can be seen before a run begins


def others():
    """{command: the page} of the other subcommands."""
    found = {}
    for page in PAGES:
        for command in commands(page):
            if command.startswith("ssl-mi ") and not command.startswith("ssl-mi train"):
                found.setdefault(command, named(page))
    return found


@pytest.mark.parametrize("command", others(), ids=lambda command: f"{others()[command]}: {command}")
def test_another_command_is_accepted(command, a_folder, monkeypatch):
    name, *words = shlex.split(command)[1:]
    words = [word for given in words for word in (sorted(glob.glob(given)) or [given])]
    module = importlib.import_module(COMMANDS[name].module)
    parser = argparse.ArgumentParser(name)
    module.configure(parser)
    if "--help" not in words:
        parser.parse_args(words)  # exits where it would be refused


def transcripts():
    """(command, what the page shows of its output) of the transcripts of estimates."""
    text = (ROOT / "docs" / "estimating.md").read_text(encoding="utf-8")
    return re.findall(r"^\$ ssl-mi (estimate .*)\n((?:.+\n)+?)```$", text, re.MULTILINE)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("command", "shown"), transcripts(), ids=[command for command, _ in transcripts()])
def test_an_estimate_prints_the_lines_that_the_page_shows(command, shown, a_folder, capsys):
    assert main(shlex.split(command)) == 0
    printed = capsys.readouterr().out
    if "--json" in command:
        shown, printed = json.loads(shown), json.loads(printed)
        assert set(shown) == set(printed)
        assert (shown["x"]["source"], shown["kind"]) == (printed["x"]["source"], printed["kind"])
        return
    labels = [re.split(r"  +|: ", line)[0] for line in shown.splitlines()]
    assert len(labels) > 8
    assert [label for label in labels if not re.search(rf"^{re.escape(label)}( |:)", printed, re.MULTILINE)] == []


def test_the_table_of_estimators_is_printed(capsys):
    assert main(["estimators"]) == 0
    printed = capsys.readouterr().out
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text[text.index("## Estimators") : text.index("## Compared")]
    ours = set(re.findall(r"`(\w+)`", section))
    assert len(ours) > 20
    given_z = {"conditional_ksg", "conditional_mutual_information", "discrete_conditional_mi"}
    assert ours - given_z <= set(re.findall(r"\w+", printed))
    assert all(hasattr(ssl_mi.information, name) for name in ours)


def test_programs_and_extras_that_are_named_are_there():
    extras = set(PYPROJECT["project"]["optional-dependencies"])
    for page in PAGES:
        for command in commands(page):
            program = re.match(r"python (?!-m|-c)(\S+\.py)", command)
            if program:
                assert (ROOT / program[1]).is_file(), (named(page), command)
            for extra in re.findall(r"\[(\w+)\]", command) if command.startswith("pip") else ():
                assert extra in extras, (named(page), command)


# ------------------------------------------------------------------------------------------------- YAML and others


def targets(node):
    """Every mapping below that has a `_target_`."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield node
        for value in node.values():
            yield from targets(value)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "yaml", "toml")], ids=named)
def test_yaml_names_classes_that_take_its_keys(page):
    for _, code in blocks(page, "yaml"):
        for node in targets(OmegaConf.to_container(OmegaConf.create(code), resolve=False)):
            home, *path = node["_target_"].split(".")
            if home != "ssl_mi" or page.name == "CONTRIBUTING.md":  # that page's classes are on the page
                continue
            thing = reduce(getattr, path, ssl_mi)
            inspect.signature(thing).bind_partial(**{k: v for k, v in node.items() if not k.startswith("_")})
    for _, code in blocks(page, "toml"):
        assert tomllib.loads(code)


# ----------------------------------------------------------------------------------------------------------- links


def prose(page):
    return re.sub(r"^```.*?^```$|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def anchors(page):
    """The anchors of a page, as GitHub makes them of headings, and those set by hand."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    found = set(re.findall(r'<a id="([^"]+)"', text))
    for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE):
        found.add(re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-"))
    return found


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=named)
def test_links_lead_to_files_and_anchors(page):
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", prose(page)):
        if "://" in target:
            continue
        there = (page.parent / target).resolve() if target else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), f"{target}#{anchor}"


# ------------------------------------------------------------------------------------------------- lists and promises


def test_the_readme_keeps_its_two_commands_and_its_length():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "\npip install -e . && python train.py " in text
    assert '\npip install -e ".[test]" && pytest ' in text
    assert len(text.split()) <= 1200


def test_pages_list_all_objectives_commands_and_extras():
    objectives = (ROOT / "docs" / "objectives.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)` \|", objectives, re.MULTILINE)) == {
        path.stem for path in ROOT.glob("conf/objective/*.yaml")
    }
    for option, cls in re.findall(r"^\| `(\w+)` \| `(\w+)` \|", objectives, re.MULTILINE):
        assert OmegaConf.load(ROOT / "conf" / "objective" / f"{option}.yaml")["_target_"].endswith(f".{cls}")
    installation = (ROOT / "docs" / "installation.md").read_text(encoding="utf-8")
    assert {*PYPROJECT["project"]["optional-dependencies"]} <= set(re.findall(r"^\| `(\w+)` \|", installation, re.M))
    assert set(re.findall(r"^\| `ssl-mi (\w+)` \|", installation, re.MULTILINE)) == set(COMMANDS)


def test_the_columns_of_measurements_are_all_explained():
    from ssl_mi.evaluation import Measurement

    text = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
    section = text[text.index("## Columns") :]
    named_ = set(re.findall(r"`(\w+)`", section))
    assert {name for name in Measurement.__dataclass_fields__ if not name.endswith(("_low", "_high"))} <= named_


def test_the_site_has_every_page():
    # The names of tags that mkdocs builds itself are of no interest here.
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("nav:")[1]
    listed = set(re.findall(r"[\w/]+\.md", nav))
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in ROOT.glob("docs/**/*.md")}
    notebooks = {f"notebooks/{path.stem}.md" for path in ROOT.glob("docs/notebooks/*.ipynb")}
    assert listed == pages | notebooks


@pytest.mark.parametrize("name", ["good_views", "tighter_bounds", "augmentations", "label_free", "objectives"])
def test_the_page_of_a_study_is_made_of_its_stored_rows(name, tmp_path):
    import study

    module = importlib.import_module(name)
    folder = ROOT / "docs" / "studies" / name
    study.store(module.STUDY, study.read_rows(folder / "results.csv"), tmp_path)
    stored, made = ((place / "README.md").read_text().split("## Run")[0] for place in (folder, tmp_path))
    assert stored == made
