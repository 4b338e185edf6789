"""Schedules against their formulas, written out."""

import math
from itertools import pairwise

import pytest

from ssl_mi.schedules import SHAPES, constant, cosine, jump, linear, milestones, warmup


def test_a_line_passes_through_its_ends_and_its_middle_and_stays():
    assert [linear(s, 0.04, 0.4, 10) for s in (0, 10, 11, 1000)] == [0.04, 0.4, 0.4, 0.4]
    assert linear(5, 0.04, 0.4, 10) == pytest.approx(0.22, rel=1e-12)


def test_a_cosine_is_the_formula_of_the_papers():
    # Caron et al. 2021, cosine_scheduler: final + (base - final) (1 + cos(pi i / n)) / 2.
    for step in range(11):
        expected = 0.4 + 0.5 * (0.04 - 0.4) * (1 + math.cos(math.pi * step / 10))
        assert cosine(step, 0.04, 0.4, 10) == pytest.approx(expected, rel=1e-12)
    assert cosine(25, 0.04, 0.4, 10) == pytest.approx(0.4, rel=1e-12)


def test_a_jump_comes_at_its_step_and_not_before():
    assert [jump(s, 1.0, 2.0, 3) for s in (0, 2, 3, 4)] == [1.0, 1.0, 2.0, 2.0]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("start", "end"), [(0.1, 1.0), (1.0, 0.1), (0.3, 0.3)])
def test_every_shape_starts_and_ends_where_it_should_and_never_leaves_the_way_between(shape, start, end):
    values = [SHAPES[shape](step, start, end, 7) for step in range(10)]
    assert values[0] == pytest.approx(start, rel=1e-12)
    assert values[7:] == pytest.approx([end] * 3, rel=1e-12)
    signs = {math.copysign(1, b - a) for a, b in pairwise(values) if b != a}
    assert len(signs) <= 1  # monotone


@pytest.mark.parametrize("shape", SHAPES)
def test_a_way_of_no_steps_is_at_its_end(shape):
    assert SHAPES[shape](0, 1.0, 2.0, 0) == pytest.approx(2.0)


def test_milestones_hold_until_the_next_one():
    values = {0: 0.5, 30: 0.2, 60: 0.1}
    assert [milestones(s, values) for s in (0, 29.9, 30, 59, 60, 1000)] == [0.5, 0.5, 0.2, 0.2, 0.1, 0.1]
    assert milestones(5, {3: 1.0, 0: 2.0}) == 1.0  # in any order
    for wrong in ({}, {1: 0.5}):
        with pytest.raises(ValueError, match="one value must start at 0"):
            milestones(5, wrong)


def test_a_warm_up_ends_at_the_value_exactly_and_has_no_step_at_zero():
    assert [warmup(s, 0.8, 4) for s in range(6)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8, 0.8], rel=1e-15)
    assert warmup(3, 0.8, 4) == 0.8
    assert warmup(0, 0.8, 0) == 0.8


def test_a_constant_is_constant():
    assert {constant(step, 0.3) for step in (0, 1, 10**9)} == {0.3}
