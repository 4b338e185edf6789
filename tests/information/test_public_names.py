"""What ssl_mi.information offers by name, and what it costs to import."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ssl_mi import information
from ssl_mi.information.apps.catalogue import CATALOGUE


def loaded_after(statements):
    """The modules of numpy, torch, numba ... that are loaded after these statements in a new process."""
    program = f"{statements}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("name", information.__all__)
def test_every_public_name_is_there(name):
    assert getattr(information, name) is not None
    assert name in dir(information)


def test_a_name_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'kgs'"):
        information.kgs  # noqa: B018


@pytest.mark.parametrize("package", ["", "projections"])
def test_type_checkers_are_shown_the_names_that_are_imported_lazily(package):
    module = information.projections if package else information
    tree = ast.parse(Path(module.__file__).read_text())
    (guarded,) = (node for node in tree.body if isinstance(node, ast.If))
    shown = {alias.name: node.module for node in guarded.body for alias in node.names}
    assert set(shown) == set(module.__all__)
    for name, home in shown.items():
        assert getattr(module, name) is getattr(__import__(home, fromlist=[name]), name)


@pytest.mark.parametrize("name", CATALOGUE)
def test_what_the_command_line_names_is_a_function_of_that_name(name):
    function = getattr(information, name)
    assert function.__name__ == name
    assert list(inspect.signature(function).parameters)[:2] in (["x", "y"], ["x", "labels"])


def test_a_bound_by_its_name_estimates_with_that_bound():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 1))
    estimate = information.nwj(x, x + rng.standard_normal((60, 1)), training=information.Training(max_steps=2))
    assert isinstance(estimate, information.Estimate)
    assert estimate.settings["bound"] == "nwj"
    assert "bound" not in inspect.signature(information.nwj).parameters


@pytest.mark.parametrize("target", ["bounds.InfoNCE", "critics.Cosine", "projections.CCA", "ksg", "mine", "inference"])
def test_hydra_finds_parts_by_their_public_path(target):
    from hydra.utils import get_object

    module, _, name = target.rpartition(".")
    home = getattr(information, module) if module else information
    assert get_object(f"ssl_mi.information.{target}") is getattr(home, name)


def test_importing_information_imports_neither_numpy_nor_torch():
    assert loaded_after("import ssl_mi.information").isdisjoint({"numpy", "scipy", "torch", "numba"})


def test_nearest_neighbours_and_counts_of_numpy_arrays_do_not_import_torch():
    loaded = loaded_after(
        "import numpy as np\n"
        "from ssl_mi.information import cca_mi, discrete_mi, ksg, mutual_information, with_interval\n"
        "x = np.random.default_rng(0).standard_normal((300, 2))\n"
        "y = x + 1\n"
        "ksg(x, y), cca_mi(x, y[:, ::-1] ** 2), discrete_mi(x > 0, y > 0), with_interval(ksg, x, y)\n"
        "mutual_information(x, x[:, 0] > 0)"
    )
    assert "numba" in loaded
    assert "torch" not in loaded


def test_entropy_of_floats_is_refused_with_both_remedies():
    with pytest.raises(ValueError, match=r"differential_entropy\(x\).*discrete_entropy\(x\)"):
        information.entropy(np.array([0.0, 1.0, 1.0]))
    labels = [0, 1, 1]
    assert information.entropy(labels).value == information.discrete_entropy(np.array(labels, float)).value
