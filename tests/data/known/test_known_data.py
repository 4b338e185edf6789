"""Known views on their way to training and evaluation."""

import inspect
import math
from pathlib import Path

import pytest
import torch
from hydra.utils import get_class, instantiate
from omegaconf import OmegaConf

from ssl_mi.data.batch import Source
from ssl_mi.data.known.captions import Caption
from ssl_mi.data.known.data import KnownData
from ssl_mi.data.known.digits import FiniteSet, Patches
from ssl_mi.data.known.images import KnownImages
from ssl_mi.data.known.sphere import Sphere
from ssl_mi.data.known.sprites import Sprites
from ssl_mi.data.module import SPLITS
from ssl_mi.data.sampler import EpochBatches

CONF = Path(__file__).parents[3] / "conf" / "data" / "known"
LEVEL = 1.01 / 255 / 0.25  # of 255 levels, divided by std: what a rounding may turn where batches differ
FILES = sorted(path for path in CONF.glob("*.yaml") if path.stem != "pairs")


def data_of(known, **changes):
    options = {"batch_size": 16, "size": 32, "mean": [0.5] * 3, "std": [0.25] * 3, "train": 64, "val": 40, "test": 50}
    data = KnownData(known, **{**options, **changes})
    data.setup()
    return data


def test_every_generator_of_the_issue_has_its_file():
    assert {path.stem for path in FILES} == {
        *(
            "shared_class",
            "finite_set",
            "patches",
            "rotation",
            "shift",
            "sphere",
            "gaussian_blob",
            "sprites",
            "caption",
        ),
        *("glyphs", "halves"),
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_key_of_a_file_is_an_argument_and_every_number_is_written_down(path):
    data = OmegaConf.merge(OmegaConf.load(CONF / "pairs.yaml"), OmegaConf.load(path))
    del data["defaults"]
    page = OmegaConf.create({"data": data, "seed": 3})
    for node, left_out in ((page.data, {"nats"}), (page.data.known, set())):
        arguments = set(inspect.signature(get_class(node._target_)).parameters)
        assert set(node) - {"_target_"} <= arguments
        assert arguments - set(node) <= left_out
    made = instantiate(page.data, _convert_="all")
    assert made.known.name == path.stem
    assert made.seed == 3
    assert made.nats == made.known.nats > 0.5
    if page.data.get("nats"):
        assert made.nats == pytest.approx(page.data.nats)
        with pytest.raises(Exception, match=r"data.nats=99.0: .* can share .* to .* nats"):
            instantiate(OmegaConf.merge(page, {"data": {"nats": 99.0}}).data)


def test_every_epoch_trains_on_new_pairs_and_processes_share_a_batch():
    data = data_of(Patches(nats=1.0))
    loader = data.train_dataloader()
    epochs = []
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        epochs.append({int(i): v for source in loader for i, v in zip(source.index, views(data, source), strict=True)})
    assert epochs[0].keys() == epochs[1].keys() == set(range(64))
    assert not any(torch.equal(epochs[0][i], epochs[1][i]) for i in range(64))
    shares = [next(iter(EpochBatches(64, 16, data.seed, rank, 2)))[1] for rank in range(2)]
    parts = [views(data, Source(None, rows, None, SPLITS["train"], 0)) for rows in shares]
    for rows, part in zip(shares, parts, strict=True):
        for i, view in zip(rows, part, strict=True):
            torch.testing.assert_close(view, epochs[0][int(i)], rtol=0, atol=LEVEL)


def views(data, source):
    """The first views of a training batch."""
    return data.on_after_batch_transfer(source, 0).views[0]


def test_evaluation_reads_pairs_that_no_training_sees_with_their_latents():
    data = data_of(Sphere(nats=2.0))
    (source,) = data.batches("test")
    batch = data.views(source, 0)
    assert batch.labels is None
    u, v = data.latents(source, 0)
    known = data.known
    for view, (side, shown) in enumerate(zip((u, v), batch.views, strict=True)):
        again = [d for d in range(-3, 3) if (draw(data, side, "test", d, view) - shown).abs().max() <= LEVEL]
        assert again == [-1]
    assert not torch.equal(data.views(source, 1).views[0], batch.views[0])
    assert known.nats == data.nats == pytest.approx(2.0)


def draw(data, u, split, epoch, view):
    """A view of these latents with the nuisance of some epoch."""
    from ssl_mi.data.known.views import Pairs

    pictures = data.known.render(u, Pairs(data.seed, SPLITS[split], epoch, torch.arange(len(u))), view)
    return (pictures / 255 - 0.5) / 0.25


def test_images_for_probes_come_with_their_labels_and_factors():
    data = data_of(Sprites(shared=["shape"]))
    assert data.has_labels
    for split, n in (("labelled", 64), ("val", 40), ("test", 50)):
        images = getattr(data, split)
        assert len(images) == n
        assert torch.equal(images.factors["shape"], images.labels)
        assert set(images.factors) == {"shape", "colour", "size", "position", "orientation", "background"}
    (source,) = data.batches("val")
    # A shape of another colour has another picture, but the same picture has one colour.
    torch.testing.assert_close(data.clean(source)[3], (data.val.images[3] / 255 - 0.5) / 0.25)
    assert not torch.equal(data.views(source, 0).views[0], data.clean(source))
    assert data_of(FiniteSet(images=300)).class_names == tuple("0123456789")
    assert not data_of(Sphere()).has_labels


def test_probes_see_a_picture_without_the_sentence_that_would_give_it_away():
    data = data_of(Caption(named=["shape"]))
    (source,) = data.batches("test")
    (picture,) = data.clean_views(source)
    assert torch.equal(picture, data.clean(source))
    first, second = data_of(Sprites()).clean_views(source)
    assert torch.equal(first, second)


def test_what_is_told_of_the_data_says_what_they_share():
    data = data_of(Patches(grid=2, symbols=2, nats=2.0))
    assert "I(V1; V2) = 2.0000 nats" in data.describe()
    assert "cell3 0.500" in data.augmentation.describe()
    assert data.report()["views_nats"] == pytest.approx(2.0)
    assert data.report()["batches_per_epoch"] == 4
    with pytest.raises(ValueError, match="8 pairs an epoch"):
        data_of(Sphere(), train=8)
    with pytest.raises(ValueError, match="a positive number of pairs"):
        data_of(Sphere(), test=0)


def test_a_factor_is_shared_in_part_from_the_command_line(configure):
    cfg = configure("data=known/sprites", "data.known.shared=[size]", "data.known.partly={shape:0.8}", tiny=False)
    known = instantiate(cfg.data.known, _convert_="all")
    assert known.parts["shape"] == pytest.approx(0.8)
    assert known.nats == pytest.approx(0.8 + math.log(3))


def test_images_to_be_augmented_come_with_all_their_factors_and_no_two_splits_share_one():
    train, test, *_ = KnownImages(Sprites(shared=[]), 300, 40, seed=1).load()
    assert (len(train), len(test)) == (300, 40)
    assert torch.equal(train.factors["shape"], train.labels)
    fewer = KnownImages(Sprites(shared=[]), 20, 5, seed=1).load().train.images.pixels
    assert (fewer.int() - train.images.pixels[:20].int()).abs().max() <= 1
    assert not (train.images[:40] == test.images.pixels).flatten(1).all(1).any()
    with pytest.raises(ValueError, match=r"data\.sets\.test=0"):
        KnownImages(Sprites(), 10, 0)
