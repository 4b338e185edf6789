"""Random numbers keyed by what they are for."""

import pytest
import torch
from scipy import stats

from ssl_mi.data.draws import GOLDEN, Draws, splitmix64

N = 20_000
KEY = {"seed": 0, "split": 0, "epoch": 0, "view": 0, "op": 0}


def uniform(index=None, k=1, **key):
    index = torch.arange(N) if index is None else index
    return Draws(index=index, **(KEY | key)).uniform(k)


def test_the_generator_is_splitmix64_as_published():
    """The reference implementation's first five outputs from seed 1234567."""
    state = [(1234567 + step * GOLDEN) % 2**64 for step in range(1, 6)]
    signed = torch.tensor([s - 2**64 if s >= 2**63 else s for s in state])
    assert [int(word) % 2**64 for word in splitmix64(signed)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_numbers_are_the_same_for_ever():
    """A change here redraws every experiment ever run: the values are frozen."""
    draws = Draws(seed=3, split=1, epoch=7, index=torch.tensor([0, 5, 2**40]), view=2, op=4)
    levels = (draws.uniform(3).double() * 2**24).long()
    assert levels.tolist() == [
        [758716, 10264062, 636705],
        [46322, 14136071, 10202511],
        [10383799, 11738452, 1689038],
    ]


def test_tensors_count_modulo_two_to_the_64_as_python_integers_do():
    def mix(word):
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            word = (word ^ (word >> shift)) * factor % 2**64
        return word ^ (word >> 31)

    key = 0
    for word in (-5, 2, 11, 1, 3):  # seed, split, epoch, view, op
        key = mix((key + GOLDEN + word) % 2**64)
    expected = [[mix((mix((i + key) % 2**64) + k * GOLDEN) % 2**64) >> 40 for k in (1, 2, 3)] for i in (0, 9, 10**12)]
    drawn = uniform(torch.tensor([0, 9, 10**12]), 3, seed=-5, split=2, epoch=11, view=1, op=3)
    assert (drawn.double() * 2**24).long().tolist() == expected


def test_an_image_draws_the_same_whatever_batch_it_is_in():
    whole = uniform(k=7)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(1))
    assert torch.equal(uniform(order, 7), whole[order])
    assert torch.equal(uniform(torch.tensor([17]), 7), whole[17:18])
    assert torch.equal(torch.cat([uniform(part, 7) for part in torch.arange(N).split(999)]), whole)


def test_numbers_come_in_order_however_they_are_asked_for():
    draws = Draws(index=torch.arange(9), **KEY)
    piecewise = torch.cat([draws.uniform(2), draws.uniform(), draws.uniform(4)], 1)
    assert torch.equal(piecewise, uniform(torch.arange(9), 7))


def test_global_random_state_and_default_dtype_play_no_part():
    torch.manual_seed(0)
    before, first = torch.get_rng_state(), uniform()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    torch.set_default_dtype(torch.float64)
    try:
        again = uniform()
    finally:
        torch.set_default_dtype(torch.float32)
    assert again.dtype == torch.float32
    assert torch.equal(again, first)


@pytest.mark.parametrize("start", [0, 10**9])
@pytest.mark.parametrize("key", [{}, {"seed": 1}, {"view": 1}, {"epoch": 99}, {"seed": -1}])
def test_numbers_are_uniform_over_images(key, start):
    u = uniform(torch.arange(start, start + N), **key)[:, 0]
    assert u.min() >= 0
    assert u.max() < 1
    assert stats.kstest(u.numpy(), "uniform").pvalue > 1e-3


def test_numbers_of_one_image_are_uniform():
    assert stats.kstest(uniform(torch.tensor([123]), N)[0].numpy(), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("word", ["seed", "split", "epoch", "view", "op"])
def test_neighbouring_keys_are_uncorrelated(word):
    """Of n independent pairs the correlation is N(0, 1/n); the bound is 4 standard deviations."""
    for value in (0, 1, 2):
        pair = torch.stack([uniform(**{word: value})[:, 0], uniform(**{word: value + 1})[:, 0]])
        assert torch.corrcoef(pair)[0, 1].abs() < 4 / N**0.5


def test_keys_do_not_trade_places():
    """Epoch 1 of view 0 is not epoch 0 of view 1, nor is index 1 of seed 0 index 0 of seed 1."""
    assert not torch.equal(uniform(epoch=1), uniform(view=1))
    assert not torch.equal(uniform(seed=1, split=0), uniform(seed=0, split=1))
    assert not torch.equal(uniform(torch.tensor([1])), uniform(torch.tensor([0]), seed=1))


def test_neighbouring_images_and_numbers_are_uncorrelated():
    u = uniform(k=6)
    correlation = torch.corrcoef(torch.cat([u[:-1], u[1:]], 1).T)
    assert (correlation - torch.eye(12)).abs().max() < 4.5 / N**0.5  # the largest of 66


def test_pairs_of_numbers_fill_the_square_evenly():
    cells = (uniform(k=2) * 8).long()
    counts = torch.bincount(cells[:, 0] * 8 + cells[:, 1], minlength=64)
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3


@pytest.mark.parametrize("index", [torch.arange(3).int(), torch.arange(3.0), torch.zeros(2, 2).long()])
def test_an_index_that_is_not_a_vector_of_int64_is_refused(index):
    with pytest.raises(ValueError, match="index must be int64"):
        Draws(index=index, **KEY)
