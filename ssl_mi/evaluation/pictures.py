"""Evaluation: pictures to look at. views.png before training and at the end, map.png at the end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ssl_mi.evaluation.context import Evaluation, EvaluationContext, Plot
from ssl_mi.evaluation.measurement import Measurement
from ssl_mi.evaluation.wide import narrow
from ssl_mi.report.plots import draw_map, draw_views

CAPTIONS = {
    "views.png": "Views as the encoder sees them, a pair in each column",
    "map.png": "Representations h of held-out images in two dimensions",
}


@dataclass
class Pictures(Evaluation):
    """A strip of views, and a map of h.

    Attributes:
        folder: Where they go.
        images: Columns of the strip of views.
        points: In the map of h.
    """

    folder: str | Path
    images: int = 12
    points: int = 1000
    name: str = field(default="pictures", init=False)

    def embed(self, context: EvaluationContext) -> None:
        """At the end, features for the map."""
        if context.final:
            context.features(context.split)

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
            features = context.features(context.split)
            labels = None if features.labels is None else features.labels[: self.points].numpy()
            names = context.data.labelled.class_names
            (h,), _ = narrow(features.h[: self.points])  # distances and angles stay
            draw_map(h.numpy(), labels, names, folder / "map.png")
        return []

    def plots(self, rows: Sequence[Mapping[str, Any]], folder: Path) -> Iterable[Plot]:
        """Those that were drawn, by this process or before it stopped."""
        paths = [Path(self.folder) / name for name in CAPTIONS]
        return [Plot(CAPTIONS[path.name], path) for path in paths if path.exists()]
