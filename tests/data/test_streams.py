"""Streams: every sample once an epoch, the same batches for any number of processes and workers, and exact resumes."""

import io
import tarfile
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import standins
import torch
from PIL import Image
from pytorch_lightning.callbacks import ModelCheckpoint

from ssl_mi.callbacks.checkpoints import finish_after_resume
from ssl_mi.data import Augmentation, HorizontalFlip, RandomResizedCrop, View
from ssl_mi.data.images.decoding import Decoder
from ssl_mi.data.streams import HuggingFaceStream, TarShards, WebDataset
from ssl_mi.data.streams.loader import Reading, StreamLoader
from ssl_mi.data.streams.module import scanned
from ssl_mi.data.streams.order import number_of, shuffled, stretches
from ssl_mi.data.streams.shards import expanded

pytestmark = [  # Lightning's own
    pytest.mark.filterwarnings(f"ignore:.*{text}.*")
    for text in ("LeafSpec", "Checkpoint directory", "The dirpath has changed", "many workers")
]

COUNTS = (17, 5, 22, 12)  # samples of the shards: 56
SIZE = 8


def png(i):
    """Image i: its class is the brightest channel."""
    pixels = np.full((SIZE, SIZE, 3), i, dtype=np.uint8)
    pixels[..., i % 3] = 250
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def archive(path, samples):
    """A tar archive of samples: key -> {field: content}."""
    with tarfile.open(path, "w") as tar:
        for key, fields in samples.items():
            for field, content in fields.items():
                info = tarfile.TarInfo(f"{key}.{field}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return str(path)


def numbered(first, count):
    return {f"{i:04d}": {"png": png(i), "cls": str(i % 3).encode()} for i in range(first, first + count)}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four shards to train on, a and b to measure on."""
    folder = tmp_path_factory.mktemp("wds")
    for shard, count in enumerate(COUNTS):
        archive(folder / f"train-{shard:03d}.tar", numbered(sum(COUNTS[:shard]), count))
    archive(folder / "val.tar", numbered(100, 20))
    archive(folder / "test.tar", numbered(150, 20))
    return folder


def views():
    ops = [RandomResizedCrop(SIZE, (0.3, 1.0), (1.0, 1.0)), HorizontalFlip(0.5)]
    return Augmentation([View(ops, 2)], SIZE, [0.5] * 3, [0.25] * 3)


def web(folder, batch_size=8, **settings):
    names = {"shards": f"{folder}/train-{{000..003}}.tar", "val_shards": f"{folder}/val.tar"}
    found = {**names, "test_shards": f"{folder}/test.tar", "shuffle": 12, **settings}
    return WebDataset(augmentation=views(), batch_size=batch_size, size=SIZE, mean=[0.5] * 3, std=[0.25] * 3, **found)


def loader(folder, rank=0, world=1, workers=0, readers=4, **settings):
    shards = TarShards(f"{folder}/train-*.tar")
    reading = Reading(
        shards,
        COUNTS,
        {i: i for i in range(3)},
        8,
        readers,
        12,
        views(),
        Decoder(key="data"),
        "skip",
        seed=0,
        **settings,
    )
    return StreamLoader(reading, rank, world, workers, pin_memory=False)


def equal(one, other):
    assert torch.equal(one.index, other.index)
    assert torch.equal(one.labels, other.labels)
    assert all(torch.equal(a, b) for a, b in zip(one.crops, other.crops, strict=True))


# --- the order ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("readers", [1, 2, 4])
def test_the_stretches_of_an_epoch_are_disjoint_and_leave_out_less_than_a_reader_has(readers):
    pieces = stretches(COUNTS, readers, seed=0, epoch=3)
    assert {sum(piece.size for piece in some) for some in pieces} == {sum(COUNTS) // readers}
    rows = Counter((p.shard, p.first + i) for some in pieces for p in some for i in range(p.size))
    assert set(rows.values()) == {1}
    assert all(row < COUNTS[shard] for shard, row in rows)
    assert sum(COUNTS) - len(rows) < readers


def test_a_buffer_moves_no_sample_forward_by_more_than_its_size_and_loses_none():
    found = list(shuffled(iter(range(500)), 20, np.random.default_rng(0)))
    assert sorted(found) == list(range(500))
    assert found != list(range(500))
    assert all(place >= sample - 20 for place, sample in enumerate(found))
    assert list(shuffled(iter(range(5)), 1, np.random.default_rng(0))) == list(range(5))


def test_an_epoch_has_every_sample_once_but_fewer_than_a_batch_and_another_order_than_the_next(folder):
    epochs = []
    training = loader(folder)
    for epoch in range(2):
        training.sampler.set_epoch(epoch)
        epochs.append(torch.cat([source.index for source in training]).tolist())
    known = {number_of(f"train-{s:03d}/{sum(COUNTS[:s]) + i:04d}") for s in range(4) for i in range(COUNTS[s])}
    for found in epochs:
        assert len(found) == len(set(found)) == len(training) * 8 == 56
        assert set(found) <= known
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize(("world", "workers"), [(2, 0), (1, 2), (2, 2), (4, 0)])
def test_batches_are_the_same_for_any_number_of_processes_and_workers(folder, world, workers):
    shares = [list(loader(folder, rank, world, workers)) for rank in range(world)]
    assert {len(share) for share in shares} == {7}
    for whole, *parts in zip(loader(folder), *shares, strict=True):
        assert torch.equal(whole.index, torch.cat([part.index for part in parts]))
        assert all(torch.equal(whole.crops[v], torch.cat([part.crops[v] for part in parts])) for v in range(2))


def test_views_are_keyed_by_the_key_of_a_sample_and_not_by_its_place(folder):
    training = loader(folder)
    sample = next(TarShards(f"{folder}/train-000.tar").read(0))
    held = next(s for s in training if (s.index == number_of(sample.key)).any())
    row = int((held.index == number_of(sample.key)).nonzero())
    again = training.reading.source([sample], held.epoch)
    assert all(torch.equal(crop[row], one[0]) for crop, one in zip(held.crops, again.crops, strict=True))


# --- resumes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("done", "workers"), [(1, 0), (4, 2), (6, 0)])
def test_a_loader_goes_on_at_its_place(folder, done, workers):
    whole, stopped, resumed = (loader(folder, workers=workers) for _ in range(3))
    for some in (whole, stopped):
        some.sampler.set_epoch(2)
    list(islice(along := iter(stopped), done))
    resumed.load_state_dict(stopped.state_dict())
    assert resumed.state_dict() == stopped.state_dict()  # it may be stopped again before its next batch
    along.close()
    for one, other in zip(list(whole)[done:], resumed, strict=True):
        equal(one, other)


def test_a_place_in_another_stream_is_refused(folder):
    stopped = loader(folder)
    next(along := iter(stopped))
    state = stopped.state_dict()
    along.close()
    with pytest.raises(ValueError, match="stopped inside epoch 0 of a stream with readers=4; with readers=2"):
        loader(folder, readers=2).load_state_dict(state)


class Stop(Exception):
    pass


class StopAt(pl.Callback):
    def __init__(self, step):
        self.step = step

    def on_train_batch_end(self, trainer, *rest):
        if trainer.global_step == self.step:
            raise Stop


def trained(folder, place, stop=None, resume=None):
    """Two epochs of seven steps, with a checkpoint at every step."""
    torch.manual_seed(0)
    module = standins.joint_embedding()
    saver = ModelCheckpoint(place, "last", every_n_train_steps=1, enable_version_counter=False)
    trainer = pl.Trainer(
        max_epochs=2, accelerator="cpu", devices=1, callbacks=[saver], logger=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False, num_sanity_val_steps=0,
    )  # fmt: skip
    finish_after_resume(trainer)
    if stop:
        trainer.callbacks.append(StopAt(stop))
    try:
        trainer.fit(module, web(folder), ckpt_path=resume, weights_only=resume is not None)
    except Stop:
        return None
    return {name: value.clone() for name, value in module.state_dict().items()}


@pytest.mark.parametrize("step", [3, 9])
def test_a_run_that_was_stopped_inside_an_epoch_ends_as_if_it_was_not(folder, tmp_path, step):
    whole = trained(folder, tmp_path / "whole")
    assert trained(folder, tmp_path / "run", stop=step) is None
    resumed = trained(folder, tmp_path / "resumed", resume=tmp_path / "run" / "last.ckpt")
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())


LIGHT = [
    *("data.size=8", "data.batch_size=8", "data.num_workers=0", "encoder.widths=[8]", "augmentation=weak"),
    *("trainer.max_epochs=1", "trainer.accelerator=cpu", "trainer.devices=1", "progress=none", "~evaluation"),
]


@pytest.mark.slow
def test_a_run_on_a_stream_is_evaluated_on_its_own_images(folder, tmp_path):
    import ssl_mi

    place = tmp_path / "run"
    shards = [f"data.shards={folder}/train-*.tar", f"data.val_shards={folder}/val.tar"]
    ssl_mi.train("data=webdataset", *shards, f"data.test_shards={folder}/test.tar", *LIGHT, run_dir=place)
    found = {row.metric: row for row in ssl_mi.evaluate(str(place), measure="linear,knn").rows}
    assert found["linear_probe_accuracy"].n == 20  # the shard of the test, to the last image
    assert "fitted on 56 samples" in found["linear_probe_accuracy"].note


# --- what is measured -----------------------------------------------------------------------------------------------


def test_images_for_evaluation_are_as_many_as_is_said_and_from_their_own_shards(folder):
    data = web(folder, probe_limit=10, val_limit=7)
    data.setup()
    assert (len(data.train), len(data.labelled), len(data.val), len(data.test)) == (56, 10, 7, 20)
    assert len(list(data.batches("train", batch_size=4))) == 3
    for split, low in (("val", 100), ("test", 150)):
        source = next(data.batches(split))
        pixels = source.images[:, :, 0, 0]
        assert torch.equal(pixels.argmax(1), source.labels)
        numbers = pixels.sort(1).values[:, 0].tolist()
        assert all(low <= n < low + 20 for n in numbers)
    same = [data.views(next(data.batches("val")), 0).views[0] for _ in range(2)]
    assert torch.equal(*same)


def test_samples_are_counted_once(folder, monkeypatch):
    first = scanned(TarShards(f"{folder}/train-*.tar"))
    assert [scan.size for scan in first] == list(COUNTS)
    monkeypatch.setattr(TarShards, "scan", lambda *_: pytest.fail("counted again"))
    assert scanned(TarShards(f"{folder}/train-*.tar")) == first


def test_a_stated_count_that_is_wrong_is_named_when_it_is_met(folder):
    data = web(folder, counts=20)
    data.setup()
    with pytest.raises(ValueError, match=r"train-00\d.tar holds \d+ samples, and 20 are expected"):
        list(data.train_dataloader())


# --- what cannot be used --------------------------------------------------------------------------------------------


def test_samples_without_a_field_and_cut_ones_are_left_out_by_shard_and_key(tmp_path, caplog):
    samples = numbered(0, 16)
    del samples["0003"]["png"], samples["0005"]["cls"]
    path = archive(tmp_path / "train-000.tar", samples)
    with open(path, "r+b") as file, tarfile.open(path) as tar:  # inside the picture of the last sample
        file.truncate(tar.getmember("0015.png").offset_data + 10)
    data = web(tmp_path, shards=path, val_shards=None, test_shards=None, batch_size=4)
    data.setup()
    assert len(data.train) == 13
    for text in ("0003 (no image)", "0005 (no cls)", "0015"):
        assert text in " ".join(data.left_out)
    assert "train-000.tar" in caplog.text
    assert len(list(data.train_dataloader())) == 3
    with pytest.raises(ValueError, match=r"train-000.tar: 0003 .*cannot be used, \d in all; data.on_error=skip"):
        web(tmp_path, shards=path, val_shards=None, test_shards=None, batch_size=4, on_error="error").setup()


@pytest.mark.parametrize("split", ["shards", "val_shards"])
def test_what_stands_behind_a_damaged_header_or_in_a_joined_archive_is_not_lost_in_silence(tmp_path, split):
    whole = Path(archive(tmp_path / "whole.tar", numbered(0, 8))).read_bytes()
    with tarfile.open(tmp_path / "whole.tar") as tar:
        header = tar.getmember("0006.png").offset
    damaged = bytearray(whole)
    damaged[header + 150] ^= 0xFF  # in its checksum
    for content, message in ((damaged, f"behind byte {header}, where the header"), (whole * 2, "behind its end at")):
        (tmp_path / "odd.tar").write_bytes(content)
        archive(tmp_path / "good.tar", numbered(20, 8))
        paths = {
            "shards": f"{tmp_path}/good.tar",
            "val_shards": None,
            "test_shards": None,
            split: f"{tmp_path}/odd.tar",
        }
        data = web(tmp_path, **paths, batch_size=4)
        data.setup()
        assert any("odd.tar" in text and message in text for text in data.report()["skipped"])
        with pytest.raises(ValueError, match=r"odd\.tar: what comes behind"):
            web(tmp_path, **paths, batch_size=4, on_error="error").setup()


def test_validation_samples_that_cannot_be_used_are_named(tmp_path, caplog):
    samples = numbered(0, 8)
    del samples["0003"]["cls"]
    paths = {"shards": archive(tmp_path / "a.tar", numbered(20, 8)), "test_shards": None}
    web(tmp_path, **paths, val_shards=archive(tmp_path / "v.tar", samples), batch_size=4).setup()
    assert "v.tar: 0003 (no cls)" in caplog.text


def test_deep_images_of_a_stream_are_scaled_alike(tmp_path, caplog):
    samples = {}
    for i in range(16):
        file = io.BytesIO()
        np.save(file, np.full((SIZE, SIZE, 3), 250 if i < 8 else 4000, dtype=np.uint16))  # 12 bits in use
        samples[f"{i:04d}"] = {"npy": file.getvalue(), "cls": str(i % 2).encode()}
    path = archive(tmp_path / "a.tar", samples)
    data = web(tmp_path, shards=path, val_shards=None, test_shards=None, batch_size=4)
    data.setup()
    assert "of which 12 are in use" in caplog.text
    assert sorted(data.labelled.images.pixels.unique().tolist()) == [250 >> 4, 4000 >> 4]
    crops = torch.cat([batch.crops[0] for batch in data.train_dataloader()])
    assert sorted(crops.unique().tolist()) == [250 >> 4, 4000 >> 4]


def test_an_image_that_cannot_be_decoded_is_replaced_and_named(tmp_path, caplog):
    samples = numbered(0, 16)
    samples["0007"]["png"] = b"no image"
    path = archive(tmp_path / "train-000.tar", samples)
    data = web(tmp_path, shards=path, val_shards=None, test_shards=None, batch_size=8, readers=2)
    data.setup()
    batches = list(data.train_dataloader())
    index = torch.cat([batch.index for batch in batches]).tolist()
    assert len(index) == 16
    assert number_of("train-000/0007") not in index
    assert "train-000.tar: 0007: its content is none of" in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "train-000.tar is no tar archive, or is damaged: it is empty"),
        (b"\x1f\x8b rest", "train-000.tar: the archive is compressed"),
        (b"words" * 1000, "train-000.tar is no tar archive, or is damaged"),
    ],
)
def test_a_shard_that_is_none_is_named(tmp_path, content, message):
    (tmp_path / "train-000.tar").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        web(tmp_path, shards=f"{tmp_path}/*.tar", val_shards=None, test_shards=None).setup()


def test_fields_that_no_sample_has_are_named_with_those_that_are_there(tmp_path):
    path = archive(tmp_path / "a.tar", {f"{i}": {"png": png(i), "json": b"{}"} for i in range(9)})
    with pytest.raises(ValueError, match=r"no sample can be used: the fields of 0 \(no cls\).*are json, png"):
        web(tmp_path, shards=path, val_shards=None, test_shards=None).setup()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shards": "nowhere-{00..03}.tar"}, "data.shards=nowhere-{00..03}.tar: 4 of 4 shards are missing"),
        ({"shards": "http://a/b.tar"}, "shards are files here"),
        ({"val_shards": "train-000.tar"}, "is a shard of train and of val"),
        ({"readers": 3}, "data.batch_size=8 is not a multiple of data.readers=3"),
        ({"classes": ["a", "b"]}, "data.classes has 2 classes, and these labels are none: 2"),
        ({"batch_size": 64}, "data.batch_size=64 is more than the 56 training images"),
        ({"shuffle": 0}, "data.shuffle=0: use a whole number, 1 or more"),
    ],
)
def test_settings_that_cannot_work_are_named(folder, monkeypatch, change, message):
    monkeypatch.chdir(folder)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        web(folder, **change).setup()


def test_shards_are_named_by_braces_patterns_and_folders(folder):
    names = [str(folder / f"train-{i:03d}.tar") for i in range(4)]
    assert expanded(f"{folder}/train-{{000..003}}.tar", "data.shards") == names
    assert expanded(f"{folder}/train-*.tar", "data.shards") == names
    assert set(expanded(str(folder), "data.shards")) == {*names, f"{folder}/val.tar", f"{folder}/test.tar"}


# --- iterable sets --------------------------------------------------------------------------------------------------


def test_an_iterable_set_is_a_stream_of_its_files(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list("rgb"))})
    (tmp_path / "set").mkdir()
    for name, first, count in (("train-0", 0, 17), ("train-1", 17, 23), ("validation-0", 100, 12)):
        rows = [{"image": {"bytes": png(i), "path": None}, "label": i % 3} for i in range(first, first + count)]
        datasets.Dataset.from_list(rows, features=features).to_parquet(str(tmp_path / "set" / f"{name}.parquet"))
    data = HuggingFaceStream(str(tmp_path / "set"), views(), 8, SIZE, [0.5] * 3, [0.25] * 3, shuffle=8)
    data.setup()
    assert (len(data.train), len(data.val), data.class_names) == (40, 12, ("r", "g", "b"))
    index = torch.cat([batch.index for batch in data.train_dataloader()]).tolist()
    known = {number_of(f"{shard}/{row}") for shard, count in ((0, 17), (1, 23)) for row in range(count)}
    assert set(index) == known
    source = next(data.batches("val"))
    assert torch.equal(source.images[:, :, 0, 0].argmax(1), source.labels)
