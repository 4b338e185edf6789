"""A closed vocabulary: phrases -> token ids and back, by the `tokenizers` library, with nothing to download."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import WhitespaceSplit
from torch import Tensor

PAD = "[PAD]"  # id 0


class Words:
    """A word-level tokenizer that knows just the words of `phrases`, in order of appearance.

    Anything else is an error: a closed vocabulary has no unknown word.
    """

    def __init__(self, phrases: Iterable[str]) -> None:
        ids = {PAD: 0}
        for phrase in phrases:
            for word in phrase.lower().split():
                ids.setdefault(word, len(ids))
        self.tokenizer = Tokenizer(WordLevel(ids))
        self.tokenizer.normalizer = Lowercase()
        self.tokenizer.pre_tokenizer = WhitespaceSplit()

    def __len__(self) -> int:
        return self.tokenizer.get_vocab_size()

    def ids(self, phrases: Sequence[str], length: int | None = None) -> Tensor:
        """int64 [n, length], padded with 0 behind; length: of the longest phrase where it is not given.

        Raises ValueError for a word outside the vocabulary, and for a phrase of more than `length` words.
        """
        for phrase in phrases:
            if unknown := [word for word in phrase.split() if self.tokenizer.token_to_id(word.lower()) is None]:
                raise ValueError(f"'{unknown[0]}' of '{phrase}' is not among the {len(self)} words of this vocabulary")
        rows = [self.tokenizer.encode(phrase).ids for phrase in phrases]
        longest = max(map(len, rows), default=0)
        length = longest if length is None else length
        if longest > length:
            raise ValueError(f"a phrase has {longest} words, more than length={length}")
        return torch.tensor([row + [0] * (length - len(row)) for row in rows])

    def texts(self, ids: Tensor) -> list[str]:
        """The sentences of int64 [n, length], without the padding."""
        return [self.tokenizer.decode([i for i in row if i], skip_special_tokens=False) for row in ids.tolist()]


def join(phrases: Tensor, length: int) -> Tensor:
    """Padded phrases side by side, [n, phrases, words] -> sentences [n, length]: padding moves to the end."""
    flat = phrases.flatten(1)
    # Stable, so that words keep their order.
    order = torch.sort((flat == 0).to(torch.uint8), dim=1, stable=True).indices
    return flat.gather(1, order)[:, :length]
