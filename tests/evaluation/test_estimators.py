"""Any estimator can be named in an evaluation: the package's own, the default one, a neural one, a user's."""

import math
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import standins
import torch
from hydra.utils import instantiate

from ssl_mi.evaluation.capture_ratio import Capture
from ssl_mi.evaluation.estimators import as_estimates, estimator_name, set_apart
from ssl_mi.evaluation.mutual_information import MutualInformation, _at_most_the_entropy, _Estimated
from ssl_mi.information import Training, discrete_mi, ksg, mixed_ksg_ross, mutual_information, neural_mi
from ssl_mi.information.core.estimate import Estimate
from ssl_mi.information.inference.cross_fitting import CrossFitted
from ssl_mi.information.projections.linear import CCA

NATS = standins.GaussianViews().truth


def gaussian(x, y, *, scale=1.0):
    """An estimator of one's own: the closed form for Gaussians, as a plain number."""
    d, e = x.shape[1], y.shape[1]
    r = np.corrcoef(np.hstack([x, y]).T)
    logdet = [np.linalg.slogdet(block)[1] for block in (r[:d, :d], r[d:, d:], r)]
    assert r.shape == (d + e, d + e)
    return scale * 0.5 * (logdet[0] + logdet[1] - logdet[2])


def rows(split="test", n=400, **changes):
    options = {"projections": {"cca2": CCA(2)}, "permutations": 0, **changes}
    evaluation = MutualInformation(**options)
    data = standins.GaussianViews(n=n)
    evaluation.check(data)
    return standins.rows_of(evaluation, standins.bench(data, split))


def test_ksg_by_name_gives_what_it_gives_by_default():
    named, default = rows(estimator=partial(ksg, k=4)), rows(k=4)
    assert set(named) == set(default)
    for metric, row in named.items():
        assert (row.value, row.low, row.high) == (default[metric].value, default[metric].low, default[metric].high)
        assert row.headline == default[metric].headline


@pytest.mark.parametrize("split", ["val", "test"])
def test_an_estimator_of_ones_own_is_measured_with_interval_baseline_and_p(split):
    row = rows(split, estimator=gaussian, permutations=9)["mi_gaussian_cca2_nats"]
    assert row.low < NATS < row.high
    assert row.value == pytest.approx(NATS, abs=0.15)
    assert abs(row.baseline) < 0.05
    assert row.p_value == 0.1
    assert row.quantity == "I(Z_X; Z_Y) by gaussian on cca2"
    assert row.note.startswith("gaussian of CCA(2")
    assert row.headline == "gaussian_nats"
    assert row.kind == "lower bound"


def test_the_default_estimator_gets_the_embeddings_themselves_and_keeps_its_own_interval():
    default = partial(mutual_information, learned=False, permutations=3)
    row = rows(projections={"all": None}, estimator=default, subsets=0)["mi_mutual_information_all_nats"]
    x, y = standins.bench(standins.GaussianViews(n=400)).pairs("test").z
    expected = default(x.numpy(), y.numpy())
    assert row.value == expected.value
    assert (row.low, row.high) == expected.ci
    assert row.p_value == expected.p_value
    assert "of the embeddings themselves" in row.note
    assert row.kind == expected.kind


def test_what_one_fold_says_of_itself_is_not_said_of_both():
    def confident(x, y):
        return Estimate(1.0, n=len(x), ci=(0.99, 1.01), ci_level=0.95, p_value=0.01, null=0.0, estimator="confident")

    (row,) = (r for m, r in rows("val", estimator=confident, subsets=0).items() if "confident" in m)
    assert row.value == 1.0
    assert math.isnan(row.low)
    assert math.isnan(row.p_value)
    row = rows("test", estimator=confident, subsets=0)["mi_confident_cca2_nats"]
    assert (row.low, row.p_value) == (0.99, 0.01)


def test_a_neural_estimator_is_measured():
    neural = partial(neural_mi, training=Training(max_steps=200), seed=0)
    row = rows(n=600, projections={"all": None}, estimator=neural, subsets=0)["mi_neural_mi_all_nats"]
    assert 0.2 < row.value < NATS + 0.2


def test_labels_and_factors_may_have_an_estimator_of_their_own_too():
    import torch

    labels = torch.arange(200) % 3
    clean = {split: torch.eye(3)[labels] + 0.01 * torch.randn(200, 3) for split in ("val", "test")}
    data = standins.GaussianViews(n=200, labels={"val": labels, "test": labels}, clean=clean)
    seen = []

    def noted(h, values):
        seen.append(np.asarray(values).dtype)
        return 0.5

    evaluation = MutualInformation({}, factor_estimator=noted, permutations=0)
    row = standins.rows_of(evaluation, standins.bench(data))["mi_h_label_nats"]
    assert row.value == 0.5
    assert all(np.issubdtype(dtype, np.integer) for dtype in seen)


def test_the_capture_ratio_may_be_of_any_estimator_and_says_which():
    data = standins.GaussianViews(n=400)
    data.known = SimpleNamespace(nats=NATS, describe=lambda: "two Gaussians")
    found = standins.rows_of(Capture(estimator=gaussian), standins.bench(data, "val"))
    z, ratio = found["mi_z_gaussian_nats"], found["capture_ratio"]
    x, y = standins.bench(data, "val").pairs("val").z
    assert z.value == gaussian(x.numpy(), y.numpy())
    assert z.quantity == "I(Z_X; Z_Y), gaussian"
    assert ratio.value == z.value / NATS
    assert (z.headline, ratio.headline) == ("captured_nats", "capture_ratio")


def test_a_configuration_names_an_estimator_by_its_import_path(configure):
    target = "{_target_:tests.evaluation.test_estimators.gaussian,_partial_:true,scale:2.0}"
    cfg = configure(f"evaluation.evaluations.mi.estimator={target}")
    built = instantiate(cfg.evaluation.evaluations.mi, _convert_="all")
    assert estimator_name(built.estimator) == "gaussian"
    assert built.estimator.keywords == {"scale": 2.0}


@pytest.mark.parametrize(
    ("estimator", "said"),
    [
        ("ksg", r"mi\.estimator is 'ksg', not an estimator: name a function"),
        (partial(ksg, neighbours=3), r"mi\.estimator: ksg cannot be called with x and y alone: .*neighbours"),
        (lambda x: 0.0, r"mi\.estimator: <lambda> cannot be called with x and y alone"),
        (partial(ksg, k=200), r"k=200 neighbours"),
        (lambda x, y, k=300: 0.0, r"k=300 neighbours"),
    ],
)
def test_what_is_no_estimator_is_refused_before_training(estimator, said):
    with pytest.raises(ValueError, match=said):
        MutualInformation({"cca2": CCA(2)}, estimator=estimator).check(standins.GaussianViews())


def test_what_an_estimator_refuses_is_told_with_its_name():
    def picky(x, y):
        raise ValueError("x has too few rows")

    with pytest.raises(ValueError, match="picky on 400 rows: x has too few rows"):
        rows(estimator=picky)


def test_a_result_that_is_no_number_is_named():
    def gaussians(x, y):
        return 1.0, 2.0

    with pytest.raises(TypeError, match="gaussians returned tuple: an estimator returns an Estimate or a number"):
        as_estimates(gaussians)(np.zeros((3, 1)), np.zeros((3, 1)))


def atoms(n, seed):
    """The number of an atom for each of n rows, and 60 places in four dimensions."""
    rng = np.random.default_rng(seed)
    return np.minimum(rng.geometric(0.08, n), 59), rng.normal(size=(60, 4))


@pytest.mark.parametrize("seed", range(3))
def test_equal_rows_that_share_nothing_are_estimated_as_nothing(seed):
    (i, at), (j, bt) = atoms(800, seed), atoms(800, seed + 100)
    labels = np.random.default_rng(seed).integers(0, 10, 800)
    bare = ksg(at[i], bt[j], k=3)
    views, known = set_apart(partial(ksg, k=3))(at[i], bt[j]), set_apart(partial(mixed_ksg_ross, k=3))(at[i], labels)
    assert bare.value > 0.3  # what this is for
    assert abs(views.value) < 0.1
    assert abs(known.value) < 0.1
    assert views.warnings[0].code == known.warnings[0].code == "equal-rows"


def test_equal_rows_keep_what_they_tell():
    (i, at), bt = atoms(2000, 0), atoms(1, 1)[1]
    entropy = discrete_mi(i, i).value
    assert set_apart(partial(mixed_ksg_ross, k=3))(at[i], i).value == pytest.approx(entropy, abs=0.15)
    assert set_apart(partial(ksg, k=3))(at[i], bt[i]).value > 0.9 * entropy


def test_rows_that_differ_are_left_as_they_are():
    x = np.random.default_rng(0).normal(size=(300, 2))
    assert set_apart(partial(ksg, k=3))(x, x + 1) == ksg(x, x + 1, k=3)


def test_more_than_the_entropy_of_the_labels_is_named():
    found = _Estimated(CrossFitted(Estimate(1.0)), "h")
    labels = torch.tensor([0, 1] * 20)
    (caution,) = _at_most_the_entropy(found, labels).result.estimate.warnings
    assert caution.code == "above-entropy"
    assert caution.numbers["entropy"] == pytest.approx(math.log(2))
    assert _at_most_the_entropy(found, torch.arange(40)) is found
