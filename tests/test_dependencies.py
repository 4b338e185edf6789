"""What pyproject.toml asks of other packages, and what they must do for it."""

import runpy
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
floors = runpy.run_path(str(ROOT / ".ci" / "lowest.py"))["floors"]


def test_the_lowest_versions_are_the_floors_of_all_that_tests_need():
    asked = [*PYPROJECT["project"]["dependencies"], *PYPROJECT["project"]["optional-dependencies"]["test"]]
    found = [Requirement(line) for line in floors(PYPROJECT)]
    assert [requirement.name for requirement in found] == [Requirement(line).name for line in asked]
    assert {operator.operator for requirement in found for operator in requirement.specifier} == {"=="}
    for requirement, line in zip(found, asked, strict=True):
        (pin,) = requirement.specifier
        assert pin.version in Requirement(line).specifier  # the floor itself is allowed


@pytest.mark.parametrize("line", PYPROJECT["project"]["dependencies"])
def test_what_is_installed_is_what_is_asked_for(line):
    requirement = Requirement(line)
    assert version(requirement.name) in requirement.specifier


def test_a_dependency_without_a_floor_is_named():
    with pytest.raises(SystemExit, match=r"'numpy' of pyproject.toml is not of the form name>=version"):
        floors({"project": {"dependencies": ["numpy"], "optional-dependencies": {"test": []}}})


@pytest.mark.parametrize("target", ["os.system", "torch.os.system", "hydra.utils.os.system", "yaml.unsafe_load"])
def test_a_configuration_can_not_run_commands(target):
    with pytest.raises(InstantiationException):
        instantiate({"_target_": target, "_args_": ["0"]})
