"""What probes read from frozen features is what the textbook says, and nothing of them reaches the encoder."""

import math

import numpy as np
import pytest
import pytorch_lightning as pl
import standins
import torch
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression
from torch.nn.functional import cross_entropy

from ssl_mi.callbacks.evaluate import Evaluate
from ssl_mi.evaluation import logistic
from ssl_mi.evaluation.accuracy import wilson
from ssl_mi.evaluation.logistic import fit_linear, tuned_linear
from ssl_mi.evaluation.mutual_information import MutualInformation
from ssl_mi.evaluation.neighbours import knn_predict
from ssl_mi.evaluation.probes import KNN, LinearProbe
from ssl_mi.information.projections.linear import CCA


def mixture(n, d=6, classes=3, apart=1.0, seed=0):
    """A Gaussian a class, with columns of unlike scale and place."""
    rng = np.random.default_rng(seed)
    centres = apart * np.random.default_rng(1).standard_normal((classes, d))
    labels = rng.integers(0, classes, n)
    x = centres[labels] + rng.standard_normal((n, d))
    x = x * np.geomspace(0.1, 10, d) + np.arange(d)
    return torch.from_numpy(x).float(), torch.from_numpy(labels)


@pytest.mark.parametrize("decay", [1e-4, 1e-2, 1.0])
def test_the_linear_probe_is_scikit_learns_optimum(decay):
    x, labels = mixture(400)
    ours = fit_linear(x, labels, 3, decay)
    standardised = ((x - x.mean(0)) / x.std(0, correction=0)).double().numpy()
    # sklearn: C sum(loss) + |W|^2 / 2, which is mean(loss) + decay |W|^2 / 2 times n C for C = 1 / (n decay).
    theirs = LogisticRegression(C=1 / (len(x) * decay), tol=1e-10, max_iter=10_000).fit(standardised, labels.numpy())
    weight, bias = torch.from_numpy(theirs.coef_), torch.from_numpy(theirs.intercept_)
    logits = torch.from_numpy(standardised) @ weight.T + bias
    optimum = (cross_entropy(logits, labels) + decay / 2 * weight.square().sum()).item()
    assert ours.loss == pytest.approx(optimum, abs=1e-5)
    scale = weight.abs().max().item()
    assert (ours.weight.double() - weight).abs().max().item() < 1e-3 * max(1, scale)
    assert (ours(x).log_softmax(1).double() - logits.log_softmax(1)).abs().max().item() < 2e-2
    assert (ours(x).softmax(1).double() - logits.softmax(1)).abs().max().item() < 1e-3


def test_the_fit_does_not_depend_on_the_units_of_the_features():
    x, labels = mixture(300)
    units = torch.tensor([1e-3, 1e3, 1.0, 7.0, 0.2, 50.0])
    one, other = fit_linear(x, labels, 3, 0.01), fit_linear(x * units + 3 * units, labels, 3, 0.01)
    torch.testing.assert_close(one(x).softmax(1), other(x * units + 3 * units).softmax(1), atol=1e-3, rtol=0)


def test_a_constant_feature_changes_nothing():
    x, labels = mixture(300)
    padded = torch.cat([x, torch.full((300, 1), 5.0), torch.zeros(300, 1)], 1)
    one, other = fit_linear(x, labels, 3, 0.01), fit_linear(padded, labels, 3, 0.01)
    torch.testing.assert_close(one(x).softmax(1), other(padded).softmax(1), atol=1e-3, rtol=0)


def test_the_decay_is_the_best_on_a_held_out_fifth_of_the_rows_it_is_fitted_on():
    x, labels = mixture(200, d=60, apart=0.3)  # noise enough that little decay overfits
    chosen = tuned_linear(x, labels, 3, seed=7)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(7))
    held, rest = order[:40], order[40:]
    losses = {}
    for decay in logistic.DECAYS:
        # The slow twin: sklearn, on features standardised as in the fit.
        z = ((x - x.mean(0)) / x.std(0, correction=0)).double().numpy()
        fit = LogisticRegression(C=1 / (160 * decay), max_iter=10_000, tol=1e-8).fit(z[rest], labels[rest].numpy())
        log_p = torch.from_numpy(fit.predict_log_proba(z[held]))
        losses[decay] = -log_p[torch.arange(40), labels[held]].mean().item()
    assert chosen.decay == min(losses, key=losses.get)
    assert chosen.decay > min(logistic.DECAYS)
    refitted = fit_linear(x, labels, 3, chosen.decay)
    torch.testing.assert_close(chosen.weight, refitted.weight)


def test_the_rows_that_are_judged_choose_nothing():
    x, labels = mixture(200, d=60, apart=0.3)
    queries, _ = mixture(80, d=60, apart=0.3, seed=5)
    probe = LinearProbe()
    one, note = probe.predict(x, labels, queries, 3)
    other, other_note = probe.predict(x, labels, torch.cat([queries, 100 * torch.randn(50, 60)]), 3)
    assert torch.equal(one, other[:80])
    assert note == other_note


def slow_vote(bank, bank_labels, queries, classes, k, temperature):
    predicted = []
    for query in queries:
        similar = [float(query @ row / (query.norm() * row.norm())) for row in bank]
        votes = [0.0] * classes
        for i in sorted(range(len(bank)), key=lambda i: -similar[i])[:k]:
            votes[int(bank_labels[i])] += math.exp(similar[i] / temperature)
        predicted.append(max(range(classes), key=votes.__getitem__))
    return torch.tensor(predicted)


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.1), (7, 0.1), (40, 0.05), (40, 10.0)])
def test_the_knn_vote_is_the_loop(k, temperature):
    bank, labels = mixture(120, apart=0.5)
    queries, _ = mixture(60, apart=0.5, seed=2)
    bank, queries = bank.double(), queries.double()
    expected = slow_vote(bank, labels, queries, 3, k, temperature)
    assert torch.equal(knn_predict(bank, labels, queries, 3, k, temperature), expected)


def test_near_neighbours_outweigh_many_far_ones_only_at_a_low_temperature():
    bank = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.8, 0.6]])
    labels, query = torch.tensor([0, 1, 1]), torch.tensor([[1.0, 0.0]])
    # similarities 1, .8, .8: e^(.2 / T) against 2, equal at T = .2 / log 2 = .289
    assert knn_predict(bank, labels, query, 2, 3, 0.28).item() == 0
    assert knn_predict(bank, labels, query, 2, 3, 0.30).item() == 1


def test_the_vote_does_not_overflow_at_tiny_temperatures():
    x, labels = mixture(50)
    assert torch.equal(knn_predict(x, labels, x, 3, 10, 1e-4), labels)


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (3, 10), (50, 100), (9_321, 10_000), (10, 10)])
def test_the_interval_is_wilsons(hits, n):
    expected = binomtest(hits, n).proportion_ci(0.95, "wilson")
    assert wilson(hits / n, n) == pytest.approx((expected.low, expected.high), abs=1e-5)


def test_the_interval_holds_the_proportion_also_at_its_ends():
    for n in range(1, 500):
        for p in (0.0, 1.0):
            low, high = wilson(p, n)
            assert 0 <= low <= p <= high <= 1


def separable(n=300):
    labels = torch.arange(n) % 3
    x = torch.eye(3)[labels] * 4 + 0.3 * torch.randn(n, 3, generator=torch.Generator().manual_seed(0))
    splits = ("train", "labelled", "val", "test")
    return standins.GaussianViews(n=n, clean=dict.fromkeys(splits, x), labels=dict.fromkeys(splits, labels))


@pytest.mark.parametrize("probe", [LinearProbe(), KNN()], ids=["linear", "knn"])
def test_classes_apart_are_told_apart(probe):
    (row,) = standins.rows_of(probe, standins.bench(separable())).values()
    assert row.value == 1.0
    assert (row.low, row.high) == pytest.approx(wilson(1.0, 300))
    assert row.baseline == pytest.approx(1 / 3)
    assert (row.n, row.ceiling, row.split, row.evaluation) == (300, 1.0, "test", "probes")
    assert "fitted on 300 samples" in row.note


def test_accuracy_is_the_share_of_the_judged_split_and_not_of_the_fitted_one():
    data = separable()
    wrong = data.labelled.labels.clone()
    wrong[:60] = (wrong[:60] + 1) % 3  # in the judged split alone a fifth of the labels are others
    data.test.labels = wrong
    (row,) = standins.rows_of(KNN(), standins.bench(data)).values()
    assert row.value == pytest.approx(0.8)


def test_a_small_bank_takes_a_tenth_of_itself_as_neighbours_and_says_so():
    (row,) = standins.rows_of(KNN(k=200), standins.bench(separable(90))).values()
    assert row.note.startswith("k 9,")
    (row,) = standins.rows_of(KNN(k=5), standins.bench(separable(90))).values()
    assert row.note.startswith("k 5,")


def test_during_training_a_probe_is_fitted_on_a_sample_and_at_the_end_on_all():
    data = separable()
    (during,) = standins.rows_of(LinearProbe(limit=100), standins.bench(data, "val")).values()
    (final,) = standins.rows_of(LinearProbe(limit=100), standins.bench(data, "test")).values()
    assert "fitted on 100 samples" in during.note
    assert "fitted on 300 samples" in final.note


def test_without_labels_there_is_nothing_to_probe():
    assert standins.rows_of(LinearProbe(), standins.bench(standins.GaussianViews())) == {}


class Gradients(pl.Callback):
    """The gradients of every step, as the optimiser meets them."""

    def __init__(self):
        self.seen = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.seen.append([p.grad.clone() for p in pl_module.parameters()])


@pytest.mark.filterwarnings("ignore:.*does not have many workers.*")
@pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*")
def test_the_encoders_gradients_are_bit_identical_with_and_without_evaluations(tmp_path):
    def gradients(*callbacks):
        seen = Gradients()
        standins.fit(module := standins.joint_embedding(), standins.image_data(), [*callbacks, seen])
        return seen.seen, module.state_dict()

    evaluations = {
        "mi": MutualInformation({"cca2": CCA(2)}, k=2, permutations=2, subsets=2),
        "linear": LinearProbe(),
        "knn": KNN(),
    }
    evaluate = Evaluate(evaluations, every_n_epochs=1, folder=tmp_path)
    (plain, weights), (watched, watched_weights) = gradients(), gradients(evaluate)
    assert {row.epoch for row in evaluate.rows} == {0, 1, 2}
    assert len(plain) == len(watched) == 10
    for step, other in zip(plain, watched, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(step, other, strict=True))
    assert all(torch.equal(weights[key], watched_weights[key]) for key in weights)
