"""Images and sentences about them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssl_mi.data.known.captions import Caption
from ssl_mi.data.pairs import images as files
from ssl_mi.data.pairs.blocks import Blocks, TensorBlock, TextBlock
from ssl_mi.data.pairs.images import Reading
from ssl_mi.data.pairs.module import PairedData, group_names, label_codes, replace_samples
from ssl_mi.data.pairs.tables import read_table, split_spec
from ssl_mi.data.pairs.tokens import Tokenizer
from ssl_mi.data.pairs.views import PairViews
from ssl_mi.data.sets import SampleSet

log = logging.getLogger(__name__)

EXAMPLE, EXAMPLES = "example", 2400
AUTO, VOCABULARY = "auto", 2048
Captions = list[str]


class ImageTextData(PairedData):
    """Pairs of an image and a sentence, from a table that has a line for each.

    An image that several lines name is on one side of every split. The tokenizer is trained on the training captions,
    or loaded from a file; it is part of `preprocessing`, so that a checkpoint has the vocabulary of its weights.

    Args:
        table: A .csv, .tsv, .parquet or .jsonl, or "example": 2,400 drawn pictures with a sentence each.
        augmentation: The views: an `ImageView` of block 0 and a `TokenView` of block 1.
        batch_size: Pairs per step, over all processes.
        size: Side of a view, in pixels; "auto" in a configuration.
        mean, std: Per channel, of images in [0, 1]; they belong to `augmentation`.
        image: The column of the images' files.
        text: The column of the sentences.
        root: The folder that the images' names are relative to; None for that of the table.
        labels: A column of classes, for probes and zero-shot classification; None without.
        groups: A column of what rows have in common; None for the image.
        tokenizer: A tokenizer.json; None trains one.
        vocabulary: The most tokens of one that is trained; at least as many as a loaded one has. "auto" in a
            configuration: those of a loaded one.
        length: Tokens of a sentence; longer ones are cut, and counted.
        prompts: Sentences about a class for zero-shot classification, `{}` is its name.
        in_memory, memory_gb, on_error: See `ImageFiles`.
        channels, levels, max_megapixels: See `Decoder`.
        upscale: Allow images smaller than `size`.
        val_fraction, test_fraction, limit, seed: See `PairedData`.

    Raises:
        FileNotFoundError: If the table or some of the images are missing.
        ValueError: On unknown columns, empty captions, and images or numbers that cannot work.
    """

    def __init__(
        self,
        table: str,
        augmentation: PairViews,
        batch_size: int,
        size: int | str,
        mean: Sequence[float],
        std: Sequence[float],
        image: str = "image",
        text: str = "text",
        root: str | None = None,
        labels: str | None = None,
        groups: str | None = None,
        tokenizer: str | None = None,
        vocabulary: int | str = 2048,
        length: int = 32,
        prompts: Sequence[str] = ("{}",),
        in_memory: bool | str = "auto",
        memory_gb: float = 4.0,
        on_error: str = "skip",
        channels: int = 3,
        levels: Sequence[float] | None = None,
        max_megapixels: float = 100.0,
        upscale: bool = False,
        val_fraction: float = 0.15,
        test_fraction: float = 0.15,
        limit: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(augmentation, batch_size, val_fraction, test_fraction, limit, seed)
        if (
            (isinstance(vocabulary, str) and vocabulary != AUTO)
            or length < 1
            or (isinstance(vocabulary, int) and vocabulary < 3)
        ):
            raise ValueError(f"data.vocabulary={vocabulary} and data.length={length}: 3 and 1 are the least")
        if odd := [prompt for prompt in prompts if "{}" not in prompt]:
            raise ValueError(f"data.prompts: '{odd[0]}' has no {{}}, where the name of the class goes")
        self.reading = Reading(in_memory, memory_gb, on_error, channels, levels, max_megapixels)
        self.reading.check()
        self.table, self.image, self.text, self.root = table, image, text, root
        self.labels_from, self.groups_from = labels, groups
        self.tokenizer_from, self.vocabulary, self.length = tokenizer, vocabulary, length
        self.templates, self.size, self.upscale = list(prompts), size, upscale
        self.tokenizer: Tokenizer | None = None

    def survey(self) -> dict[str, Any]:
        """The size of the views, and the tokens of a tokenizer that is loaded."""
        own = None if self.tokenizer_from is None else len(Tokenizer.loaded(self.tokenizer_from))
        return {"size": self._suitable_size(), "vocabulary": VOCABULARY if own is None else own}

    def _suitable_size(self) -> int:
        if self.table == EXAMPLE:
            return 32
        table = read_table(split_spec(self.table, "data.table")[0], "data.table")
        return files.suitable_size(files.column_files(table, self.image, self.root, "data.image"), self.reading)

    def load(self) -> tuple[SampleSet, np.ndarray | None]:
        """Images, decoded where they fit into memory, and captions."""
        if self.table == EXAMPLE:
            return self._example()
        path, _ = split_spec(self.table, "data.table")
        table = read_table(path, "data.table")
        captions = _captions(table.column(self.text, "data.text"), self.text, path)
        paths = files.column_files(table, self.image, self.root, "data.image")
        labels = None if self.labels_from is None else table.column(self.labels_from, "data.labels")
        codes, classes = label_codes(f"data.labels={self.labels_from}", labels)
        if self.groups_from is None:
            groups = files.grouped_by(paths)
        else:
            groups = group_names(f"data.groups={self.groups_from}", table.column(self.groups_from, "data.groups"))
        side = int(self.size)
        read = files.block_of(paths, side, self.reading, "data.image")
        self.decoder = files.decoder_settings([read])
        (block,), rows, skipped = files.decoded([read])
        files.check_sizes([block], side, self.upscale)
        kept = rows.tolist()
        names = [f"{paths[i]}: {captions[i]}" for i in kept]
        of = Blocks([block, TextBlock([captions[i] for i in kept])], names)
        found = SampleSet(path.name, of, None if codes is None else codes[rows], classes, skipped=skipped)
        return found, None if groups is None else groups[rows.numpy()]

    def _example(self) -> tuple[SampleSet, None]:
        known = Caption(["shape", "size", "colour"], int(self.size) if self.size != "auto" else 32)
        pictures, tokens = (some := files.drawn(known, EXAMPLES, seed=0)).views
        assert known.words is not None
        texts = known.words.texts(tokens)
        names = [f"drawn {i}: {text}" for i, text in enumerate(texts)]
        blocks = Blocks([*files.example_images([pictures]), TextBlock(texts)], names)
        return SampleSet("the example (captions of drawn shapes)", blocks, some.labels, some.class_names), None

    def fitted(self, samples: SampleSet, train: Tensor) -> SampleSet:
        """The captions as tokens; a tokenizer that is trained learns from the training captions alone."""
        pictures, text = samples.samples.blocks
        captions: Captions = text.texts
        if self.tokenizer_from is None:
            most = VOCABULARY if isinstance(self.vocabulary, str) else self.vocabulary
            self.tokenizer = Tokenizer.trained([captions[i] for i in sorted(train.tolist())], most)
        else:
            self.tokenizer = Tokenizer.loaded(self.tokenizer_from)
        if not isinstance(self.vocabulary, str) and len(self.tokenizer) > self.vocabulary:
            raise ValueError(
                f"data.vocabulary={self.vocabulary} is less than the {len(self.tokenizer)} tokens of "
                f"{self.tokenizer_from or 'the letters of the captions'}: set data.vocabulary={len(self.tokenizer)}"
            )
        lengths = np.array(self.tokenizer.lengths(captions))
        if (cut := int((lengths > self.length).sum())) > 0:
            log.warning(
                "%d of %d captions are longer than data.length=%d tokens (the longest: %d) and are cut",
                cut,
                len(captions),
                self.length,
                lengths.max(),
            )
        ids = self.tokenizer.ids(captions, min(self.length, int(lengths.max())))
        return replace_samples(samples, Blocks([pictures, TensorBlock(ids)], samples.samples.names))

    def to_display(self, view: Tensor) -> np.ndarray | list[str] | None:
        """Images `[n, h, w, c]` in [0, 1], or the sentences that tokens stand for."""
        if view.is_floating_point() or self.tokenizer is None:
            return super().to_display(view)
        return self.tokenizer.texts(view)

    def prompts(self) -> tuple[Tensor, Tensor] | None:
        """Tokens of the prompts of every class, int64 `[m, length]`, and their classes `[m]`; None without labels."""
        if self.tokenizer is None or not self.class_names:
            return None
        texts = [template.replace("{}", name) for name in self.class_names for template in self.templates]
        classes = torch.arange(len(self.class_names)).repeat_interleave(len(self.templates))
        return self.tokenizer.ids(texts, self.length), classes

    def preprocessing(self) -> dict[str, Any]:
        """As of images, and "tokenizer", the text of its tokenizer.json, with "length"."""
        text = {} if self.tokenizer is None else {"tokenizer": self.tokenizer.to_json(), "length": self.length}
        return {**super().preprocessing(), **text}

    def state_dict(self) -> dict[str, Any]:
        """The vocabulary, to be compared when a run is resumed."""
        return {} if self.tokenizer is None else {"tokenizer": self.tokenizer.to_json()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Refuse captions whose vocabulary is not that of the weights.

        Raises:
            ValueError: If it is another one.
        """
        if self.tokenizer is not None and state_dict.get("tokenizer") != self.tokenizer.to_json():
            raise ValueError(
                f"data.table={self.table}: the captions give another vocabulary than the checkpoint's, whose weights "
                "belong to its own: resume with the captions that it was trained on"
            )

    def _form(self) -> str:
        return f"{super()._form()}; {len(self.tokenizer or ())} tokens"


def _captions(values: np.ndarray, column: str, path: Path) -> Captions:
    empty = [row for row, value in enumerate(values) if value is None or not str(value).strip()]
    if empty:
        raise ValueError(
            f"data.text: {len(empty)} of {len(values)} captions in column '{column}' of {path.name} are empty, the "
            f"first in row {empty[0]}: leave those rows out"
        )
    if odd := [row for row, value in enumerate(values) if not isinstance(value, str)]:
        raise ValueError(
            f"data.text: column '{column}' of {path.name} holds {type(values[odd[0]]).__name__} in row {odd[0]} "
            f"({str(values[odd[0]])[:40]}), and captions are text: name another column"
        )
    return [str(value) for value in values]
