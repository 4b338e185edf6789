"""What follows from the data unless it is set: the views, the name and the image size of a folder of images.

Before the page is composed, `with_data_defaults` adds overrides to those that were written. Before the parts are
built, `settle_size` replaces `data.size=auto` by a number, and the page names resolvers (`${stem_of:...}`) whose values
follow from that number.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf, open_dict

from ssl_mi.app.composition import quoted
from ssl_mi.app.paths import conf_dir

log = logging.getLogger(__name__)

AUTO = "auto"
# Data whose views and networks are those of experiment/pairs, and the key that names their files.
PAIRS = {"arrays": "data.x", "image_pairs": "data.x", "image_text": "data.table", "series": "data.x"}
# Data of photographs, and the key that names their files.
PHOTOS = {"image_folder": "data.root", "huggingface": "data.path", "webdataset": "data.shards"}
PHOTOS |= {"huggingface_stream": "data.path"}
_BRACES = re.compile(r"^(data\.\w*shards)=([^'\"\[]*\{\d+\.\.\d+\}.*)$")
LARGE = 96  # pixels: from here on a network starts with a large stride


def with_data_defaults(overrides: Sequence[str]) -> list[str]:
    """The overrides, after those that follow from `data=...` where neither they nor an experiment choose.

    Images from files have the views of photographs and not those of drawn shapes, and give the run its name. Pairs
    have the views and networks of their kind's experiment.

    Args:
        overrides: As they were written.

    Raises:
        ValueError: If the experiment's networks cannot see the data.
    """
    told = dict(text.lstrip("+~").partition("=")[::2] for text in overrides)
    if told.get("data") in PAIRS and not told.get("experiment", "pairs/").startswith("pairs/"):
        name = told["experiment"]
        if (conf_dir() / "experiment" / f"{name}.yaml").is_file():
            raise ValueError(
                f"experiment={name} is of images and data={told['data']} is not: leave the experiment out, and choose "
                "the loss by objective=..., or take an experiment of pairs/"
            )
    if told.get("data") in PAIRS and "experiment" not in told:
        # Views, encoders and towers of images fit none of these: without an experiment the kind's own is meant.
        one_table = told["data"] == "arrays" and told.get("data.y", "null") == "null"
        chosen = f"experiment=pairs/{'table' if one_table else told['data']}"
        # The experiment has an example, which whoever names no files has not asked for.
        files = PAIRS[told["data"]]
        return [chosen, *([] if files in told else [f"{files}='???'"]), *overrides]
    if told.get("data") not in PHOTOS:
        return list(overrides)
    # `a-{000..012}.tar` is a name here, and braces mean something else to Hydra.
    overrides = [_BRACES.sub(lambda m: f"{m[1]}={quoted(m[2])}", text) for text in overrides]
    if "experiment" in told:
        return overrides
    added = []
    root = told.get(PHOTOS[told["data"]], "").strip("'\"")
    if root not in ("", "null") and "augmentation" not in told:
        added.append("augmentation=simclr_blur")
    place = Path(root.strip("[]").split(",")[0]).expanduser().absolute()
    place = place.parent if place.suffix == ".tar" else place
    name = re.sub(r"[^\w.-]+", "_", place.name) if root not in ("", "null") else ""
    if name and "name" not in told:
        added.append(f"name={quoted(name)}")
    return [*added, *overrides]


def settle(cfg: DictConfig) -> None:
    """Replace every `data.KEY=auto` by what it is of these data: the size of images, the columns of a table.

    Args:
        cfg: The composed page.

    Raises:
        OSError: If the data are missing.
        ValueError: If they cannot be read.
    """
    from hydra.utils import get_object

    settle_size(cfg)
    data = cfg.get("data")
    if data is None or AUTO not in [data[key] for key in data if key != "augmentation"]:
        return
    survey = getattr(get_object(data["_target_"]), "settled", None)
    if survey is None:
        return
    # Without the views, which may depend on what is to be found.
    settings = {key: data[key] for key in data if key not in ("_target_", "augmentation")}
    found = survey(OmegaConf.to_container(OmegaConf.create(settings)))
    with open_dict(cfg):
        for key, value in found.items():
            if data[key] == AUTO:
                data[key] = value


def settle_size(cfg: DictConfig) -> None:
    """Replace `data.size=auto` by the size that suits the images of `data.sets` (`suitable_side`).

    Args:
        cfg: The composed page.

    Raises:
        FileNotFoundError: If the folder is missing or holds no images.
    """
    from hydra.utils import instantiate

    from ssl_mi.data.images.files import suitable_side

    if cfg.get("data") is None or cfg.data.get("size") != AUTO or "sets" not in cfg.data:
        return
    look = getattr(instantiate(cfg.data.sets, _convert_="all"), "survey", None)
    size = suitable_side(None if look is None else look())
    with open_dict(cfg):
        cfg.data.size = size


def stem_of(size: object) -> str:
    """The stem of a ResNet for images of this size in pixels: "imagenet" from `LARGE` on, else "cifar"."""
    return "imagenet" if isinstance(size, int) and size >= LARGE else "cifar"


def patch_of(size: object) -> int:
    """The patch of a ViT for images of this size in pixels: 16 from `LARGE` on, else 4."""
    return 16 if isinstance(size, int) and size >= LARGE and size % 16 == 0 else 4


OmegaConf.register_new_resolver("stem_of", stem_of, replace=True)
OmegaConf.register_new_resolver("patch_of", patch_of, replace=True)
