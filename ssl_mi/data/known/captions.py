"""A sprite and a sentence about it: two modalities that share what the sentence names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import permutations

import torch
from torch import Tensor

from ssl_mi.data.known.channel import integers
from ssl_mi.data.known.sprites import FACTORS, Sprites, check_factors
from ssl_mi.data.known.views import KnownViews, Pairs
from ssl_mi.data.known.words import Words, join

HUES = (
    ("red", "scarlet"),
    ("yellow", "golden"),
    ("green", "emerald"),
    ("cyan", "turquoise"),
    ("blue", "azure"),
    ("magenta", "pink"),
)
SIZES = (("small", "little", "tiny"), ("medium", "middling", "average"), ("large", "big", "huge"))
ROWS = (("top", "upper"), ("middle", "central"), ("bottom", "lower"))
COLUMNS = (("left",), ("centre",), ("right",))

# factor -> for each of its values, the phrases that name it, as many for each. No phrase names two values.
PHRASES: dict[str, Sequence[Sequence[str]]] = {
    "size": SIZES,
    "colour": HUES,
    "shape": (
        ("triangle", "three-sided figure"),
        ("square", "four-sided figure"),
        ("pentagon", "five-sided figure"),
        ("four-pointed star", "star of four points"),
        ("five-pointed star", "star of five points"),
    ),
    "orientation": (
        ("leaning left", "tilted anticlockwise"),
        ("upright", "not tilted"),
        ("leaning right", "tilted clockwise"),
    ),
    "position": [
        [f"{place} {r} {c}" for place in ("in the", "at the") for r in row for c in column]
        for row in ROWS
        for column in COLUMNS
    ],
    "background": [[f"{on} {hue}" for on in ("on", "against") for hue in hues] for hues in HUES],
}
NOUN = (("thing", "object", "figure"),)  # where the shape is not named
OPENINGS = (("one", "there is one", "here is one"),)


class Caption(KnownViews):
    """View 0: a sprite, all six factors drawn. View 1: a sentence naming some of them: I = their entropy.

    "on azure at the upper left one tiny scarlet five-sided figure"

    I = sum of ln (number of values) over the factors that are named. u_1 [n, 6] are all factors of the sprite, u_2
    those that are named. Nuisance of the sentence: a synonym for each word, the order of its parts.

    Exact: a sprite determines its factors (`Sprites`); no two values of a factor have a phrase in common, and none of
    a sentence's parts can be taken for another, so that the sentence determines the factors it names.

    Args:
        named: Factors that the sentence names, at least one.
        size: Side of an image, 24 or more.
    """

    name = "caption"
    columns = tuple(FACTORS)
    label = Sprites.label
    class_names = Sprites.class_names

    def __init__(self, named: Sequence[str] = ("shape", "size"), size: int = 32) -> None:
        check_factors("named", named)
        if not named:
            raise ValueError("named=[]: a sentence needs at least one factor to name")
        self.sprites = Sprites(list(FACTORS), size)
        self.size = size
        self.named = tuple(name for name in FACTORS if name in named)
        self.parts = {name: math.log(len(FACTORS[name])) if name in named else 0.0 for name in FACTORS}
        # The noun phrase: opening, adjectives, noun; then whatever else is said, in any order.
        self.adjectives = [name for name in ("size", "colour") if name in named]
        self.adjuncts = [name for name in ("orientation", "position", "background") if name in named]
        self.slots = ["opening", *self.adjectives, "shape", *self.adjuncts]
        phrases = {**PHRASES, "opening": OPENINGS, **({} if "shape" in named else {"shape": NOUN})}
        words = Words(phrase for slot in self.slots for value in phrases[slot] for phrase in value)
        self.words = words
        self.tables = [self._table(words, phrases[slot]) for slot in self.slots]
        self.orders = torch.tensor([[self.slots.index(slot) for slot in order] for order in self._orders()])
        self.length = sum(table.shape[-1] for table in self.tables)

    def _table(self, words: Words, phrases: Sequence[Sequence[str]]) -> Tensor:
        """Tokens of every synonym of every value: int64 [values, synonyms, words]."""
        ids = words.ids([phrase for value in phrases for phrase in value])
        return ids.view(len(phrases), -1, ids.shape[-1])

    def _orders(self) -> list[list[str]]:
        """Every order that the parts can come in."""
        return [
            [slot for part in parts for slot in (["opening", *adjectives, "shape"] if part == "noun" else [part])]
            for adjectives in permutations(self.adjectives)
            for parts in permutations(["noun", *self.adjuncts])
        ]

    def latents(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        first, _ = self.sprites.latents(pairs)
        return first, first[:, [self.columns.index(name) for name in self.named]]

    def render(self, u: Tensor, pairs: Pairs, view: int) -> Tensor:
        return self.sprites.render(u, pairs, view) if view == 0 else self._sentences(u, pairs)

    def _sentences(self, u: Tensor, pairs: Pairs) -> Tensor:
        said = dict(zip(self.named, u.unbind(1), strict=True))
        uniform = pairs.draws(1).uniform(len(self.slots) + 1)
        longest = max(table.shape[-1] for table in self.tables)
        parts = u.new_zeros(len(u), len(self.slots), longest)
        for i, (slot, table) in enumerate(zip(self.slots, self.tables, strict=True)):
            value = said.get(slot, torch.zeros_like(u[:, 0]))
            synonym = integers(uniform[:, i], table.shape[1])
            parts[:, i, : table.shape[-1]] = table.to(u.device)[value, synonym]
        order = self.orders.to(u.device)[integers(uniform[:, -1], len(self.orders))]
        return join(parts.gather(1, order[:, :, None].expand(-1, -1, longest)), self.length)
