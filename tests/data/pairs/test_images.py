"""Images with sentences, and images with images: what is matched, what is refused, and the vocabulary."""

import functools
import operator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_mi.data import RandomResizedCrop
from ssl_mi.data.images.decoding import Decoder, decode
from ssl_mi.data.images.encoded import EncodedImage, encoded_bytes
from ssl_mi.data.pairs import ImagePairData, ImageTextData, ImageView, PairViews, Tokenizer, TokenView

COLOUR = {"size": 16, "mean": [0.5] * 3, "std": [0.25] * 3}
WORDS = ("red", "green", "blue")


def image_views():
    return PairViews([ImageView([RandomResizedCrop(16)], block=block, **COLOUR) for block in (0, 1)])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """a/KIND/NAME.png and b/KIND/NAME.jpg of one grey level a pair, and tables that name them."""
    monkeypatch.chdir(tmp_path)
    lines = ["path,other,caption,kind"]
    for number in range(30):
        kind = WORDS[number % 3]
        for side, suffix in (("a", "png"), ("b", "jpg")):
            (tmp_path / side / kind).mkdir(parents=True, exist_ok=True)
            pixels = np.full((20, 24, 3), 8 * number, dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / side / kind / f"{number:02}.{suffix}", quality=95)
        names = [f"a/{kind}/{number:02}.png", f"b/{kind}/{number:02}.jpg"]
        lines += [f"{names[0]},{names[1]},A {kind} one: number{number},{kind}"] * (2 if number == 0 else 1)
    (tmp_path / "t.csv").write_text("\n".join(lines))
    return tmp_path


def text_data(**options):
    views = PairViews([ImageView([RandomResizedCrop(16)], block=0, **COLOUR), TokenView(0.2)])
    known = {"table": "t.csv", "image": "path", "text": "caption", "labels": "kind", "batch_size": 8}
    data = ImageTextData(**{"augmentation": views, **known, **COLOUR, **options})
    data.setup()
    return data


def pair_data(**options):
    data = ImagePairData(
        **{"x": "a", "y": "b", "augmentation": image_views(), "batch_size": 8, "labels": "folder", **COLOUR, **options}
    )
    data.setup()
    return data


def levels(images):
    return (images.float().mean((1, 2, 3)) / 8).round().int().tolist()


def test_an_image_goes_with_its_sentence_and_one_of_two_sentences_is_on_one_side(folder):
    data = text_data()
    found = []
    for split in ("train", "val", "test"):
        source = next(data.batches(split, batch_size=100))
        pictures, tokens = source.blocks
        numbers, said = levels(pictures), data.to_display(tokens)
        assert [data.class_names[label] for label in source.labels] == [WORDS[n % 3] for n in numbers]
        if split == "train":  # whose words the tokenizer knows
            assert said == [f"a {WORDS[n % 3]} one: number{n}" for n in numbers]
        found.append(numbers)
    assert sorted(functools.reduce(operator.iadd, found, [])) == [0, *range(30)]
    assert sum(0 in numbers for numbers in found) == 1
    first, second = data.views(source, 0).views
    assert first.shape[1:] == (3, 16, 16)
    assert second.dtype == torch.int64
    assert [len(x) for x in data.clean_views(source)] == [len(source.index)]  # the image: tokens are no numbers


def test_the_vocabulary_is_of_the_training_captions_and_travels_as_text(folder):
    data = text_data()
    again = Tokenizer.from_json(data.preprocessing()["tokenizer"])
    texts = ["a red one", "GREEN?"]
    assert torch.equal(again.ids(texts, 12), data.tokenizer.ids(texts, 12))
    tokens, classes = data.prompts()
    assert data.tokenizer.texts(tokens) == ["blue", "green", "red"]
    assert classes.tolist() == [0, 1, 2]
    (folder / "own.json").write_text(data.preprocessing()["tokenizer"])
    loaded = text_data(tokenizer="own.json", prompts=["a {}", "{} one"])
    assert loaded.prompts()[1].tolist() == [0, 0, 1, 1, 2, 2]
    data.load_state_dict(loaded.state_dict())
    with pytest.raises(ValueError, match="another vocabulary than the checkpoint's"):
        data.load_state_dict({"tokenizer": "{}"})


def test_a_vocabulary_is_the_same_however_often_it_is_trained():
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefghij"), rng.integers(2, 7))) for _ in range(200)]
    texts = [" ".join(rng.choice(words, 8)) for _ in range(200)]
    assert len({Tokenizer.trained(texts, 300).to_json() for _ in range(4)}) == 1


def test_a_foreign_tokenizer_gets_padding_and_the_unknown_word_in_front():
    from tokenizers import Tokenizer as Backend
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    backend = Backend(WordLevel({"red": 0, "one": 1, "odd": 2}, unk_token="odd"))
    backend.pre_tokenizer = Whitespace()
    tokenizer = Tokenizer(backend)
    assert len(tokenizer) == 5
    assert tokenizer.ids(["one red", "red"], 3).tolist() == [[3, 2, 0], [2, 0, 0]]
    assert tokenizer.texts(torch.tensor([[3, 2, 0]])) == ["one red"]


def test_hidden_words_are_unknown_and_padding_stays(folder):
    data = text_data(augmentation=PairViews([ImageView([], block=0, **COLOUR), TokenView(0.5)]))
    source = next(data.batches("train", batch_size=100))
    tokens, shown = source.blocks[1], data.views(source, 0).views[1]
    changed = shown != tokens
    assert (shown[changed] == TokenView.UNKNOWN).all()
    assert not changed[tokens == 0].any()
    assert changed[tokens != 0].float().mean().item() == pytest.approx(0.5, abs=0.15)


def test_images_of_two_folders_are_matched_by_their_names(folder, caplog):
    (folder / "a" / "red" / "99.png").write_bytes((folder / "a" / "red" / "00.png").read_bytes())
    data = pair_data()
    assert "1 images have no partner and are left out: a/red/99.png" in caplog.text
    total = 0
    for split in ("train", "val", "test"):
        source = next(data.batches(split, batch_size=100))
        x, y = source.blocks
        assert levels(x) == levels(y)
        assert [data.class_names[label] for label in source.labels] == [WORDS[n % 3] for n in levels(x)]
        total += len(x)
    assert total == 30
    first, second = data.views(source, 0).views
    assert first.shape == second.shape
    table = pair_data(table="t.csv", x="path", y="other", labels="kind")
    assert levels(next(table.batches("test")).blocks[0]) == levels(next(table.batches("test")).blocks[1])


def test_both_images_have_crops_of_their_own(folder):
    rng = np.random.default_rng(0)
    for number in range(30):  # the same picture on both sides
        picture = Image.fromarray(rng.integers(0, 255, (20, 24, 3), dtype=np.uint8))
        for side, suffix in (("a", "png"), ("b", "jpg")):
            picture.save(folder / side / WORDS[number % 3] / f"{number:02}.{suffix}", format="PNG")
    data = pair_data()
    first, second = data.views(next(data.batches("train")), 0).views
    assert not torch.allclose(first, second, atol=0.1)


def test_an_image_that_cannot_be_decoded_costs_its_pair(folder):
    (folder / "b" / "red" / "03.jpg").write_bytes(b"no image")
    data = pair_data()
    assert sum(len(getattr(data, split)) for split in ("train", "val", "test")) == 29
    assert data.report()["skipped"]
    for split in ("train", "val", "test"):
        x, y = next(data.batches(split, batch_size=100)).blocks
        assert levels(x) == levels(y)


def test_deep_images_of_a_side_are_scaled_alike_or_by_the_levels_that_are_given(folder, caplog):
    for number in range(30):  # 12 bits: the first is dark, and stays dark beside the others
        (folder / "a" / WORDS[number % 3] / f"{number:02}.png").unlink()
        pixels = np.full((20, 24, 3), 4095 if number else 240, dtype=np.uint16)
        np.save(folder / "a" / WORDS[number % 3] / f"{number:02}.npy", pixels)
    found = {
        given: {int(x) for split in ("train", "val", "test") for x in next(data.batches(split)).blocks[0].unique()}
        for given, data in ((None, pair_data()), ((0, 8190), pair_data(levels=(0, 8190))))
    }
    assert found == {None: {240 >> 4, 4095 >> 4}, (0, 8190): {round(240 / 8190 * 255), round(4095 / 8190 * 255)}}
    assert "of which 12 are in use: 4095 becomes white (data.levels" in caplog.text


def test_pixels_in_lists_are_scaled_as_those_of_the_other_images():
    image = EncodedImage("a cell", lambda: encoded_bytes([[240] * 4] * 4, Path()))
    assert decode(image, Decoder(1, bits=12)).max() == 240 >> 4  # beside others of 12 bits
    assert decode(image, Decoder(1)).max() == 240


def test_images_of_many_sizes_stay_in_files_and_stay_paired(folder):
    for number in range(30):
        pixels = np.full((20 + number, 24, 3), 8 * number, dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "a" / WORDS[number % 3] / f"{number:02}.png")
    data = pair_data()
    x, y = next(data.batches("train", batch_size=100)).blocks
    assert levels(x) == levels(y)
    assert data.views(next(data.batches("train")), 0).views[0].shape[1:] == (3, 16, 16)


def bad_tables(folder):
    text = (folder / "t.csv").read_text()
    (folder / "gone.csv").write_text(text.replace("a/red/00.png", "a/red/zero.png"))
    (folder / "silent.csv").write_text(text.replace("A green one: number1,", ","))
    (folder / "far").mkdir()
    Image.fromarray(np.zeros((20, 20, 3), dtype=np.uint8)).save(folder / "far" / "x.png")


TEXT = {
    "no table": ({"table": "none.csv"}, "data.table=none.csv: there is no file"),
    "no column": ({"text": "captions"}, "data.text: t.csv has no column 'captions': did you mean 'caption'"),
    "no image": ({"table": "gone.csv"}, "data.image: 2 of 31 images that column 'path' of gone.csv names do not exist, "
                 "the first in row 0: .*zero.png; names are relative to data.root"),
    "no caption": ({"table": "silent.csv"}, "1 of 31 captions in column 'caption' of silent.csv are empty, the first "
                   "in row 2"),
    "vocabulary": ({"vocabulary": 5}, r"data.vocabulary=5 is less than the \d+ tokens"),
    "tokenizer": ({"tokenizer": "t.csv"}, "data.tokenizer=t.csv is no tokenizer.json"),
    "prompt": ({"prompts": ["a photo"]}, r"data.prompts: 'a photo' has no \{\}"),
    "size": ({"size": 32}, "the images are 20x24 pixels, smaller than data.size=32: use data.size=20"),
}  # fmt: skip
PAIRS = {
    "no folder": ({"x": "none"}, "data.x=none: there is no folder"),
    "no match": ({"y": "far"}, "have no image of the same relative name: the first ones are blue/02 and x"),
    "no partner": ({"y": None}, "data.x=a has no partner: set data.y"),
    "a table": ({"x": "t.csv"}, "data.x=t.csv is a table: set data.table=t.csv"),
    "labels": ({"labels": "kind"}, "data.labels=kind: of two folders, data.labels=folder is all there is"),
    "column": (
        {"table": "t.csv", "x": "paht", "y": "other"},
        "data.x: t.csv has no column 'paht': did you mean 'path'",
    ),
}


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [(text_data, *TEXT[case]) for case in TEXT] + [(pair_data, *PAIRS[case]) for case in PAIRS],
    ids=[*TEXT, *PAIRS],
)
def test_what_cannot_work_is_refused_in_one_line_that_names_it(folder, make, options, message):
    bad_tables(folder)
    with pytest.raises((ValueError, OSError), match=message) as error:
        make(**options)
    assert "\n" not in str(error.value)


def test_deep_pixels_have_one_scale_in_a_set_and_messages_name_the_keys_of_pairs(folder, caplog):
    for number, path in enumerate(sorted((folder / "a").rglob("*.png"))):
        Image.fromarray(np.full((20, 24), 130 * number + 5, dtype=np.uint16)).save(path)
    data = pair_data()
    assert "12 are in use: 4095 becomes white (data.levels chooses other levels)" in caplog.text
    found = torch.cat([source.blocks[0].float().mean((1, 2, 3)) for source in data.batches("train")])
    order = [int(data.train.samples.names[i].split("/")[-1][:2]) for i in range(len(found))]
    wanted = sorted((folder / "a").rglob("*.png"), key=str)
    place = {path.stem: number for number, path in enumerate(wanted)}
    expected = torch.tensor([(130 * place[f"{number:02}"] + 5) // 16 for number in order])
    assert torch.equal(found.int(), expected.int())
    assert data.preprocessing()["decoder"]["bits"] == 12  # the other camera has 8
    white = pair_data(levels=[0, 255])
    assert max(float(source.blocks[0].max()) for source in white.batches("train")) == 255
    with pytest.raises(ValueError, match=r"^data\.levels=\(0, 1, 2\): give the values of black and white"):
        pair_data(levels=[0, 1, 2])
    np.save(folder / "a" / "red" / "00.npy", np.zeros((20, 24), np.float32) + 0.5)
    (folder / "a" / "red" / "00.png").unlink()
    caplog.clear()
    pair_data(on_error="skip")
    assert "set data.levels to the values of black and white" in caplog.text
    assert "data.sets" not in caplog.text
    with pytest.raises(ValueError, match=r"pixels, more than data\.max_megapixels=0\.0001"):
        pair_data(on_error="error", max_megapixels=1e-4)
