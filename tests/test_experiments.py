"""Every experiment composes, builds and trains; every option of every group composes and builds."""

import pytest
from conftest import CONF, NO_EVALUATION

from ssl_mi import cli, overrides
from ssl_mi.run import Run

EXPERIMENTS = sorted(
    str(p.relative_to(CONF / "experiment").with_suffix("")) for p in (CONF / "experiment").rglob("*.yaml")
)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_trains_two_steps_on_a_few_images(configure, name):
    # The experiment comes first, then what makes it tiny, as a user would shorten it.
    cfg = configure(f"experiment={name}", *NO_EVALUATION, "trainer.max_steps=2", "schedule.warmup_epochs=0")
    overrides.check_arguments(cfg)
    cli.start(cfg)
    made = Run(cfg, cli.build(cfg, "data"), cli.build(cfg, "module"))
    with made.reported():
        made.trainer.fit(made.module, made.data)
    assert made.trainer.global_step == 2
    assert made.history.epochs[0]["train/loss"] > 0 or "mine" in name


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_says_paper_command_and_expectation(name):
    head = (CONF / "experiment" / f"{name}.yaml").read_text().split("defaults:")[0]
    assert head.startswith("# @package _global_\n#")
    assert "arXiv:" in head
    assert f"python train.py experiment={name}" in head
    assert "Expected" in head or "No published figure" in head


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_takes_only_arguments_that_exist_on_its_own_data(configure, name):
    overrides.check_arguments(configure(f"experiment={name}", tiny=False))


@pytest.mark.parametrize("group", ["objective", "optimizer", "schedule", "augmentation", "encoder", "towers"])
def test_every_option_takes_only_arguments_that_exist(configure, group):
    for path in sorted((CONF / group).glob("*.yaml")):
        overrides.check_arguments(configure(f"{group}={path.stem}", tiny=False))
