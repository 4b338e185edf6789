"""A run in plain sentences: what was learned, how sure that is, what to be wary of. And how the run ended.

Everything comes from a report document: the content of report.json.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ssl_mi.report.rows import Row, Rows, final_rows

Document = Mapping[str, Any]
COMPLETE, STOPPED, DIVERGED = "complete", "stopped", "diverged"

# Beyond sense, whatever the objective: a mean loss, an information in nats, the root mean square of an embedding.
ABSURD_LOSS, ABSURD_NATS, ABSURD_SCALE = 1e6, 1e3, 1e6
ABSURD = "absurd-loss"  # code of a caution of training
LEAP = 100.0  # times the largest loss of the first half of the run


class Ending(NamedTuple):
    """How a run ended.

    Attributes:
        state: "complete", "stopped" or "diverged".
        why: In words; "" where there is nothing to add.
    """

    state: str
    why: str


def ending(document: Document) -> Ending:
    """How a run ended, from what it recorded.

    A run has diverged where its loss is not finite, above 10^6, or 100 times what it was in the first half of the run;
    where an estimate of information is beyond 1,000 nats; or where the root mean square of h or z is above 10^6.

    Args:
        document: Of report.json: "ended", "history", "rows", and "scale" where the embeddings were looked at.
    """
    ended = str(document.get("ended", ""))
    if ended.startswith(DIVERGED):
        return Ending(DIVERGED, ended.removeprefix(DIVERGED).lstrip(": "))
    absurd = next(_absurdities(document), None)
    if absurd is not None:
        return Ending(DIVERGED, absurd)
    if ended != COMPLETE:
        return Ending(STOPPED, ended.removeprefix(STOPPED).lstrip(": ") or "it left no word")
    return Ending(COMPLETE, "")


def _absurdities(document: Document) -> Iterator[str]:
    for caution in document.get("cautions", ()):
        if caution["code"] == ABSURD:
            yield caution["message"]
    history = document.get("history", ())
    losses = [_float(entry.get("train/loss")) for entry in history]
    for entry, loss in zip(history, losses, strict=True):
        if "train/loss" in entry and not abs(loss) <= ABSURD_LOSS:
            words = f"{loss:.3g}" if math.isfinite(loss) else "not finite"
            yield f"the mean loss of epoch {entry['epoch']} is {words}"
    early = losses[: (len(losses) + 1) // 2]
    if len(losses) > 1 and abs(losses[-1]) > LEAP * max(1.0, *map(abs, early)):
        yield f"the mean loss went from {early[0]:.3g} to {losses[-1]:.3g}"
    for row in document.get("rows", ()):
        value = _float(row["value"])
        if row["metric"].endswith("_nats") and row["encoder"] == "trained" and abs(value) > ABSURD_NATS:
            yield f"{row.get('quantity', row['metric'])} is {value:.3g} nats after epoch {row['epoch']}"
    for space, scale in document.get("scale", {}).items():
        if not _float(scale) <= ABSURD_SCALE:
            yield f"the root mean square of {space} is {_float(scale):.3g}"


def learned(rows: Rows) -> list[str]:
    """Sentences on what the encoder learned, from the last evaluation.

    Args:
        rows: All measurements.
    """
    last = final_rows(rows)
    of = {(row["metric"], row["encoder"]): row for row in last}
    trained = [row for row in last if row["encoder"] == "trained"]
    sentences = [*_shared(trained, of), *_largest_bound(rows, trained), *_probes(trained, of), *_kept(trained, of)]
    return sentences or ["Nothing was evaluated."]


def _shared(trained: Rows, of: Mapping[tuple[str, str], Row]) -> Iterator[str]:
    """What the views share in z, of the first estimate that there is."""
    by = {row["headline"]: row for row in trained if row.get("headline")}
    row = by.get("captured_nats") or next((r for r in trained if r.get("headline", "").endswith("ksg_nats")), None)
    row = row or next((r for h, r in by.items() if h.endswith("_nats") and h not in ("true_nats", "bound_nats")), None)
    if row is None:
        return
    random = of.get((row["metric"], "random"))
    sentence = f"The encoder shares {row['value']:.2f} nats between views{_interval(row, 2)}"
    if _has(row, "since_first"):
        low, high = row["since_first_low"], row["since_first_high"]
        difference = f"{abs(row['since_first']):.2f} {'more' if row['since_first'] >= 0 else 'less'} than untrained"
        sentence += f", {difference} ({low:+.2f} to {high:+.2f})"
        if low <= 0 <= high:
            sentence += ", which is no clear difference"
    elif random is not None:
        sentence += f", untrained {random['value']:.2f}"
    yield f"{sentence}; {_after_by(row['quantity'])}."
    truth, ratio = by.get("true_nats"), by.get("capture_ratio")
    if truth is not None and ratio is not None:
        yield f"The views themselves share {truth['value']:.2f} nats, exactly: it keeps {ratio['value']:.0%} of them."


def _largest_bound(rows: Rows, trained: Rows) -> Iterator[str]:
    """Of several lower bounds on the test split, the one that was the largest on the validation split.

    The largest of several on one and the same split would be too large, by the luck of the largest.
    """
    before = [r for r in rows if r["split"] == "val" and r["encoder"] == "trained" and _is_bound(r)]
    latest = {row["metric"]: row for row in sorted(before, key=lambda row: row["epoch"])}
    beside = {row["metric"]: row for row in trained if row["split"] == "test" and _is_bound(row)}
    both = [metric for metric in beside if metric in latest]
    if len(both) < 2:
        return
    chosen = max(both, key=lambda metric: latest[metric]["value"])
    row, chosen_by = beside[chosen], latest[chosen]
    how = row["quantity"].partition(", ")[2] or row["quantity"].partition(" by ")[2] or row["quantity"]
    sentence = (
        f"Of {len(both)} lower bounds of I(Z_X; Z_Y), {how} was the largest on the validation split "
        f"({chosen_by['value']:.2f} after epoch {chosen_by['epoch']}); on the test split it is {row['value']:.2f} nats"
    )
    truth = next((r for r in trained if r.get("headline") == "true_nats"), None)
    share = f", {row['value'] / truth['value']:.0%} of what the views share" if truth and truth["value"] > 0 else ""
    yield f"{sentence}{_interval(row, 2)}{share}."


def _is_bound(row: Row) -> bool:
    """Whether a measurement bounds what the two embeddings share from below."""
    return row.get("kind") == "lower bound" and row["quantity"].startswith("I(Z_X; Z_Y)") and _has(row, "value")


def _after_by(quantity: str) -> str:
    """How it was estimated: "I(Z_X; Z_Y) by KSG on cca4" -> "estimated by KSG on cca4"."""
    how = quantity.partition(" by ")[2] or quantity.partition(", ")[2]
    return f"estimated by {how}" if how else "estimated"


def _probes(trained: Rows, of: Mapping[tuple[str, str], Row]) -> Iterator[str]:
    for row in trained:
        if row.get("evaluation") != "probes" or not row["metric"].endswith("_accuracy"):
            continue
        beside = [
            f"{name} {of[row['metric'], encoder]['value']:.0%}"
            for encoder, name in (("random", "untrained"), ("pixels", "raw pixels"))
            if (row["metric"], encoder) in of
        ]
        beside += [f"always the largest class {row['baseline']:.0%}"] if _has(row, "baseline") else []
        name = row["quantity"].removesuffix(" accuracy").replace("-", " ")
        interval = f" ({row['low']:.0%} to {row['high']:.0%})" if _has(row, "low") else ""
        yield f"The {name} on h has {row['value']:.0%}{interval}" + (f"; {', '.join(beside)}." if beside else ".")


def _kept(trained: Rows, of: Mapping[tuple[str, str], Row]) -> Iterator[str]:
    """What h holds more and less of than before training."""
    changes: dict[bool, list[str]] = {True: [], False: []}
    for row in trained:
        if not row["metric"].startswith("mi_h_") or not row["quantity"].startswith("I(h; "):
            continue
        if _has(row, "since_first") and not row["since_first_low"] <= 0 <= row["since_first_high"]:
            name = row["quantity"].removeprefix("I(h; ").removesuffix(")")
            changes[row["since_first"] > 0].append(f"{name} ({row['since_first']:+.2f})")
    words = [f"{word} about {', '.join(changes[up])}" for up, word in ((True, "more"), (False, "less")) if changes[up]]
    if words:
        yield f"Beside the untrained encoder, h holds {'; '.join(words)} nats."


def sure(document: Document) -> list[str]:
    """Sentences on how sure the numbers are.

    Args:
        document: Of report.json.
    """
    rows = final_rows(document.get("rows", ()))
    if not rows:
        return []
    n = max(int(row["n"]) for row in rows)
    split, epoch = rows[0]["split"], rows[0]["epoch"]
    fitted = "nothing was fitted on them" if split == "test" else "nothing was trained on them"
    found = [f"Measured after epoch {epoch} on {n:,} samples of the {split} split: {fitted}. Intervals are at 95%."]
    tested = [row for row in rows if row["encoder"] == "trained" and _has(row, "p_value")]
    if tested:
        significant = sum(row["p_value"] <= 0.05 for row in tested)
        fewest = min(int(row.get("permutations") or 0) for row in tested)
        floor = f", the least that {fewest} permutations can show" if fewest and 1 / (1 + fewest) > 0.04 else ""
        found.append(f"{significant} of {len(tested)} estimates differ from re-paired views at p <= 0.05{floor}.")
    found.append("One run is one seed: intervals do not say how other seeds differ; `ssl-mi compare` does, of several.")
    return found


def wary(document: Document) -> list[str]:
    """Sentences on what a reader should be wary of; most serious first.

    Args:
        document: Of report.json.
    """
    return list(dict.fromkeys(_warnings(document)))


def _warnings(document: Document) -> Iterator[str]:
    state, why = ending(document)
    if state == DIVERGED:
        yield f"THE RUN DIVERGED: {why}. Its numbers are worth nothing. First remedy: a lower learning rate."
    if state == STOPPED:
        yield f"The run stopped before its end: {why}. Its numbers are of the last evaluation that it reached."
    yield from (
        f"{caution['message'][:1].upper()}{caution['message'][1:]}." for caution in document.get("cautions", ())
    )
    rows = final_rows(document.get("rows", ()))
    for row in rows:
        if row["encoder"] == "trained":
            yield from _warnings_of(row)
    of = {(row["metric"], row["encoder"]): row for row in rows}
    for (metric, encoder), row in of.items():
        other = of.get((metric, "trained"))
        if encoder == "trained" or other is None or row.get("evaluation") != "probes" or not _has(row, "high"):
            continue
        if other["low"] <= row["high"]:
            name = {"random": "of the untrained encoder", "pixels": "on raw pixels"}[encoder]
            yield f"The {row['quantity']} is not clearly above that {name} ({other['value']:.1%}, {row['value']:.1%})."
    if "rare classes" in document:
        yield f"Rare classes: {document['rare classes']}."


def _warnings_of(row: Row) -> Iterator[str]:
    value, quantity = row["value"], row["quantity"]
    ceiling = _float(row.get("ceiling"))
    if row["metric"].startswith("mi_") and value > 0.8 * ceiling > 0:
        yield f"{quantity}: {value:.2f} is near its ceiling of {ceiling:.2f}; the truth may be well above."
    if row.get("warnings"):
        yield f"{quantity}: {row['warnings']}."
    if _has(row, "p_value") and row["p_value"] > 0.05:
        yield f"{quantity} ({value:.3f}) cannot be told from independence (p = {row['p_value']:.2f})."
    if row["metric"] == "effective_rank_z" and _has(row, "ceiling") and value < max(2.0, 0.02 * row["ceiling"]):
        yield f"z has nearly collapsed: its effective rank is {value:.1f} of {row['ceiling']:.0f}."


def _has(row: Row, column: str) -> bool:
    return not math.isnan(_float(row.get(column)))


def _float(x: float | None) -> float:
    return math.nan if x is None else float(x)


def _interval(row: Row, digits: int) -> str:
    return f" ({row['low']:.{digits}f} to {row['high']:.{digits}f})" if _has(row, "low") else ""
