"""Is a bound low because of its critic? Two comparisons that show it.

A lower bound on test rows may be far below I(X; Y): the critic was fitted on few rows, or never found what is shared.

*Rows fitted on.* A critic that has learned its rows by heart attains more on them than on others. The same bound, on
blocks of as many rows, at the same critic:

    gap = bound on rows fitted on - bound on test rows

On samples of known mutual information (digits, spheres, random features) the truth lay between the two, or near the
upper one.

*Nearest neighbours.* KSG needs no fit. Up to 4 columns a side it takes all of them, on all rows; beyond, canonical
variables or pairs of columns, found on the fit rows, as many as show most on the validation rows, on the test rows. It
is low in general, so that a bound below it misses something. What the critic says of a test row and what its neighbours
say of it go up and down together, so that their difference has less noise than either.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ssl_mi.information.core.caution import Caution
from ssl_mi.information.core.knn_inputs import MAX_DIMS
from ssl_mi.information.core.linalg import normal_scores
from ssl_mi.information.estimators.auto.families import WIDEST_SCAN, cca, pairs
from ssl_mi.information.estimators.ksg import ksg_pointwise
from ssl_mi.information.inference.dependence import Rows
from ssl_mi.information.variational.bounds import Bound
from ssl_mi.information.variational.critics import Critic
from ssl_mi.information.variational.held_out import BoundEstimate, evaluating, gather, score_blocks
from ssl_mi.information.variational.splits import SplitData

MOST_BLOCKS = 3  # of rows fitted on; more change little
MOST_ROWS = 2000  # for nearest neighbours
NEIGHBOURS = 3
CLEARLY = 0.08  # nats, and share of the larger value, by which two values must differ
SIGMAS = 1.5  # silence about a low bound is worse than a word too many
SHARED = 1.5  # variance of KSG over that of as many independent rows, which share no neighbours


def doubts(estimate: BoundEstimate, critic: Critic, bound: Bound, data: SplitData, size: int) -> tuple[Caution, ...]:
    """Cautions about a bound that is low.

    Args:
        estimate: the bound on the test rows.
        critic: fitted on the fit rows.
        bound: likewise.
        data: the rows.
        size: rows scored against each other in the estimate, at most.
    """
    return (*_by_heart(estimate, critic, bound, data.fit, size), *_below_neighbours(estimate, critic, data, size))


def _by_heart(
    estimate: BoundEstimate, critic: Critic, bound: Bound, fit: tuple[Tensor, Tensor], size: int
) -> tuple[Caution, ...]:
    if not any(parameter.requires_grad for parameter in critic.parameters()):
        return ()
    block = math.ceil(estimate.n / math.ceil(estimate.n / size))  # as the test rows were cut
    rows = min(len(fit[0]), MOST_BLOCKS * block)
    with evaluating(bound), torch.no_grad():
        of_fit = float(bound(*gather(score_blocks(critic, fit[0][:rows], fit[1][:rows], block))))
    gap, value = of_fit - estimate.value, estimate.value
    noise = estimate.se * math.sqrt(1 + estimate.n / rows)
    if not gap > max(CLEARLY, CLEARLY * abs(of_fit), SIGMAS * noise):
        return ()
    text = (
        f"the critic attains {of_fit:.2f} nats on rows that it was fitted on and {value:.2f} on test rows: it has "
        f"learned rows by heart, and the bound is low by up to about {gap:.2f} nats; give more rows"
    )
    return (Caution("learned-by-heart", text, {"fit": of_fit, "test": value, "gap": gap}),)


def _below_neighbours(estimate: BoundEstimate, critic: Critic, data: SplitData, size: int) -> tuple[Caution, ...]:
    seen = _neighbours(data)
    if not len(seen):
        return ()
    value = float(seen.mean())
    noise = math.sqrt(SHARED * float(seen.var()) / len(seen) + estimate.se**2)
    if max(data.dims) > MAX_DIMS:  # both are of the test rows, one by one
        difference = seen - _log_ratios(critic, data.test, size)
        noise = math.sqrt(SHARED * float(difference.var()) / len(difference))
    if not value - estimate.value > max(CLEARLY, CLEARLY * value, SIGMAS * noise):
        return ()
    text = (
        f"nearest neighbours see {value:.2f} nats, more than the bound of {estimate.value:.2f}: the critic has "
        "not found what is shared; use mutual_information, another critic, or more rows"
    )
    return (Caution("below-neighbours", text, {"neighbours": value, "bound": estimate.value}),)


def _log_ratios(critic: Critic, test: tuple[Tensor, Tensor], size: int) -> np.ndarray:
    """T(x_i, y_i) - log mean_j e^T(x_i, y_j), float64 [n]: log p(x, y) / p(x) p(y) as the critic has it, nats."""
    with torch.no_grad():
        blocks = score_blocks(critic, *test, size)
        ratios = [block.diagonal() - block.logsumexp(1) + math.log(block.shape[1]) for block in blocks]
    return torch.cat(ratios).double().cpu().numpy()


def _neighbours(data: SplitData) -> np.ndarray:
    """KSG of some rows, row by row, float64 [n], nats; nothing where there are too many columns to look at."""
    if max(data.dims) > MAX_DIMS:
        return _through_projections(data)
    # Without a fit there is nothing to hold rows back for; but those of a series must stay in one piece.
    of_all, rows = [data.test, data.validation, data.fit], None
    if data.test_rows is not None:
        of_all, rows = [data.test], data.test_rows.take(np.arange(min(MOST_ROWS, data.test_rows.n)))
    rng = np.random.default_rng(0)
    x, y = (_scores(torch.cat(side), rng) for side in zip(*of_all, strict=True))
    return _pointwise(x, y, rows)


def _through_projections(data: SplitData) -> np.ndarray:
    """The same of all test rows, through the columns that show most on the validation rows."""
    if max(data.dims) > WIDEST_SCAN:
        return np.empty(0)
    rng = np.random.default_rng(0)
    fit, chosen, test = (
        (_scores(x, rng, len(x)), _scores(y, rng, len(y))) for x, y in (data.fit, data.validation, data.test)
    )
    most, best = -math.inf, test
    for family in (cca, pairs):
        project = family(*fit, np.arange(min(MOST_ROWS, len(fit[0]))), 0)
        a, b = (normal_scores(side) for side in project(*chosen))
        u, v = (normal_scores(side) for side in project(*test))
        for r in range(1, min(MAX_DIMS, a.shape[1], b.shape[1]) + 1):
            shown = _pointwise(a[:, :r], b[:, :r], None)
            if len(shown) and shown.mean() > most:
                most, best = float(shown.mean()), (u[:, :r], v[:, :r])
    return _pointwise(*best, data.test_rows) if most > -math.inf else np.empty(0)


def _pointwise(x: np.ndarray, y: np.ndarray, rows: Rows | None) -> np.ndarray:
    apart = len(x) - (0 if rows is None else 2 * rows.lags)  # at least so many rows are independent of any one
    if apart <= 2 * NEIGHBOURS:
        return np.empty(0)
    return ksg_pointwise(np.ascontiguousarray(x), np.ascontiguousarray(y), NEIGHBOURS, rows=rows)


def _scores(side: Tensor, rng: np.random.Generator, most: int = MOST_ROWS) -> np.ndarray:
    return normal_scores(side[:most].double().cpu().numpy(), rng)
