"""A bound on test rows, at a critic fitted on other rows: value, standard error, interval, p-value and warnings.

The uncertainty is of the evaluation, at the critic that was fitted: it covers the bound that this critic attains, not
what a better one would. For a lower bound that lies at or below I(X; Y), so only the lower end of the interval is a
statement about I.

    se        delete-group jackknife over the test rows (Efron & Stein 1981); a row leaves with its column, so that
              the dependence between scores that share a row is counted
    interval  Student t with groups - 1 degrees of freedom around the value
    p-value   (1 + b)/(1 + B), b of B random re-pairings of the test rows having sum T(x_i, y_pi(i)) at or above that
              of the true pairs. The critic is fixed and fitted on other rows, so the test of independence is exact;
              and the score matrix is all it takes. InfoNCE itself orders the re-pairings as this sum does, for the
              log-sum over a row's candidates, its partner among them, is the same for all.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

from ssl_mi.information.core.caution import Caution
from ssl_mi.information.core.estimate import Estimate, Kind
from ssl_mi.information.core.settings import check_level as check_number
from ssl_mi.information.inference import permutation
from ssl_mi.information.inference.dependence import Rows
from ssl_mi.information.variational import bounds
from ssl_mi.information.variational.critics import Critic

PERMUTATIONS = 999
FEW_ROWS = 200  # test rows, below which fit and estimate are called rough
NEAR_CEILING = 0.8  # share of the ceiling, above which the truth may be far above
FEWEST_EFFECTIVE = 50  # rows that must carry the mean of e^T


@dataclass(frozen=True)
class BoundEstimate:
    """A bound on given rows at a given critic.

    Attributes:
        value, se: nats; `se` has `dof` degrees of freedom.
        p_value: of independence, or None.
        ceiling: the largest value possible here, nats, or infinity.
        n: rows.
        warnings: what may be wrong, and what to do.
        permutations: re-pairings behind `p_value`; None where it was combined from several.
    """

    value: float
    se: float
    dof: float
    p_value: float | None
    ceiling: float
    n: int
    warnings: tuple[Caution, ...] = ()
    permutations: int | None = None

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Student t around the value: what this critic attains, over samples of rows."""
        half = float(stats.t.ppf((1 + check_level(level)) / 2, self.dof)) * self.se
        return self.value - half, self.value + half

    def as_estimate(
        self,
        estimator: str,
        kind: Kind,
        dims: tuple[int, int],
        settings: Mapping[str, Any],
        warnings: Sequence[Caution],
        *,
        level: float,
        started: float,
    ) -> Estimate:
        """The same as an `Estimate`.

        Args:
            estimator, kind, dims, settings: as there.
            warnings: those of the rows and of the fits, which come before those of the evaluation.
            level: of the interval.
            started: `time.perf_counter()` when the work began.
        """
        return Estimate(
            value=self.value,
            kind=kind,
            se=self.se,
            ci=self.interval(level),
            ci_level=level,
            p_value=self.p_value,
            permutations=None if self.p_value is None else self.permutations,
            ceiling=self.ceiling if math.isfinite(self.ceiling) else None,
            n=self.n,
            dims=dims,
            estimator=estimator,
            settings=settings,
            seconds=time.perf_counter() - started,
            warnings=(*warnings, *self.warnings),
        )


def check_level(level: float) -> float:
    """`level`, or ValueError outside 0 < level < 1."""
    check_number(level)
    return level


def estimate_bound(
    critic: Critic,
    bound: bounds.Bound,
    x: Tensor,
    y: Tensor,
    batch_size: int = 2048,
    *,
    rows: Rows | None = None,
    parts: int = 10,
    seed: int = 0,
) -> BoundEstimate:
    """The bound over all rows, in blocks of at most `batch_size` rows scored against each other, in float64.

    Args:
        critic, bound: fitted on other rows; the critic is put into evaluation mode for the while.
        x: [n, dx].
        y: [n, dy].
        batch_size: the logarithm of which is the ceiling of InfoNCE.
        rows: which rows depend on each other (rows of one source, a series): the jackknife leaves them out together,
            and re-pairings keep them together. None where none do.
        parts: of the jackknife.
        seed: of the re-pairings.

    Raises:
        ValueError: when the value is not finite, or the groups are too few for a standard error.
    """
    blocks = score_blocks(critic, x, y, batch_size)
    with evaluating(bound), torch.no_grad():
        joint, marginal = gather(blocks)
        value = float(bound(joint, marginal))
        left_out = _leave_parts_out(bound, blocks, _parts(blocks, rows, parts))
        ceiling = bound.ceiling(marginal.shape[1], critic.score_range)
    if not math.isfinite(value):
        raise ValueError(f"the value of {type(bound).__name__} is {value}: its critic diverged; lower learning_rate")
    g = len(left_out)
    spread = left_out - left_out.mean()
    return BoundEstimate(
        value=value,
        se=math.sqrt((g - 1) / g * float(spread @ spread)),
        dof=g - 1,
        p_value=_p_value(blocks, rows, seed),
        ceiling=ceiling,
        n=len(x),
        warnings=_warnings(bound, value, ceiling, len(x), blocks),
        permutations=PERMUTATIONS,
    )


def estimate_log_ratio(
    conditional: Callable[[Tensor, Tensor], Tensor],
    marginal: Callable[[Tensor], Tensor],
    x: Tensor,
    y: Tensor,
    *,
    rows: Rows | None = None,
    permutations: int = 99,
    seed: int = 0,
) -> BoundEstimate:
    """Mean of log q(y|x) - log q(y) over all rows, by two learned densities.

    se: the standard deviation of the rows over sqrt(n), or, where they depend on each other, as their description has
    it (inference/dependence.py). p-value: as above, with log q(y_pi(i) | x_i) for a score, each re-pairing a pass
    through the density.

    Args:
        conditional: (x [n, dx], y [n, dy]) -> log q(y|x) [n], nats.
        marginal: y [n, dy] -> log q(y) [n], nats.
        x: [n, dx].
        y: [n, dy].
        rows: which rows depend on each other; None where none do.
        permutations: re-pairings of the test of independence.
        seed: of these.

    Raises:
        ValueError: when the value is not finite, or one group holds all rows.
    """
    with torch.no_grad():
        of_pair = conditional(x, y).double()
        log_ratio = (of_pair - marginal(y).double()).cpu().numpy()
        pairings = re_pairings(len(x), permutations, np.random.default_rng(seed), rows)
        partners = torch.as_tensor(pairings, device=y.device)
        null = [float(conditional(x, y[order]).double().sum()) for order in partners]
    value = float(log_ratio.mean())
    if not math.isfinite(value):
        raise ValueError(f"the value of the densities is {value} nats: their fit diverged; lower learning_rate")
    described = Rows(len(x)) if rows is None else rows
    units = round(described.n_effective)
    if units < 2:
        raise ValueError(f"the {len(x)} test rows are worth {units} independent ones: too few for a standard error")
    return BoundEstimate(
        value=value,
        se=math.sqrt(described.variance_of_mean(log_ratio)),
        dof=units - 1,
        p_value=permutation.p_value(float(of_pair.sum()), null),
        ceiling=math.inf,
        n=len(x),
        warnings=_few_rows(len(x)),
        permutations=permutations,
    )


def combine(estimates: Sequence[BoundEstimate]) -> BoundEstimate:
    """Estimates on disjoint rows, each by a critic fitted on other rows, as one: cross-fitting.

    The value is their mean, weighted by rows. Their errors are taken to be independent, which holds to first order
    where the critics are near the best one (there a bound does not move with small changes of the critic;
    Chernozhukov et al. 2018, arXiv 1608.00060, section 3). Near independence the fits echo each other and the error is
    too small, so go by the p-value: twice the mean of the fits' p-values is valid however they depend on each other
    (Vovk & Wang 2020, arXiv 1212.4966).
    """
    if len(estimates) == 1:
        return estimates[0]
    n = np.array([e.n for e in estimates])
    weights = n / n.sum()
    values, se = np.array([e.value for e in estimates]), np.array([e.se for e in estimates])
    parts = (weights * se) ** 2
    freedom = np.array([e.dof for e in estimates])
    p = [e.p_value for e in estimates if e.p_value is not None]
    return BoundEstimate(
        value=float(weights @ values),
        se=math.sqrt(parts.sum()),
        dof=float(parts.sum() ** 2 / (parts**2 / freedom).sum()) if parts.any() else estimates[0].dof,
        p_value=min(1.0, 2 * float(np.mean(p))) if len(p) == len(estimates) else None,
        ceiling=min(e.ceiling for e in estimates),
        n=int(n.sum()),
        warnings=(*merged([e.warnings for e in estimates]), *_disagreement(values, se, float(weights @ values))),
    )


def merged(warnings: Sequence[tuple[Caution, ...]]) -> tuple[Caution, ...]:
    """The warnings of several fits, one of each code, with the number of fits that gave it."""
    found: dict[str, list[Caution]] = {}
    for of_fit in warnings:
        for warning in of_fit:
            found.setdefault(warning.code, []).append(warning)
    if len(warnings) == 1:
        return warnings[0]
    return tuple(
        Caution(
            first.code,
            f"{first.message} ({len(alike)} of {len(warnings)} fits)",
            {**first.numbers, "fits": len(alike), "of_fits": len(warnings)},
        )
        for first, alike in ((alike[0], alike) for alike in found.values())
    )


def one_or_all(values: Sequence[Any]) -> Any:
    """What each fit has, as estimates list it: the value itself where there was one fit."""
    return values[0] if len(values) == 1 else list(values)


def _disagreement(values: np.ndarray, se: np.ndarray, mean: float) -> tuple[Caution, ...]:
    """A warning where fits lie further from their mean than their standard errors allow: chi-squared, p < 0.001."""
    with np.errstate(divide="ignore", invalid="ignore"):
        scatter = float(np.nansum(((values - mean) / se) ** 2))
    if stats.chi2.sf(scatter, len(values) - 1) >= 1e-3:
        return ()
    low, high = float(values.min()), float(values.max())
    said = (
        f"the values of the fits range from {low:.2f} to {high:.2f}, further apart than their standard errors: "
        "the fit itself is uncertain; give more rows"
    )
    return (Caution("fits-disagree", said, {"lowest": low, "highest": high}),)


def _leave_parts_out(bound: bounds.Bound, blocks: list[Tensor], part: list[Tensor]) -> np.ndarray:
    """The bound without each part in turn, nats: float64 [parts]."""
    left_out = []
    for leaving in range(1 + max(int(p.max()) for p in part)):
        kept = [b[p != leaving][:, p != leaving] for b, p in zip(blocks, part, strict=True)]
        left_out.append(float(bound(*gather(kept))))
    return np.asarray(left_out)


def _parts(blocks: list[Tensor], rows: Rows | None, parts: int) -> list[Tensor]:
    """Which part of the jackknife each row leaves with: int64 [n] a block, 0 .. parts - 1."""
    if rows is None:
        parts = min(parts, min(len(b) for b in blocks) // 2)
        return [torch.arange(len(b), device=b.device) % parts for b in blocks]
    units = int(rows.n_effective)
    parts = min(parts, units)
    of_row = rows.dealt(parts)
    cuts = np.cumsum([len(b) for b in blocks])[:-1]
    part = [torch.as_tensor(p, device=b.device) for p, b in zip(np.split(of_row, cuts), blocks, strict=True)]
    if parts < 2 or min(int((p != f).sum()) for p in part for f in range(parts)) < 2:
        raise ValueError(f"{units} groups among the {len(of_row)} test rows are too few for a standard error")
    return part


def _p_value(blocks: list[Tensor], rows: Rows | None, seed: int) -> float:
    """Rank of the true pairs' sum of scores among those of random re-pairings within the blocks."""
    null, observed, first = np.zeros(PERMUTATIONS), 0.0, 0
    for number, block in enumerate(blocks):
        scores = block.cpu().numpy()
        every = np.arange(len(scores))
        of_block = None if rows is None else rows.take(every + first)
        partners = re_pairings(len(scores), PERMUTATIONS, np.random.default_rng([seed, number]), of_block)
        observed += float(scores[every, every].sum())
        null += scores[every, partners].sum(1)
        first += len(scores)
    return permutation.p_value(observed, null)


def re_pairings(n: int, times: int, rng: np.random.Generator, rows: Rows | None = None) -> np.ndarray:
    """Random permutations of n rows, int64 [times, n].

    Of independent rows all are as likely, the identity among them: derangements alone would not be exchangeable with
    the true pairing, and the test no longer exact. Rows that depend on each other are re-paired as `rows` has it.
    """
    if rows is not None:
        return np.stack([rows.derangement(rng) for _ in range(times)])
    return rng.permuted(np.tile(np.arange(n), (times, 1)), axis=1)


def _few_rows(n: int) -> tuple[Caution, ...]:
    if n >= FEW_ROWS:
        return ()
    said = f"only {n} test rows: the fit and the estimate are both rough; give more rows"
    return (Caution("few-test-rows", said, {"rows": n}),)


def _warnings(bound: bounds.Bound, value: float, ceiling: float, n: int, blocks: list[Tensor]) -> tuple[Caution, ...]:
    found = [*_few_rows(n)]
    if math.isfinite(ceiling) and value > NEAR_CEILING * ceiling:
        said = (
            f"{value:.2f} nats is {value / ceiling:.0%} of the ceiling {ceiling:.2f}: the truth may be far above; "
            "raise eval_batch_size or take a bound without a ceiling"
        )
        found.append(Caution("bound-near-ceiling", said, {"value": value, "ceiling": ceiling}))
    if bound.kind == "lower bound" and value > math.log(n):
        said = f"above log n = {math.log(n):.2f} nats, {n} rows cannot support a lower bound"
        found.append(Caution("above-log-n", said, {"log_n": math.log(n), "rows": n}))
    if bound.heavy_tailed:
        found += _heavy_tail(n, blocks)
    return tuple(found)


def _heavy_tail(n: int, blocks: list[Tensor]) -> tuple[Caution, ...]:
    """A warning where a handful of rows carries the mean of e^T."""
    row_weights = torch.cat([bounds.off_diagonal(b).logsumexp(1) for b in blocks])
    share = torch.softmax(row_weights, 0)
    effective = float(1 / (share**2).sum())
    if effective >= min(FEWEST_EFFECTIVE, n / 4):
        return ()
    said = (
        f"e^T is carried by about {effective:.0f} of {n} rows: the variance grows like e^I; "
        "give more rows, or estimate with InfoNCE or a clipped bound as well"
    )
    return (Caution("heavy-tail", said, {"effective_rows": effective, "rows": n}),)


# ------------------------------------------------------------------------------------------- scores of all pairs


def score_blocks(critic: Critic, x: Tensor, y: Tensor, size: int) -> list[Tensor]:
    """Square score matrices of consecutive blocks of at most `size` rows, sizes as even as can be; float64."""
    n_blocks = math.ceil(len(x) / size)
    with evaluating(critic), torch.no_grad():
        pairs = zip(x.tensor_split(n_blocks), y.tensor_split(n_blocks), strict=True)
        return [_scores(critic, a, b) for a, b in pairs]


def _scores(critic: Critic, x: Tensor, y: Tensor, rows: int = 128) -> Tensor:
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
