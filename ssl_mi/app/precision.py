"""`trainer.precision=fastest`: a few steps in float32 and in bfloat16 before a run, and the faster of the two.

Whether bfloat16 pays depends on the machine, the network and the batch. It is measured once, on a copy of the module
and on real images. What was chosen is written into the configuration, with the times, so that a resumed run has it too.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

if TYPE_CHECKING:
    import torch

FASTEST = "fastest"
EXACT, MIXED = "32-true", "bf16-mixed"
GAIN = 1.1  # bfloat16 is taken where float32 takes this many times as long: it rounds, and so it must pay
ROUNDS = 3
STEP = 0.25  # seconds that a measured step should take at most: a large batch is measured by a part of it
FIRST = 32  # images of the first step, which is not counted


def settle(cfg: DictConfig, data: Any, module: Any, saved: Mapping[str, Any]) -> None:
    """Write the choice and its reason into a configuration that asks for the fastest precision.

    Args:
        cfg: Its `trainer.precision` and `precision_note` are replaced.
        data: Of the run.
        module: Of the run; it stays as it is, and so do the random states.
        saved: The configuration of the run that this one goes on with, whose choice is kept; empty for a new run.

    Raises:
        ValueError: For several processes, which might choose differently.
    """
    if str(cfg.trainer.precision) != FASTEST:
        return
    choice, note = chosen_before(saved), str(saved.get("precision_note"))
    if not choice:
        choice, note = _measured(cfg, data, module)
    OmegaConf.update(cfg, "trainer.precision", choice)
    OmegaConf.update(cfg, "precision_note", note)


def chosen_before(saved: Mapping[str, Any]) -> str:
    """What a run with `trainer.precision=fastest` chose, by its configuration; "" for a run that did not choose."""
    return str(saved["trainer"]["precision"]) if saved.get("precision_note") else ""


def _measured(cfg: DictConfig, data: Any, module: Any) -> tuple[str, str]:
    from hydra.utils import instantiate
    from pytorch_lightning.utilities.seed import isolate_rng

    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer: Any = instantiate(cfg.trainer, precision=EXACT, _convert_="all", **quiet)
    if trainer.world_size > 1:
        raise ValueError(
            f"trainer.precision={FASTEST} measures in one process, and {trainer.world_size} could choose differently: "
            f"set trainer.precision={MIXED} or {EXACT}"
        )
    with isolate_rng():
        data.prepare_data()
        data.setup("fit")
        seconds, images = _seconds(data, module, trainer.strategy.root_device)
    ratio = seconds[EXACT] / seconds[MIXED]
    choice = MIXED if ratio >= GAIN else EXACT
    times = ", ".join(f"{name} {value * 1e3:.0f} ms" for name, value in seconds.items())
    return choice, f"measured on {images} images a step: {times}"


def _seconds(data: Any, module: Any, device: torch.device) -> tuple[dict[str, float], int]:
    """The least seconds of a step in each precision, and the images of that step."""

    def batch_of(rows: int) -> Any:
        import torch
        from lightning_utilities.core.apply_func import apply_to_collection

        source = next(iter(data.batches("train", batch_size=rows)))
        return data.views(apply_to_collection(source, torch.Tensor, lambda x: x.to(device)), 0)

    steps = {name: _step_of(module, device, name) for name in (EXACT, MIXED)}
    rows = min(FIRST, data.batch_size)
    first = batch_of(rows)
    for step in steps.values():  # kernels are chosen and memory is taken
        step(first)
    slowest = max(step(first) for step in steps.values())
    rows = max(rows, min(data.batch_size, int(rows * STEP / max(slowest, 1e-6))))
    batch = batch_of(rows)
    found: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(ROUNDS):
        for name, step in steps.items():  # in turn: a busy neighbour slows both alike
            found[name].append(step(batch))
    return {name: min(times) for name, times in found.items()}, len(batch.index)


def _step_of(module: Any, device: torch.device, precision: str) -> Callable[[Any], float]:
    """A training step of a copy of the module -> the seconds that it took."""
    import torch

    from ssl_mi.optim import parameter_groups

    own = copy.deepcopy(module).to(device).train()
    optimizer = own.make_optimizer(parameter_groups(own))

    def step(batch: Any) -> float:
        _wait(device)
        began = time.perf_counter()
        optimizer.zero_grad()
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == MIXED):
            total = own.loss(batch).total
        total.backward()
        optimizer.step()
        _wait(device)
        return time.perf_counter() - began

    return step


def _wait(device: torch.device) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
