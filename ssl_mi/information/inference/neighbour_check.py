"""Does an estimate move with its number of neighbours? Its target does not depend on k; its bias does."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from ssl_mi.information.core.caution import Caution
from ssl_mi.information.core.estimate import Estimate

FACTOR = 4  # times k, for the second estimate


def disagreement(value: float, at_more: float, k: int, se: float | None) -> tuple[Caution, ...]:
    """A caution where estimates at k and at 4 k are further apart than noise and small bias make them.

    Args:
        value: the estimate at k neighbours, nats.
        at_more: the estimate at 4 k neighbours, nats.
        k: neighbours.
        se: standard error of `value`, nats, or None.
    """
    if abs(at_more - value) <= max(0.05, 0.05 * abs(value), 4 * (se or 0.0)):
        return ()
    return (
        Caution(
            "disagreement-over-k",
            f"disagreement over k: {value:.3f} at k={k}, {at_more:.3f} at k={FACTOR * k}",
            {"k": k, "value": value, "more_k": FACTOR * k, "value_at_more_k": at_more},
        ),
    )


def with_neighbour_check(
    estimate: Estimate,
    estimator: Callable[..., Estimate],
    evaluate: Callable[[Callable[..., Estimate]], float],
    n: int,
) -> Estimate:
    """The estimate, with a caution where four times as many neighbours give another value.

    Args:
        estimate: what the estimator gave; its neighbours are `settings["k"]`. Without neighbours it is returned as is.
        estimator: (x, y, k=...) -> Estimate.
        evaluate: the value of such an estimator on the same rows, nats.
        n: rows of the smallest sample that is estimated at once: with no more than 4 k of them nothing is compared.
    """
    k = estimate.settings.get("k")
    if k is None or n <= FACTOR * k or "k" not in inspect.signature(estimator).parameters:
        return estimate
    at_more = evaluate(partial(estimator, k=FACTOR * k))
    found = disagreement(estimate.value, at_more, k, estimate.se)
    return replace(estimate, warnings=(*estimate.warnings, *found))
