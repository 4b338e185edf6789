"""The list of a large folder is kept, and made again when a folder changes or the index is damaged."""

import logging
import os
import pickle
import time

import numpy as np
import pytest
import torch

from ssl_mi.data.images import files, folder, index
from ssl_mi.data.images.folder import ImageFolder
from ssl_mi.data.images.index import Paths


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Two classes of empty files, an hour old, and an index of whatever is listed."""
    monkeypatch.setattr(index, "LEAST", 1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("a/x", "b"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(4):
            (tmp_path / "images" / name / f"{i}.jpg").touch()
    settle(tmp_path / "images")
    return tmp_path / "images"


def settle(root):
    for place, _, _ in os.walk(root):
        os.utime(place, (time.time() - 3600, time.time() - 3600 + len(os.listdir(place))))


def listing(root):
    return ImageFolder(str(root))._list(root)


@pytest.fixture
def listed(monkeypatch):
    """How often a folder was listed."""
    calls, whole = [], folder.list_images
    monkeypatch.setattr(folder, "list_images", lambda *args: calls.append(args) or whole(*args))
    return calls


def test_a_folder_that_did_not_change_is_listed_once(root, listed, caplog):
    with caplog.at_level(logging.INFO):
        first, again = listing(root), listing(root)
    assert len(listed) == 1
    assert first.files == again.files == sorted(str(path) for path in root.rglob("*.jpg"))
    assert first.names == again.names == ("a", "b")
    assert first.class_of.tolist() == again.class_of.tolist() == [0] * 4 + [1] * 4
    assert [record.message.startswith("list of 8 files kept") for record in caplog.records] == [True, False]
    assert "no folder has changed" in caplog.records[-1].message


@pytest.mark.parametrize("change", ["add", "remove", "rename", "new folder", "class gone"])
def test_a_folder_that_changed_is_listed_again(root, listed, change):
    listing(root)
    if change == "add":
        (root / "a" / "x" / "new.jpg").touch()
    elif change == "remove":
        (root / "b" / "3.jpg").unlink()
    elif change == "rename":
        (root / "b" / "3.jpg").rename(root / "b" / "9.jpg")
    elif change == "new folder":
        (root / "c").mkdir()
        (root / "c" / "0.jpg").touch()
    else:
        for path in (root / "b").iterdir():
            path.unlink()
        (root / "b").rmdir()
    assert listing(root).files == sorted(str(path) for path in root.rglob("*.jpg"))
    assert len(listed) == 2


@pytest.mark.parametrize("content", [b"", b"no zip", None])
def test_a_damaged_index_is_said_in_one_line_and_made_again(root, listed, content, caplog):
    whole = listing(root)
    (place,) = (root.parent / "cache").rglob("*.npz")
    written = place.read_bytes()
    place.write_bytes(written[: len(written) // 2] if content is None else content)
    again = listing(root)
    assert again.files == whole.files
    assert len(listed) == 2
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1
    assert "is damaged" in caplog.text
    listing(root)
    assert len(listed) == 2


def test_a_folder_that_is_still_changing_has_no_index(root, listed):
    (root / "b" / "new.jpg").touch()
    assert listing(root).files == listing(root).files
    assert len(listed) == 2


def test_without_a_place_for_an_index_there_is_none(root, listed, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert listing(root).files == listing(root).files
    assert len(listed) == 2


def test_paths_are_a_list_of_strings():
    names = ["a.jpg", "ö/b c.jpg", os.fsdecode(b"\xff.png"), ""]
    paths = Paths(names)
    assert paths == names
    assert paths[-1] == ""
    assert paths[1:3] == names[1:3]
    assert paths.take(np.array([2, 0])) == [names[2], names[0]]
    assert pickle.loads(pickle.dumps(paths)) == names
    assert Paths([]) == []
    with pytest.raises(IndexError):
        paths[4]


def test_the_headers_of_a_very_large_set_are_not_read(root, monkeypatch, caplog):
    monkeypatch.setattr(files, "MOST_HEADERS", 4)
    monkeypatch.setattr(files, "_SAMPLE", 2)
    images = files.ImageFiles(listing(root).files, in_memory=False, on_error="skip")
    with caplog.at_level(logging.INFO):
        _, kept, skipped = images.decoded()
    assert len(kept) == 6  # two of the empty files were looked at
    assert len(skipped) == 2
    assert "not looked at one by one" in caplog.text


@pytest.mark.slow
def test_twenty_thousand_files_are_listed_without_opening_one(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "images").mkdir()
    (tmp_path / "one.jpg").touch()
    for i in range(20_000):
        os.link(tmp_path / "one.jpg", tmp_path / "images" / f"{i}.jpg")
    settle(tmp_path / "images")
    monkeypatch.setattr("builtins.open", None)
    found = listing(tmp_path / "images")
    assert len(found.files) == 20_000
    assert len(found.class_of) == 0


def test_taking_rows_shares_the_block(root):
    images = files.ImageFiles(listing(root).files)
    some = images.take(torch.tensor([5, 1]))
    assert some.paths == [images.paths[5], images.paths[1]]
    assert some.paths._block is images.paths._block
