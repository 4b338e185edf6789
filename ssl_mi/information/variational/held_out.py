"""A bound on rows that its critic never saw: value, standard error, interval, p-value, and what to doubt.

The uncertainty is of the reading, at the critic that was fitted: it covers the bound that this critic attains, not
what a better one would. For a lower bound that lies at or below I(X; Y), so only the lower end of the interval says
something about I.

    se        delete-group jackknife over the rows read (Efron & Stein 1981); a row leaves with its column, so that
              the dependence between scores that share a row is counted
    interval  Student t with groups - 1 degrees of freedom around the value
    p-value   (1 + b)/(1 + B), b of B random re-pairings of the rows read having sum T(x_i, y_pi(i)) at or above that
              of the true pairs. The critic is fixed and fitted on other rows, so the test of independence is exact;
              and the score matrix is all it takes. InfoNCE itself orders the re-pairings as this sum does, for the
              log-sum over a row's candidates, its partner among them, is the same for all.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

from ssl_mi.information.variational import bounds

PERMUTATIONS = 999


@dataclass(frozen=True)
class Reading:
    """A bound on given rows at a given critic, in nats. se has `dof` degrees of freedom."""

    value: float
    se: float
    dof: float
    p_value: float | None
    ceiling: float
    n: int
    warnings: tuple[str, ...]

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Student t around the value: what this critic attains, over samples of rows."""
        half = float(stats.t.ppf((1 + check_level(level)) / 2, self.dof)) * self.se
        return self.value - half, self.value + half


def check_level(level: float) -> float:
    """`level`, or ValueError outside 0 < level < 1."""
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    return level


def read_bound(
    critic: nn.Module,
    bound: bounds.Bound,
    x: Tensor,
    y: Tensor,
    read_batch: int = 2048,
    *,
    groups: np.ndarray | None = None,
    parts: int = 10,
    seed: int = 0,
) -> Reading:
    """The bound over all rows, in blocks of at most `read_batch` rows scored against each other, in float64.

    groups: int64 [n], rows of one source, which the jackknife then leaves out together; there is no p-value, for the
    rows of a source can not be re-paired one by one. parts: of the jackknife.
    """
    blocks = score_blocks(critic, x, y, read_batch)
    part = _parts(blocks, groups, parts)
    with evaluating(bound), torch.no_grad():
        joint, marginal = gather(blocks)
        value = float(bound(joint, marginal))
        left_out = []
        for leaving in range(1 + max(int(p.max()) for p in part)):
            kept = [b[p != leaving][:, p != leaving] for b, p in zip(blocks, part, strict=True)]
            left_out.append(float(bound(*gather(kept))))
        ceiling = bound.ceiling(marginal.shape[1], getattr(critic, "score_range", math.inf))
    if not math.isfinite(value):
        raise ValueError(f"{type(bound).__name__} read {value} nats: its critic diverged; lower learning_rate")
    g = len(left_out)
    spread = np.asarray(left_out) - np.mean(left_out)
    return Reading(
        value=value,
        se=math.sqrt((g - 1) / g * float(spread @ spread)),
        dof=g - 1,
        p_value=_p_value(blocks, seed) if groups is None else None,
        ceiling=ceiling,
        n=len(x),
        warnings=_doubts(bound, value, ceiling, len(x), blocks),
    )


def read_log_ratio(
    conditional: Callable[[Tensor, Tensor], Tensor],
    marginal: Callable[[Tensor], Tensor],
    x: Tensor,
    y: Tensor,
    *,
    groups: np.ndarray | None = None,
    permutations: int = 99,
    seed: int = 0,
) -> Reading:
    """Mean of log q(y|x) - log q(y) over all rows, by two learned densities: (x, y) -> [n] and y -> [n], nats.

    se: the standard deviation of the rows (of the groups' sums, where rows come in groups) over sqrt(n). p-value: as
    above, with log q(y_pi(i) | x_i) for a score, each re-pairing a pass through the density.
    """
    with torch.no_grad():
        of_pair = conditional(x, y).double()
        log_ratio = (of_pair - marginal(y).double()).cpu().numpy()
        value, p_value = float(log_ratio.mean()), None
        if groups is None:
            partners = torch.as_tensor(re_pairings(len(x), permutations, np.random.default_rng(seed)), device=y.device)
            null = [float(conditional(x, y[order]).double().sum()) for order in partners]
            p_value = rank_among(float(of_pair.sum()), np.asarray(null))
    if not math.isfinite(value):
        raise ValueError(f"the densities read {value} nats: their fit diverged; lower learning_rate")
    source = np.arange(len(x)) if groups is None else np.unique(groups, return_inverse=True)[1]
    sums = np.bincount(source, log_ratio - value)
    if len(sums) < 2:
        raise ValueError(f"one group holds all {len(x)} rows read: too few for a standard error")
    return Reading(
        value=value,
        se=math.sqrt(float(sums @ sums) * len(sums) / (len(sums) - 1)) / len(x),
        dof=len(sums) - 1,
        p_value=p_value,
        ceiling=math.inf,
        n=len(x),
        warnings=_few(len(x)),
    )


def combine(readings: Sequence[Reading]) -> Reading:
    """Readings of disjoint rows, each by a critic fitted on other rows, as one: cross-fitting.

    The value is their mean, weighted by rows. Their errors are taken to be independent, which holds to first order
    where the critics are near the best one (there a bound does not move with small changes of the critic;
    Chernozhukov et al. 2018, arXiv 1608.00060, section 3). Near independence the fits echo each other and the error is
    too small, so go by the p-value: twice the mean of the fits' p-values is valid however they depend on each other
    (Vovk & Wang 2020, arXiv 1212.4966).
    """
    if len(readings) == 1:
        return readings[0]
    n = np.array([r.n for r in readings])
    weights, values, se = n / n.sum(), np.array([r.value for r in readings]), np.array([r.se for r in readings])
    value, parts = float(weights @ values), (weights * se) ** 2
    dof = parts.sum() ** 2 / (parts**2 / [r.dof for r in readings]).sum() if parts.any() else readings[0].dof
    p = [r.p_value for r in readings]
    warnings = merged([r.warnings for r in readings])
    with np.errstate(divide="ignore", invalid="ignore"):
        scatter = float(np.nansum(((values - value) / se) ** 2))
    if stats.chi2.sf(scatter, len(readings) - 1) < 1e-3:
        warnings += (
            f"the fits read from {values.min():.2f} to {values.max():.2f}, further apart than their standard errors: "
            "the fit itself is uncertain; give more rows",
        )
    return Reading(
        value=value,
        se=math.sqrt(parts.sum()),
        dof=float(dof),
        p_value=None if None in p else min(1.0, 2 * float(np.mean(p))),
        ceiling=min(r.ceiling for r in readings),
        n=int(n.sum()),
        warnings=warnings,
    )


def merged(warnings: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """The warnings of several fits, each once: those that differ in their numbers alone are one, counted."""
    found: dict[str, list[str]] = {}
    for of_fit in warnings:
        for warning in of_fit:
            found.setdefault(re.sub(r"[-+\d.,%]+", "#", warning), []).append(warning)
    several = len(warnings) > 1
    return tuple(f"{said[0]} ({len(said)} of {len(warnings)} fits)" if several else said[0] for said in found.values())


def _parts(blocks: list[Tensor], groups: np.ndarray | None, parts: int) -> list[Tensor]:
    """Which part of the jackknife each row leaves with: int64 [n] a block, 0 .. parts - 1."""
    if groups is None:
        parts = min(parts, min(len(b) for b in blocks) // 2)
        return [torch.arange(len(b), device=b.device) % parts for b in blocks]
    sources, of_row = np.unique(groups, return_inverse=True)
    parts = min(parts, len(sources))
    cuts = np.cumsum([len(b) for b in blocks])[:-1]
    part = [torch.as_tensor(p, device=b.device) for p, b in zip(np.split(of_row % parts, cuts), blocks, strict=True)]
    if parts < 2 or min(int((p != f).sum()) for p in part for f in range(parts)) < 2:
        raise ValueError(f"{len(sources)} groups among the {len(of_row)} rows read are too few for a standard error")
    return part


def _p_value(blocks: list[Tensor], seed: int) -> float:
    null, observed = np.zeros(PERMUTATIONS), 0.0
    for number, block in enumerate(blocks):
        scores = block.cpu().numpy()
        rows = np.arange(len(scores))
        partners = re_pairings(len(scores), PERMUTATIONS, np.random.default_rng([seed, number]))
        observed += float(scores[rows, rows].sum())
        null += scores[rows, partners].sum(1)
    return rank_among(observed, null)


def re_pairings(n: int, times: int, rng: np.random.Generator) -> np.ndarray:
    """Random permutations of n rows, int64 [times, n]. All are as likely, the identity among them: derangements alone
    would not be exchangeable with the true pairing, and the test no longer exact."""
    return rng.permuted(np.tile(np.arange(n), (times, 1)), axis=1)


def rank_among(observed: float, null: np.ndarray) -> float:
    """(1 + b)/(1 + B): b of the B values of `null` are at least as large as the one observed."""
    return (1 + int((null >= observed).sum())) / (1 + len(null))


def _few(n: int) -> tuple[str, ...]:
    return (f"only {n} rows read: the fit and the reading are both rough; give more rows",) if n < 200 else ()


def _doubts(bound, value: float, ceiling: float, n: int, blocks: list[Tensor]) -> tuple[str, ...]:
    doubts = [*_few(n)]
    if math.isfinite(ceiling) and value > 0.8 * ceiling:
        doubts.append(
            f"{value:.2f} nats is {value / ceiling:.0%} of the ceiling {ceiling:.2f}: the truth may be far above; "
            "raise read_batch or take a bound without a ceiling"
        )
    if bound.kind == "lower bound" and value > math.log(n):
        doubts.append(f"above log n = {math.log(n):.2f} nats, {n} rows can not support a lower bound")
    if isinstance(bound, bounds.DV | bounds.MINE | bounds.NWJ | bounds.TUBA | bounds.JS):
        row_weights = torch.cat([(bounds.off_diagonal(b).logsumexp(1)) for b in blocks])
        share = torch.softmax(row_weights, 0)
        effective = float(1 / (share**2).sum())
        if effective < min(50, n / 4):
            doubts.append(
                f"e^T is carried by about {effective:.0f} of {n} rows: the variance grows like e^I; "
                "give more rows, or read InfoNCE or a clipped bound beside it"
            )
    return tuple(doubts)


# ------------------------------------------------------------------------------------------- scores of all pairs


def score_blocks(critic: nn.Module, x: Tensor, y: Tensor, size: int) -> list[Tensor]:
    """Square score matrices of consecutive blocks of at most `size` rows, sizes as even as can be; float64."""
    n_blocks = math.ceil(len(x) / size)
    with evaluating(critic), torch.no_grad():
        pairs = zip(x.tensor_split(n_blocks), y.tensor_split(n_blocks), strict=True)
        return [_scores(critic, a, b) for a, b in pairs]


def _scores(critic: nn.Module, x: Tensor, y: Tensor, rows: int = 128) -> Tensor:
    # A few rows at a time: a concat critic needs rows x m x width numbers at once.
    return torch.cat([critic(part, y) for part in x.split(rows)]).double()


def gather(blocks: list[Tensor]) -> tuple[Tensor, Tensor]:
    """(joint [n], marginal [n, k]) over all blocks; where sizes differ by one row, k is the smaller."""
    k = min(len(b) for b in blocks) - 1
    joint = torch.cat([b.diagonal() for b in blocks])
    return joint, torch.cat([bounds.off_diagonal(b)[:, :k] for b in blocks])


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode inside, the former mode again outside."""
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)
