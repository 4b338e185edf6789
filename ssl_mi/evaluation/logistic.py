"""Multinomial logistic regression to its optimum, at any number of rows and columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, linear

from ssl_mi.evaluation.wide import CACHED, PIECE, WIDEST, Span, eigh, exact

DECAYS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
COPIED = 2**26  # numbers of features that are copied; of more, a piece at a time
STEPS = 40  # of L-BFGS, at most
STEPS_BETWEEN = 20  # of a fit that only chooses a decay
HISTORY = 2**25  # numbers that L-BFGS remembers, twice over


class LinearClassifier(NamedTuple):
    """logits = (x - mean) / scale @ weight.T + bias.

    Attributes:
        mean, scale: Of the features it was fitted on, `[d]`.
        weight, bias: `[classes, d]` and `[classes]`.
        decay: Weight decay of the fit.
        loss: Mean cross-entropy + decay/2 |weight|^2 on the rows it was fitted on.
    """

    mean: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor
    decay: float
    loss: float

    def __call__(self, x: Tensor) -> Tensor:
        parts = x.split(max(1, PIECE // x.shape[1]))
        return torch.cat([linear((part - self.mean) / self.scale, self.weight, self.bias) for part in parts])


class _Start(NamedTuple):
    """Where a fit begins: the solution of another, in the coordinates of the same features."""

    weight: Tensor
    bias: Tensor


class _Rotated(NamedTuple):
    """Standardised features along the axes of their covariance, where its inverse root is a diagonal."""

    x: Tensor
    mean: Tensor
    scale: Tensor
    axes: Tensor
    variance: Tensor

    def of(self, rows: Tensor) -> _Rotated:
        """Some of the rows, in the same coordinates."""
        return self._replace(x=self.x[rows])

    def fit(
        self, labels: Tensor, classes: int, decay: float, start: _Start | None = None, steps: int = STEPS
    ) -> tuple[LinearClassifier, _Start]:
        # W = V diag(root): in V the Hessian is nearly the identity, which saves some 15 times the evaluations.
        root = (self.variance + decay + 1e-4).rsqrt()
        size = max(1, CACHED // max(self.x.shape[1], classes))
        pieces = list(zip(self.x.split(size), labels.split(size), strict=True))
        found, loss = _logistic(pieces, lambda v: v * root, lambda w: w / root, decay, start, self.x, classes, steps)
        return LinearClassifier(self.mean, self.scale, found.weight @ self.axes.T, found.bias, decay, loss), found


class _Spanned(NamedTuple):
    """Standardised features of fewer rows than columns, in the span of the rows: the optimum lies there."""

    inside: _Rotated
    span: Span

    def of(self, rows: Tensor) -> _Spanned:
        """Some of the rows, in the same coordinates."""
        return self._replace(inside=self.inside.of(rows))

    def fit(
        self, labels: Tensor, classes: int, decay: float, start: _Start | None = None, steps: int = STEPS
    ) -> tuple[LinearClassifier, _Start]:
        found, end = self.inside.fit(labels, classes, decay, start, steps)
        # inside: (coordinates - mean) @ weight.T, where the features themselves have mean 0.
        weight = self.span.back(found.weight)
        bias = found.bias - found.weight @ found.mean
        shift, gain = self.span.shift, self.span.gain
        assert shift is not None  # features that are standardised have both
        assert gain is not None
        return LinearClassifier(shift, gain.reciprocal(), weight, bias, decay, found.loss), end


class _Streamed(NamedTuple):
    """Features that are too many to be copied: standardised a piece at a time, whenever they are needed.

    W = V M with M symmetric: the inverse root of the covariance along some axes, a number across them. That brings
    the Hessian nearer to the identity; the optimum is the same for any M.
    """

    x: Tensor
    mean: Tensor
    scale: Tensor
    axes: Tensor  # [d, r]
    variance: Tensor  # [r], along them
    rest: float  # variance of a direction across them, on average
    rows: Tensor | None = None  # those that are used; None for all

    def of(self, rows: Tensor) -> _Streamed:
        """Some of the rows, in the same coordinates."""
        return self._replace(rows=rows)

    def fit(
        self, labels: Tensor, classes: int, decay: float, start: _Start | None = None, steps: int = STEPS
    ) -> tuple[LinearClassifier, _Start]:
        rows = torch.arange(len(self.x), device=self.x.device) if self.rows is None else self.rows
        root, rest = (self.variance + decay + 1e-4).rsqrt(), (self.rest + decay + 1e-4) ** -0.5

        def along(v: Tensor, root: Tensor, rest: float) -> Tensor:
            return rest * v + (v @ self.axes * (root - rest)) @ self.axes.T

        size = max(1, PIECE // max(self.x.shape[1], classes))
        parts = list(zip(rows.split(size), labels.split(size), strict=True))
        pieces = _Lazily(lambda: (((self.x[piece] - self.mean) / self.scale, of) for piece, of in parts))
        found, loss = _logistic(
            pieces,
            lambda v: along(v, root, rest),
            lambda w: along(w, root.reciprocal(), 1 / rest),
            decay,
            start,
            self.x,
            classes,
            steps,
        )
        return LinearClassifier(self.mean, self.scale, found.weight, found.bias, decay, loss), found


@dataclass(frozen=True)
class _Lazily:
    """Pieces that are made anew in each pass."""

    make: Callable[[], Iterable[tuple[Tensor, Tensor]]]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(self.make())


def _logistic(
    pieces: Iterable[tuple[Tensor, Tensor]],
    whiten: Callable[[Tensor], Tensor],
    unwhiten: Callable[[Tensor], Tensor],
    decay: float,
    start: _Start | None,
    like: Tensor,
    classes: int,
    steps: int,
) -> tuple[_Start, float]:
    """The minimum over W of mean cross-entropy + decay/2 |W|^2, W = whiten(V), and its value.

    Each piece is read once for the loss and its gradient. Products are in the precision of the features, sums over
    pieces in float64.

    Args:
        pieces: Features [rows, d] and labels [rows].
        whiten: A symmetric linear map of the rows of V.
        unwhiten: Its inverse.
        decay: Weight decay.
        start: Where to begin; None for zero.
        like: Features.
        classes: How many.
        steps: Of L-BFGS, at most.
    """
    wide = exact(like)
    v = like.new_zeros(classes, like.shape[1]) if start is None else unwhiten(start.weight)
    bias = like.new_zeros(classes) if start is None else start.bias.clone()

    def gradients() -> Tensor:
        weight = whiten(v)
        loss = torch.zeros((), dtype=wide, device=like.device)
        slope, shift, n = torch.zeros_like(weight, dtype=wide), torch.zeros_like(bias, dtype=wide), 0
        for x, labels in pieces:
            # Classes by rows: products of few columns with many are the fast ones.
            scores = torch.addmm(bias[:, None], weight, x.T).log_softmax(0)
            loss -= scores.gather(0, labels[None]).sum(dtype=wide)
            errors = scores.exp_().scatter_add_(0, labels[None], scores.new_full((1, len(x)), -1.0))
            slope += errors @ x
            shift += errors.sum(1)
            n += len(x)
        v.grad = whiten((slope / n).to(v.dtype) + decay * weight)
        bias.grad = (shift / n).to(bias.dtype)
        return loss / n + decay / 2 * weight.square().sum(dtype=wide)

    with torch.no_grad():
        _minimise([v, bias], gradients, steps)
        return _Start(whiten(v), bias), gradients().item()


def _minimise(parameters: list[Tensor], gradients: Callable[[], Tensor], steps: int) -> None:
    """L-BFGS. gradients: sets the parameters' `.grad` and gives the loss. steps: at most."""
    numbers = sum(p.numel() for p in parameters)
    optimizer = torch.optim.LBFGS(
        parameters,
        max_iter=steps,
        max_eval=steps + 10,  # near the optimum a line search in float32 would go on for nothing
        history_size=min(20, max(3, HISTORY // numbers)),
        tolerance_grad=1e-5,
        tolerance_change=1e-7,
        line_search_fn="strong_wolfe",
    )
    optimizer.step(gradients)


def _prepared(x: Tensor) -> _Rotated | _Spanned | _Streamed:
    mean = x.mean(0)
    scale = x.std(0, correction=0)
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    n, d = x.shape
    if d > WIDEST and n <= WIDEST:
        span = Span.of(x, mean, 1 / scale)
        return _Spanned(_rotate(span(x), torch.zeros(span.dim).to(x), torch.ones(span.dim).to(x)), span)
    if d <= WIDEST and n * d <= COPIED:
        return _rotate(x, mean, scale)
    return _streamed(x, mean, scale)


def _rotate(x: Tensor, mean: Tensor, scale: Tensor) -> _Rotated:
    x = (x - mean) / scale
    variance, axes = eigh(x.T @ x / len(x))
    return _Rotated(x @ axes, mean, scale, axes, variance.clamp_min(0))


def _streamed(x: Tensor, mean: Tensor, scale: Tensor) -> _Streamed:
    n, d = x.shape
    if d <= WIDEST:
        gram = x.new_zeros(d, d)
        for piece in x.split(max(1, PIECE // d)):
            piece = (piece - mean) / scale
            gram += piece.T @ piece / n
        variance, axes = eigh(gram)
        return _Streamed(x, mean, scale, axes, variance.clamp_min(0), 0.0)
    # The principal axes of some of the rows: they need not be exact.
    some = (x[: max(64, min(WIDEST, n, COPIED // d))] - mean) / scale
    squares, left = eigh(some @ some.T)
    kept = squares > 1e-6 * squares[-1]
    axes = some.T @ (left[:, kept] / squares[kept].sqrt())
    # Of a total variance of d, what the sample does not explain is spread over the other directions.
    variance = squares[kept] / len(some)
    rest = max(0.0, d - variance.sum().item()) / max(1, d - len(variance))
    return _Streamed(x, mean, scale, axes, variance, rest)


def fit_linear(x: Tensor, labels: Tensor, classes: int, decay: float) -> LinearClassifier:
    """Multinomial logistic regression, to its optimum: mean cross-entropy + decay/2 |W|^2.

    Columns are brought to variance 1, so `decay` means the same for any encoder. L-BFGS, in coordinates that whiten
    the features. Beside x it takes about a GiB at most, and no step of it grows with d^3 above d = 2,048: up to 2,048
    rows of more columns are solved in the span of the rows, which is exact; larger features are taken in pieces.

    Args:
        x: `[n, d]`.
        labels: int64 `[n]` in 0 .. classes - 1.
        classes: How many.
        decay: Weight decay.
    """
    return _prepared(x).fit(labels, classes, decay)[0]


def tuned_linear(
    x: Tensor, labels: Tensor, classes: int, decays: Sequence[float] = DECAYS, seed: int = 0
) -> LinearClassifier:
    """`fit_linear` at the decay that predicts a random fifth of the rows best, refitted on all of them.

    Args:
        x: `[n, d]`.
        labels: int64 `[n]` in 0 .. classes - 1.
        classes: How many.
        decays: To choose from; a single one is taken as it is.
        seed: Of that fifth.
    """
    features = _prepared(x)
    if len(decays) == 1:
        return features.fit(labels, classes, decays[0])[0]
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed)).to(x.device)
    held, rest = order[: len(x) // 5], order[len(x) // 5 :]
    part, start, losses = features.of(rest), None, {}
    # From the strongest decay, whose optimum is near zero, each fit begins where the last one ended.
    for decay in sorted(set(decays), reverse=True):
        found, start = part.fit(labels[rest], classes, decay, start, STEPS_BETWEEN)
        losses[decay] = cross_entropy(found(x[held]), labels[held]).item()
    del part
    # From zero: what `fit_linear` gives at this decay.
    return features.fit(labels, classes, min(decays, key=losses.__getitem__))[0]
