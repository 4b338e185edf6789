"""`neural_mi` under the name of each bound: `infonce(x, y)` is `neural_mi(x, y, "infonce")`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from numpy.typing import ArrayLike

from ssl_mi.information.core.estimate import Estimate
from ssl_mi.information.variational.neural import neural_mi


def _estimator(name: str) -> Callable[..., Estimate]:
    """`neural_mi` with its argument `bound` fixed; the other arguments, their defaults and its description stay."""

    def estimator(x: ArrayLike, y: ArrayLike, *args: Any, **settings: Any) -> Estimate:
        return neural_mi(x, y, name, *args, **settings)

    whole = inspect.signature(neural_mi)
    kept = [parameter for parameter in whole.parameters.values() if parameter.name != "bound"]
    estimator.__signature__ = whole.replace(parameters=kept)  # type: ignore[attr-defined]
    estimator.__name__ = estimator.__qualname__ = name
    estimator.__doc__ = f'neural_mi(x, y, "{name}", ...).\n\n{inspect.getdoc(neural_mi)}'
    return estimator


infonce = _estimator("infonce")
dv = _estimator("dv")
mine = _estimator("mine")
nwj = _estimator("nwj")
tuba = _estimator("tuba")
interpolated = _estimator("interpolated")
js = _estimator("js")
smile = _estimator("smile")
