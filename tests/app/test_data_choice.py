"""What follows from a folder of images: its views, its name, its size, and networks that fit the size."""

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from ssl_mi.app.data_choice import patch_of, settle_size, stem_of, with_data_defaults
from ssl_mi.app.train import compose

FOLDER = ["data=image_folder", "data.root=some/My photos"]


@pytest.mark.parametrize(
    ("told", "added"),
    [
        (FOLDER, ["augmentation=simclr_blur", "name='My_photos'"]),
        ([*FOLDER, "augmentation=weak", "name=x"], []),
        ([*FOLDER, "experiment=vicreg_cifar"], []),
        (["data=image_folder", "data.root=null"], []),  # arrays, given in Python
        (["data=cifar10"], []),
    ],
)
def test_a_folder_chooses_views_and_name_where_nothing_else_does(told, added):
    assert with_data_defaults(told) == [*added, *told]


@pytest.mark.parametrize(
    ("shapes", "size"), [([(300, 400), (250, 900)], 224), ([(100, 130), (140, 99)], 96), ([(28, 28)] * 2, 28),
                         ([(500, 500)] * 2, 224), ([(20, 40), (30, 30)], 20)],
)  # fmt: skip
def test_the_size_follows_from_the_images(tmp_path, shapes, size):
    for i, shape in enumerate(shapes):
        Image.fromarray(np.zeros(shape, np.uint8)).save(tmp_path / f"{i}.png")
    cfg = compose(["data=image_folder", f"data.root={tmp_path}", "encoder=resnet18"], run_dir=tmp_path / "run")
    assert cfg.data.size == "auto"
    settle_size(cfg)
    assert (cfg.data.size, cfg.encoder.stem) == (size, "imagenet" if size >= 96 else "cifar")
    assert cfg.augmentation["views"][0].ops[0].size == size
    assert cfg.name == tmp_path.name


def test_a_size_that_is_told_stays():
    cfg = OmegaConf.create({"data": {"size": 40}})
    settle_size(cfg)
    assert cfg.data.size == 40


def test_large_images_have_a_large_first_stride():
    assert [stem_of(size) for size in (32, 95, 96, 224)] == ["cifar", "cifar", "imagenet", "imagenet"]
    assert [patch_of(size) for size in (32, 96, 100, 224)] == [4, 16, 4, 16]
