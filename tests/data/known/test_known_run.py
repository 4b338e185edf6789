"""Pictures and sentences through training and evaluation."""

import json

import pytest
import standins
import torch
from torch import nn

from ssl_mi.app.train import run_training
from ssl_mi.data.known.captions import Caption
from ssl_mi.data.known.data import KnownData
from ssl_mi.evaluation.context import EvaluationContext
from ssl_mi.evaluation.pictures import Pictures
from ssl_mi.networks.encoders import ConvNet
from ssl_mi.networks.text import TextEncoder
from ssl_mi.networks.towers import Independent, Tower

FEW = [
    *("data.train=96", "data.val=48", "data.test=48", "data.batch_size=32", "encoder.widths=[8,16]"),
    *("trainer.accelerator=cpu", "trainer.devices=1", "trainer.max_epochs=1", "evaluation.every_n_epochs=1"),
    *("progress=none", "evaluation.evaluations.mi.permutations=1", "evaluation.evaluations.capture.permutations=1"),
]


def test_pairs_of_a_picture_and_a_sentence_are_embedded_by_two_towers_and_probed_by_one(tmp_path):
    data = KnownData(Caption(named=["shape", "size"]), 16, 32, [0.5] * 3, [0.25] * 3, train=32, val=20, test=24)
    data.setup()

    def projector(width):
        layer = nn.Linear(width, 5)
        layer.out_dim = 5
        return layer

    module = standins.joint_embedding()
    module.towers = Independent([Tower(ConvNet([8, 6]), projector), Tower(TextEncoder(64, 8, 7), projector)])
    bench = EvaluationContext(module, data, "val", 0)
    pairs = bench.pairs("val")
    assert [h.shape for h in pairs.h] == [(20, 6), (20, 7)]
    assert [z.shape for z in pairs.z] == [(20, 5), (20, 5)]
    h = bench.features("labelled").h
    assert h.shape == (32, 6)
    with torch.no_grad():
        module.eval()
        expected = module.towers.tower_of(0).encoder((data.train.images.pixels / 255 - 0.5) / 0.25)
    torch.testing.assert_close(h, expected)
    Pictures(tmp_path, images=3).compute(bench)
    assert (tmp_path / "views.png").stat().st_size > 2000


@pytest.mark.slow
def test_a_run_on_pictures_and_sentences_reports_the_capture_ratio(configure):
    cfg = configure("experiment=known/caption", *FEW, tiny=False)
    made = run_training(cfg)
    report = json.loads((made.folder / "report.json").read_text())
    assert report["images"]["views_nats"] == made.data.nats
    val, test = (
        {row["metric"]: row for row in report["rows"] if row["split"] == split and row["encoder"] == "trained"}
        for split in ("val", "test")
    )
    assert "capture_ratio" in val
    assert test["mi_views_nats"]["value"] == made.data.nats
    assert test["capture_ratio"]["value"] == test["mi_z_nats"]["value"] / made.data.nats
    assert {"mi_bound_clip_nats", "linear_probe_accuracy", "probe_size_accuracy", "effective_rank_z"} <= set(test)
