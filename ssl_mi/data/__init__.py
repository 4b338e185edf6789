"""Data: sources of images, augmentations that make views of them, and the batches of a run.

Sub-modules: `known`, views whose mutual information is known; `pairs`, any two measurements of one thing;
`streams`, sets that are read a shard at a time. Names are imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ssl_mi import _lazy

if TYPE_CHECKING:
    from ssl_mi.data import known, pairs, streams
    from ssl_mi.data.batch import Batch, PlacedBatch, Source
    from ssl_mi.data.draws import Draws
    from ssl_mi.data.huggingface import HuggingFaceData, HuggingFaceImages
    from ssl_mi.data.images.augmentations import Augmentation, View, local_size
    from ssl_mi.data.images.colour import Chrominance, ColorJitter, Grayscale, Luminance, Solarize
    from ssl_mi.data.images.digits import Digits
    from ssl_mi.data.images.folder import ImageFolder
    from ssl_mi.data.images.geometry import GaussianBlur, HorizontalFlip, RandomResizedCrop, Rotation, WrapShift
    from ssl_mi.data.images.image_arrays import ImageArrays
    from ssl_mi.data.images.memory import TensorImages
    from ssl_mi.data.images.module import ImageData
    from ssl_mi.data.images.ops import Op
    from ssl_mi.data.images.shapes import EmbeddedShapes, draw_shapes
    from ssl_mi.data.images.torchvision_sets import TorchvisionSet
    from ssl_mi.data.module import DataModule
    from ssl_mi.data.sets import ImageSet, SampleSet, Sets

__all__ = [  # noqa: RUF022 - grouped
    # sources of images
    "Digits",
    "EmbeddedShapes",
    "HuggingFaceImages",
    "ImageArrays",
    "ImageFolder",
    "ImageSet",
    "SampleSet",
    "Sets",
    "TensorImages",
    "TorchvisionSet",
    "draw_shapes",
    # splits and batches
    "Batch",
    "DataModule",
    "PlacedBatch",
    "HuggingFaceData",
    "ImageData",
    "Source",
    # views
    "Augmentation",
    "View",
    "Op",
    "Draws",
    "Chrominance",
    "ColorJitter",
    "GaussianBlur",
    "Grayscale",
    "HorizontalFlip",
    "Luminance",
    "RandomResizedCrop",
    "Rotation",
    "Solarize",
    "WrapShift",
    "local_size",
    # views with known mutual information
    "known",
    # any two measurements of one thing
    "pairs",
    # sets that are read a shard at a time
    "streams",
]

__getattr__, __dir__ = _lazy.attach(
    __name__,
    {
        "images.augmentations": ("Augmentation", "View", "local_size"),
        "batch": ("Batch", "PlacedBatch", "Source"),
        "images.colour": ("Chrominance", "ColorJitter", "Grayscale", "Luminance", "Solarize"),
        "images.digits": ("Digits",),
        "draws": ("Draws",),
        "huggingface": ("HuggingFaceData", "HuggingFaceImages"),
        "images.folder": ("ImageFolder",),
        "images.geometry": ("GaussianBlur", "HorizontalFlip", "RandomResizedCrop", "Rotation", "WrapShift"),
        "images.image_arrays": ("ImageArrays",),
        "images.memory": ("TensorImages",),
        "images.module": ("ImageData",),
        "module": ("DataModule",),
        "images.ops": ("Op",),
        "sets": ("ImageSet", "SampleSet", "Sets"),
        "images.shapes": ("EmbeddedShapes", "draw_shapes"),
        "images.torchvision_sets": ("TorchvisionSet",),
    },
    ("known", "pairs", "streams"),
)
