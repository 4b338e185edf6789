"""How much memory a run will take, before it takes it.

A training step holds the weights, their gradients, the optimizer's state, the batch with its views, and what the
networks keep of each image for the backward pass. The last grows with the batch and is measured: two images go through
the networks, and what autograd saves of them is counted.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

_WORKSPACE = 0.25  # of the activations: gradients of the layer at hand, and copies
_GB = 1e9


@dataclass(frozen=True)
class MemoryNeed:
    """What a run needs on its device, in bytes.

    Attributes:
        now: What this process holds before training.
        fixed: What training adds whatever the batch: gradients and the optimizer's state.
        per_image: What each image of a batch adds: activations, views, the image itself.
        batch: Images per step in this process.
        available: Free on the device; None where it is not known.
        kind: What the samples are called.
    """

    now: int
    fixed: int
    per_image: int
    batch: int
    available: int | None
    kind: str = "images"

    @property
    def added(self) -> int:
        """What training adds to `now`."""
        return self.fixed + self.per_image * self.batch

    @property
    def peak(self) -> int:
        """The most that the process will hold."""
        return self.now + self.added

    @property
    def fits(self) -> bool:
        """Whether it is free, as far as that is known."""
        return self.available is None or self.added <= self.available

    @property
    def largest_batch(self) -> int:
        """The samples per step that fit, of this process."""
        return max(0, ((self.available or 0) - self.fixed) // max(1, self.per_image))

    def describe(self) -> str:
        """One line for the first lines of a run."""
        free = "" if self.available is None else f", {self.available / _GB:.1f} GB are free"
        return (
            f"about {self.peak / _GB:.1f} GB at the peak: {self.now / _GB:.1f} GB now, and {self.batch} {self.kind} of "
            f"{self.per_image / 1e6:.1f} MB each{free}"
        )


def estimate(module: Any, data: Any, optimizer: Any, processes: int = 1) -> MemoryNeed:
    """The memory of training `module` on `data`.

    Args:
        module: On the device where it will be trained.
        data: Set up.
        optimizer: Its state of one parameter is counted; the module's `make_optimizer`.
        processes: That share a batch.
    """
    device = next(module.parameters()).device
    batch = data.views(_to(next(iter(data.batches("train", batch_size=2))), device), 0)
    rows = len(batch.index)
    saved = _saved_for_backward(module.towers, batch.views) / rows
    views = sum(view[0].numel() * view.element_size() for view in batch.views)
    trained = [p for p in module.parameters() if p.requires_grad]
    weights = sum(p.numel() * p.element_size() for p in trained)
    fixed = int(weights * (1 + _state_per_weight(optimizer)))
    per_image = int(saved * (1 + _WORKSPACE) + 2 * views)
    now, available = _held(device)
    return MemoryNeed(now, fixed, per_image, data.batch_size // processes, available, getattr(data, "kind", "samples"))


def check(need: MemoryNeed, processes: int = 1) -> None:
    """Raise ValueError, with the batch that would fit, for a run that needs more than there is."""
    if need.fits:
        return
    available = (need.available or 0) / _GB
    fits = need.largest_batch * processes
    remedy = f"data.batch_size={fits} would fit" if fits >= 2 else f"not even 2 {need.kind} fit"
    raise ValueError(
        f"this run needs about {need.added / _GB:.1f} GB more memory ({need.per_image / 1e6:.0f} MB each) and "
        f"{available:.1f} GB are free: {remedy}; smaller images (data.size) or another encoder need less, and "
        "memory_check=warn starts all the same"
    )


def _saved_for_backward(towers: nn.Module, views: list[Tensor]) -> int:
    """Bytes that autograd keeps of a pass of these views through the towers in training mode, weights apart."""
    towers = copy.deepcopy(towers).train()
    own = {part.untyped_storage().data_ptr() for part in (*towers.parameters(), *towers.buffers())}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        pointer = tensor.untyped_storage().data_ptr()
        if pointer not in own:
            kept[pointer] = tensor
        return tensor

    devices = [views[0].device] if views[0].device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.enable_grad():
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            out: Any = towers(views)
        return sum(tensor.untyped_storage().nbytes() for tensor in kept.values()) + 0 * len(out)


def _state_per_weight(make_optimizer: Any) -> float:
    """Numbers that an optimizer keeps for each weight: 2 for Adam."""
    weight = nn.Parameter(torch.zeros(64))
    weight.grad = torch.ones(64)
    try:
        optimizer = make_optimizer([{"params": [weight]}])
        optimizer.step()
    except Exception:  # one that needs more than a parameter is counted as Adam
        return 2.0
    state = optimizer.state.get(weight, {})
    return sum(x.numel() for x in state.values() if isinstance(x, Tensor)) / 64


def _held(device: torch.device) -> tuple[int, int | None]:
    """(bytes that this process holds, bytes that are free) on a device."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return torch.cuda.memory_allocated(device), free
    status, meminfo = Path("/proc/self/status"), Path("/proc/meminfo")
    if device.type != "cpu" or not (status.is_file() and meminfo.is_file()):
        return 0, None
    free = _kilobytes(meminfo, "MemAvailable")
    limit, used = (Path("/sys/fs/cgroup") / name for name in ("memory.max", "memory.current"))
    if limit.is_file() and used.is_file() and limit.read_text().strip().isdigit():
        free = min(free, int(limit.read_text()) - int(used.read_text()))
    return _kilobytes(status, "VmRSS"), free


def _kilobytes(path: Path, name: str) -> int:
    line = next((line for line in path.read_text().splitlines() if line.startswith(f"{name}:")), f"{name}: 0 kB")
    return 1024 * int(line.split()[1])


def _to(source: Any, device: torch.device) -> Any:
    from lightning_utilities.core.apply_func import apply_to_collection

    return apply_to_collection(source, Tensor, lambda x: x.to(device))
