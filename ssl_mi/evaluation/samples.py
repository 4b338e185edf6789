"""What a report shows of single samples, kept in one file of the run's folder: `samples.npz`.

Plain arrays, read without executing code (`numpy.load(..., allow_pickle=False)`); those that cannot be had are absent.

    index           int64 [m], rows of the split
    h               float32 [m, at most 50], principal components of h: distances and angles as far as these keep them
    pca, tsne, umap float32 [m, 2], h in two dimensions
    neighbours      int64 [m, 6], rows of this file nearest in h by cosine
    labels          int64 [m] into class_names
    class_names     names
    thumbnails      uint8 [m, s, s, c], the samples without augmentation
    captions        m texts, of data with texts
    files           m texts: the file of each sample, or what else its source calls it
    confusion       int64 [classes, classes], true class by the class that the linear probe predicts, all of the split
    spectrum_h, spectrum_z     singular values of h and z, centred
    scale           float64 [2], root mean square of h and of z
    pointwise       float64 [m], pointwise mutual information of the two views of each sample, nats
    paired          int64 [2 p], rows of this file: the p with the highest pointwise value, then the p with the lowest
    views           uint8 [2 p, v, s, s, c], their two views, or the one that is a picture
    view_texts      2 p texts, where the other view is a sentence
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, normalize

from ssl_mi import atomic
from ssl_mi.evaluation.context import EVALUATION_DRAW, EvaluationContext
from ssl_mi.evaluation.wide import narrow, singular_values
from ssl_mi.information.estimators.ksg import ksg_pointwise
from ssl_mi.information.projections import CCA
from ssl_mi.report.maps import two_dimensional

SIDE = 48  # pixels of a thumbnail, at most
KEPT = 50  # principal components
NEIGHBOURS = 6
EXTREMES = 6  # pairs of the highest, and of the lowest pointwise mutual information
DIM, K = 4, 5  # of the pointwise estimate: canonical directions, neighbours
FEWEST = 100  # pairs that a pointwise estimate needs

Arrays = dict[str, np.ndarray]


def keep(context: EvaluationContext, path: Path, points: int = 1000) -> Arrays:
    """Gather what a report shows of single samples, and write it.

    Args:
        context: The final evaluation of the trained encoder.
        path: The file, replaced whole.
        points: Samples that are kept.

    Returns:
        The arrays that were written.
    """
    features, pairs = context.features(context.split), context.pairs(context.split)
    (narrowed,), _ = narrow(features.h)
    arrays: Arrays = {"index": features.index[:points].numpy(), **_space(narrowed[:points])}
    names = context.data.labelled.class_names
    if features.labels is not None:
        arrays |= {"labels": features.labels[:points].numpy(), "class_names": np.array([str(name) for name in names])}
        predicted = context.predicted.get("linear_probe_accuracy")
        if predicted is not None:
            arrays["confusion"] = _confusion(features.labels, predicted, len(names))
    scales = [float(x.double().square().mean().sqrt()) for x in (features.h, pairs.z[0])]
    arrays |= {"scale": np.array(scales), "spectrum_h": _spectrum(features.h), "spectrum_z": _spectrum(pairs.z[0])}
    arrays |= _named(context, features.index[:points]) | _pointwise(context, points)
    arrays |= _shown(context, len(arrays["index"]), arrays.get("paired"))
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **cast(dict[str, Any], arrays))
    atomic.write(path, buffer.getbuffer())
    return arrays


def _space(h: Tensor) -> Arrays:
    """Principal components of h, its maps to two dimensions, and nearest neighbours."""
    unit = normalize(h, dim=1)
    similarity = unit @ unit.T
    similarity.fill_diagonal_(-2)
    nearest = similarity.topk(min(NEIGHBOURS, max(1, len(h) - 1)), dim=1).indices
    centred = (unit - unit.mean(0)).double()
    left, values, _ = torch.linalg.svd(centred, full_matrices=False)
    components = (left[:, :KEPT] * values[:KEPT]).float().numpy()
    threads = torch.get_num_threads()
    maps = two_dimensional(components)
    torch.set_num_threads(threads)  # numba, below UMAP, sets those of the whole process
    return {"h": components, "neighbours": nearest.numpy(), **maps}


def _named(context: EvaluationContext, rows: Tensor) -> Arrays:
    """What the source calls the samples, where it calls them anything."""
    name = getattr(context.data, "row_names", None)
    names = [] if name is None else [name(context.split, row) for row in rows.tolist()]
    return {"files": np.array(names)} if any(names) else {}


def _confusion(labels: Tensor, predicted: Tensor, classes: int) -> np.ndarray:
    cells = labels * classes + predicted
    return cells.bincount(minlength=classes * classes).reshape(classes, classes).numpy()


def _spectrum(x: Tensor) -> np.ndarray:
    return singular_values(x[:2000]).numpy()


def _pointwise(context: EvaluationContext, points: int) -> Arrays:
    """Of each pair: KSG's terms on the canonical directions of z that other samples showed."""
    fit, held_out = context.pairs("val"), context.pairs(context.split)
    if context.split == "val" or min(len(fit.index), len(held_out.index)) < FEWEST:
        return {}
    (fit_x, x), _ = narrow(fit.z[0], held_out.z[0])
    (fit_y, y), _ = narrow(fit.z[1], held_out.z[1])
    if any(bool((side == side[:1]).all()) for side in (fit_x, fit_y, x, y)):
        return {}  # collapsed: nothing is shared
    across = CCA(dim=min(DIM, x.shape[1], y.shape[1])).fit(fit_x.numpy(), fit_y.numpy())
    u, v = across(x.numpy(), y.numpy())
    values = ksg_pointwise(u, v, K)[:points]
    order = np.argsort(values, kind="stable")
    extremes = min(EXTREMES, len(order) // 2)
    return {"pointwise": values, "paired": np.concatenate([order[::-1][:extremes], order[:extremes]])}


def _shown(context: EvaluationContext, points: int, paired: np.ndarray | None) -> Arrays:
    """Thumbnails of the first samples, their texts, and the views of some of them, where they can be drawn."""
    found: dict[str, list[Any]] = {"thumbnails": [], "captions": [], "views": []}
    for source in context.data.batches(context.split, points):
        for shown in _displayed(context, context.data.clean_views(source)):
            name = "captions" if isinstance(shown, list) else "thumbnails"
            found[name].append(shown)
        if paired is not None:
            views = context.data.views(source, draw=EVALUATION_DRAW).views[:2]
            found["views"].append(list(_displayed(context, views)))
    arrays: Arrays = {}
    if found["thumbnails"]:
        arrays["thumbnails"] = np.concatenate(found["thumbnails"])[:points]
    if found["captions"]:
        arrays["captions"] = np.array([text for texts in found["captions"] for text in texts])[:points]
    return arrays if paired is None else {**arrays, **_drawn_pairs(found["views"], paired)}


def _drawn_pairs(parts: list[list[Any]], paired: np.ndarray) -> Arrays:
    """The pictures and the texts of the two views of these rows; nothing where a view can be neither."""
    if any(len(views) != 2 for views in parts):
        return {}
    sides = list(zip(*parts, strict=True))
    pictures = [np.concatenate(side)[paired] for side in sides if isinstance(side[0], np.ndarray)]
    texts = [[text for part in side for text in part] for side in sides if isinstance(side[0], list)]
    if not pictures or len({picture.shape for picture in pictures}) > 1:
        return {}
    found = {"views": np.stack(pictures, 1)}
    return {**found, "view_texts": np.array([texts[0][row] for row in paired])} if texts else found


def _displayed(context: EvaluationContext, views: list[Tensor]) -> Iterator[np.ndarray | list[str]]:
    """The views that are not the same as one before, as thumbnails or texts."""
    kinds = [x for v, x in enumerate(views) if not any(_same(x, earlier) for earlier in views[:v])]
    for view in kinds:
        shown = context.data.to_display(view.cpu())
        if isinstance(shown, np.ndarray):
            yield _thumbnails(shown)
        elif shown is not None:
            yield [str(text) for text in shown]


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool(torch.equal(a, b))


def _thumbnails(images: np.ndarray) -> np.ndarray:
    """Images `[n, h, w, c]` in [0, 1] -> uint8 `[n, s, s, c]`, s at most `SIDE`."""
    x = torch.from_numpy(np.ascontiguousarray(images)).float().permute(0, 3, 1, 2)
    side = min(SIDE, max(x.shape[2:]))
    if x.shape[2:] != (side, side):
        x = adaptive_avg_pool2d(x, (side, side))
    return x.clamp(0, 1).mul(255).round().byte().permute(0, 2, 3, 1).numpy()
