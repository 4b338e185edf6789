"""Where the configuration is: conf/ of a checkout, or ssl_mi/conf of an installed package."""

from __future__ import annotations

from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
PAGE = "train"  # the configuration of one run: train.yaml
ENTRY_POINTS = "ssl_mi.conf"


def conf_dir() -> Path:
    """The folder of the configuration that ships with this code.

    A wheel carries conf/ as ssl_mi/conf. A checkout, whether on the path or installed as editable, has it beside
    ssl_mi/.

    Raises:
        FileNotFoundError: If the installation has neither.
    """
    for folder in (PACKAGE / "conf", PACKAGE.parent / "conf"):
        if (folder / f"{PAGE}.yaml").is_file():
            return folder
    raise FileNotFoundError(
        f"{PACKAGE} has no configuration: neither conf/{PAGE}.yaml in it nor beside it; install ssl_mi again"
    )


def plugin_dirs() -> list[Path]:
    """The folders of configurations that installed packages offer under the entry point group `ssl_mi.conf`.

    The value of an entry point is a package that holds YAML files, for example `mine = "mypackage.conf"`.

    Raises:
        ValueError: If an entry point names no package of files.
    """
    folders = []
    for entry in entry_points(group=ENTRY_POINTS):
        try:
            spec = find_spec(entry.value)
        except ImportError:
            spec = None
        places = list(spec.submodule_search_locations or ()) if spec is not None else []
        if not places:
            raise ValueError(
                f"the entry point {ENTRY_POINTS}: {entry.name} = {entry.value} names no package: it must be a folder "
                "of YAML files inside an importable package"
            )
        folders += [Path(place) for place in places]
    return folders
