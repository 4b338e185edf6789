"""scikit-learn's scores of features by mutual information, faster, and a selector that keeps the best features.

`mutual_info_regression` and `mutual_info_classif` take the arguments of the functions of those names in
sklearn.feature_selection and return the same numbers: in nats, clipped at 0, with the same noise of 1e-10 against ties
for the same `random_state`. (Where labels meet numbers they may differ in the third digit: counts are exact here, and
off by one for some rows there, where a distance is the root of a square.)

    numbers, numbers   Kraskov, Stögbauer & Grassberger 2004, eq. 8 (estimators/ksg.py)
    numbers, labels    Ross 2014
    labels, labels     the plug-in estimate

They score one column at a time and give a number without an error. `mutual_information` says how far to trust one pair,
`mi_matrix` compares all pairs with corrected p-values.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import issparse
from sklearn.base import BaseEstimator
from sklearn.feature_selection import SelectorMixin
from sklearn.preprocessing import scale
from sklearn.utils import check_random_state, check_X_y
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_is_fitted, validate_data

from ssl_mi.information import neighbours
from ssl_mi.information.core.settings import whole_number
from ssl_mi.information.estimators.discrete import entropy_of_counts
from ssl_mi.information.estimators.ksg import ksg_pointwise, ross_pointwise

NOISE = 1e-10  # against ties, relative to the mean magnitude, as scikit-learn adds it


def mutual_info_regression(
    X: Any,
    y: ArrayLike,
    *,
    discrete_features: str | bool | ArrayLike = "auto",
    n_neighbors: int = 3,
    copy: bool = True,
    random_state: int | np.random.RandomState | None = None,
    n_jobs: int | None = None,
) -> np.ndarray:
    """I(feature; y) of each feature with a continuous target, in nats, clipped at 0.

    Args:
        X: [n, d], an array, a data frame or a sparse matrix.
        y: [n], numbers.
        discrete_features: "auto" (True for a sparse X, else False), one answer for all features, a mask [d], or the
            indices of those that hold labels.
        n_neighbors: k.
        copy: accepted for compatibility; X is never changed.
        random_state: of the noise that breaks ties.
        n_jobs: threads; None is 1, -1 all cores.

    Returns:
        float64 [d].

    Raises:
        ValueError: what scikit-learn's checks refuse, and no more rows than neighbours.

    Example:
        >>> X = np.random.default_rng(0).standard_normal((500, 3))
        >>> scores = mutual_info_regression(X, X[:, 1] + 0.5, random_state=0)
        >>> int(scores.argmax())
        1
    """
    return _scores(X, y, discrete_features, False, n_neighbors, random_state, n_jobs)


def mutual_info_classif(
    X: Any,
    y: ArrayLike,
    *,
    discrete_features: str | bool | ArrayLike = "auto",
    n_neighbors: int = 3,
    copy: bool = True,
    random_state: int | np.random.RandomState | None = None,
    n_jobs: int | None = None,
) -> np.ndarray:
    """I(feature; y) of each feature with class labels, in nats, clipped at 0.

    Args:
        X, discrete_features, n_neighbors, copy, random_state, n_jobs: as in `mutual_info_regression`.
        y: [n], labels.

    Returns:
        float64 [d].

    Raises:
        ValueError: as `mutual_info_regression` does, and a target that is not of classes.
    """
    check_classification_targets(y)
    return _scores(X, y, discrete_features, True, n_neighbors, random_state, n_jobs)


def _scores(
    X: Any,
    y: Any,
    discrete_features: Any,
    discrete_target: bool,
    n_neighbors: Any,
    random_state: Any,
    n_jobs: int | None,
) -> np.ndarray:
    k = whole_number("n_neighbors", n_neighbors, 1, "neighbours")
    X, y = check_X_y(X, y, accept_sparse="csc", y_numeric=not discrete_target)
    n, d = X.shape
    discrete = _mask(discrete_features, d, issparse(X))
    if issparse(X) and not discrete.all():
        raise ValueError("X is sparse and has continuous features: pass X.toarray(), or discrete_features=True")
    if n < 2 or (n <= k and not (discrete.any() or discrete_target)):
        raise ValueError(f"X has n_samples={n}: {k} neighbours need at least {k + 1} rows; pass more, or n_neighbors")
    rng = check_random_state(random_state)
    numbers = _without_ties(X[:, ~discrete], rng) if not discrete.all() else np.empty((n, 0))
    target = np.unique(y, return_inverse=True)[1] if discrete_target else _without_ties(y[:, None], rng)[:, 0]
    pair = partial(_of_pair, y=target, y_discrete=discrete_target, k=k)
    with ThreadPoolExecutor(_workers(n_jobs)) as pool:
        return np.fromiter(pool.map(pair, _columns(X, numbers, discrete), discrete), np.float64, d)


def _mask(discrete_features: Any, d: int, sparse: bool) -> np.ndarray:
    """Which features hold labels, bool [d]."""
    if isinstance(discrete_features, str):
        if discrete_features != "auto":
            raise ValueError(f"discrete_features must be 'auto', a bool, a mask or indices, got {discrete_features!r}")
        return np.full(d, sparse)
    chosen = np.asarray(discrete_features)
    if chosen.ndim == 0:
        return np.full(d, bool(chosen))
    if chosen.dtype == bool and chosen.shape != (d,):
        raise ValueError(f"discrete_features is a mask of shape {chosen.shape} for {d} features: pass one entry each")
    mask = np.zeros(d, bool)
    try:
        mask[chosen] = True
    except IndexError as problem:
        raise ValueError(f"discrete_features does not index {d} features: {problem}") from problem
    return mask


def _without_ties(values: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
    """Columns of variance 1, with the noise that scikit-learn adds: [n, d]."""
    values = scale(values.astype(np.float64), with_mean=False)
    magnitude = np.maximum(1, np.abs(values).mean(0))
    return values + NOISE * magnitude * rng.standard_normal(size=values.shape)


def _columns(X: Any, numbers: np.ndarray, discrete: np.ndarray) -> Iterator[np.ndarray]:
    """Each feature [n]: numbers as they are prepared, labels as codes from 0."""
    place = iter(range(numbers.shape[1]))
    for column, labels in enumerate(discrete):
        if not labels:
            yield numbers[:, next(place)]
        else:
            raw = X[:, [column]].toarray()[:, 0] if hasattr(X, "toarray") else X[:, column]
            yield np.unique(raw, return_inverse=True)[1]


def _of_pair(x: np.ndarray, x_discrete: bool, y: np.ndarray, y_discrete: bool, k: int) -> float:
    if x_discrete and y_discrete:
        joint = np.unique(x * (y.max() + 1) + y, return_counts=True)[1]
        value = sum(entropy_of_counts(np.bincount(side)) for side in (x, y)) - entropy_of_counts(joint)
    elif x_discrete or y_discrete:
        numbers, labels = (y, x) if x_discrete else (x, y)
        single = np.bincount(labels)[labels] == 1
        value = float(ross_pointwise(numbers[~single, None], labels[~single], k).mean()) if not single.all() else 0.0
    else:
        value = float(ksg_pointwise(x[:, None], y[:, None], k).mean())
    return max(0.0, value)


def _workers(n_jobs: int | None) -> int:
    if n_jobs is None:
        return 1
    if n_jobs == 0:
        raise ValueError("n_jobs must be None, a number of threads or -1 for all cores, got 0")
    return n_jobs if n_jobs > 0 else max(1, neighbours.queries.threads() + 1 + n_jobs)


class MutualInformationSelector(SelectorMixin, BaseEstimator):
    """Keeps the features that share most with the target, one at a time: a step of a scikit-learn pipeline.

    Two copies of one feature are both kept, and features that say something only together are not found.

    Args:
        n_features: how many are kept: a number, or a share of them between 0 and 1. More than there are keeps all.
        target: "auto" takes the target as labels where scikit-learn's `type_of_target` does; "discrete" or
            "continuous" decides it.
        discrete_features: as in `mutual_info_regression`.
        n_neighbors: k.
        random_state: of the noise that breaks ties.
        n_jobs: threads; None is 1, -1 all cores.

    Attributes:
        scores_: I(feature; y) of each feature, float64 [n_features_in_], nats.
        n_features_in_: features seen in `fit`.

    Example:
        >>> from sklearn.pipeline import make_pipeline
        >>> from sklearn.linear_model import LinearRegression
        >>> X = np.random.default_rng(0).standard_normal((300, 5))
        >>> model = make_pipeline(MutualInformationSelector(n_features=1), LinearRegression()).fit(X, X[:, 2])
        >>> [int(column) for column in model[0].get_support(indices=True)]
        [2]
    """

    def __init__(
        self,
        n_features: int | float = 10,
        *,
        target: str = "auto",
        discrete_features: str | bool | ArrayLike = "auto",
        n_neighbors: int = 3,
        random_state: int | np.random.RandomState | None = 0,
        n_jobs: int | None = None,
    ) -> None:
        self.n_features = n_features
        self.target = target
        self.discrete_features = discrete_features
        self.n_neighbors = n_neighbors
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(self, X: Any, y: ArrayLike) -> MutualInformationSelector:
        """Score each feature against the target.

        Args:
            X: [n, d], an array, a data frame or a sparse matrix.
            y: [n], numbers or labels.
        """
        kept = self._kept()
        score = self._score_function(y)
        X, y = validate_data(self, X, y, accept_sparse="csc", y_numeric=score is mutual_info_regression)
        self.scores_ = score(
            X,
            y,
            discrete_features=self.discrete_features,
            n_neighbors=self.n_neighbors,
            random_state=self.random_state,
            n_jobs=self.n_jobs,
        )
        if isinstance(kept, int) and kept > self.n_features_in_:
            text = f"n_features={kept} is more than the {self.n_features_in_} features of X: all are kept"
            warnings.warn(text, UserWarning, stacklevel=2)
        return self

    def _kept(self) -> int | float:
        if isinstance(self.n_features, float | np.floating) and 0 < self.n_features < 1:
            return float(self.n_features)
        return whole_number("n_features", self.n_features, 1, "features, or a share between 0 and 1")

    def _score_function(self, y: Any) -> Callable[..., np.ndarray]:
        if self.target not in ("auto", "discrete", "continuous"):
            raise ValueError(f"target must be 'auto', 'discrete' or 'continuous', got {self.target!r}")
        if y is None:
            raise ValueError("requires y to be passed, but the target y is None")
        labels = self.target == "discrete" or (
            self.target == "auto" and type_of_target(y, input_name="y") in ("binary", "multiclass")
        )
        return mutual_info_classif if labels else mutual_info_regression

    def _get_support_mask(self) -> np.ndarray:
        check_is_fitted(self)
        kept = self._kept()
        kept = max(1, round(kept * len(self.scores_))) if isinstance(kept, float) else kept
        mask = np.zeros(len(self.scores_), bool)
        mask[np.argsort(-self.scores_, kind="stable")[:kept]] = True
        return mask

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.input_tags.sparse = True
        return tags
