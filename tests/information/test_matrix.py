"""Every pair of columns of a table: estimates by dtype, p-values that know of each other, and their pictures."""

import csv
import itertools
import json

import numpy as np
import pytest

from ssl_mi.information import ksg, mi_matrix, mutual_information
from ssl_mi.information.core.inputs import Categories, read
from ssl_mi.information.inference import benjamini_hochberg, holm
from ssl_mi.information.inference.dependence import Rows, read_rows
from ssl_mi.information.inference.rank_test import RankTest, coded

RNG = np.random.default_rng(0)
X = RNG.standard_normal(400)
TABLE = {
    "x": X,
    "y": X + RNG.standard_normal(400),
    "label": np.where(X > 0, "high", "low"),
    "alone $": RNG.standard_normal(400),
    "same": np.zeros(400),
}


@pytest.fixture(scope="module")
def matrix():
    return mi_matrix(TABLE)


def test_each_pair_is_what_the_default_estimator_gives_for_it(matrix):
    assert [(p.first, p.second) for p in matrix.pairs] == list(itertools.combinations(TABLE, 2))
    alone = mutual_information(TABLE["y"], TABLE["label"], learned=False, permutations=0)
    pair = matrix["label", "y"]
    assert (pair.estimate.value, pair.estimate.ci) == (alone.value, alone.ci)
    assert matrix.values()[1, 2] == matrix.values()[2, 1] == alone.value
    assert np.isnan(np.diag(matrix.values())).all()


def test_dependent_pairs_stand_out_after_correction_and_constant_columns_share_nothing(matrix):
    found = {(p.first, p.second) for p in matrix.pairs if p.p_holm < 0.05}
    assert found == {("x", "y"), ("x", "label"), ("y", "label")}
    assert all(pair.p_holm >= pair.p_bh >= pair.estimate.p_value for pair in matrix.pairs)
    assert all(p.estimate.p_value == 1 and abs(p.estimate.value) < 0.01 for p in matrix.pairs if p.second == "same")
    assert matrix.warnings == ()


def test_the_pairs_are_a_table_a_file_and_a_picture(matrix, tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = matrix.to_frame()
    assert frame["nats"].is_monotonic_decreasing
    assert frame.loc[0, ["first", "second"]].tolist() == ["x", "label"]
    matrix.to_csv(tmp_path / "pairs.csv")
    with open(tmp_path / "pairs.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["nats"]) for row in rows] == frame["nats"].tolist()
    figure = matrix.heatmap(tmp_path / "pairs.png")
    assert (tmp_path / "pairs.png").read_bytes()[:4] == b"\x89PNG"
    (shades,) = figure.axes[0].images
    np.testing.assert_array_equal(shades.get_array().filled(np.nan), np.maximum(matrix.values(), 0))
    assert str(matrix).splitlines()[1].startswith("x ~ label")
    same = mi_matrix(pandas.DataFrame(TABLE)[["x", "label"]])
    assert same["x", "label"].estimate.value == matrix["x", "label"].estimate.value


@pytest.mark.parametrize(
    ("data", "settings", "message"),
    [
        ({"a": X}, {}, "data has 1 columns: a pair needs 2"),
        ({"a": X, "b": X[:5]}, {}, "column 'a' has 400 rows and column 'b' has 5"),
        ({"a": X, "b": np.where(X > 2, np.nan, X)}, {}, "column 'b' holds .* rows with NaN"),
        ({"a": X, "b": np.zeros((400, 2))}, {}, "column 'b' has 2 columns of its own"),
        (np.zeros((4, 2, 2)), {}, r"data has shape \(4, 2, 2\)"),
        ({"a": X[:20], "b": X[:20]}, {}, r"columns 'a' \(x\) and 'b' \(y\): .* 40"),
        (TABLE, {"permutations": -3}, "permutations must be a whole number of re-pairings, at least 0, got -3"),
        (TABLE, {"level": 1.5}, "level must lie between 0 and 1"),
        (TABLE, {"n_jobs": 0}, "n_jobs must be a whole number of threads, at least 1"),
        (TABLE, {"groups": X[:3]}, r"groups has shape \(3,\)"),
    ],
)
def test_what_cannot_be_paired_is_named(data, settings, message):
    with pytest.raises(ValueError, match=message):
        mi_matrix(data, **settings)


def test_another_estimator_and_threads_change_neither_the_test_nor_the_order(matrix):
    other = mi_matrix({name: TABLE[name] for name in ("x", "y", "alone $")}, estimator=ksg, n_jobs=2)
    assert other["x", "y"].estimate.value == ksg(TABLE["x"], TABLE["y"]).value
    assert other["x", "y"].estimate.p_value == matrix["x", "y"].estimate.p_value


def test_too_few_permutations_for_the_number_of_pairs_are_named():
    found = mi_matrix({name: TABLE[name] for name in ("x", "y", "alone $")}, estimator=ksg, permutations=9)
    assert [w.code for w in found.warnings] == ["few-permutations"]
    assert found.warnings[0].numbers["least"] == pytest.approx(0.3)


# Corrections


def test_holm_and_benjamini_hochberg_reject_what_their_procedures_reject():
    """Stepping down, and up, through sorted p-values, as in the papers."""
    p = np.random.default_rng(1).random(40) ** 3
    ordered = np.sort(p)
    for level in (0.01, 0.05, 0.2, 0.7):
        limits = level / np.arange(40, 0, -1)
        kept = np.flatnonzero(ordered > limits)
        of_holm = ordered[: kept[0]] if len(kept) else ordered
        assert sorted(p[holm(p) <= level]) == list(of_holm)
        below = np.flatnonzero(ordered <= level * np.arange(1, 41) / 40)
        of_bh = ordered[: below[-1] + 1] if len(below) else []
        assert sorted(p[benjamini_hochberg(p) <= level]) == list(of_bh)
    with pytest.raises(ValueError, match="p must be values between 0 and 1"):
        holm([0.5, 1.5])


# The test


def test_its_statistic_is_the_largest_standardised_g_of_the_joined_tables():
    rng = np.random.default_rng(2)
    x, y = coded(read(rng.standard_normal(300)), rng), coded(read(rng.standard_normal(300)), rng)
    test = RankTest(Rows(300), 9, 0)
    expected = []
    for bins in (32, 16, 8, 4, 2):
        table = np.zeros((bins, bins))
        np.add.at(table, (x.codes * bins // 32, y.codes * bins // 32), 1)
        share = table / 300
        independent = share.sum(1)[:, None] * share.sum(0)
        nats = (share[share > 0] * np.log(share[share > 0] / independent[share > 0])).sum()
        freedom = (bins - 1) ** 2
        expected.append((600 * nats - freedom) / np.sqrt(2 * freedom))
    assert test.statistic(x, y, y.codes[None])[0] == pytest.approx(max(expected), rel=1e-9)


def test_under_independence_its_p_values_are_uniform_for_numbers_ties_and_labels():
    small = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        test = RankTest(Rows(200), 199, seed)
        labels = rng.integers(0, 3, 200)
        columns = [
            coded(read(rng.standard_normal(200)), rng),
            coded(read(rng.poisson(2.0, 200)), rng),
            coded(Categories(labels, "z", labels), rng),
        ]
        for _ in range(25):
            other = coded(read(rng.standard_normal(200)), rng)
            small += [test.p_value(column, other) <= 0.05 for column in columns]
    assert np.mean(small) == pytest.approx(0.05, abs=4 * np.sqrt(0.05 * 0.95 / len(small)))


def test_it_finds_lines_circles_and_waves_and_sources_move_together():
    rng = np.random.default_rng(3)
    x = rng.standard_normal(500)
    test = RankTest(Rows(500), 199, 0)
    for y in (0.3 * x, np.cos(3 * x), x**2):
        assert test.p_value(coded(read(x), rng), coded(read(y + rng.standard_normal(500) / 2), rng)) <= 0.01
    source = np.arange(500) // 10
    u, v = (coded(read(rng.standard_normal(50)[source] + 1e-3 * rng.standard_normal(500)), rng) for _ in "uv")
    assert test.p_value(u, v) < 0.01
    assert RankTest(read_rows(500, groups=source), 199, 0).p_value(u, v) > 0.05


def test_the_same_on_the_command_line(tmp_path, monkeypatch, capsys):
    from ssl_mi.app.main import main

    monkeypatch.chdir(tmp_path)
    rows = zip(TABLE["x"], TABLE["y"], TABLE["label"], strict=True)
    lines = ["x,y,label,who", *(f"{x},{y},{c},{i // 5}" for i, (x, y, c) in enumerate(rows))]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    monkeypatch.setattr("sys.argv", ["ssl-mi", "estimate", "t.csv", "--matrix", "--x-columns", "x,y,label", "--json"])
    assert main() in (0, None)
    pairs = json.loads(capsys.readouterr().out)["pairs"]
    expected = mi_matrix({name: TABLE[name] for name in ("x", "y", "label")})
    assert [p["nats"] for p in pairs] == pytest.approx([row["nats"] for row in expected.rows()], rel=1e-9)
    asked = ["--matrix", "--groups-column", "who", "--out", "p.csv", "--picture", "p.png"]
    monkeypatch.setattr("sys.argv", ["ssl-mi", "estimate", "t.csv", *asked])
    assert main() in (0, None)
    assert "who" not in (tmp_path / "p.csv").read_text()
    assert (tmp_path / "p.png").exists()
    for wrong in (
        ["--out", "p.csv"],
        ["--matrix", "--bits"],
        ["--matrix", "--picture", "p.txt"],
        ["--matrix", "t.csv"],
    ):
        monkeypatch.setattr("sys.argv", ["ssl-mi", "estimate", "t.csv", *wrong])
        with pytest.raises(SystemExit) as left:
            raise SystemExit(main())
        assert left.value.code == 2
