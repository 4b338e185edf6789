"""Labels and factors of samples, as the other side of a mutual information: I(h; label), I(h; factor)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssl_mi.evaluation.contracts import Split
from ssl_mi.information.core.inputs import read_labels
from ssl_mi.information.inference import strata
from ssl_mi.information.projections.linear import CCA, Linear

Rows = Tensor | slice

MOST_LABELS = 1024  # that a projection of h is fitted to predict


@dataclass(frozen=True)
class OntoValues:
    """A projection of h alone, by CCA onto what predicts the values beside it; these are left as they are.

    Attributes:
        dim: Dimensions of h that are kept.
    """

    dim: int

    def fit(self, h: Tensor, values: Tensor, seed: int = 0) -> _Onto:
        """Fit on `h: [n, d]` and `values: [n]` or `[n, k]`."""
        return _Onto(CCA(self.dim).fit(h, _targets(values), seed=seed), values)


@dataclass(frozen=True)
class _Onto:
    fitted: Linear
    fit_values: Tensor

    @property
    def name(self) -> str:
        return self.fitted.name

    def __call__(self, h: Tensor, values: Tensor) -> tuple[Any, Tensor]:
        return self.fitted(h, _targets(values, like=self.fit_values))[0], values


def known_values(split: Split) -> dict[str, Tensor]:
    """What is known of each sample: name -> `[N]` or `[N, k]`; the class under "label" alone."""
    labels = split.labels
    factors = {n: x for n, x in split.factors.items() if labels is None or not torch.equal(x, labels)}
    return factors if labels is None else {"label": labels, **factors}


def halves(n: int) -> tuple[tuple[Rows, Rows], tuple[Rows, Rows]]:
    """(fit on, estimate on) twice. Rows are samples in a random order: the halves share none."""
    first, second = slice(None, n // 2), slice(n // 2, None)
    return (first, second), (second, first)


def label_halves(values: Tensor) -> tuple[tuple[Rows, Rows], tuple[Rows, Rows]]:
    """`halves`, dealt where one of them would lack a label that the other has."""
    n = len(values)
    if values.is_floating_point():
        return halves(n)
    first, second = (torch.from_numpy(rows) for rows in strata.halves(values, np.arange(n)))
    return (first, second), (second, first)


def can_be_estimated(fit: Tensor, held_out: Tensor) -> bool:
    """Whether there are two different labels, and one with a neighbour of its own kind."""
    return len(fit.unique(dim=0)) > 1 and strata.repeats(read_labels(held_out)[0])


def rare_labels(sides: Sequence[tuple], names: Sequence[str], enough: int, shown: int = 3) -> str:
    """Names the labels with under `enough` samples where the projection learns or where it is applied; "" for none.

    Args:
        sides: (h, values) to fit on and (h, values) to estimate on, for each fold.
        names: Of the labels, or () where they are numbers.
        enough: Samples of a label that make it common.
        shown: Labels that are named.
    """
    where = [side.reshape(len(side), -1) for _, fit, _, held_out in sides for side in (fit, held_out)]
    if where[0].shape[1] > 1:
        return ""  # several numbers make one label, and have no name
    everything = torch.cat([*where, torch.arange(len(names))[:, None].to(where[0])])
    found, codes = everything.flatten().unique(return_inverse=True)
    parts = codes.split([*map(len, where), len(names)])[:-1]
    fewest = torch.stack([part.bincount(minlength=len(found)) for part in parts]).amin(0)
    rare = (fewest < enough).nonzero().flatten().tolist()
    if not rare:
        return ""
    some = ", ".join(f"'{names[c] if names else found[c].item()}' {fewest[c]}" for c in rare[:shown])
    more = f" and {len(rare) - shown} more" if len(rare) > shown else ""
    return f"labels with under {enough} samples to learn from or to measure, which may be missed: {some}{more}"


def _targets(values: Tensor, like: Tensor | None = None) -> Tensor:
    """What a linear projection is to predict: one-hot of a discrete factor; f, f^2 of a continuous one."""
    if not values.is_floating_point():
        known, counts = (values if like is None else like).unique(return_counts=True)
        if len(known) > MOST_LABELS:  # an indicator for each of the most frequent
            known = known[counts.argsort(descending=True, stable=True)[:MOST_LABELS]].sort().values
        return (values.reshape(len(values), -1, 1) == known).double().reshape(len(values), -1)
    columns = values.double().reshape(len(values), -1)
    return torch.cat([columns, columns**2], 1)
