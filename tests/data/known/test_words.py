"""Sentences are what the tokenizer says they are."""

import pytest
import torch

from ssl_mi.data.known.captions import Caption
from ssl_mi.data.known.glyphs import Glyphs
from ssl_mi.data.known.views import Pairs
from ssl_mi.data.known.words import Words, join


@pytest.mark.parametrize(
    "make", [lambda: Caption(named=["shape", "position", "background"]), lambda: Glyphs(letters=40)]
)
def test_putting_tokens_together_gives_the_tokens_of_the_sentence(make):
    generator = make()
    of = Pairs(0, 0, 0, torch.arange(50))
    tokens = generator.render(generator.latents(of)[1], of, 1)
    sentences = generator.words.texts(tokens)
    assert torch.equal(generator.words.ids(sentences, length=generator.length), tokens)
    assert len(set(map(len, map(str.split, sentences)))) > 1


def test_a_closed_vocabulary_refuses_other_words_and_longer_phrases():
    words = Words(["A small star", "a BIG star"])
    assert len(words) == 5  # with the padding
    assert words.texts(words.ids(["big Star", "a"])) == ["big star", "a"]
    assert words.ids(["big star", "a"])[1].tolist() == [1, 0]
    with pytest.raises(ValueError, match="'green' of 'a green star' is not among the 5"):
        words.ids(["a green star"])
    with pytest.raises(ValueError, match="3 words, more than length=2"):
        words.ids(["a big star"], length=2)


def test_phrases_side_by_side_keep_their_words_in_order():
    phrases = torch.tensor([[[1, 2, 0], [3, 0, 0], [4, 5, 6]], [[0, 0, 0], [7, 8, 0], [9, 0, 0]]])
    assert join(phrases, 6).tolist() == [[1, 2, 3, 4, 5, 6], [7, 8, 9, 0, 0, 0]]
