"""The capture ratio: what is read of the embeddings over what the views are known to share."""

from types import SimpleNamespace

import pytest
import standins
import torch

from ssl_mi.evaluation.capture_ratio import Capture, linear_regression


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(1)
    clean, factors = {}, {}
    for split in ("train", "labelled", "val", "test"):
        place = torch.randn(600, 2, generator=generator)
        kind = (place[:, 0] > 0).long() + (place[:, 1] > 1).long()
        clean[split] = torch.cat([place, torch.randn(600, 1, generator=generator)], 1)
        factors[split] = {"place": place, "kind": kind, "other": torch.randn(600, generator=generator)}
    data = standins.GaussianViews(rho=(0.9, 0.7), clean=clean, factors=factors)
    data.known = SimpleNamespace(nats=data.truth, describe=lambda: "two Gaussians")
    return data


def test_what_keeps_everything_captures_all_within_its_interval(data):
    rows = standins.rows_of(Capture(), standins.bench(data))
    ratio, z = rows["capture_ratio"], rows["mi_z_nats"]
    assert rows["mi_views_nats"].value == data.truth
    assert ratio.low < 1 < ratio.high
    assert ratio.value == pytest.approx(z.value / data.truth)
    assert (ratio.low, ratio.high) == pytest.approx((z.low / data.truth, z.high / data.truth))
    assert ratio.ceiling == 1.0
    assert rows["mi_h_nats"].value == pytest.approx(z.value, rel=1e-9)  # h = z here
    assert z.p_value == 0.05


def test_what_keeps_one_of_two_coordinates_captures_its_share(data):
    rows = standins.rows_of(Capture(), standins.bench(data, change=lambda x: x[:, :1]))
    share = standins.GaussianViews(rho=(0.9,)).truth / data.truth
    assert rows["capture_ratio"].low < share < rows["capture_ratio"].high < 0.95


def test_a_collapse_captures_nothing(data):
    rows = standins.rows_of(Capture(), standins.bench(data, change=torch.zeros_like))
    assert rows["capture_ratio"].value == 0
    assert "collapse" in rows["mi_z_nats"].note


def test_during_training_it_reads_fewer_pairs_and_no_probes(data):
    rows = standins.rows_of(Capture(limit=200), standins.bench(data, split="val"))
    assert set(rows) == {"mi_views_nats", "mi_z_nats", "capture_ratio"}
    assert rows["mi_z_nats"].n == 200


def test_probes_read_each_latent_from_h_of_other_images(data):
    rows = standins.rows_of(Capture(), standins.bench(data))
    assert rows["probe_place_r2"].value > 0.999
    assert abs(rows["probe_other_r2"].value) < 0.05
    kind = rows["probe_kind_accuracy"]
    assert kind.baseline + 0.2 < kind.low < kind.value
    # Fitted on the images of one split and read on those of another.
    data.labelled.factors["place"] = data.labelled.factors["place"].roll(1, 0)
    assert standins.rows_of(Capture(), standins.bench(data))["probe_place_r2"].value < 0.1


def test_a_random_encoder_is_probed_only(data):
    rows = standins.rows_of(Capture(), standins.bench(data, encoder="random"))
    assert set(rows) == {"probe_place_r2", "probe_kind_accuracy", "probe_other_r2"}


def test_data_that_do_not_say_what_they_hold_are_passed_over(data):
    data.known = None
    assert standins.rows_of(Capture(), standins.bench(data)) == {}
    assert data.drawn == []
    Capture().check(SimpleNamespace(known=None, val=[], test=[]))


@pytest.mark.parametrize("nats", [0.0, 1e-12])
def test_views_that_share_nothing_have_no_ratio(data, nats):
    data.known.nats = nats
    rows = standins.rows_of(Capture(), standins.bench(data, split="val"))
    assert set(rows) == {"mi_views_nats", "mi_z_nats"}


def test_too_few_held_out_pairs_are_refused_before_training():
    with pytest.raises(ValueError, match=r"39 pairs held out: .* raise data\.val"):
        Capture().check(SimpleNamespace(known=SimpleNamespace(nats=1.0), val=range(39), test=range(100)))


def test_least_squares_is_the_line_through_the_points():
    x = torch.tensor([[0.0, 5.0], [1.0, 5.0], [2.0, 5.0], [4.0, 5.0]], dtype=torch.float64)
    found = linear_regression(x, 3 * x[:, :1] - 2, torch.tensor([[10.0, 5.0]], dtype=torch.float64), ridge=0.0001)
    assert found.item() == pytest.approx(28, abs=0.01)
