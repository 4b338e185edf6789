"""Losses in tiles: the values and gradients of the plain form, no matrix of scores, and no second derivative."""

import math
from functools import partial

import pytest
import torch
from largest import Largest
from processes import together
from torch import nn
from torch.nn.functional import logsigmoid, normalize

from ssl_mi.information import bounds
from ssl_mi.information.variational.critics import Bilinear, Concat, Cosine, Projected, Separable, unit_rows
from ssl_mi.objectives import (
    CLIP,
    DCL,
    AlignmentUniformity,
    Infomax,
    InfoNCE,
    MoCo,
    MoCoV3,
    OtherSamples,
    OtherSamplesAndViews,
    SigLIP,
    SimCLR,
    SpectralContrastive,
    SupCon,
    contrastive,
    infomax,
    score_tiles,
    sigmoid,
    tiles,
)

DIM = 8


class Shifted(Bilinear):
    """A critic whose scores are no longer the product of the factors that it inherits."""

    def forward(self, x, y):
        return super().forward(x, y) + (x[:, :1] * y[:, 0]).sin()


def projected(dim_x, dim_y):
    return Projected(nn.Linear(dim_x, 5), nn.Linear(dim_y, 5), Cosine(0.2, learned=True))


def separable(dim_x, dim_y):
    return Separable(dim_x, dim_y, hidden=(7,), width=4)


def concat(dim_x, dim_y):
    return Concat(dim_x, dim_y, hidden=(7,))


def by(critic, negatives, bound=bounds.InfoNCE):
    return lambda: Infomax(DIM, critic() if critic is Cosine else critic, bound(), negatives())


def queue_of(objective):
    objective.negatives.queue.rows.copy_(torch.randn(objective.negatives.queue.rows.shape))
    return objective


INFOMAX = {
    "simclr": partial(SimCLR, DIM, 0.1),
    "simclr, scores too large to sum e^S": partial(SimCLR, DIM, 0.01),
    "infonce": partial(InfoNCE, DIM),
    "clip, learned temperature": partial(CLIP, DIM),
    "clip, scores too large": partial(CLIP, DIM, 0.01),
    "separable": by(separable, OtherSamples),
    "separable, both views": by(separable, OtherSamplesAndViews),
    "bilinear, both views": by(Bilinear, OtherSamplesAndViews),
    "projected": by(projected, OtherSamples),
    "moco": lambda: queue_of(MoCo(DIM, queue=64)),
    "moco_v3": lambda: MoCoV3(DIM, predictor=lambda d: nn.Linear(d, d)),
    "dv": by(separable, OtherSamples, bounds.DV),
    "nwj": by(separable, OtherSamplesAndViews, bounds.NWJ),
    "mine": by(separable, OtherSamples, bounds.MINE),
}
OTHERS = {
    "dcl": partial(DCL, DIM),
    "dclw": partial(DCL, DIM, weight_width=0.5),
    "supcon": partial(SupCon, DIM),
    "siglip": partial(SigLIP, DIM, bias=-1.0),
    "alignment_uniformity": partial(AlignmentUniformity, DIM),
    "spectral": partial(SpectralContrastive, DIM),
}
EVERY = {**INFOMAX, **OTHERS}


def use(monkeypatch, side, kept):
    """Tiles of `side` rows and columns, matrices of more than `kept` scores in them."""
    monkeypatch.setitem(score_tiles.SIDE, "cpu", side)
    for module in (tiles, contrastive, sigmoid, infomax):
        monkeypatch.setattr(module, "KEPT", kept)


def given(objective, n, views=3, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    online = [torch.randn(n, DIM, dtype=dtype, generator=generator).requires_grad_() for _ in range(views)]
    target = online
    if objective.teacher == "required":
        target = [torch.randn(n, DIM, dtype=dtype, generator=generator) for _ in range(views)]
    return online, target, {"labels": torch.arange(n) % 5} if objective.requires else {}


def result(objective, online, target, others, **rows):
    """Loss, metrics, and the gradients of all that has one."""
    loss = objective(online, target, **others, **rows)
    sources = [*online, *objective.parameters()]
    return [*loss.terms.values(), *loss.metrics.values(), *torch.autograd.grad(loss.total, sources, allow_unused=True)]


def plain(monkeypatch, objective, *args):
    """The form with all scores in one matrix."""
    with monkeypatch.context() as patch:
        use(patch, 1024, 2**20)
        patch.setattr(Infomax, "_sums", lambda *args: None)
        patch.setattr(Infomax, "_pairs", lambda *args: None)
        return result(objective, *args)


def close(found, expected, tolerance=1e-10):
    for a, b in zip(found, expected, strict=True):
        if a is None or b is None:
            assert a is b
        else:
            torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize(("side", "kept"), [(5, 0), (16, 0), (1024, 2**20)])
def test_values_and_gradients_are_those_of_the_plain_form(name, side, kept, monkeypatch):
    torch.manual_seed(0)
    objective = EVERY[name]().double().eval()
    args = given(objective, 17)
    expected = plain(monkeypatch, objective, *args)
    use(monkeypatch, side, kept)
    close(result(objective, *args), expected)


@pytest.mark.parametrize("name", [name for name in EVERY if EVERY[name]().can_shard()])
def test_shards_in_tiles_have_together_value_and_gradients_of_the_batch(name, monkeypatch):
    torch.manual_seed(0)
    objective = EVERY[name]().double().eval()
    args = given(objective, 18)
    expected = plain(monkeypatch, objective, *args)
    for kept in (0, 2**20):
        use(monkeypatch, 5, kept)
        shards = [result(objective, *args, rows=slice(start, start + 6)) for start in (0, 6, 12)]
        means = [None if parts[0] is None else sum(parts) / 3 for parts in zip(*shards, strict=True)]
        close(means, expected)


SHARED = [name for name in EVERY if EVERY[name]().can_share()]
# No product of two matrices, and bounds that are no means over rows: the scores themselves are shared out.
WHOLE = {
    "mine of pairs": by(concat, OtherSamples, bounds.MINE),
    "smile of pairs": by(concat, OtherSamples, bounds.SMILE),
    "smile of a product": by(separable, OtherSamples, bounds.SMILE),
    "nwj of pairs, both views": by(concat, OtherSamplesAndViews, bounds.NWJ),
}


def test_symmetric_losses_share_their_pairs_out():
    assert {"simclr", "infonce", "dv", "nwj", "dcl", "supcon", "alignment_uniformity", "spectral"} <= set(SHARED)
    assert not {"moco", "moco_v3", "siglip"} & set(SHARED)  # a pair serves one row: rows share the work out


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("name", [*SHARED, *WHOLE])
def test_processes_that_share_pairs_have_value_and_gradients_of_the_batch(name, size, monkeypatch):
    torch.manual_seed(0)
    objective = {**EVERY, **WHOLE}[name]().double().eval()
    args = given(objective, 18)
    expected = plain(monkeypatch, objective, *args)
    use(monkeypatch, 5, 0)
    found = together(size, lambda share: result(objective, *args, share=share))
    values = len(expected) - len(args[0]) - len(list(objective.parameters()))
    for each in found:
        close(each[:values], expected[:values])  # every process holds the loss of the batch
    close([None if parts[0] is None else sum(parts) / size for parts in zip(*found, strict=True)], expected)


@pytest.mark.parametrize("size", [2, 3, 8])
def test_each_of_w_processes_evaluates_a_critic_of_pairs_on_a_wth_of_them(size, monkeypatch):
    n, objective, scored = 24, WHOLE["mine of pairs"](), []
    online, _, _ = given(objective, n, views=2, dtype=torch.float32)
    assert objective.can_share()
    monkeypatch.setattr(Concat, "forward", lambda self, x, y: scored.append(x.shape[0] * y.shape[0]) or x @ y.T)
    together(size, lambda share: objective(online, share=share))
    assert len(scored) == size
    assert sum(scored) == n * n
    assert max(scored) == n * math.ceil(n / size)


@pytest.mark.parametrize("size", [2, 3, 8])
@pytest.mark.parametrize("name", ["simclr", "clip, learned temperature", "alignment_uniformity"])
def test_each_of_w_processes_scores_a_wth_of_the_pairs(name, size, monkeypatch):
    n = 96
    objective = EVERY[name]().eval()
    online, _, _ = given(objective, n, views=2, dtype=torch.float32)
    use(monkeypatch, 64, 0)
    scored = []
    original = score_tiles.Tiles.scores

    def counted(self, i, j):
        scored.append((self.share, (i[1] - i[0]) * (j[1] - j[0])))
        return original(self, i, j)

    monkeypatch.setattr(score_tiles.Tiles, "scores", counted)

    def exchanged(share):
        objective(online, share=share).total.backward()
        return share, share.numbers

    found = together(size, exchanged)
    work = [sum(count for share, count in scored if share is one) for one, _ in found]
    # Unordered pairs of 2n rows, or of n rows for each of two views, or all n x n; forward and backward.
    pairs = {"simclr": (2 * n) ** 2 / 2, "clip, learned temperature": n * n, "alignment_uniformity": n * n}[name]
    assert max(work) / (2 * pairs) == pytest.approx(1 / size, rel=0.3)  # tiles on the diagonal are scored whole
    assert max(work) / min(work) < 1.2
    assert all(numbers == 2 * 2 * n for _, numbers in found)  # a sum and a largest for each row, nothing n x n


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_lower_precisions_lose_no_more_than_their_own_rounding(dtype, monkeypatch):
    x, y = (torch.randn(40, DIM, generator=torch.Generator().manual_seed(seed)).to(dtype) for seed in (0, 1))
    for kept in (0, 2**20):
        use(monkeypatch, 16, kept)
        for scale in (1.0, 4.0):  # sums of e^S, and sums relative to the largest
            left = (scale * x).requires_grad_()
            found = tiles.log_sums(left, y, (0,))
            assert found.dtype == torch.float32
            found.sum().backward()
            exact = (scale * x).double().requires_grad_()
            scores = (exact @ y.double().T).masked_fill(torch.eye(40, dtype=torch.bool), -torch.inf)
            scores.logsumexp(1).sum().backward()
            torch.testing.assert_close(found.double(), scores.logsumexp(1), rtol=1e-5, atol=1e-5)
            # e^s has the error of s; the gradient is returned in the precision of the rows.
            largest = scores.detach()[scores.isfinite()].abs().max().item()
            tolerance = 2 * max(torch.finfo(dtype).eps, torch.finfo(torch.float32).eps * largest)
            torch.testing.assert_close(left.grad.double(), exact.grad, rtol=tolerance, atol=tolerance * scale)


@pytest.mark.parametrize("shift", [-900.0, 0.0, 900.0])
def test_sums_of_exponentials_neither_overflow_nor_vanish(shift, monkeypatch):
    # Rows whose largest scores lie far apart: one reference for a whole tile would lose the small ones.
    use(monkeypatch, 4, 0)
    left = torch.linspace(-300, 300, 12)[:, None]
    left = torch.cat([left, torch.full_like(left, shift)], 1)
    right = torch.tensor([[1.0, 1.0]]).repeat(9, 1)
    found = tiles.log_sums_both_ways(left, right)
    expected = (left.double() @ right.double().T).logsumexp(1)
    torch.testing.assert_close(found[0].double(), expected, rtol=1e-6, atol=1e-5)
    assert torch.isfinite(found[1]).all()


def test_a_critic_that_changed_its_scores_is_not_scored_by_the_factors_that_it_inherits(monkeypatch):
    use(monkeypatch, 5, 0)
    torch.manual_seed(0)
    objective = Infomax(DIM, Shifted, bounds.InfoNCE(), OtherSamples()).double()
    args = given(objective, 12)
    close(result(objective, *args), plain(monkeypatch, objective, *args))
    scores = objective.critic(*args[0][:2])
    shift = (args[0][0][:, :1] * args[0][1][:, 0]).sin()
    assert (scores - shift - Bilinear.forward(objective.critic, *args[0][:2])).abs().max() < 1e-12
    hooked = SimCLR(DIM, 0.2)
    seen = []
    hooked.critic.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    views = [z.float() for z in args[0]]
    hooked(views)
    assert seen


@pytest.mark.parametrize("name", [name for name in EVERY if name not in ("moco",)])
def test_no_tensor_holds_a_number_for_each_pair(name, monkeypatch):
    use(monkeypatch, 64, 0)
    objective = EVERY[name]().eval()
    online, target, others = given(objective, 512, views=2, dtype=torch.float32)
    with Largest() as largest:
        objective(online, target, **others).total.backward()
    assert largest.numbers <= 2 * 2 * 512 * DIM  # the plain form's matrix has 512^2 at least


def test_a_temperature_that_is_learned_has_the_gradient_of_the_plain_form_and_a_second_one():
    critic = Cosine(0.3, learned=True).double()
    x = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)

    def scaled(rows, log_inverse):
        return unit_rows(rows, log_inverse.exp())

    inputs = (x, critic.log_inverse.detach().requires_grad_())
    assert torch.autograd.gradcheck(scaled, inputs)
    assert torch.autograd.gradgradcheck(scaled, inputs)


@pytest.mark.parametrize("kept", [0, 2**20])
def test_a_second_derivative_is_refused_by_name(kept, monkeypatch):
    use(monkeypatch, 5, kept)
    views = given(SimCLR(DIM), 9)[0]
    (first, *_) = torch.autograd.grad(SimCLR(DIM).double()(views).total, views, create_graph=True)
    with pytest.raises(RuntimeError, match=r"loss in tiles .* no second derivative"):
        first.sum().backward()


def test_a_siglip_of_many_rows_is_the_papers_sum_over_pairs():
    x, y = (normalize(torch.randn(40, DIM, dtype=torch.float64), dim=1) for _ in range(2))
    bias = torch.tensor(-2.0, dtype=torch.float64)
    sign = 2 * torch.eye(40, dtype=torch.float64) - 1
    expected = -logsigmoid(sign * (10 * x @ y.T + bias)).sum(1)
    found, _ = tiles.softplus_sums(10 * x, y, bias, (0,))
    joint = tiles.row_products(10 * x, y) + bias
    torch.testing.assert_close(found - logsigmoid(joint), expected, rtol=1e-12, atol=1e-12)


def test_a_bound_on_held_out_rows_needs_no_matrix_either(monkeypatch):
    x, y = (torch.randn(64, DIM, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    for make in (partial(SimCLR, DIM), partial(InfoNCE, DIM), partial(SigLIP, DIM)):
        objective = make()
        expected = objective.estimate(x, y, rows=32)
        with monkeypatch.context() as patch:
            use(patch, 8, 0)
            found = objective.estimate(x, y, rows=32)
        assert found.value == pytest.approx(expected.value, rel=1e-5)
        assert found[1:] == expected[1:]


def test_a_critic_of_joined_pairs_is_scored_pair_by_pair():
    objective = Infomax(DIM, Concat, bounds.InfoNCE(), OtherSamples())
    assert objective._sums(torch.randn(4, DIM), torch.randn(4, DIM)) is None
    assert math.isfinite(objective([torch.randn(4, DIM), torch.randn(4, DIM)]).total.item())
