"""The LightningModule and the data module under a Trainer of one's own. The arguments: epochs, images."""

import sys

import pytorch_lightning as pl
import torch

from ssl_mi import JointEmbedding
from ssl_mi.callbacks import Evaluate
from ssl_mi.data import Augmentation, ColorJitter, EmbeddedShapes, HorizontalFlip, ImageData, RandomResizedCrop, View
from ssl_mi.evaluation import Geometry, LinearProbe
from ssl_mi.networks import MLP, ConvNet, Siamese
from ssl_mi.objectives import SimCLR

epochs, images = (int(word) for word in sys.argv[1:] or ("4", "4000"))
colour = {"mean": [0.5] * 3, "std": [0.21] * 3}
view = View([RandomResizedCrop(32, scale=(0.5, 1.0)), HorizontalFlip(), ColorJitter(hue=0.5)], count=2)
data = ImageData(EmbeddedShapes(images, test=images), Augmentation([view], 32, **colour), 128, size=32, **colour)
towers = Siamese(ConvNet([32, 64, 128], stem_stride=2), MLP(dims=[512, 128]))
module = JointEmbedding(towers, SimCLR(temperature=0.2), lambda groups: torch.optim.AdamW(groups, lr=1e-3))
evaluate = Evaluate({"probe": LinearProbe(), "geometry": Geometry()}, every_n_epochs=0, folder="runs/plain_trainer")
pl.Trainer(max_epochs=epochs, callbacks=[evaluate], logger=False, enable_checkpointing=False).fit(module, data)
for row in evaluate.rows:
    print(f"{row.quantity:<45} {row.encoder:<8} {row.value:.3f}")
