"""Sets of Hugging Face `datasets`: the same images, labels and captions as were put in, or a line that says why not."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_mi.data import Augmentation, HuggingFaceData, HuggingFaceImages, View
from ssl_mi.data.pairs import ArrayData, ArrayView, ImageTextData, ImageView, PairViews, TokenView
from ssl_mi.data.pairs.tables import read_table, split_spec

datasets = pytest.importorskip("datasets")

COLOURS = ["red", "green", "blue"]
FEATURES = {
    "picture": datasets.Image(),
    "colour": datasets.ClassLabel(names=COLOURS),
    "caption": datasets.Value("string"),
    "vector": datasets.List(datasets.Value("float32")),
}


def square(i):
    """Image i: its class is the brightest channel, its number the value of another."""
    pixels = np.full((12, 12, 3), i, dtype=np.uint8)
    pixels[..., i % 3] = 200
    return pixels


def rows(numbers, label=lambda i: i % 3):
    return datasets.Dataset.from_list(
        [
            {
                "picture": Image.fromarray(square(i)),
                "colour": label(i),
                "caption": f"a {COLOURS[i % 3]} square",
                "vector": [float(i), float(i % 3)],
            }
            for i in numbers
        ],
        features=datasets.Features(FEATURES),
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """One set in the forms that it may have on disk: form -> path."""
    folder = tmp_path_factory.mktemp("hf")
    both = datasets.DatasetDict(train=rows(range(60)), test=rows(range(60, 90)))
    both.save_to_disk(str(folder / "dict"))
    for split in both:
        (folder / "parquet" / "data").mkdir(parents=True, exist_ok=True)
        both[split].to_parquet(str(folder / "parquet" / "data" / f"{split}-00000-of-00001.parquet"))
    return {"dict": folder / "dict", "parquet": folder / "parquet", "one": folder / "dict" / "train", "object": both}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.mark.parametrize("form", ["dict", "parquet", "object"])
def test_images_and_classes_are_those_that_were_put_in(saved, form):
    train, test, _, _ = HuggingFaceImages(saved[form], "picture", "colour").load()
    assert (len(train), len(test), train.class_names) == (60, 30, tuple(COLOURS))
    for images, first in ((train, 0), (test, 60)):
        decoded = images.decoded()
        assert decoded.in_memory
        wanted = torch.from_numpy(np.stack([square(i) for i in range(first, first + len(images))]))
        assert torch.equal(decoded.images.pixels, wanted.permute(0, 3, 1, 2))
        assert decoded.labels.tolist() == [i % 3 for i in range(first, first + len(images))]


def test_a_run_has_the_splits_and_the_size_of_the_set(saved):
    settings = {"path": str(saved["dict"]), "image": "picture", "label": "colour", "train": "train"}
    size = HuggingFaceData.settled({**settings, "channels": 3, "levels": None, "max_megapixels": 100.0})["size"]
    assert size == 12
    views = Augmentation([View([], 2)], size, [0.5] * 3, [0.25] * 3)
    data = HuggingFaceData(**settings, augmentation=views, batch_size=16, size=size, mean=[0.5] * 3, std=[0.25] * 3)
    data.setup()
    assert (len(data.train), len(data.val), len(data.test)) == (54, 6, 30)
    assert data.shared == {"val": 0, "test": 0}
    batch = next(data.batches("test"))
    shown = (data.to_display(data.clean(batch))[..., 1][:, 0, 0] * 255).round().astype(int)  # green
    assert all(
        value == (200 if label == 1 else value) for value, label in zip(shown, batch.labels.tolist(), strict=True)
    )


def test_a_set_alone_gives_up_images_for_the_test(saved):
    train, test, _, _ = HuggingFaceImages(str(saved["one"]), "picture", "colour", test_fraction=0.2).load()
    assert (len(train), len(test)) == (48, 12)


def test_a_test_split_without_labels_is_not_used(tmp_path, caplog):
    datasets.DatasetDict(train=rows(range(30)), test=rows(range(30, 40), lambda i: -1)).save_to_disk(
        str(tmp_path / "x")
    )
    train, test, _, _ = HuggingFaceImages(tmp_path / "x", "picture", "colour").load()
    assert (len(train), len(test)) == (27, 3)
    assert "'test' has no labels" in caplog.text


def test_cells_that_hold_no_image_are_left_out_by_name(caplog):
    images = [None, {"bytes": b"no image", "path": None}]
    some = [{"picture": Image.fromarray(square(i)), "colour": i % 3} for i in range(20)]
    features = datasets.Features({name: FEATURES[name] for name in ("picture", "colour")})
    odd = datasets.Dataset.from_list(some, features=features).cast_column("picture", datasets.Image(decode=False))
    odd = datasets.concatenate_datasets(
        [odd, datasets.Dataset.from_list([{"picture": cell, "colour": 0} for cell in images], features=odd.features)]
    ).cast_column("picture", datasets.Image())
    train = HuggingFaceImages(odd, "picture", "colour", test_fraction=0.05).load().train.decoded()
    names = " ".join(train.skipped)
    assert "row 20 of 'picture'" in names or "row 21 of 'picture'" in names
    assert "the cell is empty" in caplog.text or "its content is none of" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": "pictur"}, "data.image: .*has no column 'pictur': did you mean 'picture'"),
        ({"image": "vector"}, "column 'vector' of .* no images: those of picture are"),
        ({"label": "coluor"}, "data.label: .*has no column 'coluor': did you mean 'colour'"),
        ({"label": "vector"}, "data.label: the labels of split 'train' are of type list"),
        ({"train": "training"}, "data.train=training: .*it has train, test"),
        ({"test": "exam"}, "data.test=exam: .*it has train, test"),
        ({"path": "./nowhere"}, "data.path=./nowhere: there is no file or folder"),
    ],
)
def test_what_is_not_there_is_named(saved, change, message):
    settings = {"path": str(saved["dict"]), "image": "picture", "label": "colour", **change}
    with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
        HuggingFaceImages(**settings).load()
    assert "\n" not in str(error.value)


def test_labels_that_are_missing_are_counted():
    odd = rows(range(9), lambda i: None if i in (4, 5) else i % 3)
    with pytest.raises(ValueError, match="2 of 9 labels of split 'train' are missing, the first in row 4"):
        HuggingFaceImages(odd, "picture", "colour").load()


@pytest.mark.parametrize("form", ["one", "parquet"])
def test_any_table_of_pairs_may_be_a_set(saved, form):
    path = saved["one"] if form == "one" else saved["parquet"] / "data" / "train-00000-of-00001.parquet"
    mean = [0.5] * 3
    views = PairViews([ImageView([], 12, mean, mean), TokenView()])
    data = ImageTextData(str(path), views, 8, 12, mean, mean, image="picture", text="caption", labels="colour")
    data.setup()
    assert sorted(data.class_names) == sorted(COLOURS)
    source = next(data.batches("train", batch_size=60))
    brightest = source.blocks[0].float().mean((2, 3)).argmax(1).tolist()
    texts = data.to_display(source.blocks[1])
    assert texts == [f"a {COLOURS[c]} square" for c in brightest]
    assert [data.class_names[label] for label in source.labels.tolist()] == [COLOURS[c] for c in brightest]


def test_vectors_in_a_column_are_columns(saved):
    views = PairViews([ArrayView([], block=0), ArrayView([], block=0)])
    data = ArrayData(f"{saved['one']}:vector", views, 8, labels="colour", standardize=False)
    data.setup()
    source = next(data.batches("train", batch_size=60))
    assert source.blocks[0].shape[1] == 2
    assert all(int(x) % 3 == int(y) for x, y in source.blocks[0].tolist())


def test_a_table_is_one_split(saved):
    path, columns = split_spec(f"{saved['dict']}:vector", "data.x")
    assert columns == "vector"
    with pytest.raises(ValueError, match=r"the set has train, test: name the folder of one, as .*train"):
        read_table(path, "data.x")


def test_a_damaged_file_of_a_saved_set_is_named_in_a_line(saved, tmp_path):
    shutil.copytree(saved["one"], tmp_path / "set")
    (tmp_path / "set" / "state.json").write_text('{"_data_files": [')
    with pytest.raises(ValueError, match=r"data\.path=.*set: Expecting") as raised:
        HuggingFaceImages(str(tmp_path / "set"), "picture", "colour").load()
    assert "\n" not in str(raised.value)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["huggingface", "huggingface_stream"])
def test_a_run_on_a_set_is_evaluated_on_its_own_images(saved, tmp_path, kind):
    import ssl_mi

    place = tmp_path / "run"
    own = [f"data={kind}", f"data.path={saved['parquet']}", "data.image=picture", "data.label=colour"]
    own += ["data.val=test"] if kind == "huggingface_stream" else []
    light = ["data.size=12", "data.batch_size=8", "data.num_workers=0", "encoder.widths=[8]", "augmentation=weak"]
    light += ["trainer.max_epochs=1", "trainer.accelerator=cpu", "trainer.devices=1", "progress=none", "~evaluation"]
    ssl_mi.train(*own, *light, run_dir=place)
    found = {row.metric: row for row in ssl_mi.evaluate(str(place), measure="linear,knn").rows}
    assert found["linear_probe_accuracy"].n == (15 if kind == "huggingface_stream" else 30)  # without a test: half
    assert "fitted on 5" in found["linear_probe_accuracy"].note or "fitted on 60" in found["linear_probe_accuracy"].note
