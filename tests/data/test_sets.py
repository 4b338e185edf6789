import pytest
import torch

from ssl_mi.data.images.digits import Digits
from ssl_mi.data.sets import ImageSet, rare_classes, stratified_order

LABELS = torch.tensor([0] * 600 + [1] * 300 + [2] * 100)


def small(n=4, **known):
    return ImageSet("small", torch.arange(n * 12, dtype=torch.uint8).view(n, 3, 2, 2), **known)


@pytest.mark.parametrize("m", [10, 37, 100, 500, 999])
def test_every_prefix_of_a_stratified_order_has_the_classes_in_proportion(m):
    order = stratified_order(LABELS, 1000, [0])
    counts = LABELS[order[:m]].bincount(minlength=3)
    assert ((counts - m * torch.tensor([0.6, 0.3, 0.1])).abs() <= 2).all()


@pytest.mark.parametrize("labels", [LABELS, None])
def test_an_order_is_a_permutation_fixed_by_its_key(labels):
    order = stratified_order(labels, 1000, [7, 1])
    assert torch.equal(order.sort().values, torch.arange(1000))
    assert torch.equal(order, stratified_order(labels, 1000, [7, 1]))
    assert not torch.equal(order, stratified_order(labels, 1000, [8, 1]))


def test_taking_rows_takes_what_is_known_of_them():
    whole = small(labels=torch.tensor([0, 1, 0, 1]), class_names=("a", "b"), factors={"x": torch.arange(4.0)})
    part = whole.take(torch.tensor([3, 0]))
    assert torch.equal(part.images.pixels, whole.images[[3, 0]])
    assert part.labels.tolist() == [1, 0]
    assert part.factors["x"].tolist() == [3.0, 0.0]
    assert part.shape == (3, 2, 2)


def test_without_labels_nothing_is_left_of_them():
    bare = small(labels=torch.zeros(4, dtype=torch.int64), class_names=("a",)).without_labels()
    assert bare.labels is None
    assert bare.class_names == ()


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({"labels": torch.tensor([0, 1])}, "4 images but 2 values of 'labels'"),
        ({"factors": {"size": torch.zeros(5)}}, "4 images but 5 values of 'size'"),
        ({"labels": torch.tensor([0, 1, -1, 0]), "class_names": ("a", "b")}, "from -1 to 1"),
        ({"labels": torch.tensor([0, 1, 2, 0]), "class_names": ("a", "b")}, "from 0 to 2, but there are 2"),
        ({"labels": torch.zeros(4)}, "int64, not torch.float32"),
    ],
)
def test_a_set_that_contradicts_itself_is_refused(known, message):
    with pytest.raises(ValueError, match=message):
        small(**known)


def test_images_that_are_not_bytes_are_refused():
    with pytest.raises(ValueError, match=r"uint8 \[N, C, H, W\], not torch.float32 \[4, 3, 2, 2\]"):
        ImageSet("floats", torch.zeros(4, 3, 2, 2))


def test_digits_are_split_once_and_keep_their_pixels():
    train, test, *_ = Digits(width=8, test_fraction=0.25).load()
    assert (len(train), len(test)) == (1348, 449)
    mean = train.images.pixels.float().mean()
    assert mean == pytest.approx(4.884 * 255 / 16, rel=0.02)  # scikit-learn: mean 4.884 of 16
    counts = test.labels.bincount()
    assert counts.min() >= 42
    assert counts.max() <= 47
    again = Digits(width=8, test_fraction=0.25).load()
    assert torch.equal(again.train.images.pixels, train.images.pixels)
    both = torch.cat([train.images.pixels, test.images.pixels]).flatten(1)
    assert len(both.unique(dim=0)) == 1797  # no digit in both


def test_digits_are_enlarged_to_three_channels():
    assert Digits(width=16).load().train.shape == (3, 16, 16)
    with pytest.raises(ValueError, match="width=4"):
        Digits(width=4)


def test_classes_with_too_few_images_in_a_split_are_named_with_their_counts():
    def of(*counts):
        labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
        return small(int(sum(counts)), labels=labels, class_names=tuple("abc"))

    said = rare_classes({"labelled": of(5, 4, 0), "val": of(3, 1, 2), "test": None})
    assert said == "too few samples to judge: 'b' (4 labelled, 1 val), 'c' (0 labelled, 2 val)"
    assert rare_classes({"labelled": of(5, 4, 2), "val": of(3, 2, 2)}) == ""
    assert rare_classes({"labelled": small(4), "val": None}) == ""
