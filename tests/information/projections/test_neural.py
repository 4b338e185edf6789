"""The learned projection: keeps what is shared, for narrow and wide inputs, and leaves the caller's state alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ssl_mi.information.estimators.ksg import ksg
from ssl_mi.information.projections import neural
from ssl_mi.information.projections.neural import TRAINING, Ensemble, Learned, _BestMembers, _initial


def squares(n, d, seed=0):
    """y's first column is a noisy copy of |x|'s: nothing a linear map shows. The other columns are noise."""
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((n, d)), rng.standard_normal((n, d))
    y[:, 0] = np.abs(x[:, 0]) + 0.1 * rng.standard_normal(n)
    return x, y


def test_networks_find_what_is_not_linear():
    x, y = squares(1600, 6)
    u, v = Learned(1, members=1, training=replace(TRAINING, max_steps=200)).fit(x[:800], y[:800])(x[800:], y[800:])
    truth = ksg(np.abs(x[800:, 0]), y[800:, 0]).value
    assert ksg(u, v).value > 0.6 * truth


@pytest.mark.parametrize("d", [3, 100])
def test_fits_repeat_with_their_seed_whatever_the_mode_of_the_caller(d):
    learned = Learned(2, members=2, training=replace(TRAINING, max_steps=25))
    x, y = squares(200, d)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    once = learned.fit(x, y, seed=1)(x, y)[0]
    with torch.inference_mode():
        again = learned.fit(torch.from_numpy(x), torch.from_numpy(y), seed=1)(x, y)[0]
    np.testing.assert_allclose(once, again, rtol=1e-5, atol=1e-6)  # float32 within
    assert once.shape == (200, 2)
    assert np.isfinite(once).all()
    assert torch.equal(torch.get_rng_state(), before)


def test_too_few_rows_are_named():
    with pytest.raises(ValueError, match="x and y have 40 rows: fitting networks needs at least 50"):
        Learned(1).fit(*squares(40, 2))


def test_each_member_is_kept_as_it_was_when_its_own_bound_was_best():
    generator = torch.Generator().manual_seed(0)
    f, g = (Ensemble([_initial(np.eye(2), generator) for _ in range(2)]) for _ in range(2))
    x = torch.randn(2, 64, 2, generator=generator)
    keeper = _BestMembers(f, g, x, x)
    assert keeper.validate()[1]
    before = {name: w.detach().clone() for name, w in f.named_parameters()}
    with torch.no_grad():
        f.get_parameter("skip")[0] *= -1  # the first member is worse
        f.get_parameter("skip")[1] *= 1.5  # the second better
    after = {name: w.detach().clone() for name, w in f.named_parameters()}
    assert keeper.validate()[1]
    with torch.no_grad():
        for w in f.parameters():
            w.zero_()
    keeper.restore()
    for name, w in f.named_parameters():
        assert torch.equal(w[0], before[name][0])
        assert torch.equal(w[1], after[name][1])


def test_members_are_evaluated_as_if_alone():
    generator = torch.Generator().manual_seed(0)
    networks = Ensemble([_initial(np.eye(3), generator) for _ in range(3)]).eval()
    values = np.random.default_rng(0).standard_normal((20, 3))
    together = networks.embed(values)
    alone = [networks.part(slice(i, i + 1)).embed(values) for i in range(3)]
    np.testing.assert_allclose(together, np.hstack(alone), rtol=1e-5, atol=1e-5)


def test_the_bound_on_other_rows_is_below_the_truth_and_counts_every_dimension():
    rho, pairs = 0.7, 6
    rng = np.random.default_rng(0)
    x, noise = rng.standard_normal((2, 4000, pairs))
    y = rho * x + np.sqrt(1 - rho**2) * noise
    truth = -pairs * np.log(1 - rho**2) / 2
    training = replace(TRAINING, max_steps=100)
    fitted = Learned(4, training=training).fit(x[:1500], y[:1500])
    pointwise = fitted.bound(x[1500:], y[1500:])
    assert pointwise.shape == (2500,)
    # Four of the six pairs share 1.35 nats of 2.02.
    assert truth * 4.4 / 6 < pointwise.mean() < truth + 4 * pointwise.std() / np.sqrt(2500)
    assert fitted.bound(x[1500:], rng.permutation(y[1500:])).mean() < 0


@pytest.mark.parametrize("scale", [1.0, 10.0, 100.0])  # the last one beyond what one exponential can hold
def test_sums_of_exponentials_both_ways_equal_logsumexp_with_gradients(scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = (scale * torch.randn(2, 9, 9, dtype=torch.float64, generator=generator)).requires_grad_()
    columns, rows = neural._logsumexp_both_ways(scores)
    torch.testing.assert_close(columns, scores.logsumexp(1))
    torch.testing.assert_close(rows, scores.logsumexp(2))
    weight = torch.randn(2, 2, 9, dtype=torch.float64, generator=generator)
    (gradient,) = torch.autograd.grad((weight[0] * columns + weight[1] * rows).sum(), scores)
    plain = (weight[0] * scores.logsumexp(1) + weight[1] * scores.logsumexp(2)).sum()
    torch.testing.assert_close(gradient, torch.autograd.grad(plain, scores)[0])
