"""A learned projection: small networks that find what two variables share where correlation cannot.

f: [n, dx] -> [n, 8] and g: [n, dy] -> [n, 8] maximise the InfoNCE bound (van den Oord et al. 2018,
arXiv:1807.03748) with the critic f(x) . g(y). The optimal critic is log p(x, y) / p(x) p(y) up to a function of
one side, so f and g keep what is shared and drop the rest. They start at canonical correlation analysis, whose
directions are the optimal critic of a Gaussian, and see each coordinate and its square, so that norms are near.
Weight decay and dropout stand against learning the rows by heart. Several members are trained at once (one
batched multiplication for all), each kept as it was where its bound on rows it was not fitted on was best; their
outputs side by side go through CCA, fitted on the same rows, to `dim` numbers.

Like any projection it is fitted on some rows and applied to others.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_mi.information.core.inputs import read_pair
from ssl_mi.information.estimators.gaussian import whiten
from ssl_mi.information.projections.linear import Linear, check_dim, fit_cca
from ssl_mi.information.variational.held_out import evaluating
from ssl_mi.information.variational.training import Training, maximise

WIDTH, OUT = 64, 8
TRAINING = Training(
    batch_size=256,
    learning_rate=3e-3,
    weight_decay=0.3,
    max_steps=600,
    check_every=25,
    patience=6,  # checks without a better one for any member, after which nothing better was ever seen to come
    clip_norm=math.inf,
    schedule="one_cycle",
    check_start=False,
)
DROPOUT = 0.2
HELD_OUT = 0.15
MOST_HELD_OUT = 750  # rows; all pairs of them are scored at every check
FEWEST_ROWS = 50  # a few of which are held out for validation
FARTHEST = 60.0  # nats below the largest score at which float32 exponentials still have all their digits
BLOCK = 2048  # rows scored against each other in a bound
WIDEST = 64  # columns the networks see; more go through PCA and CCA first

Arrays = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Fitted:
    """A linear map of each side, an ensemble of networks, then CCA of their outputs.

    Attributes:
        entry: the linear map before the networks.
        networks_x, networks_y: of each side.
        exit: CCA of the outputs of all members.
        name: what was fitted, and how.
    """

    entry: Linear
    networks_x: Ensemble
    networks_y: Ensemble
    exit: Linear
    name: str

    def __call__(self, x: ArrayLike, y: ArrayLike) -> Arrays:
        """x [n, dx], y [n, dy] -> float64 [n, dim] each."""
        x, y = self.entry(x, y)
        return self.exit(self.networks_x.embed(x), self.networks_y.embed(y))

    def bound(self, x: ArrayLike, y: ArrayLike) -> np.ndarray:
        """InfoNCE of rows that the networks were not fitted on, row by row: float64 [n], whose mean is in nats.

        The critic is the mean over members of f(x) . g(y). Rows are scored in blocks of up to `BLOCK`, so that the
        bound is at most log(BLOCK); both directions are averaged.

        Args:
            x: [n, dx].
            y: [n, dy].
        """
        a, b = self.entry(x, y)
        u, v = self.networks_x.embed(a) / len(self.networks_x), self.networks_y.embed(b)
        blocks = math.ceil(len(u) / BLOCK)
        return np.concatenate(
            [_pointwise_infonce(p @ q.T) for p, q in zip(*(np.array_split(w, blocks) for w in (u, v)), strict=True)]
        )

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Learned:
    """Networks fitted by InfoNCE, then CCA of their outputs; see the module docstring. Costs seconds.

    Args:
        dim: columns of each projected side.
        members: networks of each side.
        training: steps, batches and rate.
    """

    dim: int
    members: int = 3
    training: Training = field(default_factory=lambda: TRAINING)

    def fit(self, x: ArrayLike, y: ArrayLike, seed: int = 0) -> Fitted:
        """Fit on x [n, dx] and y [n, dy]; `seed` draws weights, batches and the validation rows.

        Raises:
            ValueError: for fewer than 50 rows, and rows that are unpaired or not finite.
        """
        return self.fit_each([(x, y)], seed)[0]

    def fit_each(self, pairs: Sequence[tuple[ArrayLike, ArrayLike]], seed: int = 0) -> list[Fitted]:
        """Fit on several sets of rows at once, which costs less than one after the other.

        Args:
            pairs: x [n, dx] and y [n, dy] of each set, of the same dimensions.
            seed: of weights, batches and validation rows.

        Raises:
            ValueError: for fewer than 50 rows, and rows that are unpaired or not finite.
        """
        check_dim(self.dim)
        entries, sets = [], []
        for x, y in pairs:
            a, b = read_pair(x, y)
            if a.n < FEWEST_ROWS:
                raise ValueError(f"x and y have {a.n} rows: fitting networks needs at least {FEWEST_ROWS}; use CCA")
            entries.append(_entry(a.values, b.values, seed))
            sets.append(entries[-1](a.values, b.values))
        fitted = []
        name = f"Learned({self.dim}, members={self.members}, seed={seed})"
        trained = _train(sets, self.members, self.training, seed)
        for entry, (x, y), (networks_x, networks_y) in zip(entries, sets, trained, strict=True):
            last = fit_cca(networks_x.embed(x), networks_y.embed(y), self.dim, [1e-3])[0]
            fitted.append(Fitted(entry, networks_x, networks_y, last, name))
        return fitted


def _entry(x: np.ndarray, y: np.ndarray, seed: int) -> Linear:
    """Each column to variance 1; beyond `WIDEST` columns, half principal components and half canonical ones."""
    weights = []
    shared = None
    for side, values in enumerate((x, y)):
        if values.shape[1] <= WIDEST:
            deviation = values.std(0)
            weights.append(np.diag(1 / np.where(deviation > 0, deviation, 1.0)))
            continue
        white = whiten(values)
        shared = shared or fit_cca(x, y, WIDEST // 2, [1e-1])[0]
        both = np.concatenate([white.axes[: WIDEST // 2].T, (shared.weight_x, shared.weight_y)[side]], 1)
        weights.append(both / ((values - white.mean) @ both).std(0))
    weight_x, weight_y = weights
    return Linear(x.mean(0), y.mean(0), weight_x, weight_y, "columns of variance 1")


# -------------------------------------------------------------------------------------------------- the networks


class Ensemble(nn.Module):
    """Networks of one shape, evaluated together: x [members, n, d] -> [members, n, OUT].

    Each has a linear path, which starts at CCA, and a small two-layer path beside it. One batched product serves all
    members; with torch.func.vmap dropout could not be drawn from a generator of one's own.
    """

    def __init__(self, members: Sequence[dict[str, Tensor]]) -> None:
        super().__init__()
        for name in members[0]:
            self.register_parameter(name, nn.Parameter(torch.stack([member[name] for member in members])))

    def __len__(self) -> int:
        return len(self.get_parameter("into"))

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """With dropout, drawn from `generator`, in training mode."""

        def dropped(hidden: Tensor) -> Tensor:
            if not self.training:
                return hidden
            return hidden * (torch.rand(hidden.shape, generator=generator) >= DROPOUT) / (1 - DROPOUT)

        weight = dict(self.named_parameters())
        inputs = torch.cat([x, (x * x - 1) / math.sqrt(2)], 2)
        hidden = dropped(F.gelu(torch.baddbmm(weight["into_bias"], inputs, weight["into"]), approximate="tanh"))
        hidden = dropped(F.gelu(torch.baddbmm(weight["middle_bias"], hidden, weight["middle"]), approximate="tanh"))
        return torch.bmm(x, weight["skip"]) + torch.bmm(hidden, weight["out"])

    def part(self, members: slice) -> Ensemble:
        """Some of the members, by themselves, in evaluation mode."""
        chosen = [{name: w[i].detach() for name, w in self.named_parameters()} for i in range(len(self))[members]]
        return Ensemble(chosen).eval()

    @torch.no_grad()
    def embed(self, values: np.ndarray) -> np.ndarray:
        """values [n, d] -> all members side by side, float64 [n, members * OUT]."""
        with evaluating(self):
            out = self(torch.from_numpy(values).float().expand(len(self), -1, -1))
        return out.permute(1, 0, 2).reshape(len(values), -1).double().numpy()


def _initial(linear: np.ndarray, generator: torch.Generator) -> dict[str, Tensor]:
    """Weights of one network, of x [n, d] whose start is x @ linear [d, r]."""
    d, r = linear.shape

    def normal(rows: int, columns: int, scale: float) -> Tensor:
        return torch.randn(rows, columns, generator=generator) * scale / math.sqrt(rows)

    skip = normal(d, OUT, 0.1)
    skip[:, :r] = torch.from_numpy(linear).float()
    return {
        "skip": skip,
        "into": normal(2 * d, WIDTH, 1.0),
        "into_bias": normal(1, WIDTH, 0.5),
        "middle": normal(WIDTH, WIDTH, 1.0),
        "middle_bias": normal(1, WIDTH, 0.1),
        "out": normal(WIDTH, OUT, 0.3),
    }


def _pointwise_infonce(scores: np.ndarray) -> np.ndarray:
    """T(i, i) - log mean exp T over row i and over column i, averaged: scores [b, b] -> float64 [b], nats."""
    table = torch.from_numpy(scores)
    both = (table.logsumexp(0) + table.logsumexp(1)) / 2
    return (table.diagonal() - both).numpy() + math.log(len(scores))


def _infonce(f: Ensemble, g: Ensemble, x: Tensor, y: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """InfoNCE of every member less log(batch), both directions averaged, nats: x [m, n, dx], y [m, n, dy] -> [m]."""
    scores = torch.bmm(f(x, generator), g(y, generator).transpose(1, 2))
    joint = scores.diagonal(dim1=1, dim2=2)
    of_columns, of_rows = _logsumexp_both_ways(scores)
    return -((of_columns + of_rows) / 2 - joint).mean(1)


def _logsumexp_both_ways(scores: Tensor) -> tuple[Tensor, Tensor]:
    """log Σ exp over rows and over columns of scores [m, n, n], from one exponential each: [m, n] and [m, n].

    Sums over rows are those of exp(scores - largest of the row), weighted by how large that is. They vanish where a
    column lies very far below the largest score of all, and are then computed by themselves.
    """
    with torch.no_grad():
        largest = scores.amax(2, keepdim=True)
        top = largest.amax(1, keepdim=True)
        weight = (largest - top).exp()
        in_reach = bool((top[:, 0, 0] - scores.amax(1).amin(1)).max() < FARTHEST)
    each = (scores - largest).exp()
    of_rows = each.sum(2).log() + largest[:, :, 0]
    if not in_reach:
        return scores.logsumexp(1), of_rows
    return torch.bmm(weight.transpose(1, 2), each)[:, 0].log() + top[:, 0], of_rows


# -------------------------------------------------------------------------------------------------- the training


class _BestMembers:
    """Keeps every member as it was when its own bound on the validation rows was best (a `Keeper`)."""

    def __init__(self, f: Ensemble, g: Ensemble, x: Tensor, y: Tensor) -> None:
        self.modules = (f, g)
        self.x, self.y = x, y
        self.best_value = torch.full((len(f),), -math.inf)
        self.best = [{name: w.detach().clone() for name, w in side.named_parameters()} for side in self.modules]

    @torch.no_grad()
    def validate(self) -> tuple[float, bool]:
        f, g = (side.eval() for side in self.modules)
        now = _infonce(f, g, self.x, self.y)
        better = now > self.best_value
        self.best_value = torch.where(better, now, self.best_value)
        for side, best in zip(self.modules, self.best, strict=True):
            for name, w in side.named_parameters():
                best[name][better] = w[better]
        return float(now.mean()), bool(better.any())

    def restore(self) -> None:
        for side, best in zip(self.modules, self.best, strict=True):
            side.load_state_dict(best)


@torch.inference_mode(False)  # the caller may be evaluating
@torch.enable_grad()
def _train(sets: Sequence[Arrays], members: int, training: Training, seed: int) -> list[tuple[Ensemble, Ensemble]]:
    """(f, g) of each set of rows x [n, dx], y [n, dy], with every member at its best check."""
    generator = torch.Generator().manual_seed(seed)
    n = min(len(x) for x, _ in sets)
    held = max(16, min(int(HELD_OUT * n), MOST_HELD_OUT))
    rows_x, rows_y, init_x, init_y = [], [], [], []
    for x, y in sets:
        start_x, start_y = _gaussian_critic(x, y)
        a, b = (torch.from_numpy(v).float() for v in (x, y))
        for _ in range(members):
            order = torch.randperm(len(x), generator=generator)[:n]
            rows_x.append(a[order])
            rows_y.append(b[order])
            init_x.append(_initial(start_x, generator))
            init_y.append(_initial(start_y, generator))
    f, g = Ensemble(init_x), Ensemble(init_y)
    all_x, all_y = torch.stack(rows_x), torch.stack(rows_y)
    keeper = _BestMembers(f, g, all_x[:, :held].contiguous(), all_y[:, :held].contiguous())
    batches = _batches(all_x[:, held:], all_y[:, held:], training.batch_size, generator)
    maximise(keeper, lambda x, y: _infonce(f, g, x, y, generator).sum(), batches, training)
    parts = [slice(i * members, (i + 1) * members) for i in range(len(sets))]
    return [(f.part(part), g.part(part)) for part in parts]


def _gaussian_critic(x: np.ndarray, y: np.ndarray) -> Arrays:
    """Linear maps [dx, OUT] and [dy, OUT] whose product is the best critic of Gaussian rows.

    Its log density ratio is the sum of rho / (1 - rho^2) u v over the canonical pairs, and terms of one side each.
    """
    start = fit_cca(x, y, OUT, [1e-2])[0]
    assert start.strength is not None
    rho = np.clip(start.strength, 0, 0.99)
    gain = np.sqrt(rho / (1 - rho**2))
    return start.weight_x * gain, start.weight_y * gain


def _batches(
    x: Tensor, y: Tensor, batch_size: int | None, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless rows drawn for each member: x [members, n, dx], y [members, n, dy] -> [members, batch, d]."""
    members, n = x.shape[:2]
    size = min(batch_size or n, n)
    first = n * torch.arange(members)[:, None]  # row of each member where all lie end to end
    flat_x, flat_y = (side.reshape(members * n, -1) for side in (x, y))
    while True:
        rows = (torch.randint(n, (members, size), generator=generator) + first).reshape(-1)
        of_x, of_y = (flat.index_select(0, rows).reshape(members, size, -1) for flat in (flat_x, flat_y))
        yield of_x, of_y
