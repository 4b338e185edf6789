"""What a run leaves behind: report.json to parse, report.html and report.md to read, config.yaml, PNG plots."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ssl_mi import atomic
from ssl_mi.report.document import JSON, SAMPLES, filled, read_document, read_samples
from ssl_mi.report.page import write_page
from ssl_mi.report.plots import draw_training
from ssl_mi.report.rows import Rows
from ssl_mi.report.summary import Ending, ending, learned, sure, wary
from ssl_mi.report.tables import Explained, short_table

PICTURES = {  # name of the file -> caption, in the order in which a report shows them
    "training": "Loss and bound",
    "information": "Mutual information over the epochs",
    "probes": "Probes over the epochs",
    "views": "Views as the encoder sees them, a pair in each column",
    "map": "Representations h of held-out samples in two dimensions",
}


class Written(NamedTuple):
    """The files of a report.

    Attributes:
        page: report.html.
        short: report.md.
        ending: How the run ended, its numbers considered.
    """

    page: Path
    short: Path
    ending: Ending


def write(
    folder: Path,
    title: str,
    facts: Mapping[str, Any],
    history: Sequence[Mapping[str, float]],
    rows: Rows,
    config: str,
    plots: Iterable[tuple[str, Path]] = (),
    explained: Explained | None = None,
) -> Written:
    """Write report.json, config.yaml, report.md, report.html and the plot of training into `folder`.

    Args:
        folder: Made if it is not there. Its samples.npz, if any, goes into the page.
        title: The heading.
        facts: Facts about the run in the report, name -> value.
        history: One mapping per epoch: "epoch", "train/loss", ...
        rows: All measurements (see `report.tables`).
        config: The configuration, as YAML.
        plots: (caption, file) of the pictures to show.
        explained: metric -> "short", "better", "meaning".

    Returns:
        The paths of report.html and report.md.
    """
    folder.mkdir(parents=True, exist_ok=True)
    scale = read_samples(folder).get("scale")
    document = {
        "title": title,
        **facts,
        **({} if scale is None else {"scale": {"h": float(scale[0]), "z": float(scale[1])}}),
        "explained": dict(explained or {}),
        "history": list(history),
        "rows": list(rows),
        "config": config,
    }
    document["state"] = ending(document).state
    plain = _plain(document)
    atomic.write(folder / JSON, json.dumps(plain, indent=1, allow_nan=False))
    atomic.write(folder / "config.yaml", config)
    training = draw_training(history, rows, folder / "training.png")
    drawn = [*([] if training is None else [(PICTURES["training"], training)]), *plots]
    return _readable(folder, filled(plain), drawn)


def rebuild(folder: Path) -> Written:
    """Write report.html and report.md of a run again, from the files that it left.

    Args:
        folder: Of the run.

    Raises:
        ValueError: If its report.json is absent or not that of a run.
    """
    document = read_document(folder)
    others = sorted(path.stem for path in folder.glob("*.png") if path.stem not in PICTURES)
    pictures = [(PICTURES.get(name, name), folder / f"{name}.png") for name in [*PICTURES, *others]]
    return _readable(folder, document, [(caption, path) for caption, path in pictures if path.is_file()])


def _readable(folder: Path, document: Mapping[str, Any], pictures: Sequence[tuple[str, Path]]) -> Written:
    links = [name for name in ("report.md", JSON, "config.yaml") if (folder / name).is_file() or name == "report.md"]
    links += [path.name for path in sorted(folder.glob("*.csv"))]
    short = atomic.write(folder / "report.md", "\n".join(_page(folder, document, pictures, links)))
    page = write_page(folder / "report.html", document, read_samples(folder), pictures, links)
    return Written(page, short, ending(document))


def _page(
    folder: Path, document: Mapping[str, Any], pictures: Sequence[tuple[str, Path]], links: Sequence[str]
) -> Iterator[str]:
    """One screen of Markdown."""
    state, why = ending(document)
    yield from (f"# {document.get('title', folder.name)}", "")
    seconds = document.get("seconds")
    told = (document.get("objective"), document.get("data"), None if seconds is None else f"{seconds:.0f} s")
    yield " · ".join([f"**{state}**{': ' + why if why else ''}", *(str(part) for part in told if part)])
    yield ""
    yield from (f"- {sentence}" for sentence in learned(document["rows"]))
    yield ""
    yield from (f"- Be wary: {sentence}" for sentence in wary(document))
    yield from (f"- {sentence}" for sentence in sure(document))
    yield ""
    yield from _markdown(*short_table(document["rows"], document.get("explained", {})))
    yield ""
    shown = {caption: Path(os.path.relpath(path, folder)).as_posix() for caption, path in pictures}
    yield (
        "Everything, with charts: [report.html](report.html). Pictures: "
        + (", ".join(f"[{caption}]({place})" for caption, place in shown.items()) or "none")
        + "."
    )
    files = [*(name for name in links if name != "report.md"), *([SAMPLES] if (folder / SAMPLES).is_file() else [])]
    yield "Files: " + ", ".join(f"[{name}]({name})" for name in files) + "."
    command = document.get("command")
    yield from (["", f"`{command}`", ""] if command else [""])


def _markdown(header: list[str], lines: list[list[str]]) -> list[str]:
    if not lines:
        return []
    table = [header, ["---"] * len(header), *lines]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in table]


def _plain(value: Any) -> Any:
    """JSON has no NaN and no infinity: both become null."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
