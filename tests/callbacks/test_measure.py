"""MeasureEncoder in trainings that are not ours."""

import csv
import math

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from ssl_mi.callbacks import MeasureEncoder
from ssl_mi.evaluation.anywhere import measure, views_and_labels


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


def test_a_cadence_below_one_and_too_few_samples_are_refused():
    with pytest.raises(ValueError, match="every_n_epochs=0"):
        MeasureEncoder([], encode=lambda module, x: x, every_n_epochs=0)
    with pytest.raises(ValueError, match="limit=10: at least 64 samples"):
        MeasureEncoder([], encode=lambda module, x: x, limit=10)


def test_batches_with_one_and_with_two_views_are_refused():
    x = torch.randn(80, 4)
    with pytest.raises(ValueError, match="some batches of the loader have one view and others two"):
        measure(nn.Identity(), [(x, x), x])


def test_labels_of_some_batches_are_not_left_out_in_silence():
    x = torch.randn(80, 4)
    with pytest.raises(ValueError, match="1 of 2 batches have labels"):
        measure(nn.Identity(), [((x, x), torch.arange(80) % 2), ((x, x),)])


class SoloLearns(pl.LightningModule):
    """The pattern of solo-learn: `forward` gives a mapping, batches are (index, [view, view], labels)."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Flatten(), nn.Linear(12, 6))
        self.projector = nn.Linear(6, 4)

    def forward(self, x):
        feats = self.backbone(x)
        return {"feats": feats, "z": self.projector(feats)}

    def views_of(self, batch):
        return batch[1]

    def training_step(self, batch, index):
        one, two = (self(x)["z"] for x in self.views_of(batch))
        return (one - two).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


class StablePretrainings(SoloLearns):
    """The pattern of stable-pretraining: a forward function of its own, a mapping for each view."""

    def forward(self, x):
        return {"embedding": self.backbone(x), "z": self.projector(self.backbone(x))}

    def views_of(self, batch):
        return [view["image"] for view in batch]


class Images(torch.utils.data.Dataset):
    """Two noisy views of an image whose class is its brightness, in the form that a library gives them."""

    def __init__(self, form):
        self.form = form

    def __len__(self):
        return 200

    def __getitem__(self, i):
        one, two = torch.randn(2, 3, 2, 2, generator=torch.Generator().manual_seed(i)) * 0.3 + 2 * (i % 2)
        return self.form(i, one, two, i % 2)


def solo_learns(i, one, two, label):
    return i, [one, two], label


def stable_pretrainings(i, one, two, label):
    return [{"image": one, "label": label, "sample_idx": i}, {"image": two, "label": label, "sample_idx": i}]


def named_views(i, one, two, label):
    return {"student": {"image": one, "label": label}, "teacher": {"image": two, "label": label}}


@pytest.mark.parametrize(
    ("module", "form", "encode"),
    [
        (SoloLearns, solo_learns, lambda m, x: m(x)["feats"]),
        (StablePretrainings, stable_pretrainings, lambda m, x: m.backbone(x)),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_the_modules_and_batches_of_other_libraries_take_a_line_each(module, form, encode):
    loader = DataLoader(Images(form), batch_size=50)
    measured = MeasureEncoder(loader, encode=encode)
    pl.Trainer(max_epochs=1, accelerator="cpu", callbacks=[measured], logger=False, enable_checkpointing=False,
               enable_progress_bar=False, enable_model_summary=False).fit(module(), loader)  # fmt: skip
    found = {row.metric: row.value for row in measured.rows if row.epoch == 1}
    assert found["linear_probe_accuracy"] > 0.9
    assert found["mi_h_ksg_nats"] > 0.3  # of the class alone, log 2


def test_views_by_name_are_two_views():
    (batch,) = DataLoader(Images(named_views), batch_size=200)
    views, labels = views_and_labels(batch)
    assert [view.shape for view in views] == [(200, 3, 2, 2)] * 2
    assert not torch.equal(views[0], views[1])
    assert labels.tolist() == [i % 2 for i in range(200)]


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
