"""Evaluation: what there is to look at. views.png before training and after; map.png and samples.npz at the end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ssl_mi.evaluation.context import Evaluation, EvaluationContext, Plot
from ssl_mi.evaluation.measurement import Measurement
from ssl_mi.evaluation.samples import keep
from ssl_mi.report.plots import draw_map, draw_views

CAPTIONS = {
    "views.png": "Views as the encoder sees them, a pair in each column",
    "map.png": "Representations h of held-out images in two dimensions",
}


@dataclass
class Pictures(Evaluation):
    """A strip of views, a map of h, and the samples that the report shows (`ssl_mi.evaluation.samples`).

    Attributes:
        folder: Where they go.
        images: Columns of the strip of views.
        points: Samples in the map of h, and in samples.npz.
    """

    folder: str | Path
    images: int = 12
    points: int = 1000
    name: str = field(default="pictures", init=False)

    def embed(self, context: EvaluationContext) -> None:
        """At the end, the features and pairs of the trained encoder."""
        if context.final and context.encoder == "trained":
            context.features(context.split)
            for split in ("val", context.split):
                context.pairs(split)

    def compute(self, context: EvaluationContext) -> list[Measurement]:
        """Measures nothing; draws while the embeddings are at hand."""
        if context.encoder != "trained":
            return []
        folder = Path(self.folder)
        folder.mkdir(parents=True, exist_ok=True)
        source = next(context.data.batches("val", self.images))
        views = [context.data.to_display(view.cpu()) for view in context.data.views(source, draw=0).views]
        shown = [view for view in views if view is not None]
        if shown:
            draw_views(shown, folder / "views.png")
        if context.final:
            arrays = keep(context, folder / "samples.npz", self.points)
            xy = arrays.get("tsne", arrays["pca"])
            draw_map(xy, arrays.get("labels"), context.data.labelled.class_names, folder / "map.png")
        return []

    def plots(self, rows: Sequence[Mapping[str, Any]], folder: Path) -> Iterable[Plot]:
        """Those that were drawn, by this process or before it stopped."""
        paths = [Path(self.folder) / name for name in CAPTIONS]
        return [Plot(CAPTIONS[path.name], path) for path in paths if path.exists()]
