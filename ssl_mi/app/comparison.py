"""What many runs say together: grouped by what differs in their configurations, seeds pooled.

A group is a configuration; its runs differ in their seeds only. Of each quantity it has the mean, the standard
deviation and Student's 95% interval of the mean over seeds. Differences to a reference group are paired by seed: runs
of equal seeds share their data split, views and order of batches, so that much of the variation cancels. Runs
that diverged, stopped or left no report are listed and enter no mean.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ssl_mi.app.run_folders import Found
from ssl_mi.report.rows import final_rows
from ssl_mi.report.summary import COMPLETE

NAN = math.nan
DRAWS = 2000  # of the bootstrap
FEWEST = 5  # runs or groups that it draws from
LONGEST = 48  # letters of a value in the name of a group
MI, PROBE = ("captured_nats", "ksg_nats"), "linear_probe"


class Summary(NamedTuple):
    """A quantity over the seeds of a group, or the differences of two groups.

    Attributes:
        n: Seeds.
        mean, sd: NaN where there are too few for them.
        low, high: Student's 95% interval of the mean; NaN below two seeds.
    """

    n: int
    mean: float
    sd: float
    low: float
    high: float


class Group(NamedTuple):
    """The runs of one configuration.

    Attributes:
        name: What it has that others have not, as overrides.
        measured: seed -> what its complete run has measured, by key.
    """

    name: str
    measured: Mapping[int, Mapping[str, float]]


class Quantity(NamedTuple):
    """A quantity of the last evaluation.

    Attributes:
        metric: Its key; for a headline the headline.
        name: In words.
        better: "higher", "lower" or "".
    """

    metric: str
    name: str
    better: str


class Association(NamedTuple):
    """Kendall's tau-b of two quantities over runs, with its 95% bootstrap interval.

    Attributes:
        tau: NaN below 3 runs, or where a quantity is the same in all of them.
        low, high: The interval; NaN below 5 units, and where all of them have one order.
        n: Runs.
        units: What was drawn with replacement: "groups" or "runs".
    """

    tau: float
    low: float
    high: float
    n: int
    units: str


class Comparison(NamedTuple):
    """Groups of runs beside each other.

    Attributes:
        groups: In the order in which they were found.
        quantities: Of any of them.
        remarks: What a reader has to know.
    """

    groups: Sequence[Group]
    quantities: Sequence[Quantity]
    remarks: Sequence[str]

    def values(self, group: Group, metric: str) -> dict[int, float]:
        """seed -> value, of the complete runs that have it.

        Args:
            group: Of this comparison.
            metric: Key of a quantity.
        """
        found = {seed: values.get(metric, NAN) for seed, values in group.measured.items()}
        return {seed: value for seed, value in found.items() if math.isfinite(value)}

    def summary(self, group: Group, metric: str) -> Summary:
        """Over the seeds of a group.

        Args:
            group: Of this comparison.
            metric: Key of a quantity.
        """
        return summarise(list(self.values(group, metric).values()))

    def difference(self, group: Group, reference: Group, metric: str) -> Summary:
        """group - reference, over the seeds that both have.

        Args:
            group, reference: Of this comparison.
            metric: Key of a quantity.
        """
        ours, theirs = self.values(group, metric), self.values(reference, metric)
        return summarise([ours[seed] - theirs[seed] for seed in ours if seed in theirs])

    def association(self, x: str, y: str, seed: int = 0) -> Association:
        """Kendall's tau of two quantities over all complete runs.

        Args:
            x, y: Keys of quantities.
            seed: Of the bootstrap.
        """
        return kendall([self.points(group, x, y) for group in self.groups], seed)

    def points(self, group: Group, x: str, y: str) -> list[tuple[float, float]]:
        """The runs of a group that have both quantities.

        Args:
            group: Of this comparison.
            x, y: Keys of quantities.
        """
        across, up = self.values(group, x), self.values(group, y)
        return [(across[seed], up[seed]) for seed in across if seed in up]

    def information(self) -> str:
        """The key of what the views share: the default estimator where every run has it, else KSG."""
        have = {quantity.metric for quantity in self.quantities}
        return next((metric for metric in MI if metric in have), MI[-1])


def summarise(values: Sequence[float]) -> Summary:
    """Mean, standard deviation, and Student's 95% interval of the mean.

    Args:
        values: One per seed.
    """
    n = len(values)
    if not n:
        return Summary(0, NAN, NAN, NAN, NAN)
    mean = float(np.mean(values))
    if n == 1:
        return Summary(1, mean, NAN, NAN, NAN)
    from scipy.stats import t

    sd = float(np.std(values, ddof=1))
    half = float(t.ppf(0.975, n - 1)) * sd / math.sqrt(n)
    return Summary(n, mean, sd, mean - half, mean + half)


def kendall(groups: Sequence[Sequence[tuple[float, float]]], seed: int = 0) -> Association:
    """Kendall's tau-b over all points, with a percentile bootstrap interval.

    Runs of one configuration resemble each other: of five groups or more whole groups are drawn, of fewer single runs.
    Below five runs, and where all have one order, which resampling cannot question, there is no interval.

    Args:
        groups: Points (x, y) of each group.
        seed: Of the bootstrap.
    """
    filled = [np.asarray(group, dtype=float) for group in groups if len(group)]
    points = np.concatenate(filled) if filled else np.zeros((0, 2))
    # of[i]: which unit point i is of.
    of = np.repeat(np.arange(len(filled)), [len(group) for group in filled])
    name = "groups"
    if len(filled) < FEWEST:
        of, name = np.arange(len(points)), "runs"
    if len(points) < 3 or not np.ptp(points, axis=0).all():
        return Association(NAN, NAN, NAN, len(points), name)
    tau = float(_tau(points, np.ones((1, len(points))))[0])
    units = int(of.max()) + 1
    if units < FEWEST:
        return Association(tau, NAN, NAN, len(points), name)
    drawn = np.random.default_rng(seed).multinomial(units, np.full(units, 1 / units), size=DRAWS)
    taus = _tau(points, drawn[:, of].astype(float))
    taus = taus[np.isfinite(taus)]
    low, high = np.quantile(taus, [0.025, 0.975]) if len(taus) >= DRAWS // 2 else (NAN, NAN)
    if low == high:  # units all of one order resample to that order: no interval, and no certainty
        low = high = NAN
    return Association(tau, float(low), float(high), len(points), name)


def _tau(points: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """tau-b of `points: [n, 2]` that occur so often, `[b, n]` -> `[b]`; NaN where one of the two never changes."""
    x, y = (np.sign(side[:, None] - side[None]) for side in points.T)
    concordant, apart_x, apart_y = (((weights @ pairs) * weights).sum(1) for pairs in (x * y, x * x, y * y))
    with np.errstate(invalid="ignore", divide="ignore"):
        return concordant / np.sqrt(apart_x * apart_y)


# --------------------------------------------------------------------------------------------------- of one run


def measured(document: Mapping[str, Any]) -> dict[str, float]:
    """key -> value of the last evaluation of the trained encoder: each metric, and each headline under its name.

    Args:
        document: Of report.json.
    """
    rows = [row for row in final_rows(document.get("rows", ())) if row["encoder"] == "trained"]
    return {row["metric"]: row["value"] for row in rows} | headlines(document)


def headlines(document: Mapping[str, Any]) -> dict[str, float]:
    """headline -> value of the last evaluation of the trained encoder.

    Args:
        document: Of report.json.
    """
    rows = [row for row in final_rows(document.get("rows", ())) if row["encoder"] == "trained"]
    return {row["headline"]: row["value"] for row in rows if row.get("headline") and math.isfinite(row["value"])}


def seed_of(run: Found) -> int:
    return int(run.document.get("seed", 0))


# ----------------------------------------------------------------------------------------------------- grouping


def compare(runs: Sequence[Found]) -> Comparison:
    """Group runs by what differs.

    Args:
        runs: As `find_runs` gives them.

    Raises:
        ValueError: If no run has a report.
    """
    ended = [run for run in runs if run.document]
    if not ended:
        raise ValueError(f"none of the {len(runs)} runs has a report: nothing can be compared")
    configs = [configuration(run) for run in ended]
    changed = [key for key in dict.fromkeys(k for c in configs for k in c) if len({c.get(key) for c in configs}) > 1]
    members: dict[tuple[str | None, ...], list[Found]] = {}
    for run, config in zip(ended, configs, strict=True):
        members.setdefault(tuple(config.get(key) for key in changed), []).append(run)
    names = _names(changed, list(members))
    remarks = _remarks(runs, ended)
    groups = []
    for name, some in zip(names, members.values(), strict=True):
        latest = {seed_of(run): measured(run.document) for run in some if run.state == COMPLETE}
        twice = [seed for seed, count in Counter(seed_of(r) for r in some if r.state == COMPLETE).items() if count > 1]
        remarks += [f"{name}: seed {seed} was run more than once, the last of them counts" for seed in twice]
        groups.append(Group(name, latest))
    return Comparison(groups, _quantities(ended), remarks)


def _remarks(runs: Sequence[Found], ended: Sequence[Found]) -> list[str]:
    commits = {str(run.document.get("commit", "")) for run in ended}
    machines = {str(run.document.get("machine", "")) for run in ended}
    remarks = [f"{run.folder} is left out: {run.why}" for run in runs if not run.document]
    remarks += [f"{run.folder} {run.state}, and enters no mean: {run.why}" for run in ended if run.state != COMPLETE]
    remarks += [f"The runs are of {len(commits)} states of the code"] if len(commits) > 1 else []
    return remarks + ([f"The runs are from {len(machines)} kinds of machines"] if len(machines) > 1 else [])


def configuration(run: Found) -> dict[str, str]:
    """The settings of a run that are not its seed and not its folder, flat: dotted key -> value as text.

    Args:
        run: With a report.
    """
    from omegaconf import OmegaConf

    loaded: Any = OmegaConf.to_container(OmegaConf.create(run.document.get("config") or "{}"), resolve=False)
    folder = str(loaded.get("run_dir", run.folder))
    flat = dict(_flat(loaded))
    return {key: value for key, value in flat.items() if not _of_the_run(key, value, folder)}


def _of_the_run(key: str, value: str, folder: str) -> bool:
    last = key.rpartition(".")[2]
    return (
        last == "seed" or key in ("ckpt_path", "progress", "overwrite") or folder in value or key.startswith("logger.")
    )


def _flat(value: Any, key: str = "") -> Iterable[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _flat(inner, f"{key}.{name}" if key else str(name))
    else:
        yield key, "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _names(keys: Sequence[str], values: Sequence[tuple[str | None, ...]]) -> list[str]:
    """What each group has: of a part whose class differs the class, and what differs among groups of that class."""
    if not keys:
        return ["all runs"] * len(values)
    columns = dict(zip(keys, zip(*values, strict=True), strict=True))
    classes = {key.removesuffix("_target_"): column for key, column in columns.items() if key.endswith("_target_")}
    shown = {
        key: column
        for key, column in columns.items()
        if not _follows(key, column, classes) and not _repeated(key, column, columns)
    }
    names = [", ".join(_word(key, column[i]) for key, column in shown.items() if column[i]) for i in range(len(values))]
    if len(set(names)) == len(names):
        return names
    return [", ".join(f"{k}={v}" for k, v in zip(keys, some, strict=True) if v is not None) for some in values]


def _follows(key: str, column: Sequence[str | None], classes: Mapping[str, Sequence[str | None]]) -> bool:
    """Whether a setting is told by the class of the part that it is in: one value for each class."""
    for part, of in classes.items():
        if key.startswith(part) and key != f"{part}_target_":
            return len(set(zip(of, column, strict=True))) == len(set(of))
    return False


def _repeated(key: str, column: Sequence[str | None], columns: Mapping[str, Sequence[str | None]]) -> bool:
    """Whether a part is told elsewhere: module.objective is objective, which it refers to."""
    return any(key.endswith(f".{other}") and column == of for other, of in columns.items())


def _word(key: str, value: str | None) -> str:
    if key.endswith("._target_"):
        return f"{key.removesuffix('._target_')}={str(value).rpartition('.')[2]}"
    text = str(value)
    return f"{key}={text}" if len(text) <= LONGEST else f"{key}={text[: LONGEST - 1]}\u2026"


def _quantities(runs: Sequence[Found]) -> list[Quantity]:
    """Headlines first, then every other metric, in the order in which runs have them."""
    found: dict[str, Quantity] = {}
    plain: dict[str, Quantity] = {}
    for run in runs:
        explained = run.document.get("explained", {})
        for row in final_rows(run.document["rows"]):
            if row["encoder"] != "trained":
                continue
            about = explained.get(row["metric"], {})
            quantity = Quantity(row["metric"], row["quantity"], about.get("better", ""))
            head = row.get("headline")
            if head:
                known = found.setdefault(head, quantity._replace(metric=head))
                if known.name != quantity.name:  # as the bounds of several objectives
                    found[head] = known._replace(name=head.replace("_", " "))
            else:
                plain.setdefault(row["metric"], quantity)
    return [*found.values(), *plain.values()]
