import argparse
import math
import sys

import numpy as np
import pytest

from ssl_mi.information.apps import benchmark
from ssl_mi.information.apps.benchmark_report import scores, summarise
from ssl_mi.information.apps.benchmark_rows import BenchmarkRow, load, run, samples
from ssl_mi.information.apps.catalogue import find_estimator
from ssl_mi.information.core.estimate import Estimate
from ssl_mi.information.distributions.suites import SUITES, find_task

NORMAL, UNIFORM = find_task("1v1-normal-0.75"), find_task("normal_cdf-1v1-normal-0.75")


def main(arguments):
    parser = argparse.ArgumentParser()
    benchmark.configure(parser)
    return benchmark.run(parser.parse_args(arguments))


class Counted:
    """Knows the truth, and how often it was asked."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, x, y):
        self.calls += 1
        return Estimate(value=0.5, ci=(0.4, 0.6), ci_level=0.95, se=0.05, warnings=("rough", "small"))


def row(estimator, task, seed, true, value):
    return BenchmarkRow(estimator, task, 100, seed, 1, 1, true, value, None, None, None, None, "", 1.0, "", "")


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path):
    out, estimator = tmp_path / "deep" / "rows.csv", Counted()
    first = run({"half": estimator}, [NORMAL], 50, range(2), out)
    again = run({"half": estimator}, [NORMAL, UNIFORM], 50, range(3), out)
    assert estimator.calls == 2 + 4
    assert [r for r in again if r.key in {f.key for f in first}] == first
    assert sorted(load(out)) == sorted(again)
    assert len(again) == 6


def test_a_torn_last_line_is_computed_again(tmp_path):
    out, estimator = tmp_path / "rows.csv", Counted()
    rows = run({"half": estimator}, [NORMAL], 50, range(2), out)
    out.write_bytes(out.read_bytes()[:-40])
    assert len(load(out)) == 1
    assert [r.key for r in run({"half": estimator}, [NORMAL], 50, range(2), out)] == [r.key for r in rows]
    assert len(load(out)) == 2


def test_a_row_keeps_all_that_the_estimate_says(tmp_path):
    out = tmp_path / "rows.csv"
    run({"half": Counted()}, [NORMAL], 50, [7], out)
    (kept,) = load(out)
    assert kept._replace(seconds=0.0) == BenchmarkRow(
        "half",
        NORMAL.name,
        50,
        7,
        1,
        1,
        NORMAL.mi,
        0.5,
        0.05,
        0.4,
        0.6,
        None,
        "point estimate",
        0.0,
        "rough | small",
        "",
    )


def test_a_refusal_is_a_row_with_its_reason_and_counts_as_failed():
    def refuses(x, y):
        raise ValueError("x is too short")

    (failed,) = run({"refuses": refuses}, [NORMAL], 50, range(1))
    assert (failed.value, failed.error) == (None, "ValueError: x is too short")
    assert scores([failed])["refuses"].failed == 1
    assert math.isnan(scores([failed])["refuses"].mae)


def test_every_estimator_is_given_the_same_rows_and_every_seed_others():
    (x, _), (same, _) = (samples(NORMAL, 20, 0) for _ in range(2))
    assert (x == same).all()
    assert (x != samples(NORMAL, 20, 1)[0]).all()


def test_scores_by_hand():
    rows = [
        row("a", "one", 0, 1.0, 1.1),
        row("a", "one", 1, 1.0, 0.7),
        row("a", "two", 0, 2.0, 2.0),
        row("a", "two", 1, 2.0, 1.0),
    ]
    cell = summarise(rows)["one", "a"]
    assert (cell.mean, cell.error, cell.bias) == pytest.approx((0.9, 0.2, -0.1))
    assert cell.spread == pytest.approx(np.std([1.1, 0.7], ddof=1))
    score = scores(rows)["a"]
    assert (score.tasks, score.worst_task, score.failed) == (2, "two", 0)
    assert (score.mae, score.worst, score.highest) == pytest.approx((0.35, 0.5, 0.1))


def test_estimators_are_found_by_name_with_their_settings():
    assert find_estimator("ksg:k=10,variant=2").keywords == {"k": 10, "variant": 2}
    assert find_estimator("mine:critic=concat").keywords == {"bound": "mine", "critic": "concat"}
    assert find_estimator("math:hypot") is math.hypot
    assert find_estimator("builtins:round:ndigits=2").keywords == {"ndigits": 2}
    assert benchmark.split_names("ksg:k=10,variant=2,cca_mi;mine") == ["ksg:k=10,variant=2", "cca_mi", "mine"]


@pytest.mark.parametrize("spec", ["kgs", "no.such.file:f", "math:no_such"])
def test_an_unknown_estimator_is_refused_by_name(spec):
    with pytest.raises(ValueError, match="no estimator"):
        find_estimator(spec)


def test_a_csv_of_something_else_is_left_alone(tmp_path):
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="choose another file"):
        run({"half": Counted()}, [NORMAL], 50, range(1), other)
    assert other.read_text() == "a,b\n1,2\n"


def test_the_command_writes_rows_a_table_and_a_picture(tmp_path, capsys):
    out, picture = tmp_path / "rows.csv", tmp_path / "rows.png"
    arguments = ["--estimators", "ksg:k=5,cca_mi", "--match", "^1v1-(normal|bimodal)", "-n", "300", "--seeds", "2"]
    assert main([*arguments, "--out", str(out), "--picture", str(picture)]) == 0
    shown = capsys.readouterr().out
    assert "1v1-bimodal-0.75" in shown
    assert "mean absolute error" in shown
    assert len(load(out)) == 8
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_command_answers_mistakes_with_a_message_and_status_two(capsys):
    assert main(["--estimators", "ksg", "--tasks", "1v1-norml-0.75"]) == 2
    assert "nearest: 1v1-normal-0.75" in capsys.readouterr().err


def test_the_command_never_starts_bare_and_writes_nothing_unasked(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        main([])
    assert left.value.code == 2
    assert "--estimators ksg" in capsys.readouterr().err
    assert main(["--estimators", "cca_mi", "--tasks", NORMAL.name, "-n", "50", "--seeds", "1"]) == 0
    assert "--out FILE.csv keeps them" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_an_estimator_of_ones_own_that_fails_is_named_with_its_first_reason(tmp_path, monkeypatch, capsys):
    (tmp_path / "my_failing.py").write_text("def fails(x, y):\n    return [1.0][len(x)]\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    assert main(["--estimators", "my_failing:fails", "--tasks", NORMAL.name, "-n", "50", "--seeds", "2"]) == 0
    assert "my_failing:fails failed 2 times; first: IndexError: list index" in capsys.readouterr().err


def test_estimators_are_held_to_the_samples_of_the_suite(capsys):
    quick = ["--estimators", "conditional_mutual_information:permutations=0", "-n", "200", "--seeds", "1"]
    assert main(["--suite", "conditional", "--match", "linear-1$", *quick]) == 0
    assert "conditional-linear-1" in capsys.readouterr().out
    assert main([*quick, "--match", "1v1-normal"]) == 2
    assert "takes x, y and z, and 1v1-normal-0.75 has no z" in capsys.readouterr().err
    assert main(["--suite", "conditional", "--estimators", "ksg"]) == 2
    assert "ksg takes x and y, and conditional-linear-1 has a z" in capsys.readouterr().err


def test_the_suites_of_the_help_are_those_there_are():
    assert set(benchmark.SUITES) == set(SUITES)


def test_the_command_lists_tasks_with_their_truth(capsys):
    assert main(["--suite", "more", "--match", "vmf", "--list"]) == 0
    assert "1.99573  vmf-3-10" in capsys.readouterr().out


def test_coverage_counts_runs_without_a_warning_and_warnings_those_far_off():
    def run(seed, value, low, high, warnings="", true=1.0, p_value=None):
        plain = row("a", f"sharing {true}", seed, true, value)
        return plain._replace(low=low, high=high, warnings=warnings, p_value=p_value)

    rows = [
        run(0, 1.0, 0.9, 1.1),
        run(1, 0.95, 0.8, 0.99),  # misses
        run(2, 0.7, 0.6, 0.8, "few rows"),  # far off and says so
        run(3, 1.3, 1.2, 1.4),  # far off, says nothing, and misses
        run(4, 0.0, -0.1, 0.1, true=0.0, p_value=0.01),
        run(5, 0.0, -0.1, 0.1, true=0.0, p_value=0.5),
    ]
    score = scores(rows)["a"]
    assert (score.covered, score.warned, score.small_p) == ("60.0% of 5", "50.0% of 2", "50.0% of 2")
    assert scores([rows[1]._replace(low=None, high=None)])["a"].covered == "-"
