"""Images that are in two splits: what is measured on held-out images is not held out of these."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ssl_mi.data.contracts import Images
from ssl_mi.data.images.decoding import File
from ssl_mi.data.images.encoded import EncodedImage, EncodedImages
from ssl_mi.data.images.memory import TensorImages

MOST = 100_000  # images of a split that are compared; beyond that nothing is looked for
_HASHED_GB = 2.0  # the most that is read, in files or in memory


def shared_images(train: Images, held_out: Images) -> int | None:
    """How many images of `held_out` are also in `train`, byte for byte.

    Images in memory are compared by their pixels, files by their size and then by their content.

    Returns:
        None where that is not looked for: too many images, one split in memory and one in files, other kinds.
    """
    if max(len(train), len(held_out)) > MOST:
        return None
    if isinstance(train, TensorImages) and isinstance(held_out, TensorImages):
        if (train.pixels.numel() + held_out.pixels.numel()) > _HASHED_GB * 1e9:
            return None
        known = set(_of_pixels(train))
        return sum(key in known for key in _of_pixels(held_out))
    paths = [getattr(images, "paths", None) for images in (train, held_out)]
    if paths[0] is None or paths[1] is None:
        return None
    if any(isinstance(some, EncodedImages) for some in paths):  # whose size is not known before they are read
        return _shared_encoded(paths[0], paths[1])
    return _shared_files(paths[0], paths[1])


def describe(found: Mapping[str, int | None]) -> str:
    """A sentence on splits that share images with the training images; "" where none does.

    Args:
        found: Split -> images that are also training images.
    """
    some = [f"{count:,} {name}" for name, count in found.items() if count]
    if not some:
        return ""
    return (
        f"{' and '.join(some)} images are also training images, byte for byte: what is measured on them is not held out"
    )


def _of_pixels(images: TensorImages) -> list[bytes]:
    return [_key(image.numpy().tobytes()) for image in images.pixels.contiguous()]


def _key(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=12).digest()


def _shared_files(train: Sequence[str], held_out: Sequence[str]) -> int | None:
    by_size: dict[int, list[str]] = {}
    for path in train:
        by_size.setdefault(_size(path), []).append(path)
    candidates = [(path, size) for path in held_out if (size := _size(path)) > 0 and size in by_size]
    sizes = {size for _, size in candidates}
    if sum(size * len(by_size[size]) for size in sizes) + sum(size for _, size in candidates) > _HASHED_GB * 1e9:
        return None
    known = {size: {_content(path) for path in by_size[size]} for size in sizes}
    return sum(_content(path) in known[size] for path, size in candidates)


def _shared_encoded(train: Iterable[File], held_out: Iterable[File]) -> int | None:
    keys: list[list[bytes]] = [[], []]
    read = 0
    for split, images in zip(keys, (train, held_out), strict=True):
        for image in images:
            try:
                content = image.read() if isinstance(image, EncodedImage) else Path(image).read_bytes()
            except (OSError, ValueError):  # named when it is decoded
                continue
            read += len(content)
            if read > _HASHED_GB * 1e9:
                return None
            split.append(_key(content))
    known = set(keys[0])
    return sum(key in known for key in keys[1])


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:  # named when it is decoded
        return -1


def _content(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return _key(file.read())
    except OSError:
        return path.encode("utf-8", "surrogateescape")
