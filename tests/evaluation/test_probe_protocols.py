"""Probes with few labels, SGD, sweeps, regression and fine-tuning."""

import math

import pytest
import standins
import torch

from ssl_mi.evaluation.accuracy import balanced_accuracy, confusion_matrix
from ssl_mi.evaluation.probe_protocols import (
    FewLabels,
    KNNSweep,
    RegressionProbe,
    SGDProbe,
    few_rows,
    mean_and_interval,
    r_squared,
    ridge,
)
from ssl_mi.evaluation.probes import LinearProbe


def separable(n=300):
    """Three clusters, far apart, in every split."""
    labels = {split: torch.arange(n) % 3 for split in ("train", "labelled", "val", "test")}
    generator = torch.Generator().manual_seed(0)
    noise = {split: torch.randn(n, 4, generator=generator) for split in labels}
    clean = {split: noise[split] + 12 * torch.eye(3, 4)[labels[split]] for split in labels}
    return standins.GaussianViews(n=n, clean=clean, labels=labels)


@pytest.mark.parametrize("probe", [FewLabels((0.1,)), KNNSweep(), SGDProbe(epochs=5, rates=(0.1,))], ids=str)
def test_separated_classes_are_told_apart_by_every_probe(probe):
    for metric, row in standins.rows_of(probe, standins.bench(separable())).items():
        assert row.value > 0.98, metric
        assert row.baseline == pytest.approx(1 / 3)


def test_few_labels_are_spread_over_the_classes():
    labels = torch.tensor([0] * 90 + [1] * 9 + [2])
    assert labels[few_rows(labels, 6, None, 0)].bincount().tolist() == [
        3,
        2,
        1,
    ]  # one of the last class is all there is
    assert labels[few_rows(labels, None, 4, 0)].bincount().tolist() == [4, 4, 1]
    assert not torch.equal(few_rows(labels, None, 4, 0), few_rows(labels, None, 4, 1))


def test_the_interval_of_a_mean_is_student_s():
    mean, sd, low, high = mean_and_interval([1.0, 2.0, 3.0])
    # sd 1, t with 2 degrees of freedom at 97.5% is 4.303: half a width of 4.303 / sqrt(3).
    assert (mean, sd) == (2.0, 1.0)
    assert high - mean == pytest.approx(4.303 / math.sqrt(3), rel=1e-6)
    assert mean - low == pytest.approx(high - mean)
    assert math.isnan(mean_and_interval([0.5])[2])


def test_ridge_recovers_a_linear_function_and_nothing_of_noise():
    x, noise = torch.randn(2, 600, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y = x @ torch.arange(5.0, dtype=torch.float64) + 7
    predict, penalty = ridge(x[:200], y[:200], x[200:400], y[200:400], (1e-6, 1.0))
    assert penalty == 1e-6
    assert r_squared(predict(x[400:]), y[400:])[0] > 0.999
    predict, penalty = ridge(x[:200], noise[:200, 0], x[200:400], noise[200:400, 0], (1e-6, 1e3))
    assert penalty == 1e3
    value, half = r_squared(predict(x[400:]), noise[400:, 0])
    assert abs(value) < 0.05
    assert math.isnan(r_squared(y, torch.ones(600, dtype=torch.float64))[0])
    assert half > 0


def test_factors_that_are_numbers_are_regressed():
    generator = torch.Generator().manual_seed(2)
    clean = {split: torch.randn(300, 4, generator=generator) for split in ("labelled", "val", "test")}
    factors = {split: {"first": x[:, 0].clone(), "kind": torch.arange(300) % 2} for split, x in clean.items()}
    rows = standins.rows_of(
        RegressionProbe(), standins.bench(standins.GaussianViews(n=300, clean=clean, factors=factors))
    )
    assert list(rows) == ["r2_first"]
    assert rows["r2_first"].value > 0.99


def test_details_are_what_the_confusion_matrix_says():
    confusion = confusion_matrix(torch.tensor([0, 0, 0, 1]), torch.tensor([0, 0, 1, 1]), 3)
    assert confusion.tolist() == [[2, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert balanced_accuracy(confusion)[0] == pytest.approx(
        (2 / 3 + 1) / 2
    )  # the class that does not occur is left out
    probe = LinearProbe(details=True)
    rows = standins.rows_of(probe, standins.bench(separable()))
    assert set(rows) == {"linear_probe_accuracy", "linear_probe_balanced_accuracy"}  # top 5 of 3 classes is no figure
    assert probe.confusion.sum() == 300
    assert rows["linear_probe_balanced_accuracy"].value == pytest.approx(rows["linear_probe_accuracy"].value, abs=0.01)
