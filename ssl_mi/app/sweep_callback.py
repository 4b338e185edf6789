"""What a sweep (`ssl-mi train -m`) leaves in its folder: sweep.csv, and staircase.png where I(V1; V2) is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback

from ssl_mi.app.sweep_table import lines_of, print_table, write


class Summary(Callback):
    """Writes the table of a sweep into its folder after each of its runs, and prints it at the end.

    Named in conf/train.yaml. A sweep that is stopped leaves the table of its finished runs.
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
