"""Many runs, one table and one picture."""

import csv
import json
import math
from types import SimpleNamespace

import pytest

from ssl_mi.app.main import main
from ssl_mi.app.sweep_callback import Summary
from ssl_mi.app.sweep_table import lines_of, write


def run(folder, true, captured, bound=1.0, ceiling=None, objective="infonce", overrides=()):
    """A run's folder as Run leaves it, with a validation measurement that the test measurement replaces."""
    folder.mkdir(parents=True)
    row = {"split": "test", "encoder": "trained", "epoch": 3, "low": None, "high": None, "ceiling": None, "note": ""}
    rows = [
        row | {"metric": "mi_views_nats", "value": true},
        row | {"metric": "mi_z_nats", "value": -9.0, "split": "val", "n": 100},
        row | {"metric": "mi_z_nats", "value": captured, "low": captured - 0.1, "high": captured + 0.2, "n": 2000},
        row | {"metric": "mi_z_nats", "value": 7.0, "n": 2000, "encoder": "random"},
        row | {"metric": "capture_ratio", "value": captured / true},
        row | {"metric": "mi_ksg_cca4_nats", "value": 1.4},
        row | {"metric": "mi_ksg_pca4_nats", "value": 1.3},
        row | {"metric": f"mi_bound_{objective}_nats", "value": bound, "ceiling": ceiling},
        row | {"metric": "linear_probe_accuracy", "value": 0.3, "epoch": 2},  # not of the last evaluation
    ]
    report = {"rows": rows, "ended": "complete", "seconds": 12.3, "objective": objective, "seed": 4}
    (folder / "report.json").write_text(json.dumps(report))
    (folder / ".hydra").mkdir()
    (folder / ".hydra" / "overrides.yaml").write_text("".join(f"- {word}\n" for word in overrides))


def test_a_line_holds_what_the_last_evaluation_says_of_the_trained_encoder(tmp_path):
    run(tmp_path / "0", 2.0, 1.5, bound=1.2, ceiling=4.85, overrides=["data.nats=2", "objective=infonce"])
    (line,) = lines_of([tmp_path])
    assert (line.true_nats, line.captured_nats, line.capture_ratio) == (2.0, 1.5, 0.75)
    assert (line.captured_low, line.captured_high) == pytest.approx((1.4, 1.7))
    assert (line.bound_nats, line.ceiling_nats) == (1.2, 4.85)
    assert line.ksg_nats == 1.4
    assert math.isnan(line.linear_probe)
    assert (line.objective, line.seed, line.overrides) == ("infonce", 4, "data.nats=2 objective=infonce")
    # psi(1000) = ln 1000 - 1/2000 - 1/(12 1000^2); psi(3) = 3/2 - 0.57722
    assert line.reach_nats == pytest.approx(math.log(1000) - 0.0005 - 1.5 + 0.57722, abs=1e-4)


def test_runs_come_in_the_order_of_their_numbers(tmp_path):
    for number in (10, 2, 0):
        run(tmp_path / str(number), 2.0, 1.0)
    assert [line.run for line in lines_of([tmp_path])] == ["0", "2", "10"]


def test_the_table_can_be_read_back_and_the_picture_needs_two_truths(tmp_path):
    run(tmp_path / "0", 2.0, 1.5, overrides=["data.nats=2"])
    assert [path.name for path in write(lines_of([tmp_path]), tmp_path)] == ["sweep.csv"]
    run(tmp_path / "1", 8.0, 3.0, bound=1e6, objective="mine", overrides=["data.nats=8"])  # a bound that ran away
    assert [path.name for path in write(lines_of([tmp_path]), tmp_path)] == ["sweep.csv", "staircase.png"]
    with (tmp_path / "sweep.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["objective"], float(row["captured_nats"])) for row in rows] == [("infonce", 1.5), ("mine", 3.0)]
    assert (tmp_path / "staircase.png").stat().st_size > 10_000


def test_a_stopped_sweep_leaves_what_it_has_and_a_single_run_nothing(tmp_path):
    run(tmp_path / "0", 2.0, 1.5)
    hydra = SimpleNamespace(mode=SimpleNamespace(name="RUN"), sweep=SimpleNamespace(dir=str(tmp_path)))
    Summary().on_job_end(SimpleNamespace(hydra=hydra), None)
    assert not (tmp_path / "sweep.csv").exists()
    hydra.mode.name = "MULTIRUN"
    Summary().on_job_end(SimpleNamespace(hydra=hydra), None)
    assert (tmp_path / "sweep.csv").exists()


def test_the_printed_table_leaves_out_what_all_runs_have_in_common(tmp_path, capsys):
    for number, nats in enumerate((1, 4)):
        run(tmp_path / str(number), nats, 1.0, overrides=["experiment=known/patches", f"data.nats={nats}"])
    assert main(["sweep", str(tmp_path), "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "data.nats=4" in said
    assert "known/patches" not in said


def test_folders_without_a_run_are_an_error_that_names_them(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["sweep", str(tmp_path)])
    assert f"no report.json in {tmp_path}" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "said"), [("{", "is not JSON"), ('{"rows": []}', "is not the report of a run")])
def test_what_is_no_report_is_named(tmp_path, capsys, text, said):
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(SystemExit):
        main(["sweep", str(tmp_path)])
    assert f"{tmp_path / 'report.json'} {said}" in capsys.readouterr().err


def test_nothing_is_written_unasked(tmp_path, monkeypatch, capsys):
    run(tmp_path / "runs" / "0", 2.0, 1.5)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert main(["sweep", str(tmp_path / "runs")]) == 0
    assert "nothing was written" in capsys.readouterr().out
    assert list((tmp_path / "here").iterdir()) == []
