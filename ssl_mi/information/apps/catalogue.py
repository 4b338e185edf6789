"""Estimators by name: what there is, what each number means, when to take it.

An estimator is named by

    ksg                 an entry of `CATALOGUE`, (x, y) -> Estimate
    ksg:k=10,variant=2  the same with settings
    infonce, mine, ...  `neural_mi` with the bound of that name; infonce:critic=concat with another critic
    package.file:name   any function of your own, or a `Bound` of your own for `neural_mi`; settings follow after
                        another colon; critic=package.file:MyCritic is a setting
"""

from __future__ import annotations

import ast
import difflib
import functools
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

from ssl_mi.information.variational.settings import FORMER_NAMES, flat


class Entry(NamedTuple):
    """Where an estimator is (a function of ssl_mi.information.<home>), its fixed settings, and what to know of it.

    fits: it trains networks, for seconds to minutes, and states its own error; running it again on every part and
    re-pairing of the rows is therefore left to who asks for it.
    """

    home: str
    function: str
    number: str
    when: str
    fits: bool = False
    settings: tuple[tuple[str, object], ...] = ()

    def load(self) -> Callable:
        """The function, which takes its settings by flat names."""
        function = flat(getattr(importlib.import_module(f"ssl_mi.information.{self.home}"), self.function))
        return partial(function, **dict(self.settings)) if self.settings else function


def _bound(name: str, number: str, when: str) -> Entry:
    return Entry("variational.neural", "neural_mi", number, when, True, (("bound", name),))


class Catalogue(Mapping[str, Entry]):
    """{name: Entry}. The bounds among them describe themselves: they are imported when no other entry has the name."""

    def __init__(self, before: dict[str, Entry], after: dict[str, Entry]) -> None:
        self.before, self.after = before, after  # where the bounds stand in between

    @functools.cached_property
    def bounds(self) -> dict[str, Entry]:
        from ssl_mi.information.variational.lookup import built_in_bounds

        return {name: _bound(name, part.estimates, part.use_when) for name, part in built_in_bounds().items()}

    def __getitem__(self, name: str) -> Entry:
        for entries in (self.before, self.after):
            if name in entries:
                return entries[name]
        return self.bounds[name]

    def __iter__(self) -> Iterator[str]:
        return iter([*self.before, *self.bounds, *self.after])

    def __len__(self) -> int:
        return len(self.before) + len(self.bounds) + len(self.after)


_BEFORE_BOUNDS = {
    "mutual_information": Entry(
        "estimators.auto.pipeline",
        "mutual_information",
        "I(x; y), or a lower bound where it used a projection; reports which",
        "first: it looks at the samples, chooses an estimator and reports what it chose",
    ),
    "ksg": Entry(
        "estimators.ksg",
        "ksg",
        "I(x; y), a point estimate; underestimates above 4 dimensions",
        "continuous samples of up to 4 dimensions a side",
    ),
    "lnc": Entry(
        "estimators.lnc",
        "lnc",
        "I(x; y), a point estimate, less short of the truth than ksg where x nearly determines y",
        "ksg is near its ceiling, and x and y have few dimensions",
    ),
    "mixed_ksg_ross": Entry(
        "estimators.ksg",
        "mixed_ksg_ross",
        "I(x; y), a point estimate",
        "x continuous (up to 4 dimensions), y symbols: labels",
    ),
    "mixed_ksg_gao": Entry(
        "estimators.ksg",
        "mixed_ksg_gao",
        "I(x; y), a point estimate",
        "a side is partly continuous, partly repeated values: zeros of a ReLU, clipped or censored data",
    ),
    "lagged_mutual_information": Entry(
        "estimators.series",
        "lagged_mutual_information",
        "I(x_t; y_(t+lag)), a point estimate: lagged_mutual_information:lag=2",
        "two series in the order of time",
    ),
    "transfer_entropy": Entry(
        "estimators.series",
        "transfer_entropy",
        "T(x -> y), what the past of x adds to the past of y; a lower bound: transfer_entropy:lags=2",
        "two series in the order of time: does one help to predict the other?",
    ),
    "sliced_mi": Entry(
        "estimators.sliced",
        "sliced_mi",
        "sliced mutual information: another quantity, never above I(x; y), that shrinks as dimensions grow",
        "many dimensions, compared with itself: more or less than before, or than none",
    ),
    "cca_mi": Entry(
        "estimators.gaussian",
        "cca_mi",
        "I(x; y) if x and y are jointly Gaussian; otherwise neither the truth nor a bound",
        "Gaussian samples, and as the fast linear reference beside any other",
    ),
    "copula_mi": Entry(
        "estimators.gaussian",
        "copula_mi",
        "I(x; y) if the copula is Gaussian; a lower bound when x and y are one number each",
        "monotone dependence with odd margins: heavy tails, odd units",
    ),
    "discrete_mi": Entry(
        "estimators.discrete",
        "discrete_mi",
        "I(x; y) of counts; the plug-in overestimates, other corrections less: discrete_mi:correction=grassberger",
        "symbols on both sides, at least 5 rows for each pair of symbols that occurs",
    ),
}

_AFTER_BOUNDS = {
    "neural_mi": Entry(
        "variational.neural",
        "neural_mi",
        "as the bound it is given: neural_mi:bound=infonce",
        "a critic or bound of your own: neural_mi:bound=package.file:MyBound,critic=package.file:MyCritic",
        fits=True,
    ),
    "flow_mi": Entry(
        "variational.flow",
        "flow_mi",
        "point estimate by a normalising flow, right at once where the copula is Gaussian; no ceiling, little variance",
        "large I (10 nats and more), continuous x and y",
        fits=True,
    ),
    "club": Entry(
        "variational.upper_bounds",
        "club",
        "upper bound if its learned q(y|x) is right; loose; certifies nothing when q is poor",
        "an idea of how much at most, beside a lower bound",
        fits=True,
    ),
    "leave_one_out": Entry("variational.upper_bounds", "leave_one_out", "as club, less loose", "as club", fits=True),
    "difference_of_entropies": Entry(
        "variational.upper_bounds",
        "difference_of_entropies",
        "point estimate H(y) - H(y|x) by learned densities; no ceiling and little variance",
        "large I (10 nats), continuous y of moderate dimension",
        fits=True,
    ),
}


CATALOGUE = Catalogue(_BEFORE_BOUNDS, _AFTER_BOUNDS)
# Of x, y and z: for `ssl-mi benchmark --suite conditional`; `ssl-mi estimate` has --given for it.
GIVEN = {
    "conditional_mutual_information": Entry(
        "estimators.conditional", "conditional_mutual_information", "I(x; y | z)", "x and y given a third variable"
    ),
    "conditional_ksg": Entry(
        "estimators.ksg", "conditional_ksg", "I(x; y | z), a point estimate", "few columns in all, and many rows"
    ),
}


def find_entry(name: str) -> Entry | None:
    """What is known of the estimator called `name`: an entry of the catalogue, or a `Bound` by its import path.

    None for functions of the user's own, of which nothing is known. Raises ValueError for a name that is unknown.
    """
    if ":" not in name:
        if name in GIVEN:
            return GIVEN[name]
        if name not in CATALOGUE:
            raise ValueError(
                f"no estimator is called {name!r}{nearest(name, CATALOGUE)}; there are {', '.join(CATALOGUE)}, "
                "or package.file:function"
            )
        return CATALOGUE[name]
    part = _by_path(*name.split(":"))
    if not isinstance(part, type):
        return None
    from ssl_mi.information.variational.bounds import described

    found = described(part)
    return None if found is None else _bound(name, *found)


def find_estimator(spec: str) -> Callable:
    """The function that `spec` names (see the top of this file), with its settings bound.

    Raises ValueError, with the nearest names, for an unknown estimator or a setting that it does not take.
    """
    name, settings = split_settings(spec)
    if ":" in name and (name.count(":") > 1 or name.split(":")[0] in CATALOGUE):
        raise ValueError(f"{spec!r} is not understood: NAME:setting=value,setting=value, or package.file:function")
    _search_current_folder()
    entry = find_entry(name)
    function = _by_path(*name.split(":")) if entry is None else entry.load()
    settings = {FORMER_NAMES.get(setting, setting): value for setting, value in settings.items()}
    check_settings(name, function, settings)
    return partial(function, **settings) if settings else function


def split_settings(spec: str) -> tuple[str, dict[str, object]]:
    """ "ksg:k=10,variant=2" -> ("ksg", {"k": 10, "variant": 2}); a bare word is a string."""
    name, text = spec, ""
    if "=" in spec:  # the settings begin at the last colon before it; values may have colons of their own
        head, equals, rest = spec.partition("=")
        name, _, first = head.rpartition(":")
        text = first + equals + rest
    settings = {}
    for item in filter(None, text.split(",")):
        key, equals, value = item.partition("=")
        if not equals:
            raise ValueError(f"{spec!r}: settings are name=value, got {item!r}")
        try:
            settings[key.strip()] = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError):
            settings[key.strip()] = value.strip()
    return name.strip(), settings


def check_settings(name: str, function: Callable, settings: Iterable[str]) -> None:
    """Raise ValueError for a setting that the function does not take, as far as its signature shows."""
    taken = settings_of(function)
    if taken is None:
        return
    for setting in settings:
        if setting not in taken:
            raise ValueError(f"{name} takes no {setting!r}{nearest(setting, taken)}; it takes: {', '.join(taken)}")


def settings_of(function: Callable) -> list[str] | None:
    """The names of what it takes beside its samples; None when it passes on whatever it is given."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except ValueError:  # written in C
        return None
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return [p.name for place, p in enumerate(parameters) if place > 1 or p.default is not p.empty]


def nearest(name: str, among: Iterable[str]) -> str:
    """ " (nearest: ...)", or "" where nothing is near."""
    found = difflib.get_close_matches(name, list(among), 3, 0.6)
    return f" (nearest: {', '.join(found)})" if found else ""


def _by_path(module: str, name: str) -> Callable:
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as problem:  # importing runs the user's module, which may fail in any way
        raise ValueError(f"no estimator {module}:{name}: {type(problem).__name__}: {problem}") from problem
    if not callable(found):
        kind = type(found).__name__
        raise ValueError(f"{module}:{name} is a {kind}: an estimator is a function (x, y) -> Estimate")
    return found


def _search_current_folder() -> None:
    """Find modules of the current folder too, as `python -m` does."""
    here = os.getcwd()
    if here not in sys.path:
        sys.path.append(here)
