"""Where a configuration is composed from: the folder of its page, and folders that add to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, read_write

from ssl_mi.app.optimizer_choice import settle_optimizer
from ssl_mi.app.paths import PAGE, conf_dir, plugin_dirs


class InstalledConfigurations(SearchPathPlugin):
    """Puts the configurations of installed packages on Hydra's search path (entry points, `plugin_dirs`)."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for folder in plugin_dirs():
            search_path.append(provider="ssl_mi.conf", path=f"file://{folder}")


@dataclass(frozen=True)
class Sources:
    """The folders of YAML files that one configuration is composed from.

    Hydra takes a file that several folders hold from the first of them and ignores the others. `check` refuses that.

    Args:
        primary: The folder that holds the page.
        further: Folders that add groups and options: `--config-dir`, `hydra.searchpath`.
        page: The name of the page, without `.yaml`.
    """

    primary: Path
    further: tuple[Path, ...] = ()
    page: str = PAGE

    @classmethod
    def default(cls, config_dir: str | Path | None = None) -> Sources:
        """Those that ship with this code, and a folder of the user's."""
        return cls(conf_dir(), () if config_dir is None else (Path(config_dir).absolute(),))

    @property
    def folders(self) -> list[Path]:
        return [self.primary, *self.further, *plugin_dirs()]

    def check(self) -> None:
        """Raise ValueError for a folder that is not there, and for a file that another one hides."""
        for folder in self.folders:
            if not folder.is_dir():
                raise ValueError(f"there is no folder {folder}: configurations are read from a folder of YAML files")
        if not any((folder / f"{self.page}.yaml").is_file() for folder in self.folders):
            raise ValueError(f"there is no {self.page}.yaml in {', '.join(map(str, self.folders))}")
        held: dict[Path, Path] = {}
        for folder in self.folders:
            for path in sorted(folder.rglob("*.yaml")):
                first = held.setdefault(path.relative_to(folder), path)
                if first.read_bytes() != path.read_bytes():
                    raise ValueError(f"{path} is hidden by {first}, which comes first: give it another name")

    def options(self) -> dict[str, list[str]]:
        """{group: its options}, of all folders, without Hydra's own groups."""
        found: dict[str, set[str]] = {}
        for folder in self.folders:
            for path in folder.rglob("*.yaml"):
                *parents, name = path.relative_to(folder).with_suffix("").parts
                for depth in range(1, len(parents) + 1):
                    group, option = "/".join(parents[:depth]), "/".join([*parents[depth:], name])
                    found.setdefault(group, set()).add(option)
        # An option in the group itself is named before those in groups below it.
        return {
            group: sorted(options, key=lambda option: ("/" in option, option))
            for group, options in sorted(found.items())
            if group.split("/")[0] != "hydra"
        }

    def compose(self, overrides: Sequence[str], with_hydra: bool = False) -> DictConfig:
        """The page with these overrides, as Hydra composes it. A Hydra that is already set up stays as it is.

        Args:
            overrides: As Hydra takes them.
            with_hydra: Whether Hydra's own part, `hydra`, is returned with it.
        """
        from hydra import compose, initialize_config_dir
        from hydra.core.global_hydra import GlobalHydra
        from hydra.core.plugins import Plugins

        Plugins.instance().register(InstalledConfigurations)
        further = ", ".join(quoted(f"file://{folder}") for folder in self.further)
        running = GlobalHydra.instance().hydra
        GlobalHydra.instance().clear()
        try:
            with initialize_config_dir(version_base="1.3", config_dir=str(self.primary.absolute())):
                chosen = [*overrides, *([f"hydra.searchpath=[{further}]"] if further else [])]
                page = compose(self.page, chosen, return_hydra_config=with_hydra)
                with read_write(page):
                    settle_optimizer(page, chosen, self.page)
                return page
        finally:
            GlobalHydra.instance().hydra = running


def folder_of(place: str) -> Path:
    """The folder that an entry of `hydra.searchpath` names: file://PATH, pkg://PACKAGE or a path."""
    scheme, separator, rest = place.partition("://")
    if not separator:
        return Path(place).absolute()
    if scheme == "file":
        return Path(rest).absolute()
    try:
        spec = find_spec(rest.replace("/", ".")) if scheme == "pkg" else None
    except ImportError:
        spec = None
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    if not places:
        raise ValueError(f"hydra.searchpath names {place}, which is neither file://FOLDER nor pkg://PACKAGE")
    return Path(places[0])


def quoted(text: str) -> str:
    """A text as a quoted value of Hydra's grammar."""
    return "'" + text.replace("'", r"\'") + "'"
