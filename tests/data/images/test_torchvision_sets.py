import hashlib
import pickle
import socket
from urllib.error import URLError

import numpy as np
import pytest
import torch
from torchvision import datasets

from ssl_mi.data.images.torchvision_sets import TorchvisionSet

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 3, 32, 32), dtype=np.uint8)
LABELS = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8]


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path.name, hashlib.md5(content).hexdigest()


@pytest.fixture
def tiny_cifar(tmp_path, monkeypatch):
    """CIFAR-10 of 8 + 4 images in its own format, which torchvision takes for the published one."""
    folder = tmp_path / datasets.CIFAR10.base_folder

    def batch(name, rows):
        return put(folder / name, pickle.dumps({"data": PIXELS[rows].reshape(-1, 3072), "labels": LABELS[rows]}))

    names = [f"class {i}" for i in range(10)]
    meta = put(folder / "batches.meta", pickle.dumps({"label_names": names}))
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [batch("one", slice(0, 5)), batch("two", slice(5, 8))])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [batch("test", slice(8, 12))])
    monkeypatch.setattr(datasets.CIFAR10, "meta", {"filename": meta[0], "key": "label_names", "md5": meta[1]})
    return tmp_path


@pytest.fixture
def tiny_stl(tmp_path, monkeypatch):
    """STL-10 of 4 + 6 unlabelled + 2 images; stored column by column, labels from 1."""
    images = np.random.default_rng(1).integers(0, 256, (12, 3, 96, 96), dtype=np.uint8)
    folder = tmp_path / datasets.STL10.base_folder
    stored = images.transpose(0, 1, 3, 2)
    lists = {
        "train_list": [
            put(folder / "train_X.bin", stored[:4].tobytes()),
            put(folder / "train_y.bin", bytes([1, 10, 2, 1])),
            put(folder / "unlabeled_X.bin", stored[4:10].tobytes()),
        ],
        "test_list": [
            put(folder / "test_X.bin", stored[10:].tobytes()),
            put(folder / "test_y.bin", bytes([2, 10])),
        ],
    }
    for name, files in lists.items():
        monkeypatch.setattr(datasets.STL10, name, files)
    put(folder / "class_names.txt", "\n".join(f"class {i}" for i in range(10)).encode())
    return tmp_path, torch.from_numpy(images)


def test_cifar_comes_as_bytes_with_channels_first(tiny_cifar):
    train, test, unlabelled, _ = TorchvisionSet("CIFAR10", str(tiny_cifar)).load()
    assert torch.equal(train.images.pixels, torch.from_numpy(PIXELS[:8]))
    assert torch.equal(test.images.pixels, torch.from_numpy(PIXELS[8:]))
    assert train.labels.tolist() + test.labels.tolist() == LABELS
    assert train.class_names == tuple(f"class {i}" for i in range(10))
    assert unlabelled is None


def test_the_unlabelled_images_of_stl_are_a_set_without_labels(tiny_stl):
    root, images = tiny_stl
    train, test, unlabelled, _ = TorchvisionSet("STL10", str(root), unlabelled=True).load()
    assert torch.equal(train.images.pixels, images[:4])
    assert train.labels.tolist() == [0, 9, 1, 0]
    assert torch.equal(unlabelled.images.pixels, images[4:10])
    assert unlabelled.labels is None
    assert test.labels.tolist() == [1, 9]
    assert TorchvisionSet("STL10", str(root)).load().unlabelled is None


def test_absent_files_are_listed_with_the_folder_and_the_ways_to_bring_them(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        TorchvisionSet("CIFAR10", str(tmp_path), download=False).load()
    for part in (
        str(tmp_path),
        "cifar-10-batches-py",
        "data_batch_1 (missing)",
        "test_batch (missing)",
        "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        "data.sets.download=false",
        "data=image_folder data.root=",
    ):
        assert part in str(error.value)


def test_a_changed_file_is_told_from_a_missing_one(tiny_cifar):
    with (tiny_cifar / datasets.CIFAR10.base_folder / "two").open("ab") as file:
        file.write(b"more")
    with pytest.raises(FileNotFoundError, match=r"with two \(not the published file: its MD5 differs\)"):
        TorchvisionSet("CIFAR10", str(tiny_cifar), download=False).load()


def test_a_download_that_fails_says_why_and_what_to_do(tmp_path, monkeypatch):
    def no_network(self):
        assert socket.getdefaulttimeout() is not None  # a dead connection must not hang the run
        raise URLError("Name or service not known")

    monkeypatch.setattr(datasets.CIFAR100, "download", no_network)
    with pytest.raises(
        FileNotFoundError, match=r"cifar-100-python with train \(missing\).*Downloading failed: .*Name or"
    ):
        TorchvisionSet("CIFAR100", str(tmp_path)).prepare()
    assert socket.getdefaulttimeout() is None


@pytest.mark.parametrize(
    ("option", "message"),
    [({"name": "MNIST"}, "name=MNIST is none of CIFAR10"), ({"name": "CIFAR10", "unlabelled": True}, "only STL10")],
)
def test_options_that_do_not_exist_are_refused(option, message):
    with pytest.raises(ValueError, match=message):
        TorchvisionSet(root="data", **option)
