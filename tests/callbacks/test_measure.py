"""MeasureEncoder in trainings that are not ours."""

import csv
import math

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from ssl_mi.callbacks import MeasureEncoder


class Theirs(pl.LightningModule):
    """A module without towers, objective or data module."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
        self.head = nn.Linear(4, 2)

    def training_step(self, batch, index):
        return nn.functional.mse_loss(self.head(self.backbone(batch[0])), batch[1][:, :2])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def pairs(n=300):
    x, e = torch.randn(2, n, 4, generator=torch.Generator().manual_seed(0))
    return TensorDataset(x, 0.9 * x + math.sqrt(1 - 0.81) * e)


def trained(callbacks):
    pl.seed_everything(0, verbose=False)
    module = Theirs()
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = pl.Trainer(max_epochs=2, accelerator="cpu", callbacks=callbacks, **quiet)
    trainer.fit(module, DataLoader(pairs(), batch_size=50, shuffle=True))
    return module


@pytest.mark.filterwarnings("ignore")  # of Lightning, about the number of workers
def test_any_module_is_measured_and_trains_as_it_would_have(tmp_path):
    loader = DataLoader(pairs(), batch_size=64, shuffle=True)
    measured = MeasureEncoder(loader, encode=lambda module, x: module.backbone(x), every_n_epochs=2, folder=tmp_path)
    module, alone = trained([measured]), trained([])
    for (name, x), y in zip(module.state_dict().items(), alone.state_dict().values(), strict=True):
        assert torch.equal(x, y), name  # the same calls in the same order: not even the draws have moved
    assert sorted({row.epoch for row in measured.rows}) == [0, 2]
    found = {row.metric: row for row in measured.rows if row.epoch == 0}
    assert found["mi_h_ksg_nats"].low > 1  # 3.3 nats of four columns; what KSG finds of them at n = 150
    assert found["mi_h_ksg_nats"].value > found["mi_h_ksg_nats"].baseline
    assert {row["epoch"] for row in csv.DictReader((tmp_path / "ssl_mi.csv").open())} == {"0", "2"}


def test_a_cadence_below_one_is_refused():
    with pytest.raises(ValueError, match="every_n_epochs=0"):
        MeasureEncoder([], encode=lambda module, x: x, every_n_epochs=0)


@pytest.mark.slow
def test_lightlys_simclr_example_takes_six_more_lines(tmp_path):
    pytest.importorskip("lightly")
    from lightly.data import LightlyDataset
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead
    from lightly.transforms.simclr_transform import SimCLRTransform
    from PIL import Image

    for i in range(130):
        folder = tmp_path / "ab"[i % 2]
        folder.mkdir(exist_ok=True)
        Image.new("RGB", (32, 32), (2 * i, 100 + 100 * (i % 2), 50)).save(folder / f"{i}.png")

    class SimCLR(pl.LightningModule):
        def __init__(self):
            super().__init__()
            pool = nn.AdaptiveAvgPool2d(1)
            self.backbone = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(), pool)
            self.projection_head, self.criterion = SimCLRProjectionHead(16, 32, 16), NTXentLoss()

        def training_step(self, batch, index):
            z = [self.projection_head(self.backbone(x).flatten(start_dim=1)) for x in batch[0]]
            return self.criterion(*z)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.06)

    dataset = LightlyDataset(str(tmp_path), transform=SimCLRTransform(input_size=32, gaussian_blur=0.0))
    loader = DataLoader(dataset, batch_size=32)
    measured = MeasureEncoder(loader, encode=lambda m, x: m.backbone(x).flatten(1))
    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", callbacks=[measured], logger=False, enable_checkpointing=False
    )
    trainer.fit(SimCLR(), loader)
    metrics = {row.metric for row in measured.rows if row.epoch == 1}
    assert metrics >= {"mi_h_ksg_nats", "mi_h_label_nats", "linear_probe_accuracy", "effective_rank_clean_h"}
