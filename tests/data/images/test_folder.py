import logging
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_mi.data import Augmentation, ImageData, RandomResizedCrop, View
from ssl_mi.data.contracts import UnreadableRows
from ssl_mi.data.images.folder import ImageFiles, ImageFolder, UnreadableImage, decode, list_images


def noise(seed, height=16, width=16, channels=3):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def write(path, pixels=None, **save):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(0) if pixels is None else pixels).save(path, **save)
    return path


def folder_of(root, *folders, n=4, kind="png"):
    """n images in each folder, every one different."""
    for k, name in enumerate(folders):
        for i in range(n):
            write(root / name / f"{i}.{kind}", noise([k, i]))
    return root


def damage(path):
    """Cut the file short."""
    path.write_bytes(path.read_bytes()[:-200])
    return path


def image_data(root, **options):
    colour = {"mean": [0.5] * 3, "std": [0.25] * 3}
    views = Augmentation([View([RandomResizedCrop(16)], count=2)], 16, **colour)
    return ImageData(ImageFolder(str(root), **options), views, batch_size=8, size=16, **colour)


# Decoding


def test_pixels_come_back_as_they_were_written(tmp_path):
    pixels = noise(1, 10, 14)
    for kind in ("png", "bmp", "ppm", "tiff"):
        assert np.array_equal(decode(str(write(tmp_path / f"x.{kind}", pixels))), pixels)


@pytest.mark.parametrize("channels", [3, 1])
def test_a_jpeg_reads_as_pillow_reads_it(tmp_path, channels):
    path = write(tmp_path / "x.jpg", noise(1, 33, 47, channels).squeeze(), quality=75)
    with Image.open(path) as image:
        assert np.array_equal(decode(str(path)), np.asarray(image.convert("RGB")))


def test_every_kind_of_pixel_becomes_rgb(tmp_path):
    grey, alpha = noise(1, channels=1), noise(2, channels=4)
    rgb = np.repeat(grey, 3, axis=2)
    assert np.array_equal(decode(str(write(tmp_path / "grey.png", grey.squeeze()))), rgb)
    deep = (grey.squeeze().astype(np.uint16) << 8) + 77
    assert np.array_equal(decode(str(write(tmp_path / "deep.png", deep))), rgb)
    assert np.array_equal(decode(str(write(tmp_path / "alpha.png", alpha))), alpha[..., :3])
    few_colours = Image.fromarray(noise(3)).quantize(16)
    few_colours.save(tmp_path / "palette.png", transparency=bytes(range(16)))
    assert np.array_equal(decode(str(tmp_path / "palette.png")), np.asarray(few_colours.convert("RGB")))


def test_the_content_decides_and_not_the_extension(tmp_path):
    path = write(tmp_path / "really.png")
    assert np.array_equal(decode(str(path.rename(tmp_path / "claimed.jpg"))), noise(0))


@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_a_truncated_image_is_an_error_that_names_it_and_the_remedy(tmp_path, kind):
    path = damage(write(tmp_path / f"cut.{kind}"))
    with pytest.raises(UnreadableImage, match=rf"cut\.{kind}.*data.sets.on_error=skip"):
        decode(str(path))


def test_pixels_of_unknown_range_are_refused(tmp_path):
    write(tmp_path / "float.tiff", noise(0)[..., 0].astype(np.float32))
    with pytest.raises(UnreadableImage, match=r"float\.tiff.*no known range"):
        decode(str(tmp_path / "float.tiff"))


# Layouts


def test_train_and_test_folders_are_the_two_splits(tmp_path):
    folder_of(tmp_path, "train/cat", "train/dog", "test/dog", "test/cat")
    train, test, *_ = ImageFolder(str(tmp_path)).load()
    assert train.class_names == test.class_names == ("cat", "dog")
    assert train.labels.tolist() == test.labels.tolist() == [0] * 4 + [1] * 4
    images, rows, skipped = test.images.decoded()
    assert torch.equal(images[4], torch.from_numpy(noise([2, 0])).permute(2, 0, 1))  # test/dog/0
    assert rows.tolist() == list(range(8))
    assert skipped == ()


def test_class_folders_alone_are_split_once_saying_so(tmp_path, caplog):
    folder_of(tmp_path, "cat", "dog", n=10)
    with caplog.at_level(logging.INFO):
        train, test, *_ = ImageFolder(str(tmp_path), test_fraction=0.2).load()
    assert "4 of its 20 images are set aside for testing (seed 0)" in caplog.text
    assert test.labels.bincount().tolist() == [2, 2]
    assert len(set(train.images.paths) | set(test.images.paths)) == 20
    again = ImageFolder(str(tmp_path), test_fraction=0.2).load()
    assert again.test.images.paths == test.images.paths
    other = ImageFolder(str(tmp_path), test_fraction=0.2, seed=1).load()
    assert other.test.images.paths != test.images.paths


@pytest.mark.parametrize("where", ["train", "."])
def test_images_without_class_folders_have_no_labels(tmp_path, where):
    folder_of(tmp_path, where, n=10)
    train, test, *_ = ImageFolder(str(tmp_path)).load()
    assert (len(train), len(test)) == (9, 1)
    assert train.labels is None
    assert test.labels is None


def test_a_folder_of_validation_images_is_the_validation_split(tmp_path, caplog):
    folder_of(tmp_path, "train/cat", "train/dog", "val/cat", "val/dog", "test/cat", "extra", n=8)
    sets = ImageFolder(str(tmp_path)).load()
    assert [len(sets.train), len(sets.val), len(sets.test)] == [16, 16, 8]
    assert "not used, beside train: extra" in caplog.text
    data = image_data(tmp_path)
    data.setup()
    assert [len(data.train), len(data.val), len(data.test)] == [16, 16, 8]
    shutil.rmtree(tmp_path / "train")
    shutil.rmtree(tmp_path / "extra")
    with pytest.raises(ValueError, match="holds test and val but no folder 'train'"):
        ImageFolder(str(tmp_path)).load()


@pytest.mark.skipif(os.name == "nt", reason="no pipes and devices in folders")
def test_what_is_no_regular_file_is_passed_over_and_named(tmp_path, caplog):
    folder_of(tmp_path, "cat", "dog", n=2)
    os.mkfifo(tmp_path / "cat" / "pipe.jpg")
    (tmp_path / "cat" / "device.jpg").symlink_to("/dev/zero")
    (tmp_path / "cat" / "nothing.jpg").symlink_to("nowhere")
    (tmp_path / "cat" / "up").symlink_to("..")
    (tmp_path / "itself").symlink_to("itself")
    (tmp_path / "again").symlink_to(".")
    files, _, names = list_images(tmp_path)
    assert (len(files), names) == (4, ("cat", "dog"))
    assert "passed over 5 entries" in caplog.text
    assert "cat/nothing.jpg" in caplog.text
    with pytest.raises(UnreadableImage, match="no regular file"):
        decode(str(tmp_path / "cat" / "pipe.jpg"))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_that_are_no_utf8_are_read_and_can_be_printed(tmp_path, caplog):
    folder_of(tmp_path, "cat", n=2)
    os.mkdir(os.fsencode(tmp_path) + b"/d\xe9g")
    os.rename(tmp_path / "cat" / "1.png", os.fsencode(tmp_path) + b"/d\xe9g/\xff.png")
    files, _, names = list_images(tmp_path)
    assert names == ("cat", "d\\xe9g")
    assert decode(files[1]).shape == (16, 16, 3)
    os.truncate(files[1], 20)
    skipped = files_in(tmp_path, on_error="skip").decoded()[2]
    assert "\\xff.png" in skipped[0]
    assert skipped[0].encode()


def test_hidden_files_are_passed_over_and_folders_inside_a_class_are_not(tmp_path):
    folder_of(tmp_path, "cat", "dog/puppy", n=1)
    write(tmp_path / "cat" / "._0.png")
    (tmp_path / ".cache").mkdir()
    files, class_of, names = list_images(tmp_path)
    assert [file.removeprefix(str(tmp_path)) for file in files] == ["/cat/0.png", "/dog/puppy/0.png"]
    assert (class_of, names) == ([0, 1], ("cat", "dog"))


# Bad folders


def test_a_missing_folder_says_where_it_looked_and_what_it_expects(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"data.root=.*nowhere.* does not exist.*train/<class>/"):
        ImageFolder(str(tmp_path / "nowhere")).load()


def test_a_folder_without_images_says_what_is_there_instead(tmp_path):
    with pytest.raises(FileNotFoundError, match="no files at all"):
        ImageFolder(str(tmp_path)).load()
    for name in ("a.dcm", "b.dcm", "c.txt", "README"):
        (tmp_path / name).write_text("")
    with pytest.raises(FileNotFoundError, match=r"2 \.dcm, 1 without extension, 1 \.txt\. .*\.jpeg"):
        ImageFolder(str(tmp_path)).load()


def test_a_class_folder_without_images_is_named(tmp_path):
    folder_of(tmp_path, "train/cat", "train/dog")
    (tmp_path / "train" / "empty").mkdir()
    with pytest.raises(ValueError, match="class folder 'empty' holds no images"):
        ImageFolder(str(tmp_path)).load()


def test_images_beside_class_folders_are_refused(tmp_path):
    folder_of(tmp_path, "cat", "dog")
    write(tmp_path / "stray.png")
    with pytest.raises(ValueError, match=r"1 images \(stray\.png.*beside 2 folders"):
        ImageFolder(str(tmp_path)).load()


def test_a_test_class_that_training_lacks_is_named(tmp_path):
    folder_of(tmp_path, "train/cat", "train/dog", "test/cow")
    with pytest.raises(ValueError, match=r"'cow'.*cat, dog"):
        ImageFolder(str(tmp_path)).load()


def test_labels_in_training_alone_are_refused(tmp_path):
    folder_of(tmp_path, "train/cat", "train/dog", "test")
    with pytest.raises(ValueError, match="has images alone"):
        ImageFolder(str(tmp_path)).load()


@pytest.mark.parametrize(
    ("option", "message"),
    [({"in_memory": "yes"}, "in_memory=yes"), ({"on_error": "ignore"}, "on_error=ignore"),
     ({"test_fraction": 1.0}, "test_fraction=1.0")],
)  # fmt: skip
def test_unknown_options_are_refused(option, message):
    with pytest.raises(ValueError, match=message):
        ImageFolder("anywhere", **option)


# In memory or in files


def files_in(folder, **options):
    return ImageFiles(list_images(folder)[0], **options)


def test_images_of_one_size_that_fit_are_kept_in_memory(tmp_path):
    folder_of(tmp_path, "a", "b")
    everything = 8 * 3 * 16 * 16 / 1e9
    assert files_in(tmp_path, memory_gb=everything).decoded()[0].pixels.shape == (8, 3, 16, 16)
    assert isinstance(files_in(tmp_path, memory_gb=0.99 * everything).decoded()[0], ImageFiles)
    assert isinstance(files_in(tmp_path, in_memory=False).decoded()[0], ImageFiles)


def test_one_image_of_another_size_keeps_all_in_files(tmp_path):
    folder_of(tmp_path, "a", n=200)
    write(tmp_path / "a" / "101.png", noise(0, 20, 16))  # not among those whose headers are sampled
    files = files_in(tmp_path)
    assert files.shape == (3, 16, 16)
    assert files.decoded()[0] is files
    assert files.shape is None
    with pytest.raises(ValueError, match=r"101\.png is 20x16 .* others are 16x16.*in_memory=false"):
        files_in(tmp_path, in_memory=True).decoded()


def test_images_for_memory_that_are_unreadable_are_left_out_and_named(tmp_path):
    folder_of(tmp_path, "a", n=6)
    broken = [str(damage(tmp_path / "a" / f"{i}.png")) for i in (1, 4)]
    images, rows, skipped = files_in(tmp_path, in_memory=True, on_error="skip").decoded()
    assert skipped == tuple(broken)
    assert rows.tolist() == [0, 2, 3, 5]
    assert torch.equal(images[3], torch.from_numpy(noise([0, 5])).permute(2, 0, 1))


def test_a_broken_header_is_found_at_once_and_a_broken_body_when_it_is_read(tmp_path, caplog):
    folder_of(tmp_path, "a", n=6)
    (tmp_path / "a" / "1.png").write_bytes(b"")
    cut = damage(tmp_path / "a" / "4.png")
    images, rows, skipped = files_in(tmp_path, in_memory=False, on_error="skip").decoded()
    assert (rows.tolist(), skipped) == ([0, 2, 3, 4, 5], (str(tmp_path / "a" / "1.png"),))
    assert "1.png (the file is empty)" in caplog.text
    with pytest.raises(UnreadableRows) as error:
        images.read(torch.arange(5), 16)
    assert error.value.rows == [3]
    assert images.failed == (str(cut),)
    assert "4.png: image file is truncated" in caplog.text
    read = images.read(torch.tensor([4]), 16)[0]
    assert torch.equal(read, torch.from_numpy(noise([0, 5])).permute(2, 0, 1))


def test_a_folder_that_vanishes_ends_the_run_and_so_do_many_broken_files(tmp_path):
    folder_of(tmp_path, "a", "b", n=20)
    images = files_in(tmp_path, in_memory=False, on_error="skip").decoded()[0]
    for i in range(20):
        damage(tmp_path / "a" / f"{i}.png")
    with pytest.raises(OSError, match=r"\d+ of 40 images could not be decoded.*ckpt_path="):
        images.read(torch.arange(20), 16)
    shutil.rmtree(tmp_path / "b")
    with pytest.raises(OSError, match=r"the folder .*/b vanished"):
        images.read(torch.arange(20, 40), 16)


def test_unreadable_images_stop_the_run_otherwise(tmp_path):
    folder_of(tmp_path, "a", n=6)
    damage(tmp_path / "a" / "4.png")
    with pytest.raises(UnreadableImage, match=r"a/4\.png"):
        files_in(tmp_path).decoded()


def test_images_that_fail_in_training_are_replaced_and_in_evaluation_left_out(tmp_path):
    folder_of(tmp_path, "cat", "dog", n=20)
    data = image_data(tmp_path, in_memory=False)
    data.setup()
    broken = [Path(path) for path in data.train.images.paths[3:5]]
    for path in broken:
        damage(path)
    for workers in (0, 1):
        data.num_workers = workers
        batches = list(data.train_dataloader())
        assert [len(batch.index) for batch in batches] == [8] * len(batches)
        rows = torch.cat([batch.index for batch in batches])
        assert not set(rows.tolist()) & {3, 4}
        assert torch.equal(torch.cat([b.labels for b in batches]), data.train.labels[rows])
    left = torch.cat([source.index for source in data.batches("train", batch_size=8)])
    assert left.tolist() == [row for row in range(len(data.train)) if row not in (3, 4)]
    assert data.report()["skipped"] == [str(path) for path in broken]
    assert "2 unreadable files left out" in data.describe()


def test_an_error_in_a_worker_arrives_as_one_line(tmp_path):
    folder_of(tmp_path, "cat", "dog", n=20)
    data = image_data(tmp_path, in_memory=False, on_error="error")
    data.setup()
    data.num_workers = 1
    for path in data.train.images.paths:
        damage(Path(path))
    with pytest.raises(UnreadableImage) as error:
        list(data.train_dataloader())
    assert "Traceback" not in str(error.value)


def test_nothing_but_unreadable_images_is_an_error_even_when_skipping(tmp_path):
    folder_of(tmp_path, "a", n=2)
    for i in range(2):
        damage(tmp_path / "a" / f"{i}.png")
    with pytest.raises(UnreadableImage, match="none of 2 images"):
        files_in(tmp_path, in_memory=True, on_error="skip").decoded()


def test_a_square_is_the_middle_of_the_image(tmp_path):
    pixels = noise(0, 16, 40)
    write(tmp_path / "a" / "wide.png", pixels)
    square = files_in(tmp_path).read(torch.tensor([0]), 16)[0]
    assert np.array_equal(square.permute(1, 2, 0).numpy(), pixels[:, 12:28])
    write(tmp_path / "a" / "wide.png", np.full((31, 47, 3), 100, dtype=np.uint8))
    assert (files_in(tmp_path).read(torch.tensor([0]), 10) == 100).all()
