"""What all studies share: intervals, stopping and going on, and what is left in the folder."""

import math

import numpy as np
import pytest

import study as studies
from study import Study, Verdict, over_seeds, pick

measured = []


def measure(job, seed, quick):
    measured.append((job["strength"], seed))
    return [{"factor": f, "nats": job["strength"] + 0.1 * seed + i} for i, f in enumerate(("none", "hue"))]


def draw(rows, path):
    path.write_bytes(b"a picture")


def verdicts(rows):
    gain = np.subtract(pick(rows, "nats", strength=0.5, factor="hue"), pick(rows, "nats", strength=0, factor="hue"))
    return [over_seeds("a strong one keeps more | nats", gain + [0, 0.01, *[0] * (len(gain) - 2)], above=0.4)]


STUDY = Study(
    "toy",
    "Is more more?",
    "After nobody.",
    jobs=lambda quick: [{"strength": 0}, {"strength": 0.5}],
    measure=measure,
    verdicts=verdicts,
    picture=draw,
    seen=lambda rows: f"{len(rows)} rows.",
)


@pytest.fixture(autouse=True)
def nothing_measured():
    measured.clear()


def test_an_interval_over_seeds_is_students():
    # mean 2, sd 1, n 3: t_{0.975, 2} = 4.303, half = 4.303 / sqrt(3)
    verdict = over_seeds("x", [1.0, 2.0, 3.0], above=-0.5)
    assert (verdict.value, verdict.low, verdict.high) == pytest.approx((2.0, 2 - 2.48414, 2 + 2.48414), abs=1e-4)
    assert verdict.passed
    assert not over_seeds("x", [1.0, 2.0, 3.0], above=-0.4).passed
    assert not over_seeds("x", [1.0, 2.0, 3.0], above=-0.5, below=4.4).passed
    assert str(Verdict("x", False, 2, 1, 3)) == "FAIL  x: 2.000 (1.000 .. 3.000)"


@pytest.mark.parametrize("values", [[1.0], [1.0, math.nan], []])
def test_one_seed_and_no_number_make_no_interval(values):
    with pytest.raises(ValueError, match="'more': an interval over seeds needs two or more finite values"):
        over_seeds("more", values)


def test_a_study_leaves_rows_a_picture_and_a_page_that_says_how_they_came_to_be(tmp_path, capsys):
    assert studies.main(STUDY, ["--seeds", "3", "--out", str(tmp_path)]) == 0
    assert measured == [(0, 0), (0.5, 0), (0, 1), (0.5, 1), (0, 2), (0.5, 2)]
    rows = studies.read_rows(tmp_path / "results.csv")
    assert len(rows) == 12
    assert rows[3] == rows[3] | {"strength": 0.5, "seed": 0, "factor": "hue", "nats": 1.5, "seconds": 0.0}
    assert (tmp_path / "picture.png").read_bytes() == b"a picture"
    page = (tmp_path / "README.md").read_text()
    for said in (
        *("# Is more more?", "After nobody.", "12 rows.", "| PASS | a strong one keeps more \\| nats | 0.503 |"),
        *("--seeds 3`", "**commit**: ", "**seeds**: 0, 1, 2", "**seconds**: 0", "cores", "torch 2"),
    ):
        assert said in page
    assert "PASS  a strong one keeps more" in capsys.readouterr().out


def test_a_study_that_was_stopped_goes_on_and_a_finished_one_measures_nothing(tmp_path, capsys):
    def stopped(job, seed, quick):
        if seed == 1 and job["strength"] == 0.5:
            raise KeyboardInterrupt
        return measure(job, seed, quick)

    arguments = ["--out", str(tmp_path)]
    assert studies.main(Study(**vars(STUDY) | {"measure": stopped}), arguments) == 1
    assert f"goes on from {tmp_path}/results.csv" in capsys.readouterr().out
    assert not (tmp_path / "README.md").exists()  # nothing is judged on half of the rows
    assert measured == [(0, 0), (0.5, 0), (0, 1)]
    studies.main(STUDY, arguments)
    assert measured[3:] == [(0.5, 1), (0, 2), (0.5, 2)]
    once = (tmp_path / "results.csv").read_text()
    studies.main(STUDY, arguments)
    assert len(measured) == 6
    assert (tmp_path / "results.csv").read_text() == once
    # Fewer seeds than there are: the verdict is that of those asked for.
    studies.main(STUDY, ["--seeds", "2", *arguments])
    assert "**seeds**: 0, 1\n" in (tmp_path / "README.md").read_text()


def test_what_was_measured_quickly_does_not_stand_for_the_study(tmp_path):
    studies.main(STUDY, ["--quick", "--seeds", "2", "--out", str(tmp_path)])
    assert len(measured) == 4
    assert "the numbers mean nothing" in (tmp_path / "README.md").read_text()
    studies.main(STUDY, ["--quick", "--seeds", "2", "--out", str(tmp_path)])
    assert len(measured) == 4
    studies.main(STUDY, ["--seeds", "2", "--out", str(tmp_path)])
    assert len(measured) == 8
    assert "the numbers mean nothing" not in (tmp_path / "README.md").read_text()


def test_a_claim_that_fails_is_the_exit_status(tmp_path, capsys):
    hopeless = Study(**vars(STUDY) | {"verdicts": lambda rows: [over_seeds("more", [0.1, -0.1], above=0)]})
    assert studies.main(hopeless, ["--out", str(tmp_path)]) == 1
    assert "FAIL  more: 0.000" in capsys.readouterr().out
    assert "**FAIL**" in (tmp_path / "README.md").read_text()


def test_one_seed_is_refused_before_anything_is_trained(tmp_path, capsys):
    with pytest.raises(SystemExit):
        studies.main(STUDY, ["--seeds", "1", "--out", str(tmp_path)])
    assert "two or more" in capsys.readouterr().err
    assert not measured


def test_a_pilot_is_no_seed_of_an_interval(tmp_path, capsys):
    with pytest.raises(SystemExit):
        studies.main(Study(**vars(STUDY) | {"pilots": 1}), ["--seeds", "2", "--out", str(tmp_path)])
    assert "two or more beside 1 for the pilot" in capsys.readouterr().err
    assert not measured


def test_picking_is_one_value_a_seed_in_the_order_of_seeds():
    rows = [{"seed": 1, "a": "x", "n": 3.0}, {"seed": 0, "a": "x", "n": 2.0}, {"seed": 0, "a": "y", "n": 9.0}]
    assert pick(rows, "n", a="x") == [2.0, 3.0]
    with pytest.raises(ValueError, match="not one a seed"):
        pick(rows, "n")
    with pytest.raises(ValueError, match="0 rows"):
        pick(rows, "n", a="z")
