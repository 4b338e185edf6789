"""What a run leaves behind: report.json to parse, report.md to read, PNG plots to look at."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ssl_mi import atomic
from ssl_mi.report.plots import draw_training
from ssl_mi.report.rows import Rows, last_epoch
from ssl_mi.report.tables import change_table, closing_table

CHANGES = (
    "The trained encoder on the same pairs of the validation split each time; in brackets 95% intervals, those of the "
    "differences from paired subsets: the variation of the samples cancels there."
)


def write(
    folder: Path,
    title: str,
    facts: Mapping[str, Any],
    history: Sequence[Mapping[str, float]],
    rows: Rows,
    config: str,
    plots: Iterable[tuple[str, Path]] = (),
) -> Path:
    """Write report.json, report.md and the plot of training into `folder`.

    Args:
        folder: Made if it is not there.
        title: The heading.
        facts: Facts about the run in the report, name -> value.
        history: One mapping per epoch: "epoch", "train/loss", ...
        rows: All measurements (see `report.tables`).
        config: The configuration, as YAML.
        plots: (caption, file) of the pictures to show.

    Returns:
        The path of report.md.
    """
    folder.mkdir(parents=True, exist_ok=True)
    document = {"title": title, **facts, "history": list(history), "rows": list(rows), "config": config}
    atomic.write(folder / "report.json", json.dumps(_plain(document), indent=1, allow_nan=False))
    training = draw_training(history, rows, folder / "training.png")
    lines = [f"# {title}", ""]
    lines += [f"- **{name}**: {_text(value)}" for name, value in facts.items()]
    lines += ["", "## What was learned", ""]
    lines += _markdown(*closing_table(rows)) or ["Nothing was evaluated."]
    changes = _markdown(*change_table(rows))
    lines += ["", "## From evaluation to evaluation", "", CHANGES, "", *changes] if changes else []
    for caption, path in [*([] if training is None else [("Loss and bound", training)]), *plots]:
        lines += ["", f"## {caption}", "", f"![{caption}]({Path(os.path.relpath(path, folder)).as_posix()})"]
    notes = sorted({f"- `{r['metric']}`: {r['note']}" for r in rows if r["note"] and r["epoch"] == last_epoch(rows)})
    lines += ["", "## How each number was measured", "", *notes]
    lines += ["", "## Configuration", "", "```yaml", config.strip(), "```", ""]
    return atomic.write(folder / "report.md", "\n".join(lines))


def _markdown(header: list[str], lines: list[list[str]]) -> list[str]:
    if not lines:
        return []
    table = [header, ["---"] * len(header), *lines]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in table]


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_text(v)}" for k, v in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _plain(value: Any) -> Any:
    """JSON has no NaN and no infinity: both become null."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
