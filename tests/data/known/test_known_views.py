"""What holds for every generator: its latents share what it says, its draws are a function of what they are for."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy import stats

from ssl_mi.data.known.blob import GaussianBlob
from ssl_mi.data.known.captions import Caption
from ssl_mi.data.known.circle import Rotation, Shift
from ssl_mi.data.known.digits import FiniteSet, Patches, SharedClass, digits, pool
from ssl_mi.data.known.glyphs import Glyphs
from ssl_mi.data.known.halves import Halves
from ssl_mi.data.known.sphere import Sphere, vmf_nats
from ssl_mi.data.known.sprites import Sprites
from ssl_mi.data.known.views import Pairs
from ssl_mi.information import with_interval
from ssl_mi.information.distributions.families import PhasePair, SymmetricChannel, VonMisesFisher, gaussian_with_mi
from ssl_mi.information.estimators import discrete
from ssl_mi.information.estimators.ksg import ksg

ALL = {
    "shared_class": lambda: SharedClass(nats=1.5),
    "finite_set": lambda: FiniteSet(images=12),
    "patches": lambda: Patches(grid=2, symbols=2, nats=1.7, spread=True),
    "patches one after another": lambda: Patches(grid=2, nats=3.0, spread=False),
    "rotation": lambda: Rotation(nats=1.2),
    "shift": lambda: Shift(nats=1.2),
    "sphere": lambda: Sphere(nats=1.0),
    "sphere in 5 dimensions": lambda: Sphere(nats=1.0, dim=5),
    "gaussian_blob": lambda: GaussianBlob(nats=1.0, shared=["x", "colour"]),
    "sprites": lambda: Sprites(shared=["shape", "orientation"]),
    "sprites in part": lambda: Sprites(["orientation"], partly={"shape": 0.7, "size": 0.25}),
    "caption": lambda: Caption(named=["size", "colour"]),
    "glyphs": lambda: Glyphs(letters=24),
    "halves": lambda: Halves(most=6, nats=1.1),
}
DISCRETE = [name for name in ALL if not name.startswith(("rotation", "shift", "sphere", "gaussian"))]
CONTINUOUS = [name for name in ALL if name not in DISCRETE]


@pytest.fixture(scope="module")
def generators():
    return {name: make() for name, make in ALL.items()}


def pairs(n, epoch=0, split=0, seed=0):
    return Pairs(seed, split, epoch, torch.arange(n))


def codes(u):
    """A number for each different row of int64 [n, k]."""
    return np.unique(u.numpy(), axis=0, return_inverse=True)[1].reshape(-1)


# What the latents share


@pytest.mark.parametrize("name", DISCRETE)
def test_counting_symbols_reads_the_closed_form_within_its_interval(generators, name):
    generator = generators[name]
    u, v = generator.latents(pairs(30_000))
    nats = generator.nats
    if name.startswith("patches one"):  # 10,000 joint values are too many to count: the cell with the channel
        u, v, nats = u[:, 1], v[:, 1], generator.parts["cell1"]
    if name == "sprites":  # the shared ones
        u, v = u[:, [0, 4]], v[:, [0, 4]]
    if name == "sprites in part":
        u, v = u[:, [0, 2, 4]], v[:, [0, 2, 4]]
    if name == "caption":  # those named
        u = u[:, [1, 2]]
    low, high = with_interval(partial(discrete.discrete_mi, correction="grassberger"), codes(u), codes(v)).ci
    assert low <= nats <= high
    assert high - low < 0.05


@pytest.mark.parametrize("name", CONTINUOUS)
def test_ksg_reads_the_closed_form_within_its_interval(generators, name):
    generator = generators[name]
    readings = []
    for epoch in range(5):
        u, v = generator.latents(pairs(6000, epoch))
        if name == "gaussian_blob":
            u, v = u[:, [0, 3]], v[:, [0, 3]]
        # The nearest neighbour alone: it sees the least of how circle and sphere curve.
        readings.append(ksg(u.double(), v.double(), k=1).value)
    half = stats.t.ppf(0.975, 4) * np.std(readings, ddof=1) / math.sqrt(5)
    assert np.mean(readings) == pytest.approx(generator.nats, abs=half)
    assert half < 0.06


def test_the_closed_forms_are_those_of_the_distributions():
    assert Rotation(nats=1.5).delta == pytest.approx(math.pi * math.exp(-2.0), rel=1e-12)
    assert PhasePair(Shift(nats=1.5).delta).mi == pytest.approx(1.5, abs=1e-12)
    for dim, nats in ((3, 0.01), (3, 2.0), (3, 6.0), (5, 1.0), (16, 3.0)):
        assert VonMisesFisher(dim, Sphere(nats=nats, dim=dim).kappa).mi == pytest.approx(nats, abs=1e-7)
    k = 10.0
    assert vmf_nats(k, 3) == pytest.approx(math.log(k / math.sinh(k)) + k / math.tanh(k) - 1, abs=1e-12)
    rho = GaussianBlob(nats=2.0, shared=["x", "y", "size"]).rho
    assert gaussian_with_mi(2.0, 3).covariance[0, 3] == pytest.approx(rho[0].item(), abs=1e-7)
    assert rho[3] == 0
    for generator, classes in ((SharedClass(nats=1.5), 10), (FiniteSet(images=7, nats=0.4), 7), (Halves(nats=0.9), 8)):
        assert SymmetricChannel(generator.error, classes).mi == pytest.approx(generator.nats, abs=1e-12)


def test_nats_add_over_the_cells_of_a_grid():
    spread, packed = Patches(grid=3, nats=5.0, spread=True), Patches(grid=3, nats=5.0, spread=False)
    assert list(spread.parts.values()) == pytest.approx([5 / 9] * 9)
    assert list(packed.parts.values()) == pytest.approx([math.log(10), math.log(10), 5 - 2 * math.log(10)] + [0] * 6)
    assert Patches(grid=4).nats == pytest.approx(16 * math.log(10))


@pytest.mark.parametrize("name", ALL)
def test_the_parts_add_up_and_an_error_less_generator_shares_an_entropy(generators, name):
    assert sum(generators[name].parts.values()) == pytest.approx(generators[name].nats)
    assert SharedClass().nats == pytest.approx(math.log(10))
    assert Sprites(shared=["shape", "position"]).nats == pytest.approx(math.log(5 * 9))


def test_a_factor_shared_in_part_agrees_as_often_as_its_channel_says_and_moves_no_other():
    part, whole = Sprites(["colour"], partly={"shape": 0.7}), Sprites(shared=["shape", "colour"])
    assert part.parts["shape"] == pytest.approx(0.7, abs=1e-12)
    assert part.nats == pytest.approx(0.7 + math.log(6))
    error = (part.latents(pairs(20_000))[0] != part.latents(pairs(20_000))[1]).double().mean(0)
    assert SymmetricChannel(error[0].item(), 5).mi == pytest.approx(0.7, abs=0.03)
    assert error[1] == 0
    assert error[3] == pytest.approx(8 / 9, abs=0.01)
    # The other factors are what they are without the channel.
    for u, v in zip(part.latents(pairs(50)), whole.latents(pairs(50)), strict=True):
        assert torch.equal(u[:, 1:], v[:, 1:])
    assert torch.equal(
        Sprites([], partly={"shape": 0.0}).latents(pairs(50))[1], Sprites(shared=[]).latents(pairs(50))[1]
    )


@pytest.mark.parametrize("name", DISCRETE)
def test_every_symbol_is_equally_likely_in_both_views(generators, name):
    for u in generators[name].latents(pairs(20_000, seed=1)):
        for column in u.T:
            assert stats.chisquare(column.bincount()).pvalue > 1e-4


def test_directions_are_uniform_and_as_far_apart_as_von_mises_fisher_says(generators):
    for name in ("sphere", "sphere in 5 dimensions"):
        generator = generators[name]
        u, v = generator.latents(pairs(20_000))
        for side in (u, v):
            # A tangent is a difference: where only a hundredth is left of it, so are two digits of float32's seven.
            assert side.norm(dim=1).sub(1).abs().max() < 1e-4
            assert side.mean(0).abs().max() < 4.5 / math.sqrt(20_000 * generator.dim)
            assert (side.T @ side / 20_000 - torch.eye(generator.dim) / generator.dim).abs().max() < 0.01
        cosine = (u * v).sum(1)
        assert cosine.mean().item() == pytest.approx(
            VonMisesFisher(generator.dim, generator.kappa).mean_cosine, abs=4 * cosine.std().item() / math.sqrt(20_000)
        )


def test_angles_are_uniform_and_differ_by_a_triangle(generators):
    generator = generators["rotation"]
    angles = [torch.atan2(u[:, 1], u[:, 0]).numpy() for u in generator.latents(pairs(20_000))]
    for angle in angles:
        assert stats.kstest((angle + math.pi) / (2 * math.pi), "uniform").pvalue > 1e-3
    apart = np.angle(np.exp(1j * (angles[0] - angles[1])))
    assert stats.kstest(apart, stats.triang(0.5, -2 * generator.delta, 4 * generator.delta).cdf).pvalue > 1e-3


def test_the_latents_of_blobs_are_standard_normal(generators):
    for u in generators["gaussian_blob"].latents(pairs(20_000)):
        for column in u.T:
            assert stats.kstest(column.numpy(), "norm").pvalue > 1e-3


# Draws


@pytest.mark.parametrize("name", ALL)
def test_a_pair_is_the_same_from_any_batch_and_another_in_any_other_epoch_split_or_seed(generators, name):
    generator = generators[name]

    def drawn(of):
        u = generator.latents(of)
        return u, [generator.render(x, of, view) for view, x in enumerate(u)]

    everything = pairs(40)
    (u, v), views = drawn(everything)
    some = torch.tensor([31, 4, 5])
    (u_some, v_some), views_some = drawn(everything._replace(index=some))
    # Symbols and tokens are equal; sines and sums over arrays of other lengths may differ in their last bit, and a
    # level of 255 where that turns a rounding.
    torch.testing.assert_close(u[some], u_some)
    torch.testing.assert_close(v[some], v_some)
    for whole, part in zip(views, views_some, strict=True):
        assert (whole[some].int() - part.int()).abs().max() <= (part.dtype == torch.uint8)
    for other in (pairs(40, epoch=1), pairs(40, split=1), pairs(40, seed=1), pairs(40, epoch=-1)):
        for view, elsewhere in zip(views, drawn(other)[1], strict=True):
            assert (view != elsewhere).flatten(1).any(1).float().mean() > 0.8


@pytest.mark.parametrize("name", ALL)
def test_given_its_u_a_view_says_nothing_of_the_nuisance_of_the_other(generators, name):
    generator, n = generators[name], 800
    # Every pair has the u of the first one: all that varies is nuisance.
    of = pairs(n, epoch=5)
    views = []
    for view, u in enumerate(generator.latents(of)):
        x = generator.render(u[:1].expand(n, -1).contiguous(), of, view).flatten(1).double()
        x = x[:, x.std(0) > 0]
        assert x.shape[1] > 0, "the nuisance changes nothing"
        mixed = x @ torch.randn(x.shape[1], 6, dtype=x.dtype, generator=torch.Generator().manual_seed(0))
        views.append((mixed - mixed.mean(0)) / mixed.std(0))
    # Of 36 correlations of independent columns none is as large as this but once in 4,000 times.
    assert (views[0].T @ views[1] / n).abs().max() < 4.5 / math.sqrt(n)


@pytest.mark.parametrize("name", ALL)
def test_views_are_pictures_of_8_bits_or_sentences(generators, name):
    generator = generators[name]
    of = pairs(3)
    for view, u in enumerate(generator.latents(of)):
        drawn = generator.render(u, of, view)
        if view == 1 and generator.words is not None:
            assert drawn.dtype == torch.int64
            assert drawn.max() < len(generator.words)
        else:
            assert drawn.dtype == torch.uint8
            assert drawn.shape == (3, 3, 32, 32)
    assert all(len(values) == 3 for values in generator.factors(generator.latents(of)[0]).values())


def test_no_two_views_and_no_two_splits_show_the_same_digit():
    shown = [set(pool(split, view).rows.tolist()) for split in range(3) for view in range(2)]
    assert sum(map(len, shown)) == len(set.union(*shown)) == len(digits()[1])
    labels = digits()[1]
    drawn = pool(2, 1).draw(torch.arange(10).repeat(50), torch.rand(500))
    assert torch.equal(labels[drawn], torch.arange(10).repeat(50))


# What is refused


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SharedClass(nats=2.5), "0 to 2.3025 nats"),
        (lambda: Patches(grid=2, symbols=2, nats=3), "can share 0 to 2.7725 nats"),
        (lambda: Rotation(nats=0.1), "rotation can share 0.1932 to 4.55"),
        (lambda: Rotation(nats=9), "0.1932 to 4.55"),
        (lambda: Sphere(nats=9), "sphere in 3 dimensions can share 0 to 7"),
        (lambda: Sphere(nats=-1), "can share 0 to 7"),
        (lambda: GaussianBlob(nats=5, shared=["x", "y"]), "0 to 4.6051 nats"),
        (lambda: Halves(most=4, nats=2), "0 to 1.3862 nats"),
        (lambda: Sprites(shared=["colour", "form"]), "'form' is none of the factors shape, colour"),
        (lambda: Sprites([], partly={"shape": 2}), "data.known.partly.shape=2: shape can share 0 to 1.6094 nats"),
        (lambda: Sprites([], partly={"form": 1}), "partly=.*'form' is none of the factors"),
        (lambda: Sprites(["shape"], partly={"shape": 1}), "'shape' is in both; name it once"),
        (lambda: Caption(named=[]), "at least one factor"),
        (lambda: Glyphs(letters=10_000), "letters=10000: the font has 2 to"),
        (lambda: FiniteSet(images=2000), "images=2000"),
        (lambda: Patches(grid=5, size=32), "size=32"),
        (lambda: Sphere(dim=2), "data=known/rotation"),
    ],
)
def test_what_can_not_be_had_is_refused_with_what_can(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_both_ends_of_the_range_can_be_asked_for():
    assert SharedClass(nats=0.0).nats == pytest.approx(0.0, abs=1e-12)
    assert SharedClass(nats=2.3025).nats == pytest.approx(2.3025)
    assert GaussianBlob(nats=0.0).nats == 0
    assert Sphere(nats=0.0).nats == pytest.approx(0.0, abs=1e-9)
