"""Every critic scores every pair as its formula says."""

import math

import pytest
import torch

from ssl_mi.information.variational.critics import Bilinear, Concat, Cosine, Separable

X, Y = (
    torch.randn(5, 4, generator=torch.Generator().manual_seed(0)),
    torch.randn(3, 4, generator=torch.Generator().manual_seed(1)),
)


def slow(critic, pair):
    return torch.stack([torch.stack([pair(critic, x, y) for y in Y]) for x in X])


@pytest.mark.parametrize(
    ("critic", "pair"),
    [
        (Cosine(0.2), lambda c, x, y: x @ y / (x.norm() * y.norm()) / 0.2),
        (Bilinear(4, 4), lambda c, x, y: x @ c.weight @ y),
        (Separable(4, 4, [8], 6), lambda c, x, y: c.g(x) @ c.h(y)),
        (Concat(4, 4, [8, 8]), lambda c, x, y: c.rest(c.first(torch.cat([x, y])))[0]),
    ],
    ids=["cosine", "bilinear", "separable", "concat"],
)
def test_scores_equal_the_formula_pair_by_pair(critic, pair):
    torch.testing.assert_close(critic(X, Y), slow(critic, pair))


def test_cosine_scores_stay_within_their_range():
    critic = Cosine(0.1)
    scores = critic(torch.cat([X, -X]), X)
    assert scores.max() - scores.min() <= critic.score_range + 1e-4
    assert critic.score_range == pytest.approx(20)


def test_a_learned_temperature_learns_and_stops_at_its_minimum():
    critic = Cosine(0.5, learned=True, minimum=0.01)
    critic(X, X).sum().backward()
    assert critic.log_inverse.grad != 0
    critic.log_inverse.data.fill_(50.0)
    assert critic.inverse_temperature().item() == pytest.approx(100)
    assert not list(Cosine(0.5).parameters())


def test_a_bad_temperature_and_a_shallow_concat_are_refused():
    with pytest.raises(ValueError, match="temperature"):
        Cosine(0.0)
    with pytest.raises(ValueError, match="hidden"):
        Concat(2, 2, [])


def test_only_a_cosine_critic_is_bounded():
    assert Bilinear(2, 2).score_range == Concat(2, 2).score_range == Separable(2, 2).score_range == math.inf
