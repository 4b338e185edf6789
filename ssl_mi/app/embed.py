"""`ssl-mi embed RUN FOLDER --out FILE`: features of any images, with the file of each row."""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssl_mi.app.export import add_choice

if TYPE_CHECKING:
    from ssl_mi.app.encoder import LoadedEncoder
    from ssl_mi.app.features import Features

SUFFIXES = (".parquet", ".npz", ".npy")

ABOUT = """\
Encode images by the encoder of a run. Every row is traced to its file; files that cannot be decoded are left out and
listed. A command that was stopped goes on where it was when it is given again."""

MORE = """\
images
  a folder (images alone, or a folder per class, whose names become labels), or a text file (.txt) with a path a line

output
  .parquet   columns file, label (where there are classes) and h; z with --z. Needs pip install 'ssl_mi[parquet]'
  .npz       arrays h, files, and labels, class_names, z where there are any
  .npy       h alone; the files are beside it in NAME.files.txt, a line a row
  Unreadable files are in NAME.unreadable.txt. Until it is whole, the work is in NAME.partial/.

examples
  ssl-mi embed runs/simclr_cifar/2026-01-01_12-00-00-000 photos --out features.parquet
  ssl-mi embed last.ckpt list.txt --out features.npy --batch-size 64 --device cuda

exit status
  0  all images encoded      1  failed: the reason on stderr      2  wrong usage
  3  encoded, but some files could not be read, when --strict was given"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments.

    Args:
        parser: Of `ssl-mi embed`, changed in place.
    """
    parser.description, parser.epilog = ABOUT, MORE
    parser.add_argument("run", metavar="RUN", help="folder of a run, or a checkpoint")
    parser.add_argument("images", metavar="FOLDER", help="a folder of images, an image, or a .txt of paths")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="features.parquet, .npz or .npy")
    parser.add_argument("--z", action="store_true", help="the projector's embeddings too; not in .npy")
    parser.add_argument("--batch-size", type=int, help="images at once; default: about two million pixels")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, mps; default: cpu")
    parser.add_argument("--strict", action="store_true", help="exit status 3 where files could not be read")
    add_choice(parser)


def run(arguments: argparse.Namespace) -> int:
    """Encode, say what was written, and return the exit status."""
    from ssl_mi.app.devices import on_device
    from ssl_mi.app.loading import load
    from ssl_mi.app.startup import clear_errors

    with clear_errors():
        check_out(arguments.out, arguments.z, arguments.batch_size)
        encoder = load(arguments.run, arguments.which, arguments.view, trust=arguments.trust)
        on_device(encoder, arguments.device)
        found = embed(encoder, arguments.images, arguments.out, arguments.batch_size, arguments.z)
    print(f"{len(found.h)} images encoded, h of {found.h.shape[1]} columns: {arguments.out}")
    if found.unreadable:
        count = f"{len(found.unreadable)} file{'s' if len(found.unreadable) > 1 else ''}"
        print(f"{count} could not be read, listed in {_beside(arguments.out, 'unreadable.txt')}:")
        for path, reason in found.unreadable[:5]:
            print(f"  {path}: {reason}")
    return 3 if found.unreadable and arguments.strict else 0


def check_out(out: Path, z: bool = False, batch_size: int | None = None) -> None:
    """Raise ValueError or FileExistsError, before anything is computed, for what cannot be written."""
    from importlib.util import find_spec

    if out.suffix not in SUFFIXES:
        raise ValueError(f"--out {out}: the name ends in {', '.join(SUFFIXES)}")
    if out.suffix == ".parquet" and find_spec("pyarrow") is None:
        raise ValueError(f"--out {out} needs pyarrow: pip install 'ssl_mi[parquet]', or write .npz")
    if out.suffix == ".npy" and z:
        raise ValueError(f"--out {out} holds one array, and --z makes two: write .npz or .parquet")
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"--batch-size {batch_size}: use a positive number of images")
    if out.exists():
        raise FileExistsError(f"--out {out} exists already: name another file, or remove it")


def embed(
    encoder: LoadedEncoder, images: str | Path, out: str | Path, batch_size: int | None = None, z: bool = False
) -> Features:
    """Encode images into a file, going on where an earlier call was stopped.

    Args:
        encoder: As `ssl_mi.load` gives it.
        images: A folder of images, an image, or a .txt of paths.
        out: features.parquet, .npz or .npy.
        batch_size: Images at once; None: about two million pixels.
        z: The projector's embeddings too.

    Returns:
        What was written.

    Raises:
        ValueError: If nothing can be encoded or written there; or if the work of an earlier call is of other images,
            another encoder or other settings.
        FileExistsError: If the file exists.
    """
    from ssl_mi.app.features import joined

    target = Path(out)
    check_out(target, z, batch_size)
    encoder.augmentation()  # which raises where it takes no images
    paths, labels, names = _listed(encoder, Path(images).expanduser())
    step = batch_size or encoder.batch_size
    partial = _beside(target, "partial")
    done = _resumed(partial, _key(encoder, paths, step, z))
    starts = range(len(done) * step, len(paths), step)
    rest = paths[len(done) * step :]
    new = encoder.encode_files(rest, step, z, None if labels is None else labels[len(done) * step :])
    for number, part in enumerate(_shown(new, len(starts), len(done)), start=len(done)):
        _save(part, partial / f"{number:06d}.npz")
        done.append(part)
    found = joined(done, names)
    if len(found.h):
        _write(found, target)
    shutil.rmtree(partial)
    if not len(found.h):
        path, reason = found.unreadable[0]
        raise ValueError(f"none of {len(paths)} images can be decoded: {path}: {reason}")
    return found


def _listed(encoder: LoadedEncoder, images: Path) -> tuple[list[str], Any, tuple[str, ...]]:
    from ssl_mi.app.encoder import files_of

    if images.suffix != ".txt":
        if images.is_file():
            return [str(images)], None, ()
        return files_of(images, encoder.class_names)
    paths = [line.strip() for line in images.read_text().splitlines() if line.strip()]
    if not paths:
        raise ValueError(f"{images} names no files: write a path a line")
    return paths, None, ()


def _key(encoder: LoadedEncoder, paths: Sequence[str], step: int, z: bool) -> dict[str, Any]:
    """What must be the same for a stopped call to go on."""
    weights = hashlib.sha256()
    for name, x in encoder.state_dict().items():
        weights.update(name.encode())
        weights.update(x.detach().cpu().contiguous().numpy().tobytes())
    listed = hashlib.sha256("\n".join(paths).encode()).hexdigest()
    prepared = json.dumps([encoder.preprocessing, encoder.view])
    return {"encoder": weights.hexdigest(), "preprocessing": prepared, "files": listed, "images at once": step, "z": z}


def _resumed(partial: Path, key: dict[str, Any]) -> list[Features]:
    """The batches that an earlier call has encoded; the folder is made where there was none."""
    record = partial / "of.json"
    if not record.is_file():
        partial.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps(key))
        return []
    earlier = json.loads(record.read_text())
    if changed := [name for name, value in key.items() if earlier.get(name) != value]:
        raise ValueError(
            f"{partial} holds the work of a call that was stopped, with another {' and '.join(changed)}: give the same "
            "command to go on, or remove that folder to start anew"
        )
    found: list[Features] = []
    while (path := partial / f"{len(found):06d}.npz").is_file():
        found.append(_load(path))
    return found


def _save(part: Features, path: Path) -> None:
    import numpy as np

    arrays: dict[str, Any] = {"h": part.h.numpy(), "files": np.array(part.files, dtype=str)}
    arrays |= {"unreadable": np.array(part.unreadable, dtype=str).reshape(-1, 2)}
    arrays |= {} if part.z is None else {"z": part.z.numpy()}
    arrays |= {} if part.labels is None else {"labels": part.labels.numpy()}
    unfinished = path.with_suffix(".unfinished")
    with unfinished.open("wb") as file:
        np.savez(file, **arrays)
    unfinished.replace(path)  # a killed call leaves whole batches only


def _load(path: Path) -> Features:
    import numpy as np
    import torch

    from ssl_mi.app.features import Features

    with np.load(path, allow_pickle=False) as arrays:
        z, labels = (torch.from_numpy(arrays[name]) if name in arrays else None for name in ("z", "labels"))
        unreadable = tuple((str(file), str(reason)) for file, reason in arrays["unreadable"])
        return Features(
            torch.from_numpy(arrays["h"]), z, tuple(map(str, arrays["files"])), labels, unreadable=unreadable
        )


def _shown(parts: Any, total: int, before: int) -> Any:
    """The parts, with a bar on a terminal and a line at the start elsewhere."""
    import sys

    from rich.console import Console
    from rich.progress import track

    if before:
        print(f"going on after {before} batches that were encoded before", file=sys.stderr)
    console = Console(stderr=True, markup=False, emoji=False)
    return track(parts, "encoding", total=total, console=console, disable=not sys.stderr.isatty())


def _beside(out: Path, what: str) -> Path:
    return out.with_name(f"{out.stem}.{what}")


def _write(found: Features, out: Path) -> None:
    """The file, in one step, and beside it what it cannot hold."""
    import numpy as np

    out.parent.mkdir(parents=True, exist_ok=True)
    if found.unreadable:
        lines = [f"{path}\t{' '.join(reason.split())}" for path, reason in found.unreadable]
        _beside(out, "unreadable.txt").write_text("\n".join(lines) + "\n")
    unfinished = out.with_name(f"{out.name}.unfinished")
    if out.suffix == ".parquet":
        _write_parquet(found, unfinished)
    elif out.suffix == ".npy":
        _beside(out, "files.txt").write_text("\n".join(found.files) + "\n")
        with unfinished.open("wb") as file:
            np.save(file, found.h.numpy())
    else:
        arrays: dict[str, Any] = {"h": found.h.numpy(), "files": np.array(found.files, dtype=str)}
        arrays |= {} if found.z is None else {"z": found.z.numpy()}
        if found.labels is not None:
            arrays |= {"labels": found.labels.numpy(), "class_names": np.array(found.class_names, dtype=str)}
        with unfinished.open("wb") as file:
            np.savez(file, **arrays)
    unfinished.replace(out)


def _write_parquet(found: Features, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {"file": pa.array(found.files, pa.string())}
    if found.labels is not None:
        columns["label"] = pa.array([found.class_names[label] for label in found.labels.tolist()], pa.string())
    for name, x in (("h", found.h), ("z", found.z)):
        if x is not None:
            columns[name] = pa.FixedSizeListArray.from_arrays(pa.array(x.numpy().ravel()), x.shape[1])
    pq.write_table(pa.table(columns), path)
