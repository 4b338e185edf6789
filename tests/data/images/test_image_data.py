import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_mi.data.images import module as image_module
from ssl_mi.data.images.augmentations import Augmentation, ColorJitter, HorizontalFlip, RandomResizedCrop, View
from ssl_mi.data.images.folder import ImageFolder
from ssl_mi.data.images.module import ImageData
from ssl_mi.data.sets import ImageSet, Sets

MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]


def images(n, seed=0, channels=3, side=8):
    pixels = np.random.default_rng(seed).integers(0, 256, (n, channels, side, side), dtype=np.uint8)
    return torch.from_numpy(pixels)


def labelled(n, seed=0, classes=4, **shape):
    names = tuple("abcdefgh"[:classes])
    return ImageSet("given", images(n, seed, **shape), torch.arange(n) % classes, names, {"row": torch.arange(n)})


class Given:
    """A source of images that are already there."""

    def __init__(self, *sets):
        self.sets = sets or (labelled(100), labelled(40, seed=1))

    def load(self):
        return Sets(*self.sets)


def two_views(size=8):
    ops = [RandomResizedCrop(size, scale=(0.3, 1.0)), HorizontalFlip(0.5), ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8)]
    return Augmentation([View(ops, count=2)], size, MEAN, STD)


def data(*sets, source=None, **changes):
    options = {"batch_size": 16, "size": 8, "mean": MEAN, "std": STD, "val_fraction": 0.2, "seed": 3, **changes}
    return ImageData(source or Given(*sets), two_views(options["size"]), **options)


def ready(*sets, **changes):
    module = data(*sets, **changes)
    module.setup()
    return module


def epoch_of(module, epoch=0):
    loader = module.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return list(loader)


def origins(images):
    return images.factors["row"].tolist()


# Splits


def test_validation_comes_out_of_training_and_test_is_left_alone():
    module = ready()
    assert (len(module.train), len(module.val), len(module.test)) == (80, 20, 40)
    assert sorted(origins(module.train) + origins(module.val)) == list(range(100))
    assert module.val.labels.bincount().tolist() == [5, 5, 5, 5]
    assert torch.equal(module.test.images[torch.tensor(origins(module.test)).argsort()], images(40, seed=1))
    assert module.labelled is module.train


def test_a_limit_takes_a_fair_part_of_training_and_leaves_validation_as_it_was():
    whole, limited, smaller = ready(), ready(limit=40), ready(limit=20)
    assert len(limited.train) == 40
    assert set(origins(smaller.train)) < set(origins(limited.train)) < set(origins(whole.train))
    assert (limited.train.labels.bincount() - 10).abs().max() <= 2
    assert torch.equal(limited.val.images.pixels, whole.val.images.pixels)


def test_the_seed_decides_the_splits():
    assert origins(ready().val) == origins(ready().val)
    assert origins(ready().val) != origins(ready(seed=4).val)


def test_the_other_splits_have_limits_too():
    module = ready(val_limit=8, test_limit=12)
    assert (len(module.train), len(module.val), len(module.test)) == (80, 8, 12)
    assert module.test.labels.bincount().tolist() == [3, 3, 3, 3]


def test_unlabelled_images_are_trained_on_but_never_probed_or_held_out():
    module = ready(labelled(50), labelled(20, seed=1), ImageSet("given", images(70, seed=2)))
    assert (len(module.train), len(module.labelled), len(module.val)) == (110, 40, 10)
    assert module.train.labels is None
    assert module.val.labels is not None
    assert torch.equal(module.train.images[:40], module.labelled.images.pixels)
    assert module.train.images.pixels.data_ptr() == module.labelled.images.pixels.data_ptr()  # not kept twice
    rest = module.train.images[40:].flatten(1)
    assert torch.equal(rest.unique(dim=0), images(70, seed=2).flatten(1).unique(dim=0))
    assert "110 train" in module.describe()
    assert "4 classes on 40 of them" in module.describe()
    cut = ready(labelled(50), labelled(20, seed=1), ImageSet("given", images(70, seed=2)), limit=60)
    assert (len(cut.train), len(cut.labelled)) == (60, 40)


def test_without_labels_the_images_are_the_same_in_number():
    module = ready(labels=False)
    assert module.train.labels is None
    assert module.test.labels is None
    assert (len(module.train), len(module.val)) == (80, 20)
    assert module.class_names == ()
    assert not module.has_labels
    assert epoch_of(module)[0].labels is None


def test_a_second_setup_changes_nothing():
    module = ready()
    before = module.train
    module.setup("test")
    assert module.train is before


# Training batches


def test_a_batch_holds_the_rows_it_names_with_their_labels():
    module = ready()
    batches = epoch_of(module, epoch=2)
    assert len(batches) == 5
    for source in batches:
        assert torch.equal(source.images, module.train.images[source.index])
        assert torch.equal(source.labels, module.train.labels[source.index])
        assert (source.split, source.epoch, source.crops) == (0, 2, None)


def test_views_are_drawn_from_the_run_s_seed():
    module = ready()
    source = epoch_of(module)[0]
    batch = module.on_after_batch_transfer(source, 0)
    expected = module.augmentation(source, 3)
    assert [view.shape for view in batch.views] == [(16, 3, 8, 8)] * 2
    assert all(torch.equal(view, other) for view, other in zip(batch.views, expected, strict=True))
    assert torch.equal(batch.index, source.index)


# Evaluation


@pytest.mark.parametrize("split", ["train", "val", "test", "labelled"])
def test_evaluation_sees_every_image_once_in_order(split):
    module = ready()
    sources = list(module.batches(split, batch_size=7))
    assert torch.equal(torch.cat([s.images for s in sources]), getattr(module, split).images.pixels)
    assert torch.cat([s.index for s in sources]).tolist() == list(range(len(getattr(module, split))))


@pytest.mark.parametrize("limit", [None, 5, 1000])
def test_shards_together_are_the_whole_split_in_order(limit):
    module = ready()
    whole = torch.cat([s.index for s in module.batches("test", limit)])
    shards = [s.index for rank in range(3) for s in module.batches("test", limit, batch_size=6, shard=(rank, 3))]
    assert torch.equal(torch.cat(shards), whole)
    assert len(whole) == min(limit or 40, 40)


def test_fresh_views_repeat_with_their_draw_and_never_repeat_training():
    module = ready()
    training = {s.index[0].item(): module.on_after_batch_transfer(s, 0).views[0][0] for s in epoch_of(module)}
    source = next(module.batches("train"))
    first, again, other = (module.views(source, draw).views for draw in (0, 0, 1))
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[0], other[0])
    assert not torch.equal(first[0], first[1])
    for row, view in training.items():
        assert not torch.equal(first[0][row], view)
    with pytest.raises(ValueError, match="draw=-1"):
        module.views(source, -1)


def test_views_of_validation_and_test_rows_are_drawn_apart():
    same = images(1).expand(40, -1, -1, -1)
    module = ready(ImageSet("given", same.repeat(2, 1, 1, 1)), ImageSet("given", same))
    val, test = (module.views(next(module.batches(split, limit=8)), 0).views[0] for split in ("val", "test"))
    assert not torch.equal(val, test)


def test_clean_images_are_the_normalised_pixels():
    module = ready()
    source = next(module.batches("val"))
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    torch.testing.assert_close(module.clean(source), (source.images / 255 - mean) / std)


def test_evaluating_leaves_the_global_random_state_alone():
    module = ready()
    before = torch.get_rng_state()
    for source in module.batches("val"):
        module.views(source, 0)
    assert torch.equal(torch.get_rng_state(), before)


# Images that stay in files


@pytest.fixture
def folder(tmp_path):
    for split, n in (("train", 20), ("test", 6)):
        for name in ("cat", "dog"):
            for i in range(n):
                path = tmp_path / split / name / f"{i:02}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = images(1, seed=[len(split), len(name) + ord(name[0]), i], side=24)[0]
                Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(path)
    return tmp_path


def from_folder(folder, in_memory, size=24, **changes):
    options = {"batch_size": 8, "size": size, **changes}
    return ready(source=ImageFolder(str(folder), in_memory=in_memory), **options)


@pytest.mark.parametrize("in_memory", [True, False])
def test_every_row_of_a_split_is_traced_to_its_file(folder, in_memory):
    (folder / "train" / "cat" / "05.png").write_bytes(b"broken")
    module = from_folder(folder, in_memory, test_limit=9)
    for split in ("train", "val", "test"):
        samples = getattr(module, split)
        for row in range(len(samples)):
            file = module.row_names(split, row)
            pixels = torch.from_numpy(np.array(Image.open(file).convert("RGB"))).permute(2, 0, 1)
            assert torch.equal(module.read(split, torch.tensor([row])).images[0], pixels)


@pytest.mark.parametrize("workers", [0, 2])
def test_crops_made_in_workers_are_those_made_in_memory(folder, workers):
    memory, files = (from_folder(folder, kept, size=12, num_workers=workers) for kept in (True, False))
    assert memory.train.in_memory
    assert not files.train.in_memory
    for ours, theirs in zip(epoch_of(memory, 1), epoch_of(files, 1), strict=True):
        assert torch.equal(ours.index, theirs.index)
        assert torch.equal(ours.labels, theirs.labels)
        assert theirs.images is None
        a, b = (module.on_after_batch_transfer(s, 0).views for module, s in ((memory, ours), (files, theirs)))
        for view, other in zip(a, b, strict=True):
            # A crop from a file is rounded to bytes before the colours are changed.
            assert (view - other).abs().max() < 8 / 255 / min(STD)
            assert (view - other).abs().mean() < 1 / 255 / min(STD)


def test_evaluation_reads_files_as_it_reads_memory(folder):
    memory, files = (from_folder(folder, kept) for kept in (True, False))
    for ours, theirs in zip(memory.batches("val"), files.batches("val"), strict=True):
        assert torch.equal(ours.images, theirs.images)
        torch.testing.assert_close(memory.clean(ours), files.clean(theirs))
        a, b = memory.views(ours, 2).views[0], files.views(theirs, 2).views[0]
        assert (a - b).abs().mean() < 1 / 255 / min(STD)


def test_a_limit_is_taken_before_files_are_decoded(folder):
    for path in (folder / "train").rglob("*.png"):
        path.write_bytes(path.read_bytes()[:-100])
    module = data(source=ImageFolder(str(folder), on_error="skip"), size=24, batch_size=8, limit=10)
    with pytest.raises(ValueError, match="none of 10 images can be decoded"):
        module.setup()


def test_skipped_images_are_counted_and_named_in_the_report(folder):
    whole = from_folder(folder, "auto")
    broken = whole.sets.load().train.images.paths[5]
    with open(broken, "r+b") as file:
        file.truncate(300)
    module = ready(source=ImageFolder(str(folder), on_error="skip"), size=24, batch_size=8)
    assert module.report()["skipped"] == [broken]
    assert len(module.train) + len(module.val) == 39
    assert "1 unreadable files left out" in module.describe()


def test_the_report_says_what_there_is():
    report = ready().report()
    assert report["images"] == {"train": 80, "val": 20, "test": 40}
    assert (report["name"], report["labelled"], report["classes"]) == ("given", 80, ["a", "b", "c", "d"])
    assert (report["batch_size"], report["batches_per_epoch"], report["skipped"]) == (16, 5, [])


# Bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 1}, r"data\.batch_size=1.*at least 2"),
        ({"val_fraction": 1.0}, r"data\.val_fraction=1\.0"),
        ({"limit": 0}, r"data\.limit=0"),
        ({"limit": 8}, r"data\.limit=8 is less than one batch \(data\.batch_size=16\)"),
        ({"std": [0.1, 0.1]}, r"data\.std=\[0\.1, 0\.1\]"),
        ({"seed": -1}, r"data\.seed=-1"),
    ],
)
def test_numbers_that_cannot_work_are_refused_at_once(change, message):
    with pytest.raises(ValueError, match=message):
        data(**change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"limit": 81}, r"data\.limit=81 is more than the 80 training images.*20 more are held out"),
        ({"val_limit": 21}, r"data\.val_limit=21 is more than the 20 images"),
        ({"test_limit": 41}, r"data\.test_limit=41 is more than the 40 images"),
        ({"batch_size": 96}, r"data\.batch_size=96 is more than the 80 training images"),
        ({"size": 16}, r"8x8 pixels, smaller than data\.size=16; use data\.size=8, or data\.upscale=true"),
    ],
)
def test_numbers_that_the_images_do_not_allow_are_refused_before_decoding(change, message):
    with pytest.raises(ValueError, match=message):
        ready(**change)


def test_enlarging_images_has_to_be_asked_for():
    assert ready(size=16, upscale=True).clean(next(ready().batches("val"))).shape[-2:] == (16, 16)


def test_channels_that_mean_and_std_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"images have 1 channels, but data\.mean and data\.std have 3"):
        ready(labelled(100, channels=1), None)


def test_one_class_only_is_refused_and_named_with_the_remedy():
    lonely = ImageSet("given", images(100), torch.zeros(100, dtype=torch.int64), ("cats",))
    with pytest.raises(ValueError, match=r"class 'cats'.*data\.labels=false"):
        ready(lonely, None)
    assert len(ready(lonely, None, labels=False).train) == 80


def test_a_batch_that_processes_cannot_share_is_refused_in_setup(monkeypatch):
    monkeypatch.setattr(image_module, "this_process", lambda: (0, 3))
    with pytest.raises(ValueError, match=r"data\.batch_size=16 .* over 3 of them"):
        ready()


def test_a_split_that_is_not_there_is_named():
    module = ready(labelled(100), None)
    with pytest.raises(ValueError, match="given has no test images"):
        next(module.batches("test"))
    with pytest.raises(ValueError, match="'trian' is none of train, labelled, val, test"):
        next(module.batches("trian"))
    with pytest.raises(RuntimeError, match="call setup"):
        next(data().batches("val"))


@pytest.mark.parametrize("in_memory", [True, False])
def test_images_that_are_in_two_splits_are_counted_and_said(folder, caplog, in_memory):
    for number, path in enumerate(sorted((folder / "train").rglob("*.png"))[:3]):
        shutil.copy(path, folder / "test" / "cat" / f"copy{number}.png")
    module = from_folder(folder, in_memory, val_fraction=0)
    assert module.report()["shared_with_train"] == {"test": 3}
    assert "3 test images are also training images, byte for byte" in caplog.text
