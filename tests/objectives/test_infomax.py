"""Infomax objectives equal their papers' formulas, written as loops."""

import math

import numpy as np
import pytest
import torch

from ssl_mi.information.variational.bounds import JS, MINE, InfoNCE
from ssl_mi.information.variational.critics import Bilinear, Concat, Cosine
from ssl_mi.objectives.infomax import Infomax
from ssl_mi.objectives.negatives import OtherSamples, OtherSamplesAndViews
from ssl_mi.objectives.objective import view_pairs


def simclr(temperature=0.5):
    return Infomax(8, Cosine(temperature), InfoNCE(), OtherSamplesAndViews(), name="nt_xent")


def infonce():
    return Infomax(8, Bilinear, InfoNCE(), OtherSamples(), name="infonce")


def views(n=6, d=8, v=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, d, dtype=torch.float64, generator=generator) for _ in range(v)]


def nt_xent_loop(x, y, temperature):
    """Chen et al. 2020, algorithm 1: z_2k-1 and z_2k are views of one image; a mean of l(i, j) over pairs."""
    z = torch.stack([x, y], 1).flatten(0, 1)
    n2 = len(z)

    def s(i, j):
        return float(z[i] @ z[j] / (z[i].norm() * z[j].norm()))

    def l(i, j):
        others = sum(math.exp(s(i, k) / temperature) for k in range(n2) if k != i)
        return -math.log(math.exp(s(i, j) / temperature) / others)

    return sum(l(k, k + 1) + l(k + 1, k) for k in range(0, n2, 2)) / n2


@pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0])
def test_nt_xent_equals_the_paper_written_as_a_loop(temperature):
    x, y = views()
    objective = Infomax(8, Cosine(temperature).double(), InfoNCE(), OtherSamplesAndViews(), name="nt_xent")
    both = [x, y]
    loss = objective(both, both)
    # The temperature is stored in float32.
    used = 1 / objective.critic.inverse_temperature().item()
    assert loss.terms["nt_xent"].item() == pytest.approx(nt_xent_loop(x, y, used), abs=1e-12)
    assert loss.metrics["bound_nats"].item() == pytest.approx(math.log(11) - loss.total.item(), abs=1e-12)


def test_infonce_equals_the_symmetric_cross_entropy():
    both = views()
    objective = infonce().double()
    objective.critic.weight.data.normal_()
    scores = both[0] @ objective.critic.weight @ both[1].T
    target = torch.arange(6)
    ce = torch.nn.functional.cross_entropy
    expected = (ce(scores, target) + ce(scores.T, target)) / 2
    assert objective(both, both).total.item() == pytest.approx(expected.item(), abs=1e-12)


def test_mine_equals_donsker_varadhan_over_all_other_pairs():
    x, y = views()
    objective = Infomax(8, Concat, MINE(), OtherSamples(), name="mine").double()

    def t(i, j):
        joined = torch.cat([x[i], y[j]])
        return objective.critic.rest(objective.critic.first(joined)).item()

    joint = np.mean([t(i, i) for i in range(6)])
    partition = np.mean([math.exp(t(i, j)) for i in range(6) for j in range(6) if i != j])
    both = [x, y]
    assert objective(both, both).total.item() == pytest.approx(math.log(partition) - joint, abs=1e-12)


@pytest.mark.parametrize("negatives", [OtherSamples(), OtherSamplesAndViews()])
def test_whole_rows_of_candidates_hold_the_same_scores_as_the_cut_ones(negatives):
    x, y = views(5)
    critic = Bilinear(8, 8).double()
    joint, marginal = negatives(critic, x, y)
    scores, partner = negatives.candidates(critic, x, y)
    # Two matrix products of other shapes: sums of 64 products of size 10 round to 64 * 10 * 2e-16.
    torch.testing.assert_close(scores[torch.arange(10), partner], joint, rtol=0, atol=1e-12)
    others = scores.scatter(1, partner[:, None], -math.inf)
    kept = [row[row.isfinite()] for row in others]
    assert {len(row) for row in kept} == {negatives.count(5)}
    # Sorted: columns may come in any order.
    torch.testing.assert_close(torch.stack(kept).sort(1).values, marginal.sort(1).values, rtol=0, atol=1e-12)


@pytest.mark.parametrize("make", [simclr, infonce])
def test_the_order_of_the_batch_does_not_matter(make):
    both, order = views(), torch.randperm(6, generator=torch.Generator().manual_seed(1))
    objective = make().double()
    permuted = [z[order] for z in both]
    assert objective(both, both).total.item() == pytest.approx(objective(permuted, permuted).total.item(), abs=1e-12)


@pytest.mark.parametrize("make", [simclr, infonce])
def test_views_that_agree_have_a_lower_loss(make):
    x, y = views(32)
    objective = make().double()
    aligned = [x, x + 0.1 * y]
    assert objective(aligned, aligned).total < objective([x, y], [x, y]).total - 0.5


@pytest.mark.parametrize("scale", [0.0, 1e-20, 1e20])
def test_nt_xent_is_finite_and_differentiable_for_extreme_embeddings(scale):
    both = [(z.float() * scale).requires_grad_() for z in views()]
    total = simclr(0.1)(both, both).total
    total.backward()
    assert torch.isfinite(total)
    assert all(torch.isfinite(z.grad).all() for z in both)


def test_every_parameter_gets_a_gradient():
    both = [z.float().requires_grad_() for z in views()]
    by_concat = [Infomax(8, Concat, bound, OtherSamples()) for bound in (MINE(), JS())]
    for objective in (infonce(), *by_concat):
        objective(both, both).total.backward()
        for name, parameter in objective.named_parameters():
            # A constant added to all scores changes no Donsker-Varadhan bound.
            if not (isinstance(objective.bound, MINE) and name.endswith("rest.1.2.bias")):
                assert parameter.grad.abs().sum() > 0, name
        assert both[0].grad.abs().sum() > 0


def test_more_views_are_averaged_over_their_pairs():
    a, b, c = views(v=3)
    objective = simclr().double()
    expected = np.mean([objective(p, p).total.item() for p in ([a, b], [a, c], [b, c])])
    three = [a, b, c]
    assert objective(three, three).total.item() == pytest.approx(expected, abs=1e-12)


def test_with_a_teacher_each_view_meets_the_others_of_the_teacher():
    online, target = ["a", "b"], ["A", "B"]
    assert view_pairs(online, target) == [("a", "B"), ("b", "A")]
    assert view_pairs(online, online) == [("a", "b")]
    with pytest.raises(ValueError, match="2 views"):
        view_pairs(["a"], ["a"])


def test_reading_is_the_bound_in_batches_as_in_training_and_leaves_no_trace():
    x, y = views(64)
    objective = Infomax(8, Concat, MINE(), OtherSamples(), name="mine").double()
    objective.float()
    both = [x.float(), y.float()]
    objective(both, both)  # fills the moving average
    before = {k: v.clone() for k, v in objective.state_dict().items()}
    reading = objective.estimate(x, y, rows=16)
    joint, marginal = [], []
    for s in range(0, 64, 16):
        scores = objective.critic(x[s : s + 16].float(), y[s : s + 16].float()).detach()
        joint += scores.diagonal().tolist()
        marginal += [scores[i, j].item() for i in range(16) for j in range(16) if i != j]
    # Donsker-Varadhan over all scores at once; a mean of four batches' logarithms would lie above it.
    assert reading.value == pytest.approx(np.mean(joint) - np.log(np.mean(np.exp(marginal))), abs=1e-6)
    assert all(torch.equal(before[k], v) for k, v in objective.state_dict().items())
    assert objective.training
    assert math.isinf(reading.ceiling)


def test_a_perfect_cosine_critic_reads_its_ceiling():
    n = 16
    z = torch.eye(n)
    objective = Infomax(n, Cosine(0.1), InfoNCE(), OtherSamples(), name="c")
    reading = objective.estimate(z, z, rows=n)
    # Orthogonal negatives score 0: what half the score range allows.
    assert reading.value == pytest.approx(math.log(n) - math.log1p((n - 1) * math.exp(-10)), abs=1e-5)
    assert reading.value < reading.ceiling <= math.log(n)


def test_the_ceiling_of_nt_xent_is_the_log_of_its_candidates():
    assert simclr(0.01).ceiling(256) == pytest.approx(math.log(511), abs=1e-6)
    assert simclr(0.5).ceiling(256) < 4.0  # 2 / temperature
    assert simclr().negatives.count(256) == 510
    facts = simclr(0.5).facts(256)
    assert facts["negatives"] == "510"
    assert "1.99" in facts["bound's ceiling"]
