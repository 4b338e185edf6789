"""Evaluation: pictures to look at. views.png before training and at the end, map.png at the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch import Tensor

from ssl_mi.evaluation.context import Bench, Evaluation
from ssl_mi.evaluation.measurement import Row
from ssl_mi.evaluation.wide import narrow
from ssl_mi.report.run_report import draw_map, draw_views


@dataclass
class Pictures(Evaluation):
    """folder: where they go. images: columns of the strip of views. points: in the map of h."""

    folder: str
    images: int = 12
    points: int = 1000
    name: str = field(default="pictures", init=False)

    def collect(self, bench: Bench) -> None:
        if bench.final:
            bench.features(bench.split)

    def measure(self, bench: Bench) -> list[Row]:
        if bench.encoder != "trained":
            return []
        folder = Path(self.folder)
        folder.mkdir(parents=True, exist_ok=True)
        source = next(bench.data.batches("val", self.images))
        views = bench.data.views(source, draw=0).views
        draw_views([_shown(view.cpu(), bench.data) for view in views], folder / "views.png")
        if bench.final:
            read = bench.features(bench.split)
            labels = None if read.labels is None else read.labels[: self.points].numpy()
            (h,), _ = narrow(read.h[: self.points])  # distances and angles stay
            draw_map(h.numpy(), labels, bench.data.class_names, folder / "map.png")
        return []


def _shown(view: Tensor, data) -> np.ndarray | list[str]:
    """A view as people see it: pictures [n, h, w, c] in [0, 1], or the sentences that tokens stand for."""
    if not view.is_floating_point():
        return data.known.words.texts(view)
    return data.augmentation.denormalize(view).permute(0, 2, 3, 1).numpy()
