"""The work behind `ssl-mi estimate`: from arguments to files, to an estimate, to what is printed."""

from __future__ import annotations

import argparse
import functools
import inspect
import json
import math
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn

from ssl_mi.information.apps import catalogue, pairs
from ssl_mi.information.apps.columns import SideSpec
from ssl_mi.information.apps.estimate import DEFAULT, PERMUTATIONS
from ssl_mi.information.apps.files import Side, open_columns, read_sides
from ssl_mi.information.apps.render import Answer, document, shape_of, show
from ssl_mi.information.apps.status import DONE, WARNED, failed
from ssl_mi.information.core.estimate import Estimate
from ssl_mi.information.estimators.conditional import conditional_mutual_information
from ssl_mi.information.inference.subsampling import REPEATS, SUBSETS
from ssl_mi.information.inference.uncertainty import with_uncertainty

FEWEST_ROWS = 40 * SUBSETS  # an estimate on fewer than 40 rows a part gives no information about the error


class Request(NamedTuple):
    """What was asked for: the estimator with its settings bound, and how much uncertainty goes around it."""

    name: str
    spec: str
    estimator: Callable[..., Any]
    own_uncertainty: bool  # it brings its own interval and permutation test
    fits: bool  # it trains networks: each further call is a fit
    has_settings: bool


def run(arguments: argparse.Namespace) -> int:
    """Estimate, print, and return the exit status."""
    try:
        request = _requested(arguments)
        _check_output(arguments)
    except ValueError as problem:
        arguments.wrong_usage(str(problem))
    if arguments.matrix:
        return _every_pair(request, arguments)
    try:
        x, y = _samples(arguments)
        dependence, given = _dependence(arguments), _given(arguments)
    except (ValueError, OSError) as problem:
        return failed(str(problem))
    try:
        # Whatever anything below prints is not the answer.
        with redirect_stdout(sys.stderr):
            if given is None:
                answer = _answer(request, x.values, y.values, arguments, dependence)
            else:
                answer = Answer(request.estimator(x.values, y.values, given.values, **dependence), (), given)
    except Exception as problem:  # an estimator may be anybody's, and fail in any way
        return _refused(request, problem, f"x is {x.source} {shape_of(x)}, y is {y.source} {shape_of(y)}", arguments)
    if arguments.json:
        print(json.dumps(document(answer, x, y, arguments.bits), allow_nan=False))
    else:
        show(answer, x, y, arguments.bits)
    return WARNED if arguments.strict and answer.estimate.warnings else DONE


def _check_output(arguments: argparse.Namespace) -> None:
    """Raise ValueError for files that this command does not write."""
    if arguments.matrix:
        pairs.check_usage(arguments)
    elif arguments.out is not None or arguments.picture is not None:
        raise ValueError("--out and --picture are of --matrix, which estimates every pair of columns: add it")


def _every_pair(request: Request, arguments: argparse.Namespace) -> int:
    try:
        dependence = _dependence(arguments)
    except (ValueError, OSError) as problem:
        return failed(str(problem))
    return pairs.run(arguments, _of_pairs(request, arguments, dependence), dependence)


def _of_pairs(
    request: Request, arguments: argparse.Namespace, dependence: dict[str, Any]
) -> Callable[..., Estimate] | None:
    """The estimator of a pair, with an interval; None for the default."""
    if request.spec == DEFAULT:
        return None
    estimator = _checked(request)
    if request.own_uncertainty:
        return functools.partial(estimator, permutations=0, **dependence)
    if request.fits:
        return functools.partial(estimator, **dependence)
    how = {"level": arguments.level, "permutations": 0, "seed": arguments.seed, **dependence}
    return functools.partial(with_uncertainty, estimator, **how)


def _refused(request: Request, problem: Exception, where: str, arguments: argparse.Namespace) -> int:
    """The status for an estimator that raised: wrong settings, or samples that it cannot estimate from."""
    if isinstance(problem, TypeError) and request.has_settings:
        # Settings that are only passed on are known to whoever takes them last.
        arguments.wrong_usage(f"{request.spec}: {problem}; see ssl-mi estimators NAME")
    expected = isinstance(problem, ValueError | ArithmeticError | MemoryError | RuntimeError)
    text = str(problem) if expected else f"{request.name} raised {type(problem).__name__}: {problem}"
    return failed(f"{text or type(problem).__name__}\n  {where}")


def _requested(arguments: argparse.Namespace) -> Request:
    """The estimator with its settings. Raises ValueError for wrong usage."""
    spec = arguments.estimator
    if arguments.given is not None or arguments.given_columns is not None:
        return _conditional(arguments)
    name, settings = catalogue.split_settings(spec)
    if name in catalogue.GIVEN:
        raise ValueError(f"{name} takes x, y and z: leave out --estimator, and pass z by --given")
    estimator = catalogue.find_estimator(spec)
    taken = catalogue.settings_of(estimator)
    own = taken is not None and "permutations" in taken
    if own and arguments.interval is False:
        raise ValueError(f"{name} always gives its interval: leave out --no-interval")
    flags = {"k": arguments.k} | ({"permutations": arguments.permutations} if own else {})
    given = {setting: value for setting, value in flags.items() if value is not None}
    for setting in given:
        if setting in settings:
            raise ValueError(f"--{setting} {given[setting]} and {spec} both give {setting}: leave out one")
    if own and arguments.symbols == "none" and taken is not None and "categorical" in taken:
        given["categorical"] = False
    catalogue.check_settings(name, estimator, given)
    has_settings = bool(settings or given)
    # What has a default here goes to those that take it; those of the catalogue that pass on what they get do.
    for setting in ("seed", "level"):
        if setting not in settings and (catalogue.find_entry(name) is not None if taken is None else setting in taken):
            given[setting] = getattr(arguments, setting)
    entry = catalogue.find_entry(name)
    _check_dependence(name, arguments, entry is not None and entry.fits, taken if own else None)
    bound = functools.partial(estimator, **given) if given else estimator
    return Request(name, spec, bound, own, entry is not None and entry.fits, has_settings)


def _conditional(arguments: argparse.Namespace) -> Request:
    """The default estimator of I(x; y | z). Raises ValueError for what does not go with --given."""
    if arguments.estimator != DEFAULT:
        raise ValueError(f"--given takes no --estimator {arguments.estimator}: leave it out, or use Python")
    for name in ("symbols", "matrix"):
        if getattr(arguments, name):
            raise ValueError(f"--given does not go with --{name.replace('_', '-')}: leave out one")
    if arguments.interval is False:
        raise ValueError("--given always gives an interval: leave out --no-interval")
    _check_dependence("conditional_mutual_information", arguments, False, ("groups", "blocks"))
    same_file = arguments.given in (None, arguments.x, arguments.y)
    if same_file and (arguments.x_columns is None or arguments.y_columns is None or arguments.given_columns is None):
        raise ValueError("z is in a file of the samples: name all three, --x-columns A --y-columns B --given-columns C")
    settings = {"k": arguments.k, "permutations": arguments.permutations}
    chosen = {name: value for name, value in settings.items() if value is not None}
    estimator = functools.partial(conditional_mutual_information, level=arguments.level, seed=arguments.seed, **chosen)
    return Request("conditional_mutual_information", arguments.estimator, estimator, True, False, True)


def _given(arguments: argparse.Namespace) -> Side | None:
    """z, where it was asked for."""
    if arguments.given is None and arguments.given_columns is None:
        return None
    source = open_columns(arguments.given or arguments.x, None, arguments.header, "given")
    columns = source.find(SideSpec("given", None, arguments.given_columns))
    return Side(source.take(columns), source.describe(columns))


def _check_dependence(name: str, arguments: argparse.Namespace, fits: bool, taken: Collection[str] | None) -> None:
    """Raise ValueError where --groups or --blocks cannot be used."""
    grouped = arguments.groups is not None or arguments.groups_column is not None
    asked = ["--groups"] * grouped + ["--blocks"] * (arguments.blocks is not None)
    if len(asked) == 2:
        raise ValueError("--groups and --blocks are both given: leave out one")
    if asked and fits and (arguments.permutations or arguments.interval):
        raise ValueError(
            f"{name} brings an interval and a test for {asked[0]}: leave out --permutations and --interval, which "
            "would fit it anew on parts and re-pairings that know nothing of it"
        )
    if asked and taken is not None and asked[0].strip("-") not in taken:
        raise ValueError(f"{name} takes no {asked[0]}")
    if arguments.matrix:
        return  # its columns are all those that do not name the source
    same_file = grouped and arguments.groups in (None, arguments.x, arguments.y)
    if (same_file and arguments.x_columns is None) or (same_file and not arguments.y and arguments.y_columns is None):
        raise ValueError("the sources are in a file of the samples: name the columns of both sides, --x-columns A")


def _samples(arguments: argparse.Namespace) -> tuple[Side, Side]:
    spec_x, spec_y = (
        SideSpec(
            side,
            getattr(arguments, f"{side}_key"),
            getattr(arguments, f"{side}_columns"),
            arguments.symbols in (side, "both"),
        )
        for side in ("x", "y")
    )
    x, y = read_sides(arguments.x, arguments.y, spec_x, spec_y, arguments.header)
    if len(x.values) != len(y.values):
        raise ValueError(
            f"x has {len(x.values)} rows ({x.source}) and y has {len(y.values)} ({y.source}): row i of one belongs to "
            "row i of the other, so give as many of each"
        )
    return x, y


def _dependence(arguments: argparse.Namespace) -> dict[str, Any]:
    """groups= and blocks=, where they were asked for."""
    found: dict[str, Any] = {} if arguments.blocks is None else {"blocks": arguments.blocks}
    if arguments.groups is None and arguments.groups_column is None:
        return found
    path = arguments.groups or arguments.x
    spec = SideSpec("groups", None, arguments.groups_column)
    source = open_columns(path, None, arguments.header, "groups")
    columns = source.find(spec)
    if len(columns) != 1:
        raise ValueError(f"{path} has {source.list_columns()}: say which names the source, --groups-column NAME")
    return found | {"groups": source.take(columns, text=True).reshape(-1)}


def _answer(
    request: Request,
    x: np.ndarray,
    y: np.ndarray,
    arguments: argparse.Namespace,
    dependence: dict[str, Any],
) -> Answer:
    """The estimate, with interval and permutation test around it unless it brings its own."""
    estimator = _checked(request)
    if request.own_uncertainty:
        with _progress(request.name, None, arguments.progress):
            return Answer(estimator(x, y, **dependence))
    subsets, permutations, notes = _extent(request, len(x), arguments)
    if request.fits and not subsets + permutations:
        return Answer(estimator(x, y, progress=arguments.progress, **dependence), notes)  # with a bar of its own
    calls = 1 + REPEATS * subsets + permutations + ("k" in inspect.signature(request.estimator).parameters)
    how = {"level": arguments.level, "permutations": permutations, "seed": arguments.seed, **dependence}
    with _progress(request.name, calls, arguments.progress) as counted:
        try:
            return Answer(with_uncertainty(counted(estimator), x, y, subsets=subsets, **how), notes)
        except ValueError as problem:
            # Of the whole? Then it fails again. Else the parts are too small, and nobody insisted on them.
            if not subsets or arguments.interval:
                raise
            refused = f"no interval: a part of 1/{SUBSETS} of the rows was refused: {problem}"
            return Answer(with_uncertainty(counted(estimator), x, y, subsets=0, **how), (*notes, refused))


def _extent(request: Request, n: int, arguments: argparse.Namespace) -> tuple[int, int, tuple[str, ...]]:
    """Parts for the interval, permutations for the test, and a note where there is no interval."""
    subsets, permutations = (0, 0) if request.fits else (SUBSETS, PERMUTATIONS)
    if arguments.permutations is not None:
        permutations = arguments.permutations
    if arguments.interval is not None:
        return (SUBSETS if arguments.interval else 0), permutations, ()
    if subsets and n < FEWEST_ROWS:
        note = f"no interval: {n} rows are too few for {SUBSETS} parts; it takes {FEWEST_ROWS}"
        return 0, permutations, (note,)
    return subsets, permutations, ()


def _checked(request: Request) -> Callable[..., Estimate]:
    """The estimator, held to its contract: an Estimate (or a plain number, which becomes one) that is finite."""

    @functools.wraps(request.estimator)
    def estimator(x: np.ndarray, y: np.ndarray, **settings: Any) -> Estimate:
        found = request.estimator(x, y, **settings)
        if isinstance(found, int | float | np.floating):
            found = Estimate(float(found), n=len(x), estimator=request.name)
        if not isinstance(found, Estimate):
            raise ValueError(f"{request.name} returned a {type(found).__name__}: an estimator returns an Estimate")
        if not math.isfinite(found.value):
            raise ValueError(f"{request.name} gave {found.value}: no estimate from these samples; try another")
        return found

    return estimator


@contextmanager
def _progress(name: str, total: int | None, shown: bool) -> Iterator[Callable[[Callable], Callable]]:
    """Gives a function that makes an estimator count its calls on a bar, on stderr."""
    columns: list[ProgressColumn] = [TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn()]
    if total is not None:
        columns.insert(2, MofNCompleteColumn())
    with Progress(
        *columns, console=Console(stderr=True, markup=False, emoji=False), disable=not shown, transient=True
    ) as bar:
        task = bar.add_task(name, total=total)

        def counted(estimator: Callable) -> Callable:
            @functools.wraps(estimator)
            def call(*args: Any, **kwargs: Any) -> Any:
                answer = estimator(*args, **kwargs)
                bar.advance(task)
                return answer

            return call

        yield counted
