"""Single images of a generator, and what is known of each."""

from __future__ import annotations

import torch

from ssl_mi.data.images.memory import TensorImages
from ssl_mi.data.known.views import KnownViews, Pairs
from ssl_mi.data.sets import ImageSet, Sets

_ROWS = 256  # drawn at a time


def first_views(known: KnownViews, pairs: Pairs) -> ImageSet:
    """View 0 of these pairs, with every factor of u_1 and the label, where there is one."""
    images, factors = [], []
    for rows in pairs.index.split(_ROWS):
        some = pairs._replace(index=rows)
        u, _ = known.latents(some)
        images.append(known.render(u, some, 0))
        factors.append(known.factors(u))
    of = {name: torch.cat([f[name] for f in factors]) for name in factors[0]}
    labels = None if known.label is None else of[known.label]
    names = () if labels is None else known.class_names
    return ImageSet(known.name, TensorImages(torch.cat(images)), labels, names, of)


class KnownImages:
    """`train` and `test` images of `known`, to be augmented like photographs, but of known factors.

    The same images in every run with the same `seed`; validation images come out of `train`. Two augmentations of one
    image share what the augmentation leaves, whatever the generator's own two views would share.

    Args:
        known: The generator, a `KnownViews`.
        train, test: How many images.
        seed: Of the images.

    Raises:
        ValueError: Unless both numbers are positive.
    """

    def __init__(self, known: KnownViews, train: int, test: int, seed: int = 0) -> None:
        for name, count in {"train": train, "test": test}.items():
            if count < 1:
                raise ValueError(f"data.sets.{name}={count}: use a positive number of images")
        self.known, self.train, self.test, self.seed = known, train, test, seed

    def load(self) -> Sets:
        """Both splits, drawn now."""
        train, test = (
            first_views(self.known, Pairs(self.seed, split, 0, torch.arange(n)))
            for split, n in enumerate((self.train, self.test))
        )
        return Sets(train, test)
