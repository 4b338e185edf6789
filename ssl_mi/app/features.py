"""What encoding images gives: a row for each image, in their order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Features(NamedTuple):
    """Images encoded: row i of each is one image.

    Attributes:
        h: Representations, float32 `[n, h_dim]`, on the CPU.
        z: Embeddings, float32 `[n, z_dim]`; None unless they were asked for.
        files: The file of each row, of images that were read from files; else empty.
        labels: int64 `[n]` into `class_names`, of folders with a folder per class and of loaders with labels; else
            None.
        class_names: What the labels stand for; empty where they are numbers only.
        unreadable: (file, reason) of the files that could not be decoded; they have no row.
    """

    h: Tensor
    z: Tensor | None = None
    files: tuple[str, ...] = ()
    labels: Tensor | None = None
    class_names: tuple[str, ...] = ()
    unreadable: tuple[tuple[str, str], ...] = ()


def joined(parts: Sequence[Features], class_names: Sequence[str] = ()) -> Features:
    """The features of parts, one after the other; parts without rows only add what was unreadable.

    Args:
        parts: All with labels, or none of them.
        class_names: What the labels stand for.

    Raises:
        ValueError: If some have labels and others have none.
    """
    some = [part for part in parts if len(part.h)] or list(parts[:1])
    z = [part.z for part in some if part.z is not None]
    labels = [part.labels for part in some if part.labels is not None]
    if 0 < len(labels) < len(some):
        raise ValueError(f"{len(labels)} of {len(some)} batches have labels: give all of them labels, or none")
    return Features(
        torch.cat([part.h for part in some]),
        torch.cat(z) if z else None,
        tuple(path for part in some for path in part.files),
        torch.cat(labels) if labels else None,
        tuple(class_names),
        tuple(pair for part in parts for pair in part.unreadable),
    )
