"""Whole runs on a few embedded images, as `train.py` makes them."""

from pathlib import Path

import pytest

from ssl_mi.app.runner import Run
from ssl_mi.app.train import compose, prepare

CONF = Path(__file__).parent.parent / "conf"
TINY = [
    "data=shapes",
    "data.sets.train=160",
    "data.sets.test=60",
    "data.batch_size=32",
    "trainer.accelerator=cpu",
    "trainer.devices=1",
    "progress=none",
]
CONVNET = ["encoder=convnet", "encoder.widths=[8,16]"]  # unless another is chosen
NO_EVALUATION = [
    "evaluation.every_n_epochs=0",
    *(f"evaluation.evaluations.{e}=null" for e in ("mi", "linear_probe", "knn", "geometry", "pictures")),
]


@pytest.fixture
def configure(tmp_path):
    """overrides -> the configuration of a tiny run whose folder is in tmp_path."""

    def make(*overrides: str, tiny: bool = True):
        chosen = any(o.startswith("encoder=") for o in overrides)
        first = [*TINY, *([] if chosen else CONVNET)] if tiny else []
        return compose([*first, *overrides], run_dir=tmp_path / "run")

    return make


@pytest.fixture
def run(configure):
    """overrides -> a finished tiny run; `evaluate=True` keeps the evaluations."""

    def make(*overrides: str, evaluate: bool = False, before=None) -> Run:
        cfg = configure(*([] if evaluate else NO_EVALUATION), *overrides)
        made = prepare(cfg)
        if before is not None:
            before(made)
        made.fit()
        return made

    return make
