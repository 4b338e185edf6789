"""Every experiment composes, builds and trains; every option of every group composes and builds."""

import math

import pytest
from conftest import CONF, NO_EVALUATION
from omegaconf import OmegaConf

from ssl_mi.app.config_checks import check_arguments
from ssl_mi.app.train import run_training

EXPERIMENTS = sorted(
    str(p.relative_to(CONF / "experiment").with_suffix("")) for p in (CONF / "experiment").rglob("*.yaml")
)
# The data of these are part of what they are: few pairs of them instead of other images.
FEW_PAIRS = [
    *("data.train=96", "data.val=40", "data.test=40", "data.batch_size=32", "encoder.widths=[8,16]"),
    *("trainer.accelerator=cpu", "trainer.devices=1", "progress=none", "evaluation.evaluations.capture=null"),
]


PAIRS = [*FEW_PAIRS[5:8], "data.batch_size=32", "data.limit=96"]  # of measurements: the generated example


# What a recipe wires together counts here, not how wide it is.
NARROW = {"dims": 24, "hidden": 24, "depth": 1, "width": 32, "prototypes": 24, "size": 256, "queue": 64}


VIT = ["encoder=vit_tiny", "encoder.patch_size=8", "encoder.width=24", "encoder.depth=1"]


def shrink(node):
    for key, value in list(node.items()):
        if OmegaConf.is_dict(value):
            shrink(value)
        elif key in NARROW and OmegaConf.is_list(value):
            node[key] = [min(width, NARROW[key]) for width in value]
        elif key in NARROW and value is not None:
            node[key] = min(value, NARROW[key])


# Runs on files train these parts in tests/data/pairs/test_pair_runs.py.
ALSO_RUN_ELSEWHERE = {"pairs/arrays", "pairs/image_text"}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in ALSO_RUN_ELSEWHERE else n for n in EXPERIMENTS]
)
def test_an_experiment_trains_two_steps_on_a_few_images(configure, name):
    # The experiment comes first, then what makes it tiny, as a user would shorten it.
    own = next((few for kind, few in {"known/": FEW_PAIRS, "pairs/": PAIRS}.items() if name.startswith(kind)), None)
    shortened = [*NO_EVALUATION, "trainer.max_steps=2", "schedule.warmup_epochs=0", *(own or [])]
    shortened += VIT if name == "mae_cifar" else []  # it takes no other
    cfg = configure(f"experiment={name}", *shortened, tiny=own is None)
    check_arguments(cfg)
    for part in (cfg.towers, cfg.objective):
        shrink(part)
    made = run_training(cfg)
    assert made.trainer.global_step == 2
    assert math.isfinite(made.history.epochs[0]["train/loss"])


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_says_paper_command_and_expectation(name):
    head = (CONF / "experiment" / f"{name}.yaml").read_text().split("defaults:")[0]
    assert head.startswith("# @package _global_\n#")
    assert "arXiv:" in head
    assert f"python train.py experiment={name}" in head
    if "cifar" in name:
        assert "No published figure" in head or ("No figure is claimed" in head and "# Differences:" in head)
    else:
        assert "Expected" in head or "No published figure" in head


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_takes_only_arguments_that_exist_on_its_own_data(configure, name):
    check_arguments(configure(f"experiment={name}", tiny=False))


@pytest.mark.parametrize("group", ["objective", "optimizer", "schedule", "augmentation", "encoder", "towers"])
def test_every_option_takes_only_arguments_that_exist(configure, group):
    cfg = configure(tiny=False)
    for path in sorted((CONF / group).glob("*.yaml")):
        option = OmegaConf.load(path)
        if "defaults" in option:
            check_arguments(configure(f"{group}={path.stem}", tiny=False))
        else:  # composing the page around each option would take most of the time
            cfg[group] = option
            check_arguments(cfg)
