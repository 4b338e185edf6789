"""The MI evaluation on views whose information is known: it reads the truth, and invents nothing."""

import csv
import math
from functools import partial

import pytest
import standins
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from ssl_mi.callbacks.evaluate import Evaluate
from ssl_mi.evaluation.mutual_information import MutualInformation
from ssl_mi.information.estimators.ksg import ksg
from ssl_mi.information.projections.linear import CCA, PCA

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
    sizes = [(len(fitted), len(read)) for fitted, read in zip(spy.fitted_on, spy.read_on, strict=True)]
    # During training each half is read once, through what the other fitted.
    assert sizes == ([(100, 100)] * 2 if split == "val" else [(200, 200)] * 2)
    if split == "val":
        assert set(torch.cat([torch.as_tensor(part[:, 0]) for part in spy.read_on]).tolist()) == set(
            at.pairs("val", 2000).z[0][:, 0].tolist()
        )


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
    expected = at.module.objective.estimate(x, y, data.batch_size)
    row = rows["mi_bound_infonce_nats"]
    # float32: differences of log-sums of about log 100 = 4.6, whose last bit is 5e-7.
    assert row.value == pytest.approx(expected.value, abs=1e-5)
    # Cosine at temperature 1, 99 negatives: scores differ by 2 at most.
    assert row.ceiling == pytest.approx(math.log(100) - math.log1p(99 * math.exp(-2)))
    assert 0 < row.value < NATS < row.ceiling
    assert "99 negatives" in row.note
    assert row.kind == "lower bound"


def test_an_objective_that_bounds_nothing_has_no_such_row():
    at = standins.bench(standins.GaussianViews(n=200))
    at.module.objective.estimate = lambda x, y, rows: None
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


def test_during_training_the_label_is_read_on_all_images_through_what_the_others_fitted():
    rows = standins.rows_of(evaluation(projections={}, permutations=2), standins.bench(known(), "val"))
    assert set(rows) == {"mi_h_label_nats", "mi_bound_infonce_nats"}
    assert rows["mi_h_label_nats"].n == 1200
    assert "cross-fitted" in rows["mi_h_label_nats"].note
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


@pytest.mark.parametrize("split", ["test", "val"])
def test_too_few_images_for_ksg_are_named_with_the_remedy(split):
    """10 subsets of more than k = 3 rows: 40 images."""
    read = evaluation(permutations=2, subsets=10)
    at = standins.bench(standins.GaussianViews(n=39), split)
    with pytest.raises(ValueError, match=rf"{split} samples: 39 .*k=3.*40"):
        standins.rows_of(read, at)
    enough = standins.bench(standins.GaussianViews(n=40), split)
    assert "mi_ksg_cca2_nats" in standins.rows_of(read, enough)


def test_the_reading_is_repeatable():
    read = partial(standins.rows_of, evaluation(permutations=3))
    one, other = (read(standins.bench(standins.GaussianViews(n=100))) for _ in range(2))
    assert repr(one) == repr(other)  # rows hold NaN, which equals nothing


# From one evaluation to the next


def halfway(x):
    """An encoder that keeps little of what the views share."""
    seed = round(x.double().abs().sum().item())  # its own noise for each view, the same on every CPU
    generator = torch.Generator().manual_seed(seed)
    return x + 1.5 * torch.randn(x.shape, generator=generator)


def read_at(epoch, change=None, earlier=(), split="val", encoder="trained", read=None, data=None):
    data = data or standins.GaussianViews(n=400)
    at = standins.bench(data, split, epoch, encoder, change)
    at.earlier = tuple(earlier)
    return standins.rows_of(read or evaluation(), at)["mi_ksg_cca2_nats"]


def test_epochs_are_read_on_the_same_pairs_so_an_encoder_that_stays_differs_by_nothing():
    first = read_at(0)
    later = read_at(7, earlier=[first])
    assert later.value == first.value
    assert later.parts == first.parts
    assert (later.since_first, later.since_first_low, later.since_first_high) == (0, 0, 0)


def test_each_reading_is_beside_its_difference_to_the_first_and_to_the_previous_one():
    start, middle = read_at(0, halfway), read_at(5, halfway)
    end = read_at(9, earlier=[middle, start])
    assert math.isnan(start.since_first)
    assert math.isnan(start.since_previous)
    assert end.since_first == pytest.approx(end.value - start.value)
    assert end.since_previous == pytest.approx(end.value - middle.value)
    assert 0 < end.since_first_low < end.since_first < end.since_first_high
    # By hand: 4 paired differences, 3 times over; t(.975, 9) = 2.262157.
    gaps = torch.tensor(end.parts) - torch.tensor(start.parts)
    se = (gaps.var(1).mean() / 4).sqrt().item()
    assert end.since_first_high - end.since_first == pytest.approx(2.262157 * se, rel=1e-4)


def test_at_the_end_what_was_learned_is_the_difference_to_the_random_encoder_on_the_same_test_images():
    during = read_at(5, halfway)
    random = read_at(9, halfway, [during], "test", "random")
    trained = read_at(9, None, [during, random], "test")
    assert trained.since_first == pytest.approx(trained.value - random.value)
    assert math.isnan(trained.since_previous)  # nothing was read on the test images before
    assert math.isnan(random.since_first)
    assert math.isnan(random.p_value)


@pytest.mark.parametrize(
    "change", [{"k": 4}, {"subsets": 8}, {"seed": 1}, {"projections": {"cca2": CCA(2, ridge=0.1)}}]
)
def test_readings_made_in_another_way_are_not_subtracted(change):
    first = read_at(0)
    assert math.isnan(read_at(7, earlier=[first], read=evaluation(**change)).since_first)


def test_readings_of_other_pairs_are_not_subtracted():
    first = read_at(0)
    fewer, others = standins.GaussianViews(n=398), standins.GaussianViews(n=400, seed=1)
    for data in (fewer, others):
        assert math.isnan(read_at(7, earlier=[first], data=data).since_first)


def test_a_collapse_has_no_difference_for_it_has_no_parts():
    first = read_at(0)
    collapsed = read_at(5, torch.ones_like, [first])
    assert collapsed.parts == ()
    assert math.isnan(collapsed.since_first)
    assert math.isnan(read_at(6, None, [collapsed]).since_first)


@pytest.mark.parametrize(
    ("change", "said"), [({"subsets": 9}, r"mi\.subsets=9 must be an even"), ({"repeats": 0}, "repeats=0")]
)
def test_parts_that_can_not_be_cut_are_refused_before_training(change, said):
    with pytest.raises(ValueError, match=said):
        evaluation(**change).check(standins.GaussianViews())


@pytest.mark.filterwarnings("ignore:.*does not have many workers.*")
@pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*")
@pytest.mark.filterwarnings("ignore:.*callbacks used to create the checkpoint.*")
def test_a_resumed_run_compares_with_evaluations_made_before_the_stop(tmp_path):
    def run(folder, epochs, callbacks=(), **options):
        evaluate = Evaluate({"mi": evaluation(projections={"pca2": PCA(2)}, permutations=2)}, 1, folder)
        data = standins.image_data(train=96, test=30)
        standins.fit(standins.joint_embedding(), data, [evaluate, *callbacks], epochs, **options)
        return {(row.epoch, row.split, row.encoder): row for row in evaluate.rows if row.metric == "mi_ksg_pca2_nats"}

    whole = run(tmp_path / "whole", 2)
    saver = ModelCheckpoint(tmp_path / "checkpoints", "last", enable_version_counter=False)
    run(tmp_path / "stopped", 1, [saver], enable_checkpointing=True)
    resumed = run(tmp_path / "stopped", 2, ckpt_path=tmp_path / "checkpoints" / "last.ckpt")

    assert repr(resumed) == repr(whole)
    last = resumed[2, "val", "trained"]
    assert last.since_first == pytest.approx(last.value - resumed[0, "val", "trained"].value)
    assert last.since_previous == pytest.approx(last.value - resumed[1, "val", "trained"].value)
    learned = resumed[2, "test", "trained"]
    assert learned.since_first == pytest.approx(learned.value - resumed[2, "test", "random"].value)
    # and the file has it all, to be compared by hand
    with (tmp_path / "stopped" / "mi.csv").open() as file:
        written = {
            (int(r["epoch"]), r["split"], r["encoder"]): r for r in csv.DictReader(file) if "pca2" in r["metric"]
        }
    assert float(written[2, "val", "trained"]["since_first_low"]) == last.since_first_low
    assert written[2, "val", "trained"]["pairs"] == written[0, "val", "trained"]["pairs"] != ""
    assert [len(cut.split()) for cut in written[0, "val", "trained"]["parts"].split("|")] == [4, 4, 4]


def labelled(n, **counts):
    """Views data whose clean images, of 6 columns, tell the label; label -> how many of n, the rest are label 0."""

    def split(k):
        labels = torch.zeros(n, dtype=torch.int64)
        for label, count in enumerate(k.values(), 1):
            labels[label - 1 : label - 1 + 7 * count : 7] = label
        return labels

    labels = {name: split(counts[name]) for name in ("val", "test")}
    generator = torch.Generator().manual_seed(0)
    clean = {name: 8.0 * of[:, None] + torch.randn(n, 6, generator=generator) for name, of in labels.items()}
    return standins.GaussianViews(n=n, labels=labels, clean=clean)


CASES = {  # how many of 200 validation and of 200 test images are b and c, the rest being a
    "a single image in validation": ({"b": 1, "c": 0}, {"b": 20, "c": 0}),
    "absent from validation": ({"b": 0, "c": 0}, {"b": 20, "c": 0}),
    "absent from test": ({"b": 20, "c": 0}, {"b": 0, "c": 0}),
    "in test only": ({"b": 20, "c": 0}, {"b": 20, "c": 20}),
    "three images": ({"b": 3, "c": 0}, {"b": 3, "c": 0}),
    "ten percent": ({"b": 20, "c": 0}, {"b": 20, "c": 0}),
}


@pytest.mark.parametrize("split", ["val", "test"])
@pytest.mark.parametrize("case", CASES)
def test_a_rare_class_stops_nothing_and_is_named(case, split):
    val, test = CASES[case]
    row = standins.rows_of(evaluation(permutations=0), standins.bench(labelled(200, val=val, test=test), split))
    row = row["mi_h_label_nats"]
    counts = torch.tensor([list(part.values()) for part in ((val, test) if split == "test" else (val,))]) / 200
    p = torch.cat([1 - counts[-1].sum()[None], counts[-1]])
    entropy = float(torch.special.entr(p).sum())
    assert -0.05 < row.value < entropy + 0.05
    smallest = counts.amin(0) * 200 / (1 if split == "test" else 2)
    for name, count in zip("bc", smallest, strict=True):
        assert (f"'{name}'" in row.note) == (count < 4), row.note
    if case == "ten percent":
        assert row.value == pytest.approx(entropy, abs=0.1)


def test_many_classes_of_two_images_each_stop_nothing():
    """Half of the images hold each class once: no image has a neighbour of its own class."""
    labels = torch.arange(40) % 20
    data = standins.GaussianViews(n=40, labels={"val": labels}, clean={"val": torch.randn(40, 6)})
    data.val.class_names = tuple(f"class {i}" for i in range(20))
    row = standins.rows_of(evaluation(permutations=0), standins.bench(data, "val"))["mi_h_label_nats"]
    assert row.value == 0
    assert "0 by default" in row.note
    assert "'class 0' 1" in row.note
    assert "17 more" in row.note
