"""Training from Python: `ssl_mi.train`, which does what `ssl-mi train` does, with overrides, with objects, or both."""

from __future__ import annotations

import base64
import contextlib
import copy
import html
import io
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf, open_dict

from ssl_mi.app.composition import Sources, quoted
from ssl_mi.app.config_checks import parse_override
from ssl_mi.app.startup import users_mistake
from ssl_mi.app.train import compose, prepare

if TYPE_CHECKING:
    from torch import nn

    from ssl_mi.app.runner import Run


def train(
    *overrides: str,
    objective: Any = None,
    data: Any = None,
    encoder: Any = None,
    augmentation: Any = None,
    towers: Any = None,
    teacher: Any = None,
    max_epochs: int | None = None,
    seed: int | None = None,
    name: str | None = None,
    run_dir: str | Path | None = None,
    config_dir: str | Path | None = None,
    quiet: bool = False,
) -> TrainedRun:
    """Train an encoder without labels and evaluate it, as `ssl-mi train` does.

        ssl_mi.train("experiment=simclr_cifar", "data=image_folder", "data.root=photos")
        ssl_mi.train(objective=VICReg(), data=images, encoder=ResNet(18, "cifar"), max_epochs=20)

    A part is given as an object, or by the name that it has in `conf/` ("simclr", "resnet18"). A part that is not given
    is that of the configuration. Modules are copied: those that are given do not change.

    Args:
        *overrides: As on the command line: "group=option", "key=value".
        objective: An `Objective`, e.g. `SimCLR(temperature=0.5)`.
        data: A folder of images (a path); images uint8 [n, h, w, c] or [n, c, h, w] as an array or tensor, alone or
            with labels as a pair (images, labels); a source with `load()`, such as `ImageArrays`; or a data module,
            such as `ImageData`, which makes its own views.
        encoder: A module with an int `out_dim`, e.g. `ConvNet()`.
        augmentation: An `Augmentation`.
        towers: `Siamese` or `Independent`; `encoder` is not used then.
        teacher: An `EMA`.
        max_epochs: Epochs of training.
        seed: Of the weights, the order of the batches and the views. Weights of a module that is given are its own.
        name: Names the run and its folder.
        run_dir: The run's folder; None for runs/NAME/TIME in the current folder.
        config_dir: A folder of further configurations, as `--config-dir`.
        quiet: Print nothing.

    Returns:
        The finished run: measurements, table, encoder, folder, pictures.

    Raises:
        ValueError: If a part is unknown, given twice, or does not fit, with the key and the remedy.
        FileExistsError: If `run_dir` holds a run already.
        ssl_mi.finite.NotFinite: If the loss is not finite.
    """
    groups = {"objective": objective, "encoder": encoder, "augmentation": augmentation}
    groups |= {"towers": towers, "teacher": teacher}
    command = _call(overrides, groups | {"data": data, "max_epochs": max_epochs, "seed": seed})
    with _clear_errors():
        given = Given(groups, data, Sources.default(config_dir).options().get("data", []))
        values = {"trainer.max_epochs": max_epochs, "seed": seed, "name": name}
        named = given.overrides + [_override(key, value) for key, value in values.items() if value is not None]
        _refuse_twice(overrides, list(given.parts), [word.partition("=")[0] for word in named])
        cfg = compose([*given.defaults, *named, *overrides], run_dir=run_dir, config_dir=config_dir)
        with given.registered():
            return TrainedRun(_fitted(given.put_into(cfg), quiet, command))


@dataclass(frozen=True)
class TrainedRun:
    """A finished run. In a notebook it shows its table and its pictures.

    Attributes:
        run: The runner: `run.module`, `run.trainer`, `run.history.epochs`.
    """

    run: Run = field(repr=False)

    @property
    def data(self) -> Any:
        """The data module, e.g. for `data.augmentation.clean(images)`: images as evaluation sees them."""
        return self.run.data

    @property
    def folder(self) -> Path:
        """The run's folder, with report.md, report.json, CSV files, pictures and checkpoints."""
        return self.run.folder

    @property
    def rows(self) -> list[Any]:
        """All measurements, in order: metric, value, interval, encoder, split, epoch, ..."""
        return [] if self.run.evaluate is None else list(self.run.evaluate.rows)

    @cached_property
    def table(self) -> Table:
        """The closing table: the last evaluation, a line per quantity, a column per encoder."""
        from ssl_mi.report import closing_table

        return Table(*closing_table([row.as_dict() for row in self.rows]))

    @property
    def encoder(self) -> nn.Module:
        """The trained encoder of the first view, in eval mode: normalised images [n, c, h, w] -> h [n, out_dim]."""
        return self.run.module.towers.tower_of(0).encoder.eval()

    @property
    def pictures(self) -> dict[str, Path]:
        """PNG files by name: training, information, probes, views, map, ..."""
        return {path.stem: path for path in sorted(self.folder.glob("*.png"))}

    def __repr__(self) -> str:
        return f"TrainedRun(folder={str(self.folder)!r}, {len(self.rows)} measurements)"

    def __str__(self) -> str:
        return f"{self.table}\n{self.folder}" if self.table.lines else repr(self)

    def _repr_html_(self) -> str:
        pictures = [
            f'<figure><img alt="{html.escape(name)}" style="max-width: 100%" src="data:image/png;base64,'
            f'{base64.b64encode(path.read_bytes()).decode()}"><figcaption>{html.escape(name)}</figcaption></figure>'
            for name, path in self.pictures.items()
        ]
        return "\n".join([self.table._repr_html_(), *pictures, f"<p><code>{html.escape(str(self.folder))}</code></p>"])


@dataclass(frozen=True)
class Table:
    """A table that prints as text and shows as HTML in a notebook.

    Attributes:
        header: Titles of the columns.
        lines: Cells of each line.
    """

    header: Sequence[str]
    lines: Sequence[Sequence[str]]

    def __str__(self) -> str:
        widths = [max(map(len, column)) for column in zip(self.header, *self.lines, strict=True)]
        return "\n".join(
            "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))])
            for line in [self.header, *self.lines]
            if line
        )

    def _repr_html_(self) -> str:
        def line(cells: Sequence[str], tag: str) -> str:
            return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

        return "<table>" + line(self.header, "th") + "".join(line(cells, "td") for cells in self.lines) + "</table>"


def short_run(overrides: Sequence[str]) -> Run:
    """Train as `ssl-mi train OVERRIDES` does, evaluations included; print nothing and leave no folder.

    Any number of runs fit into one process, and each gives what it gives in a process of its own: the seed is set again
    before each.

    Returns:
        The trained run: its `module`, its `data`, and in `evaluate.rows` the measurements.

    Raises:
        ValueError: What is raised on the command line.
    """
    with tempfile.TemporaryDirectory() as folder, _silence():
        run = _prepared(compose(overrides, run_dir=folder), quiet=True)
        run.train()  # without the report, which would be removed with the folder
    return run


def final_measurements(run: Run) -> dict[tuple[str, str], float]:
    """{(metric, encoder): value} of the evaluation at the end, on the test split; encoder: trained, random, pixels."""
    return {(row.metric, row.encoder): row.value for row in run.evaluate.rows if row.split == "test"}


# ------------------------------------------------------------------------------------------------ objects as parts

_REGISTERED: dict[str, Any] = {}  # while a run is built: the objects that its configuration names


def given(part: str, **shown: Any) -> Any:
    """The object that was given for a part of the configuration; modules are copied for each use.

    Args:
        part: Key of the configuration.
        **shown: What the saved configuration records of the object.

    Raises:
        ValueError: If there is no such object: the configuration is used again without the call that it belongs to.
    """
    from torch import nn

    if part not in _REGISTERED:
        raise ValueError(f"'{part}' was given as an object in Python: give it to ssl_mi.train again")
    found = _REGISTERED[part]
    return copy.deepcopy(found) if isinstance(found, nn.Module) else found


class Given:
    """The parts of a call: names become overrides, objects become parts of the configuration.

    Args:
        groups: Group -> object, name, or None for the configuration's own.
        data: See `train`.
        options: The names of data that there are.

    Attributes:
        overrides: What chooses the parts that are named.
        parts: Key of the configuration -> object.
        defaults: What follows from the data, unless an override sets it: the size, the name of the run.

    Raises:
        ValueError: If the data are of no kind that there is.
    """

    def __init__(self, groups: Mapping[str, Any], data: Any, options: Sequence[str]) -> None:
        chosen = {group: part for group, part in groups.items() if part is not None}
        self.overrides = [_override(group, part) for group, part in chosen.items() if isinstance(part, str)]
        self.parts = {group: part for group, part in chosen.items() if not isinstance(part, str)}
        self.defaults: list[str] = []
        if isinstance(data, str) and data in options:
            self.overrides.append(_override("data", data))
        elif isinstance(data, str | Path):
            self._take_folder(Path(data), options)
        elif hasattr(data, "train_dataloader"):
            self.parts["data"] = data
            self.defaults.append(_override("name", type(data).__name__.lower()))
        elif data is not None:
            self._take_source(data if hasattr(data, "load") else _arrays(data))

    def _take_folder(self, folder: Path, options: Sequence[str]) -> None:
        if not folder.is_dir():
            raise ValueError(f"data={str(folder)!r} is neither a folder of images nor one of {', '.join(options)}")
        self.defaults.append(_override("name", folder.resolve().name))
        self.overrides += ["data=image_folder", _override("data.root", str(folder.resolve()))]

    def _take_source(self, source: Any) -> None:
        self.parts["data.sets"] = source
        self.defaults.append(_override("name", getattr(source, "name", type(source).__name__.lower())))
        self.overrides += ["data=image_folder", "data.root=null"]
        shape = getattr(getattr(source, "train", None), "shape", None)
        if shape is not None:  # arrays of one size are trained on as they are
            self.defaults.append(f"data.size={min(shape[1:])}")

    @contextlib.contextmanager
    def registered(self) -> Iterator[None]:
        """While the configuration of the call is being built."""
        before = dict(_REGISTERED)
        _REGISTERED.update(self.parts)
        try:
            yield
        finally:
            _REGISTERED.clear()
            _REGISTERED.update(before)

    def put_into(self, cfg: DictConfig) -> DictConfig:
        """Replace the pages of the parts by their objects."""
        with open_dict(cfg):
            for key, part in self.parts.items():
                OmegaConf.update(cfg, key, self._node(key, part), merge=False)
            # What a given part makes useless: its page would name things that are not there.
            if "towers" in self.parts:
                cfg.encoder = None
            if "data" in self.parts and "augmentation" not in self.parts:
                cfg.augmentation = None
        return cfg

    def _node(self, key: str, part: Any) -> dict[str, Any]:
        numbers = {name: getattr(part, name, None) for name in ("size", "batch_size", "out_dim")}
        kept = {name: value for name, value in numbers.items() if isinstance(value, int)}
        return {"_target_": f"{__name__}.given", "part": key, "type": type(part).__name__, **kept}


def _arrays(data: Any) -> Any:
    from ssl_mi.data import ImageArrays

    images, labels = data if isinstance(data, tuple) and len(data) == 2 else (data, None)
    if not hasattr(images, "shape"):
        raise ValueError(
            f"data of type {type(data).__name__}: give a folder, an array of images, a pair (images, labels), a source "
            "with load(), or a data module"
        )
    return ImageArrays(images, labels)


# --------------------------------------------------------------------------------------------------------- the run


def _fitted(cfg: DictConfig, quiet: bool, command: str) -> Run:
    with _silence() if quiet else contextlib.nullcontext():
        run = _prepared(cfg, quiet)
        run.command = run.provenance.command = command
        run.fit()
    return run


def _prepared(cfg: DictConfig, quiet: bool) -> Run:
    if quiet:
        cfg.progress = "none"
    run = prepare(cfg)
    run.quiet = quiet
    return run


def _silence() -> contextlib.AbstractContextManager[Any]:
    return contextlib.redirect_stdout(io.StringIO())


def _override(key: str, value: Any) -> str:
    return f"{key}={quoted(value)}" if isinstance(value, str) else f"{key}={value}"


def _refuse_twice(overrides: Sequence[str], objects: Sequence[str], named: Sequence[str]) -> None:
    """Raise ValueError for an override of what is given as an argument: one of the two would be ignored."""
    for text in overrides:
        if not isinstance(text, str):
            raise ValueError(f"overrides are strings, got {type(text).__name__}: give objects by name, objective=...")
        key = parse_override(text).key_or_group
        within = [part for part in objects if f"{key}.".startswith(f"{part}.") or part.startswith(f"{key}.")]
        if within or key in named:
            raise ValueError(
                f"the override '{text}' and an argument of ssl_mi.train both set {key}: give one of the two"
            )


def _call(overrides: Sequence[str], parts: Mapping[str, Any]) -> str:
    """The call, for the report: numbers and names as they are, objects by their type."""
    words = [repr(override) for override in overrides]
    for key, part in parts.items():
        if part is not None:
            words.append(
                f"{key}={part!r}" if isinstance(part, str | int | Path) else f"{key}={type(part).__name__}(...)"
            )
    return f"ssl_mi.train({', '.join(words)})"


@contextlib.contextmanager
def _clear_errors() -> Iterator[None]:
    """What whoever calls this can mend is a ValueError with its message, and an interrupt is an interrupt."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        yield
    except SystemExit as error:  # Lightning's answer to an interrupt
        raise KeyboardInterrupt from error
    except (HydraException, OmegaConfBaseException) as error:
        message = users_mistake(error)
        if message is None:
            raise
        kind = FileNotFoundError if isinstance(error.__cause__, FileNotFoundError) else ValueError
        raise kind(message) from error
