"""A whole run from Python: train, evaluate, write a folder. Words on the command line are further overrides."""

import sys

import ssl_mi
from ssl_mi.networks import ConvNet
from ssl_mi.objectives import VICReg

run = ssl_mi.train(
    *sys.argv[1:],  # e.g. optimizer.lr=3e-4 seed=1
    objective=VICReg(),
    encoder=ConvNet([32, 64, 128, 256], stem_stride=2),
    data="shapes",  # or a folder of images, an array of images, a data module
    max_epochs=4,
)
print(run.table)
print(run.folder, list(run.pictures))
accuracy = {row.encoder: row.value for row in run.rows if row.metric == "linear_probe_accuracy" and row.split == "test"}
print(f"linear probe: {accuracy['trained']:.2f} trained, {accuracy['random']:.2f} random")
