"""Overrides of the command line, held against what there is: groups, options, keys, arguments."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf


class UnknownOverride(ValueError):
    """A key or an option that does not exist; the message names the nearest one that does."""


def find_unknown(folder: Path, overrides: Sequence[str]) -> None:
    """Raise UnknownOverride for the first override that fits neither a group in `folder` nor a key."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import ValueType
    from hydra.errors import HydraException, OverrideParseException

    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except OverrideParseException as error:
        raise UnknownOverride(f"can not read the override '{error.override}': write key=value") from error
    parsed = [o for o in parsed if not o.key_or_group.startswith("hydra")]
    groups = {
        str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_dir() and not p.is_relative_to(folder / "hydra")
    }
    chosen = []
    for override in parsed:
        if override.key_or_group not in groups:
            continue
        options = sorted(p.stem for p in (folder / override.key_or_group).glob("*.yaml"))
        options += [
            str(p.relative_to(folder / override.key_or_group).with_suffix(""))
            for p in (folder / override.key_or_group).glob("*/**/*.yaml")
        ]
        if override.value_type == ValueType.GLOB_CHOICE_SWEEP:
            values = override.value().filter(options)
        else:
            values = list(override.sweep_string_iterator()) if override.is_sweep_override() else [override.value()]
        for value in values:
            if value in (None, "null") and not override.is_delete():
                raise UnknownOverride(
                    f"{override.key_or_group}=null is no choice of '{override.key_or_group}'; "
                    f"there are: {', '.join(options)}; ~{override.key_or_group} leaves it out"
                )
            if value is not None and str(value) not in options:
                raise UnknownOverride(
                    f"there is no {override.key_or_group}={value}{_nearest(str(value), options)}; "
                    f"there are: {', '.join(options)}"
                )
        if override.is_delete():
            chosen.append(f"~{override.key_or_group}")
        elif values:  # the keys of a sweep are checked against its first job
            chosen.append(f"{override.key_or_group}={values[0]}")
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(folder.absolute())):
            cfg = compose("train", overrides=chosen)
    except HydraException as error:
        raise UnknownOverride(str(error)) from error
    keys = set(_keys(OmegaConf.to_container(cfg, resolve=False)))
    for override in parsed:
        key = override.key_or_group
        if key in groups or override.is_add() or override.is_force_add() or key in keys:
            continue
        parents = {k.rsplit(".", 1)[0] for k in keys if "." in k}
        if not override.is_delete() and any(_is_open(cfg, p) for p in parents if key.startswith(p + ".")):
            continue
        raise UnknownOverride(f"there is no key '{key}'{_nearest(key, sorted(keys | groups))}")


def _is_open(cfg: DictConfig, key: str) -> bool:
    """Whether the part at `key` takes whatever keys it is given: an empty dict does."""
    part = OmegaConf.select(cfg, key)
    return isinstance(part, DictConfig) and len(part) == 0


def _keys(part: Any, prefix: str = "") -> Iterator[str]:
    """The full key of every entry of a plain container, list entries by their place."""
    entries = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
    for key, inner in entries:
        yield f"{prefix}{key}"
        yield from _keys(inner, f"{prefix}{key}.")


def _nearest(word: str, words: Sequence[str]) -> str:
    """'; did you mean ...?', by the whole key or else by its last part."""
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.6)
    if not close:
        last = {w.rsplit(".", 1)[-1]: w for w in reversed(words)}
        close = [last[w] for w in difflib.get_close_matches(word.rsplit(".", 1)[-1], last, n=1, cutoff=0.6)]
    return f": did you mean '{close[0]}'?" if close else ""


def check_arguments(cfg: DictConfig) -> None:
    """Raise ValueError for the first key that the part it is given to does not take.

    Partial parts (an optimiser) would otherwise only complain once the data are loaded.
    """
    import inspect

    from hydra.utils import get_object

    def look(node: Any, where: str) -> None:
        if isinstance(node, list):
            for i, part in enumerate(node):
                look(part, f"{where}.{i}")
        if not isinstance(node, dict):
            return
        target = node.get("_target_")
        if target is not None:
            try:
                takes = inspect.signature(get_object(target)).parameters
            except (ImportError, ValueError) as error:
                raise ValueError(f"{where}._target_={target} can not be loaded: {error}") from error
            if not any(p.kind == p.VAR_KEYWORD for p in takes.values()):
                for key in node:
                    if not key.startswith("_") and key not in takes:
                        raise ValueError(
                            f"{target} takes no '{key}' ({where}.{key}){_nearest(key, list(takes))}; "
                            f"remove it with ~{where}.{key}"
                        )
        for key, part in node.items():
            look(part, f"{where}.{key}" if where else str(key))

    look(OmegaConf.to_container(cfg, resolve=True), "")
