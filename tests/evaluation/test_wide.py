"""Embeddings and images of very many columns: measured within bounds of memory, and rightly."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import standins
import torch
from largest import Largest
from PIL import Image

from ssl_mi.app import startup as cli
from ssl_mi.app.runner import Run
from ssl_mi.evaluation import logistic, neighbours, probes
from ssl_mi.evaluation.geometry import effective_rank, uniformity
from ssl_mi.evaluation.mutual_information import MutualInformation
from ssl_mi.evaluation.wide import Span, narrow, reduced_pixels, singular_values
from ssl_mi.information.projections.linear import CCA, PCA

HERE = Path(__file__).parent


def normal(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def labelled(n, d, classes, seed=0):
    """Columns that share 20 directions, and labels that depend on all of them."""
    x = normal(n, 20, seed) @ normal(20, d, seed + 1) + 0.5 * normal(n, d, seed + 2) + 2
    y = (x @ normal(d, classes, seed + 3) / d**0.5 + normal(n, classes, seed + 4)).argmax(1)
    return x, y


def test_the_span_of_rows_keeps_their_lengths_and_angles():
    x = normal(60, 3000)
    found = Span.of(x)(x)
    assert found.shape == (60, 60)
    torch.testing.assert_close(found @ found.T, x @ x.T, rtol=1e-5, atol=1e-2)


def test_rows_outside_of_the_span_are_projected_onto_it():
    fit, read = normal(10, 3000), normal(5, 3000, 1)
    basis = torch.linalg.qr(fit.double().T).Q
    (_, found), note = narrow(fit, read)
    assert note == "3,000 columns in the span of 10 images"
    inside = (read.double() @ basis) @ (read.double() @ basis).T
    torch.testing.assert_close((found @ found.T).double(), inside, rtol=1e-4, atol=1e-2)


def test_repeated_rows_span_no_direction_twice():
    x = normal(5, 3000).repeat(4, 1)
    assert Span.of(x).dim == 5


def test_a_few_columns_stay_as_they_are():
    x = normal(10, 2048)
    (found,), note = narrow(x)
    assert found is x
    assert note == ""


def test_the_shape_of_wide_embeddings_is_that_of_the_slow_twin():
    x = normal(50, 3000) * torch.linspace(0.1, 3, 3000) + 1
    slow = torch.linalg.svdvals((x - x.mean(0)).double())
    # The last one is 0: centred rows span a direction less.
    torch.testing.assert_close(singular_values(x)[:-1], slow[:-1], rtol=1e-6, atol=0)
    p = slow / slow.sum()
    assert effective_rank(x) == pytest.approx(torch.special.entr(p).sum().exp().item(), rel=1e-6)
    unit = (x / x.norm(dim=1, keepdim=True)).double()
    expected = torch.pdist(unit).square().mul(-2).exp().mean().log().item()
    assert uniformity(x) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("decay", [0.1, 1.0])
@pytest.mark.parametrize(("n", "d"), [(300, 2500), (2500, 2200), (2500, 60)])
def test_every_way_to_fit_a_linear_probe_finds_the_same_optimum(n, d, decay):
    x, y = labelled(n, d, 4)
    mean, scale = x.mean(0), x.std(0, correction=0)
    ways = [logistic._rotate(x, mean, scale), logistic._streamed(x, mean, scale), logistic._prepared(x)]
    found = [way.fit(y, 4, decay)[0] for way in ways]
    kinds = {(300, 2500): logistic._Spanned, (2500, 2200): logistic._Streamed, (2500, 60): logistic._Rotated}
    assert type(ways[2]) is kinds[n, d]
    for classifier in found:  # the loss is written out, of the classifier as it is used
        weight = classifier.weight.double()
        loss = torch.nn.functional.cross_entropy(classifier(x), y) + decay / 2 * weight.square().sum()
        assert loss.item() == pytest.approx(found[0].loss, rel=2e-3)
        assert classifier.loss == pytest.approx(loss.item(), rel=1e-4)


def test_a_probe_on_many_weights_says_that_features_were_narrowed(monkeypatch):
    monkeypatch.setattr(probes, "WEIGHTS", 100)
    x, y = labelled(2100, 2060, 3)
    _, note = probes.LinearProbe().predict(x[:2060], y[:2060], x[2060:], 3)
    assert "2,060 columns in the span of 2,048 images" in note


def test_a_large_bank_of_neighbours_gives_the_votes_of_a_small_one(monkeypatch):
    bank, labels = labelled(500, 40, 5)
    queries, _ = labelled(200, 40, 5, seed=9)
    small = neighbours.knn_predict(bank, labels, queries, 5, k=20)
    for rows, numbers in ((50, 100), (7, 2**20)):  # of the bank at a time; of a tile
        monkeypatch.setattr(neighbours, "BANK", rows)
        monkeypatch.setattr(neighbours, "CACHED", numbers)
        assert torch.equal(neighbours.knn_predict(bank, labels, queries, 5, k=20), small)


def test_neighbours_of_a_large_bank_are_found_without_a_number_for_each_pair(monkeypatch):
    bank, labels = labelled(3000, 4, 5)
    monkeypatch.setattr(neighbours, "BANK", 64)
    monkeypatch.setattr(neighbours, "CACHED", 2**10)
    with Largest() as largest:
        votes = neighbours.knn_votes(bank, labels, bank[:500], 5, k=10)
    assert largest.numbers <= 3000 * 4  # what it was given; pairs are 3000 x 500
    slow = torch.nn.functional.normalize(bank[:500], dim=1) @ torch.nn.functional.normalize(bank, dim=1).T
    top, near = slow.topk(10, dim=1)
    expected = torch.zeros(500, 5).scatter_add_(1, labels[near], ((top - top[:, :1]) / 0.1).exp())
    torch.testing.assert_close(votes, expected, rtol=1e-4, atol=1e-4)


def test_the_decays_are_fitted_from_one_another_and_the_last_from_zero():
    x, y = labelled(400, 20, 3)
    found = logistic.tuned_linear(x, y, 3, decays=(1e-3, 1e-1, 1.0))
    alone = logistic.fit_linear(x, y, 3, found.decay)
    assert torch.equal(found.weight, alone.weight)
    features = logistic._prepared(x)
    start = None
    for decay in (1.0, 1e-1, 1e-3):
        warm, start = features.fit(y, 3, decay, start)
        cold = logistic.fit_linear(x, y, 3, decay)
        assert warm.loss == pytest.approx(cold.loss, rel=1e-4)


def test_wide_embeddings_read_the_nats_of_the_columns_that_hold_them():
    """A rotation of the shared columns and nothing beside: the span of the images holds all."""
    turn = torch.linalg.qr(normal(3000, 2)).Q.T
    few = standins.GaussianViews((0.9, 0.9), n=600)
    narrow_rows, wide_rows = (
        standins.rows_of(
            MutualInformation({"cca2": CCA(2), "pca2": PCA(2)}, permutations=0, subsets=0),
            standins.bench(few, "test", change=change),
        )
        for change in (None, lambda x: x @ turn)
    )
    for metric in ("mi_ksg_cca2_nats", "mi_ksg_pca2_nats", "mi_h_ksg_cca2_nats"):
        assert wide_rows[metric].value == pytest.approx(narrow_rows[metric].value, abs=0.02)
        assert "3,000 columns in the span of 600 images" in wide_rows[metric].note


def test_small_pictures_are_not_reduced_and_large_ones_keep_their_shape():
    x = torch.rand(2, 3, 32, 20)
    assert reduced_pixels(x) == (x, "")
    found, note = reduced_pixels(torch.rand(2, 3, 96, 48))
    assert found.shape == (2, 3, 32, 16)
    assert note == "pixels reduced from 96 x 48 to 32 x 16"
    tokens = torch.zeros(2, 50, dtype=torch.int64)
    assert reduced_pixels(tokens) == (tokens, "")
    constant, _ = reduced_pixels(torch.full((1, 3, 224, 224), 0.25))
    torch.testing.assert_close(constant, torch.full((1, 3, 32, 32), 0.25))


@pytest.mark.parametrize("size", [96, 224])
def test_a_run_on_large_labelled_images_ends_with_its_table(configure, tmp_path, size):
    rng = np.random.default_rng(0)
    for split, n in (("train", 60), ("test", 24)):
        for i in range(n):
            path = tmp_path / "images" / split / "ab"[i % 2] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 180, (size, size, 3)) + 70 * (i % 2)
            Image.fromarray(pixels.astype(np.uint8)).save(path)
    cfg = configure(
        *("data=image_folder", f"data.root={tmp_path / 'images'}", f"data.size={size}", "data.batch_size=16"),
        *("data.val_fraction=0.3", "encoder.widths=[4]", "trainer.max_epochs=1", "trainer.accelerator=cpu"),
        *("evaluation.evaluations.mi.permutations=0", "progress=none"),
        tiny=False,
    )
    cli.start(cfg)
    run = Run(cfg, cli.build(cfg, "data"), cli.build(cfg, "module"))
    with run.reported():
        run.trainer.fit(run.module, run.data)
    pixels = [row for row in run.evaluate.rows if row.encoder == "pixels"]
    assert {row.metric for row in pixels} == {"linear_probe_accuracy", "knn_accuracy"}
    for row in pixels:
        assert f"pixels reduced from {size} x {size} to 32 x 32" in row.note
        assert row.value > 0.9  # the brightness tells the class
    assert "pixels reduced" in (tmp_path / "run" / "probes.csv").read_text()


@pytest.mark.parametrize(
    ("name", "n", "d", "classes"),
    [
        ("probe", 300, 150_528, 3),
        ("geometry", 300, 150_528, 3),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                ("knn", 700, 150_528, 3),
                ("mi", 500, 150_528, 3),
                ("map", 700, 150_528, 3),
                ("capture", 600, 20_000, 10),
                ("probe", 2500, 12_000, 1000),
                ("knn", 3000, 12_000, 1000),
                ("mi", 2500, 12_000, 1000),
                ("probe", 12_000, 6_000, 10),
                ("probe", 40_000, 2_048, 10),
            )
        ),
    ],
)
def test_no_evaluation_takes_more_than_a_gibibyte_beside_its_features(tmp_path, name, n, d, classes):
    path = os.pathsep.join(map(str, (HERE.parents[1], HERE.parent, HERE)))
    done = subprocess.run(
        [sys.executable, HERE / "wide_run.py", tmp_path, name, str(n), str(d), str(classes)],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout.split()[-1]) < 1024


def test_features_that_mostly_do_not_vary_have_a_probe(monkeypatch):
    """Single precision fails on their covariance with some builds of LAPACK; here it always does."""
    decompose = torch.linalg.eigh

    def fragile(x):
        if x.dtype == torch.float32:
            raise torch.linalg.LinAlgError("did not converge")
        return decompose(x)

    monkeypatch.setattr(torch.linalg, "eigh", fragile)
    labels = torch.arange(300) % 2
    x = torch.zeros(300, 200)
    x[:, 7] = labels + 0.1 * torch.randn(300, generator=torch.Generator().manual_seed(0))
    classifier = logistic.tuned_linear(x, labels, 2, [1e-4, 1e-2], seed=0)
    assert (classifier(x).argmax(1) == labels).double().mean() > 0.99
