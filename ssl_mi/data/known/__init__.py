"""Views whose mutual information is known exactly.

On photographs nobody knows I(X; Y), so the share of it that an encoder kept is unknown. Here the two views of a
pair are drawn from latents whose mutual information has a closed form:

    V_v = render(u_v, nuisance_v),   v = 1, 2

If u_v can be recovered from V_v, u_v = g(V_v), and the nuisances are independent of each other and of (u_1, u_2), then

    I(V_1; V_2) >= I(u_1; u_2)   by data processing, for u_v is a function of V_v;
    I(V_1; V_2) <= I(u_1; u_2)   by data processing, for V_1 - u_1 - u_2 - V_2 is a Markov chain.

So both are equal, whatever the pictures look like. What each generator has to show is the first premise, that
rendering and rounding to 8 bits lose nothing of u: the argument stands in its docstring, the decoder in its test.

    digits     shared_class, finite_set, patches     real handwritten digits
    circle     rotation, shift                       an angle
    sphere     sphere                                a direction, von Mises-Fisher
    blob       gaussian_blob                         up to four Gaussian latents
    sprites    sprites                               any of six discrete factors
    captions   caption                               a sprite and a sentence about it
    glyphs     glyphs                                a letter and its name in Unicode
    halves     halves                                two halves with equally many parts

views.KnownViews is the contract, data.KnownData brings a generator to training.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ssl_mi import _lazy

if TYPE_CHECKING:
    from ssl_mi.data.known.blob import GaussianBlob
    from ssl_mi.data.known.captions import Caption
    from ssl_mi.data.known.circle import Rotation, Shift
    from ssl_mi.data.known.data import KnownData
    from ssl_mi.data.known.digits import FiniteSet, Patches, SharedClass
    from ssl_mi.data.known.glyphs import Glyphs
    from ssl_mi.data.known.halves import Halves
    from ssl_mi.data.known.images import KnownImages
    from ssl_mi.data.known.sphere import Sphere
    from ssl_mi.data.known.sprites import Sprites
    from ssl_mi.data.known.views import KnownViews

__all__ = [
    "Caption",
    "FiniteSet",
    "GaussianBlob",
    "Glyphs",
    "Halves",
    "KnownData",
    "KnownImages",
    "KnownViews",
    "Patches",
    "Rotation",
    "SharedClass",
    "Shift",
    "Sphere",
    "Sprites",
]

__getattr__, __dir__ = _lazy.attach(
    __name__,
    {
        "blob": ("GaussianBlob",),
        "captions": ("Caption",),
        "circle": ("Rotation", "Shift"),
        "data": ("KnownData",),
        "digits": ("FiniteSet", "Patches", "SharedClass"),
        "glyphs": ("Glyphs",),
        "halves": ("Halves",),
        "images": ("KnownImages",),
        "sphere": ("Sphere",),
        "sprites": ("Sprites",),
        "views": ("KnownViews",),
    },
)
