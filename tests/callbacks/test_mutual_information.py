"""The MI evaluation on views whose information is known: it reads the truth, and invents nothing."""

import math
from functools import partial

import pytest
import standins
import torch

from ssl_mi.callbacks.mutual_information import MutualInformation
from ssl_mi.information.knn import ksg
from ssl_mi.information.projections import CCA, PCA

NATS = standins.GaussianViews().truth  # 0.65, in two columns a side


def evaluation(**changes):
    options = {"projections": {"cca2": CCA(2), "pca2": PCA(2)}, "permutations": 19, **changes}
    return MutualInformation(**options)


@pytest.fixture(scope="module")
def final():
    data = standins.GaussianViews(n=1000)
    return data, standins.rows_of(evaluation(), standins.bench(data, "test"))


@pytest.mark.parametrize("metric", ["mi_ksg_cca2_nats", "mi_ksg_pca2_nats", "mi_h_ksg_cca2_nats"])
def test_the_truth_lies_in_the_interval(final, metric):
    row = final[1][metric]
    assert row.low < NATS < row.high
    assert row.high - row.low < 0.4
    assert row.value == pytest.approx(NATS, abs=0.12)
    assert row.p_value == pytest.approx(1 / 20)
    assert abs(row.baseline) < 0.05
    assert row.n == 1000
    assert row.ceiling == pytest.approx(math.log(1000), abs=1)  # psi(n) - psi(3)
    assert row.kind == "lower bound"


def test_each_row_says_of_which_projection_it_is(final):
    row = final[1]["mi_ksg_pca2_nats"]
    assert "pca2" in row.quantity
    assert row.note == "KSG1(k=3) of PCA(2)"
    assert row.evaluation == "mi"


def test_independent_views_read_nothing():
    rows = standins.rows_of(evaluation(), standins.bench(standins.GaussianViews((0.0, 0.0), noise=30, n=400)))
    for metric in ("mi_ksg_cca2_nats", "mi_ksg_pca2_nats"):
        assert rows[metric].p_value > 0.05
        assert rows[metric].low < 0 < rows[metric].high
        assert abs(rows[metric].value) < 0.1


def test_pca_follows_variance_and_reads_nothing_where_cca_finds_what_is_shared():
    data = standins.GaussianViews((0.9, 0.9), noise=10, spread=5.0, n=1000)
    rows = standins.rows_of(evaluation(permutations=2), standins.bench(data))
    assert rows["mi_ksg_cca2_nats"].value > 0.8 * data.truth
    assert abs(rows["mi_ksg_pca2_nats"].value) < 0.1


class Recording:
    """A projection that remembers the rows it learned from and was read on."""

    def __init__(self, dim):
        self.of, self.fitted_on, self.read_on = CCA(dim), [], []

    def fit(self, x, y, seed=0):
        self.fitted_on.append(x)
        fitted = self.of.fit(x, y, seed)

        class Fitted:
            name = fitted.name

            def __call__(_, x, y):
                self.read_on.append(x)
                return fitted(x, y)

        return Fitted()


@pytest.mark.parametrize("split", ["val", "test"])
def test_no_image_is_both_fitted_on_and_read(split):
    def numbered(x):
        """The first column tells rows apart."""
        return torch.cat([x, x[:, :1] ** 3], 1)

    spy = Recording(2)
    data = standins.GaussianViews(n=200)
    at = standins.bench(data, split, change=numbered)
    standins.rows_of(evaluation(projections={"spy": spy}, permutations=0, subsets=2), at)
    for fitted, read in zip(spy.fitted_on, spy.read_on, strict=True):
        assert set(fitted[:, 0].tolist()).isdisjoint(read[:, 0].tolist())
    # One view pair an image and a split: 200 images, of which none is lost either.
    assert all(index.unique().numel() == len(index) for _, index in data.drawn)
    halves = (len(spy.fitted_on[0]), len(spy.read_on[0]))
    assert halves == ((100, 100) if split == "val" else (200, 200))


def test_training_reads_the_validation_split_alone():
    data = standins.GaussianViews(n=200)
    standins.rows_of(evaluation(permutations=0, subsets=2), standins.bench(data, "val"))
    assert {split for split, _ in data.drawn} == {"val"}


def test_fitting_on_the_rows_that_are_read_would_invent_information():
    """What the split protects from: 30 columns of noise, 300 rows, nothing shared."""
    data = standins.GaussianViews((0.0, 0.0), noise=30, n=300)
    at = standins.bench(data, "test")
    honest = standins.rows_of(evaluation(projections={"cca2": CCA(2, ridge=1e-6)}), at)["mi_ksg_cca2_nats"]
    x, y = at.pairs("test").z
    invented = ksg(*CCA(2, ridge=1e-6).fit(x, y)(x, y)).value
    assert invented > 0.3
    assert abs(honest.value) < 0.1
    assert invented > honest.high


def test_the_objectives_own_bound_is_its_reading_beside_its_ceiling(final):
    data, rows = final
    at = standins.bench(data, "test")
    x, y = at.pairs("test").z
    expected = at.module.objective.read(x, y, data.batch_size)
    row = rows["mi_bound_infonce_nats"]
    assert row.value == pytest.approx(expected.value)
    # Cosine at temperature 1, 99 negatives: scores differ by 2 at most.
    assert row.ceiling == pytest.approx(math.log(100) - math.log1p(99 * math.exp(-2)))
    assert 0 < row.value < NATS < row.ceiling
    assert "99 negatives" in row.note
    assert row.kind == "lower bound"


def test_an_objective_that_bounds_nothing_has_no_such_row():
    at = standins.bench(standins.GaussianViews(n=200))
    at.module.objective.read = lambda x, y, rows: None
    rows = standins.rows_of(evaluation(permutations=0, subsets=2), at)
    assert not any("bound" in metric for metric in rows)


def test_reading_the_bound_leaves_the_objective_as_it_was():
    at = standins.bench(standins.GaussianViews(n=200))
    objective = at.module.objective
    objective.critic.eval()  # a part that someone froze
    standins.rows_of(evaluation(permutations=0, subsets=2), at)
    assert objective.training
    assert not objective.critic.training


# I(h; factor)


def known(n=1200):
    """Images of two columns. label = sign of the first; angle: correlates .9 with the second; noise: with nothing."""

    def split(seed):
        generator = torch.Generator().manual_seed(seed)
        # Uncorrelated exactly, not in expectation: the correlation of the rows that are read is the one that is meant.
        x = torch.randn(n, 3, generator=generator)
        x = n**0.5 * torch.linalg.qr(x - x.mean(0)).Q
        x, angle = x[:, :2], 0.9 * x[:, 1] + math.sqrt(1 - 0.81) * x[:, 2]
        label = (x[:, 0] > 0).long()
        dice = torch.randint(0, 3, (n,), generator=generator)
        return x, label, {"angle": angle, "dice": dice, "flag": x[:, 1] > 0, "circle": torch.stack([angle, -angle], 1)}

    parts = {name: split(seed) for seed, name in enumerate(("val", "test"))}
    return standins.GaussianViews(
        n=n,
        clean={name: part[0] for name, part in parts.items()},
        labels={name: part[1] for name, part in parts.items()},
        factors={name: part[2] for name, part in parts.items()},
    )


def test_what_h_knows_of_labels_and_factors_is_read_in_nats():
    rows = standins.rows_of(evaluation(projections={}, permutations=19), standins.bench(known()))
    assert {"mi_h_label_nats", "mi_h_angle_nats", "mi_h_dice_nats"} < set(rows)
    # The label is a function of h: I = H(label) = log 2. A factor of correlation .9: -1/2 log(1 - .81).
    assert rows["mi_h_label_nats"].value == pytest.approx(math.log(2), abs=0.05)
    angle = rows["mi_h_angle_nats"]
    assert angle.value == pytest.approx(-0.5 * math.log(1 - 0.81), abs=0.12)
    assert angle.low < -0.5 * math.log(1 - 0.81) < angle.high
    assert abs(rows["mi_h_dice_nats"].value) < 0.05
    assert rows["mi_h_dice_nats"].p_value > 0.05
    assert rows["mi_h_label_nats"].p_value == pytest.approx(0.05)
    assert rows["mi_h_flag_nats"].value == pytest.approx(math.log(2), abs=0.05)  # true or false is a factor too
    assert rows["mi_h_circle_nats"].value > 0.5


def test_during_training_the_label_is_read_on_other_images_than_its_projection_learned_from():
    rows = standins.rows_of(evaluation(projections={}, permutations=2), standins.bench(known(), "val"))
    assert set(rows) == {"mi_h_label_nats", "mi_bound_infonce_nats"}
    assert rows["mi_h_label_nats"].n == 600
    assert rows["mi_h_label_nats"].value == pytest.approx(math.log(2), abs=0.06)


# What goes wrong


def test_constant_columns_are_left_out_and_noted():
    def padded(x):
        return torch.cat([x, torch.zeros(len(x), 3), torch.full((len(x), 1), 7.0)], 1)

    data = standins.GaussianViews(n=600)
    rows = standins.rows_of(evaluation(permutations=2), standins.bench(data, change=padded))
    for metric in ("mi_ksg_cca2_nats", "mi_ksg_pca2_nats", "mi_h_ksg_cca2_nats"):
        assert rows[metric].value == pytest.approx(NATS, abs=0.15)
        assert "4 of 6 columns" in rows[metric].note


def test_collapsed_embeddings_share_nothing_and_say_so():
    def collapsed(x):
        return torch.ones_like(x)

    data = known(200)
    rows = standins.rows_of(evaluation(permutations=2, subsets=2), standins.bench(data, change=collapsed))
    for metric in ("mi_ksg_cca2_nats", "mi_ksg_pca2_nats", "mi_h_label_nats", "mi_h_angle_nats"):
        assert rows[metric].value == 0
        assert "2 of 2 columns" in rows[metric].note
        assert "collapse" in rows[metric].note


@pytest.mark.parametrize(("split", "n"), [("test", 39), ("val", 78)])
def test_too_few_images_for_ksg_are_named_with_the_remedy(split, n):
    """10 subsets of more than k = 3 rows: 40 images to read, and during training as many to fit on."""
    at = standins.bench(standins.GaussianViews(n=n), split)
    with pytest.raises(ValueError, match=rf"{split} images: 39 .*k=3.*40"):
        standins.rows_of(evaluation(permutations=2), at)
    enough = standins.bench(standins.GaussianViews(n=n + 1), split)
    assert "mi_ksg_cca2_nats" in standins.rows_of(evaluation(permutations=2), enough)


def test_the_reading_is_repeatable():
    read = partial(standins.rows_of, evaluation(permutations=3))
    one, other = (read(standins.bench(standins.GaussianViews(n=100))) for _ in range(2))
    assert one == other
