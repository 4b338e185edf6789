"""Steps in float16, whose gradients are scaled: what is clipped, what is skipped. Here on a CPU, as it is on a GPU."""

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.precision import MixedPrecision

NARROW = ["encoder.widths=[8]", "towers.projector.dims=[16,8]", "schedule=constant", "optimizer=sgd"]
DINO = ["objective=dino", "towers=prototypes", "towers.projector.prototypes=16", "teacher=ema", "teacher.momentum=0.5"]
DINO += ["teacher.final_momentum=0.5"]
SCALE = 2.0**10


def scaled(made):
    scaler = torch.amp.GradScaler("cpu", init_scale=SCALE)
    made.trainer.strategy.precision_plugin = MixedPrecision("16-mixed", device="cpu", scaler=scaler)


def moved(before, module):
    return torch.stack([(p.detach() - before[n]).norm() for n, p in module.named_parameters() if n in before]).norm()


class Follow(pl.Callback):
    """Weights before each step, how far towers and teacher went, and an overflow at the steps that are named."""

    def __init__(self, overflow=()):
        self.overflow, self.towers, self.teacher = overflow, [], []

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.before = {n: p.detach().clone() for n, p in module.named_parameters()}

    def on_after_backward(self, trainer, module):
        if len(self.towers) in self.overflow:
            next(p for p in module.towers.parameters() if p.grad is not None).grad.fill_(torch.inf)

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        towers = {n: p for n, p in self.before.items() if n.startswith("towers")}
        teacher = {n: p for n, p in self.before.items() if n.startswith("teacher")}
        self.towers.append(moved(towers, module).item())
        self.teacher.append(moved(teacher, module).item())


@pytest.fixture
def follow(run):
    def make(*overrides, overflow=(), half=True):
        watcher = Follow(overflow)

        def before(made):
            made.trainer.callbacks.append(watcher)
            if half:
                scaled(made)

        made = run(*DINO, *NARROW, "trainer.max_epochs=1", "optimizer.weight_decay=0", *overrides, before=before)
        return watcher, made

    return make


def test_the_clip_of_dino_is_of_gradients_and_not_of_scaled_ones(follow):
    clip = 1e-3
    watcher, _ = follow(f"trainer.gradient_clip_val={clip}", "optimizer.lr=1.0", "optimizer.momentum=0")
    # SGD at rate 1 goes as far as the clipped gradient is long; a clip of scaled ones would leave clip / 1024 of it.
    for distance in watcher.towers:
        assert distance == pytest.approx(clip, rel=0.02)


def test_a_step_that_the_scaler_skipped_moves_neither_the_towers_nor_their_average(follow):
    watcher, made = follow("optimizer.lr=0.1", overflow=[1])
    assert [distance > 0 for distance in watcher.towers] == [True, False, True, True]
    assert [distance > 0 for distance in watcher.teacher] == [True, False, True, True]
    assert made.trainer.precision_plugin.scaler.get_scale() == SCALE / 2


def test_the_teacher_follows_the_weights_after_the_step_and_not_before_it(follow):
    watcher, _ = follow("optimizer.lr=0.1", half=False)
    # It starts where the towers do: of the first step it takes half, and would take nothing of the weights before.
    assert watcher.teacher[0] == pytest.approx(watcher.towers[0] / 2, rel=1e-4)
