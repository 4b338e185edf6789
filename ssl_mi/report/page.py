"""report.html: one file with everything in it, that asks the network for nothing.

The page is written whole from a report document, samples.npz and the pictures of the run, so that `ssl-mi report RUN`
can write it again. Charts are drawn in the browser by plotly, whose script is part of the page. Without plotly the page
has the numbers of each chart as a table, and the run's own pictures.
"""

from __future__ import annotations

import base64
import html
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from ssl_mi import atomic
from ssl_mi.report.charts import Chart, charts_of, figure, map_figure, symbols
from ssl_mi.report.maps import NAMES
from ssl_mi.report.sheets import data_uri, sheet
from ssl_mi.report.summary import ending, learned, sure, wary
from ssl_mi.report.tables import change_table, full_table, notes

Arrays = Mapping[str, np.ndarray]
Document = Mapping[str, Any]

# The browser itself refuses whatever is not in the file.
POLICY = "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
QUERIES = 8  # samples whose neighbours are shown
MOST_CLASSES = 20  # of a confusion matrix as a table
ARROWS = (
    "\u2191 higher is better, \u2193 lower is better; no arrow: neither in itself. Trained and random are the same "
    "network after training and as it was initialised; pixels is the same on the samples themselves."
)
CHANGES = (
    "The trained encoder on the same pairs of the validation split each time; in brackets 95% intervals, those of the "
    "differences from paired subsets: the variation of the samples cancels there."
)
WITHOUT = (
    "The charts are drawn by plotly, which was not installed when this page was written: their numbers stand in the "
    "tables. <code>pip install plotly</code> and <code>ssl-mi report RUN</code> draw them."
)


def write_page(
    path: Path,
    document: Document,
    arrays: Arrays,
    pictures: Iterable[tuple[str, Path]] = (),
    links: Iterable[str] = (),
) -> Path:
    """Write the page.

    Args:
        path: The file, replaced whole.
        document: Of report.json.
        arrays: Of samples.npz; empty where there is none.
        pictures: (caption, PNG) of those that go into the page.
        links: Files beside the page that it links to.

    Returns:
        The path.
    """
    script = _plotly()
    charts = charts_of(document, arrays)
    maps = [kind for kind in NAMES if kind in arrays]
    shown = {name for chart in charts for name in (chart.key,)} if script else set()
    sections = [
        ("summary", "Summary", "".join(_summary(document))),
        *((chart.key, chart.title, _chart(chart)) for chart in charts),
        ("map", "Map of the embeddings", _map(arrays, maps)),
        ("neighbours", "Nearest neighbours", _neighbours(arrays)),
        ("pairs", "Pairs that share most and least", _pairs(arrays)),
        ("confusion", "Confusion", _confusion(arrays)),
        *(
            (f"picture-{picture.stem}", caption, _picture(caption, picture))
            for caption, picture in pictures
            if picture.is_file() and not (picture.stem in ("training", "information", "probes", "map") and shown)
        ),
        ("table", "All numbers", _numbers(document)),
        ("changes", "From evaluation to evaluation", _changes(document)),
        ("run", "The run", _facts(document, links)),
        ("configuration", "Configuration", _configuration(document)),
    ]
    sections = [section for section in sections if section[2]]
    data = _data(charts, arrays, maps) if script else _data([], arrays, [])
    text = "\n".join(_page(document, sections, data, arrays, script))
    return atomic.write(path, text)


def _plotly() -> str:
    """The library's script; "" where it is not installed."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        return ""
    return get_plotlyjs()


def _page(
    document: Document, sections: Sequence[tuple[str, str, str]], data: str, arrays: Arrays, script: str
) -> Iterator[str]:
    title, state = _text(document.get("title", "run")), ending(document).state
    css, code = (files("ssl_mi.report").joinpath("assets", name).read_text("utf-8") for name in ("page.css", "page.js"))
    yield '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f'<title>{title}</title>\n<link rel="icon" href="data:,">'
    yield f"<style>\n{css}\n{_sheet_style(arrays)}</style>\n</head>"
    yield f'<body>\n<a class="skip" href="#summary">To the summary</a>\n<header>\n<h1>{title}</h1>'
    yield f'<p class="facts"><span class="state {state}">{state}</span> {_text(_in_short(document))}</p>'
    links = "".join(f'<li><a href="#{key}">{_text(name)}</a></li>' for key, name, _ in sections)
    yield f'<nav aria-label="Sections"><ul>{links}</ul></nav>\n</header>\n<main>'
    if not script:
        yield f"<p>{WITHOUT}</p>"
    for key, name, content in sections:
        yield f'<section id="{key}" aria-labelledby="h-{key}">\n<h2 id="h-{key}">{_text(name)}</h2>'
        yield f"{content}\n</section>"
    yield '</main>\n<footer><p class="facts">Written by ssl_mi. Everything is in this file.</p></footer>'
    yield '<div id="tip" class="tip" hidden></div>\n<div id="said" aria-live="polite" class="skip"></div>'
    yield f'<script type="application/json" id="page-data">{data}</script>'
    if script:
        yield f"<script>{script}</script>"
    yield f"<script>{code}</script>\n</body>\n</html>\n"


def _sheet_style(arrays: Arrays) -> str:
    if "thumbnails" not in arrays:
        return ""
    return f":root {{ --sheet: url({data_uri(sheet(arrays['thumbnails']).image)}); }}\n"


def _data(charts: Sequence[Chart], arrays: Arrays, maps: Sequence[str]) -> str:
    """What the script draws, as JSON that can stand inside a page."""
    labels = arrays.get("labels")
    content = {
        "charts": {chart.key: figure(chart) for chart in charts},
        "maps": {kind: map_figure(arrays, kind) for kind in maps} or None,
        "sheet": {"columns": sheet(arrays["thumbnails"]).columns} if "thumbnails" in arrays else None,
        "index": arrays["index"].tolist() if "index" in arrays else [],
        "labels": None if labels is None else labels.tolist(),
        "classes": [str(name) for name in arrays.get("class_names", [])],
        "captions": [str(text) for text in arrays["captions"]] if "captions" in arrays else None,
        "files": [str(name) for name in arrays["files"]] if "files" in arrays else None,
        "neighbours": arrays["neighbours"].tolist() if "neighbours" in arrays else None,
    }
    return json.dumps(content, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


# ------------------------------------------------------------------------------------------------------- sections


def _in_short(document: Document) -> str:
    seconds = document.get("seconds")
    parts = [document.get("objective"), document.get("data"), f"{seconds:.0f} s" if seconds is not None else None]
    return " · ".join(str(part) for part in parts if part)


def _summary(document: Document) -> Iterator[str]:
    warnings = wary(document)
    yield _list(learned(document.get("rows", ())), "learned")
    if warnings:
        yield f'<div class="wary"><h3>Be wary</h3>{_list(warnings)}</div>'
    found = sure(document)
    if found:
        yield f"<h3>How sure</h3>{_list(found)}"


def _list(sentences: Sequence[str], name: str = "") -> str:
    return f'<ul class="{name}">' + "".join(f"<li>{_sentence(s)}</li>" for s in sentences) + "</ul>"


def _chart(chart: Chart) -> str:
    head = "".join(f"<th>{_text(name)}</th>" for name in ("", chart.x_label, chart.y_label, "95% interval"))
    lines = []
    for line in chart.curves:
        some = range(len(line.y)) if len(line.y) <= 60 else range(0, len(line.y), math.ceil(len(line.y) / 60))
        for i in some:
            where = f"{line.x[i]:g}" if line.x else ""
            interval = f"{line.low[i]:.3f} .. {line.high[i]:.3f}" if len(line.low) else ""
            cells = (_text(line.name), where, f"{line.y[i]:.4g}", interval)
            lines.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    return (
        f'<figure><figcaption>{_text(chart.about)}</figcaption>\n<div id="plot-{chart.key}" class="chart" role="img" '
        f'aria-label="{_text(chart.title)}: its numbers are in the table below"></div>\n'
        f'<details class="numbers"><summary>The numbers</summary>{_scroll(table, chart.title)}</details></figure>'
    )


def _scroll(table: str, name: str) -> str:
    """A table that is wider than the window scrolls by itself, by keyboard too."""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{_text(name)}">{table}</div>'


def _map(arrays: Arrays, maps: Sequence[str]) -> str:
    if not maps:
        return ""
    options = "".join(f'<option value="{kind}">{NAMES[kind]}</option>' for kind in maps)
    boxes = "".join(
        f'<label><input type="checkbox" checked data-class="{i}"> '
        f'<span aria-hidden="true" style="color:{colour}">{sign}</span> {_text(name)}</label>'
        for i, (name, colour, sign) in enumerate(symbols([str(name) for name in arrays.get("class_names", [])]))
    )
    filters = (
        f'<fieldset class="controls"><legend>Classes</legend>{boxes} <button type="button" data-all="true">all</button>'
        '<button type="button" data-all="false">none</button></fieldset>'
        if boxes
        else ""
    )
    return (
        f"<p>h of {len(arrays['index']):,} held-out samples in two dimensions: neighbours stay near, distances across "
        "the map mean little. Point at a sample to see it, click to see its nearest neighbours in h; by keyboard: "
        "arrows and Enter.</p>"
        f'<p class="controls"><label>Map <select id="map-kind">{options}</select></label></p>{filters}'
        '<div id="map-plot" class="chart" tabindex="0" role="application" '
        'aria-label="Map of the embeddings; arrow keys step through the samples"></div><div id="near"></div>'
    )


def _thumb(row: int, side: int, extra: str = "") -> str:
    return f'<span class="thumb{extra}" data-row="{row}" data-side="{side}"></span>'


def _neighbours(arrays: Arrays) -> str:
    if "thumbnails" not in arrays or "neighbours" not in arrays:
        return ""
    labels, near = arrays.get("labels"), arrays["neighbours"]
    rows = _queries(labels, len(near))
    strips = []
    for row in rows:
        cards = [_card(arrays, row, " query", same=True)]
        cards += [_card(arrays, int(n), "", same=labels is None or labels[n] == labels[row]) for n in near[row]]
        strips.append(f'<div class="strip">{"".join(cards)}</div>')
    about = "The sample on the left, and those nearest to it by the cosine of h, nearest first."
    return f"<p>{about} Names with a \u2260 are of another class.</p>{''.join(strips)}"


def _card(arrays: Arrays, row: int, extra: str, same: bool) -> str:
    name = ""
    if "labels" in arrays:
        name = ("" if same else "\u2260 ") + str(arrays["class_names"][arrays["labels"][row]])
    miss = "" if same else " miss"
    return f'<div class="card near{miss}"><div class="{extra.strip()}">{_thumb(row, 52)}</div>{_text(name)}</div>'


def _queries(labels: np.ndarray | None, n: int) -> list[int]:
    """Rows to show: the first of each class in turn."""
    if labels is None:
        return list(range(min(QUERIES, n)))
    firsts = [int(np.flatnonzero(labels == c)[0]) for c in np.unique(labels)]
    return firsts[:QUERIES]


def _pairs(arrays: Arrays) -> str:
    if "views" not in arrays:
        return ""
    half = len(arrays["paired"]) // 2
    parts = []
    for title, some in (("Most", range(half)), ("Least", range(half, 2 * half))):
        cards = []
        for i in some:
            row = int(arrays["paired"][i])
            views = "".join(
                f'<img class="thumb" alt="view {v + 1}" src="{data_uri(sheet(view[None]).image)}">'
                for v, view in enumerate(arrays["views"][i])
            )
            name = str(arrays["class_names"][arrays["labels"][row]]) if "labels" in arrays else ""
            said = _text(str(arrays["view_texts"][i])) + "<br>" if "view_texts" in arrays else ""
            words = f"{said}{_text(name)}<br>{arrays['pointwise'][row]:+.2f} nats"
            named = f' title="{_text(str(arrays["files"][row]))}"' if "files" in arrays else ""
            cards.append(f'<div class="card"{named}><div class="pair">{views}</div>{words}</div>')
        parts.append(f'<h3>{title}</h3><div class="strip">{"".join(cards)}</div>')
    return (
        "<p>The two views of a sample, by their pointwise mutual information in z: log p(x, y) / (p(x) p(y)), "
        "estimated by KSG on 4 canonical directions. The mean over samples is the mutual information; one value is "
        f"noisy. Pairs that share least are hard, or no true pairs (a caption of another picture).</p>{''.join(parts)}"
    )


def _confusion(arrays: Arrays) -> str:
    counts = arrays.get("confusion")
    if counts is None:
        return ""
    names = [_text(str(name)) for name in arrays["class_names"]]
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    about = (
        "<p>Of the samples of a class (row), the share that the linear probe takes for each class (column), in %.</p>"
    )
    if len(names) > MOST_CLASSES:
        return about + _most_confused(counts, shares, names)
    head = "".join(f"<th>{name}</th>" for name in ["", *names, "n"])
    body = ""
    for name, row, n in zip(names, shares, counts.sum(1), strict=True):
        cells = "".join(
            f'<td style="background:rgba(0,114,178,{share:.2f});color:{"#fff" if share > 0.55 else "#1a1a1a"}">'
            f"{100 * share:.0f}</td>"
            for share in row
        )
        body += f"<tr><th>{name}</th>{cells}<td>{n}</td></tr>"
    return about + _scroll(
        f'<table class="confusion"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>', "Confusion"
    )


def _most_confused(counts: np.ndarray, shares: np.ndarray, names: Sequence[str]) -> str:
    apart = np.where(np.eye(len(names), dtype=bool), -1, shares)
    order = np.argsort(-apart, axis=None, kind="stable")[:MOST_CLASSES]
    lines = ""
    for true, taken in zip(*np.unravel_index(order, apart.shape), strict=True):
        numbers = f"<td>{100 * shares[true, taken]:.0f}</td><td>{counts[true, taken]}</td>"
        lines += f"<tr><td>{names[true]}</td><td>{names[taken]}</td>{numbers}</tr>"
    head = "<th>class</th><th>taken for</th><th>% of the class</th><th>samples</th>"
    about = f"<p>The {len(order)} largest confusions of {len(names)} classes.</p>"
    return f"{about}<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"


def _picture(caption: str, path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<img class="wide" alt="{_text(caption)}" src="data:image/png;base64,{data}">'


def _numbers(document: Document) -> str:
    rows = document.get("rows", ())
    header, lines = full_table(rows, document.get("explained", {}))
    if not lines:
        return ""
    explained = [
        [f"{_text(name)}<small>{_text(meaning)}</small>", *map(_text, cells)] for name, *cells, meaning in lines
    ]
    how = "".join(f"<li>{_text(name)}: {_text(note)}</li>" for name, note in notes(rows))
    return _table(header[:-1], explained, ARROWS) + (
        f"<details><summary>How each number was measured</summary><ul>{how}</ul></details>" if how else ""
    )


def _changes(document: Document) -> str:
    header, lines = change_table(document.get("rows", ()))
    return _table(header, [[*map(_text, line)] for line in lines], CHANGES) if lines else ""


def _table(header: Sequence[str], lines: Sequence[Sequence[str]], about: str) -> str:
    """lines: cells of HTML."""
    head = "".join(f"<th>{_text(name)}</th>" for name in header)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in line) + "</tr>" for line in lines)
    table = f'<table class="numbers"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    return f"<p>{_text(about)}</p>{_scroll(table, about)}"


LEFT_OUT = ("title", "rows", "history", "config", "explained", "scale", "cautions", "ended")


def _facts(document: Document, links: Iterable[str]) -> str:
    lines = "".join(
        f'<tr><td>{_text(name)}</td><td class="words">{_text(_words(value))}</td></tr>'
        for name, value in document.items()
        if name not in LEFT_OUT and value is not None
    )
    files_ = "".join(f'<li><a href="{_text(name)}">{_text(name)}</a></li>' for name in links)
    beside = f"<p>Beside this page:</p><ul>{files_}</ul>" if files_ else ""
    return _scroll(f"<table><tbody>{lines}</tbody></table>", "The run") + beside


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_words(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_words, value)) or "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _configuration(document: Document) -> str:
    config = document.get("config")
    return f"<details><summary>All settings</summary><pre>{_text(config)}</pre></details>" if config else ""


def _sentence(text: str) -> str:
    """With `code` between backticks."""
    return re.sub("`([^`]*)`", r"<code>\1</code>", _text(text))


def _text(value: Any) -> str:
    return html.escape(str(value))
