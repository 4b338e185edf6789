import math

import numpy as np
import pytest
import torch

from ssl_mi.information.variational.lookup import built_in_critics
from ssl_mi.information.variational.training import (
    BestWeights,
    Training,
    derangements,
    maximise,
    minibatches,
    score_pairs,
)


def test_the_best_weights_come_back_by_value():
    # state_dict() holds references: without a copy, the "best" weights would be the last ones.
    module = torch.nn.Linear(1, 1, bias=False)
    seen, verdicts = [], iter([0.0, 1.0, 5.0, 2.0, 3.0, 4.0])

    def validate():
        seen.append(module.weight.detach().clone())
        return next(verdicts)

    x = torch.ones(4, 1)
    training = Training(max_steps=50, check_every=10, patience=9)
    fit = maximise(BestWeights([module], validate), lambda x, _: module(x).mean(), iter([(x, x)] * 50), training)
    assert fit.best_step == 20
    assert [step for step, _ in fit.history] == [0, 10, 20, 30, 40, 50]
    torch.testing.assert_close(module.weight.detach(), seen[2])
    assert not torch.allclose(seen[2], seen[-1])


def test_patience_ends_a_fit_that_no_longer_improves():
    module, verdicts = torch.nn.Linear(1, 1), iter([0.0, 1.0, 0.5, 0.4, 9.0])
    x = torch.ones(4, 1)
    training, keeper = Training(max_steps=50, check_every=10, patience=2), BestWeights([module], lambda: next(verdicts))
    fit = maximise(keeper, lambda x, _: module(x).mean(), iter([(x, x)] * 50), training)
    assert (fit.steps, fit.best_step, fit.warnings) == (30, 10, ())


def test_a_fit_that_diverges_stops_and_says_so():
    module, x = torch.nn.Linear(1, 1), torch.ones(4, 1)
    keeper, batches = BestWeights([module], lambda: 0.0), iter([(x, x)] * 9)
    fit = maximise(keeper, lambda x, _: module(x).mean() * math.inf, batches, Training(max_steps=9))
    assert fit.steps == 0
    (warning,) = fit.warnings
    assert (warning.code, warning.numbers) == ("fit-diverged", {"step": 0})
    assert torch.isfinite(module.weight).all()


def test_after_half_its_patience_a_fit_goes_back_to_its_best_weights_and_takes_smaller_steps():
    module, seen, verdicts = torch.nn.Linear(1, 1, bias=False), [], iter([0.0, 9.0, 4.0, 5.0, 6.0, 7.0])

    def validate():
        seen.append(float(module.weight.detach()))
        return next(verdicts)

    x = torch.ones(4, 1)
    training = Training(max_steps=9, check_every=1, patience=4, learning_rate=0.1, weight_decay=0.0)
    fit = maximise(BestWeights([module], validate), lambda x, _: module(x).mean(), iter([(x, x)] * 9), training)
    # Adam's first steps along a constant gradient are the rate itself: 0.1, then 0.3 of that from the best.
    steps = np.array(seen) - seen[0]
    np.testing.assert_allclose(steps, [0, 0.1, 0.2, 0.3, 0.1 + 0.03, 0.1 + 0.06], atol=1e-5)
    assert fit.rollbacks == [3]
    assert float(module.weight.detach()) == pytest.approx(seen[1])
    (warning,) = fit.warnings
    assert (warning.code, warning.numbers) == ("fit-fell", {"from": 9.0, "to": 4.0})


def test_derangements_are_permutations_without_fixed_points_or_repeats():
    n, k = 7, 6
    partners = derangements(n, k, torch.Generator().manual_seed(0))
    rows = torch.arange(n)
    for column in partners.T:
        assert (column != rows).all()
        torch.testing.assert_close(column.sort().values, rows)
    # All six together are every other row once.
    expected = torch.stack([torch.cat([rows[:i], rows[i + 1 :]]) for i in rows])
    torch.testing.assert_close(partners.sort(dim=1).values, expected)


@pytest.mark.parametrize("name", built_in_critics())
def test_scores_of_chosen_pairs_are_entries_of_the_full_matrix(name):
    x, y = torch.randn(9, 3), torch.randn(9, 3)
    critic = built_in_critics()[name].for_dims(3, 3)
    partners = derangements(9, 4, torch.Generator().manual_seed(0))
    joint, marginal = score_pairs(critic, x, y, partners)
    full = critic(x, y)
    torch.testing.assert_close(joint, full.diagonal(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(marginal, full.gather(1, partners), atol=1e-5, rtol=1e-5)


def test_minibatches_pass_over_every_row_once_an_epoch():
    x = torch.arange(10)
    batches = minibatches(x, -x, batch_size=5, seed=0)
    first, second = [torch.cat([next(batches)[0] for _ in range(2)]) for _ in range(2)]
    torch.testing.assert_close(first.sort().values, x)
    torch.testing.assert_close(second.sort().values, x)
    assert (first != second).any()


def test_a_cycle_raises_the_rate_and_lowers_it_to_nothing_and_never_goes_back():
    module, seen = torch.nn.Linear(1, 1, bias=False), []

    def validate():
        seen.append(float(module.weight.detach()))
        return -len(seen)  # worse each time

    x = torch.ones(4, 1)
    training = Training(
        max_steps=20, check_every=1, patience=99, learning_rate=0.1, weight_decay=0.0, schedule="one_cycle"
    )
    fit = maximise(BestWeights([module], validate), lambda x, _: module(x).mean(), iter([(x, x)] * 20), training)
    # Along a constant gradient Adam steps by about the rate: up to 0.1 in a third of the steps, then down to nothing.
    steps = np.diff(seen)
    top = int(steps.argmax())
    assert 3 < top < 10
    assert 0.05 < steps[top] < 0.101
    assert (np.diff(steps[: top + 1]) > 0).all()
    assert (np.diff(steps[top:]) < 0).all()
    assert steps[-1] < 1e-3
    assert fit.rollbacks == []
    assert float(module.weight.detach()) == pytest.approx(seen[0])  # the first was the best


def test_the_weights_before_the_first_step_compete_unless_they_are_left_out():
    module, x = torch.nn.Linear(1, 1), torch.ones(4, 1)
    for check_start, steps in ((True, [0, 2, 3]), (False, [2, 3])):
        training = Training(max_steps=3, check_every=2, check_start=check_start)
        fit = maximise(BestWeights([module], lambda: 0.0), lambda x, _: module(x).mean(), iter([(x, x)] * 3), training)
        assert [step for step, _ in fit.history] == steps
        assert fit.best_step == steps[0]


def test_unknown_schedules_are_refused():
    with pytest.raises(ValueError, match="schedule must be one of rollback, one_cycle, got 'cosine'"):
        Training(schedule="cosine")
