"""Language models of Hugging Face `transformers` as encoders of sentences."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)

PAD, UNKNOWN = 0, 1  # tokens of `data.pairs.Tokenizer`
POOLING = ("auto", "mean", "first")


class TransformersEncoder(nn.Module):
    """A language model of `transformers` with weights on this disk: tokens `[n, length]` -> h `[n, out_dim]`.

    It takes the tokens of `data.pairs.Tokenizer` of its own `tokenizer.json`, and puts its special tokens around them.

    Args:
        path: A folder with config.json, weights and tokenizer.json, as `save_pretrained` writes it.
        tokenizer: The tokenizer.json of the data, which must be that of `path`.
        pooling: "mean" of the last states over the words, "first" for the state of the first token, or "auto": as the
            folder of a sentence encoder says (1_Pooling/config.json), else "mean".
        frozen: Keep the weights as they are, without dropout.
        vocabulary: Tokens of the data; as many as the tokenizer has, or more. None is not checked.

    Attributes:
        out_dim: Width of the last states.

    Raises:
        FileNotFoundError: If there is no such folder, or a file in it is missing.
        ValueError: If `transformers` is not installed, weights are missing, or the tokenizer of the data is another.
    """

    def __init__(
        self,
        path: str,
        tokenizer: str | None,
        pooling: str = "auto",
        frozen: bool = False,
        vocabulary: int | str | None = None,
    ) -> None:
        super().__init__()
        if pooling not in POOLING:
            raise ValueError(f"text_encoder.pooling={pooling}: choose from {', '.join(POOLING)}")
        folder = Path(path).expanduser()
        if not folder.is_dir():
            raise FileNotFoundError(f"text_encoder.path={path}: there is no folder {folder.absolute()}")
        self.path, self.frozen = str(path), frozen
        self._read_tokenizer(folder, tokenizer, vocabulary)
        self.first_only = pooling == "first" or (pooling == "auto" and _pools_first(folder))
        self.net = _loaded(folder)
        config: Any = self.net.config
        self.out_dim = int(config.hidden_size)
        self.longest = int(getattr(config, "max_position_embeddings", 0) or 0)
        self.net.requires_grad_(not frozen)
        self.train(self.training)

    def _read_tokenizer(self, folder: Path, given: str | None, vocabulary: int | str | None) -> None:
        """What the tokens of the data are called here, and what stands around a sentence."""
        from tokenizers import Tokenizer

        own = folder / "tokenizer.json"
        if not own.is_file():
            raise FileNotFoundError(
                f"text_encoder.path={self.path} has no tokenizer.json: AutoTokenizer.from_pretrained(FOLDER)"
                ".save_pretrained(FOLDER) of transformers writes one"
            )
        if given is None or _content(Path(given).expanduser()) != _content(own):
            raise ValueError(
                f"data.tokenizer={given} is not the tokenizer of text_encoder.path={self.path}, whose weights belong "
                f"to its own tokens: set data.tokenizer={own}"
            )
        backend = Tokenizer.from_file(str(own))
        backend.no_padding()
        words = backend.encode("a", add_special_tokens=False).ids
        whole = backend.encode("a", add_special_tokens=True).ids
        start = next((i for i in range(len(whole)) if whole[i : i + len(words)] == words), 0)
        self.before, self.behind = whole[:start], whole[start + len(words) :]
        names = backend.get_vocab(with_added_tokens=True)
        self.pad, self.unknown = (_special(names, kind) for kind in ("pad", "unk"))
        # As `data.pairs.Tokenizer`: numbers move up by two, unless its first two are padding and the unknown word.
        self.shift = 0 if (self.pad, self.unknown) == (PAD, UNKNOWN) else 2
        size = backend.get_vocab_size() + self.shift
        if isinstance(vocabulary, int) and vocabulary < size:
            raise ValueError(f"data.vocabulary={vocabulary} is less than the {size} tokens of {own}: set it to auto")

    def train(self, mode: bool = True) -> Self:
        """As of any module; a frozen model stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.net.eval()
        return self

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens int64 `[n, length]` -> h `[n, out_dim]`."""
        if tokens.ndim != 2 or tokens.is_floating_point():
            raise ValueError(
                f"TransformersEncoder takes tokens int64 [n, length], but got {tokens.dtype} {list(tokens.shape)}: "
                "pictures go to another tower (towers=image_text has one of each)"
            )
        ids, shown = self.own_tokens(tokens)
        if 0 < self.longest < ids.shape[1]:
            room = self.longest - len(self.before) - len(self.behind)
            raise ValueError(f"{self.path} takes {self.longest} tokens at most: set data.length={room} or less")
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            states = self.net(input_ids=ids, attention_mask=shown).last_hidden_state
        if self.first_only:
            return states[:, 0]
        weights = shown[:, :, None].to(states.dtype)
        return (states * weights).sum(1) / weights.sum(1).clamp_min(1)

    def own_tokens(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The model's own tokens, with its special tokens around each sentence, and which of them are no padding.

        Args:
            tokens: int64 `[n, length]` of `data.pairs.Tokenizer`, padded behind.
        """
        n, length = tokens.shape
        counts = (tokens != PAD).sum(1)
        ids = torch.where(tokens > UNKNOWN, tokens - self.shift, self.unknown)
        before, behind = len(self.before), len(self.behind)
        out = torch.full((n, before + length + behind), self.pad, dtype=torch.int64, device=tokens.device)
        out[:, :before] = torch.tensor(self.before, dtype=torch.int64, device=tokens.device)
        out[:, before : before + length] = torch.where(tokens == PAD, self.pad, ids)
        place = before + counts[:, None] + torch.arange(behind, device=tokens.device)
        out.scatter_(1, place, torch.tensor(self.behind, dtype=torch.int64, device=tokens.device).expand(n, behind))
        return out, (torch.arange(out.shape[1], device=tokens.device) < before + behind + counts[:, None]).long()


def _loaded(folder: Path) -> nn.Module:
    """The model with all of its weights but those of its own pooling layer, which is not used."""
    try:
        from transformers import AutoModel
        from transformers.utils import logging as their_log
    except ImportError as error:
        raise ValueError(
            f'encoder=transformers needs transformers: pip install "ssl_mi[transformers]" ({error})'
        ) from None
    level = their_log.get_verbosity()
    their_log.set_verbosity_error()
    their_log.disable_progress_bar()
    try:
        model: Any
        model, found = AutoModel.from_pretrained(
            str(folder), local_files_only=True, output_loading_info=True, dtype=torch.float32
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        why = " ".join(str(error).split())
        raise ValueError(f"text_encoder.path={folder}: transformers cannot load the model: {why}") from None
    finally:
        their_log.set_verbosity(level)
        their_log.enable_progress_bar()
    missing = sorted(name for name in found["missing_keys"] if "pooler." not in name)
    wrong = sorted(str(name) for name in found.get("mismatched_keys", ()))
    if missing or wrong:
        what = f"{len(missing)} weights are missing" if missing else f"{len(wrong)} weights have another shape"
        raise ValueError(f"text_encoder.path={folder}: {what}, such as {(missing or wrong)[0]}: bring the whole model")
    if unused := sorted(found["unexpected_keys"]):
        log.warning("%s: %d weights are of no use here, such as %s", folder, len(unused), unused[0])
    return model


def _pools_first(folder: Path) -> bool:
    """Whether the folder of a sentence encoder says that the first token stands for the sentence."""
    file = folder / "1_Pooling" / "config.json"
    if not file.is_file():
        return False
    modes = [name for name, on in json.loads(file.read_text(encoding="utf-8")).items() if on is True]
    kinds = {name.removeprefix("pooling_mode_") for name in modes if name.startswith("pooling_mode_")}
    if kinds and not kinds & {"cls_token", "mean_tokens"}:
        raise ValueError(f"{file} pools by {', '.join(sorted(kinds))}: choose text_encoder.pooling=mean or first")
    return kinds == {"cls_token"}


def _content(file: Path) -> Any:
    """What a tokenizer.json says, without its settings of padding and cutting; None for no such file."""
    if not file.is_file():
        return None
    found = json.loads(file.read_text(encoding="utf-8"))
    return {key: value for key, value in found.items() if key not in ("padding", "truncation")}


def _special(names: dict[str, int], kind: str) -> int:
    """The number of the padding or of the unknown word, however its brackets look."""
    found = [number for word, number in names.items() if word.lower().strip("[]<>|") == kind]
    if not found:
        others = [number for word, number in names.items() if word in ("</s>", "<|endoftext|>")]
        return min(others, default=0)
    return min(found)
