"""What a sweep (`ssl-mi train -m`) leaves in its folder: sweep.csv, and staircase.png where I(V1; V2) is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback

from ssl_mi.app.sweep_table import lines_of, print_table, write

ERROR = "error.txt"  # what a failed job leaves in its folder, one line


class Summary(Callback):
    """Writes the table of a sweep into its folder after each of its runs, and prints it at the end.

    Named in conf/train.yaml. A sweep that is stopped leaves the table of its finished runs. Jobs that failed are listed
    at the end, and the exit status is 1.
    """

    def on_job_end(self, config: Any, job_return: Any, **kwargs: Any) -> None:
        if config.hydra.mode is not None and config.hydra.mode.name == "MULTIRUN":
            write(lines_of([config.hydra.sweep.dir]), Path(config.hydra.sweep.dir))

    def on_multirun_end(self, config: Any, **kwargs: Any) -> None:
        folder = Path(config.hydra.sweep.dir)
        lines = lines_of([folder])
        print_table(lines)
        for path in write(lines, folder):
            print(f"the sweep's {'picture' if path.suffix == '.png' else 'table'}: {path}")
        failed = failed_jobs(folder)
        if failed:
            total = sum(path.is_dir() for path in folder.iterdir())
            print(f"{len(failed)} of {total} jobs failed:", *failed, sep="\n  ")
            print(f"the same command with hydra.sweep.dir={folder} runs these again, and none that is finished")
            raise SystemExit(1)


def failed_jobs(folder: Path) -> list[str]:
    """A line for each job of a sweep that failed: its folder, what was varied, why."""
    given = {path.parent.parent.name: _overrides(path) for path in folder.glob("*/.hydra/overrides.yaml")}
    same = set.intersection(*map(set, given.values())) if len(given) > 1 else set()
    lines = []
    for path in sorted(folder.glob(f"*/{ERROR}"), key=lambda path: (len(path.parent.name), path.parent.name)):
        job = path.parent.name
        varied = " ".join(word for word in given.get(job, ()) if word not in same)
        lines.append(f"{job}: {varied}: {path.read_text().strip()}")
    return lines


def _overrides(path: Path) -> list[str]:
    from omegaconf import OmegaConf

    return [str(word) for word in OmegaConf.load(path)]
