"""Installed from its wheel, with no checkout near, it is the same program."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("setuptools", "77")  # builds without a network

ROOT = Path(__file__).parents[2]
SHORT = ["trainer.max_epochs=1", "trainer.accelerator=cpu", "trainer.devices=1", "progress=lines"]
SHORT += ["data.batch_size=32", "encoder=convnet", "encoder.widths=[8]", "evaluation.every_n_epochs=0"]
SHORT += ["evaluation.evaluations.mi.permutations=2", "evaluation.evaluations.mi.subsets=0"]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of what is built, so that nothing is built in the checkout."""
    folder = tmp_path_factory.mktemp("source")
    for name in ("ssl_mi", "conf", "examples"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "train.py"):
        shutil.copy(ROOT / name, folder)
    return folder


def finished(command, folder, **environment):
    """A command that succeeds in this folder -> its stdout."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def site(source, tmp_path_factory):
    """The folder that the wheel is installed into."""
    folder = tmp_path_factory.mktemp("installed")
    pip, offline = [sys.executable, "-m", "pip", "--quiet"], ["--no-deps", "--no-index"]
    finished([*pip, "wheel", source, *offline, "--no-build-isolation", "--wheel-dir", folder / "dist"], folder)
    (wheel,) = (folder / "dist").glob("*.whl")
    finished([*pip, "install", wheel, *offline, "--target", folder / "site"], folder)
    return folder / "site"


@pytest.fixture
def ssl_mi(site, tmp_path):
    """The installed command, run in an empty folder -> its stdout."""

    def run(*words):
        return finished([sys.executable, site / "bin" / "ssl-mi", *words], tmp_path, PYTHONPATH=str(site))

    return run


def report_below(folder):
    (path,) = folder.glob("runs/*/*/report.json")
    return json.loads(path.read_text())


def test_what_runs_is_the_wheel_and_its_own_configuration(site, tmp_path):
    code = "import ssl_mi; from ssl_mi.app.paths import conf_dir; print(*ssl_mi.__path__, conf_dir())"
    python = [sys.executable, "-c", code]
    assert finished(python, tmp_path, PYTHONPATH=str(site)).split() == [str(site / "ssl_mi"), str(site / "ssl_mi/conf")]
    assert not (site / "conf").exists()
    assert not list(site.rglob("good_views*"))  # examples stay in the checkout
    for path in (ROOT / "conf").rglob("*.yaml"):
        assert (site / "ssl_mi" / "conf" / path.relative_to(ROOT / "conf")).read_bytes() == path.read_bytes()


def test_the_module_is_the_command(site, tmp_path):
    module = finished([sys.executable, "-m", "ssl_mi", "--help"], tmp_path, PYTHONPATH=str(site))
    script = finished([sys.executable, site / "bin" / "ssl-mi", "--help"], tmp_path, PYTHONPATH=str(site))
    assert module == script
    assert "train an encoder without labels" in module


def test_the_main_job_trains_into_runs_of_the_current_folder(ssl_mi, tmp_path):
    out = ssl_mi("train", *SHORT, "data.sets.train=200", "data.sets.test=60", "optimizer.betas=[.9,.95]")
    assert "complete" in out
    report = report_below(tmp_path)
    assert report["ended"] == "complete"
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_an_experiment_trains_on_a_folder_of_images(ssl_mi, tmp_path):
    rng = np.random.default_rng(0)
    for split, n in (("train", 40), ("test", 12)):
        for name in ("a", "b"):
            (tmp_path / "images" / split / name).mkdir(parents=True)
            for i in range(n):
                pixels = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "images" / split / name / f"{i}.png")
    ssl_mi(
        "train", "experiment=simclr_cifar", "data=image_folder", "data.root=images", "schedule.warmup_epochs=0", *SHORT
    )
    report = report_below(tmp_path)
    assert report["ended"] == "complete"
    assert report["history"][0]["epoch"] == 1


@pytest.mark.slow
def test_a_canary_sings(ssl_mi, tmp_path):
    out = ssl_mi("canaries", "simclr", *SHORT, "data.sets.train=400", "data.sets.test=120")
    assert "simclr" in out
    assert "not judged" in out
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def samples(tmp_path):
    """x.npy and y.npy, 300 pairs that share ln 2 / 2 nats."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(300)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", x + rng.standard_normal(300))


def test_files_are_estimated(ssl_mi, samples):
    out = ssl_mi("estimate", "x.npy", "y.npy", "--estimator", "ksg", "--json")
    assert json.loads(out)["value"] == pytest.approx(np.log(2) / 2, abs=0.2)


SMALLEST = {
    "benchmark": ["--estimators", "ksg", "--tasks", "1v1-normal-0.75", "-n", "200", "--seeds", "1"],
    "staircase": ["--estimators", "infonce", "--steps", "2", "--batches", "2", "--seeds", "1"],
}


@pytest.mark.slow
@pytest.mark.parametrize("command", list(SMALLEST))
def test_the_estimators_are_compared_with_the_truth_and_nothing_is_written_unasked(ssl_mi, tmp_path, command):
    assert SMALLEST[command][1] in ssl_mi(command, *SMALLEST[command])
    assert list(tmp_path.iterdir()) == []


def test_the_source_archive_carries_the_configuration(source):
    code = "import setuptools.build_meta as b; print(b.build_sdist('dist'))"
    name = finished([sys.executable, "-c", code], source).split()[-1]
    with tarfile.open(source / "dist" / name) as archive:
        held = {path.split("/", 1)[1] for path in archive.getnames() if "/" in path}
    assert {"conf/train.yaml", "conf/experiment/known/patches.yaml", "train.py", "setup.py"} <= held
    assert "examples/own_parts/my_conf/experiment/mine.yaml" in held
