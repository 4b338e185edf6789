"""The command line of a training: Hydra's own, after checks that end with one line and leave no folder behind."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from ssl_mi import atomic
from ssl_mi.app.composition import Sources, folder_of
from ssl_mi.app.config_checks import UnknownOverride, accepted, combinations, parse_override
from ssl_mi.app.data_choice import with_data_defaults
from ssl_mi.app.optimizer_choice import settle_optimizer
from ssl_mi.app.paths import PAGE, conf_dir
from ssl_mi.app.resuming import in_folder, is_finished
from ssl_mi.app.startup import check, clear_errors, first_process, print_error, users_mistake
from ssl_mi.app.sweep_callback import ERROR

if TYPE_CHECKING:
    from ssl_mi.app.runner import Run

FULL_ERROR = "HYDRA_FULL_ERROR"  # where it is 1, Hydra raises what it otherwise prints in its own way


def run(argv: Sequence[str], prepare: Callable[[DictConfig], Run]) -> int:
    """Train as the command line specifies: once, or with -m for each job of a sweep.

    Args:
        argv: Flags of Hydra and overrides.
        prepare: Builds the run of a configuration.

    Returns:
        The exit status; the process ends with it where a job fails.
    """
    with clear_errors():
        try:
            words = _checked(argv)
        except UnknownOverride as error:
            if first_process():  # all processes of a run are given the same
                print_error(str(error))
            return 1
        _hand_to_hydra(words, prepare)
    return 0


# ------------------------------------------------------------------------------------------- before Hydra starts


def _checked(argv: Sequence[str]) -> list[str]:
    """The command line as Hydra accepts it. ValueError or HydraException for one that cannot work."""
    from hydra._internal.utils import get_args_parser

    parser = get_args_parser()
    parser.prog = "ssl-mi train"
    args = parser.parse_intermixed_args(argv)
    if args.hydra_help or args.shell_completion or args.experimental_rerun:
        return list(argv)
    sources = _sources(args)
    sources.check()
    several = args.multirun or "hydra.mode=MULTIRUN" in args.overrides
    overrides = accepted(sources, with_data_defaults(args.overrides), sweep=several)
    if not (args.help or args.cfg or args.info):
        for job in _jobs(sources, overrides) if several else [overrides]:
            _check_job(sources, job, several)
    flags = [word for word in argv if word not in args.overrides]
    if args.config_path is not None:  # Hydra would look for it beside this file
        given, full = args.config_path, str(sources.primary)
        flags = [{given: full, f"--config-path={given}": f"--config-path={full}"}.get(word, word) for word in flags]
    return [*flags, *overrides]  # Hydra's parser wants them apart


def _sources(args: argparse.Namespace) -> Sources:
    """The folders that flags and overrides name."""
    further = [] if args.config_dir is None else [Path(args.config_dir).absolute()]
    for override in args.overrides:
        key, _, value = override.partition("=")
        if key.lstrip("+") == "hydra.searchpath":
            further += [folder_of(str(place)) for place in OmegaConf.create(value)]
    primary = conf_dir() if args.config_path is None else folder_of(args.config_path)
    return Sources(primary, tuple(further), args.config_name or PAGE)


def _jobs(sources: Sources, overrides: Sequence[str]) -> Iterable[Sequence[str]]:
    """The overrides of the first jobs of a sweep, as Hydra's own sweeper makes them; none where another one does."""
    parsed = [parse_override(text) for text in overrides]
    if any(o.key_or_group == "hydra/sweeper" or o.is_interval_sweep() for o in parsed):
        return []
    return combinations(parsed, sources.options())


def _check_job(sources: Sources, overrides: Sequence[str], several: bool) -> None:
    """What can be seen of one job before it has a folder."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import open_dict, read_write

    page = sources.compose(overrides, with_hydra=True)
    try:
        with read_write(page), open_dict(page):
            page.hydra.job.update({"num": 0, "id": "0"})
            page.hydra.runtime.output_dir = "."
            HydraConfig.instance().set_config(page)  # for ${hydra:...}
            # A job of a sweep looks at its own folder: what was finished there before stays. This one has none.
            own = f"{OmegaConf.select(page, 'hydra.sweep.dir')}/any job"
            folder = own if several else OmegaConf.select(page, "hydra.run.dir")
            with read_write(page.hydra):
                page.hydra.runtime.output_dir = folder
            HydraConfig.instance().set_config(page)
            del page["hydra"]
        check(page)
    finally:
        HydraConfig.instance().cfg = None


# ------------------------------------------------------------------------------------------------- inside Hydra


def _hand_to_hydra(words: Sequence[str], prepare: Callable[[DictConfig], Run]) -> None:
    """Call Hydra's own main function, which reads the command line, with errors raised and not printed."""
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    given, full_error = list(sys.argv), os.environ.get(FULL_ERROR)

    def job(cfg: DictConfig) -> None:
        # Lightning starts further processes with the words and the environment that started this one.
        with _command_line(given, full_error):
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                _job_of_a_sweep(cfg, prepare)
                return
            with clear_errors(), _no_folder_of_a_failed_start():
                settle_optimizer(cfg)
                prepare(cfg).fit()

    with _command_line([given[0], *words], "1"):
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=PAGE)(job)()


def _job_of_a_sweep(cfg: DictConfig, prepare: Callable[[DictConfig], Run]) -> None:
    """One job: not again where it is finished, on from its checkpoint where it was stopped.

    One that fails leaves its error in its folder, and the others run.
    """
    from omegaconf import open_dict

    folder = Path(cfg.run_dir)
    settle_optimizer(cfg)
    try:
        if is_finished(cfg):
            print(f"{folder}: finished before, not run again")
            return
        if cfg.ckpt_path is None and in_folder(folder):
            with open_dict(cfg):
                cfg.ckpt_path = str(folder)
        prepare(cfg).fit()
        (folder / ERROR).unlink(missing_ok=True)
    except Exception as error:
        message = users_mistake(error)
        if message is None:
            traceback.print_exc()
            message = f"{type(error).__name__}: {error}"
        else:
            print_error(message)
        atomic.write(folder / ERROR, " ".join(message.split()) + "\n")


@contextmanager
def _command_line(words: list[str], full_error: str | None) -> Iterator[None]:
    """Within, the process was started with these words, and with this value of HYDRA_FULL_ERROR."""
    before, sys.argv = sys.argv, words
    error_before = os.environ.get(FULL_ERROR)
    _set_environment(FULL_ERROR, full_error)
    try:
        yield
    finally:
        sys.argv = before
        _set_environment(FULL_ERROR, error_before)


def _set_environment(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


@contextmanager
def _no_folder_of_a_failed_start() -> Iterator[None]:
    """Where a run fails before it trains, remove the folder that Hydra made for it, unless anything else is in it.

    What is in its log was printed too.
    """
    from hydra.core.hydra_config import HydraConfig

    from ssl_mi.app.run_folders import remove_bare  # which imports numpy: --help answers without

    try:
        yield
    except BaseException:
        hydra = HydraConfig.get()
        folder = Path(hydra.runtime.output_dir)
        if first_process() and remove_bare(folder, own=str(hydra.output_subdir)):
            _remove_while_empty(folder.parent)
        raise


def _remove_while_empty(folder: Path) -> None:
    """This folder and those around it, up to the current one, as long as nothing is in them."""
    while folder != Path.cwd() and folder.is_relative_to(Path.cwd()) and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent
