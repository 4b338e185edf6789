"""The description that a checkpoint carries: its format, and what makes one of an earlier format today's.

A change that this version could not read otherwise (a key or a class of the configuration has another name, an entry
of the description has another meaning) raises `FORMAT` and adds a function to `MIGRATIONS`:

    @migration(of=3)
    def _four(description):
        ...                     # format 3 to format 4: change the mapping in place

A description of format 1 then passes through all of them. One of a later format is refused by name.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, MutableMapping
from pathlib import Path
from typing import Any

KEY = "ssl_mi"  # of the description in a checkpoint
FORMAT = 3

Migration = Callable[[dict[str, Any]], None]
MIGRATIONS: dict[int, Migration] = {}  # format -> what makes the next of it


def migration(of: int) -> Callable[[Migration], Migration]:
    """Register a function that makes a description of the next format out of one of this format, in place.

    Args:
        of: The format that it takes.
    """

    def register(function: Migration) -> Migration:
        MIGRATIONS[of] = function
        return function

    return register


def description_of(checkpoint: Mapping[str, Any], path: str | Path) -> dict[str, Any]:
    """The description that a checkpoint carries, in today's format; the checkpoint stays as it is.

    Args:
        checkpoint: As it was read.
        path: Its file, for messages.

    Raises:
        ValueError: If it carries none, or one of a format that this version does not read.
    """
    found = checkpoint.get(KEY)
    if not isinstance(found, dict) or "format" not in found:
        raise ValueError(
            f"{path} does not describe its networks: it was not written by `ssl-mi train` or `ssl_mi.train`, or by an "
            "earlier version; build the module and use its load_state_dict, or train with "
            "ssl_mi.callbacks.Provenance among the callbacks"
        )
    written = found["format"]
    if written == FORMAT:
        return found
    if written not in MIGRATIONS:
        raise ValueError(
            f"{path} is a checkpoint of format {written} and this version reads formats "
            f"{min(MIGRATIONS)} to {FORMAT}: it was written by {writer(found)}, use that version"
        )
    made = copy.deepcopy(found)
    try:
        for number in range(written, FORMAT):
            MIGRATIONS[number](made)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is damaged: its description is not one of format {written} ({type(error).__name__}: {error})"
        ) from error
    return made | {"format": FORMAT}


def writer(description: Mapping[str, Any]) -> str:
    """The version and commit that wrote a checkpoint, in words.

    Args:
        description: What the checkpoint carries.
    """
    versions = description.get("versions")
    version = versions.get("ssl_mi") if isinstance(versions, Mapping) else None
    commit = description.get("commit")
    return f"ssl_mi {version or 'of another version'}" + (f", commit {commit}" if commit else "")


def rename(part: Any, keys: Mapping[str, str], targets: Mapping[str, str]) -> None:
    """Rename keys and `_target_`s of a configuration, in place.

    Args:
        part: Mappings and lists of plain values.
        keys: The last parts of a key, as towers.together -> the name of the last of them today. A resolved
            configuration repeats its parts.
        targets: Import path -> import path today, wherever it stands.
    """

    def walk(inner: Any, prefix: str) -> None:
        if isinstance(inner, MutableMapping):
            target = str(inner.get("_target_", ""))
            if target in targets:
                inner["_target_"] = targets[target]
            for name in list(inner):
                full = f".{prefix}{name}"
                today = next((new for old, new in keys.items() if full.endswith(f".{old}")), None)
                if today is not None:
                    inner[today] = inner.pop(name)
                walk(inner.get(today or name), f"{prefix}{name}.")
        elif isinstance(inner, list):
            for i, value in enumerate(inner):
                walk(value, f"{prefix}{i}.")

    walk(part, "")


# --- the formats ------------------------------------------------------------------------------------------------------


@migration(of=1)
def _two(description: dict[str, Any]) -> None:
    """Names in the configuration that are others since."""
    rename(
        description["config"],
        keys={"towers.together": "joint_forward"},
        targets={f"ssl_mi.callbacks.schedule.{name}": f"ssl_mi.callbacks.{name}" for name in ("Freeze", "Schedule")},
    )


@migration(of=2)
def _three(description: dict[str, Any]) -> None:
    """The rows of a queue are `queue` in every objective."""
    queued = ("MoCo", "NNCLR", "ReSSL", "DenseContrast", "NearestTargets")

    def walk(inner: Any) -> None:
        if isinstance(inner, MutableMapping):
            package, _, name = str(inner.get("_target_", "")).rpartition(".")
            if package.startswith("ssl_mi") and name in queued and "size" in inner:
                inner["queue"] = inner.pop("size")
            inner = list(inner.values())
        for value in inner if isinstance(inner, list) else ():
            walk(value)

    walk(description["config"])
