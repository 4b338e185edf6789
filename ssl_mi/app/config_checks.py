"""Overrides of the command line, held against what there is: groups, options, keys, arguments of classes."""

from __future__ import annotations

import copy
import functools
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, get_type_hints

from omegaconf import DictConfig, OmegaConf

from ssl_mi import _nearest as nearest
from ssl_mi.app import values
from ssl_mi.app.composition import Sources, quoted

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

HYDRA_WORDS = {"_target_", "_partial_", "_convert_", "_recursive_", "_args_"}
RENAMED = {  # key -> its name today, of the same part
    "towers.together": "joint_forward",
    "objective.critic.temperature": "temperature",
    "objective.negatives.size": "queue",
    "objective.size": "queue",
    "objective.bound.decay": "decay",
    "objective.bound.clip": "clip",
}
MOST_COMBINATIONS = 32  # of swept values that are checked before a sweep; each takes about 0.2 s


class UnknownOverride(ValueError):
    """A key or an option that does not exist; the message names the nearest one that does."""


# ---------------------------------------------------------------------------------------------------- overrides


def accepted(sources: Sources, overrides: Sequence[str], sweep: bool = False) -> list[str]:
    """The overrides as Hydra accepts them.

    Hydra refuses a key that the configuration does not have, unless it is written with `+`. Here a key that the class
    named by `_target_` takes is as good as one that is there: it is given on as `++key=value`. A value that holds `=`,
    as the names of Lightning's checkpoints do, is quoted.

    Args:
        sources: The folders of the configuration.
        overrides: As they were written.
        sweep: Whether a value may be several, one for each job.

    Returns:
        As many overrides, in the same order.

    Raises:
        UnknownOverride: For the first that names no group, option or key; the message names the nearest.
    """
    parsed = [parse_override(text) for text in overrides]
    if not parsed:
        return []
    for override in parsed:
        if override.is_sweep_override() and not sweep:
            raise UnknownOverride(
                f"{override.input_line} is a sweep: `ssl-mi train -m` runs one job for each value; "
                "a list is written in brackets, and a text with commas in quotes"
            )
    options = sources.options()
    ours = [override for override in parsed if not _is_hydras(override)]
    for override in ours:
        if override.key_or_group in options:
            _check_option(override, options[override.key_or_group])
    settings = [override for override in ours if override.key_or_group not in options]
    added: set[str] = set()
    for chosen in combinations([override for override in ours if override.key_or_group in options], options):
        added |= _added(_composed(sources, chosen), settings, list(options))
    return [f"++{o.input_line}" if o.input_line in added else str(o.input_line) for o in parsed]


def parse_override(text: str) -> Override:
    """An override; a value that only its `=` keeps from being one is quoted. UnknownOverride for anything else."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import OverrideParseException

    parser = OverridesParser.create()
    key, _, value = text.partition("=")
    for attempt in (text, f"{key}={quoted(value)}") if "=" in value else (text,):
        try:
            (parsed,) = parser.parse_overrides([attempt])
            return parsed
        except OverrideParseException:
            continue
    raise UnknownOverride(
        f"cannot read the override '{text}': write key=value, and a value of special characters in quotes, "
        "as \"key='the value'\""
    )


def _is_hydras(override: Override) -> bool:
    return override.key_or_group.replace("/", ".").split(".")[0] == "hydra"


def _options_named(override: Override, options: Sequence[str]) -> list[Any]:
    """The options that an override of a group chooses: several in a sweep or a list, None where it deletes."""
    from hydra.core.override_parser.types import Glob, ValueType

    if override.value_type == ValueType.GLOB_CHOICE_SWEEP:
        glob = override.value()
        return list(glob.filter(list(options))) if isinstance(glob, Glob) else []
    if override.is_sweep_override():
        return list(override.sweep_string_iterator())
    value = override.value()
    return value if isinstance(value, list) else [value]


def _check_option(override: Override, options: Sequence[str]) -> None:
    """Raise UnknownOverride for a choice that its group does not have."""
    group = override.key_or_group
    for value in _options_named(override, options):
        if value in (None, "null") and not override.is_delete():
            raise UnknownOverride(
                f"{group}=null is no choice of '{group}'; there are: {', '.join(options)}; ~{group} leaves it out"
            )
        if value is not None and str(value) not in options:
            raise UnknownOverride(
                f"there is no {group}={value}{nearest.hint(str(value), options)}; there are: {', '.join(options)}"
            )


def combinations(overrides: Sequence[Override], options: Mapping[str, Sequence[str]]) -> Iterable[list[str]]:
    """The overrides of each job of a sweep: one list for every combination of the values that are swept.

    Of very many only the first: each job is checked once more when it starts.

    Args:
        overrides: No interval among them, which only some sweepers know how to divide.
        options: {group: its options}, for globs.
    """
    texts = []
    for override in overrides:
        if override.is_sweep_override():
            key, values = override.get_key_element(), _options_named(override, options.get(override.key_or_group, ()))
            texts.append([f"{key}={value}" for value in values])
        else:
            texts.append([str(override.input_line)])
    return map(list, itertools.islice(itertools.product(*texts), MOST_COMBINATIONS))


def _composed(sources: Sources, chosen: Sequence[str]) -> DictConfig:
    from hydra.errors import HydraException

    try:
        return sources.compose(chosen)
    except HydraException as error:
        raise UnknownOverride(one_line(error)) from error


def _added(page: DictConfig, settings: Sequence[Override], groups: Sequence[str]) -> set[str]:
    """Those settings whose key the page does not have but a class on it takes. UnknownOverride for all other new keys.

    The page is changed: a setting may name the class that takes the next.
    """
    before = dict(entries(OmegaConf.to_container(page)))
    keys = set(before)
    plain = [o for o in settings if not (o.is_add() or o.is_force_add() or o.is_delete())]
    unknown = [o for o in plain if o.key_or_group not in keys]
    for setting in settings:
        if setting.is_delete() and setting.key_or_group not in keys:
            raise UnknownOverride(f"there is no key '{setting.key_or_group}'{nearest.hint(setting.key_or_group, keys)}")
        if setting not in unknown and not setting.is_delete():
            _set(page, setting)
    for setting in unknown:
        key = setting.key_or_group
        place, owner, name = _owner(OmegaConf.to_container(page), key)
        if not ((place and _is_entry(owner, key, _first_value(setting))) or _is_taken(place, owner, name, key)):
            raise UnknownOverride(f"there is no key '{key}'{nearest.hint(key, {*keys, *groups})}")
        _set(page, setting)
    # A mapping in place of null or a number is a value like any other; one that joins a mapping has keys to check.
    parts = [o for o in plain if isinstance(_first_value(o), dict) and isinstance(before.get(o.key_or_group), dict)]
    return {str(o.input_line) for o in [*unknown, *(o for o in parts if _has_new_keys(page, o, keys))]}


def _is_entry(owner: Any, key: str, value: Any) -> bool:
    """Whether `key=value` names the class of a new entry in a mapping of parts, such as `evaluation.evaluations`."""
    names_class = key.endswith("._target_") or (isinstance(value, dict) and "_target_" in value)
    inner = list(owner.values()) if isinstance(owner, dict) and "_target_" not in owner else []
    return names_class and any(isinstance(part, dict) and "_target_" in part for part in inner)


def _has_new_keys(page: DictConfig, setting: Override, keys: Collection[str]) -> bool:
    """Whether a mapping has keys that the part it is merged into does not have but takes."""
    place, values = setting.key_or_group, _first_value(setting)
    new = {f"{place}.{name}": value for name, value in values.items() if f"{place}.{name}" not in keys}
    _, owner, _ = _owner(OmegaConf.to_container(page), f"{place}.")
    for key, value in new.items():
        if not (_is_entry(owner, key, value) or _is_taken(place, owner, key.rsplit(".", 1)[-1], key)):
            raise UnknownOverride(f"there is no key '{key}'{nearest.hint(key, keys)}")
    return bool(new)


def _first_value(setting: Override) -> Any:
    """The value of a setting, of a sweep the first."""
    from hydra.core.override_parser.types import IntervalSweep

    value = setting.value()
    if isinstance(value, IntervalSweep):
        return value.start
    return next(setting.sweep_iterator()) if setting.is_sweep_override() else value


def _set(page: DictConfig, setting: Override) -> None:
    OmegaConf.update(page, setting.key_or_group, _first_value(setting), merge=True, force_add=True)


def _is_taken(place: str, owner: Any, name: str, key: str) -> bool:
    """Whether `owner`, the part of the page at `place`, takes `name`. UnknownOverride where it knows what it takes."""
    if isinstance(owner, str) and owner.startswith("${"):
        source = key.replace(place, owner[2:-1], 1)
        raise UnknownOverride(f"there is no key '{key}': '{place}' is a copy of {owner}, so set '{source}'")
    if owner is None:
        return name == "_target_"
    if not isinstance(owner, dict) or not place:
        return False
    target = owner.get("_target_")
    if not isinstance(target, str) or target.startswith("${"):
        return not owner  # an empty mapping takes whatever it is given
    takes = parameters_of(target, place)
    near = _renamed(key, takes.names) or nearest.close(name, takes.names, 0.8 if takes.open else 0.6)
    if name in takes.names or name in HYDRA_WORDS or (takes.open and not near):
        return True
    hint = f": did you mean '{place}.{near[0]}'?" if near else f"; {target} takes {', '.join(takes.names)}"
    raise UnknownOverride(f"there is no key '{key}'{hint}" + f"; ++{key} insists" * takes.open)


def _owner(page: Any, key: str) -> tuple[str, Any, str]:
    """How far a key leads: the place of the last part that is there, that part, and the first name that is not."""
    part, place = page, []
    for name in key.split("."):
        if isinstance(part, dict) and name in part:
            part = part[name]
        elif isinstance(part, list) and name.isdigit() and int(name) < len(part):
            part = part[int(name)]
        else:
            break
        place.append(name)
    return ".".join(place), part, name


def entries(part: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(full key, value) of every entry of a plain container, list entries by their place."""
    inside = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
    for key, inner in inside:
        yield f"{prefix}{key}", inner
        yield from entries(inner, f"{prefix}{key}.")


def _renamed(key: str, names: Sequence[str]) -> list[str]:
    """The name of a key today, where the part has it; of a part within a part (of a sum) too."""
    group, *_, last = key.split(".")
    return [name for name in names if name in (RENAMED.get(key), RENAMED.get(f"{group}.{last}"))]


def one_line(error: BaseException) -> str:
    """An error of Hydra or OmegaConf in one line: its first line and that of its cause, and the key it is about."""
    lines = [str(e).strip().splitlines()[0] for e in (error, error.__cause__) if e is not None and str(e).strip()]
    key = getattr(error, "full_key", None)
    return ": ".join(dict.fromkeys(line.rstrip(".") for line in lines)) + (f" (in '{key}')" if key else "")


# ---------------------------------------------------------------------------------------------------- arguments


class Parameters(NamedTuple):
    """What a class or function takes by name; open: and whatever else, by **kwargs."""

    names: tuple[str, ...]
    open: bool


def parameters_of(target: str, where: str) -> Parameters:
    """The parameters of what `_target_` names at this place of the configuration.

    A class that hands **kwargs on to its base takes what the base takes too.

    Raises:
        ValueError: If it cannot be imported.
    """
    try:
        return _parameters(_load(target))
    except (ImportError, ValueError, TypeError) as error:
        why = " ".join(str(error).split())
        raise ValueError(f"{where}._target_={target} cannot be loaded: {why}") from error


@functools.cache
def _load(target: str) -> Callable[..., Any]:
    import logging

    from hydra.utils import get_object

    logger = logging.getLogger("hydra.utils")  # it prints what it raises
    logger.disabled, before = True, logger.disabled
    try:
        return get_object(target)
    finally:
        logger.disabled = before


def _parameters(target: Callable[..., Any]) -> Parameters:
    import inspect

    bases = target.__mro__[:-1] if inspect.isclass(target) else ()  # all but object
    makers = [vars(base)["__init__"] for base in bases if "__init__" in vars(base)]
    names: list[str] = []
    for maker in makers or [target]:
        try:
            parameters = inspect.signature(maker).parameters.values()
        except ValueError:  # of a builtin nobody knows
            return Parameters(tuple(names), open=True)
        names += [p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL) and p.name != "self"]
        if not any(p.kind == p.VAR_KEYWORD for p in parameters):
            return Parameters(tuple(dict.fromkeys(names)), open=False)
    return Parameters(tuple(dict.fromkeys(names)), open=True)


def parameter_defaults(target: str) -> dict[str, Any]:
    """{parameter: default} of what a `_target_` names, where it has one; {} for what cannot be loaded.

    Args:
        target: An import path.
    """
    import inspect

    try:
        made = _load(target)
        makers = (
            [vars(base)["__init__"] for base in made.__mro__[:-1] if "__init__" in vars(base)]
            if inspect.isclass(made)
            else [made]
        )
        found = [p for maker in reversed(makers) for p in inspect.signature(maker).parameters.values()]
    except (ImportError, ValueError, TypeError):
        return {}
    return {p.name: p.default for p in found if p.default is not p.empty}


def check_arguments(cfg: DictConfig) -> None:
    """Raise ValueError for the first key that the part it is given to does not take.

    Partial parts (an optimizer) would otherwise only complain once the data are loaded.
    """
    for where, part in entries(OmegaConf.to_container(cfg, resolve=True)):
        target = part.get("_target_") if isinstance(part, dict) else None
        if target is None:
            continue
        takes = parameters_of(target, where)
        for key in part:
            if not takes.open and not str(key).startswith("_") and key not in takes.names:
                today = _renamed(f"{where}.{key}", takes.names)
                near = f": did you mean '{today[0]}'?" if today else nearest.hint(str(key), takes.names)
                there_are = near or f"; it takes {', '.join(takes.names)}"
                raise ValueError(f"{target} takes no '{key}' ({where}.{key}){there_are}; remove it with ~{where}.{key}")


def check_values(cfg: DictConfig) -> None:
    """Raise ValueError for the first value that is of no type that what it is given to takes.

    Keys of the page itself have theirs in `values.Page`, those of a part in the signature of its `_target_`.
    """
    if OmegaConf.select(cfg, "data.size") == "auto":
        # A number once the images are at hand: any stands for it here.
        cfg = copy.deepcopy(cfg)
        OmegaConf.update(cfg, "data.size", 32)
    page: Any = OmegaConf.to_container(cfg, resolve=True)
    wrong = [values.misfit(key, page[key], kind) for key, kind in get_type_hints(values.Page).items() if key in page]
    for where, part in entries(page):
        target = part.get("_target_") if isinstance(part, dict) else None
        if isinstance(target, str):
            takes = {**values.types_of(_load(target)), **values.HYDRA}
            wrong += [
                values.misfit(f"{where}.{k}", v, takes[k])
                for k, v in part.items()
                if k in takes and values.SETTLED.get(f"{where}.{k}") != v
            ]
    found = [text for text in wrong if text is not None]
    if found:
        # The same value by another key is said once: the shortest key is where it was set.
        raise ValueError(min(found, key=len))
