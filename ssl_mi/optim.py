"""Optimization: which parameters decay, LARS, the learning rate's schedules, several optimizers as one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from ssl_mi.schedules import constant as constant_value
from ssl_mi.schedules import cosine, warmup

NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
# Offsets and scales that happen to have more than one axis, by the names torchvision gives them.
OFFSETS = ("class_token", "mask_token", "pos_embedding", "relative_position_bias_table", "layer_scale")


def parameter_groups(module: nn.Module, weight_decay: float | None = None) -> list[dict[str, Any]]:
    """Trainable parameters in two groups: those that decay, and those that do not.

    Biases, scalars, everything in a norm layer, class tokens, positional embeddings and layer scales
    neither decay nor are adapted by LARS: pulling them to zero regularises nothing, and a norm
    layer's gamma has no scale to be relative to (SimCLR's and BYOL's exclusions). Frozen
    parameters (a teacher's) are left out; each other one comes exactly once.

    Args:
        module: Whatever holds the parameters.
        weight_decay: Of the first group; None leaves it to the optimizer's own, so that a configuration has it once.

    Returns:
        One or two parameter groups; the second has weight_decay 0 and `adapt` False.

    Raises:
        ValueError: If nothing is trainable.
    """
    exempt: dict[Tensor, bool] = {}
    for layer in module.modules():
        for name, p in layer.named_parameters(recurse=False):
            if p.requires_grad:
                exempt[p] = exempt.get(p, False) or p.ndim <= 1 or isinstance(layer, NORMS) or name in OFFSETS
    if not exempt:
        raise ValueError(f"{type(module).__name__} has no trainable parameter")
    decayed: dict[str, Any] = {"params": [p for p, is_exempt in exempt.items() if not is_exempt], "adapt": True}
    if weight_decay is not None:
        decayed["weight_decay"] = weight_decay
    spared = {"params": [p for p, is_exempt in exempt.items() if is_exempt], "adapt": False, "weight_decay": 0.0}
    return [group for group in (decayed, spared) if group["params"]]


def groups_to_schedule(groups: Sequence[dict[str, Any]], field: str) -> list[dict[str, Any]]:
    """The parameter groups in which a schedule may move `field`.

    Args:
        groups: Groups made by `parameter_groups`, or any others.
        field: For example "weight_decay".

    Returns:
        The groups that have the field; for weight decay, without those that `parameter_groups` spares.
    """
    return [g for g in groups if field in g and (field != "weight_decay" or g.get("adapt", True))]


class LARS(Optimizer):
    """Layer-wise adaptive rate scaling.

    For each parameter tensor w with gradient g and weight decay b:

        ratio = eta |w| / (|g| + b |w|)       its step, as a share of its size
        u     = ratio (g + b w)
        v     = momentum v + u
        w     = w - lr v                      nesterov: w - lr (u + momentum v)

    As in torch's SGD the learning rate multiplies after the momentum (the paper puts it before: the same
    while lr is constant). ratio is 1 where |w| or |g| is 0, as for weights that start at zero. Groups with `adapt`
    False (biases and norms, see `parameter_groups`) take plain SGD steps, ratio = 1. Without momentum LARS trains far
    worse, so 0.9 is the default.

    Args:
        params: Parameters or groups of them.
        lr: Learning rate.
        momentum: In [0, 1).
        weight_decay: b.
        eta: The trust coefficient, called eta in the paper.
        clip: LARC, ratio = min(ratio / lr, 1): never a larger step than SGD with this lr (solo-learn's clip_lr).
        nesterov: Nesterov's momentum.

    Raises:
        ValueError: On a negative lr or weight_decay, eta <= 0, momentum outside [0, 1), nesterov without momentum,
            and, in `step`, sparse gradients.

    References:
        You, Gitman & Ginsburg 2017, arXiv:1708.03888, algorithm 1.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        eta: float = 0.001,
        clip: bool = False,
        nesterov: bool = False,
    ) -> None:
        for name, value in {"lr": lr, "weight_decay": weight_decay}.items():
            if value < 0:
                raise ValueError(f"LARS: {name} must not be negative, but got {value}")
        if eta <= 0:
            raise ValueError(f"LARS: eta must be positive, but got {eta}")
        if not 0 <= momentum < 1:
            raise ValueError(f"LARS: momentum must be in [0, 1), but got {momentum}")
        if nesterov and momentum == 0:
            raise ValueError("LARS: nesterov needs a momentum above 0")
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "eta": eta}
        super().__init__(params, {**defaults, "clip": clip, "nesterov": nesterov, "adapt": True})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every parameter that has a gradient.

        Args:
            closure: Computes the loss and its gradients; None where that is done.

        Returns:
            The closure's loss, or None.
        """
        loss = _evaluated(closure)
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                self._step(group, params, [p.grad for p in params])
        return loss

    def _step(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> None:
        if any(g.is_sparse for g in grads):
            raise ValueError("LARS takes dense gradients only")
        updates = list(torch._foreach_add(grads, params, alpha=group["weight_decay"]))
        if group["adapt"]:
            updates = list(torch._foreach_mul(updates, self._ratios(group, params, grads)))
        if group["momentum"]:
            for p in params:
                if "momentum_buffer" not in self.state[p]:
                    self.state[p]["momentum_buffer"] = torch.zeros_like(p)
            buffers = [self.state[p]["momentum_buffer"] for p in params]
            torch._foreach_mul_(buffers, group["momentum"])
            torch._foreach_add_(buffers, updates)
            if group["nesterov"]:
                torch._foreach_add_(updates, buffers, alpha=group["momentum"])
            else:
                updates = buffers
        torch._foreach_add_(params, updates, alpha=-group["lr"])

    @staticmethod
    def _ratios(group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> list[Tensor]:
        # One scalar tensor per parameter: nothing waits for the device.
        ratios = []
        for w, g in zip(torch._foreach_norm(params), torch._foreach_norm(grads), strict=True):
            ratio = group["eta"] * w / (g + group["weight_decay"] * w)
            ratio = torch.where((w > 0) & (g > 0), ratio, torch.ones_like(ratio))
            ratios.append((ratio / group["lr"]).clamp(max=1) if group["clip"] else ratio)
        return ratios


def _evaluated(closure: Callable[[], Any] | None) -> Any:
    """The loss of an optimizer's closure, which needs gradients; None where there is no closure."""
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()


def warmup_cosine(optimizer: Optimizer, total_steps: int, warmup_steps: int, final_ratio: float = 0.0) -> LambdaLR:
    """Linear warm-up of the learning rate, then half a cosine.

    The rate of step s = 0, 1, ..., as a share of the optimizer's own:

        (s + 1) / warmup_steps                                     while s < warmup_steps
        final + (1 - final) (1 + cos(pi t)) / 2                    after, t = (s - warmup) / (total - warmup)

    The last warm-up step has the optimizer's rate exactly, and no step has 0. Both lengths count optimizer
    steps, so step the scheduler after every one of them. Groups with `scheduled` False keep their rate.

    Args:
        optimizer: Its current rates are the full ones.
        total_steps: Optimizer steps in all.
        warmup_steps: Optimizer steps of warm-up.
        final_ratio: Share of the rate at the end, in [0, 1].

    Returns:
        The scheduler.

    Raises:
        ValueError: If there are no steps after the warm-up, or final_ratio is outside [0, 1].

    References:
        Loshchilov & Hutter 2017, arXiv:1608.03983.
    """
    if warmup_steps < 0 or total_steps <= warmup_steps:
        raise ValueError(
            f"warmup_cosine: {warmup_steps} warm-up steps do not fit in {total_steps} steps in all "
            f"(optimizer steps, not epochs): train longer, or warm up for fewer epochs"
        )
    if not 0 <= final_ratio <= 1:
        raise ValueError(f"warmup_cosine: final_ratio must be in [0, 1], but got {final_ratio}")

    def ratio(step: int) -> float:
        if step < warmup_steps:
            return warmup(step, 1.0, warmup_steps)
        return cosine(step - warmup_steps, 1.0, final_ratio, total_steps - warmup_steps)

    # A group may opt out, as SimSiam's predictor does.
    full = partial(constant_value, value=1.0)
    return LambdaLR(optimizer, [ratio if g.get("scheduled", True) else full for g in optimizer.param_groups])


def warmup_cosine_epochs(
    optimizer: Optimizer,
    total_steps: int,
    steps_per_epoch: int,
    warmup_epochs: float = 10,
    final_ratio: float = 0.0,
) -> LambdaLR:
    """`warmup_cosine` with the warm-up in epochs, as papers have it. The rate still changes every step.

    Args:
        optimizer: Its current rates are the full ones.
        total_steps: Optimizer steps in all.
        steps_per_epoch: Optimizer steps per epoch.
        warmup_epochs: Epochs of warm-up; may be a fraction.
        final_ratio: Share of the rate at the end, in [0, 1].

    Returns:
        The scheduler.

    Raises:
        ValueError: If the warm-up is not shorter than the run.
    """
    if warmup_epochs * steps_per_epoch >= total_steps:
        raise ValueError(
            f"schedule.warmup_epochs={warmup_epochs:g} takes {warmup_epochs * steps_per_epoch:g} steps and the run has "
            f"{total_steps}: lower schedule.warmup_epochs or raise trainer.max_epochs"
        )
    return warmup_cosine(optimizer, total_steps, round(warmup_epochs * steps_per_epoch), final_ratio)


def constant(optimizer: Optimizer, total_steps: int, steps_per_epoch: int) -> LambdaLR:
    """The optimizer's learning rate at every step.

    Args:
        optimizer: The optimizer.
        total_steps: Not used; every schedule is given it.
        steps_per_epoch: Not used; every schedule is given it.
    """
    return LambdaLR(optimizer, partial(constant_value, value=1.0))


class CompositeOptimizer(Optimizer):
    """Several optimizers that step as one, for parts of a model that each need their own (MINE's critic).

    Its `param_groups` are the parts' own dicts and its `state` holds theirs, so schedulers, gradient scalers,
    clipping and Lightning's automatic optimization treat it like any optimizer, and a state_dict made by
    the same parts in the same order loads back. A schedule scales every part's rate alike.

    Args:
        optimizers: The parts, in an order that must not change between saving and loading.

    Raises:
        ValueError: If there are no parts, or two of them hold the same parameter.
    """

    def __init__(self, optimizers: Sequence[Optimizer]) -> None:
        self.optimizers = list(optimizers)
        if not self.optimizers:
            raise ValueError("CompositeOptimizer: give at least one optimizer")
        super().__init__([group for part in self.optimizers for group in part.param_groups], {})
        for part in self.optimizers:
            self.state.update(part.state)
        self._share()

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Run the closure once, then step every part.

        Args:
            closure: Computes the loss and its gradients; None where that is done.

        Returns:
            The closure's loss, or None.
        """
        loss = _evaluated(closure)
        for part in self.optimizers:
            part.step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state made by the same parts in the same order."""
        super().load_state_dict(state_dict)  # gives new groups and a new state, as every optimizer does
        self._share()

    def _share(self) -> None:
        """Give each part its groups, and all of them the one state, whose keys (parameters) never meet."""
        start = 0
        for part in self.optimizers:
            stop = start + len(part.param_groups)
            part.__setstate__({"state": self.state, "param_groups": self.param_groups[start:stop]})
            start = stop
