"""The result object says what it is on one line."""

import math
from dataclasses import FrozenInstanceError

import pytest

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


def test_an_estimate_is_not_changed_afterwards():
    with pytest.raises(FrozenInstanceError):
        Estimate(0.5).value = 1.0


def test_unknown_kinds_and_levels_without_intervals_are_refused():
    with pytest.raises(ValueError, match="kind must be one of"):
        Estimate(0.5, kind="guess")
    with pytest.raises(ValueError, match="come together"):
        Estimate(0.5, ci=(0.4, 0.6))
