from itertools import chain, islice

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import Dataset

from ssl_mi.data.batch import Source
from ssl_mi.data.sampler import EpochBatches, EpochLoader

# Lightning 2.6 uses a name that recent torch deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")


def rows_of(batches):
    return [rows.tolist() for _, rows in batches]


class Rows(Dataset):
    """A batch that says only which rows of which epoch it is."""

    def __getitem__(self, epoch_and_rows):
        epoch, rows = epoch_and_rows
        return Source(rows[:, None, None, None].to(torch.uint8), rows, None, 0, epoch)


class Recorder(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen = []

    def training_step(self, source, _):
        self.seen.append((self.current_epoch, source.epoch, source.index.tolist()))
        return (self.weight**2).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def loader(workers=0, batch_size=8):
    return EpochLoader(Rows(), EpochBatches(37, batch_size, seed=5), workers, pin_memory=False)


class SaveAt(pl.Callback):
    def __init__(self, step, path):
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


def fit(batches, ckpt_path=None, callbacks=()):
    module = Recorder()
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=3, enable_checkpointing=False, callbacks=list(callbacks), **quiet
    )
    trainer.fit(module, batches, ckpt_path=ckpt_path)
    return module.seen


@pytest.mark.parametrize("world", [2, 4])
def test_processes_together_see_the_batches_of_one(world):
    alone = rows_of(EpochBatches(100, 16, seed=1))
    shares = [rows_of(EpochBatches(100, 16, seed=1, rank=r, world=world)) for r in range(world)]
    together = [list(chain(*pieces)) for pieces in zip(*shares, strict=True)]
    assert together == alone
    assert {len(piece) for share in shares for piece in share} == {16 // world}


def test_an_epoch_sees_a_row_at_most_once_and_leaves_out_less_than_a_batch():
    batches = EpochBatches(100, 16, seed=1)
    seen = list(chain(*rows_of(batches)))
    assert len(batches) == 6
    assert len(seen) == len(set(seen)) == 96
    assert set(seen) <= set(range(100))


def test_the_order_changes_with_epoch_and_seed_and_with_nothing_else():
    batches = EpochBatches(100, 16, seed=1)
    first = rows_of(batches)
    assert rows_of(batches) == first
    batches.set_epoch(1)
    second = rows_of(batches)
    assert second != first
    assert {epoch for epoch, _ in batches} == {1}
    assert rows_of(EpochBatches(100, 16, seed=2)) != first
    batches.set_epoch(0)
    assert rows_of(batches) == first


@pytest.mark.parametrize(
    ("n", "batch", "world", "message"),
    [
        (100, 1, 1, "batch_size=1.*at least 2"),
        (100, 10, 4, "over 4 of them; use a multiple of 4, such as 8"),
        (100, 4, 4, "1 image for each of 4 processes.*data.batch_size=8 or more"),
        (10, 16, 1, "more than the 10 training images.*data.batch_size=10"),
    ],
)
def test_a_batch_that_cannot_be_trained_on_is_refused_with_a_remedy(n, batch, world, message):
    with pytest.raises(ValueError, match=message):
        EpochBatches(n, batch, seed=0, world=world)


@pytest.mark.parametrize("workers", [0, 2])
def test_lightning_sets_the_epoch_of_every_batch(workers):
    seen = fit(loader(workers))
    assert [now for now, _, _ in seen] == [0] * 4 + [1] * 4 + [2] * 4
    assert all(now == epoch for now, epoch, _ in seen)
    assert len({tuple(rows) for _, _, rows in seen}) == 12


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("step", [4, 6, 7])  # epochs have 4 steps
def test_a_resumed_run_goes_on_where_its_checkpoint_was_made(tmp_path, step, workers):
    whole = fit(loader(), callbacks=[SaveAt(step, tmp_path / "stopped.ckpt")])
    rest = fit(loader(workers), ckpt_path=tmp_path / "stopped.ckpt")
    assert len(whole) == 12
    assert rest == whole[step:]


def test_a_place_is_kept_by_a_run_that_is_stopped_again_before_its_next_batch():
    stopped = loader()
    next(islice(iter(stopped), 2, None))
    resumed = loader()
    resumed.load_state_dict(stopped.state_dict())
    assert resumed.state_dict() == stopped.state_dict()


def test_resuming_inside_an_epoch_with_another_batch_size_is_refused():
    stopped = loader()
    seen = iter(stopped)
    next(seen)
    with pytest.raises(ValueError, match=r"inside epoch 0 at data.batch_size=8; with data.batch_size=4"):
        loader(batch_size=4).load_state_dict(stopped.state_dict())
