"""Functions are short, and what is public is documented."""

import ast
import importlib
import inspect
import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "ssl_mi").rglob("*.py"))
LONGEST, LONG = 50, 40  # code lines: none above the first, at most 1% above the second
PACKAGES = [
    "ssl_mi",
    *(
        f"ssl_mi.{room}"
        for room in ("objectives", "networks", "data", "data.known", "data.pairs", "evaluation", "callbacks")
    ),
    "ssl_mi.information",
    *(f"ssl_mi.information.{room}" for room in ("projections", "distributions", "inference")),
    "ssl_mi.information.variational.bounds",
    "ssl_mi.information.variational.critics",
    "ssl_mi.optim",
    "ssl_mi.schedules",
]


def code_lines(source: str) -> dict[str, int]:
    """{function: its lines with the signature, and without docstrings, comments and blank lines}."""
    lines = source.splitlines()
    tree = ast.parse(source)
    text = {
        number
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for number in range(node.lineno, node.end_lineno + 1)
    }
    code = {
        number
        for number, line in enumerate(lines, 1)
        if line.strip() and not line.strip().startswith("#") and number not in text
    }
    return {
        f"{node.name}:{node.lineno}": len(code.intersection(range(node.lineno, node.end_lineno + 1)))
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_code_lines_are_counted_without_docstrings_comments_and_blank_lines():
    source = "\n".join(
        [
            "def f(",
            "    x,",
            "):",
            '    """Words.',
            "",
            '    More."""',
            "    # why",
            "",
            "    def g():",
            "        return x",
            "",
        ]
        + ["    return g  # so"]
    )
    assert code_lines(source) == {"f:1": 6, "g:9": 2}


def test_functions_are_short():
    lengths = {
        f"{path.relative_to(ROOT)}:{name}": length
        for path in FILES
        for name, length in code_lines(path.read_text(encoding="utf-8")).items()
    }
    assert {place: length for place, length in lengths.items() if length > LONGEST} == {}
    assert np.percentile(list(lengths.values()), 99) <= LONG


def test_few_lines_are_kept_from_the_type_checker():
    ignores = re.findall(r"# type: ignore(\[[a-z-]+\])?", "\n".join(p.read_text(encoding="utf-8") for p in FILES))
    assert len(ignores) <= 20
    assert all(ignores)  # each names the error


def public_names(package: str) -> list[str]:
    module = importlib.import_module(package)
    own = [name for name, thing in vars(module).items() if getattr(thing, "__module__", None) == package]
    return getattr(module, "__all__", None) or [name for name in own if not name.startswith("_")]


def public() -> dict[str, object]:
    """{dotted name: class or function} of all that users import."""
    named = ((f"{package}.{name}", package, name) for package in PACKAGES for name in public_names(package))
    things = {path: getattr(importlib.import_module(package), name) for path, package, name in named}
    return {path: thing for path, thing in things.items() if inspect.isclass(thing) or inspect.isfunction(thing)}


def parameters(thing: object) -> list[str]:
    """The names that a docstring has to explain: none of protocols, and none that a class takes as its base does."""
    if inspect.isclass(thing) and (getattr(thing, "_is_protocol", False) or "__init__" not in vars(thing)):
        return []
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    taken = inspect.signature(thing).parameters.values()
    return [p.name for p in taken if p.kind not in kinds and not p.name.startswith("_")]


@pytest.mark.parametrize(("path", "thing"), public().items(), ids=public())
def test_what_is_public_has_a_docstring_that_explains_each_parameter(path, thing):
    own = vars(thing).get("__doc__") if inspect.isclass(thing) else thing.__doc__  # of a class not its base's
    text = inspect.cleandoc(own or "")
    assert text
    names = parameters(thing)
    sections = [text.partition(f"\n{head}:\n")[2] for head in ("Args", "Attributes")]
    assert not names or any(sections)
    assert [name for name in names if not any(re.search(rf"\b{name}\b", section) for section in sections)] == []
