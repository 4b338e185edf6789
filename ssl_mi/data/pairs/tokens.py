"""Sentences as tokens, by the `tokenizers` library: trained on the captions at hand, or loaded from a file.

Token 0 is padding and token 1 the unknown word, whatever the file has: `TextEncoder` leaves 0 out, and `TokenView`
hides words behind 1.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer as Backend
from tokenizers import normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from torch import Tensor

PAD, UNKNOWN = "[PAD]", "[UNK]"
BEGIN = "\u2581"  # of a word


class Tokenizer:
    """Texts to tokens and back.

    Args:
        backend: A tokenizer of the `tokenizers` library. Where its tokens 0 and 1 are not padding and the unknown word,
            all of its numbers move up by two.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        # A file may say how sentences are padded and cut; here `ids` does both.
        backend.no_padding()
        backend.no_truncation()
        first, second = (str(backend.id_to_token(i)).lower().strip("[]<>|") for i in (0, 1))
        self.shift = 0 if (first, second) == ("pad", "unk") else 2

    @classmethod
    def trained(cls, texts: Iterable[str], vocabulary: int) -> Tokenizer:
        """Byte-pair encoding of lower-case words and punctuation (Sennrich et al. 2016, arXiv:1508.07909).

        Args:
            texts: What it is trained on.
            vocabulary: The most tokens that it may have.
        """
        backend = Backend(BPE(unk_token=UNKNOWN))
        backend.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
        # A word begins with "\u2581". A suffix at its end would number the letters in an order that differs from one
        # process to the next.
        backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(BEGIN), pre_tokenizers.Punctuation()])
        trainer = BpeTrainer(vocab_size=vocabulary, special_tokens=[PAD, UNKNOWN], show_progress=False)
        backend.train_from_iterator(texts, trainer)
        return cls(backend)

    @classmethod
    def loaded(cls, path: str | Path) -> Tokenizer:
        """From a file `tokenizer.json`.

        Args:
            path: As `tokenizers.Tokenizer.save` or Hugging Face `transformers` write it.

        Raises:
            FileNotFoundError: If there is none.
            ValueError: If it is no tokenizer.
        """
        file = Path(path).expanduser()
        if not file.is_file():
            raise FileNotFoundError(f"data.tokenizer={path}: there is no file {file.absolute()}")
        try:
            return cls.from_json(file.read_text(encoding="utf-8"))
        except Exception as error:  # the library raises bare Exceptions
            why = " ".join(str(error).split())
            raise ValueError(f"data.tokenizer={path} is no tokenizer.json of the tokenizers library: {why}") from None

    @classmethod
    def from_json(cls, text: str) -> Tokenizer:
        """From the text of a `tokenizer.json`, such as `preprocessing["tokenizer"]` of a trained encoder.

        Args:
            text: JSON.
        """
        return cls(Backend.from_str(text))

    def to_json(self) -> str:
        """The text of a `tokenizer.json`."""
        return json.dumps(json.loads(self.backend.to_str()), ensure_ascii=False)

    def __len__(self) -> int:
        """Tokens, padding and the unknown word included."""
        return self.backend.get_vocab_size() + self.shift

    def ids(self, texts: Sequence[str], length: int) -> Tensor:
        """Tokens, cut after `length` and padded with 0 behind.

        Args:
            texts: n sentences.
            length: Tokens of a row.

        Returns:
            int64 `[n, length]`.
        """
        out = torch.zeros(len(texts), length, dtype=torch.int64)
        for row, found in enumerate(self.backend.encode_batch(list(texts), add_special_tokens=False)):
            ids = found.ids[:length]
            out[row, : len(ids)] = torch.tensor(ids, dtype=torch.int64) + self.shift
        return out

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each sentence.

        Args:
            texts: n sentences.
        """
        return [len(found.ids) for found in self.backend.encode_batch(list(texts), add_special_tokens=False)]

    def texts(self, ids: Tensor) -> list[str]:
        """Sentences of tokens, without padding; the unknown word is `[UNK]`.

        Args:
            ids: int64 `[n, length]`.
        """
        return [self._text(row) for row in ids.tolist()]

    def _text(self, row: list[int]) -> str:
        words = [UNKNOWN if i == 1 else str(self.backend.id_to_token(i - self.shift)) for i in row if i != 0]
        if any(word.startswith(BEGIN) for word in words):
            return "".join(words).replace(BEGIN, " ").strip()
        return str(self.backend.decode([i - self.shift for i in row if i > 1]))
