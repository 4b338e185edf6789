"""What users import: every public name is there, costs nothing until it is used, and is all that our own pages name."""

import ast
import functools
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import ssl_mi

ROOT = Path(__file__).parents[1]
PACKAGES = [
    "",
    ".objectives",
    ".networks",
    ".data",
    ".data.known",
    ".data.pairs",
    ".data.streams",
    ".callbacks",
    ".evaluation",
]
# What may be named in documents, configurations and examples: the names in these, and nothing below them.
NAMESPACES = ["ssl_mi"]
NAMESPACES += [f"ssl_mi{package}" for package in PACKAGES[1:]] + ["ssl_mi.optim", "ssl_mi.information"]
NAMESPACES += [
    f"ssl_mi.information.{name}" for name in ("bounds", "critics", "projections", "distributions", "inference")
]
HYDRA_CALLBACK = "ssl_mi.app.sweep_callback.Summary"  # wiring of the command line, of no use from outside
PAGES = sorted(
    path
    for pattern in ("README.md", "docs/**/*.md", "conf/**/*.yaml", "examples/**/*.py", "examples/**/*.yaml")
    for path in ROOT.glob(pattern)
    if "studies" not in path.parts  # research of this repository, which uses more than it promises to others
)


def everything():
    return [
        (package, name)
        for package in PACKAGES
        for name in importlib.import_module(f"ssl_mi{package}").__all__
        if name != "__version__"
    ]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_there_and_listed(package):
    module = importlib.import_module(f"ssl_mi{package}")
    assert len(set(module.__all__)) == len(module.__all__)
    for name in module.__all__:
        assert getattr(module, name) is not None, name
        assert name in dir(module), name


@pytest.mark.parametrize("package", PACKAGES)
def test_type_checkers_are_shown_the_names_that_are_imported_on_first_use(package):
    module = importlib.import_module(f"ssl_mi{package}")
    tree = ast.parse(Path(module.__file__).read_text())
    guarded = [node for node in tree.body if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)]
    for block in guarded:
        shown = {alias.name: node.module for node in block.body for alias in node.names}
        assert set(shown) == set(module.__all__) - {"__version__"}
        for name, home in shown.items():
            assert getattr(module, name) is getattr(importlib.import_module(home), name), name


@pytest.mark.parametrize(("package", "name"), everything())
def test_every_public_class_and_function_says_what_it_is(package, name):
    thing = getattr(importlib.import_module(f"ssl_mi{package}"), name)
    assert (thing.__doc__ or "").strip(), name


def test_a_name_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'ssl_mi' has no attribute 'trian'"):
        ssl_mi.trian  # noqa: B018
    with pytest.raises(ImportError, match="ImageFoldr"):
        from ssl_mi.data import ImageFoldr  # noqa: F401


def test_importing_the_package_imports_nothing_heavy():
    program = "import ssl_mi, sys; dir(ssl_mi); assert ssl_mi.__version__; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    loaded = set(done.stdout.split())
    assert loaded.isdisjoint({"torch", "numpy", "pytorch_lightning", "hydra", "matplotlib", "rich", "PIL"})
    assert {name for name in loaded if name.startswith("ssl_mi")} == {"ssl_mi", "ssl_mi._lazy"}


def public(path):
    """Whether a dotted path is a public namespace or a name in one."""
    home, _, name = path.rpartition(".")
    if path in NAMESPACES:
        return True
    if home not in NAMESPACES:
        return False
    module = functools.reduce(getattr, home.split(".")[1:], ssl_mi)  # as Hydra finds it
    names = getattr(module, "__all__", None) or [n for n in vars(module) if not n.startswith("_")]
    return name in names


def imported(code):
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ssl_mi":
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "ssl_mi")


def named_by(path):
    """The dotted paths into ssl_mi that a page asks its reader to import, in Python or as a `_target_`."""
    text = path.read_text()
    codes = [text] if path.suffix == ".py" else re.findall(r"```python\n(.*?)```", text, re.S)
    found = [name for code in codes for name in imported(code)]
    return found + re.findall(r"_target_[:=]\s*\"?(ssl_mi[\w.]+)", text)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_name_public_paths_only(path):
    assert [name for name in named_by(path) if name != HYDRA_CALLBACK and not public(name)] == []
