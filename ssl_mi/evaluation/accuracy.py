"""How often a classifier is right: intervals, balanced accuracy, the confusion matrix."""

from __future__ import annotations

import math

from torch import Tensor


def confusion_matrix(labels: Tensor, predicted: Tensor, classes: int) -> Tensor:
    """How often class i was predicted as class j: int64 `[classes, classes]`.

    Args:
        labels, predicted: int64 `[n]` in 0 .. classes - 1.
        classes: How many.
    """
    return (labels * classes + predicted).bincount(minlength=classes**2).reshape(classes, classes)


def balanced_accuracy(confusion: Tensor) -> tuple[float, float]:
    """The mean over classes of the share that is predicted right, and half of its 95% interval.

    Args:
        confusion: `confusion_matrix`; classes that do not occur are left out.
    """
    each = confusion.sum(1)
    share = confusion.diag()[each > 0] / each[each > 0]
    # Classes are independent binomials; the estimate of p by (k + 1) / (n + 2) keeps a variance above 0.
    p = (confusion.diag()[each > 0] + 1) / (each[each > 0] + 2)
    variance = (p * (1 - p) / each[each > 0]).sum() / len(share) ** 2
    return share.mean().item(), 1.96 * variance.sqrt().item()


def wilson(p: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """The Wilson score interval of a proportion p of n: 95% at z = 1.96."""
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # The ends are 0 at p = 0 and 1 at p = 1, and p lies between them: only rounding could differ.
    return max(0.0, min(p, middle - half)), min(1.0, max(p, middle + half))
