"""A language model of `transformers` as an encoder: what it makes of our tokens is what it makes of the sentences."""

import pytest
import torch
from tokenizers import Tokenizer as Backend
from tokenizers import models, normalizers, pre_tokenizers, processors, trainers

from ssl_mi.data.pairs import Tokenizer
from ssl_mi.networks import TransformersEncoder

transformers = pytest.importorskip("transformers")

TEXTS = ["a red square", "one green circle and a blue one", "blue"]


def folder_of(place, special):
    """A small BERT with a tokenizer whose special tokens come in this order, as `save_pretrained` writes them."""
    backend = Backend(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.train_from_iterator(TEXTS, trainers.WordPieceTrainer(vocab_size=80, special_tokens=special))
    ends = [(name, backend.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    backend.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    backend.enable_padding(length=20, pad_id=backend.token_to_id("[PAD]"), pad_token="[PAD]")
    backend.enable_truncation(20)
    names = {f"{kind}_token": f"[{kind.upper()}]" for kind in ("pad", "unk", "cls", "sep", "mask")}
    transformers.PreTrainedTokenizerFast(tokenizer_object=backend, **names).save_pretrained(place)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=backend.get_vocab_size(), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=24, pad_token_id=backend.token_to_id("[PAD]"),
    )  # fmt: skip
    transformers.BertModel(config).save_pretrained(place)
    return place


ORDERS = {
    "as BERT": ["[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]"],
    "padding and unknown first": ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
}


@pytest.fixture(scope="module", params=ORDERS)
def folder(tmp_path_factory, request):
    return folder_of(tmp_path_factory.mktemp("bert"), ORDERS[request.param])


def encoder(folder, **settings):
    return TransformersEncoder(str(folder), str(folder / "tokenizer.json"), **settings).eval()


@pytest.mark.parametrize("pooling", ["mean", "first"])
def test_sentences_are_what_the_library_makes_of_them(folder, pooling):
    tokens = Tokenizer.loaded(folder / "tokenizer.json").ids(TEXTS, length=12)
    found = encoder(folder, pooling=pooling)(tokens)
    own = transformers.AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt")
    model = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        states = model(own["input_ids"], own["attention_mask"]).last_hidden_state
    mask = own["attention_mask"][:, :, None]
    wanted = states[:, 0] if pooling == "first" else (states * mask).sum(1) / mask.sum(1)
    assert found.shape == (3, 16)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_padding_is_no_token_and_a_hidden_word_is_the_unknown_one(folder):
    tokenizer = Tokenizer.loaded(folder / "tokenizer.json")
    short, long = tokenizer.ids(TEXTS[:1], length=3), tokenizer.ids(TEXTS[:1], length=15)
    assert int((long != 0).sum()) == 3
    one = encoder(folder)
    torch.testing.assert_close(one(short), one(long), rtol=1e-4, atol=1e-5)
    ids, shown = one.own_tokens(torch.tensor([[1, int(short[0, 1]), 0, 0]]))
    assert ids[0, 1] == one.unknown
    assert shown.sum() == 4


def test_a_frozen_model_has_no_gradients_and_no_dropout(folder):
    one = encoder(folder, frozen=True).train()
    tokens = Tokenizer.loaded(folder / "tokenizer.json").ids(TEXTS, length=12)
    assert torch.equal(one(tokens), one(tokens))
    assert not one(tokens).requires_grad
    assert not any(p.requires_grad for p in one.parameters())


def test_what_does_not_fit_is_named(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"text_encoder\.path=nowhere: there is no folder"):
        TransformersEncoder("nowhere", None)
    with pytest.raises(ValueError, match=r"data.tokenizer=None is not the tokenizer of .* set data.tokenizer=.*json"):
        TransformersEncoder(str(folder), None)
    other = Tokenizer.trained(TEXTS, 60)
    (tmp_path / "tokenizer.json").write_text(other.to_json())
    with pytest.raises(ValueError, match="is not the tokenizer of"):
        TransformersEncoder(str(folder), str(tmp_path / "tokenizer.json"))
    with pytest.raises(ValueError, match=r"data.vocabulary=20 is less than the \d+ tokens"):
        encoder(folder, vocabulary=20)
    with pytest.raises(ValueError, match=r"takes 24 tokens at most: set data.length=22 or less"):
        encoder(folder)(torch.full((1, 30), 5))


def test_weights_that_are_missing_are_named(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    folder = folder_of(tmp_path, ORDERS["as BERT"])
    weights = safetensors.load_file(folder / "model.safetensors")
    del weights["encoder.layer.1.output.dense.weight"]
    safetensors.save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"1 weights are missing, such as encoder.layer.1.output.dense.weight"):
        encoder(folder)
