"""The studies import names that exist, and their settings compose."""

import ast
import importlib
from pathlib import Path

import pytest

import objectives
from ssl_mi.app.config_checks import check_arguments
from ssl_mi.app.train import compose

STUDIES = sorted((Path(__file__).parents[3] / "examples" / "studies").glob("*.py"))


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_what_a_study_imports_exists(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module != "__future__":
            module = importlib.import_module(node.module)
            for alias in node.names:
                assert hasattr(module, alias.name) or importlib.import_module(f"{node.module}.{alias.name}")


@pytest.mark.parametrize("name", objectives.SETTINGS)
def test_every_setting_takes_only_arguments_that_exist(name, tmp_path):
    check_arguments(compose([*objectives.SHARED, *objectives.SETTINGS[name], "data.root=."], run_dir=tmp_path))
