"""Augmentation, encoder and objective in a bare PyTorch loop. The arguments: epochs, images."""

import sys

import torch
from torch.utils.data import DataLoader

from ssl_mi.data import Augmentation, ColorJitter, Grayscale, HorizontalFlip, RandomResizedCrop, View, draw_shapes
from ssl_mi.networks import MLP, ConvNet, Siamese
from ssl_mi.objectives import SimCLR

epochs, count = (int(word) for word in sys.argv[1:] or ("4", "4000"))
images, _ = draw_shapes(count, width=32, seed=0, split=0)  # any images: uint8 [n, 3, 32, 32] or [n, 32, 32, 3]
view = View([RandomResizedCrop(32, scale=(0.5, 1.0)), HorizontalFlip(), ColorJitter(hue=0.5), Grayscale()], count=2)
augmentation = Augmentation([view], size=32, mean=[0.5] * 3, std=[0.21] * 3)
towers = Siamese(ConvNet([32, 64, 128], stem_stride=2), MLP(dims=[512, 128]))
objective = SimCLR(temperature=0.2)  # one with parameters takes the width: MINE(dim=towers.out_dim)
optimizer = torch.optim.AdamW([*towers.parameters(), *objective.parameters()], lr=1e-3)
for epoch in range(epochs):
    for batch in DataLoader(images, batch_size=128, shuffle=True, drop_last=True):
        loss = objective(towers(augmentation(batch)).z)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
    print(f"epoch {epoch + 1}: loss {loss.total:.3f}, bound {loss.metrics['bound_nats']:.3f} nats")
