"""A queue keeps what was pushed, in place, across its end and across a checkpoint."""

import pytest
import torch

from ssl_mi.objectives import NNCLR, DenseContrast, MoCo, NearestTargets, ReSSL
from ssl_mi.objectives.queue import Queue


def rows(start, n):
    return torch.arange(start, start + n, dtype=torch.float32)[:, None].expand(n, 2)


def test_a_push_across_the_end_drops_no_row():
    queue = Queue(7, 2)
    queue.push(rows(0, 5))
    queue.push(rows(5, 5))  # two fit, three go on at the start
    assert queue.rows[:, 0].tolist() == [7, 8, 9, 3, 4, 5, 6]
    queue.push(rows(10, 7))  # as many as it holds
    assert sorted(queue.rows[:, 0].tolist()) == [10, 11, 12, 13, 14, 15, 16]
    assert queue.pushed == 17


def test_it_starts_as_the_same_random_directions_everywhere():
    first, other = Queue(50, 8), Queue(50, 8)
    torch.testing.assert_close(first.rows.norm(dim=1), torch.ones(50))
    assert torch.equal(first.rows, other.rows)
    assert first.rows.std(0).min() > 0.1


def test_rows_and_place_are_state():
    queue, fresh = Queue(7, 2), Queue(7, 2)
    queue.push(rows(0, 5))
    assert set(queue.state_dict()) == {"rows", "pushed"}
    fresh.load_state_dict(queue.state_dict())
    for q in (queue, fresh):
        q.push(rows(5, 4))
    assert torch.equal(queue.rows, fresh.rows)


def test_the_graph_of_a_step_outlives_its_push():
    queue, x = Queue(7, 2), torch.randn(3, 2, requires_grad=True)
    past = queue.past()
    total = (x @ past.T).square().sum()
    queue.push(rows(0, 3))
    total.backward()  # an in-place change of what the product saved would raise here
    torch.testing.assert_close(x.grad, 2 * x.detach() @ past.T @ past)


def test_more_rows_than_it_holds_are_refused():
    with pytest.raises(ValueError, match=r"a queue of 4 rows cannot take 5 at once: set objective\.queue to 5 or more"):
        Queue(4, 2).push(rows(0, 5))
    with pytest.raises(ValueError, match="size must be positive, got 0"):
        Queue(0, 2)


@pytest.mark.parametrize("kind", [MoCo, NNCLR, ReSSL, DenseContrast, NearestTargets])
def test_the_rows_of_a_queue_have_one_name_in_every_objective(kind):
    with pytest.raises(TypeError, match=f"{kind.__name__}: 'size' is called 'queue': give queue=80"):
        kind(4, size=80)
