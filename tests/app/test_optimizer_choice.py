"""Hyper-parameters of an optimizer do not outlive a swap of the optimizer."""

import pytest
from conftest import CONF
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from ssl_mi.app import config_checks
from ssl_mi.app.optimizer_choice import settle_optimizer

EXPERIMENTS = sorted(
    str(p.relative_to(CONF / "experiment").with_suffix("")) for p in (CONF / "experiment").rglob("*.yaml")
)
OPTIMIZERS = sorted(p.stem for p in (CONF / "optimizer").glob("*.yaml"))
OWN = {name: OmegaConf.to_container(OmegaConf.load(CONF / "optimizer" / f"{name}.yaml")) for name in OPTIMIZERS}


@pytest.fixture
def settled(tmp_path):
    """overrides -> (the page as a run takes it, what it says of the optimizer); knows experiments in tmp_path too."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):

        def make(*overrides):
            chosen = [f"hydra.searchpath=[file://{tmp_path}]", *overrides]
            cfg = compose("train", chosen)
            note = settle_optimizer(cfg, chosen)
            return cfg, note

        yield make


def block(cfg, key="optimizer"):
    return OmegaConf.to_container(cfg[key])


def write(folder, name, text):
    (folder / "experiment").mkdir(exist_ok=True)
    (folder / "experiment" / f"{name}.yaml").write_text("# @package _global_\n" + text)


OLD_WAY = """
defaults:
  - override /objective: vicreg
  - override /optimizer: lars
name: mine
optimizer: {lr: 0.3, weight_decay: 1e-2, momentum: 0.5, nesterov: true}
"""


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_a_swap_takes_that_optimizers_own_numbers(experiment):
    GlobalHydra.instance().clear()
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        for name in OPTIMIZERS:
            # Composed as it stands, so that --cfg and the saved configuration are right too.
            assert block(compose("train", [f"experiment={experiment}", f"optimizer={name}"])) == OWN[name], name


@pytest.mark.parametrize("experiment", ["vicreg_cifar", "byol_cifar", "mae_cifar", "simsiam_cifar", "known/patches"])
def test_a_swap_is_told(settled, experiment):
    before = compose("train", [f"experiment={experiment}"]).optimizer
    for name in OPTIMIZERS:
        cfg, note = settled(f"experiment={experiment}", f"optimizer={name}")
        assert block(cfg) == OWN[name]
        was = before._target_.rsplit(".", 1)[-1]
        assert f"its own default: the experiment's {before.lr} was chosen for {was}" in note
        config_checks.check_arguments(OmegaConf.create({"optimizer": cfg.optimizer}))


def test_without_a_swap_the_experiment_keeps_its_numbers(settled):
    cfg, note = settled("experiment=vicreg_cifar")
    assert (cfg.optimizer.lr, cfg.optimizer.weight_decay, note) == (0.3, 1e-4, "")
    assert settled()[1] == ""
    assert settled("optimizer=sgd")[1] == ""


@pytest.mark.parametrize("experiment", ["vicreg_cifar", "mine"])
def test_the_command_line_always_counts(settled, tmp_path, experiment):
    write(tmp_path, "mine", OLD_WAY)
    overrides = [f"experiment={experiment}", "optimizer=adamw", "optimizer.lr=0.02", "+optimizer.betas=[0.8,0.9]"]
    cfg, note = settled(*overrides)
    assert block(cfg) == {**OWN["adamw"], "lr": 0.02, "betas": [0.8, 0.9]}
    assert note == "" or experiment == "mine"


def test_an_experiment_that_sets_numbers_in_its_own_file_keeps_them_to_its_optimizer(settled, tmp_path):
    write(tmp_path, "mine", OLD_WAY)
    for name in OPTIMIZERS:
        cfg, note = settled("experiment=mine", f"optimizer={name}")
        if name == "lars":
            changed = {"lr": 0.3, "weight_decay": 1e-2, "momentum": 0.5, "nesterov": True}
            assert block(cfg) == {**OWN["lars"], **changed}
            assert note == ""
        else:
            assert block(cfg) == OWN[name]
            assert "the experiment's 0.3 was chosen for LARS" in note


def test_an_experiment_built_on_another_does_not_inherit_numbers_for_another_optimizer(settled, tmp_path):
    write(tmp_path, "mine", OLD_WAY)
    write(tmp_path, "child", "defaults: [mine, {override /optimizer: adamw}]\noptimizer: {weight_decay: 0.05}\n")
    cfg, note = settled("experiment=child")
    assert block(cfg) == {**OWN["adamw"], "weight_decay": 0.05}
    assert note == "without what mine sets for lars"
    write(tmp_path, "same", "defaults: [mine]\noptimizer: {weight_decay: 0.05}\n")
    cfg, note = settled("experiment=same")
    assert (cfg.optimizer.lr, cfg.optimizer.weight_decay, cfg.optimizer.momentum, note) == (0.3, 0.05, 0.5, "")


def test_another_class_named_on_the_command_line_has_its_own_numbers(settled):
    cfg, note = settled("experiment=vicreg_cifar", "optimizer._target_=torch.optim.AdamW")
    assert block(cfg) == OWN["adamw"]
    assert "was chosen for LARS" in note
    cfg, _ = settled("experiment=vicreg_cifar", "optimizer._target_=torch.optim.NAdam")
    assert block(cfg) == {"_target_": "torch.optim.NAdam", "_partial_": True}
    cfg, _ = settled("experiment=vicreg_cifar", "optimizer._target_=torch.optim.NAdam", "optimizer.lr=1e-3")
    assert block(cfg) == {"_target_": "torch.optim.NAdam", "_partial_": True, "lr": 1e-3}


def test_the_objectives_own_optimizer_follows_the_same_rule(settled):
    cfg, _ = settled("experiment=simsiam_cifar", "objective_optimizer._target_=torch.optim.AdamW")
    assert block(cfg, "objective_optimizer") == OWN["adamw"]
    assert cfg.optimizer.lr == 0.5
    cfg, _ = settled("experiment=simsiam_cifar", "optimizer=adamw")
    assert cfg.objective_optimizer.lr == 0.5  # it is still the SGD that 0.5 was chosen for


def test_a_rate_that_is_not_set_is_asked_for(configure):
    from ssl_mi.app import startup as cli

    cfg = configure("optimizer._target_=torch.optim.NAdam", tiny=False)
    with pytest.raises(ValueError, match=r"optimizer\.lr is not set, and torch\.optim\.NAdam has no default here"):
        cli.check(cfg)


def test_the_first_lines_of_a_run_say_whose_rate_it_is(configure, capsys):
    from ssl_mi.app import startup as cli
    from ssl_mi.app.runner import Run

    cfg = configure("optimizer=sgd")
    note = "its own default: the experiment's 0.3 was chosen for LARS"
    cfg.optimizer_note = note
    run = Run(cfg, cli.build(cfg, "data"), cli.build(cfg, "module"))
    run.data.setup()
    run._print_facts()
    printed = " ".join(capsys.readouterr().out.split())
    assert f"optimizer SGD, learning rate 0.06 ({note})" in printed
