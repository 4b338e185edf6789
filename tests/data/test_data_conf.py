"""conf/data: what each file says is what the code takes."""

import inspect
from pathlib import Path

import pytest
from hydra.utils import get_class, instantiate
from omegaconf import OmegaConf

from ssl_mi.app.config_checks import parameters_of
from ssl_mi.data.images.module import ImageData

CONF = Path(__file__).parents[2] / "conf" / "data"
PAIRS = ["arrays", "image_pairs", "image_text", "series"]  # whose sources are the data modules themselves
SOURCES = [*PAIRS, "huggingface", "huggingface_stream", "webdataset"]
FILES = sorted(path for path in CONF.glob("*.yaml") if path.stem not in SOURCES)
VIEWS = {
    "_target_": "ssl_mi.data.images.augmentations.Augmentation",
    "views": [{"_target_": "ssl_mi.data.images.augmentations.View", "ops": [], "count": 2}],
    "size": "${data.size}",
    "mean": "${data.mean}",
    "std": "${data.std}",
}


def page(path, **changes):
    """The file as a run sees it."""
    data = OmegaConf.merge(OmegaConf.load(path), changes)
    if data.size == "auto":  # which a run replaces before anything is built
        data.size = 32
    return OmegaConf.create({"data": data, "augmentation": VIEWS, "seed": 1})


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_key_is_an_argument_and_every_number_is_written_down(path):
    config = page(path, **({"root": "somewhere"} if "root" in list(OmegaConf.load(path)) else {}))
    for node in (config.data, config.data.sets):
        target = get_class(node._target_)
        arguments = inspect.signature(target).parameters
        assert set(node) - {"_target_"} <= set(arguments)
        assert {name for name in arguments if name not in node} <= {"root", "unlabelled"}  # not every set has them
    module = instantiate(config.data)
    assert isinstance(module, ImageData)
    assert module.augmentation.size == config.data.size


@pytest.mark.parametrize("name", SOURCES)
def test_every_key_of_pairs_and_streams_is_an_argument_and_every_number_is_written_down(name):
    config = OmegaConf.load(CONF / f"{name}.yaml")
    assert set(parameters_of(config._target_, "data").names) == set(config) - {"_target_"}


def test_the_whole_list_is_there():
    assert sorted(path.stem for path in CONF.glob("*.yaml")) == [
        "arrays",
        "cifar10",
        "cifar100",
        "digits",
        "huggingface",
        "huggingface_stream",
        "image_folder",
        "image_pairs",
        "image_text",
        "series",
        "shapes",
        "sprites",
        "stl10",
        "webdataset",
    ]


@pytest.mark.parametrize("name", ["shapes", "sprites", "digits"])
def test_sets_without_files_load_with_the_statistics_that_they_are_normalised_by(name):
    module = instantiate(page(CONF / f"{name}.yaml").data)
    module.setup()
    pixels = module.train.images.pixels.float() / 255
    for channel in range(3):
        assert pixels[:, channel].mean().item() == pytest.approx(module.mean[channel], abs=0.02)
        assert pixels[:, channel].std().item() == pytest.approx(module.std[channel], abs=0.02)
    assert min(len(module.train), len(module.val)) >= module.batch_size
