"""A study of invertible encoders: the information it says is constant, and how it chooses what it claims."""

import math

import numpy as np
import pytest
import torch

import half_digits
import study
import tighter_bounds as bounds
from ssl_mi.information import discrete_mi


def test_no_two_halves_are_equal_so_that_each_tells_its_class():
    for view in (0, 1):
        halves = half_digits.halves_of(view)
        both = torch.cat([halves, -halves]).flatten(1)
        assert len(both.unique(dim=0)) == 2 * 1797


def test_the_classes_that_halves_tell_share_ln_10():
    table = {}
    train, held = half_digits.split(0)
    for digits in (train, held):
        seen = digits.all()
        for view in (0, 1):
            table |= {(view, p.numpy().tobytes()): int(c) for p, c in zip(seen[view], seen.label, strict=True)}
    for digits in (train, held):
        pairs = digits.draw(20_000, torch.Generator().manual_seed(0))
        read = [np.array([table[view, p.numpy().tobytes()] for p in pairs[view]]) for view in (0, 1)]
        assert (read[0] == pairs.label.numpy()).all()
        # The plug-in falls short by (K - 1) / 2n in expectation, 0.0002; its sd is that of the entropy of a uniform, 0.
        assert discrete_mi(*read, correction="plugin").value == pytest.approx(math.log(10), abs=0.002)


def test_given_the_class_the_halves_are_independent():
    pairs = half_digits.split(0)[0].draw(100_000, torch.Generator().manual_seed(0))
    ink = [view.flatten(1).abs().mean(1) for view in (pairs.x, pairs.y)]  # the same, exchanged or not
    sign = [view.flatten(1).mean(1).sign() for view in (pairs.x, pairs.y)]
    for c in range(10):
        rows = pairs.label == c
        for a, b in (ink, sign):
            # sd 1 / sqrt(10,000) = 0.01; 4.5 of them for 20 looks
            assert abs(np.corrcoef(a[rows], b[rows])[0, 1]) < 0.045


def test_no_digit_is_trained_on_and_read():
    train, held = half_digits.split(3)
    assert sorted([*train.pool.rows.tolist(), *held.pool.rows.tolist()]) == list(range(1797))
    assert not torch.equal(train.pool.rows, half_digits.split(4)[0].pool.rows)


def test_levels_are_those_of_the_digits():
    pixels = half_digits.digits()[0]
    assert torch.equal(half_digits.levels(half_digits.halves_of(1)[:, 0]), pixels[:, 4:].long())


def test_ridge_tells_all_of_what_is_linear_and_nothing_of_noise():
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(10, (4000,), generator=generator)
    noise = torch.randn(4000, 32, generator=generator)
    linear = torch.nn.functional.one_hot(label, 10) + 0.01 * noise[:, :10]
    assert bounds.told(linear, label).item() > 0.95
    assert bounds.told(noise, label).item() == pytest.approx(32 / 4000, abs=0.004)


def made_up(accuracy, bound, pilot=None):
    """Rows of every setting, as if measured; the pilot's values by setting."""
    rows = []
    for seed in range(4):
        for i, (c, b) in enumerate(bounds.settings()):
            own = (pilot or {}).get((c, b), (accuracy[i] + 0.001 * seed, bound[i])) if seed == 0 else None
            read = own or (accuracy[i] + 0.001 * (seed + i) % 0.003, bound[i] + 0.01 * seed)
            steps = bounds.LOOKS if (c, b) in bounds.CURVES else [bounds.STEPS]
            rows += [row("nothing", c, b, step, seed, *read) for step in steps]
        for step in (*bounds.LOOKS, *bounds.LOOKS_AGAINST):
            rows.append(row("adversary", *bounds.ADVERSARY, step, seed, 1 - step / 2000 + seed / 1000, 1.0))
    return rows


def row(then, critic, bound, step, seed, accuracy, nats):
    job = {"critic": critic, "bound": bound, "then": then, "seed": seed, "step": step}
    found = {"accuracy": accuracy * (step + 1) / (bounds.STEPS + 1) if then == "nothing" else accuracy, "nats": nats}
    return job | found | {"nats_train": nats, "restored": 1.0, "error": 0.0, "seconds": 0.0, "commit": "none"}


def test_the_pilot_chooses_and_the_other_seeds_are_judged(tmp_path):
    order = np.linspace(0.5, 0.9, 12)
    # To the pilot, against all other seeds, the first setting has the highest bound and the lowest accuracy.
    misled = {bounds.settings()[0]: (0.1, 9.0)}
    rows = made_up(order, order, misled)
    a, b = bounds.chosen(rows)
    assert (a, b) == (0, 6)  # its bound is 11 - 5 ranks lower, its accuracy 6 - 0 higher
    claims = {claim.claim.split(":")[0]: claim for claim in bounds.verdicts(rows)}
    assert not claims[
        "(b) bound of A (bilinear critic, InfoNCE) minus that of B (separable critic, InfoNCE), nats"
    ].passed
    assert claims["(b) accuracy of A minus that of B"].passed
    assert not claims["(b) Kendall's tau with the accuracies of other seeds"].passed  # one order for both
    against = {claim.claim.split(":")[0]: claim for claim in bounds.verdicts(made_up(order, order[::-1]))}
    assert all(claim.passed for claim in against.values()), against


def test_the_study_draws_and_says_what_was_measured(tmp_path):
    order = np.linspace(0.5, 0.9, 12)
    study.store(bounds.STUDY, made_up(order, order[::-1]), tmp_path)
    page = (tmp_path / "README.md").read_text()
    assert "**seeds**: 0, 1, 2, 3" in page
    assert page.count("| bilinear |") == 3
    assert (tmp_path / "picture.png").stat().st_size > 10_000


@pytest.mark.parametrize("job", [0, -1])
def test_trained_encoders_bring_back_every_pixel(job):
    job = bounds.jobs(quick=True)[job]
    rows = bounds.measure(job, 1, quick=True)
    assert [row["step"] for row in rows] == [0, bounds.STEPS, bounds.STEPS + bounds.AGAINST][
        : 2 if job["then"] == "nothing" else 3
    ]
    assert {row["restored"] for row in rows} == {1.0}
    assert 0 < max(row["error"] for row in rows) < 0.01
    assert all(0 <= row["accuracy"] <= 1 and np.isfinite(row["nats"]) for row in rows)
