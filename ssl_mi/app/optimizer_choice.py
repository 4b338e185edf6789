"""Hyper-parameters belong to the optimizer that they were chosen for.

An experiment may set them in its own file (`optimizer: {lr: 0.3}`), for the optimizer that the experiment chooses.
When the run takes another one (`experiment=mine optimizer=adamw`, or an experiment built on that one), they are left
out, and the other optimizer has its own defaults. What the command line itself sets always counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf, open_dict

GROUP = "optimizer"
BLOCKS = (GROUP, "objective_optimizer")


def settle_optimizer(cfg: DictConfig, overrides: Sequence[str] | None = None, name: str | None = None) -> str:
    """Take hyper-parameters that were chosen for another optimizer out of `cfg`, and note it in `optimizer_note`.

    Hydra has to be initialised: the page is composed again with other choices.

    Args:
        cfg: the composed page. An optimizer's block is replaced where it holds what belongs to another optimizer.
        overrides: what it was composed with; by default those of the command line, or of this job of a sweep.
        name: of the page; by default that of the running job.

    Returns:
        What to print beside the learning rate; "" where no optimizer was swapped.
    """
    page = _Page(overrides, name)
    if cfg.get(GROUP) is None:
        return ""
    dropped = _drop_foreign_bodies(cfg, page)
    for block in BLOCKS:
        if "_target_" in page.explicit(block) and cfg.get(block) is not None:
            _follow_target(cfg, block, page)
    note = _note(cfg, page) or dropped
    if note and "optimizer_note" in cfg:
        cfg.optimizer_note = note
    return note


class _Page:
    """The page as its files compose it, with the overrides of a run or with others."""

    def __init__(self, overrides: Sequence[str] | None, name: str | None = None) -> None:
        from hydra.core.global_hydra import GlobalHydra
        from hydra.core.hydra_config import HydraConfig
        from hydra.core.override_parser.overrides_parser import OverridesParser

        self.name = name or (HydraConfig.get().job.config_name if HydraConfig.initialized() else "train")
        if overrides is None:
            overrides = HydraConfig.get().overrides.task
        self.loader = cast(Any, GlobalHydra.instance().config_loader())  # its base class lacks what is used of it
        self.overrides = list(overrides)
        self.parsed = OverridesParser.create().parse_overrides(self.overrides)
        # Where files are looked for is said by overrides too (hydra.searchpath).
        keys = zip(self.overrides, self.parsed, strict=True)
        self.hydra = [text for text, o in keys if o.key_or_group.startswith("hydra.")]
        self._lists: dict[tuple[str, ...], Any] = {}
        self.files = self.loader._parse_overrides_and_create_caching_repo(self.name, self.overrides)[1]
        self.choice = self.choice_with(self.overrides)

    def choice_with(self, overrides: Sequence[str]) -> str | None:
        """The optimizer that the page takes with these overrides."""
        return self._defaults(overrides).overrides.known_choices.get(GROUP)

    def block(self, overrides: Sequence[str], key: str = GROUP) -> DictConfig | None:
        """One optimizer's block, composed with these overrides."""
        from hydra.types import RunMode

        return self.loader.load_configuration(self.name, [*self.hydra, *overrides], RunMode.RUN, from_shell=False).get(
            key
        )

    def bodies(self) -> list[tuple[str, str | None, DictConfig]]:
        """(file, the optimizer it was written for, what it sets in the block): of experiments, in order of merging."""
        defaults = self._defaults(self.overrides)
        found = []
        for entry in defaults.defaults:
            if entry.primary or not entry.config_path or entry.package:  # experiments write to the whole page
                continue
            loaded = self.files.load_config(entry.config_path)
            body = loaded.config.get(GROUP) if loaded and isinstance(loaded.config, DictConfig) else None
            if isinstance(body, DictConfig) and "/" in entry.config_path:
                group, name = entry.config_path.split("/", 1)
                alone = f"{group}={name}" if group in defaults.overrides.known_choices else f"+{group}={name}"
                found.append((name, self.choice_with([alone]), body))
        return found

    def explicit(self, block: str) -> set[str]:
        """The keys of a block that the command line itself sets or removes."""
        keys = (o.key_or_group for o in self.parsed)
        return {key.removeprefix(f"{block}.") for key in keys if key.startswith(f"{block}.")}

    def without_optimizers(self) -> list[str]:
        """The overrides that do not choose or change an optimizer."""
        keys = [o.key_or_group.split(".")[0] for o in self.parsed]
        return [text for text, key in zip(self.overrides, keys, strict=True) if key not in BLOCKS]

    def option_for(self, target: str) -> DictConfig | None:
        """The block of the first option that is of this class."""
        for name in self.files.get_group_options(GROUP):
            option = self.files.load_config(f"{GROUP}/{name}").config
            if option.get("_target_") == target:
                return option
        return None

    def _defaults(self, overrides: Sequence[str]) -> Any:
        from hydra.types import RunMode

        key = (*self.hydra, *overrides)
        if key not in self._lists:  # each takes a tenth of a second
            self._lists[key] = self.loader.compute_defaults_list(self.name, list(key), RunMode.RUN)
        return self._lists[key]


def _drop_foreign_bodies(cfg: DictConfig, page: _Page) -> str:
    """Leave out what experiments set for another optimizer -> what was left out, in words."""
    bodies = page.bodies()
    foreign = [(name, written_for) for name, written_for, _ in bodies if written_for != page.choice]
    if not foreign:
        return ""
    own = page.block([f"{GROUP}={page.choice}"])
    if own is None:
        return ""
    with open_dict(own):
        for _, written_for, body in bodies:
            if written_for == page.choice:
                own.merge_with(body)
    _replace(cfg, GROUP, own, page)
    return "without what " + ", ".join(f"{name} sets for {written_for}" for name, written_for in foreign)


def _follow_target(cfg: DictConfig, block: str, page: _Page) -> None:
    """Where the command line names another class, keep the defaults of that class, not those of the one before."""
    target = cfg[block].get("_target_")
    before = page.block(page.without_optimizers(), block)
    if page.choice != page.choice_with(page.without_optimizers()):
        before = page.block([f"{GROUP}={page.choice}"], block) if block == GROUP else before
    if before is None or before.get("_target_") == target:
        return
    own = page.option_for(target) or OmegaConf.create({"_target_": target, "_partial_": True})
    _replace(cfg, block, own, page)


def _replace(cfg: DictConfig, block: str, own: DictConfig, page: _Page) -> None:
    """The block `own`, with what the command line sets in this block."""
    said = cast(dict[str, Any], OmegaConf.to_container(cfg[block], resolve=False))
    made = cast(DictConfig, OmegaConf.create(OmegaConf.to_container(own, resolve=False)))
    for key in page.explicit(block):
        if OmegaConf.is_missing(cfg[block], key) or OmegaConf.select(cfg[block], key) is not None:
            OmegaConf.update(made, key, said[key])
        else:
            made.pop(key, None)
    with open_dict(cfg):
        cfg[block] = made


def _note(cfg: DictConfig, page: _Page) -> str:
    if not any(o.key_or_group == "experiment" for o in page.parsed) or "lr" in page.explicit(GROUP):
        return ""
    without = page.without_optimizers()
    chosen = page.block(without)
    if chosen is None:
        return ""
    was, now = (str(block.get("_target_")).rsplit(".", 1)[-1] for block in (chosen, cfg[GROUP]))
    choice = page.choice_with(without)
    if choice == page.choice and was == now:
        return ""
    of = f"{was} as optimizer={choice}" if was == now else was
    return f"its own default: the experiment's {chosen.get('lr')} was chosen for {of}"
