"""Imports point one way, so that each part can be read, tested and shipped without those above it."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "ssl_mi"
ALONE = {"_lazy", "_nearest", "atomic", "checkpoint_format", "information", "data", "distributed"}
MAY_IMPORT = {
    **{part: set() for part in ALONE},
    "objectives": {"information"},
    # Pure functions of the step, which whatever moves with it shares.
    "schedules": set(),
    "optim": {"schedules"},
    # Weights may come from a checkpoint of a run.
    "networks": {"schedules", "checkpoint_format"},
    "report": {"atomic"},
    "resume": {"distributed"},
    "chunks": set(),
    "finite": set(),
    "module": {"distributed", "finite", "optim", "resume", "schedules"},
    "joint_embedding": {"module", "chunks", "distributed"},
    "masked": {"module", "distributed", "objectives"},
    "masked_distillation": {"module", "distributed"},
    "masked_siamese": {"module", "distributed"},
    "evaluation": {"atomic", "information", "distributed", "report"},
    "callbacks": {"atomic", "checkpoint_format", "evaluation", "information", "distributed", "report", "optim"}
    | {"resume", "schedules"},
    # From here up everything meets; Hydra builds networks, objectives and data from the configuration.
    "app": {"atomic", "callbacks", "checkpoint_format", "data", "evaluation", "finite", "module", "networks", "optim"}
    | {"report", "resume"},
    "__main__": {"app"},
}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def part_of(path):
    """ssl_mi/data/sets.py -> data, ssl_mi/optim.py -> optim."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path):
    """Every module that a file names in an import, wherever the import stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively: arrows are drawn by full names"
            if node.module == "ssl_mi":
                yield from (f"ssl_mi.{alias.name}" for alias in node.names)
            else:
                yield node.module


def ours(path):
    """The parts of ours that a file imports. All may use `_lazy` and `_nearest`, which import nothing of ours."""
    return {name.split(".")[1] for name in imported(path) if name.startswith("ssl_mi.")} - {"_lazy", "_nearest"}


def test_every_part_has_its_arrows():
    assert {part_of(path) for path in FILES} == set(MAY_IMPORT)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_imports_only_what_lies_below_it(path):
    part = part_of(path)
    assert ours(path) - {part} <= MAY_IMPORT[part]


def test_the_entry_names_neither_networks_nor_objectives():
    assert ours(ROOT / "train.py") == {"app"}


@pytest.mark.parametrize("path", sorted((PACKAGE / "information").rglob("*.py")), ids=lambda path: path.name)
def test_information_knows_no_images_no_lightning_and_no_hydra(path):
    roots = {name.split(".")[0] for name in imported(path)}
    assert roots.isdisjoint({"torchvision", "pytorch_lightning", "lightning", "hydra", "omegaconf", "PIL"})


def loaded_by(*arguments):
    """The modules that Python has loaded at the end of this command."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    times = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rsplit("|", 1)[1].strip() for line in times}, done.stdout


def test_importing_information_loads_nothing_of_images_and_training():
    loaded, _ = loaded_by("-c", "from ssl_mi.information import ksg, neural_mi")
    assert {"ssl_mi.information.core.inputs", "ssl_mi.information.variational.bounds"} <= loaded  # the test looks
    for other in ("torchvision", "pytorch_lightning", "lightning", "hydra", "matplotlib", "PIL"):
        assert other not in loaded
    ours = {name.split(".")[1] for name in loaded if name.startswith("ssl_mi.")}
    assert ours == {"_lazy", "information"}


def test_help_answers_without_loading_torch():
    loaded, text = loaded_by("train.py", "--help")
    assert "hydra" in loaded
    assert loaded.isdisjoint({"torch", "pytorch_lightning", "numpy"})
    for said in ("experiment", "objective: ", "ckpt_path", "max_epochs"):
        assert said in text
