"""Images that are arrays: a plain batch for an augmentation, a data set for a run."""

import numpy as np
import pytest
import torch

from ssl_mi.data import Augmentation, ColorJitter, HorizontalFlip, ImageArrays, RandomResizedCrop, Source, View

MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.25, 0.3]
CROPPED = Augmentation([View([RandomResizedCrop(8), HorizontalFlip(), ColorJitter()], count=2)], 8, MEAN, STD)
AS_THEY_ARE = Augmentation([View([])], 8, MEAN, STD)


def images(n=6, side=12):
    return torch.randint(0, 256, (n, 3, side, side), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def test_a_plain_batch_has_the_views_of_a_source_of_that_step():
    x = images()
    expected = CROPPED(Source(x, torch.arange(6), None, 0, 5), 3)
    for one, other in zip(CROPPED(x, seed=3, step=5), expected, strict=True):
        assert torch.equal(one, other)


def test_views_are_new_at_every_call_and_follow_torchs_seed():
    x = images()
    torch.manual_seed(0)
    first, second = CROPPED(x)[0], CROPPED(x)[0]
    torch.manual_seed(0)
    assert torch.equal(CROPPED(x)[0], first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    "form",
    [
        lambda x: x.numpy(),
        lambda x: x.permute(0, 2, 3, 1).numpy(),
        lambda x: x.permute(0, 2, 3, 1),
        lambda x: x.float() / 255,
        lambda x: (x.double() / 255).numpy(),
    ],
    ids=["numpy", "numpy, channels last", "channels last", "floats", "numpy doubles"],
)
def test_a_batch_may_be_an_array_channels_last_or_floats(form):
    x = images()
    (views,) = AS_THEY_ARE(form(x))
    (expected,) = AS_THEY_ARE(x)
    torch.testing.assert_close(views, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (torch.zeros(3, 8, 8), r"must be \[n, 3, h, w\] or \[n, h, w, 3\], got \[3, 8, 8\]"),
        (torch.zeros(2, 1, 8, 8), r"got \[2, 1, 8, 8\]"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.int64), "must be uint8, or floats in .*, got torch.int64"),
        (torch.full((2, 3, 8, 8), 255.0), r"floats? .*must be in \[0, 1\], got 255 to 255: divide by 255"),
        (torch.full((2, 3, 8, 8), float("nan")), r"must be in \[0, 1\], got nan"),
        ([np.zeros((8, 8, 3))], "must be a tensor or a numpy array, got list"),
    ],
)
def test_a_batch_that_is_no_images_is_refused_by_name(batch, message):
    with pytest.raises(ValueError, match=message):
        CROPPED(batch)


def test_a_seed_without_a_step_is_refused():
    for given in ({"seed": 0}, {"step": 0}):
        with pytest.raises(ValueError, match="give both seed and step, or neither"):
            CROPPED(images(), **given)
    with pytest.raises(ValueError, match="a Source takes its seed"):
        CROPPED(Source(images(), torch.arange(6), None, 0, 0))


def test_arrays_become_a_training_and_a_test_set_with_named_classes():
    x, names = images(20).permute(0, 2, 3, 1).numpy(), np.array(["cat", "dog"] * 10)
    train, test, *_ = ImageArrays(x, names, test_fraction=0.2).load()
    assert (len(train), len(test)) == (16, 4)
    assert train.class_names == test.class_names == ("cat", "dog")
    assert test.labels.bincount().tolist() == [2, 2]
    assert train.shape == (3, 12, 12)


@pytest.mark.parametrize("channels", [2, 4, 13])
def test_arrays_of_many_channels_are_told_by_the_smaller_side(channels):
    first = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (20, channels, 15, 16), dtype=np.uint8))
    for x in (first, first.permute(0, 2, 3, 1)):
        train = ImageArrays(x).train
        assert torch.equal(train.images.pixels, first)
        assert train.shape == (channels, 15, 16)


def test_test_images_of_ones_own_are_kept_as_they_are():
    x = images(20)
    train, test, *_ = ImageArrays(x[:15], range(15), x[15:], range(5)).load()
    assert (len(train), len(test)) == (15, 5)
    assert test.labels.tolist() == [0, 1, 2, 3, 4]
    assert len(train.class_names) == 15


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"train": torch.rand(4, 3, 8, 8)}, r"must be uint8, got torch.float32: \(255 \* images\)"),
        ({"train": torch.zeros(4, 8, 8)}, "training images: images must be"),
        ({"train": images(4), "labels": [0, 1]}, "4 images but 2 labels"),
        ({"train": images(4), "labels": [0.5] * 4}, "labels must be integers or strings"),
        ({"train": images(4), "labels": [0, 1, 0, 1], "test": images(2)}, "labels of both"),
        ({"train": images(4), "test_fraction": 1.0}, "above 0 and below 1"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_by_name(arguments, message):
    with pytest.raises(ValueError, match=message):
        ImageArrays(**arguments)
