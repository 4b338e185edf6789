"""What goes wrong in training while every number stays finite: collapse, a loss that stays or makes no sense."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from ssl_mi.distributed import world
from ssl_mi.evaluation.embed import pairs
from ssl_mi.evaluation.geometry import effective_rank
from ssl_mi.information.core.caution import Caution

log = logging.getLogger(__name__)

SPREAD = 0.01  # of embeddings that differ from their mean by a hundredth of their length
RANK, WIDE = 2.0, 8  # an effective rank below RANK is suspicious where at least WIDE are possible
NEAR = 0.01  # of the trivial value: a loss that is no further below it has learned nothing
STEPS = 50  # before so many, a loss is not called stuck
ABSURD = 1e3  # times the loss of the first epoch, or of embeddings that are all alike

REMEDY = "lower the learning rate, or see that the objective keeps embeddings apart (negatives, variance, a teacher)"


class Health(pl.Callback):
    """Looks at the embeddings and the loss after each epoch, and says once what is wrong with them.

    | code | when |
    |---|---|
    | `collapsed` | embeddings of different samples are all alike: their spread is below 0.01 |
    | `few-dimensions` | their effective rank is below 2, and below half of that at the start |
    | `stuck-loss` | `patience` epochs long the loss is within 1% of the value named below, or the bound is 0 nats |
    | `absurd-loss` | the loss is more than 1,000 times that of the first epoch or of embeddings that are all alike |
    | `absurd-embeddings` | embeddings are longer than 10^6 |

    The spread is the root mean squared distance of embeddings from their mean over their root mean squared length: 1
    where they are centred, 0 where they are all alike. A loss is stuck where it is no lower than that of embeddings
    that are all alike; this is looked at only where the objective prefers embeddings that differ.

    Args:
        limit: Samples that are embedded after each epoch, of the validation split where there is one.
        patience: Epochs that the loss may stay at its trivial value; a shorter run is judged at its end. The first 50
            steps are not judged.

    Attributes:
        cautions: What was found, in order; each code once.
    """

    def __init__(self, limit: int = 256, patience: int = 3) -> None:
        if limit < 2 or patience < 1:
            raise ValueError(f"Health: limit={limit} must be 2 or more, patience={patience} 1 or more")
        self.limit, self.patience = limit, patience
        self.cautions: list[Caution] = []
        self._at_start: dict[str, float] = {}
        self._first_loss: float | None = None
        self._stuck = 0

    def state_dict(self) -> dict[str, Any]:
        """What was found so far, and what later epochs are compared with."""
        return {
            "cautions": [caution.to_dict() for caution in self.cautions],
            "at_start": dict(self._at_start),
            "first_loss": self._first_loss,
            "stuck": self._stuck,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what was found before a stop."""
        self.cautions = [Caution(**caution) for caution in state_dict["cautions"]]
        self._at_start, self._first_loss = dict(state_dict["at_start"]), state_dict["first_loss"]
        self._stuck = state_dict["stuck"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure the embeddings that the run starts from."""
        if trainer.global_step == 0:
            self._at_start = self._geometry(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure the embeddings, and judge them and the loss of the epoch."""
        self._judge_embeddings(self._geometry(trainer, pl_module))
        loss = trainer.callback_metrics.get("train/loss_epoch", trainer.callback_metrics.get("train/loss"))
        if loss is not None:
            trivial = trivial_loss(pl_module, getattr(getattr(trainer, "datamodule", None), "batch_size", 2))
            bound = trainer.callback_metrics.get("train/bound_nats")
            learned = bound is None or float(bound) > NEAR
            if trainer.global_step < STEPS:  # too early to say that nothing is learned
                trivial, learned = None, True
            self._judge_loss(float(loss), trivial, trainer.max_epochs or -1, learned)

    def _geometry(self, trainer: pl.Trainer, pl_module: Any) -> dict[str, float]:
        """Spread, effective rank and length of the embeddings, with the number of dimensions that they could fill."""
        data: Any = getattr(trainer, "datamodule", None)
        if not hasattr(data, "batches"):
            return {}
        try:
            z = pairs(pl_module, data, "train" if data.val is None else "val", 0, self.limit).z[0]
        except ValueError:  # not finite: the loss will be
            return {}
        if len(z) < 2:
            return {}
        length = float(z.square().sum(1).mean().sqrt())
        spread = float((z - z.mean(0)).square().sum(1).mean().sqrt()) / max(length, 1e-30)
        possible = min(len(z) - 1, z.shape[1])
        return {"spread": spread, "rank": effective_rank(z), "length": length, "possible": possible}

    def _judge_embeddings(self, now: dict[str, float]) -> None:
        if not now:
            return
        if now["length"] > 1e6:
            self._say(
                "absurd-embeddings", f"embeddings have a length of {now['length']:.3g}: the run has diverged, whatever "
                "its loss; lower the learning rate", {"length": now["length"]})  # fmt: skip
        if now["spread"] < SPREAD:
            self._say(
                "collapsed", f"embeddings of different samples are nearly alike (spread {now['spread']:.2g}, 1 where "
                f"they are centred): the encoder has collapsed, and what is measured of it means little; {REMEDY}",
                {"spread": now["spread"]})  # fmt: skip
        elif now["possible"] >= WIDE and now["rank"] < min(RANK, self._at_start.get("rank", math.inf) / 2):
            self._say(
                "few-dimensions", f"embeddings vary in about {now['rank']:.1f} of {now['possible']:.0f} dimensions "
                f"(effective rank; {self._at_start['rank']:.1f} at the start): a partial collapse; {REMEDY}",
                {"rank": now["rank"], "possible": now["possible"]})  # fmt: skip

    def _judge_loss(self, loss: float, trivial: float | None, epochs: int, learned: bool) -> None:
        if self._first_loss is None:
            self._first_loss = loss
        usual = max(1.0, abs(self._first_loss), abs(trivial or 0.0))
        if abs(loss) > ABSURD * usual:
            self._say(
                "absurd-loss", f"the loss is {loss:.3g}, where {usual:.3g} is usual: the run has diverged, although "
                "the loss is finite; lower the learning rate", {"loss": loss, "usual": usual})  # fmt: skip
            return
        near = trivial is not None and loss >= trivial - NEAR * max(1.0, abs(trivial))
        self._stuck = self._stuck + 1 if near or not learned else 0
        if self._stuck >= (min(self.patience, epochs) if epochs > 0 else self.patience):
            alike = "" if trivial is None else f", and {trivial:.4g} for embeddings that are all alike"
            self._say(
                "stuck-loss", f"the loss is {loss:.4g}{alike}: nothing is learned so far; train longer, raise the "
                "learning rate, or use weaker augmentations", {"loss": loss})  # fmt: skip

    def _say(self, code: str, message: str, numbers: dict[str, float | int | str]) -> None:
        if any(caution.code == code for caution in self.cautions):
            return
        self.cautions.append(Caution(code, message, numbers))
        if world()[0] == 0:
            log.warning("%s", message)


def trivial_loss(module: Any, rows: int) -> float | None:
    """The loss of a batch of embeddings that are all alike, with the objective as it is.

    Args:
        module: A training module.
        rows: Of a batch.

    Returns:
        None where the objective is not over embeddings alone, cannot be computed on them, or does not prefer to them
        embeddings whose views agree and whose samples differ.
    """
    objective = module.objective
    if getattr(objective, "learns_from", "embeddings") != "embeddings" or "maps" in objective.requires:
        return None
    draw = torch.Generator().manual_seed(0)
    apart = torch.randn(rows, module.towers.out_dim, generator=draw).to(module.device)
    alike = apart[:1].expand(rows, -1).contiguous()
    judged = copy.deepcopy(objective).eval()
    found = [_loss(judged, z) for z in (alike, apart)]
    if found[0] is None or found[1] is None or found[0] < found[1] + NEAR * max(1.0, abs(found[1])):
        return None
    return found[0]


@torch.no_grad()
def _loss(objective: Callable[..., Any], z: Tensor) -> float | None:
    """The loss where both views of every sample are z; None where there is none."""
    rows = len(z)
    beside = {"labels": torch.arange(rows, device=z.device) % 2, "index": torch.arange(rows, device=z.device)}
    views = [z] * max(2, int(getattr(objective, "min_views", 2)))
    needed = {name: beside[name] for name in getattr(objective, "requires", ()) if name in beside}
    try:
        value = float(objective(views, [z.clone() for z in views], **needed).total)
    except (ValueError, RuntimeError, IndexError):
        try:
            value = float(objective(views, views, **needed).total)  # one that has no use for a teacher
        except (ValueError, RuntimeError, IndexError):
            return None
    return value if math.isfinite(value) else None
