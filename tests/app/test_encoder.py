"""A checkpoint is complete by itself, and `ssl_mi.load` makes an encoder of it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import CONVNET, NO_EVALUATION, TINY
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

import ssl_mi
from ssl_mi.app.encoder import LoadedEncoder
from ssl_mi.checkpoint_format import FORMAT, KEY, MIGRATIONS, description_of
from ssl_mi.data.images.decoding import Decoder
from ssl_mi.evaluation.embed import features
from ssl_mi.networks import ConvNet
from ssl_mi.networks.weights import start_from

ROOT = Path(__file__).parents[2]
SHORT = [*TINY, *NO_EVALUATION, "evaluation.evaluations.capture=null", "trainer.max_epochs=1"]


def train(folder, *overrides, **parts):
    encoder = [] if "encoder" in parts else CONVNET
    return ssl_mi.train(*SHORT, *encoder, *overrides, run_dir=folder, quiet=True, **parts)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train(tmp_path_factory.mktemp("simclr") / "run")


@pytest.fixture(scope="module")
def dino(tmp_path_factory):
    return train(tmp_path_factory.mktemp("dino") / "run", "objective=dino", "towers=prototypes", "teacher=ema")


def images(n=7, size=32, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (n, 3, size, size), dtype=np.uint8))


def write(folder, pixels, names):
    for image, name in zip(pixels, names, strict=True):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)


# ------------------------------------------------------------------------------------------------------- checkpoints


def test_a_checkpoint_is_read_without_code_and_says_how_its_encoder_is_built_and_fed(trained):
    found = torch.load(trained.folder / "checkpoints" / "last.ckpt", weights_only=True)[KEY]
    assert found["format"] == FORMAT
    assert found["config"]["encoder"]["widths"] == [8, 16]
    assert found["config"]["run_dir"] == str(trained.folder)  # resolved
    assert found["preprocessing"]["size"] == 32
    assert found["preprocessing"]["mean"] == list(trained.data.mean)
    assert found["class_names"] == list(trained.data.class_names)
    assert {"torch", "ssl_mi"} <= set(found["versions"])
    assert found["commit"]
    assert found["command"].startswith("ssl_mi.train(")


def test_a_checkpoint_of_another_format_is_refused_by_name_when_loaded_and_when_resumed(trained, tmp_path):
    checkpoint = torch.load(trained.folder / "checkpoints" / "last.ckpt", weights_only=True)
    checkpoint[KEY] |= {"format": FORMAT + 1, "versions": {"ssl_mi": "9.9"}}
    path = tmp_path / "later.ckpt"
    torch.save(checkpoint, path)
    message = rf"later.ckpt is a checkpoint of format {FORMAT + 1} .* reads formats 1 to {FORMAT}: .*ssl_mi 9\.9"
    with pytest.raises(ValueError, match=message):
        ssl_mi.load(path)
    with pytest.raises(ValueError, match=message):
        train(tmp_path / "run", f"ckpt_path={path}")


def as_format_1(folder, path):
    """The checkpoint of a run as the first version with descriptions wrote it."""
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    description = checkpoint[KEY]
    config = description["config"]
    for towers in (config["towers"], config["module"]["towers"]):
        towers["together"] = towers.pop("joint_forward")
        del towers["encoder"]["in_channels"]  # a parameter that is named since has the default that it had
    config["encoder"] = config["towers"]["encoder"]
    del config["health"], config["memory_check"]
    description["format"] = 1
    torch.save(checkpoint, path)
    return path


def test_a_checkpoint_of_an_earlier_format_loads_is_gone_on_with_and_starts_other_runs(trained, tmp_path):
    old = as_format_1(trained.folder, tmp_path / "old.ckpt")
    found, now = ssl_mi.load(old), ssl_mi.load(trained.folder)
    pixels = images()
    assert torch.equal(found.encode(pixels).h, now.encode(pixels).h)
    more = train(tmp_path / "run", "trainer.max_epochs=2", "resume_changes=[trainer.max_epochs]", f"ckpt_path={old}")
    assert more.run.trainer.global_step == 2 * trained.run.trainer.global_step
    start = start_from(ConvNet([8, 16]), old)
    assert all(torch.equal(x, now.encoder.state_dict()[name]) for name, x in start.state_dict().items())


def test_a_checkpoint_of_format_2_has_the_rows_of_its_queues_by_todays_name():
    parts = {"a": {"_target_": "ssl_mi.objectives.MoCo", "size": 80}, "b": {"_target_": "ssl_mi.objectives.WMSE"}}
    parts["b"]["size"] = 16  # of whitened rows, not of a queue
    config = {"module": {"objective": {"_target_": "ssl_mi.objectives.Sum", "parts": parts}}, "data": {"size": 32}}
    found = description_of({KEY: {"format": 2, "config": config}}, "old.ckpt")["config"]
    made = found["module"]["objective"]["parts"]
    assert made["a"] == {"_target_": "ssl_mi.objectives.MoCo", "queue": 80}
    assert made["b"]["size"] == 16
    assert found["data"] == {"size": 32}
    assert config["module"]["objective"]["parts"]["a"]["size"] == 80  # what was read stays as it is


def test_every_earlier_format_has_what_makes_the_next_of_it():
    assert sorted(MIGRATIONS) == list(range(1, FORMAT))


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (
            {"_target_": "ssl_mi.networks.Gone"},
            "names ssl_mi.networks.Gone, which this version of ssl_mi does not have",
        ),
        ({"_target_": "ssl_mi.networks.ConvNet", "depth": 3}, "cannot build: .*'depth'"),
    ],
    ids=["a class that has moved", "an argument that is no more"],
)
def test_a_part_that_this_version_does_not_have_is_named_with_the_version_that_wrote_it(
    trained, tmp_path, part, message
):
    checkpoint = torch.load(trained.folder / "checkpoints" / "last.ckpt", weights_only=True)
    checkpoint[KEY]["versions"]["ssl_mi"] = "0.0.9"
    checkpoint[KEY]["config"]["towers"]["encoder"] = part
    torch.save(checkpoint, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match=message) as error:
        ssl_mi.load(tmp_path / "other.ckpt")
    assert "written by ssl_mi 0.0.9" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_checkpoint_without_a_description_is_refused(trained, tmp_path):
    checkpoint = torch.load(trained.folder / "checkpoints" / "last.ckpt", weights_only=True)
    del checkpoint[KEY]
    torch.save(checkpoint, tmp_path / "bare.ckpt")
    with pytest.raises(ValueError, match="does not describe its networks"):
        ssl_mi.load(tmp_path / "bare.ckpt")


@pytest.mark.parametrize(
    "target", ["os.system", "ssl_mi.networks.encoders.torch.hub.load", "torch.nn.functional.importlib.import_module"]
)
def test_a_checkpoint_cannot_name_code_of_others_unless_trusted(trained, tmp_path, target):
    checkpoint = torch.load(trained.folder / "checkpoints" / "last.ckpt", weights_only=True)
    checkpoint[KEY]["config"]["towers"]["encoder"] = {"_target_": target}
    torch.save(checkpoint, tmp_path / "odd.ckpt")
    with pytest.raises(ValueError, match=f"names parts of another package, {target}: .*trust=True"):
        ssl_mi.load(tmp_path / "odd.ckpt")


# ----------------------------------------------------------------------------------------------------------- loading


def test_the_loaded_encoder_gives_what_the_run_evaluated(trained):
    encoder = ssl_mi.load(trained.folder)
    expected = features(trained.run.module, trained.data, "test")
    pixels = trained.data.test.images.pixels
    assert not encoder.training
    assert torch.allclose(encoder.encode(pixels).h, expected.h, atol=1e-5)
    assert torch.allclose(encoder(encoder.transform(pixels)), expected.h, atol=1e-5)
    assert (encoder.size, encoder.out_dim) == (32, 16)
    assert encoder.class_names == trained.data.class_names


def test_images_of_any_form_are_the_same_images(trained):
    encoder = ssl_mi.load(trained.folder)
    pixels = images()
    expected = encoder.transform(pixels)
    channels_last = pixels.permute(0, 2, 3, 1).numpy()
    pictures = [Image.fromarray(image) for image in channels_last]
    for form in (channels_last, pixels / 255, pictures):
        assert torch.allclose(encoder.transform(form), expected, atol=1e-6)
    assert torch.allclose(encoder.transform(pictures[0]), expected[:1], atol=1e-6)
    assert torch.allclose(encoder.transform(pixels[0]), expected[:1], atol=1e-6)


def test_images_of_another_size_are_resized_and_cropped_to_the_encoders(trained):
    encoder = ssl_mi.load(trained.folder)
    wide = Image.fromarray(np.full((40, 90, 3), 128, np.uint8))
    x = encoder.transform([wide, wide.resize((20, 64))])
    assert x.shape == (2, 3, 32, 32)
    mean, std = torch.tensor(encoder.mean), torch.tensor(encoder.std)
    assert torch.allclose(x[0, :, 0, 0], (128 / 255 - mean) / std, atol=1e-5)


def test_floats_beyond_0_and_1_and_other_things_are_refused(trained):
    encoder = ssl_mi.load(trained.folder)
    with pytest.raises(ValueError, match=r"float images must be in \[0, 1\]"):
        encoder.encode(torch.full((2, 3, 32, 32), 200.0))
    with pytest.raises(ValueError, match="not dict"):
        encoder.transform({})
    with pytest.raises(FileNotFoundError, match="neither a folder nor an image file"):
        encoder.encode("no such folder")


def test_rows_of_a_folder_are_traced_to_files_and_unreadable_ones_are_named(trained, tmp_path):
    encoder = ssl_mi.load(trained.folder)
    first, second = encoder.class_names[2], encoder.class_names[0]
    pixels = images(4)
    write(tmp_path, pixels, [f"{first}/a.png", f"{first}/b.png", f"{second}/a.png", f"{second}/c.png"])
    (tmp_path / first / "broken.png").write_bytes(b"no image")
    found = encoder.encode(tmp_path, batch_size=2)
    names = [Path(path).relative_to(tmp_path).as_posix() for path in found.files]
    order = sorted([f"{first}/a.png", f"{first}/b.png", f"{second}/a.png", f"{second}/c.png"])
    assert names == order
    assert [Path(path).name for path, _ in found.unreadable] == ["broken.png"]
    # The numbers of the classes are those of the training data.
    assert [encoder.class_names[label] for label in found.labels] == [name.split("/")[0] for name in names]
    alone = encoder.encode(found.files[3])
    assert torch.allclose(alone.h[0], found.h[3], atol=1e-5)


def test_a_loader_gives_its_labels(trained):
    encoder = ssl_mi.load(trained.folder)
    pixels, labels = images(), torch.arange(7)
    loader = DataLoader(TensorDataset(pixels, labels), batch_size=3)
    found = encoder.encode(loader, z=True)
    assert torch.equal(found.labels, labels)
    assert torch.allclose(found.h, encoder.encode(pixels).h, atol=1e-5)
    assert found.z.shape == (7, 128)


def test_a_loader_may_give_mappings_and_no_label_is_dropped_in_silence(trained):
    encoder, pixels = ssl_mi.load(trained.folder), images(4)
    rows = [{"image": image, "label": i} for i, image in enumerate(pixels)]
    found = encoder.encode(DataLoader(rows, batch_size=2))
    assert found.labels.tolist() == [0, 1, 2, 3]
    assert torch.equal(found.h, encoder.encode(list(pixels)).h)
    with pytest.raises(ValueError, match="labels are strings"):
        encoder.encode(DataLoader([(image, "a") for image in pixels], batch_size=2))


def test_what_a_loader_gives_beside_images_is_labels_or_is_refused(trained):
    encoder, pixels = ssl_mi.load(trained.folder), images(4)
    for labels in ([3, 1, 0, 2], np.array([3, 1, 0, 2])):  # of a loader of one's own
        assert encoder.encode(iter([(pixels, labels)])).labels.tolist() == [3, 1, 0, 2]
    alone = encoder.encode(iter([list(pixels)]))  # collate_fn=list
    assert torch.allclose(alone.h, encoder.encode(pixels).h, atol=1e-5)
    for batches, words in (
        ([(pixels, pixels)], r"second entry is \[4, 3, .*\] beside 4 images"),  # two views
        ([(pixels, {"boxes": 1})], "labels are dict: .*images alone"),
        ([(pixels, torch.arange(3))], r"second entry is \[3\] beside 4 images"),
        ([(pixels, torch.arange(4)), (pixels, None)], "1 of 2 batches have labels"),
        ([{"pixels": pixels}], "no 'image', but pixels"),
    ):
        with pytest.raises(ValueError, match=words):
            encoder.encode(iter(batches))


def test_images_that_would_lose_something_are_refused_in_words(trained):
    encoder, pixels = ssl_mi.load(trained.folder), images(3).numpy()
    deep = Image.fromarray(pixels[0, 0].astype(np.uint16) * 256)
    for bad, words in (
        (np.ma.masked_array(pixels, pixels > 99), "mask would be lost"),
        (np.array([None, 1]), "array of object"),
        (pixels[:, :, :0], "without pixels"),
        (deep, "more than 8 bits"),
        ([pixels], "each is one image"),
    ):
        with pytest.raises(ValueError, match=words):
            encoder.encode(bad)
    for size in (0, -1, 2.5, "a"):
        with pytest.raises(ValueError, match="batch_size="):
            encoder.encode(pixels, batch_size=size)


def test_where_no_run_is_the_runs_there_are_named(trained):
    folder = trained.folder
    assert ssl_mi.load(folder / "checkpoints").provenance["checkpoint"] == str(folder / "checkpoints" / "last.ckpt")
    with pytest.raises(FileNotFoundError, match=f"holds runs: name one of {folder}"):
        ssl_mi.load(folder.parent)
    for wrong, said in ((None, "a path"), (3, "a path")):
        with pytest.raises(ValueError, match=said):
            ssl_mi.load(wrong)
    with pytest.raises(ValueError, match="view='a'"):
        ssl_mi.load(folder, view="a")
    with pytest.raises(ValueError, match="was trained on 2 views: use view=0 to 1, not 3"):
        ssl_mi.load(folder, view=3)


def test_dino_gives_its_teacher_and_the_online_encoder_where_asked(dino):
    module, x = dino.run.module.eval(), torch.randn(3, 3, 32, 32)
    teacher, online = module.teacher.towers.tower_of(0).encoder, module.towers.tower_of(0).encoder
    assert not torch.equal(teacher(x), online(x))
    for which, expected, name in ((None, teacher, "teacher"), ("online", online, "online")):
        encoder = ssl_mi.load(dino.folder, which=which)
        assert torch.allclose(encoder(x), expected(x), atol=1e-5)
        assert encoder.provenance["which"] == name


def test_a_method_without_a_teacher_has_none_to_give(trained):
    with pytest.raises(ValueError, match="trained without a teacher; use which='online'"):
        ssl_mi.load(trained.folder, which="teacher")


def test_each_of_two_towers_is_loaded_with_what_its_view_shows(tmp_path):
    run = train(tmp_path / "run", "objective=infonce", "towers=independent", "augmentation=colour_luminance")
    module, pixels = run.run.module.eval(), images()
    clean = run.data.augmentation.clean_views(pixels)
    for view in (0, 1):
        encoder = ssl_mi.load(run.folder, view=view)
        assert torch.allclose(encoder.transform(pixels), clean[view], atol=1e-6)
        assert torch.allclose(encoder(clean[view]), module.towers.tower_of(view).encoder(clean[view]), atol=1e-5)
    with pytest.raises(ValueError, match="has 2 towers, one per view: use view=0 to 1, not 2"):
        ssl_mi.load(run.folder, view=2)


def test_an_encoder_given_as_an_object_is_filled_where_one_built_alike_is_given(tmp_path):
    run = train(tmp_path / "run", encoder=ConvNet(widths=[4, 8]))
    with pytest.raises(ValueError, match=r"given as an object in Python.*load\(encoder=...\)"):
        ssl_mi.load(run.folder)
    with pytest.raises(ValueError, match="do not fit ConvNet"):
        ssl_mi.load(run.folder, encoder=ConvNet(widths=[4, 9]))
    x = torch.randn(2, 3, 32, 32)
    assert torch.allclose(ssl_mi.load(run.folder, encoder=ConvNet(widths=[4, 8]))(x), run.encoder(x), atol=1e-5)


def test_loading_needs_neither_the_run_folder_nor_the_data(trained, tmp_path):
    """A process elsewhere, with nothing but the file."""
    path = tmp_path / "alone.ckpt"
    path.write_bytes((trained.folder / "checkpoints" / "last.ckpt").read_bytes())
    program = f"import ssl_mi, torch; print(ssl_mi.load({str(path)!r}).encode(torch.zeros(2, 3, 32, 32)).h.shape)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "torch.Size([2, 16])", done.stderr[-2000:]


def test_a_folder_of_splits_is_not_taken_for_classes(trained, tmp_path):
    write(tmp_path, images(2), ["train/a.png", "test/a.png"])
    with pytest.raises(ValueError, match="holds the splits test, train, not classes"):
        ssl_mi.load(trained.folder).encode(tmp_path)


def test_files_become_pixels_as_they_did_in_the_run(tmp_path):
    class Mean(torch.nn.Module):
        out_dim = 3

        def forward(self, x):
            return x.mean((2, 3))

    dark = tmp_path / "dark.png"
    Image.fromarray(np.full((8, 8), 400, np.uint16)).save(dark)
    shown = {"size": 8, "mean": [0.0] * 3, "std": [1.0] * 3, "views": [[], []]}
    # Of 12 bits 400 is dark; alone, the image would seem to have 9 bits.
    for decoder, value in (({"decoder": Decoder(bits=12).settings()}, 400 >> 4), ({}, 400 >> 1)):
        h = LoadedEncoder(Mean(), None, {**shown, **decoder}).encode([dark]).h
        assert h.tolist() == [pytest.approx([value / 255] * 3)]
