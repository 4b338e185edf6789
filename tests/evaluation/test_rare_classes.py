"""Whole runs on folders in which a class is rare: none is stopped, and each says which class it cannot judge."""

import numpy as np
import pytest
from PIL import Image

from ssl_mi.app import startup as cli
from ssl_mi.app.runner import Run


def folder(root, **counts):
    """Images of 16 x 16 pixels, brighter by class: split -> {class: how many}."""
    rng = np.random.default_rng(0)
    for split, classes in counts.items():
        for c, (name, count) in enumerate(classes.items()):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 100, (16, 16, 3)) + 70 * c
                Image.fromarray(pixels.astype(np.uint8)).save(root / split / name / f"{i}.png")
    return root


@pytest.mark.parametrize(
    ("train", "test", "said"),
    [
        ({"fine": 180, "defect": 20}, {"fine": 60, "defect": 6}, None),
        ({"fine": 180, "defect": 3}, {"fine": 60, "defect": 6}, "'defect' (3 labelled, 0 val, 6 test)"),
        ({"fine": 180, "defect": 1}, {"fine": 60, "defect": 1}, "'defect' (1 labelled, 0 val, 1 test)"),
        ({"fine": 180, "defect": 20}, {"fine": 60}, "'defect' (18 labelled, 2 val, 0 test)"),
        ({"fine": 100, "good": 80, "defect": 2}, {"fine": 30, "good": 30}, "'defect' (2 labelled, 0 val, 0 test)"),
    ],
)
def test_a_run_on_images_with_a_rare_class_is_complete(configure, tmp_path, capsys, train, test, said):
    root = folder(tmp_path / "images", train=train, test=test)
    overrides = (
        "data=image_folder",
        f"data.root={root}",
        "data.size=16",
        "data.batch_size=32",
        "data.val_fraction=0.1",
        "encoder.widths=[4,8]",
        "trainer.max_epochs=1",
        "trainer.accelerator=cpu",
        "progress=none",
        "evaluation.every_n_epochs=1",
        "evaluation.evaluations.mi.permutations=0",
    )
    cfg = configure(*overrides, tiny=False)
    cli.start(cfg)
    run = Run(cfg, cli.build(cfg, "data"), cli.build(cfg, "module"))
    with run.reported():
        run.trainer.fit(run.module, run.data)
    rows = {r.metric: r for r in run.evaluate.rows if r.split == "test" and r.encoder == "trained"}
    assert {"mi_h_label_nats", "linear_probe_accuracy", "knn_accuracy"} <= set(rows)
    printed = " ".join(capsys.readouterr().out.split())
    if said is None:
        assert "too few images to judge" not in printed
    else:
        assert said in printed
        assert "'defect'" in rows["mi_h_label_nats"].note
