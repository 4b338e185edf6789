"""A value that is of no type that its parameter takes is refused in one line before anything is built."""

import collections.abc
import math
import random
from pathlib import Path
from typing import Any, Literal

import pytest
from omegaconf import OmegaConf

from ssl_mi.app import values
from ssl_mi.app.composition import Sources
from ssl_mi.app.config_checks import accepted, check_values, entries
from ssl_mi.app.startup import check, users_mistake
from ssl_mi.app.train import compose


@pytest.mark.parametrize(
    ("annotation", "good", "bad"),
    [
        (int, [0, -3], [True, 1.0, math.inf, "1", None, [1]]),
        (float, [0, 1.5, math.inf], [True, math.nan, "", "abc", None]),
        (bool, [True], [1, "maybe", -math.inf, None]),
        (str, ["", "a"], [1, True, None]),
        (int | None, [None, 2], [2.5, "ten"]),
        (Literal["auto", "none"], ["auto"], ["loud", None]),
        (Literal[16, "32"], [16, "32"], [32, "16", True]),
        (list[int], [[], [1, 2]], [1, [1.5], ["a"], {"a": 1}]),
        (tuple[float, float], [[0, 1.0]], [[0], [0, 1, 2], 0.5]),
        (collections.abc.Sequence[str], [["a"]], ["a", [1]]),
        (dict[str, float], [{"a": 1}], [{"a": "b"}, 3, [1]]),
        (str | Path | None, ["a", None], [3, ""]),
        (collections.abc.Callable[..., Any], [{"_target_": "numpy.array"}], [3, "mean"]),
        (Any, [3, "a", None, [1]], []),
        (object, [3, "a", None], []),
    ],
    ids=repr,
)
def test_what_fits_a_type_and_what_does_not(annotation, good, bad):
    for value in good:
        assert values.misfit("key", value, annotation) is None, value
    for value in bad:
        assert (values.misfit("key", value, annotation) or "").startswith("key"), value


class Base:
    def __init__(self, width: int, ratio=0.5, steps: int | None = None, name=None):
        """A parameter has a type, or a default of one, or neither."""


class Child(Base):
    def __init__(self, flag: bool = True, **rest):
        super().__init__(**rest)


def test_the_types_of_a_class_are_its_own_and_those_of_the_base_it_hands_the_rest_to():
    found = values.types_of(Child)
    assert found == {"flag": bool, "width": int, "ratio": float | None, "steps": int | None}


@pytest.mark.parametrize(
    "override",
    [
        "seed=true",
        "overwrite=maybe",
        "trainer.profiler=3",
        "data.labels=maybe",
        "data.num_workers=inf",
        "data.size=big",
        "trainer.max_epochs=ten",
        "schedule.final_ratio=''",
        "towers.joint_forward=-inf",
        "optimizer.weight_decay=nan",
        "evaluation.evaluations.geometry.limit=abc",
        "evaluation.evaluations.mi.projections.cca2=-inf",
        "objective._partial_=-inf",
        "checkpoint.dirpath=''",
    ],
)
def test_a_value_of_the_wrong_type_is_named_by_the_key_that_set_it(override):
    key, _, value = override.partition("=")
    with pytest.raises(ValueError, match=rf"^{key}={value}: it must be ") as error:
        check_values(compose([override]))
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_the_values_of_all_configurations_fit():
    sources = Sources.default()
    for group, options in sources.options().items():
        for option in options:
            page = sources.compose([f"{group}={option}", "++data.root=x", "run_dir=x"])
            if all(value != "???" for _, value in entries(OmegaConf.to_container(page))):  # to be set by the user
                check_values(page)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_random_overrides_are_accepted_or_refused_in_one_line(seed):
    """25 a seed: any key with any value."""
    sources, rng = Sources.default(), random.Random(seed)
    page = OmegaConf.to_container(sources.compose(["run_dir=x"]), resolve=True)
    keys = [key for key, value in entries(page) if not isinstance(value, dict | list) and "_target_" not in key]
    anything = ["''", "abc", "true", "-inf", "inf", "nan", "null", "-1", "0", "1.5", "[1,2]", "{a: 1}", "1e400", "'1'"]
    for _ in range(25):
        override = f"{rng.choice(keys)}={rng.choice(anything)}"
        found = None
        try:
            check(sources.compose([*accepted(sources, [override]), "run_dir=x"]))
        except Exception as error:
            found = error
        message = "" if found is None else users_mistake(found)
        assert message is not None, (override, found)
        assert "\n" not in message, override
