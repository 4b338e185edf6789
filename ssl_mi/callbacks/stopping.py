"""A run that is asked to stop keeps what it has: SIGTERM and SIGUSR1 end it after the current step.

SIGTERM is what `kill`, `timeout`, a container and a scheduler send before they end a process; SIGUSR1 is what SLURM
sends ahead of the time limit where it is asked to (`#SBATCH --signal=USR1@120`).
"""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.plugins.environments import LightningEnvironment

from ssl_mi.distributed import gather_objects

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name))
SAME = 0.5  # seconds within which a second signal is the first, sent to the group and to the process


class Stopped(SystemExit):
    """A run that a signal ended; the process's status is 128 + signal.

    Args:
        number: Of the signal.
        status: Another status.
    """

    def __init__(self, number: int, status: int | None = None) -> None:
        super().__init__(128 + number if status is None else status)
        self.signal = signal.Signals(number)

    def __str__(self) -> str:
        return self.signal.name


class StopOnSignal(pl.Callback):
    """Ends a run that is sent SIGTERM or SIGUSR1: a checkpoint at the end of the step, then `Stopped`.

    A signal in the middle of training waits for the end of the step, or of the epoch's evaluation. Before the first
    step and during the final evaluation there is nothing to wait for. A second signal ends the process at once.

    Its place is after the callbacks that evaluate. `first` comes before all others.

    Args:
        folder: Where the checkpoint `last.ckpt` goes.
    """

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder) / "last.ckpt"
        self.received: int | None = None
        self.first = _First(self)
        self._at = 0.0
        self._may_wait = False
        self._before: dict[int, Any] = {}
        self._children: list[Any] = []

    def remember(self) -> None:
        """Note who has the signals, before Lightning takes them."""
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.getsignal(number) for number in SIGNALS}

    def install(self, trainer: pl.Trainer) -> None:
        """Take over the signals, in the main thread; Lightning has set its own handlers before."""
        if threading.current_thread() is not threading.main_thread():
            return
        self._children = list(getattr(trainer.strategy.launcher, "procs", ()))
        for number in SIGNALS:
            signal.signal(number, self._handle)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Give the signals back."""
        if self.received is None:  # a run that stops writes its report first
            self.release()

    def release(self) -> None:
        """Give the signals back to whoever had them."""
        while self._before:
            number, handler = self._before.popitem()
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def wait(self, may_wait: bool) -> None:
        """Whether a signal waits for the end of a step from here on."""
        self._may_wait = may_wait

    def _handle(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.received is None:
            self.received, self._at = number, now
            if not self._may_wait:
                raise Stopped(number)
        elif now - self._at > SAME:
            for child in self._children:
                child.kill()
            os._exit(128 + number)

    def on_train_batch_end(self, trainer: pl.Trainer, *rest: Any) -> None:
        """Stop after this step where any process was asked to."""
        self._stop_if_asked(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop after this epoch's evaluation where any process was asked to."""
        self._stop_if_asked(trainer)

    def _stop_if_asked(self, trainer: pl.Trainer) -> None:
        if not trainer.strategy.reduce_boolean_decision(self.received is not None, all=False):
            return
        numbers = [number for number in gather_objects(self.received) if number is not None]
        self.received = numbers[0]
        trainer.save_checkpoint(self.path)
        # A process that Lightning started must not seem to have failed: the first would be killed over its report.
        environment = getattr(trainer.strategy, "cluster_environment", None)
        started = isinstance(environment, LightningEnvironment) and trainer.local_rank > 0
        raise Stopped(numbers[0], 0 if started else None)


class _First(pl.Callback):
    """What `StopOnSignal` does before all other callbacks."""

    def __init__(self, stop: StopOnSignal) -> None:
        self.stop = stop

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.stop.remember()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.stop.wait(False)
        self.stop.install(trainer)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.stop.wait(True)

    def on_train_batch_start(self, trainer: pl.Trainer, *rest: Any) -> None:
        self.stop.wait(True)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.stop.wait(False)
        self.stop.install(trainer)
