"""Bounds read the truth at the optimal critic, and each known mistake would be seen."""

import copy
import math

import numpy as np
import pytest
import torch

from ssl_mi.information.variational import bounds
from ssl_mi.information.variational.bounds import (
    DV,
    JS,
    MINE,
    NWJ,
    SMILE,
    TUBA,
    InfoNCE,
    Interpolated,
    off_diagonal,
    pairs,
    split_candidates,
)
from ssl_mi.information.variational.lookup import built_in_bounds

E = math.e
ALL = [InfoNCE(), DV(), MINE(), NWJ(), TUBA(), Interpolated(), JS(), SMILE()]


def log_ratio(n: int, rho: float, seed: int = 0) -> tuple[torch.Tensor, float]:
    """The optimal critic log p(y|x)/p(y) on n draws of a correlated Gaussian, and its MI."""
    x, e = np.random.default_rng(seed).standard_normal((2, n))
    y = rho * x + math.sqrt(1 - rho**2) * e
    x, y = x[:, None], y[None, :]
    t = -0.5 * math.log(1 - rho**2) - (rho**2 * (x**2 + y**2) - 2 * rho * x * y) / (2 * (1 - rho**2))
    return torch.from_numpy(t), -0.5 * math.log(1 - rho**2)


@pytest.mark.parametrize(
    ("bound", "shift"),
    [
        (DV(), 0),
        (DV(), 3),
        (NWJ(), 1),
        (TUBA(), 1),
        (TUBA(0.0), 0),
        (JS(), 0),
        (SMILE(20), 0),
        (MINE().eval(), 2),
    ],
    ids=["dv", "dv+3", "nwj", "tuba", "tuba0", "js", "smile", "mine"],
)
def test_at_the_optimal_critic_the_bound_is_the_mutual_information(bound, shift):
    values = []
    for seed in range(8):
        scores, truth = log_ratio(1500, 0.8, seed)
        values.append(bound(*pairs(scores + shift)).item())
    error = np.mean(values) - truth
    assert abs(error) < 3 * np.std(values) / math.sqrt(7) + 1e-3
    assert np.std(values) < 0.05


def test_js_put_through_nwj_without_the_shift_would_be_one_over_e_too_small():
    scores, truth = log_ratio(3000, 0.8)
    wrong = NWJ()(*pairs(scores)).item()
    assert wrong == pytest.approx(truth - 1 / E, abs=0.06)
    assert JS()(*pairs(scores)).item() == pytest.approx(truth, abs=0.06)


def test_info_nce_is_the_cross_entropy_of_finding_the_partner():
    scores = torch.randn(7, 7, dtype=torch.float64)
    loss = torch.nn.functional.cross_entropy(scores, torch.arange(7))
    assert InfoNCE()(*pairs(scores)).item() == pytest.approx(math.log(7) - loss.item(), abs=1e-12)


def test_info_nce_from_logits_equals_info_nce_of_the_parts():
    scores = torch.randn(7, 7, dtype=torch.float64, requires_grad=True)
    partner = torch.arange(7)
    cut, whole = InfoNCE()(*pairs(scores)), InfoNCE().from_logits(scores, partner, 6)
    assert whole.item() == pytest.approx(cut.item(), abs=1e-12)
    expected, got = (torch.autograd.grad(value, scores)[0] for value in (cut, whole))
    assert torch.allclose(got, expected, rtol=0, atol=1e-14)
    assert torch.autograd.gradcheck(lambda s: InfoNCE().from_logits(s, partner, 6), scores)


def test_info_nce_from_logits_skips_what_is_no_candidate():
    scores = torch.randn(6, 6, dtype=torch.float64)
    partner = torch.tensor([1, 0, 3, 2, 5, 4])
    masked = scores.clone().fill_diagonal_(-math.inf).requires_grad_()
    others = torch.stack([row[[j for j in range(6) if j not in (i, partner[i])]] for i, row in enumerate(scores)])
    value = InfoNCE().from_logits(masked, partner, 4)
    assert value.item() == pytest.approx(InfoNCE()(scores[range(6), partner], others).item(), abs=1e-12)
    assert torch.equal(torch.autograd.grad(value, masked)[0].diagonal(), torch.zeros(6, dtype=torch.float64))


@pytest.mark.parametrize("masked", [False, True])
def test_candidates_are_split_into_partner_and_negatives_in_the_order_of_their_columns(masked):
    scores = torch.arange(24.0, dtype=torch.float64).view(4, 6).requires_grad_()
    partner = torch.tensor([5, 0, 2, 1])
    rows = scores.masked_fill(torch.eye(4, 6, dtype=torch.bool).roll(3, 1), -math.inf) if masked else scores
    joint, marginal = split_candidates(rows, partner, 4 if masked else 5)
    assert joint.tolist() == [5, 6, 14, 19]
    for i, row in enumerate(marginal):
        assert row.tolist() == [v for j, v in enumerate(rows[i].tolist()) if j != partner[i] and v > -math.inf]
    # Each score goes to one place, so it has one gradient; what is masked has none.
    (joint.sum() + 2 * marginal.sum()).backward()
    expected = torch.full((4, 6), 2.0, dtype=torch.float64).scatter(1, partner[:, None], 1.0)
    assert torch.equal(scores.grad, expected.masked_fill(rows.isinf(), 0.0))


@pytest.mark.parametrize("bound", ALL, ids=lambda b: type(b).__name__)
def test_every_bound_of_whole_rows_is_the_bound_of_their_parts(bound):
    scores = torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    whole = copy.deepcopy(bound).from_logits(scores, torch.arange(6), 5)
    assert whole.item() == pytest.approx(copy.deepcopy(bound)(*pairs(scores)).item(), abs=1e-12)


def test_every_built_in_bound_describes_itself():
    assert [type(bound) for bound in ALL] == list(built_in_bounds().values())
    assert all(bound.name and bound.estimates and bound.use_when for bound in ALL)
    assert [bound.name for bound in ALL if bound.heavy_tailed] == ["dv", "mine", "nwj", "tuba", "js"]
    assert TUBA(0.5).offset == 0.5


@pytest.mark.parametrize("bound", ALL, ids=lambda b: type(b).__name__)
def test_a_bound_is_largest_at_the_offset_that_it_states(bound):
    # At the optimal critic no constant raises the expected value; it lies at its best where T = log r + offset.
    scores, truth = log_ratio(1500, 0.7)

    def criterion(shift):
        return bound.eval().criterion(*pairs(scores + bound.offset + shift)).item()

    best = criterion(0.0)
    assert criterion(-0.7) < best + 5e-3
    assert criterion(0.7) < best + 5e-3
    if bound.name not in ("infonce", "interpolated"):  # whose ceilings are log n and above, far off here
        assert bound(*pairs(scores + bound.offset)).item() == pytest.approx(truth, abs=0.1)


def test_info_nce_keeps_its_digits_where_scores_are_large():
    scores = torch.randn(64, 64) + 1000
    exact = InfoNCE()(*pairs(scores.double())).item()
    assert InfoNCE()(*pairs(scores)).item() == pytest.approx(exact, abs=1e-6)


@pytest.mark.parametrize("n", [2, 16, 256])
def test_info_nce_reaches_its_ceiling_and_no_more(n):
    perfect = torch.eye(n, dtype=torch.float64)
    assert InfoNCE()(*pairs(perfect * 1e4)).item() == pytest.approx(math.log(n), abs=1e-12)
    for score_range in (0.5, 2.0, 10.0):
        best = InfoNCE()(*pairs(perfect * score_range)).item()
        assert best == pytest.approx(InfoNCE().ceiling(n - 1, score_range), abs=1e-12)
        assert best <= min(math.log(n), score_range)


def test_smile_with_a_small_clip_lies_above_the_truth():
    scores, truth = log_ratio(3000, 0.99)
    assert SMILE(1.0)(*pairs(scores)).item() > truth + 0.2


def test_interpolation_runs_from_nwj_to_info_nce():
    scores = torch.randn(6, 6, dtype=torch.float64)
    joint, marginal = pairs(scores)
    assert Interpolated(1.0)(joint, marginal).item() == pytest.approx(InfoNCE()(joint, marginal[:, :-1]).item())
    assert Interpolated(1e-12)(joint, marginal).item() == pytest.approx(NWJ()(joint, marginal).item())


def test_interpolation_is_a_lower_bound_at_the_optimal_critic():
    # E[1 - ratio] is exact in expectation, so the mean over draws stays under the truth.
    values = [Interpolated(0.1)(*pairs(log_ratio(64, 0.9, s)[0] + 1)).item() for s in range(200)]
    truth = log_ratio(2, 0.9)[1]
    assert np.mean(values) < truth + 3 * np.std(values) / math.sqrt(200)
    assert np.mean(values) > 0.7 * truth


def test_the_moving_average_of_three_batches_is_the_closed_form():
    bound, decay = MINE(decay=0.9), 0.9
    means = []
    for c in (0.0, 1.0, -2.0):
        marginal = torch.full((4, 3), c)
        bound(torch.zeros(4), marginal)
        means.append(math.exp(c))
    weights = [(1 - decay) * decay**2, (1 - decay) * decay, 1 - decay]
    expected = np.dot(weights, means) / sum(weights)
    assert bound.log_average().exp().item() == pytest.approx(expected, rel=1e-6)


def test_evaluating_mine_leaves_its_moving_average_alone():
    bound = MINE()
    bound(torch.zeros(4), torch.randn(4, 3))
    before = bound.log_average().item()
    bound.eval()(torch.zeros(4), torch.randn(4, 3) + 5)
    assert bound.log_average().item() == before


def mine_gradients(bound, theta: float, batch: int, steps: int, seed: int) -> np.ndarray:
    """d/dtheta of the marginal term with T = theta z, z ~ N(0, 1), whose truth is theta."""
    generator = torch.Generator().manual_seed(seed)
    parameter = torch.tensor(theta, requires_grad=True)
    gradients = []
    for _ in range(steps):
        z = torch.randn(batch, 1, generator=generator)
        value = bound(torch.zeros(batch), parameter * z)
        gradients.append(-torch.autograd.grad(value, parameter)[0].item())
    return np.array(gradients)


@pytest.mark.parametrize(("theta", "batch"), [(1.0, 16), (1.5, 64)])
def test_the_corrected_gradient_is_less_biased_than_the_naive_one(theta, batch):
    naive = mine_gradients(DV(), theta, batch, 4000, seed=1)
    corrected = mine_gradients(MINE(decay=0.99), theta, batch, 4000, seed=1)[500:]
    error = corrected.std() / math.sqrt(len(corrected) / 4)
    assert naive.mean() < theta * 0.95  # too small, as known
    assert abs(corrected.mean() - theta) < abs(naive.mean() - theta) / 2
    assert abs(corrected.mean() - theta) < 0.03 * theta + 3 * error


def test_the_value_of_mine_is_dv_of_this_batch():
    joint, marginal = torch.randn(8), torch.randn(8, 7)
    bound = MINE()
    bound(torch.zeros(8), torch.randn(8, 7))
    assert bound(joint, marginal).item() == pytest.approx(DV()(joint, marginal).item(), abs=1e-6)


def test_the_first_mine_gradient_is_that_of_dv():
    joint, marginal = torch.randn(8), torch.randn(8, 7, requires_grad=True)
    expected = torch.autograd.grad(DV()(joint, marginal), marginal)[0]
    torch.testing.assert_close(torch.autograd.grad(MINE()(joint, marginal), marginal)[0], expected)


def test_mine_state_survives_saving():
    bound, other = MINE(), MINE()
    bound(torch.zeros(8), torch.randn(8, 7))
    other.load_state_dict(bound.state_dict())
    assert other.log_average() == bound.log_average()


def test_the_surrogates_have_the_gradient_of_the_jensen_shannon_objective():
    joint, marginal = torch.randn(8, requires_grad=True), torch.randn(8, 7, requires_grad=True)
    expected = torch.autograd.grad(bounds.jensen_shannon(joint, marginal), [joint, marginal])
    for bound in (JS(), SMILE()):
        got = torch.autograd.grad(bound(joint, marginal), [joint, marginal])
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("bound", ALL, ids=lambda b: type(b).__name__)
def test_bad_scores_are_refused(bound):
    with pytest.raises(ValueError, match="marginal"):
        bound(torch.zeros(4), torch.zeros(3, 4))
    with pytest.raises(ValueError, match="negative"):
        bound(torch.zeros(4), torch.zeros(4, 0))


def test_off_diagonal_keeps_rows_and_drops_the_diagonal():
    scores = torch.arange(9.0).view(3, 3)
    assert off_diagonal(scores).tolist() == [[1, 2], [3, 5], [6, 7]]
    with pytest.raises(ValueError, match="square"):
        off_diagonal(torch.zeros(2, 3))
