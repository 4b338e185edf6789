"""docs/estimating.md explains every warning that the library gives, and none that it does not."""

import ast
import re
from pathlib import Path

import ssl_mi.information

HOME = Path(ssl_mi.information.__file__).parent
PAGE = (HOME.parents[1] / "docs" / "estimating.md").read_text()
LISTS = {"warnings", "warning", "found", "doubts", "said", "nothing"}  # where the files gather what they warn of


def gathered(tree):
    """The expressions that become warnings: put into such a list, or returned by a function that words one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.AugAssign | ast.Assign):
            target = node.target if isinstance(node, ast.AugAssign) else node.targets[0]
            if getattr(target, "attr", getattr(target, "id", "")) in LISTS:
                yield node.value
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "append":
            if getattr(node.func.value, "id", "") in LISTS:
                yield node.args[0]
        elif isinstance(node, ast.FunctionDef) and re.search(r"warning|few|sparse|disagree|repeats", node.name):
            yield from (inner.value for inner in ast.walk(node) if isinstance(inner, ast.Return) and inner.value)


def sentences(expression):
    """Its texts as patterns, with anything where a value is put in."""
    if isinstance(expression, ast.JoinedStr):
        parts = [re.escape(p.value) if isinstance(p, ast.Constant) else "(.+)" for p in expression.values]
        yield "".join(parts)
    elif isinstance(expression, ast.Constant) and isinstance(expression.value, str):
        yield re.escape(expression.value)
    else:
        for child in ast.iter_child_nodes(expression):
            yield from sentences(child)


def warnings_of_the_code():
    programs = {"benchmark", "command", "staircase", "staircase_plot"}
    files = (path for path in sorted(HOME.rglob("*.py")) if path.stem not in programs)
    patterns = {p for path in files for e in gathered(ast.parse(path.read_text())) for p in sentences(e)}
    return {p for p in patterns if p.count(" ") > 2}


def entries_of_the_page():
    section = PAGE[PAGE.index("## What each warning means") : PAGE.index("### Beside these")]
    return [text for text in re.findall(r"`([^`]+)`", section) if text.count(" ") > 3]


def test_every_warning_in_the_code_is_explained():
    patterns, entries = warnings_of_the_code(), entries_of_the_page()
    assert len(patterns) > 20  # they are really found
    missing = [p for p in patterns if not any(re.fullmatch(p, entry) for entry in entries)]
    assert not missing, missing


def test_every_explained_warning_is_in_the_code():
    patterns = warnings_of_the_code()
    stale = [entry for entry in entries_of_the_page() if not any(re.fullmatch(p, entry) for p in patterns)]
    assert not stale, stale
