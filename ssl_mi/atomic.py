"""Files that are replaced whole or not at all.

What is written goes to a file beside its target, on the same filesystem, reaches the disk, and only then takes the
target's name in one step. Whenever the process is killed or the disk is full, the target is the old file, whole, or
the new one, whole. A process that is killed leaves its partial file behind; `remove_orphans` finds it later.
"""

from __future__ import annotations

import contextlib
import io
import os
import socket
import time
from pathlib import Path
from typing import Any

PREFIX = ".partial."  # .partial.<host>.<process>.<name of the target>: the target keeps its ending
OLD = 24 * 3600  # seconds after which a partial file of another machine is nobody's


def write(path: str | Path, content: bytes | bytearray | memoryview | str) -> Path:
    """Write a file, or leave what was there before as it was.

    Args:
        path: the target; missing folders above it are made. A link is replaced, not followed.
        content: all of it; text is written as UTF-8.

    Returns:
        The target.

    Raises:
        OSError: it cannot be written; the message names the target and, where space is short, the bytes needed.
    """
    path = Path(path)
    data = memoryview(content.encode() if isinstance(content, str) else content).cast("B")
    partial = path.with_name(f"{PREFIX}{_host()}.{os.getpid()}.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        if isinstance(error, OSError):
            raise OSError(error.errno, _explain(path, len(data), error)) from error
        raise
    _sync_folder(path.parent)
    return path


def write_figure(path: str | Path, figure: Any, **options: Any) -> Path:
    """`figure.savefig(path, **options)` of matplotlib, whole or not at all.

    Texts are drawn as they stand: the name of a class may hold a $, which is no mathematics.
    """
    for text in figure.findobj(lambda artist: hasattr(artist, "set_parse_math")):
        text.set_parse_math(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format=Path(path).suffix.lstrip(".") or "png", **options)
    return write(path, buffer.getbuffer())


def remove_orphans(folder: str | Path) -> list[Path]:
    """Remove the partial files that killed processes left in a folder, not those still being written.

    A file of this machine goes when its process is gone; one of another machine when it is a day old.
    """
    removed = []
    for partial in Path(folder).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if _is_orphan(partial):
                partial.unlink()
                removed.append(partial)
    return removed


def _is_orphan(partial: Path) -> bool:
    host, _, rest = partial.name.removeprefix(PREFIX).partition(".")
    process = rest.partition(".")[0]
    if host != _host() or not process.isdigit():
        return time.time() - partial.stat().st_mtime > OLD
    return int(process) == os.getpid() or not _runs(int(process))


def _runs(process: int) -> bool:
    if os.name == "nt":  # there, signal 0 would end it
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _host() -> str:
    return socket.gethostname().replace(".", "-").replace("/", "-") or "localhost"


def _explain(path: Path, size: int, error: OSError) -> str:
    why = error.strerror or str(error)
    kept = "; the file that is there is kept as it was" if path.exists() else ""
    return f"{why}: cannot write {path}, which needs {size:,} bytes{kept}"


def _sync_folder(folder: Path) -> None:
    """Let the new name reach the disk too, where folders can be opened."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
