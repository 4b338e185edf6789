"""scikit-learn's 1,797 handwritten digits. Too easy to show that training helps: raw pixels already reach .97."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits

from ssl_mi.data.images.memory import TensorImages
from ssl_mi.data.sets import ImageSet, Sets, stratified_order


class Digits:
    """Ten classes of 8 x 8 grey digits, enlarged to `width` x `width` (bilinear) and repeated over 3 channels.

    Args:
        width: Side of the images, 8 or more.
        test_fraction: Set aside for testing, seeded; the digits come with no split of their own.
        seed: Of that split.
    """

    def __init__(self, width: int = 16, test_fraction: float = 1 / 3, seed: int = 0) -> None:
        if width < 8:
            raise ValueError(f"digits: width={width} is less than the 8 pixels that the digits have")
        if not 0 < test_fraction < 1:
            raise ValueError(f"data.sets.test_fraction={test_fraction} must lie between 0 and 1")
        self.width, self.test_fraction, self.seed = width, test_fraction, seed

    def load(self) -> Sets:
        """Both splits, in memory."""
        pixels, labels = load_digits(return_X_y=True)
        grey = torch.from_numpy(pixels).float().view(-1, 1, 8, 8) * (255 / 16)
        large = F.interpolate(grey, (self.width, self.width), mode="bilinear")
        images = TensorImages(large.round().to(torch.uint8).expand(-1, 3, -1, -1))
        digits = ImageSet("digits", images, torch.from_numpy(labels).long(), tuple("0123456789"))
        order = stratified_order(digits.labels, len(digits), [self.seed])
        n_test = round(self.test_fraction * len(digits))
        return Sets(digits.take(order[n_test:]), digits.take(order[:n_test]))
