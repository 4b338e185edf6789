"""Memory, open files and threads stay flat over a long run."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
RUN = """
import os, sys
import pytorch_lightning as pl
from ssl_mi.app.train import compose, prepare


class Watch(pl.Callback):
    def on_train_epoch_end(self, trainer, module):
        if trainer.current_epoch + 1 in (5, 50):
            status = open("/proc/self/status").read()
            lines = [line for line in status.splitlines() if line[:5] in ("VmRSS", "Threa")]
            held = {line.split(":")[0]: int(line.split()[1]) for line in lines}
            print("WATCH", held["VmRSS"], len(os.listdir("/proc/self/fd")), held["Threads"], flush=True)


run = prepare(compose(sys.argv[2:], run_dir=sys.argv[1]))
run.trainer.callbacks.append(Watch())
run.fit()
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_files_and_threads_are_as_many_after_50_epochs_as_after_5(tmp_path):
    """Minutes: images in files, read by a worker, with evaluations during training."""
    for i in range(300):
        folder = tmp_path / "photos" / str(i % 3)
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 256, (24 + i % 5, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    words = ["data=image_folder", f"data.root={tmp_path / 'photos'}", "data.size=16", "data.batch_size=32"]
    words += ["data.num_workers=1", "data.val_fraction=0.2"]
    words += ["encoder.widths=[8,16]", "trainer.max_epochs=50", "trainer.accelerator=cpu", "progress=none"]
    words += ["evaluation.every_n_epochs=5", "evaluation.evaluations.mi.permutations=3"]
    done = subprocess.run([sys.executable, "-c", RUN, str(tmp_path / "run"), *words], cwd=ROOT, text=True,
                          capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)  # fmt: skip
    seen = [list(map(int, line.split()[1:])) for line in done.stdout.splitlines() if line.startswith("WATCH")]
    (memory, files, threads), (later, files_later, threads_later) = seen
    assert later < 1.03 * memory
    assert (files_later, threads_later) == (files, threads)
