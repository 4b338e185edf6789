"""Augmentation of arrays: what each op does to a row, and that a row's draws are its own."""

import pytest
import torch

from ssl_mi.data.draws import Draws
from ssl_mi.data.pairs import Corrupt, Crop, FeatureDropout, FrequencyMask, Mask, Noise, Scale, TimeMask, Window

N = 4000


def draws(index):
    return Draws(seed=0, split=0, epoch=3, index=torch.as_tensor(index), view=1, op=2)


def rows(n=N, d=5):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(0))


def windows(n=400, channels=2, steps=40):
    return torch.randn(n, channels, steps, generator=torch.Generator().manual_seed(0))


def fitted(op, x):
    op.fit(x)
    return op


TABLE_OPS = [Noise(0.5), Mask(0.3), FeatureDropout(0.6), Corrupt(0.6)]
SERIES_OPS = [Noise(0.5), Crop(16), Window(1, 16), Scale(0.3), TimeMask(0.5), FrequencyMask(0.5)]


@pytest.mark.parametrize("op", [*TABLE_OPS, *SERIES_OPS], ids=repr)
def test_a_rows_draws_are_its_own_whatever_the_batch(op):
    x = (windows if op in SERIES_OPS[1:] else rows)(60)
    op = fitted(op, x)
    before = x.clone()
    whole = op(x, draws(range(60)))
    alone = op(x[[7, 31]], draws([7, 31]))
    torch.testing.assert_close(alone, whole[[7, 31]])
    assert torch.equal(x, before)  # the batch is not changed
    assert not torch.equal(op(x, Draws(0, 0, 4, torch.arange(60), 1, 2)), whole) or isinstance(op, Window)


def test_noise_has_its_standard_deviation_and_no_mean():
    added = Noise(0.5)(rows(), draws(range(N))) - rows()
    assert added.std().item() == pytest.approx(0.5, rel=0.03)  # 20,000 numbers: sd of the estimate is 0.5%
    assert added.mean().abs() < 0.02


def test_masks_hide_their_share_and_dropout_keeps_the_mean():
    x = rows() + 3
    assert (Mask(0.3)(x, draws(range(N))) == 0).float().mean().item() == pytest.approx(0.3, abs=0.02)
    dropped = FeatureDropout(0.6)(x, draws(range(N)))
    assert dropped.mean().item() == pytest.approx(x.mean().item(), rel=0.03)
    # E of the share is 0.3; the share is drawn a row at a time, so rows differ more than by chance
    assert (dropped == 0).float().mean().item() == pytest.approx(0.3, abs=0.02)


def test_corruption_draws_each_value_from_its_own_column_and_breaks_the_ties_between_columns():
    x = rows()
    x[:, 1] = x[:, 0]  # tied columns
    op = fitted(Corrupt(1.0), x)
    new = op(x, draws(range(N)))
    assert all(torch.isin(new[:, c], x[:, c]).all() for c in range(5))
    assert abs(torch.corrcoef(new[:, :2].T)[0, 1]) < 0.06  # 4 / sqrt(4000)
    torch.testing.assert_close(new.std(0), x.std(0), rtol=0.06, atol=0)
    kept = (fitted(Corrupt(0.6), x)(x, draws(range(N))) == x).float().mean()
    assert kept.item() == pytest.approx(0.4, abs=0.02)
    assert torch.equal(fitted(Corrupt(0.0), x)(x, draws(range(N))), x)


def test_corruption_without_the_columns_is_refused():
    with pytest.raises(ValueError, match="marginals of these columns are not known"):
        Corrupt()(rows(3), draws(range(3)))


def test_a_crop_is_a_stretch_at_any_place_and_the_middle_one_without_chance():
    x = torch.arange(20.0).expand(N, 2, 20)
    cut = Crop(16)(x, draws(range(N)))
    assert torch.equal(cut.diff(dim=-1), torch.ones(N, 2, 15))
    assert cut[:, 0, 0].unique().tolist() == [0, 1, 2, 3, 4]
    assert Crop(16).clean(x)[0, 0, 0] == 2


def test_numbered_windows_follow_each_other():
    x = windows(steps=48)
    parts = [Window(k, 16)(x, draws(range(400))) for k in range(3)]
    assert torch.equal(torch.cat(parts, -1), x)
    with pytest.raises(ValueError, match=r"window 3 of 16 steps ends at step 64 .* set data.span=64"):
        Window(3, 16).clean(x)


def test_masks_of_time_and_frequency_remove_a_stretch_and_a_band():
    x = windows() + 1
    silent = TimeMask(0.5)(x, draws(range(400))) == 0
    assert torch.equal(silent[:, 0], silent[:, 1])
    lengths = silent[:, 0].sum(1)
    assert lengths.max() == 20  # half of the steps
    assert (silent[:, 0].int().diff(dim=1) == 1).sum(1).max() <= 1  # one stretch
    before, after = (torch.fft.rfft(y.double()) for y in (x, FrequencyMask(0.5)(x, draws(range(400)))))
    removed = after.abs() < 1e-4
    assert removed.sum(-1).max() == 10  # half of the 20 frequencies above 0
    torch.testing.assert_close(after[~removed], before[~removed], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(after[..., 0], before[..., 0], rtol=1e-4, atol=1e-4)  # the mean


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Mask(1.2), r"Mask: p=1.2 must be in \[0, 1\]"),
        (lambda: FeatureDropout(1.0), "FeatureDropout: most=1.0 must be at least 0 and less than 1"),
        (lambda: Noise(-1), "Noise: std=-1 must not be negative"),
        (lambda: Crop(0), "Crop: length=0 must be positive"),
        (lambda: Crop(30)(windows(2, 1, 20), draws(range(2))), "length=30 is more than the 20 steps"),
    ],
)
def test_numbers_out_of_range_are_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()
