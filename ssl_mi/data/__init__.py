"""Data: sources of images, augmentations that make views of them, and the batches of a run.

Sub-module `known`: views whose mutual information is known. Names are imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ssl_mi import _lazy

if TYPE_CHECKING:
    from ssl_mi.data import known
    from ssl_mi.data.augmentations import Augmentation, View, local_size
    from ssl_mi.data.batch import Batch, Source
    from ssl_mi.data.colour import Chrominance, ColorJitter, Grayscale, Luminance, Solarize
    from ssl_mi.data.digits import Digits
    from ssl_mi.data.draws import Draws
    from ssl_mi.data.folder import ImageFolder
    from ssl_mi.data.geometry import GaussianBlur, HorizontalFlip, RandomResizedCrop, Rotation, WrapShift
    from ssl_mi.data.image_arrays import ImageArrays
    from ssl_mi.data.memory import TensorImages
    from ssl_mi.data.modules import DataModule, ImageData
    from ssl_mi.data.ops import Op
    from ssl_mi.data.sets import ImageSet, SampleSet, Sets
    from ssl_mi.data.shapes import EmbeddedShapes, draw_shapes
    from ssl_mi.data.torchvision_sets import TorchvisionSet

__all__ = [  # noqa: RUF022 - grouped
    # sources of images
    "Digits",
    "EmbeddedShapes",
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
]

__getattr__, __dir__ = _lazy.attach(
    __name__,
    {
        "augmentations": ("Augmentation", "View", "local_size"),
        "batch": ("Batch", "Source"),
        "colour": ("Chrominance", "ColorJitter", "Grayscale", "Luminance", "Solarize"),
        "digits": ("Digits",),
        "draws": ("Draws",),
        "folder": ("ImageFolder",),
        "geometry": ("GaussianBlur", "HorizontalFlip", "RandomResizedCrop", "Rotation", "WrapShift"),
        "image_arrays": ("ImageArrays",),
        "memory": ("TensorImages",),
        "modules": ("DataModule", "ImageData"),
        "ops": ("Op",),
        "sets": ("ImageSet", "SampleSet", "Sets"),
        "shapes": ("EmbeddedShapes", "draw_shapes"),
        "torchvision_sets": ("TorchvisionSet",),
    },
    ("known",),
)
