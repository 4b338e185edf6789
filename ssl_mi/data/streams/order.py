"""Which samples of a stream come when: a pure function of (seed, epoch).

The shards of an epoch are put in a random order, one behind the other, and cut into equal stretches, one a *reader*. A
reader goes through its stretch from its beginning, with a shuffle buffer of its own: it fills the buffer, and from then
on hands out a random one of the buffer and puts the next in its place. A batch of B samples has B / R of each of the R
readers. Readers are divided over processes and worker processes, so the batches are the same for any number of both; no
sample comes twice in an epoch, and fewer than a batch are left out.

To go on inside an epoch, a reader goes through its stretch again and hands out nothing until it is where it was: images
are not read until they are decoded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple, TypeVar

import numpy as np

from ssl_mi.data.streams.shards import Sample, Shards

T = TypeVar("T")


class Piece(NamedTuple):
    """Samples that stand side by side in a shard.

    Attributes:
        shard: Its number.
        first: The first of them.
        size: How many.
    """

    shard: int
    first: int
    size: int


def stretches(counts: Sequence[int], readers: int, seed: int, epoch: int) -> list[list[Piece]]:
    """The pieces that each reader goes through in an epoch, with equally many samples a reader.

    Args:
        counts: Samples of each shard.
        readers: R.
        seed: Of the run.
        epoch: Its number.
    """
    order = np.random.default_rng([seed, epoch]).permutation(len(counts)).tolist()
    each = sum(counts) // readers
    found: list[list[Piece]] = [[] for _ in range(readers)]
    start = 0  # of the shard, in the epoch
    for shard in order:
        end = start + counts[shard]
        for reader in range(readers):
            low, high = max(start, reader * each), min(end, (reader + 1) * each)
            if low < high:
                found[reader].append(Piece(shard, low - start, high - low))
        start = end
    return found


def shuffled(items: Iterator[T], size: int, rng: np.random.Generator) -> Iterator[T]:
    """The items in an order that a buffer of `size` makes.

    Args:
        items: The items, of which `size` are held at a time.
        size: 1 leaves the order as it is.
        rng: Draws.
    """
    buffer = list(islice(items, size))
    for item in items:
        slot = int(rng.integers(len(buffer)))
        yield buffer[slot]
        buffer[slot] = item
    yield from (buffer[i] for i in rng.permutation(len(buffer)))


def reader_samples(
    shards: Shards, counts: Sequence[int], reader: int, readers: int, shuffle: int, seed: int, epoch: int
) -> Iterator[Sample]:
    """The samples of one reader in an epoch, in order.

    Args:
        shards: The set.
        counts: Samples of each shard.
        reader: Its number.
        readers: R.
        shuffle: Samples in its buffer.
        seed: Of the run.
        epoch: Its number.

    Raises:
        ValueError: If a shard holds fewer samples than were counted.
    """

    def along() -> Iterator[Sample]:
        for piece in stretches(counts, readers, seed, epoch)[reader]:
            met = 0
            for sample in islice(shards.read(piece.shard, piece.first), piece.size):
                met += 1
                yield sample
            if met < piece.size:
                raise ValueError(
                    f"{shards.names[piece.shard]} holds {piece.first + met} samples, and {counts[piece.shard]} are "
                    "expected: was it replaced, or is data.counts wrong?"
                )

    # A key of its own for each reader and for each use: not that of the order of the shards.
    return shuffled(along(), shuffle, np.random.default_rng([seed, epoch, 1 + reader]))


def number_of(key: str) -> int:
    """A number in 0 .. 2**63 - 1 for the key of a sample, which keys its random draws.

    Args:
        key: Of the sample.
    """
    digest = hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
