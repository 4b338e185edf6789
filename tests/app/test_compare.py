"""Runs are grouped by what differs, seeds are pooled, and what diverged or stopped enters no mean."""

import csv
import json
import math
import re

import numpy as np
import pytest
from scipy.stats import kendalltau

from ssl_mi.app.comparison import compare, kendall, summarise
from ssl_mi.app.comparison_tables import escaped
from ssl_mi.app.main import main
from ssl_mi.app.run_folders import find_runs

CONFIG = """\
seed: {seed}
run_dir: {folder}
objective:
  _target_: ssl_mi.objectives.{objective}
  {own}
optimizer:
  lr: {lr}
evaluation:
  seed: {seed}
"""
OWN = {"SimCLR": "temperature: 0.5", "VICReg": "variance: 25"}


def run(folder, seed, nats, probe, objective="SimCLR", lr=0.001, ended="complete", losses=(3.0, 2.0)):
    folder.mkdir(parents=True)
    shared = {"split": "test", "encoder": "trained", "epoch": 2, "n": 100, "note": ""}
    rows = [
        {**shared, "metric": "mi_ksg_cca4_nats", "quantity": "I by KSG", "value": nats, "headline": "ksg_nats"},
        {**shared, "metric": "linear_probe_accuracy", "quantity": "probe", "value": probe, "headline": "linear_probe"},
        {**shared, "metric": "alignment", "quantity": "alignment", "value": probe / 2, "headline": ""},
    ]
    config = CONFIG.format(seed=seed, folder=folder, objective=objective, own=OWN[objective], lr=lr)
    history = [{"epoch": e, "train/loss": loss} for e, loss in enumerate(losses, 1)]
    document = {"rows": rows, "ended": ended, "seconds": 3.0, "seed": seed, "config": config, "history": history}
    (folder / "report.json").write_text(json.dumps({**document, "objective": objective.lower(), "commit": "c"}))
    return folder


@pytest.fixture
def runs(tmp_path):
    for seed, (a, b) in enumerate([(1.0, 1.3), (2.0, 2.1), (3.0, 3.5)]):
        run(tmp_path / f"s{seed}", seed, a, 0.5 + a / 10)
        run(tmp_path / f"v{seed}", seed, b, 0.5 + b / 10, "VICReg")
    return tmp_path


def test_a_report_stands_for_its_run_and_another_file_for_none(runs):
    (runs / "notes.txt").write_text("mine")
    assert [entry.folder for entry in find_runs([runs / "s0" / "report.json"])] == [runs / "s0"]
    with pytest.raises(ValueError, match=r"notes\.txt holds no run"):
        find_runs([runs / "notes.txt"])


def test_runs_are_grouped_by_what_differs_but_for_seeds_and_folders(runs):
    found = compare(find_runs([runs]))
    assert [(group.name, len(group.measured)) for group in found.groups] == [
        ("objective=SimCLR", 3),
        ("objective=VICReg", 3),
    ]
    run(runs / "other", 0, 1.0, 0.5, lr=0.1)
    names = {group.name for group in compare(find_runs([runs])).groups}
    assert "objective=SimCLR, optimizer.lr=0.1" in names


def test_means_and_differences_are_those_of_student_paired_by_seed(runs):
    found = compare(find_runs([runs]))
    first, second = found.groups
    own = found.summary(first, "ksg_nats")
    # Of 1, 2, 3: sd 1; t(0.975, 2) = 4.30265.
    assert (own.n, own.mean, own.sd) == (3, 2.0, 1.0)
    assert own.high - own.mean == pytest.approx(4.30265 / math.sqrt(3), rel=1e-5)
    apart = found.difference(second, first, "ksg_nats")
    values = np.array([0.3, 0.1, 0.5])
    assert apart.mean == pytest.approx(0.3)
    assert apart.sd == pytest.approx(values.std(ddof=1))
    # Paired, the differences vary by 0.2 and not by the seeds' 1.
    assert apart.high - apart.low < 0.5 * (own.high - own.low)


def test_a_run_that_diverged_or_stopped_is_named_and_enters_no_mean(runs):
    run(runs / "s3", 3, 99.0, 0.1, losses=(3.0, 5e8))
    run(runs / "s4", 4, 99.0, 0.1, ended="stopped: interrupted")
    (runs / "s5" / ".hydra").mkdir(parents=True)
    found = compare(find_runs([runs]))
    assert found.summary(found.groups[0], "ksg_nats").mean == 2.0
    said = " ".join(found.remarks)
    for name, word in (("s3", "diverged"), ("s4", "stopped"), ("s5", "left out")):
        assert re.search(rf"/{name} (is )?{word}", said)


def test_one_seed_has_no_interval():
    assert math.isnan(summarise([1.0]).low)
    assert summarise([]).n == 0


def test_kendalls_tau_is_one_where_both_rise_and_its_interval_holds_it():
    rising = [[(float(i), i**2 / 7)] for i in range(12)]
    assert kendall(rising).tau == 1
    assert math.isnan(kendall(rising).low)  # every resample rises too, which is no certainty
    nearly = [*rising, [(12.0, 10.0)], [(13.0, 30.0)]]
    assert kendall(nearly).low < kendall(nearly).tau < 1 == kendall(nearly).high
    assert math.isnan(kendall([[(0.0, 1.0), (1.0, 0.0), (2.0, 2.0), (3.0, 1.5)]]).low)  # four runs
    rng = np.random.default_rng(0)
    noise = kendall([[tuple(point)] for point in rng.standard_normal((40, 2))])
    assert noise.low < 0 < noise.high
    some = np.round(rng.standard_normal((30, 2)), 1)  # with ties
    assert kendall([list(map(tuple, some))]).tau == pytest.approx(kendalltau(*some.T).statistic)
    assert math.isnan(kendall([[(1.0, 1.0)], [(1.0, 2.0)], [(1.0, 3.0)]]).tau)  # x never changes


def test_tables_and_a_vector_figure_are_written_where_asked_and_nowhere_else(runs, monkeypatch, capsys):
    (runs / "here").mkdir()
    monkeypatch.chdir(runs / "here")
    assert main(["compare", f"{runs}/s*", f"{runs}/v*"]) == 0
    said = capsys.readouterr().out
    assert "nothing was written" in said
    assert list((runs / "here").iterdir()) == []
    assert max(map(len, said.splitlines()[:8])) <= 80
    assert main(["compare", str(runs), "--out", "cmp"]) == 0
    folder = runs / "here" / "cmp"
    assert {path.name for path in folder.iterdir()} == {f"comparison.{e}" for e in ("md", "csv", "tex", "pdf", "svg")}
    with (folder / "comparison.csv").open() as file:
        rows = {(r["group"], r["metric"]): r for r in csv.DictReader(file)}
    assert float(rows["objective=SimCLR", "ksg_nats"]["mean"]) == 2.0
    assert float(rows["objective=VICReg", "alignment"]["difference"]) == pytest.approx(0.015)
    tex = (folder / "comparison.tex").read_text()
    assert all(word in tex for word in ("\\toprule", "\\midrule", "\\bottomrule", "$2.000 \\pm 2.484$"))
    assert (folder / "comparison.pdf").read_bytes().startswith(b"%PDF")


def test_groups_with_long_names_are_told_apart_in_the_terminal(runs, capsys):
    for place in list(runs.iterdir()):
        text = (place / "report.json").read_text()
        rate = 0.001 if place.name.endswith("0") else 0.0005
        (place / "report.json").write_text(text.replace("lr: 0.001", f"lr: {rate}"))
    run(runs / "first", 0, 9.0, 0.5, lr=1e6, losses=(3.0, 5e8))
    assert main(["compare", str(runs / "first"), str(runs)]) == 0
    lines = capsys.readouterr().out.splitlines()
    legend = [line for line in lines if re.match(r"\[\d\] objective", line)]
    assert len(legend) == 5
    assert len(set(legend)) == 5
    assert {line.split()[0] for line in lines if re.match(r"\[\d\]  ", line)} == {"[2]", "[3]", "[4]", "[5]"}
    # What differences are to has runs of its own, and what is said begins with the path as it is.
    assert any(line.startswith("Differences are to [2]") for line in lines)
    assert any(line.startswith(f"{runs}/first diverged") for line in lines)


def test_latex_prints_names_as_they_are():
    assert escaped("a_b & 5% {x}") == r"a\_b \& 5\% \{x\}"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["compare", "nowhere"], "nowhere holds no run"),
        (["compare", "RUNS", "--metric", "speed"], "no run has measured speed; there are: ksg_nats"),
        (["compare", "RUNS", "--reference", "BYOL"], "--reference BYOL fits 0 groups"),
        (["runs", "nowhere"], "nowhere holds no run"),
        (["report", "nowhere"], "nowhere holds no run"),
    ],
)
def test_what_is_not_there_is_named(runs, capsys, words, said):
    with pytest.raises(SystemExit) as raised:
        main([str(runs) if word == "RUNS" else word for word in words])
    assert raised.value.code == 2
    assert said in capsys.readouterr().err


def test_runs_are_listed_with_state_and_size(runs, capsys):
    run(runs / "s3", 3, 99.0, 0.1, losses=(3.0, 5e8))
    (runs / "s5" / ".hydra").mkdir(parents=True)
    assert main(["runs", str(runs)]) == 0
    said = capsys.readouterr().out
    line = next(line for line in said.splitlines() if "/s0 " in line)
    assert re.search(r"complete +simclr +2 +1.000 +0.600 +[\d.]+ k?B", line)
    assert re.search(r"/s3 +diverged", said)
    assert re.search(r"/s5 +unfinished", said)
    assert main(["runs", str(runs), "--state", "diverged"]) == 0
    assert "1 runs" in capsys.readouterr().out


def test_a_damaged_report_is_named_and_hides_no_other_run(runs, capsys):
    folder = sorted(path.parent for path in runs.rglob("report.json"))[0]
    (folder / "report.json").write_text("{")
    assert main(["runs", str(runs)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "report.json is not JSON" in printed
    assert printed.count(" complete ") > 2
    assert any("is left out" in line and "is not JSON" in line for line in compare(find_runs([runs])).remarks)


def test_reports_are_written_again(runs, capsys):
    assert main(["report", str(runs / "s0")]) == 0
    assert (runs / "s0" / "report.html").is_file()
    assert "written: " in capsys.readouterr().out
