"""What a study is: trainings over a sweep and seeds, claims with intervals, and a folder that holds it all.

    python examples/studies/NAME.py [--seeds N] [--out DIR] [--quick]

Every training adds its rows to DIR/results.csv at once, and one whose rows are there is not repeated: a study that was
stopped goes on, and one that was finished only draws and judges again. (Remove the file to begin anew.) The exit
status is 1 where a claim fails.
"""

from __future__ import annotations

import argparse
import csv
import io
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from scipy import stats

from ssl_mi import report

DOCS = Path(__file__).parents[2] / "docs"
Row = dict[str, str | int | float]  # a line of results.csv


class Verdict(NamedTuple):
    """A claim about a number, and whether its 95% interval bears it out."""

    claim: str
    passed: bool
    value: float
    low: float
    high: float

    def __str__(self) -> str:
        word = "PASS" if self.passed else "FAIL"
        return f"{word}  {self.claim}: {self.value:.3f} ({self.low:.3f} .. {self.high:.3f})"


def over_seeds(claim: str, values: Sequence[float], above: float = -math.inf, below: float = math.inf) -> Verdict:
    """The mean of one value a seed with Student's 95% interval; passed where all of that lies in (above, below).

    mean +- t_{0.975, n-1} sd / sqrt(n), sd with n - 1. For a difference of two settings give the differences seed by
    seed: what a seed does to both then cancels. ValueError for fewer than two seeds or a value that is not finite.
    """
    x = np.asarray(values, dtype=float)
    if len(x) < 2 or not np.isfinite(x).all():
        raise ValueError(f"'{claim}': an interval over seeds needs two or more finite values, got {x.tolist()}")
    mean, half = x.mean(), stats.t.ppf(0.975, len(x) - 1) * x.std(ddof=1) / math.sqrt(len(x))
    low, high = mean - half, mean + half
    return Verdict(claim, bool(above < low and high < below), float(mean), float(low), float(high))


@dataclass(frozen=True)
class Study:
    """One question, and how it is answered.

    name:     of the module in examples/studies and of the folder in docs/studies. title, about: Markdown, what is
              asked, of what, after whom.
    jobs:     quick -> what is trained at each seed, as the columns of results.csv that tell these trainings apart.
    measure:  (job, seed, quick) -> rows of what one training showed, each without the columns of the job.
    verdicts: all rows -> claims. picture: (all rows, path) draws them.
    seen:     all rows -> Markdown: what is seen in the picture, with its numbers.
    quick: a look at the machinery in a minute or less, whose numbers mean nothing.
    seeds:    how many, where the command line says nothing. pilots: the first so many of them settle what is claimed of
              the others, and are no part of a verdict.
    """

    name: str
    title: str
    about: str
    jobs: Callable[[bool], Sequence[Row]]
    measure: Callable[[Row, int, bool], Sequence[Row]]
    verdicts: Callable[[Sequence[Row]], Sequence[Verdict]]
    picture: Callable[[Sequence[Row], Path], object]
    seen: Callable[[Sequence[Row]], str]
    seeds: int = 3
    pilots: int = 0


def main(study: Study, argv: Sequence[str] | None = None) -> int:
    """The command line of a study -> its exit status."""
    from ssl_mi.app.startup import clear_errors

    parser = argparse.ArgumentParser(prog=f"python examples/studies/{study.name}.py", description=study.title)
    fewest = 2 + study.pilots
    seeds = f"seeds 0 .. N - 1, {fewest} or more (default: %(default)s)"
    parser.add_argument("--seeds", type=int, default=study.seeds, help=seeds)
    parser.add_argument("--out", type=Path, help=f"default: docs/studies/{study.name}, quick: runs/studies/...")
    parser.add_argument("--quick", action="store_true", help="hardly trained: shows that everything runs, no more")
    arguments = parser.parse_args(argv)
    if arguments.seeds < fewest:
        beside = f" beside {study.pilots} for the pilot" if study.pilots else ""
        parser.error(f"--seeds {arguments.seeds}: an interval over seeds needs two or more{beside}")
    folder = arguments.out or (Path("runs") if arguments.quick else DOCS) / "studies" / study.name
    try:
        with clear_errors():
            rows = measured(study, range(arguments.seeds), folder, arguments.quick)
    except KeyboardInterrupt:
        print(f"\nstopped; the same command goes on from {folder}/results.csv")
        return 1
    verdicts = store(study, rows, folder, arguments.quick)
    for verdict in verdicts:
        print(verdict)
    if arguments.quick:
        print("quick: hardly trained, these numbers and verdicts mean nothing")
    print(f"written: {folder}/README.md, results.csv, picture.png")
    return int(not all(verdict.passed for verdict in verdicts))


def measured(study: Study, seeds: Sequence[int], folder: Path, quick: bool = False) -> list[Row]:
    """The rows of every job at every seed, each measured now unless results.csv in `folder` has it.

    Rows gain the columns of the job, `seed`, `commit` and, in the first of a training, what it took: `seconds` by the
    clock and `cpu_seconds` of computing, which others on the machine do not lengthen (much).
    """
    path = folder / "results.csv"
    rows = read_rows(path)
    jobs = [{**job, "seed": seed} for seed in seeds for job in study.jobs(quick)]
    commit = report.environment(Path(__file__).parent)["commit"]
    console = Console(stderr=True, markup=False, emoji=False)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    quiet = {"redirect_stdout": False, "redirect_stderr": False, "disable": not console.is_terminal}
    with Progress(*columns, TimeRemainingColumn(), console=console, **quiet) as bar:
        task = bar.add_task(study.name, total=len(jobs))
        for job in jobs:
            said = ", ".join(f"{name} {value}" for name, value in job.items())
            bar.update(task, description=said)
            if not any(_holds(row, job, quick) for row in rows):
                began, busy = time.perf_counter(), time.process_time()
                found = study.measure({k: v for k, v in job.items() if k != "seed"}, job["seed"], quick)
                seconds = round(time.perf_counter() - began, 1)
                took = {"seconds": seconds, "cpu_seconds": round(time.process_time() - busy, 1)}
                told = {"commit": commit, **({"quick": 1} if quick else {})}
                for i, row in enumerate(found):
                    rows.append({**job, **row, **(took if i == 0 else dict.fromkeys(took, 0.0)), **told})
                write_rows(rows, path)
                if not console.is_terminal:
                    console.print(f"{study.name}: {said}, {seconds:.0f} s", highlight=False, soft_wrap=True)
            bar.advance(task)
    # Seeds beyond those asked for, or settings that are no longer swept, would change the verdict unasked.
    return [row for row in rows if any(_holds(row, job, quick) for job in jobs)]


def _holds(row: Row, job: Row, quick: bool) -> bool:
    """Whether a row is of this training; what was hardly trained never stands for what was."""
    return bool(row.get("quick")) == quick and all(
        name in row and _cell(row[name]) == _cell(value) for name, value in job.items()
    )


def store(study: Study, rows: Sequence[Row], folder: Path, quick: bool = False) -> list[Verdict]:
    """picture.png and README.md beside the rows; -> the verdicts."""
    verdicts = list(study.verdicts(rows))
    study.picture(rows, folder / "picture.png")
    seeds = sorted({row["seed"] for row in rows})

    def total(column: str) -> float:
        return sum(row.get(column, 0.0) for row in rows)

    told = report.environment(Path(__file__).parent)
    command = f"python examples/studies/{study.name}.py --seeds {len(seeds)}" + (" --quick" if quick else "")
    facts = {
        "command": f"`{command}`",
        "commit": ", ".join(dict.fromkeys(str(row["commit"]) for row in rows)),
        "seeds": ", ".join(map(str, seeds)),
        "seconds": f"{total('seconds'):.0f} elapsed for all trainings and evaluations, "
        f"{total('cpu_seconds'):.0f} of CPU time",
        "machine": told["machine"] + f", {_threads()} of torch",
        "versions": f"python {told['python']}, " + ", ".join(f"{k} {v}" for k, v in told["versions"].items()),
    }
    lines = [f"# {study.title}", "", study.about.strip(), "", "![picture](picture.png)", "", study.seen(rows).strip()]
    lines += ["", "## Verdict", "", "| | claim | mean over seeds | 95% interval |", "|---|---|---|---|"]
    for v in verdicts:
        word, claim = "PASS" if v.passed else "**FAIL**", v.claim.replace("|", r"\|")
        lines.append(f"| {word} | {claim} | {v.value:.3f} | {v.low:.3f} .. {v.high:.3f} |")
    lines += ["", "95% intervals by Student's t over seeds. A claim passes if its whole interval satisfies it."]
    lines += ["", "## Run", ""]
    if quick:
        lines += ["**Quick: hardly trained, the numbers mean nothing.**", ""]
    lines += [f"- **{name}**: {value}" for name, value in facts.items()]
    (folder / "README.md").write_text("\n".join(lines) + "\n")
    return verdicts


def _threads() -> str:
    import torch

    n = torch.get_num_threads()
    return f"{n} thread" + ("s" if n > 1 else "")


# results.csv


def write_rows(rows: Sequence[Row], path: Path) -> None:
    """All rows under all their columns, in one step: a study that is stopped leaves a whole file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    partial = path.with_suffix(".partial")
    partial.write_text(text.getvalue())
    partial.replace(path)


def read_rows(path: Path) -> list[Row]:
    """What `write_rows` wrote, numbers as numbers; no file: no rows. A cell that a row had nothing for is absent."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [{k: _value(v) for k, v in line.items() if v != ""} for line in csv.DictReader(file)]


def _cell(value: str | int | float) -> str:
    return f"{value:.7g}" if isinstance(value, float) else str(value)


def _value(cell: str) -> str | int | float:
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            continue
    return cell


# Over rows


def pick(rows: Sequence[Row], column: str, **where: str | int | float) -> list[float]:
    """`column` of the rows where every other column is as said, one a seed, by seed."""
    found = [row for row in rows if column in row and all(row.get(k) == v for k, v in where.items())]
    found.sort(key=lambda row: row["seed"])
    seeds = [row["seed"] for row in found]
    if not found or len(set(seeds)) < len(seeds):
        raise ValueError(f"{column} where {where}: {len(found)} rows of seeds {seeds}, not one a seed")
    return [float(row[column]) for row in found]
