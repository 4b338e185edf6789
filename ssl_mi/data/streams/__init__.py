"""Streams: sets that are read from one end to the other, a shard at a time, and never by row.

    shards       what a shard holds: tar archives (WebDataset), iterable Hugging Face sets
    order        which samples come when: a pure function of (seed, epoch), for any number of processes and workers
    module       the data modules

Names are imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ssl_mi import _lazy

if TYPE_CHECKING:
    from ssl_mi.data.streams.module import HuggingFaceStream, StreamData, WebDataset
    from ssl_mi.data.streams.shards import HuggingFaceShards, Sample, Scan, Shards, TarShards

__all__ = [
    "HuggingFaceShards",
    "HuggingFaceStream",
    "Sample",
    "Scan",
    "Shards",
    "StreamData",
    "TarShards",
    "WebDataset",
]

__getattr__, __dir__ = _lazy.attach(
    __name__,
    {
        "module": ("HuggingFaceStream", "StreamData", "WebDataset"),
        "shards": ("HuggingFaceShards", "Sample", "Scan", "Shards", "TarShards"),
    },
)
