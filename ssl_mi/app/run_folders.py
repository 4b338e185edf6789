"""Finding the folders of runs, and what each recorded."""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ssl_mi.report.document import JSON, read_document
from ssl_mi.report.summary import ending

UNFINISHED = "unfinished"
LOG = "train.log"  # of Hydra, see conf/hydra/job_logging
INSIDE = {"checkpoints", "logs", ".hydra", "tensorboard", "wandb", "mlruns", "__pycache__", ".git"}


class Found(NamedTuple):
    """A run's folder.

    Attributes:
        folder: Where it is.
        state: "complete", "stopped", "diverged", or "unfinished": it has no report, since it is on its way or was
            killed.
        why: In words, where it is not complete.
        document: Of its report.json; empty of an unfinished run.
    """

    folder: Path
    state: str
    why: str
    document: dict[str, Any]


def find_runs(places: Iterable[str | Path]) -> list[Found]:
    """The runs in these places, each once, in the order of their names.

    Args:
        places: Folders of runs or above them (sweeps, `runs`), or patterns with *, ? or [.

    Raises:
        ValueError: If a place holds no run.
    """
    found: dict[Path, Found] = {}
    for place in places:
        folders = sorted((folder for given in _expanded(place) for folder in _runs_in(given)), key=_natural)
        if not folders:
            raise ValueError(f"{place} holds no run: no {JSON} and no .hydra/config.yaml in it or below")
        for folder in folders:
            found.setdefault(folder.resolve(), look(folder))
    return list(found.values())


def look(folder: Path) -> Found:
    """What is known of one run.

    Args:
        folder: Of the run.
    """
    if not (folder / JSON).is_file():
        return Found(folder, UNFINISHED, "it left no report: it is on its way, or was killed", {})
    try:
        document = read_document(folder)
    except ValueError as error:  # one damaged report must not hide the other runs
        return Found(folder, UNFINISHED, str(error), {})
    return Found(folder, *ending(document), document)


def _expanded(place: str | Path) -> list[Path]:
    path = Path(place)
    if path.is_dir():
        return [path]
    if path.is_file():  # in the folder of a run: its report
        return [path.parent] if path.parent in _runs_in(path.parent) else []
    return [Path(name) for name in sorted(glob.glob(str(place))) if Path(name).is_dir()]


def _runs_in(folder: Path) -> Iterator[Path]:
    """The folder itself if it is a run's, otherwise those below."""
    for here, inside, files in os.walk(folder):
        if JSON in files or (".hydra" in inside and "multirun.yaml" not in files):
            yield Path(here)
            inside.clear()
        inside[:] = sorted(name for name in inside if name not in INSIDE)


def _natural(folder: Path) -> tuple[str, int, str]:
    """Job 2 of a sweep before job 10."""
    return str(folder.parent), len(folder.name) if folder.name.isdigit() else 0, folder.name


def size_on_disk(folder: Path) -> int:
    """Bytes of all files of a run.

    Args:
        folder: Of the run.
    """
    total = 0
    for here, _, files in os.walk(folder):
        for name in files:
            try:
                total += os.lstat(os.path.join(here, name)).st_size
            except OSError:  # gone meanwhile
                continue
    return total


def remove_bare(folder: Path, own: str = ".hydra") -> bool:
    """Remove a folder in which no run has left anything: empty folders, Hydra's files, its log.

    Args:
        folder: Of a run that has not begun.
        own: Hydra's folder in it.

    Returns:
        Whether it was removed.
    """
    inside = list(folder.rglob("*"))
    bare = all(
        path.is_dir() or path.parent == folder / own or path == folder / LOG  # another log is somebody's own
        for path in inside
    )
    if folder.is_dir() and bare:
        shutil.rmtree(folder)
        return True
    return False


def in_words(size: int) -> str:
    """Bytes as a person writes them.

    Args:
        size: In bytes.
    """
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"
