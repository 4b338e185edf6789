"""What a run leaves behind can be parsed, read and looked at, however the run ended."""

import json
import math
import re

import numpy as np
import pytest
from PIL import Image
from report_rows import HISTORY, complete_run, row

from ssl_mi import report
from ssl_mi.evaluation import probes
from ssl_mi.evaluation.accuracy import wilson
from ssl_mi.evaluation.mutual_information import MutualInformation
from ssl_mi.evaluation.pictures import Pictures
from ssl_mi.evaluation.probes import KNN, LinearProbe
from ssl_mi.report.environment import PACKAGES
from ssl_mi.report.plots import draw_accuracies, draw_map, draw_views
from ssl_mi.report.tables import short_table

NAN = math.nan


FACTS = {"ended": "complete", "seconds": 61.5, "seed": 7, "images": {"train": 4000, "test": None}}


def written(folder, rows, history=HISTORY, facts=FACTS):
    evaluations = [MutualInformation({}), KNN(), LinearProbe(), Pictures(folder)]
    plots = list(dict.fromkeys(plot for evaluation in evaluations for plot in evaluation.plots(rows, folder)))
    told = {**facts, **report.environment(folder)}
    path = report.write(folder, "shapes, seed 7", told, history, rows, "seed: 7\n", plots).short
    text = (folder / "report.json").read_text()

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    return path.read_text(), json.loads(text, parse_constant=refuse)


def pictures(folder):
    return {path.name for path in folder.glob("*.png")}


def test_the_json_holds_what_a_number_needs_to_be_repeated(tmp_path):
    _, document = written(tmp_path, complete_run())
    assert {"commit", "versions", "python", "machine", "seed", "config", "ended", "rows", "history"} <= set(document)
    assert document["seed"] == 7
    assert document["config"] == "seed: 7\n"
    assert set(PACKAGES) == set(document["versions"])
    assert document["versions"]["numpy"] == np.__version__
    assert len(document["rows"]) == len(complete_run())
    assert document["rows"][0]["value"] == 0.0
    assert document["rows"][0]["ceiling"] is None  # NaN: there is none
    assert [entry["epoch"] for entry in document["history"]] == [1, 2, 3]


def test_infinities_become_null_at_any_depth(tmp_path):
    facts = {"a": [1.0, math.inf, {"b": (NAN, -math.inf)}], "c": np.float64(2.5)}
    _, document = written(tmp_path, [], facts=facts)
    assert document["a"] == [1.0, None, {"b": [None, None]}]
    assert document["c"] == 2.5


def test_the_commit_is_that_of_the_code_or_says_that_there_is_none(tmp_path):
    import subprocess

    assert report.environment(tmp_path)["commit"] == "unknown: not a git checkout"
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert report.environment(tmp_path)["commit"] == head
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "result").write_text("x")
    assert report.environment(tmp_path)["commit"] == head
    (tmp_path / "new").write_text("x")
    assert report.environment(tmp_path)["commit"] == f"{head} with uncommitted changes"


def test_the_short_page_is_one_screen_of_results_with_links(tmp_path):
    page, _ = written(tmp_path, complete_run())
    lines = page.splitlines()
    assert lines[0] == "# shapes, seed 7"
    assert len(lines) < 50
    assert any(line.startswith("**complete**") for line in lines)
    header = next(line for line in lines if line.startswith("| test split, epoch 10"))
    columns = ["trained (95%)", "untrained", "learned (95%)"]
    assert [cell.strip() for cell in header.strip("|").split("|")][1:] == columns
    knn = next(line for line in lines if line.startswith("| kNN accuracy"))
    low, high = wilson(0.8, 1000)
    assert [cell.strip() for cell in knn.strip("|").split("|")][1:3] == [f"0.800 ({low:.3f}..{high:.3f})", "0.500"]
    for name in ("training.png", "information.png", "probes.png", "report.html", "report.json", "config.yaml"):
        assert f"]({name})" in page
    assert "views.png" not in page  # nobody drew one
    assert "yaml\n" not in page
    assert (tmp_path / "config.yaml").read_text() == "seed: 7\n"


def test_pictures_exist_and_show_something(tmp_path):
    written(tmp_path, complete_run())
    views = [np.random.default_rng(v).random((4, 8, 8, 3)) for v in range(2)]
    draw_views(views, tmp_path / "views.png")
    h = np.random.default_rng(0).standard_normal((40, 5))
    draw_map(h, np.arange(40) % 3, ("a", "b", "c"), tmp_path / "map.png")
    draw_map(h, None, (), tmp_path / "map_without_labels.png")
    expected = {"training.png", "information.png", "probes.png", "views.png", "map.png", "map_without_labels.png"}
    assert pictures(tmp_path) == expected
    for name in expected:
        with Image.open(tmp_path / name) as image:
            assert np.asarray(image.convert("L")).std() > 1
    page, _ = written(tmp_path, complete_run())
    assert "](views.png)" in page
    assert "](map.png)" in page


def test_grey_views_are_drawn_too(tmp_path):
    draw_views([np.random.default_rng(0).random((3, 8, 8, 1))], tmp_path / "grey.png")
    assert pictures(tmp_path) == {"grey.png"}


def test_sentences_are_drawn_below_their_pictures(tmp_path):
    views = np.random.default_rng(0).random((2, 8, 8, 3))
    draw_views([views, ["a $5 star of many long words", "a square"]], tmp_path / "said.png")
    draw_views([views, ["", ""]], tmp_path / "unsaid.png")
    said, unsaid = (np.asarray(Image.open(tmp_path / f"{name}.png").convert("L")) for name in ("said", "unsaid"))
    ink = (said != unsaid).any(1).nonzero()[0]
    assert ink.min() > 0.4 * len(said)  # below the pictures
    assert len(ink) > 10


@pytest.mark.parametrize("accuracy", [0.0, 1.0])
def test_the_plot_of_a_perfect_or_hopeless_probe_is_drawn(tmp_path, accuracy):
    for n in (7, 100, 333, 1000):
        low, high = wilson(accuracy, n)
        rows = [
            row(e, "val", "trained", "knn_accuracy", accuracy, evaluation="probes", low=low, high=high) for e in (0, 5)
        ]
        assert draw_accuracies(rows, probes.PANEL, tmp_path / "probes.png") is not None


def test_a_run_that_is_evaluated_at_the_end_alone_has_its_plot_too(tmp_path):
    rows = [r for r in complete_run() if r["split"] == "test"]
    page, _ = written(tmp_path, rows)
    assert "](probes.png)" in page
    assert "](information.png)" not in page  # one epoch is no curve


def test_a_run_that_stopped_before_its_first_epoch_leaves_a_report(tmp_path):
    page, document = written(tmp_path, [], history=[], facts={"ended": "stopped: ValueError: no images"})
    assert "Nothing was evaluated." in page
    assert "**stopped**: ValueError: no images" in page
    assert document["rows"] == document["history"] == []
    assert pictures(tmp_path) == set()


def test_an_interrupted_run_shows_its_last_validation_reading(tmp_path):
    rows = [r for r in complete_run() if r["split"] == "val" and r["epoch"] <= 5]
    page, _ = written(tmp_path, rows, history=HISTORY[:1], facts={"ended": "stopped: interrupted"})
    assert "| val split, epoch 5" in page
    assert "training.png" in pictures(tmp_path)


# The closing table


def test_the_table_is_of_the_test_split_where_there_is_one():
    header, lines = report.closing_table(complete_run())
    assert header[0] == "on the test split, epoch 10"
    assert [line[0] for line in lines] == ["kNN accuracy", "I(Z_X; Z_Y) of CCA(2) (nats)"]
    by = dict(zip(header, lines[1], strict=True))
    assert by["trained"] == "1.100"
    assert by["random"] == "0.200"
    assert by["pixels"] == ""
    assert by["95% interval"] == "1.000 .. 1.200"
    assert by["if independent"] == by["ceiling"] == by["p"] == ""
    assert by["n"] == "1000"


def test_a_test_reading_of_another_epoch_is_not_mixed_in():
    rows = [r for r in complete_run() if r["split"] == "val"]
    rows.append(row(5, "test", "trained", "knn_accuracy", 0.9, evaluation="probes"))
    header, lines = report.closing_table(rows)
    assert header[0] == "on the val split, epoch 10"
    assert "0.900" not in [cell for line in lines for cell in line]


def compared(epoch, split, value, first=NAN, previous=NAN):
    changes = {"since_first": first, "since_first_low": first - 0.1, "since_first_high": first + 0.1}
    changes |= {"since_previous": previous, "since_previous_low": previous - 0.2, "since_previous_high": previous + 0.2}
    return row(epoch, split, "trained", "mi_ksg_cca2_nats", value, low=value - 1, high=value + 1, **changes)


def test_what_was_learned_stands_beside_the_test_reading_with_its_paired_interval():
    header, lines = report.closing_table([compared(4, "test", 1.5, first=0.9)])
    assert header[-1] == "learned (trained - random)"
    assert lines[0][-1] == "+0.900 (0.800 .. 1.000)"
    header, _ = report.closing_table([compared(4, "val", 1.5, first=0.9)])
    assert header[-1] == "since the first"
    assert "n" in report.closing_table(complete_run())[0][-1]  # nothing was compared, nothing is shown


def test_the_page_tells_what_changed_from_evaluation_to_evaluation(tmp_path):
    rows = [compared(2, "val", 1.5, 0.5, -0.25), compared(0, "val", 1.0), compared(1, "val", 1.75, 0.75, 0.75)]
    written(tmp_path, [*rows, compared(2, "test", 1.4, first=0.4)])
    page = (tmp_path / "report.html").read_text()
    lines = page[page.index('<section id="changes"') :].partition("</section>")[0].split("<tr>")[2:]
    cells = [re.findall("<td>(.*?)</td>", line) for line in lines]
    assert cells[:3] == [
        ["mi_ksg_cca2_nats", "0", "1.000 (0.000 .. 2.000)", "", ""],
        ["mi_ksg_cca2_nats", "1", "1.750 (0.750 .. 2.750)", "+0.750 (0.650 .. 0.850)", "+0.750 (0.550 .. 0.950)"],
        ["mi_ksg_cca2_nats", "2", "1.500 (0.500 .. 2.500)", "+0.500 (0.400 .. 0.600)", "-0.250 (-0.450 .. -0.050)"],
    ]
    assert report.change_table(complete_run()) == ([], [])


def test_no_rows_no_table():
    assert report.closing_table([]) == ([], [])


def test_pixels_alone_make_a_table():
    header, lines = report.closing_table([row(1, "test", "pixels", "knn_accuracy", 0.3, "kNN", "probes", n=9)])
    assert header[1] == "pixels"
    assert lines[0][:2] == ["kNN", "0.300"]


@pytest.mark.slow
def test_umap_keeps_two_clusters_apart_where_it_is_installed():
    pytest.importorskip("umap")
    from ssl_mi.report.maps import two_dimensional

    x = np.random.default_rng(0).normal(size=(60, 5)) + 30 * (np.arange(60) % 2)[:, None]
    xy = two_dimensional(x)["umap"]
    first, second = xy[::2], xy[1::2]
    apart = np.linalg.norm(first.mean(0) - second.mean(0))
    assert xy.shape == (60, 2)
    assert apart > 3 * max(side.std(0).max() for side in (first, second))


def test_what_was_not_measured_of_the_trained_encoder_is_not_shown_as_its():
    """A run that is stopped in its final evaluation has measured the untrained encoder only."""
    rows = [row(3, "test", "random", "knn_accuracy", 0.3, "kNN", "probes", n=9)]
    _, lines = short_table(rows, {})
    assert lines == [["kNN", "", "0.300", ""]]
