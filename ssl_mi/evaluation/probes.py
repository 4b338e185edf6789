"""Evaluations: the accuracy of a linear classifier and of nearest neighbours on frozen features.

Probes are fitted on features that carry no graph, so nothing of them reaches the encoder. A probe's only
hyper-parameter, the weight decay, is chosen on a held-out part of the rows it is fitted on, never on
the rows it is judged on; what is reported is the last epoch, never the best.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, linear, normalize

from ssl_mi.evaluation.context import Evaluation, EvaluationContext, Explanation, Plot
from ssl_mi.evaluation.embed import Features
from ssl_mi.evaluation.measurement import Measurement
from ssl_mi.evaluation.wide import PIECE, WIDEST, Span, eigh, exact, narrow
from ssl_mi.report.plots import draw_accuracies

DECAYS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
PANEL = "accuracy"  # of probes.png
COPIED = 2**26  # numbers of features that are copied; of more, a piece at a time
WEIGHTS = 2**22  # of a classifier; where there would be more, features are narrowed first
CACHED = 2**20  # numbers that are worked on at a time and stay in a processor's cache
BANK = 2**16  # rows of the bank that are compared at a time
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


def nearest(bank: Tensor, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k rows of the bank with the largest cosine similarity, a tile of rows and queries at a time.

    Args:
        bank: `[n, d]`.
        queries: `[m, d]`.
        k: How many, at most n.

    Returns:
        Similarities `[m, k]`, largest first, and row numbers int64 `[m, k]`.
    """
    length = torch.linalg.vector_norm(bank, dim=1).clamp_min(1e-12)
    wide = max(k, min(len(bank), BANK))
    best = []
    rows = max(1, min(len(queries), 1024, 8 * CACHED // max(wide, 2 * k)))
    buffer = bank.new_empty(rows * wide)  # one for all tiles: memory that is freed and taken again grows
    for part in queries.split(rows):
        part = normalize(part, dim=1)
        top, where = part.new_empty(len(part), 0), torch.empty(len(part), 0, dtype=torch.int64, device=part.device)
        for start in range(0, len(bank), wide):
            near = bank[start : start + wide]
            out = buffer[: len(part) * len(near)].view(len(part), len(near))
            similarity = torch.mm(part, near.T, out=out).div_(length[start : start + wide])
            new, place = similarity.topk(min(k, similarity.shape[1]), dim=1)
            top, where = torch.cat([top, new], 1), torch.cat([where, place + start], 1)
            if top.shape[1] > k:
                top, order = top.topk(k, dim=1)
                where = where.gather(1, order)
        best.append((top, where))
    return torch.cat([top for top, _ in best]), torch.cat([where for _, where in best])


def votes_of(similarity: Tensor, labels: Tensor, classes: int, temperature: float) -> Tensor:
    """Votes of neighbours, largest similarity first, with weights e^(similarity / temperature).

    Args:
        similarity: Of the neighbours of each query, `[m, k]`.
        labels: Of them, int64 `[m, k]`.
        classes: How many.
        temperature: Of the weights.

    Returns:
        `[m, classes]`; the nearest neighbour has weight 1.
    """
    # Relative to the nearest: the vote is the same, and nothing overflows.
    weight = ((similarity - similarity[:, :1]) / temperature).exp()
    return weight.new_zeros(len(weight), classes).scatter_add_(1, labels, weight)


def knn_votes(
    bank: Tensor, bank_labels: Tensor, queries: Tensor, classes: int, k: int = 200, temperature: float = 0.1
) -> Tensor:
    """Weighted nearest-neighbour votes by cosine similarity s: weight e^(s / temperature).

    Args:
        bank, bank_labels: What votes, `[n, d]` and int64 `[n]`.
        queries: `[m, d]`.
        classes: How many.
        k: Neighbours.
        temperature: 0.07 in the paper, 0.1 in common use.

    Returns:
        The votes for each class, `[m, classes]`; the nearest neighbour has weight 1.

    References:
        Wu et al. 2018, arXiv:1805.01978, section 3.4.
    """
    similarity, neighbour = nearest(bank, queries, k)
    return votes_of(similarity, bank_labels[neighbour], classes, temperature)


def knn_predict(
    bank: Tensor, bank_labels: Tensor, queries: Tensor, classes: int, k: int = 200, temperature: float = 0.1
) -> Tensor:
    """The classes with most of `knn_votes`, int64 `[m]`.

    Args:
        bank, bank_labels: What votes, `[n, d]` and int64 `[n]`.
        queries: `[m, d]`.
        classes: How many.
        k: Neighbours.
        temperature: 0.07 in the paper, 0.1 in common use.
    """
    similarity, neighbour = nearest(bank, queries, k)
    few = max(1, CACHED // classes)
    parts = zip(similarity.split(few), bank_labels[neighbour].split(few), strict=True)
    return torch.cat([votes_of(*part, classes, temperature).argmax(1) for part in parts])


@dataclass
class Probe(Evaluation):
    """Accuracy of a classifier that is fitted on h of labelled samples; nothing without labels.

    A subclass gives `scores`, or `predict` alone, and `metric`, `quantity` and `headline`.

    Attributes:
        limit: Samples it is fitted on during training; at the end all are used.
        details: Whether top-5 and balanced accuracy are measured too, and the confusion matrix is kept in
            `confusion`. These need `scores`.
    """

    limit: int | None = 10_000
    details: bool = field(default=False, kw_only=True)
    name: str = field(default="probes", init=False)
    confusion: Tensor | None = field(default=None, init=False, repr=False)

    wants_pixels = True
    chooses_on_validation: ClassVar[bool] = False
    metric = "probe_accuracy"
    quantity = "probe accuracy"
    headline = ""
    explanation: ClassVar[Explanation | None] = None

    def scores(self, x: Tensor, labels: Tensor, queries: Tensor, classes: int) -> tuple[Tensor, str]:
        """Fit on `x: [n, d]` and `labels: [n]`, score `queries: [m, d]`.

        Returns:
            `[m, classes]`, the largest for the predicted class, and a note on how they were found.
        """
        raise NotImplementedError

    def predict(self, x: Tensor, labels: Tensor, queries: Tensor, classes: int) -> tuple[Tensor, str]:
        """Fit on `x: [n, d]` and `labels: [n]`, predict for `queries: [m, d]`.

        Returns:
            The predicted classes, int64 `[m]`, and a note on how they were found.
        """
        found, note = self.scores(x, labels, queries, classes)
        return found.argmax(1), note

    def embed(self, context: EvaluationContext) -> None:
        """Features to fit on and to judge on."""
        if context.data.labelled.labels is not None:
            self._fit_features(context)
            context.features(context.split)

    def _fit_features(self, context: EvaluationContext) -> Features:
        # During training a sample is enough to fit on; at the end everything is used.
        return context.fitting(None if context.final else self.limit, self.chooses_on_validation)

    def compute(self, context: EvaluationContext) -> list[Measurement]:
        """The accuracy on the split, with its Wilson interval."""
        if context.data.labelled.labels is None:
            return []
        fit, held_out = self._fit_features(context), context.features(context.split)
        fit_labels, labels = _labels(fit, "labelled"), _labels(held_out, context.split)
        device = context.module.device
        names = context.data.labelled.class_names
        given = fit.h.to(device), fit_labels.to(device), held_out.h.to(device), len(names)
        scores, predicted = None, None
        if self.details:
            scores, note = self.scores(*given)
            scores = scores.cpu()
            predicted = scores.argmax(1)
        else:
            predicted, note = self.predict(*given)
        context.predicted[self.metric] = predicted.cpu()
        accuracy = (predicted.cpu() == labels).float().mean().item()
        n = len(labels)
        low, high = wilson(accuracy, n)
        note += _never_right(fit_labels, labels, names)
        return [
            context.measurement(
                self.name,
                self.metric,
                self.quantity,
                accuracy,
                low=low,
                high=high,
                baseline=labels.bincount().max().item() / n,
                ceiling=1.0,
                n=n,
                note=f"{note}; fitted on {len(fit.h)} samples; baseline: the largest class",
                headline=self.headline,
                panel=PANEL,
            ),
            *([] if scores is None else self._details(context, scores, labels)),
        ]

    def _details(self, context: EvaluationContext, scores: Tensor, labels: Tensor) -> Iterable[Measurement]:
        """Top-5 accuracy where there are more than 5 classes, balanced accuracy; keeps the confusion matrix."""
        classes, n = scores.shape[1], len(labels)
        self.confusion = confusion_matrix(labels, scores.argmax(1), classes)
        stem, words = self.metric.removesuffix("_accuracy"), self.quantity
        if classes > 5:
            top = (scores.topk(5, dim=1).indices == labels[:, None]).any(1).float().mean().item()
            low, high = wilson(top, n)
            frequent = labels.bincount().topk(min(5, len(labels.unique()))).values.sum().item() / n
            yield context.measurement(
                self.name,
                f"{stem}_top5",
                f"{words}, top 5",
                top,
                low=low,
                high=high,
                baseline=frequent,
                ceiling=1.0,
                n=n,
            )
        value, half = balanced_accuracy(self.confusion)
        yield context.measurement(
            self.name,
            f"{stem}_balanced_accuracy",
            f"{words}, mean over classes",
            value,
            low=max(0.0, value - half),
            high=min(1.0, value + half),
            baseline=1 / int((self.confusion.sum(1) > 0).sum()),
            ceiling=1.0,
            n=n,
        )

    def explain(self, metric: str) -> Explanation | None:
        """See `Evaluation.explain`."""
        return self.explanation if metric == self.metric else None

    def plots(self, rows: Sequence[Mapping[str, Any]], folder: Path) -> Iterable[Plot]:
        """probes.png: the accuracies over the epochs, of all probes."""
        path = draw_accuracies(rows, PANEL, folder / "probes.png")
        return [] if path is None else [Plot("Probes over the epochs", path)]


@dataclass
class LinearProbe(Probe):
    """Accuracy of multinomial logistic regression on h.

    Of more than 2^22 weights (1,000 classes of 4,194 columns), h is first brought into the span of 2,048 samples, and
    the note of the measurement says so.

    Attributes:
        limit: Samples it is fitted on during training.
        decays: Weight decays to choose from, on a held-out fifth of those samples.
        seed: Of that fifth.
        details: See `Probe`.
    """

    decays: Sequence[float] = DECAYS
    seed: int = 0
    metric = "linear_probe_accuracy"
    quantity = "linear-probe accuracy"
    headline = "linear_probe"
    explanation = Explanation(
        "linear probe",
        "higher",
        "Share of held-out samples whose class a linear classifier on the frozen h predicts. Chance is the largest "
        "class.",
    )

    def scores(self, x: Tensor, labels: Tensor, queries: Tensor, classes: int) -> tuple[Tensor, str]:
        """See `Probe.scores`."""
        done = ""
        if classes * x.shape[1] > WEIGHTS and len(x) > WIDEST:
            (x, queries), done = narrow(x, queries)
        classifier = tuned_linear(x, labels, classes, self.decays, self.seed)
        return classifier(queries), f"L-BFGS, decay {classifier.decay:g}{done and ', ' + done}"


@dataclass
class KNN(Probe):
    """Accuracy of a weighted nearest-neighbour vote on h.

    Attributes:
        limit: Samples in the bank during training.
        k: Neighbours, where the bank holds at least 10 times as many samples; of a smaller bank, a tenth.
        temperature: Of the weights, e^(similarity / temperature).
        details: See `Probe`.
    """

    k: int = 200
    temperature: float = 0.1
    metric = "knn_accuracy"
    quantity = "kNN accuracy"
    headline = "knn"
    explanation = Explanation(
        "kNN",
        "higher",
        "Share of held-out samples whose class the nearest neighbours in h vote for. Nothing is fitted.",
    )

    def scores(self, x: Tensor, labels: Tensor, queries: Tensor, classes: int) -> tuple[Tensor, str]:
        """See `Probe.scores`."""
        k = max(1, min(self.k, len(x) // 10))
        return knn_votes(x, labels, queries, classes, k, self.temperature), f"k {k}, T {self.temperature:g}"


def _labels(features: Features, split: str) -> Tensor:
    if features.labels is None:
        raise ValueError(f"the {split} samples have no labels, and others do: probes need labels of all splits")
    return features.labels


def _never_right(fit: Tensor, labels: Tensor, names: Sequence[str]) -> str:
    """A note on classes that occur where the probe is judged and not where it is fitted."""
    unseen = (fit.bincount(minlength=len(names)) == 0) & (labels.bincount(minlength=len(names)) > 0)
    if not unseen.any():
        return ""
    missing = [f"'{names[c]}'" for c in unseen.nonzero().flatten().tolist()]
    return f"; never right on {', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}: none to fit on"


def confusion_matrix(labels: Tensor, predicted: Tensor, classes: int) -> Tensor:
    """How often class i was predicted as class j: int64 `[classes, classes]`.

    Args:
        labels, predicted: int64 `[n]` in 0 .. classes - 1.
        classes: How many.
    """
    return (labels * classes + predicted).bincount(minlength=classes**2).reshape(classes, classes)


def balanced_accuracy(confusion: Tensor) -> tuple[float, float]:
    """The mean over classes of the share that is predicted right, and half of its 95% interval.

    Args:
        confusion: `confusion_matrix`; classes that do not occur are left out.
    """
    each = confusion.sum(1)
    share = confusion.diag()[each > 0] / each[each > 0]
    # Classes are independent binomials; the estimate of p by (k + 1) / (n + 2) keeps a variance above 0.
    p = (confusion.diag()[each > 0] + 1) / (each[each > 0] + 2)
    variance = (p * (1 - p) / each[each > 0]).sum() / len(share) ** 2
    return share.mean().item(), 1.96 * variance.sqrt().item()


def wilson(p: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """The Wilson score interval of a proportion p of n: 95% at z = 1.96."""
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # The ends are 0 at p = 0 and 1 at p = 1, and p lies between them: only rounding could differ.
    return max(0.0, min(p, middle - half)), min(1.0, max(p, middle + half))
