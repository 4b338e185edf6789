"""A sentence's representation is that of its words, in their order."""

import pytest
import torch

from ssl_mi.networks.text import TextEncoder


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return TextEncoder(vocabulary=20, width=8, out_dim=12, layers=2)


def test_padding_says_nothing(encoder):
    words = torch.tensor([[3, 7, 5], [9, 0, 0]])
    padded = torch.cat([words, torch.zeros(2, 4, dtype=torch.int64)], 1)
    assert encoder(padded).shape == (2, encoder.out_dim)
    # Other lengths and batches are other sums: equal up to float32's rounding.
    torch.testing.assert_close(encoder(padded), encoder(words))
    torch.testing.assert_close(encoder(words)[1:], encoder(torch.tensor([[9]])))


def test_words_and_their_order_say_something(encoder):
    h = encoder(torch.tensor([[3, 7, 5], [5, 7, 3], [3, 7, 6]]))
    assert (h[0] - h[1]).abs().max() > 1e-3
    assert (h[0] - h[2]).abs().max() > 1e-3


def test_the_gradient_reaches_every_word_that_is_there(encoder):
    encoder(torch.tensor([[3, 7, 0]])).sum().backward()
    reached = encoder.embedding.weight.grad.abs().sum(1) > 0
    assert reached.nonzero()[:, 0].tolist() == [3, 7]


def test_a_sentence_without_words_is_zero(encoder):
    assert encoder(torch.zeros(1, 3, dtype=torch.int64)).abs().max() == 0


def test_pictures_and_unknown_tokens_are_refused(encoder):
    with pytest.raises(ValueError, match="towers=image_text"):
        encoder(torch.rand(2, 3, 8, 8))
    with pytest.raises(ValueError, match=r"token 20 is outside .* text_encoder\.vocabulary=21"):
        encoder(torch.tensor([[20]]))
    with pytest.raises(ValueError, match="out_dim=0"):
        TextEncoder(vocabulary=4, out_dim=0)
