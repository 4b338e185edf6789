"""Training from Python is training from the command line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import CONF
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from ssl_mi.app.paths import conf_dir, plugin_dirs
from ssl_mi.app.train import compose

ROOT = Path(__file__).parents[2]


def test_the_configuration_is_that_of_the_command_line(capsys):
    overrides = ["experiment=mine_cifar", "optimizer.betas=[.9,.95]", "run_dir=here"]
    done = subprocess.run(
        [sys.executable, "train.py", *overrides, "--cfg", "job"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert OmegaConf.create(done.stdout) == compose(overrides)


def test_a_run_is_put_where_it_is_asked_to_and_else_into_runs():
    assert compose([], run_dir="it's here").run_dir == "it's here"
    assert compose(["run_dir=elsewhere"], run_dir="here").run_dir == "elsewhere"
    folder = Path(compose(["name=mine"]).run_dir)
    assert folder.parts[:2] == ("runs", "mine")
    assert not folder.is_absolute()


def test_a_hydra_that_is_set_up_stays_as_it_is():
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        before = GlobalHydra.instance().hydra
        compose([])
        assert GlobalHydra.instance().hydra is before


def test_the_configuration_is_that_of_the_checkout():
    assert conf_dir() == CONF


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package that offers its configurations by an entry point."""
    conf = tmp_path / "offering" / "conf" / "encoder"
    conf.mkdir(parents=True)
    (tmp_path / "offering" / "__init__.py").write_text("")
    (conf / "offered.yaml").write_text("_target_: ssl_mi.networks.encoders.ConvNet\nwidths: [4]\n")
    info = tmp_path / "offering-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: offering\nVersion: 1.0\n")
    entry = info / "entry_points.txt"
    entry.write_text("[ssl_mi.conf]\noffering = offering.conf\n")
    monkeypatch.syspath_prepend(tmp_path)
    return entry


def test_an_installed_package_adds_its_options(installed):
    assert plugin_dirs() == [installed.parents[1] / "offering" / "conf"]
    assert compose(["encoder=offered"]).encoder.widths == [4]
    done = subprocess.run(
        [sys.executable, "train.py", "encoder=offered", "--cfg", "job", "--package", "encoder.widths"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(installed.parents[1]), str(ROOT)])},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "- 4" in done.stdout


def test_an_entry_point_to_nothing_is_named(installed):
    installed.write_text("[ssl_mi.conf]\noffering = offering.nowhere\n")
    with pytest.raises(ValueError, match=r"entry point ssl_mi\.conf: offering = offering\.nowhere names no"):
        compose([])
