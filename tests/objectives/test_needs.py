"""What objectives declare that they need is what they use."""

import copy

import pytest
import torch
from specs import DIM, OBJECTIVES, beside
from torch import nn

from ssl_mi.objectives.stepped import SteppedObjective

N = 12
every = pytest.mark.parametrize("name", OBJECTIVES)


def made(name):
    torch.manual_seed(0)
    return OBJECTIVES[name].make().double()


def views(count, seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(N, DIM, generator=generator, dtype=torch.float64) for _ in range(count)]


def loss(name, objective, online, target):
    generator = torch.Generator().manual_seed(7)

    def local(locations):
        return torch.randn(N, locations, DIM, generator=generator, dtype=torch.float64)

    maps = {k: v[: len(online)] for k, v in OBJECTIVES[name].maps(local).items()}
    return objective(online, target, **beside(objective.requires, N), **maps).total.item()


@every
def test_a_teachers_embeddings_reach_the_loss_unless_the_objective_has_no_use_for_them(name):
    row = OBJECTIVES[name]
    online = views(row.views, seed=1)

    def with_targets(seed):
        try:
            return loss(name, made(name), online, views(row.targets or row.views, seed))
        except ValueError as error:
            return str(error)

    first, second = with_targets(seed=2), with_targets(seed=3)
    if made(name).teacher != "unused":
        assert first != second
    elif "no use for a teacher" not in str(first):
        assert first == second


@every
def test_an_objective_that_requires_a_teacher_refuses_to_do_without(name):
    objective, online = made(name), views(OBJECTIVES[name].views, seed=1)
    assert objective.teacher != "required" or OBJECTIVES[name].teacher
    if objective.teacher == "required":
        with pytest.raises(ValueError, match="teacher"):
            loss(name, objective, online, online)
    else:
        assert loss(name, objective, online, online) is not None


@every
def test_the_least_number_of_views_is_the_one_that_is_declared(name):
    objective = made(name)
    few = views(objective.min_views - 1, seed=1)
    with pytest.raises(ValueError, match=f"needs {objective.min_views} views or more, got {len(few)}"):
        loss(name, objective, few, [z.clone() for z in few] if OBJECTIVES[name].teacher else few)


# --- the number of the step -------------------------------------------------------------------------------


class Counting(SteppedObjective):
    name = "counting"


def test_the_count_as_a_number_is_the_count_as_a_tensor_after_steps_copies_and_loading():
    first = Counting()
    assert first.step == 0
    for _ in range(3):
        first.count_step()
    twin = copy.deepcopy(first)
    twin.count_step()
    assert (first.step, int(first.steps), twin.step, int(twin.steps)) == (3, 3, 4, 4)
    resumed = nn.ModuleDict({"objective": Counting()})
    assert resumed["objective"].step == 0  # read before loading, as a check of the data may
    resumed.load_state_dict({f"objective.{key}": value for key, value in twin.state_dict().items()})
    assert resumed["objective"].step == 4
    resumed["objective"].count_step()
    assert int(resumed["objective"].steps) == 5


def test_counting_reads_the_tensor_once(monkeypatch):
    objective, reads = Counting(), []
    original = torch.Tensor.__int__
    monkeypatch.setattr(torch.Tensor, "__int__", lambda tensor: (reads.append(1), original(tensor))[1])
    for _ in range(5):
        objective.count_step()
    assert objective.step == 5
    assert len(reads) == 1
