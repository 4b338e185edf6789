"""Flat names, as command lines have them, mean the fields of `Split`, `Training` and `Mixture`."""

import inspect
from dataclasses import fields

import numpy as np
import pytest

from ssl_mi.information.apps.catalogue import find_estimator
from ssl_mi.information.estimators.ksg import ksg
from ssl_mi.information.variational.densities import Mixture
from ssl_mi.information.variational.flow import flow_mi
from ssl_mi.information.variational.neural import neural_mi
from ssl_mi.information.variational.settings import flat, from_settings
from ssl_mi.information.variational.splits import Split
from ssl_mi.information.variational.training import Training
from ssl_mi.information.variational.upper_bounds import club, difference_of_entropies, leave_one_out

NETWORKS = [neural_mi, flow_mi, club, leave_one_out, difference_of_entropies]


def test_fields_are_gathered_and_other_names_stay():
    given = {"max_steps": 9, "cross_fit": True, "seed": 3, "bound": "dv", "unknown": 1}
    assert from_settings(neural_mi, given) == {
        "training": Training(max_steps=9),
        "split": Split(cross_fit=True),
        "seed": 3,
        "bound": "dv",
        "unknown": 1,
    }


def test_what_is_not_given_keeps_the_default_of_that_estimator():
    arguments = from_settings(flow_mi, {"patience": 3, "components": 2})
    assert arguments["training"] == Training(max_steps=2000, check_every=25, patience=3)
    assert arguments["density"] == Mixture(hidden=64, components=2)
    assert inspect.signature(flow_mi).parameters["split"].default.cross_fit


def test_a_field_changes_a_dataclass_that_is_given_beside_it():
    given = {"training": Training(max_steps=5), "patience": 2}
    assert from_settings(neural_mi, given) == {"training": Training(max_steps=5, patience=2)}


@pytest.mark.parametrize("function", NETWORKS)
def test_every_field_is_a_setting_under_one_name_and_the_parameters_are_few(function):
    named = inspect.signature(flat(function)).parameters
    parameters = inspect.signature(function).parameters
    assert len(parameters) <= 10
    for parameter in parameters.values():
        if parameter.name in ("split", "training", "density"):
            assert {f.name for f in fields(parameter.default)} <= set(named)
            assert parameter.name not in named
        else:
            assert named[parameter.name] == parameter
    assert named["max_steps"].default == parameters["training"].default.max_steps


def test_functions_without_such_parameters_stay_as_they_are():
    assert flat(ksg) is ksg


def test_the_former_name_of_a_setting_is_still_understood():
    x, y = np.random.default_rng(0).standard_normal((2, 300, 1))
    old, new = (find_estimator(f"infonce:max_steps=1,{name}=20") for name in ("read_batch", "eval_batch_size"))
    assert old(x, y).ceiling == new(x, y).ceiling == pytest.approx(np.log(18))  # 75 rows in blocks of 18 and 19
    assert flat(neural_mi)(x, y, max_steps=1, read_batch=20).ceiling == old(x, y).ceiling
