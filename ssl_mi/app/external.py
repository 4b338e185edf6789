"""`ssl_mi.evaluate`: any encoder, or features alone, judged by the same evaluations."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, overload

import torch
from torch import nn

from ssl_mi import atomic
from ssl_mi.app.api import Table
from ssl_mi.app.devices import on_device
from ssl_mi.app.encoder import LoadedEncoder
from ssl_mi.app.external_encoders import encoder_of, modes_kept
from ssl_mi.app.external_features import FeatureData, FeatureTable, array_of, features_of, labels_of
from ssl_mi.app.external_images import EvaluatedImages, images_for, pairs_for, view_words
from ssl_mi.app.loading import load
from ssl_mi.data.pairs import PairedData
from ssl_mi.evaluation import external
from ssl_mi.evaluation.context import Evaluation
from ssl_mi.evaluation.measurement import Measurement, write_csv
from ssl_mi.evaluation.probe_protocols import mean_and_interval
from ssl_mi.report import closing_table


@dataclass(frozen=True)
class Evaluated:
    """What `evaluate` measured.

    Attributes:
        what: What was evaluated, in words.
        data: On what, in words.
        rows: The measurements: metric, value, interval, baseline, ceiling, p, n, note.
        tables: Lists beside them, by name: pairs of views with their pointwise MI, the spectrum, a confusion matrix.
        left_out: What the data did not allow, in words.
    """

    what: str
    data: str
    rows: Sequence[Measurement] = field(repr=False)
    tables: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict, repr=False)
    left_out: Sequence[str] = ()

    @property
    def table(self) -> Table:
        """A line per quantity."""
        header, lines = closing_table([row.as_dict() for row in self.rows])
        # One encoder, of which a run's words for its own are not always true.
        return Table(["on the test split", "value", *header[2:]], lines)

    def __str__(self) -> str:
        return f"{self.what}\n{self.data}\n{self.table}"

    def _repr_html_(self) -> str:
        return self.table._repr_html_()

    def write(self, folder: str | Path) -> tuple[Path, ...]:
        """Write evaluation.json and evaluation.csv, and a CSV for each of `tables`; return their paths."""
        where = Path(folder)
        where.mkdir(parents=True, exist_ok=True)
        write_csv(where / "evaluation.csv", self.rows)
        rows = [{key: _json(value) for key, value in row.as_dict().items()} for row in self.rows]
        text = json.dumps({"what": self.what, "data": self.data, "rows": rows}, indent=1, allow_nan=False)
        (where / "evaluation.json").write_text(text)
        beside = [_write_table(where / f"{name}.csv", lines) for name, lines in self.tables.items() if lines]
        return where / "evaluation.json", where / "evaluation.csv", *beside


@dataclass(frozen=True)
class EvaluatedTogether:
    """Several evaluations on the same data: a line per quantity, a column each.

    Attributes:
        of: The evaluations, in order.
    """

    of: Sequence[Evaluated]

    @property
    def table(self) -> Table:
        """Values with their intervals."""
        metrics: dict[str, str] = {}
        for one in self.of:
            for row in one.rows:
                unit = " (nats)" if row.metric.endswith("_nats") else ""
                metrics.setdefault(row.metric, row.quantity + unit)
        found = [{row.metric: row for row in one.rows} for one in self.of]
        names = [f"[{i}]" for i in range(1, len(self.of) + 1)]
        lines = [[words, *(_cell(rows.get(metric)) for rows in found)] for metric, words in metrics.items()]
        return Table(["on the test split", *names], lines)

    def __str__(self) -> str:
        each = [f"[{i}] {one.what}\n    {one.data}" for i, one in enumerate(self.of, 1)]
        return "\n".join([*each, str(self.table)])

    def _repr_html_(self) -> str:
        return self.table._repr_html_()

    def write(self, folder: str | Path) -> tuple[Path, ...]:
        """Write what each wrote into folders 1, 2, ..., and one table of all: together.csv, together.md."""
        where = Path(folder)
        paths = [path for i, one in enumerate(self.of, 1) for path in one.write(where / str(i))]
        table = self.table
        lines = [dict(zip(["quantity", *(one.what for one in self.of)], line, strict=True)) for line in table.lines]
        rows = ["| " + " | ".join(map(_escaped, cells)) + " |" for cells in (table.header, *table.lines)]
        rows.insert(1, "| " + " | ".join("---" for _ in table.header) + " |")
        legend = [f"{i}. {one.what}; {one.data}" for i, one in enumerate(self.of, 1)]
        atomic.write(where / "together.md", "\n".join([*rows, "", *legend, ""]))
        return _write_table(where / "together.csv", lines), where / "together.md", *paths


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|")


def _cell(row: Measurement | None) -> str:
    if row is None or math.isnan(row.value):
        return ""
    return f"{row.value:.3f}" + ("" if math.isnan(row.low) else f" ({row.low:.3f} .. {row.high:.3f})")


def _json(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write_table(path: Path, lines: Sequence[Mapping[str, Any]]) -> Path:
    import csv
    import io

    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(lines[0]))
    writer.writeheader()
    writer.writerows(lines)
    atomic.write(path, text.getvalue())
    return path


@overload
def evaluate(
    model_or_features: Sequence[str | Path | nn.Module], data: Any = None, **settings: Any
) -> EvaluatedTogether: ...


@overload
def evaluate(model_or_features: Any, data: Any = None, **settings: Any) -> Evaluated: ...


def evaluate(
    model_or_features: Any,
    data: Any = None,
    *,
    measure: str | Sequence[str] = "default",
    augmentation: Any = None,
    seed: int = 0,
    splits: int = 1,
    limit: int | None = None,
    val_limit: int | None = None,
    test_limit: int | None = None,
    device: str = "cpu",
    **settings: Any,
) -> Any:
    """Judge an encoder, or features, by the evaluations of a run and more.

    Probes are fitted on training samples, projections on validation samples, whatever has to be chosen is chosen on
    validation samples, and test samples are measured once.

        ssl_mi.evaluate("resnet50", "photos")
        ssl_mi.evaluate(model, (images, labels), size=96)
        ssl_mi.evaluate(features, labels)
        ssl_mi.evaluate(["runs/a", "resnet50", model], "photos")    one table

    Args:
        model_or_features: The folder of a run, a checkpoint, the folder of an export or a file in it, a name of
            torchvision or timm, an import path "package:make_encoder", an `nn.Module`, a `LoadedEncoder`; or features
            [n, d] as an array, a tensor, a .npy file or a table (.parquet, .csv, .npz) with columns h, label, split
            and file. A list or tuple of encoders: each of them, in one table.
        data: For an encoder: a folder of images, the name of a data set in conf/data, a pair (images, labels), or a
            source with `load()`; None for the data of the run. For features: labels [n], integers or strings, or a
            .npy file; None for those of the table.
        measure: "default", "all", or some of linear, knn, few_labels, regression, geometry, labels, views, pointwise,
            and flow, sgd, finetune, strength, which "default" has not: a sequence, or with commas.
        augmentation: Of the two views: a name of conf/augmentation, or an `Augmentation`. None: that of the run, else
            "simclr".
        seed: Of the splits and the probes.
        splits: Repeat with so many seeds; values are then means, with the interval of the mean over them.
        limit, val_limit, test_limit: Use just this many images of each split.
        device: Where the encoder runs.
        **settings: See `encoder_of`: which, view, trust; untrained, weights; size, mean, std, for a module that does
            not say them. Of features: row_splits, "train", "val" or "test" for each row; paired, features of a second
            view of each.

    Returns:
        The measurements, which print as a table: `Evaluated`, or `EvaluatedTogether` of several.

    Raises:
        ValueError: If there is no such thing, or the data cannot be measured, with the remedy.
    """
    check_seed(seed)
    common = {"measure": measure, "augmentation": augmentation, "device": device}
    common["limits"] = {"limit": limit, "val_limit": val_limit, "test_limit": test_limit}
    if splits < 1:
        raise ValueError(f"splits={splits}: repeat once or more")
    several = isinstance(model_or_features, list | tuple)
    found = []
    for what in model_or_features if several else [model_or_features]:
        repeats = [_evaluated(what, data, seed=seed + i, **common, **settings) for i in range(splits)]
        found.append(repeats[0] if splits == 1 else pooled(repeats, "splits"))
    return EvaluatedTogether(tuple(found)) if several else found[0]


def check_seed(seed: int) -> None:
    """Raise ValueError for what cannot seed a draw."""
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed={seed}: a whole number from 0 to {2**32 - 1}")


def pooled(repeats: Sequence[Evaluated], of: str) -> Evaluated:
    """One evaluation of several: means, with 95% Student-t intervals over them and the standard deviation in the note.

    Args:
        repeats: On other splits, or of encoders that were trained with other seeds.
        of: What differs, in words: "splits", "encoders".
    """
    rows = []
    for first in repeats[0].rows:
        same = [row for one in repeats for row in one.rows if row.metric == first.metric]
        values = [row.value for row in same if math.isfinite(row.value)]
        if not values:
            rows.append(first)
            continue
        mean, sd, low, high = mean_and_interval(values)
        note = f"mean over {len(values)} {of}, sd {sd:.3g}; {first.note}".removesuffix("; ")
        rows.append(replace(first, value=mean, low=low, high=high, note=note, pairs="", parts=()))
    return replace(repeats[0], rows=rows, data=f"{repeats[0].data}; {len(repeats)} {of}")


def _evaluated(
    what: Any,
    data: Any,
    seed: int,
    measure: str | Sequence[str],
    augmentation: Any,
    limits: Mapping[str, int | None],
    device: str,
    **settings: Any,
) -> Evaluated:
    table = features_of(what)
    if table is not None:
        if given := [name for name, value in limits.items() if value is not None]:
            raise ValueError(f"{', '.join(given)} are of images: cut the features and their labels")
        on_device(torch.empty(0), device)  # features need none, and a wrong one is a mistake
        found = _feature_data(table, data, seed, **settings)
        chosen = external.chosen_measures(measure, views=found.paired, images=False)
        evaluations = external.measurable(chosen, found, seed, asked=_asked(measure))
        module = external.External(nn.Identity())
        return _measured(module, found, evaluations, table.describe(), found.describe())
    with modes_kept(what):
        encoder = encoder_of(what, seed=seed, **settings)
        paired = pairs_for(encoder, limits) if data is None and augmentation is None else None
        chosen = external.chosen_measures(measure, views=True, images=paired is None, pairs=paired is not None)
        images = images_for(encoder, data, seed, limits, augmentation) if paired is None else paired
        evaluations = external.measurable(chosen, images, seed, asked=_asked(measure))
    module = _module_of(encoder, what, settings, device)
    if paired is not None:
        _check_view(paired, module)
    words = images.describe()
    if set(chosen) & set(external.OF_VIEWS):
        words += f"; views: {view_words(encoder, augmentation)}"
    where = encoder.provenance
    return _measured(module, images, evaluations, str(where["what"]), words, int(where.get("epoch") or 0))


def _asked(measure: str | Sequence[str]) -> list[str]:
    """The measures that were named one by one, and not by "default" or "all"."""
    words = measure.split(",") if isinstance(measure, str) else measure
    return [word.strip() for word in words]


def _check_view(data: PairedData, module: external.External) -> None:
    """Refuse a view that features cannot be computed from: sentences alone."""
    clean = len(data.clean_views(next(data.batches("val", batch_size=2))))
    if module.view >= clean:
        raise ValueError(
            f"view={module.view} of the run's pairs is of tokens, which probes are not fitted on here: choose view=0, "
            "which measures both views together too"
        )


def _module_of(encoder: LoadedEncoder, what: Any, settings: Mapping[str, Any], device: str) -> external.External:
    """With both towers, where the two views of a run have towers of their own."""
    towers = encoder.provenance.get("towers") or ()
    second = None
    if len(towers) > 1 and encoder.view == 0 and isinstance(what, str | Path):
        kept = {key: settings[key] for key in ("which", "trust", "untrained") if key in settings}
        other = load(what, view=1, **kept)
        second = (other.encoder, other.projector)
    module = external.External(encoder.encoder, encoder.view if len(towers) > 1 else -1, encoder.projector, second)
    on_device(module, device)
    return module


def _measured(
    module: external.External,
    data: FeatureData | EvaluatedImages | PairedData,
    measurable: tuple[Sequence[Evaluation], Sequence[str]],
    what: str,
    words: str,
    epoch: int = 0,
) -> Evaluated:
    evaluations, left_out = measurable
    rows = external.evaluate(module, data, evaluations, epoch)
    tables: dict[str, Sequence[Mapping[str, Any]]] = {}
    for one in evaluations:
        tables |= one.tables()
        tables |= _confusion(one, data)
    return Evaluated(what, words, rows, tables, tuple(left_out))


def _confusion(evaluation: Evaluation, data: Any) -> dict[str, Sequence[Mapping[str, Any]]]:
    matrix = getattr(evaluation, "confusion", None)
    if not isinstance(matrix, torch.Tensor):
        return {}
    names = data.labelled.class_names
    lines = [
        {"class": name, **dict(zip(names, counts, strict=True))}
        for name, counts in zip(names, matrix.tolist(), strict=True)
    ]
    return {"confusion": lines}


def _feature_data(
    table: FeatureTable, labels: Any, seed: int, row_splits: Any = None, paired: Any = None, **settings: Any
) -> FeatureData:
    if settings := {key: value for key, value in settings.items() if value not in (None, False, 0)}:
        raise ValueError(f"{', '.join(settings)} are of encoders: features are taken as they are")
    found = table.labels if labels is None else labels
    splits = table.splits if row_splits is None else row_splits
    other = table.paired if paired is None else features_of(paired)
    return FeatureData(
        table.features,
        None if found is None else labels_of(found),
        seed,
        splits=array_of(splits) if isinstance(splits, str | Path) else splits,
        paired=other.features if isinstance(other, FeatureTable) else other,
        names=table.names,
    )
