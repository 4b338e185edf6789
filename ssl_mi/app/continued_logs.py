"""Loggers of a run; those of a resumed run go on with the log of the run that it resumes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf


def build_loggers(cfg: DictConfig, checkpoint: Mapping[str, Any] | None = None) -> Any:
    """The loggers of a configuration, as Hydra builds them.

    Of a run that resumes, a logger that takes the identity of a log (`id` of W&B, `run_id` of MLflow)
    and was given none gets the one that the checkpoint holds.

    Args:
        cfg: Of the run.
        checkpoint: What it goes on from.
    """
    from hydra.utils import instantiate

    from ssl_mi.app.startup import build

    identities = saved_identities(checkpoint)
    if cfg.get("logger") is None or not identities:
        return build(cfg, "logger")
    page: Any = OmegaConf.to_container(cfg.logger, resolve=True)
    for part in [page, *page.values()]:
        for key, identity in identities.items():
            if isinstance(part, dict) and key in part and part[key] is None:
                part[key] = identity
    return instantiate(page, _convert_="all")


def saved_identities(checkpoint: Mapping[str, Any] | None) -> Mapping[str, str]:
    """key of a logger's argument -> identity, of the logs that a checkpoint's run wrote; empty where there is none.

    Args:
        checkpoint: The checkpoint.
    """
    return {} if checkpoint is None else dict(_identities(checkpoint.get("callbacks")))


def _identities(states: Any) -> Iterator[tuple[str, str]]:
    from ssl_mi.callbacks.loggers import Hyperparameters

    if isinstance(states, Mapping):
        state = states.get(Hyperparameters.__qualname__)
        if isinstance(state, Mapping) and isinstance(state.get("identities"), Mapping):
            yield from ((str(key), str(value)) for key, value in state["identities"].items())
