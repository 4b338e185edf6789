"""The contract of an objective: embeddings in, named loss terms out.

    loss = objective(online, target)        online, target: lists of [n, d], one entry per view
    bound = objective.estimate(x, y, rows)      nats on held-out pairs, for objectives that bound mutual information

An objective knows no processes, images or optimizers. Whatever exists because of the loss (a critic, a predictor, a
moving average, a queue) belongs to the objective: parameters and buffers, so that it moves to a device, is saved and is
resumed with the model. State changes in training mode only. The rows are those of all processes, so statistics are
those of the whole batch.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, Literal, NamedTuple, ParamSpec, Self, TypeVar

from torch import Tensor, nn

from ssl_mi.objectives.queue import Queue

log = logging.getLogger(__name__)
MIN_ROWS = 2  # of a batch: one image has no others to be compared with, and no variance


P = ParamSpec("P")
R = TypeVar("R")


def renamed(**names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Refuse arguments that have another name since, naming it.

    Args:
        names: old -> new.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def checked(*args: P.args, **arguments: P.kwargs) -> R:
            for old, new in names.items():
                if old in arguments:
                    where = function.__qualname__.removesuffix(".__init__")
                    raise TypeError(f"{where}: '{old}' is called '{new}': give {new}={arguments[old]}")
            return function(*args, **arguments)

        return checked

    return decorate


class Loss(NamedTuple):
    """What an objective returns.

    Attributes:
        terms: Named scalars whose sum is the loss.
        metrics: Named scalars that are logged with the terms; they carry no gradient.
    """

    terms: dict[str, Tensor]
    metrics: dict[str, Tensor]

    @property
    def total(self) -> Tensor:
        """The sum of the terms: what is minimised."""
        return sum_of(list(self.terms.values()))


class HeldOutBound(NamedTuple):
    """A bound on pairs that it was not trained on.

    Attributes:
        value: The bound, in nats.
        kind: "lower bound" or "point estimate".
        ceiling: The largest value that the bound can take, in nats.
        negatives: Negatives per row.
    """

    value: float
    kind: str
    ceiling: float
    negatives: int


class Objective(nn.Module):
    """Base class of all objectives: the contract between an objective and the module that trains it.

    An objective over embeddings (`learns_from = "embeddings"`, the default) implements

        forward(online, target, **required) -> Loss

    where online[v] and target[v] are the embeddings [n, d] of view v, of all processes, and `target is online` where
    no teacher makes the targets. An objective that learns from something else names it in `learns_from` and documents
    its own `forward`; the module whose `gives` is the same word trains it. What is declared here is checked when the
    module is built, before anything is computed.

    What depends on the width `d` is made in `_make`; the constructor ends with `self.build(dim)`. So `MINE()` can be
    written before the width is known, and `JointEmbedding` builds it for the width of its towers.

    Attributes:
        name: Heads plots and tables.
        learns_from: What the training step gives it: "embeddings", or the `gives` of another module.
        requires: What `forward` takes beside embeddings, by name, for the rows of all processes: "labels", int64 [n],
            or None where the images have none; "index", int64 [n], the row of each image in the training set; "maps",
            where maps[v][s] is [n, locations, d], the local embeddings of view v at scale s; "target_maps", the
            same of the teacher, or the online ones where there is none; "boxes", float [n, views, 4], the part of its
            image that each view shows.
        teacher: Whether a teacher makes the targets: "required", "optional", or "unused" where `forward` ignores
            `target` and a teacher would cost time for nothing.
        towers: For one that requires maps: the choice of `towers` that gives them.
        evaluated: Which weights the method's paper evaluates where there is a teacher: "online" or "teacher".
        min_views: The least number of views.
        fewer_views: What else to change where there are fewer, to end that message.
        attracts: Whether the loss brings the views of an image together. One that does not is a regulariser, which
            trains beside others in a `Sum`.
        information: One line on how the loss is related to mutual information, for objectives that do not estimate it.
        dim: The width d that the objective was built for; None before.
        checks_finite: Whether each call looks for NaN and infinity in the embeddings. `JointEmbedding` sets it to False
            and looks at the loss, where it names the step.
    """

    name: str = "objective"
    learns_from: str = "embeddings"
    requires: tuple[str, ...] = ()
    teacher: Literal["required", "optional", "unused"] = "optional"
    evaluated: Literal["online", "teacher"] = "online"
    towers: str = "siamese_local"
    min_views: int = 2
    fewer_views: str = ""
    attracts: bool = True
    information: str = "not estimated by the loss"
    checks_finite: bool = True

    def __init__(self) -> None:
        super().__init__()
        self.dim: int | None = None

    def build(self, dim: int | None) -> Self:
        """Make the parameters and buffers that depend on the width of an embedding, once.

        Args:
            dim: Width of an embedding. None changes nothing: the width is given later.

        Returns:
            The objective itself.

        Raises:
            ValueError: If the objective was built for another width.
        """
        if dim is None or dim == self.dim:
            return self
        if self.dim is not None:
            raise ValueError(
                f"{type(self).__name__}(dim={self.dim}) got embeddings of width {dim}: give dim={dim}, or leave dim out"
            )
        self._make(dim)
        self.dim = dim
        return self

    def _make(self, dim: int) -> None:
        """Make what depends on `dim`. Nothing by default."""

    def __call__(
        self,
        online: Sequence[Tensor] | Tensor,
        target: Sequence[Tensor] | Tensor | None = None,
        *others: Any,
        **beside: Any,
    ) -> Any:
        """`forward`, where the online embeddings are the targets unless others are given.

        Raises:
            ValueError: On embeddings that no loss is defined for; see `check_inputs`.
        """
        target = online if target is None else target
        if self.learns_from == Objective.learns_from:
            self.check_inputs(online, target, **beside)
        return super().__call__(online, target, *others, **beside)

    def check_inputs(self, online: Sequence[Tensor] | Tensor, target: Sequence[Tensor] | Tensor, **beside: Any) -> None:
        """Refuse embeddings that no loss is defined for, before any state changes.

        Args:
            online: What `forward` gets.
            target: What `forward` gets.
            beside: What `forward` gets beside them, by name.

        Raises:
            ValueError: Too few views or rows, views of unlike rows or widths, another width than the objective was
                built for, numbers that are no floats, and NaN or infinity, unless `checks_finite` is False.
        """
        check_views(self, "online", online, self.min_views)
        if target is not online:
            check_views(self, "target", target, 1)
            if target[0].shape != online[0].shape:
                raise ValueError(
                    f"{self.name}: online embeddings are {list(online[0].shape)} and target embeddings "
                    f"{list(target[0].shape)}: the targets are of the same images, by a network of the same width"
                )
        rows, width = online[0].shape
        if rows < MIN_ROWS:
            raise ValueError(
                f"{self.name}: a batch of {rows} image{'' if rows == 1 else 's'}, and an image is compared with the "
                f"others of its batch: use {MIN_ROWS} or more"
            )
        if self.dim not in (None, width):
            raise ValueError(f"{self.name} was built for embeddings of width {self.dim}, got {list(online[0].shape)}")
        for name in ("labels", "index", "boxes"):
            values = beside.get(name)
            if values is not None and len(values) != rows:
                raise ValueError(f"{self.name}: {rows} images but {len(values)} values of {name}")
        if self.checks_finite:
            _check_finite(self, [*online, *(() if target is online else target)])

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError as error:
            if name.startswith("__") or self.__dict__.get("dim", 0) is not None:
                raise
            raise AttributeError(
                f"{error}. The width of the embeddings is not known yet: give {type(self).__name__}(dim=...), or call "
                "build(dim)"
            ) from None

    def estimate(self, x: Tensor, y: Tensor, rows: int) -> HeldOutBound | None:
        """The objective's own bound on held-out pairs.

        Args:
            x: Embeddings [n, d] of one view.
            y: Embeddings [n, d] of the other view of the same images, in the same order.
            rows: Batch size of training: a row's negatives come from batches of this size.

        Returns:
            The bound in nats, or None if the objective bounds nothing.
        """
        return None

    def can_shard(self) -> bool:
        """Whether the loss is a mean over rows, each of which needs the others as columns only.

        Then `forward` also takes `rows`, a slice of the batch: it scores these rows against all columns and returns
        means over them. The mean over slices of equal length that cover the batch is the loss of the whole batch, in
        value and in gradient. With W processes each scores n of the W n rows: 1/W of the work.
        """
        return False

    def can_share(self) -> bool:
        """Whether processes can share the pairs of a loss out, where a pair serves two rows and rows alone do it twice.

        Then `forward` also takes `share`, a `ssl_mi.objectives.share.Share`: it returns the loss of all rows, in every
        process, after an exchange of sums, with a gradient whose mean over processes is that of the whole batch.
        """
        return False

    def check(self, images: int) -> None:
        """Raise ValueError, naming the key to set, if training on `images` images cannot go well.

        What can go on but should not is a warning: a queue that is larger than the data.
        """
        for part in self.modules():
            if isinstance(part, Queue) and (wrong := part.larger_than(images)):
                log.warning("%s: %s", self.name, wrong)
                return

    def check_settings(self) -> None:
        """Raise ValueError if the settings are incompatible; constructors call it, and schedules at their two ends."""

    def facts(self, rows: int) -> dict[str, str]:
        """What a user should know before a run of `rows` pairs per step: negatives, ceiling, ..."""
        return {"mutual information": self.information}


def check_views(objective: Objective, which: str, views: Sequence[Tensor] | Tensor, least: int) -> None:
    """Raise ValueError unless `views` is a list of at least `least` float tensors [n, d] of one shape."""
    if isinstance(views, Tensor):  # a sequence of its rows: it would pass for n views of one image each
        raise ValueError(
            f"{objective.name}: an objective takes a list of views, but got one tensor {list(views.shape)}: [z1, z2]"
        )
    if len(views) < least:
        raise ValueError(f"{objective.name} needs {least} views or more, got {len(views)}")
    for number, z in enumerate(views):
        if z.dim() != 2 or not z.is_floating_point():
            raise ValueError(
                f"{objective.name}: {which} view {number} is {z.dtype} {list(z.shape)}; embeddings are floats [n, d]"
            )
        if z.shape != views[0].shape:
            raise ValueError(
                f"{objective.name}: {which} view 0 is {list(views[0].shape)} and view {number} is {list(z.shape)}; "
                "row i of every view is the same image, and all have one width"
            )


def _check_finite(objective: Objective, views: Sequence[Tensor]) -> None:
    # A sum is finite only if all numbers are: one pass, where an element-wise test takes several.
    if sum_of([z.detach().sum() for z in views]).isfinite():
        return
    bad = sum_of([(~z.detach().isfinite()).any(1) for z in views])
    count = int(bad.sum())
    if count:  # 0 where finite numbers had a sum too large
        raise ValueError(
            f"{objective.name}: the embeddings of {count} of {len(bad)} images hold NaN or infinity: the network has "
            "diverged, or its input holds them; lower the learning rate, or train in float32"
        )


def view_pairs(online: list[Tensor], target: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """The pairs (x, y) of views that a symmetric loss compares.

    Without a teacher the two lists are one object and each unordered pair of views appears once. With a teacher, see
    `ordered_pairs`.

    Args:
        online: Embeddings [n, d], one entry per view.
        target: Embeddings [n, d], one entry per view of the teacher; `online` itself without a teacher.

    Raises:
        ValueError: If there are fewer than 2 views.

    Example:
        >>> import torch
        >>> views = [torch.zeros(1, 2)] * 3
        >>> len(view_pairs(views, views))  # (1, 2), (1, 3), (2, 3)
        3
    """
    need_views(online)
    n = range(len(online))
    if target is online:
        return [(online[i], online[j]) for i in n for j in n if i < j]
    return ordered_pairs(online, target)


def ordered_pairs(online: list[Tensor], target: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Every online view with every target view but its own: BYOL's swap, DINO's multi-crop.

    For losses whose two sides play different parts. A teacher may see the first views only.

    Args:
        online: Embeddings [n, d], one entry per view.
        target: Embeddings [n, d], one entry per view of the teacher.

    Raises:
        ValueError: If there are fewer than 2 online views.

    Example:
        >>> import torch
        >>> online, target = [torch.zeros(1, 2)] * 3, [torch.ones(1, 2)] * 2
        >>> len(ordered_pairs(online, target))  # 3 online views, each with the target views of other numbers
        4
    """
    need_views(online)
    return [(x, y) for i, x in enumerate(online) for j, y in enumerate(target) if i != j]


def need_views(online: list[Tensor]) -> None:
    """Raise ValueError unless `online` is a list of 2 views or more."""
    # A tensor is a sequence of its rows: it would pass for n views of one image each.
    if isinstance(online, Tensor):
        raise ValueError(f"an objective takes a list of views, but got one tensor {list(online.shape)}: [z1, z2]")
    if len(online) < 2:
        raise ValueError(f"an objective over views needs 2 views or more, got {len(online)}")


def sum_of(terms: Sequence[Tensor]) -> Tensor:
    """The sum of one tensor or more of the same shape."""
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def mean_of(terms: Sequence[Tensor]) -> Tensor:
    """The mean of one tensor or more of the same shape."""
    return sum_of(terms) / len(terms) if len(terms) > 1 else terms[0]
