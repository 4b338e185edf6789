"""Every experiment composes, builds and trains; every option of every group composes and builds."""

import functools
import math
import re

import pytest
from conftest import CONF, NO_EVALUATION
from omegaconf import OmegaConf
from recipes import OWN, RECIPES, WORDS, differences, table

from ssl_mi.app.config_checks import check_arguments
from ssl_mi.app.train import compose, run_training

EXPERIMENTS = sorted(
    str(p.relative_to(CONF / "experiment").with_suffix("")) for p in (CONF / "experiment").rglob("*.yaml")
)
# One of each kind in every run of the tests; the others take half a minute.
SLOW = {"frossl_cifar", "nnsiam_cifar", "dinov2_cifar", "ijepa_cifar", "dino_multicrop_cifar", "byol_multicrop_cifar"}
SLOW |= {"all4one_cifar", "data2vec_cifar", "densecl_cifar", "nnbyol_cifar", "simmim_cifar", "simclr_photos"}
SLOW |= {"pairs/arrays", "pairs/image_text"}  # tests/data/pairs/test_pair_runs.py trains their parts on files
SOME = [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in EXPERIMENTS]
# The data of these are part of what they are: few pairs of them instead of other images.
FEW_PAIRS = [
    *("data.train=96", "data.val=40", "data.test=40", "data.batch_size=32", "encoder.widths=[8,16]"),
    *("trainer.accelerator=cpu", "trainer.devices=1", "progress=none", "evaluation.evaluations.capture=null"),
]


PAIRS = [*FEW_PAIRS[5:8], "data.batch_size=32", "data.limit=96"]  # of measurements: the generated example


# What a recipe wires together counts here, not how wide it is.
NARROW = {"dims": 24, "hidden": 24, "depth": 1, "width": 32, "prototypes": 24, "queue": 256}


ONLY_VIT = {"mae_cifar", "simmim_cifar", "ijepa_cifar", "ibot_cifar", "dinov2_cifar", "msn_cifar", "data2vec_cifar"}
VIT = ["encoder=vit_tiny", "encoder.patch_size=8", "encoder.width=24", "encoder.depth=1"]


def shrink(node):
    for key, value in list(node.items()):
        if OmegaConf.is_dict(value):
            shrink(value)
        elif key in NARROW and OmegaConf.is_list(value):
            node[key] = [min(width, NARROW[key]) for width in value]
        elif key in NARROW and value is not None:
            node[key] = min(value, NARROW[key])


@pytest.mark.parametrize("name", SOME)
def test_an_experiment_trains_two_steps_on_a_few_images(configure, name):
    # The experiment comes first, then what makes it tiny, as a user would shorten it.
    own = next((few for kind, few in {"known/": FEW_PAIRS, "pairs/": PAIRS}.items() if name.startswith(kind)), None)
    shortened = [*NO_EVALUATION, "trainer.max_steps=2", "schedule.warmup_epochs=0", *(own or [])]
    shortened += VIT if name in ONLY_VIT else []
    shortened += ["data.size=32", "towers.projector.dims=[24,24]"] if name == "simclr_photos" else []
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


@functools.cache
def composed(name):
    """An experiment on its own data; composing one takes a second."""
    folder = ["data.root=photos"] if name == "simclr_photos" else []  # which the user gives
    return compose([f"experiment={name}", *folder], run_dir="runs/never")


@pytest.mark.parametrize("name", SOME)
def test_an_experiment_takes_only_arguments_that_exist_on_its_own_data(name):
    check_arguments(composed(name))


def test_every_recipe_for_cifar_is_held_against_a_source_or_said_to_have_none():
    assert {name for name in EXPERIMENTS if name.endswith("_cifar")} == set(RECIPES) | OWN
    assert not set(RECIPES) & OWN


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_names_what_differs_from_its_source_and_nothing_else(name):
    recipe = RECIPES[name]
    head = (CONF / "experiment" / f"{name}.yaml").read_text().split("defaults:")[0].replace("\n# ", " ")
    clauses = [c.strip() for c in re.search(r"Differences: (.*?)\.(?:\s|$)", head).group(1).split(";")]
    found = differences(OmegaConf.to_container(composed(name), resolve=True), recipe)
    # What comes with another optimizer is named with it.
    found = {k: v for k, v in found.items() if "optimizer" not in found or k not in ("momentum", "eta", "clip")}
    wanted = {**{key: WORDS[key] for key in found}, **{words: words for words in recipe.also}}
    named = {c: [key for key, words in wanted.items() if words in c] for c in clauses}
    assert sorted(key for keys in named.values() for key in keys) == sorted(wanted), found
    assert all(len(keys) == 1 for keys in named.values()), named
    assert recipe.source in head


def test_the_page_of_recipes_has_the_table_of_the_sources_and_names_the_others():
    page = (CONF.parent / "docs" / "recipes.md").read_text()
    assert table() in page  # paste what tests/recipes.py makes: python -c "from recipes import table; print(table())"
    (others,) = re.findall(r"These recipes follow a method .*: (.*)\.\n", page)
    assert others.replace("`", "").split(", ") == sorted(OWN)


def test_a_recipe_that_blurs_has_a_kernel_that_holds_the_blur_or_says_that_it_has_not():
    short = []
    for name in sorted({*RECIPES, *(name for name in OWN if "multicrop" in name)}):
        kinds = OmegaConf.to_container(composed(name), resolve=True)["augmentation"]["views"]
        blurs = [op for kind in kinds for op in kind["ops"] if op["_target_"].endswith("GaussianBlur")]
        short += [name] if any((op.get("kernel_size") or 3) < 6 * op["sigma"][1] for op in blurs) else []
    assert short == ["lejepa_cifar"]
    assert "3 taps" in (CONF / "experiment" / "lejepa_cifar.yaml").read_text()


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
