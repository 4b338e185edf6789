"""The result object says what it is on one line."""

import json
import math
from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from ssl_mi.information.core.caution import Caution
from ssl_mi.information.core.estimate import Estimate


def test_bits_are_nats_over_log_two():
    assert Estimate(math.log(2)).bits == pytest.approx(1.0)
    assert float(Estimate(-0.01)) == -0.01


def test_an_estimate_prints_everything_on_one_line():
    estimate = Estimate(
        0.5,
        kind="lower bound",
        se=0.01,
        ci=(0.48, 0.52),
        ci_level=0.95,
        p_value=0.05,
        null=0.001,
        ceiling=6.2,
        n=1000,
        dims=(3, 2),
        projection="CCA(2)",
        estimator="KSG1",
        settings={"k": 3},
        warnings=("few rows", "ties"),
    )
    line = str(estimate)
    assert "\n" not in line
    for part in ("0.5000 nats", "[0.4800, 0.5200] at 95%", "lower bound", "p = 0.05", "null 0.0010", "ceiling 6.20"):
        assert part in line
    for part in ("KSG1(k=3)", "of CCA(2)", "n = 1000", "dims 3 × 2", "2 warnings: few rows | ties"):
        assert part in line


def test_an_estimate_with_only_a_value_prints_too():
    assert str(Estimate(0.25)) == "0.2500 nats, estimate()"
    assert "± 0.1000" in str(Estimate(0.25, se=0.1))
    assert "1 warning: ties" in str(Estimate(0.25, warnings=("ties",)))


def test_a_p_value_at_its_floor_is_an_upper_limit_and_says_why():
    assert Estimate(0.5, p_value=0.05, permutations=19).p_text == "p <= 0.05, the least that 19 permutations can show"
    assert Estimate(0.5, p_value=0.05, permutations=99).p_text == "p = 0.05"
    assert Estimate(0.5, p_value=0.05).p_text == "p = 0.05"
    assert Estimate(0.5).p_text is None
    assert "p <= 0.05, the least that 19 permutations can show" in str(Estimate(0.5, p_value=0.05, permutations=19))


def test_an_estimate_is_not_changed_afterwards():
    with pytest.raises(FrozenInstanceError):
        Estimate(0.5).value = 1.0


def test_unknown_kinds_and_levels_without_intervals_are_refused():
    with pytest.raises(ValueError, match="kind must be one of"):
        Estimate(0.5, kind="guess")
    with pytest.raises(ValueError, match="come together"):
        Estimate(0.5, ci=(0.4, 0.6))


FULL = {
    "kind": "lower bound",
    "se": 0.01,
    "ci": (0.48, 0.52),
    "ci_level": 0.95,
    "p_value": 0.05,
    "null": 0.0,
    "n": 1000,
    "dims": (3, 2),
    "estimator": "<KSG> & more",
    "warnings": (Caution("few-rows", "n = 9 rows are few", {"n": 9}), "of my own"),
}


def test_a_dictionary_of_it_is_json_with_the_codes_of_its_warnings():
    estimate = Estimate(math.nan, ceiling=math.inf, settings={"k": np.int64(3), "a": np.arange(2.0)}, **FULL)
    told = json.loads(json.dumps(estimate.to_dict(), allow_nan=False))
    assert (told["value"], told["ceiling"], told["ci"], told["dims"]) == (None, None, [0.48, 0.52], [3, 2])
    assert told["settings"] == {"k": 3, "a": [0.0, 1.0]}
    assert told["warnings"] == [
        {"code": "few-rows", "message": "n = 9 rows are few", "numbers": {"n": 9}},
        {"code": "own", "message": "of my own"},
    ]


def test_its_repr_names_the_codes_and_not_the_sentences():
    text = repr(Estimate(0.5, **FULL))
    assert text.startswith("Estimate(0.5000 nats [0.4800, 0.5200] at 95% (lower bound), p = 0.05, null 0.0000")
    assert text.endswith("2 warnings: few-rows, own)")


def test_in_a_notebook_it_is_a_table_with_everything_escaped():
    table = Estimate(0.5, **FULL)._repr_html_()
    for part in ("0.5000 nats (0.7213 bits)", "0.4800 .. 0.5200 nats at 95%", "&lt;KSG&gt; &amp; more", "n = 9 rows"):
        assert part in table
    assert "<th>null</th><td>0.0000 nats</td>" in table
    assert "<KSG>" not in table


def test_equality_leaves_out_the_seconds_and_knows_that_nan_is_nan():
    nan = float("nan")
    assert Estimate(nan, ci=(nan, 1.0), ci_level=0.9, seconds=1.0) == Estimate(np.nan, ci=(np.nan, 1.0), ci_level=0.9)
    assert Estimate(0.5, settings={"a": nan}) == Estimate(0.5, settings={"a": np.nan})
    assert Estimate(0.5) != Estimate(nan)
    assert Estimate(0.5) != Estimate(0.5, n=3)
    assert Estimate(0.5, warnings=("a",)) != Estimate(0.5, warnings=("b",))
    assert Estimate(0.5) != 0.5
