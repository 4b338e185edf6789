"""`ssl-mi embed`: features of images in files, each row with its file, whole even after a stop."""

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_mi.app.devices import on_device
from ssl_mi.app.embed import embed
from ssl_mi.app.encoder import LoadedEncoder
from ssl_mi.networks import ConvNet, TableMLP

PREPROCESSING = {"size": 32, "mean": [0.5] * 3, "std": [0.25] * 3, "views": [[]]}


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return LoadedEncoder(ConvNet((8, 16)), torch.nn.Linear(16, 4), PREPROCESSING)


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for i, name in enumerate(("cat/a", "cat/b", "dog/a", "dog/b", "dog/c")):
        path = tmp_path / "photos" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (32 + i, 40, 3), dtype=np.uint8)).save(path)
    (tmp_path / "photos" / "cat" / "broken.jpg").write_bytes(b"no image")
    return tmp_path / "photos"


def names(files):
    return ["/".join(str(file).split("/")[-2:]) for file in files]


EXPECTED = ["cat/a.png", "cat/b.png", "dog/a.png", "dog/b.png", "dog/c.png"]


def test_every_form_holds_the_same_rows_and_their_files(encoder, folder, tmp_path):
    h = encoder.encode(folder).h.numpy()
    embed(encoder, folder, tmp_path / "a.npy")
    embed(encoder, folder, tmp_path / "a.npz", z=True)
    assert np.allclose(np.load(tmp_path / "a.npy"), h, atol=1e-5)
    assert names((tmp_path / "a.files.txt").read_text().split()) == EXPECTED
    arrays = np.load(tmp_path / "a.npz")
    assert np.allclose(arrays["h"], h, atol=1e-5)
    assert arrays["z"].shape == (5, 4)
    assert names(arrays["files"]) == EXPECTED
    assert [str(arrays["class_names"][label]) for label in arrays["labels"]] == ["cat", "cat", "dog", "dog", "dog"]
    pq = pytest.importorskip("pyarrow.parquet")
    embed(encoder, folder, tmp_path / "a.parquet")
    table = pq.read_table(tmp_path / "a.parquet").to_pydict()
    assert np.allclose(np.array(table["h"]), h, atol=1e-5)
    assert names(table["file"]) == EXPECTED
    assert table["label"] == ["cat", "cat", "dog", "dog", "dog"]


def test_unreadable_files_are_listed_and_nothing_else_is_left(encoder, folder, tmp_path):
    out = tmp_path / "out"
    found = embed(encoder, folder, out / "a.npz", batch_size=2)
    assert names(path for path, _ in found.unreadable) == ["cat/broken.jpg"]
    assert "cat/broken.jpg" in (out / "a.unreadable.txt").read_text()
    assert sorted(path.name for path in out.iterdir()) == ["a.npz", "a.unreadable.txt"]


def test_a_stopped_call_goes_on_where_it_was(encoder, folder, tmp_path, monkeypatch):
    read, seen = LoadedEncoder._read, []

    def stopping(self, paths, labels):
        seen.append(list(paths))
        if len(seen) == 2:
            raise KeyboardInterrupt
        return read(self, paths, labels)

    monkeypatch.setattr(LoadedEncoder, "_read", stopping)
    with pytest.raises(KeyboardInterrupt):
        embed(encoder, folder, tmp_path / "a.npz", batch_size=2)
    assert not (tmp_path / "a.npz").exists()
    found = embed(encoder, folder, tmp_path / "a.npz", batch_size=2)
    assert len(seen) == 4  # one batch before the stop, the one that was stopped again, and the third
    assert seen[1] == seen[2]
    assert names(found.files) == EXPECTED
    assert torch.allclose(found.h, encoder.encode(folder).h, atol=1e-5)


def test_the_work_of_another_encoder_is_not_gone_on_with(encoder, folder, tmp_path, monkeypatch):
    def stopped(self, paths, labels):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(LoadedEncoder, "_read", stopped)
        with pytest.raises(KeyboardInterrupt):
            embed(encoder, folder, tmp_path / "a.npz")
    torch.manual_seed(1)
    other = LoadedEncoder(ConvNet((8, 16)), torch.nn.Linear(16, 4), PREPROCESSING)
    with pytest.raises(ValueError, match="with another encoder: give the same command to go on, or remove"):
        embed(other, folder, tmp_path / "a.npz")


def test_a_list_of_files_is_encoded_in_its_order(encoder, folder, tmp_path):
    paths = [folder / "dog" / "c.png", folder / "cat" / "a.png"]
    (tmp_path / "list.txt").write_text("\n".join(map(str, paths)))
    assert embed(encoder, tmp_path / "list.txt", tmp_path / "a.npz").files == tuple(map(str, paths))


def test_what_cannot_be_written_is_refused_before_anything_is_read(encoder, tmp_path):
    (tmp_path / "there.npz").write_text("kept")
    for name, kind, message in (
        ("a.csv", ValueError, r"the name ends in \.parquet, \.npz, \.npy"),
        ("there.npz", FileExistsError, "exists already"),
    ):
        with pytest.raises(kind, match=message):
            embed(encoder, "no such folder", tmp_path / name)
    with pytest.raises(ValueError, match="holds one array, and --z makes two"):
        embed(encoder, "no such folder", tmp_path / "a.npy", z=True)


def test_a_folder_without_a_readable_image_is_an_error(encoder, tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match="none of 1 images can be decoded"):
        embed(encoder, tmp_path / "bad", tmp_path / "a.npz")
    assert not (tmp_path / "a.partial").exists()


def test_one_image_is_encoded_by_its_name(encoder, folder, tmp_path):
    path = next(path for path in sorted(folder.rglob("*.png")))
    assert embed(encoder, path, tmp_path / "a.npz").files == (str(path),)


def test_a_device_that_is_not_there_is_refused_in_a_line():
    for name in ("tpu9", "meta"):
        with pytest.raises(ValueError, match=f"device={name}: torch .* cannot use it here"):
            on_device(torch.zeros(1), name)


def test_an_encoder_of_rows_embeds_no_folder_and_leaves_nothing(folder, tmp_path):
    rows = LoadedEncoder(TableMLP(3, [4]), None, {"columns": [{"mean": [0.0] * 3, "std": [1.0] * 3}], "views": [None]})
    with pytest.raises(ValueError, match=r"takes no images.*float32 \[n, 3\]: rows"):
        embed(rows, folder, tmp_path / "a.npz")
    assert not (tmp_path / "a.partial").exists()
