"""Two views by several estimators, pair by pair, and in other people's loops."""

import math

import numpy as np
import pytest
import standins
import torch
from torch.utils.data import DataLoader, TensorDataset

from ssl_mi.evaluation import measure, measure_embeddings
from ssl_mi.evaluation.anywhere import views_and_labels
from ssl_mi.evaluation.geometry import alpha_req, collapse_in_words, lidar, rankme
from ssl_mi.evaluation.view_information import PointwiseInformation, ViewFamilies, families, gaussian_pointwise


def correlated(n, rho, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x, e = torch.randn(2, n, len(rho), generator=generator)
    rho = torch.tensor(rho)
    return x, rho * x + (1 - rho**2).sqrt() * e


def test_families_agree_on_gaussian_views():
    data = standins.GaussianViews(rho=(0.8, 0.5), n=1000)
    used = {name: family for name, family in families().items() if family.resampled}
    rows = standins.rows_of(ViewFamilies(families=used), standins.bench(data))
    assert set(rows) == {f"mi_{space}_{name}_nats" for space in "zh" for name in ("ksg", "copula")}
    for metric, row in rows.items():
        assert row.value == pytest.approx(data.truth, abs=0.12), metric  # 0.65 nats; the standard error is about 0.04
        assert row.low < data.truth + 0.1
        assert abs(row.baseline) < 0.1


def test_an_estimator_that_has_too_few_rows_is_named_and_the_others_stay():
    data = standins.GaussianViews(rho=(0.8, 0.5), noise=10, n=60)
    used = {name: family for name, family in families().items() if family.resampled}
    rows = standins.rows_of(ViewFamilies(families=used), standins.bench(data))
    assert math.isnan(rows["mi_h_copula_nats"].value)
    assert rows["mi_h_copula_nats"].note.startswith("not measured: copula_mi on 15 rows")
    assert math.isfinite(rows["mi_h_ksg_nats"].value)


def test_shuffled_pairs_are_among_the_lowest():
    x, y = correlated(2000, [0.95] * 8)
    wrong = torch.arange(1000, 2000, 20)  # 5% of the second half
    y[wrong] = y[wrong.roll(1)]
    nats, _ = gaussian_pointwise(x[:1000], y[:1000], x[1000:], y[1000:], dim=8)
    lowest = np.argsort(nats)[: len(wrong)] + 1000
    # A right pair has 9.3 nats on average, a wrong one far below 0.
    assert len(set(lowest) & set(wrong.tolist())) >= 0.9 * len(wrong)
    assert nats.mean() < -0.5 * 8 * math.log(1 - 0.95**2)


def test_pointwise_rows_are_listed_from_the_lowest():
    evaluation = PointwiseInformation(dim=2)
    (row,) = standins.rows_of(evaluation, standins.bench(standins.GaussianViews(n=400))).values()
    listed = evaluation.tables()["pointwise"]
    nats = [line["nats"] for line in listed]
    assert nats == sorted(nats)
    assert sorted(line["row"] for line in listed) == list(range(400))
    assert sum(line["candidate"] for line in listed) == 20
    assert row.value == nats[19]


def test_geometry_of_known_shapes():
    ball = torch.randn(4000, 10, generator=torch.Generator().manual_seed(0))
    assert rankme(ball) == pytest.approx(10, abs=0.1)
    assert rankme(torch.ones(50, 10)) == pytest.approx(1)  # uncentred: one direction
    powers = torch.arange(1, 65).float().pow(-0.5)  # eigenvalues i^-1
    assert alpha_req(torch.randn(20000, 64, generator=torch.Generator().manual_seed(1)) * powers) == pytest.approx(
        1, abs=0.1
    )
    # Images differ in 3 of 10 dimensions and views in the others: 3 directions tell images apart.
    images = torch.zeros(400, 1, 10)
    images[..., :3] = 5 * ball[:400, None, :3]
    views = images.repeat(1, 8, 1)
    views[..., 3:] += torch.randn(400, 8, 7, generator=torch.Generator().manual_seed(2))
    views[..., :3] += 0.1 * torch.randn(400, 8, 3, generator=torch.Generator().manual_seed(3))
    assert lidar(views) == pytest.approx(3, abs=0.3)
    assert collapse_in_words(ball) == ""
    assert collapse_in_words(torch.ones(50, 10)).startswith("collapsed: every sample")
    assert "collapsed to a line" in collapse_in_words(ball[:, :1] * torch.ones(10) + 1e-4 * ball)


def test_a_bare_loop_is_measured_and_left_as_it_was():
    x, y = correlated(1000, (0.9, 0.5))
    labels, truth = (x[:, 0] > 0).long(), -0.5 * math.log((1 - 0.81) * (1 - 0.25))
    loader = DataLoader(TensorDataset(x, y), batch_size=100, shuffle=True)
    before = torch.random.get_rng_state()
    rows = {row.metric: row for row in measure(torch.nn.Identity(), loader)}
    assert torch.equal(before, torch.random.get_rng_state())
    assert rows["mi_h_ksg_nats"].value == pytest.approx(truth, abs=0.2)  # 0.97 nats
    assert {row.split for row in rows.values()} == {"val"}
    assert "linear_probe_accuracy" not in rows
    found = {row.metric: row for row in measure_embeddings(x, None, labels)}
    assert found["linear_probe_accuracy"].value > 0.95
    assert found["mi_h_label_nats"].value == pytest.approx(math.log(2), abs=0.1)


@pytest.mark.parametrize(
    ("batch", "views", "labelled"),
    [
        (torch.zeros(4, 3), 1, False),
        ((torch.zeros(4, 3), torch.arange(4)), 1, True),
        (([torch.zeros(4, 3), torch.zeros(4, 3), torch.zeros(4, 3)], torch.arange(4), ["a"] * 4), 2, True),  # lightly
        ((torch.arange(4), [torch.zeros(4, 3), torch.zeros(4, 3)], torch.arange(4)), 2, True),  # solo-learn
        ((torch.zeros(4, 3), torch.zeros(4, 3)), 2, False),
        ({"image": torch.zeros(4, 3), "label": torch.arange(4)}, 1, True),
    ],
)
def test_batches_of_others_are_understood(batch, views, labelled):
    found, labels = views_and_labels(batch)
    assert len(found) == views
    assert (labels is not None) == labelled


def test_what_does_not_fit_is_said_in_a_line():
    with pytest.raises(ValueError, match="give unpack=lambda batch"):
        views_and_labels(["a", "b"])
    with pytest.raises(ValueError, match="gave 10 samples: at least 64"):
        measure(torch.nn.Identity(), [torch.zeros(10, 3)])
    with pytest.raises(ValueError, match=r"encode gives \[70, 3, 2, 2\] of \[70, 3, 2, 2\]"):
        measure(torch.nn.Identity(), [torch.zeros(70, 3, 2, 2)])


def test_labels_that_are_no_whole_numbers_are_left_out_by_name(caplog):
    _, labels = views_and_labels((torch.randn(4, 3), ["cat", "dog", "cat", "owl"]))
    assert labels is None
    assert "labels of type list are left out" in caplog.text
