"""Encoders of rows and of series: widths, the order of time, and refusals."""

import pytest
import torch

from ssl_mi.networks import ConvNet1d, TableMLP


def test_a_row_alone_is_encoded_as_in_a_batch():
    torch.manual_seed(0)
    x, net = torch.randn(5, 7), TableMLP(7, widths=[8, 4], dropout=0.5).eval()
    assert net(x).shape == (5, net.out_dim)
    torch.testing.assert_close(net(x[2:3]), net(x)[2:3])


def test_h_of_a_series_is_the_mean_of_its_latents_in_the_order_of_time():
    torch.manual_seed(0)
    net = ConvNet1d(3, widths=[8, 16, 4], kernel=3, strides=[4, 2, 2]).eval()
    x = torch.zeros(2, 3, 64)
    x[1, :, 40:] = 1  # the second half differs
    h, (coarse, *finer) = net.with_maps(x)
    assert coarse.shape == (2, 4, 1, 4)
    assert [m.shape[1] for m in (coarse, *finer)] == list(net.map_dims)
    torch.testing.assert_close(h, coarse.mean((2, 3)))
    same = (coarse[0] == coarse[1]).all(0).flatten()
    assert same.tolist()[0]
    assert not same.tolist()[-1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TableMLP("auto"), "in_dim=auto: give the number of columns; data=arrays sets it"),
        (lambda: TableMLP(3, widths=[]), r"widths must be positive, one a layer, but got \[\]"),
        (lambda: TableMLP(3)(torch.zeros(2, 4)), r"made for float rows \[n, 3\], but got torch.float32 \[2, 4\]"),
        (lambda: ConvNet1d("auto"), "in_channels=auto: give the number of channels; data=series sets it"),
        (lambda: ConvNet1d(1, strides=[2]), "there is one stride a width"),
        (lambda: ConvNet1d(2)(torch.zeros(2, 3, 64)), r"made for float windows \[n, 2, steps\]"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()
