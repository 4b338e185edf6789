"""Pairs: any two measurements of one thing, from files.

    ArrayData       two blocks of numbers: tables, arrays; or one table, seen twice
    ImageTextData   images and sentences
    ImagePairData   two images of one thing
    SeriesData      windows of recordings

Each is a `PairedData`: samples of several blocks (`blocks`), views that show a block with an augmentation of its own
(`views`, `ops`). A kind of one's own is a subclass with a `load`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ssl_mi import _lazy

if TYPE_CHECKING:
    from ssl_mi.data.pairs.arrays import ArrayData
    from ssl_mi.data.pairs.blocks import Blocks, ImageBlock, PairSource, TensorBlock, WindowBlock
    from ssl_mi.data.pairs.image_pairs import ImagePairData
    from ssl_mi.data.pairs.image_text import ImageTextData
    from ssl_mi.data.pairs.module import PairedData
    from ssl_mi.data.pairs.ops import (
        ArrayOp,
        Corrupt,
        Crop,
        FeatureDropout,
        FrequencyMask,
        Mask,
        Noise,
        Scale,
        TimeMask,
        Window,
    )
    from ssl_mi.data.pairs.series import SeriesData
    from ssl_mi.data.pairs.tokens import Tokenizer
    from ssl_mi.data.pairs.views import ArrayView, BlockView, ImageView, PairViews, TokenView

__all__ = [  # noqa: RUF022 - grouped
    # data
    "ArrayData",
    "ImagePairData",
    "ImageTextData",
    "PairedData",
    "SeriesData",
    # samples
    "Blocks",
    "ImageBlock",
    "PairSource",
    "TensorBlock",
    "Tokenizer",
    "WindowBlock",
    # views
    "PairViews",
    "BlockView",
    "ArrayView",
    "ImageView",
    "TokenView",
    # augmentation of arrays
    "ArrayOp",
    "Corrupt",
    "Crop",
    "FeatureDropout",
    "FrequencyMask",
    "Mask",
    "Noise",
    "Scale",
    "TimeMask",
    "Window",
]

__getattr__, __dir__ = _lazy.attach(
    __name__,
    {
        "arrays": ("ArrayData",),
        "blocks": ("Blocks", "ImageBlock", "PairSource", "TensorBlock", "WindowBlock"),
        "image_pairs": ("ImagePairData",),
        "image_text": ("ImageTextData",),
        "module": ("PairedData",),
        "ops": (
            "ArrayOp",
            "Corrupt",
            "Crop",
            "FeatureDropout",
            "FrequencyMask",
            "Mask",
            "Noise",
            "Scale",
            "TimeMask",
            "Window",
        ),
        "series": ("SeriesData",),
        "tokens": ("Tokenizer",),
        "views": ("ArrayView", "BlockView", "ImageView", "PairViews", "TokenView"),
    },
)
