"""A run resumed inside an epoch goes on as if it had never stopped.

Lightning restores weights, optimizers, schedules and counters. Kept here, for a checkpoint made between two steps of
an epoch, is what it leaves out:

    the loader's place       it sets the loader up before it restores the loops, when anything has asked for the
                             number of steps, and the place in the checkpoint never reaches it
    random states            of each process, for dropout and the like: an epoch seeds them at its start only
    sums of logged values    the epoch's means are over all of its steps
    accumulated gradients    where a checkpoint was made before their step
    the end of the epoch     where the last step was done and what follows it (evaluations, history) was not
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from ssl_mi.distributed import gather_objects, world

KEY = "inside_epoch"


class Resumable(pl.LightningModule):
    """Keeps what an epoch has gathered so far in checkpoints made inside it. Steps are those of automatic optimization.

    The training loader has `state_dict` and `load_state_dict` (`data.sampler.EpochLoader`); another one starts the
    epoch again, and Lightning warns of that.
    """

    def __init__(self) -> None:
        super().__init__()
        self._resumed: dict[str, Any] | None = None  # until the first step after a resume
        self._means_to_log: dict[str, Any] | None = None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        means = self._epoch_means()
        kept: dict[str, Any] = {
            "sums": {key: (m.value, m.cumulated_batch_size) for key, m in means.items()},
            "names": {key: f"{m.meta.name}{'_epoch' * m.meta.forked}" for key, m in means.items()},
        }
        if inside_epoch(checkpoint):
            kept["processes"] = gather_objects(self._of_this_process())
            kept["step"] = self._values_of_this_step()  # Lightning logs them after a step's checkpoint
        checkpoint[KEY] = kept

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if not inside_epoch(checkpoint):
            self._means_to_log = checkpoint.get(KEY)  # Lightning logs them after the epoch's last checkpoint
            return
        loop = checkpoint["loops"]["fit_loop"]
        places = loop["state_dict"].get("combined_loader", [])
        if _batch_begun(checkpoint):  # its step was not done: it comes again
            loop["epoch_loop.batch_progress"]["is_last_batch"] = False
            places = [{**place, "batch": place["batch"] - 1} if "batch" in place else place for place in places]
        self._resumed = {
            "place": places,
            "epoch_over": last_step_done(checkpoint) or self._was_the_last(checkpoint),
            **{"processes": [], "sums": {}, "names": {}, "step": {}, **checkpoint.get(KEY, {})},
        }
        if self._resumed["epoch_over"]:
            # Taken as it stands, Lightning would begin the next epoch, and nothing would follow the end of this one.
            progress = loop["epoch_loop.batch_progress"]
            for count in (progress["total"], progress["current"]):
                count["completed"] = count["processed"]
            loop["epoch_loop.state_dict"]["_batches_that_stepped"] += 1

    def on_train_start(self) -> None:
        if self._means_to_log is not None:
            self._log_means(self._means_to_log, self.trainer.current_epoch - 1)
            self._means_to_log = None
        if self._resumed is None:
            return
        if self._resumed["step"]:
            self._log({**self._resumed["step"], "epoch": self.trainer.current_epoch})
        loader: Any = self.trainer.train_dataloader
        places = self._resumed["place"]
        if places and hasattr(loader, "load_state_dict"):
            place = places[0]
            if self._resumed["epoch_over"] and "batch" in place:
                place = {**place, "batch": len(loader)}  # also where trainer.limit_train_batches ended the epoch
            loader.load_state_dict(place)
        if self._resumed["epoch_over"]:
            self._log_means(self._resumed, self.trainer.current_epoch)
            self._resumed = None

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        # Not before: the loader draws a number when it starts.
        if self._resumed is not None and self._resumed["processes"]:
            self._set_this_process(self._resumed["processes"])

    def on_before_backward(self, loss: Tensor) -> None:
        if self._resumed is None:
            return
        sums, self._resumed = self._resumed["sums"], None
        for key, mean in self._epoch_means().items():
            if key in sums:
                value, rows = sums[key]
                mean.value = value.to(mean.value.device) + mean.value
                mean.cumulated_batch_size = rows.to(mean.value.device) + mean.cumulated_batch_size

    def _epoch_means(self) -> dict[str, Any]:
        """Lightning's own accumulators of the values that are logged as means over the epoch."""
        results = self.trainer.fit_loop.epoch_loop._results
        return {key: m for key, m in results.items() if m.meta.on_epoch and m.meta.is_mean_reduction}

    def _log_means(self, resumed: Mapping[str, Any], epoch: int) -> None:
        """Log the means of an epoch whose steps were all done before the stop."""
        names, sums = resumed["names"], resumed["sums"]
        means = {names[key]: value / rows for key, (value, rows) in sums.items()}
        self.trainer.callback_metrics.update(means)
        numbers = {name: float(mean) for name, mean in means.items()}
        self._log({**numbers, "epoch": epoch})

    def _log(self, numbers: dict[str, float]) -> None:
        """Log what belongs to the last step before the stop."""
        for logger in self.trainer.loggers:
            logger.log_metrics(numbers, step=self.trainer.global_step - 1)

    def _values_of_this_step(self) -> dict[str, float]:
        """What the loggers have yet to get of the step that was just done."""
        connector = self.trainer._logger_connector
        if not connector.should_update_logs:
            return {}
        values = self.trainer.fit_loop.epoch_loop._results.metrics(True)["log"]
        return {name: float(value) for name, value in values.items()}

    def _was_the_last(self, checkpoint: Mapping[str, Any]) -> bool:
        """Whether trainer.max_steps ended the epoch after the checkpoint's step."""
        limit = self.trainer.max_steps
        return 0 <= limit <= int(checkpoint["global_step"]) and not _batch_begun(checkpoint)

    def _of_this_process(self) -> dict[str, Any]:
        device = self.device
        state = {"cpu": torch.get_rng_state()}
        if device.type == "cuda":
            state["cuda"] = torch.cuda.get_rng_state(device)
        steps, each = (
            self.trainer.fit_loop.epoch_loop.batch_progress.current.ready,
            self.trainer.accumulate_grad_batches,
        )
        waiting = steps % each != 0 and steps < self.trainer.num_training_batches
        gradients = {n: p.grad.cpu() for n, p in self.named_parameters() if p.grad is not None} if waiting else {}
        return {"random": state, "gradients": gradients}

    def _set_this_process(self, processes: list[Mapping[str, Any]]) -> None:
        rank, size = world()
        if len(processes) != size:
            return  # with another number of processes each draws as it would have from the epoch's start
        state, gradients = processes[rank]["random"], processes[rank]["gradients"]
        torch.set_rng_state(state["cpu"].cpu())
        if "cuda" in state and self.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda"].cpu(), self.device)
        for name, p in self.named_parameters():
            if name in gradients:
                p.grad = gradients[name].to(p)


def inside_epoch(checkpoint: Mapping[str, Any]) -> bool:
    """Whether the checkpoint was made after an epoch began and before its end was over."""
    current = checkpoint.get("loops", {}).get("fit_loop", {}).get("epoch_progress", {}).get("current", {})
    return current.get("processed", 0) < current.get("started", 0)


def last_step_done(checkpoint: Mapping[str, Any]) -> bool:
    """Whether all steps of the epoch were done."""
    return bool(checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["is_last_batch"]) and not _batch_begun(
        checkpoint
    )


def _batch_begun(checkpoint: Mapping[str, Any]) -> bool:
    """Whether the checkpoint was made after a batch was fetched and before its step was done."""
    current = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]
    return bool(current["ready"] > current["processed"])
