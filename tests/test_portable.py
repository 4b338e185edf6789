"""Nothing that only POSIX has is needed to import the package, and its versions agree."""

import ast
import tomllib
from pathlib import Path

import pytest
from omegaconf import OmegaConf

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "ssl_mi").rglob("*.py"))
# Of the standard library's documentation: "Availability: Unix".
MODULES = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}
NAMES = {
    "os": {"fork", "forkpty", "getuid", "geteuid", "killpg", "O_DIRECT", "O_NOFOLLOW", "setsid", "sync"},
    "select": {"epoll", "kqueue", "poll"},
    "signal": {"alarm", "pause", "setitimer", "SIGALRM", "SIGHUP", "SIGKILL", "SIGUSR1", "SIGUSR2"},
}


def run_at_import(tree):
    """The nodes of a file that are executed when it is imported: all but the bodies of functions."""
    waiting = list(ast.iter_child_nodes(tree))
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            waiting += [*node.decorator_list, *node.args.defaults, *filter(None, node.args.kw_defaults)]
        elif not isinstance(node, ast.Lambda):
            waiting += ast.iter_child_nodes(node)


def only_posix(source):
    """What the file needs at import that Windows lacks."""
    found = set()
    for node in run_at_import(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & MODULES
        elif isinstance(node, ast.ImportFrom):
            imported = {alias.name for alias in node.names}
            found |= {node.module} & MODULES | imported & NAMES.get(node.module, set())
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found |= {node.attr} & NAMES.get(node.value.id, set())
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_needs_posix_to_be_imported(path):
    assert only_posix(path.read_text(encoding="utf-8")) == set()


def test_what_only_posix_has_is_found_at_import_and_not_within_functions():
    assert only_posix("import resource\nfrom signal import SIGUSR1\nx = os.sync") == {"resource", "SIGUSR1", "sync"}
    assert only_posix("def f(stop=signal.SIGHUP):\n    import fcntl\n    os.fork()") == {"SIGHUP"}


def test_the_citation_has_the_version_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert OmegaConf.load(ROOT / "CITATION.cff").version == project["version"]
    assert f"## [{project['version'].removesuffix('.dev0')}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
