"""Critics: functions that score every pair, scores[i, j] = T(x_i, y_j).

    cosine      <x, y> / (|x| |y| temperature)       bounded: scores differ by at most 2/temperature
    bilinear    x^T W y                              needs standardised inputs
    separable   <g(x), h(y)>                         n + m network evaluations
    concat      t([x, y])                            n m evaluations; the most flexible

x: [n, dim_x], y: [m, dim_y] -> [n, m]. `score_range` is the largest difference between two scores,
which bounds the value of InfoNCE (see bounds.py).

A new critic is one subclass of `Critic` with a `forward`. What the rest of the package needs to know of it are
attributes and methods of that class.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from functools import cache
from itertools import pairwise
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, normalize

Pair = tuple[Tensor, Tensor]


class Critic(nn.Module):
    """The contract of a critic: (x [n, dim_x], y [m, dim_y]) -> scores [n, m].

    A subclass needs `forward`; every other member has a default.

    Attributes:
        name: what it is called in settings and on the command line; empty for critics named by import path only.
        description: what it computes and when to choose it, in a line.
        separable: whether n + m network evaluations and one matrix product score all n m pairs; False where each
            pair costs an evaluation, or where this is not known.
        batch_size: rows of a training step where none is asked for. All pairs of a batch are scored.
        eval_batch_size: rows scored against each other on validation and test rows where none is asked for.
        score_range: the largest difference between two scores that it can give.
    """

    name: ClassVar[str] = ""
    description: ClassVar[str] = ""
    separable: bool = False
    batch_size: int = 256
    eval_batch_size: int = 2048

    @property
    def score_range(self) -> float:
        return math.inf

    @property
    def title(self) -> str:
        """What settings call a critic that was passed as an object."""
        return type(self).__name__

    @classmethod
    def for_dims(cls, dim_x: int, dim_y: int) -> Critic:
        """The critic of that name for estimating from samples: its constructor with sizes that suit these."""
        return cls(dim_x, dim_y)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Scores of all pairs.

        Args:
            x: [n, dim_x].
            y: [m, dim_y].

        Returns:
            [n, m], nats: a bound asks for log r up to a constant.
        """
        raise NotImplementedError

    def factors(self, x: Tensor, y: Tensor) -> Pair | None:
        """Two matrices whose product scores all pairs, `scores = left @ right.T`; None where there are none.

        A loss over many rows then needs no [n, m] matrix. A subclass with another `forward` needs its own.

        Args:
            x: [n, dim_x].
            y: [m, dim_y].

        Returns:
            left [n, d] and right [m, d]: one tensor twice where y is x and the scores are symmetric.
        """
        return None

    def begin(self, fit: Pair, validation: Pair, offset: float = 0.0) -> None:
        """Initialise from data, before training; by default nothing.

        Args:
            fit: x [n, dim_x] and y [n, dim_y] of the rows to be fitted on.
            validation: the same of the validation rows.
            offset: the bound to be maximised is tight at log r + offset.
        """


class PlainCritic(Critic):
    """Any module (x [n, dim_x], y [m, dim_y]) -> [n, m] as a critic, with whatever members of one it has.

    Args:
        module: what scores; its `score_range` and `begin` are used where it has them.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    @property
    def score_range(self) -> float:
        return float(getattr(self.module, "score_range", math.inf))

    @property
    def title(self) -> str:
        return type(self.module).__name__

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.module(x, y)

    def factors(self, x: Tensor, y: Tensor) -> Pair | None:
        return score_factors(self.module, x, y)

    def begin(self, fit: Pair, validation: Pair, offset: float = 0.0) -> None:
        begin = getattr(self.module, "begin", None)
        if begin is not None:
            begin(fit, validation, offset=offset)


def has_shortcut(part: Any, shortcut: str, *methods: str) -> bool:
    """Whether `shortcut` was written for these very methods: no subclass, object or hook has changed one of them since.

    Args:
        part: an object.
        shortcut: the name of a method that gives what the others give, cheaper.
        methods: their names.
    """
    if getattr(part, "_forward_hooks", None) or getattr(part, "_forward_pre_hooks", None):
        return False
    own = vars(part)
    return _written_for(cast(Hashable, type(part)), shortcut, methods) and not any(name in own for name in methods)


@cache
def _written_for(kind: Hashable, shortcut: str, methods: tuple[str, ...]) -> bool:
    def owner(name: str) -> type:
        return next((base for base in cast(type, kind).__mro__ if name in vars(base)), object)

    return all(issubclass(owner(shortcut), owner(name)) for name in methods)


def score_factors(critic: nn.Module, x: Tensor, y: Tensor) -> Pair | None:
    """`Critic.factors` of any critic; None where its scores are no product of two matrices, or this is not known.

    Args:
        critic: scores all pairs.
        x: [n, dim_x].
        y: [m, dim_y].
    """
    factors = getattr(critic, "factors", None)
    if factors is None or not has_shortcut(critic, "factors", "forward"):
        return None
    return factors(x, y)


def as_critic(module: nn.Module) -> Critic:
    """`module` itself if it is a `Critic`, else the same as one.

    Args:
        module: (x [n, dim_x], y [m, dim_y]) -> scores [n, m].
    """
    return module if isinstance(module, Critic) else PlainCritic(module)


def built_critic(part: nn.Module | Callable[..., nn.Module], dim_x: int, dim_y: int) -> Critic:
    """A critic for x [n, dim_x] and y [m, dim_y]: `part` itself, or what it makes when called with dim_x and dim_y.

    Args:
        part: a critic, or a function (dim_x, dim_y) -> critic.
        dim_x: columns of x.
        dim_y: columns of y.
    """
    return as_critic(part if isinstance(part, nn.Module) else part(dim_x=dim_x, dim_y=dim_y))


def critic_factory(part: object) -> Callable[[int, int], nn.Module]:
    """(dim_x, dim_y) -> critic, for a subclass of `Critic` or any function.

    Args:
        part: a subclass of `Critic`, or a function (dim_x, dim_y) -> module.

    Raises:
        ValueError: for what is neither; a critic already built does not know the dimensions of the samples.
    """
    if isinstance(part, type) and issubclass(part, Critic):
        return part.for_dims
    if callable(part) and not isinstance(part, nn.Module):
        return part
    raise ValueError(
        "critic must be a name, an import path package.module:Class, a Critic class or a function (dim_x, dim_y) -> "
        f"module, got {part!r}"
    )


def mlp(dims: Sequence[int]) -> nn.Sequential:
    """Linear layers dims[0] -> ... -> dims[-1] with ReLU between.

    Args:
        dims: widths, of the input first.
    """
    layers: list[nn.Module] = []
    for i, o in pairwise(dims):
        layers += [nn.Linear(i, o), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class Separable(Critic):
    """<g(x), h(y)> with two networks: Poole et al. 2019 (arXiv:1905.06922), section 3.

    Args:
        dim_x: columns of x.
        dim_y: columns of y.
        hidden: widths of the hidden layers of g and of h.
        width: columns of g(x) and of h(y).
    """

    name = "separable"
    description = "<g(x), h(y)> with two networks: learns everything, n + m evaluations"
    separable = True

    def __init__(self, dim_x: int, dim_y: int, hidden: Sequence[int] = (256, 256), width: int = 32) -> None:
        super().__init__()
        self.g = mlp([dim_x, *hidden, width])
        self.h = mlp([dim_y, *hidden, width])

    @classmethod
    def for_dims(cls, dim_x: int, dim_y: int) -> Critic:
        return cls(dim_x, dim_y, hidden=(128, 128))

    def factors(self, x: Tensor, y: Tensor) -> Pair | None:
        return self.g(x), self.h(y)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.g(x) @ self.h(y).T


class Concat(Critic):
    """t([x, y]) for every pair: the critic of Belghazi et al. 2018 (arXiv:1801.04062).

    The first layer is linear in [x, y], so it is applied to x and to y apart and added: n + m products
    instead of n m. Memory is n m times the first hidden width.

    Args:
        dim_x: columns of x.
        dim_y: columns of y.
        hidden: widths of the hidden layers, at least one.

    Raises:
        ValueError: if there is no hidden layer.
    """

    name = "concat"
    description = "t([x, y]) for every pair: the most flexible, n m evaluations"
    batch_size = 64
    eval_batch_size = 128

    def __init__(self, dim_x: int, dim_y: int, hidden: Sequence[int] = (256, 256)) -> None:
        super().__init__()
        if not hidden:
            raise ValueError("concat needs at least one hidden layer: without one it cannot join x and y")
        self.dim_x = dim_x
        self.first = nn.Linear(dim_x + dim_y, hidden[0])
        self.rest = nn.Sequential(nn.ReLU(), mlp([*hidden, 1]))

    @classmethod
    def for_dims(cls, dim_x: int, dim_y: int) -> Critic:
        return cls(dim_x, dim_y, hidden=(128, 128))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        of_x = linear(x, self.first.weight[:, : self.dim_x])
        of_y = linear(y, self.first.weight[:, self.dim_x :], self.first.bias)
        return self.rest(of_x[:, None] + of_y[None, :]).squeeze(-1)


class Bilinear(Critic):
    """x^T W y: van den Oord et al. 2018 (arXiv:1807.03748), with log taken.

    W starts as the identity over sqrt(dim): where the two towers agree, so do the first scores.

    Args:
        dim_x: columns of x.
        dim_y: columns of y.
    """

    name = "bilinear"
    description = "x^T W y: few parameters, linear dependence only"
    separable = True

    def __init__(self, dim_x: int, dim_y: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(dim_x, dim_y) / math.sqrt(max(dim_x, dim_y)))

    def factors(self, x: Tensor, y: Tensor) -> Pair | None:
        return x @ self.weight, y

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x @ self.weight @ y.T


class _UnitRows(torch.autograd.Function):
    """u = s x / |x| for each row, its gradient s (g - u <u, g> / s^2) / |x| in a few operations."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor) -> Tensor:
        factor = scale / torch.linalg.vector_norm(x, dim=1, keepdim=True).clamp_min_(1e-12)
        unit = x * factor
        ctx.save_for_backward(x, scale, unit, factor)
        return unit

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, scale, unit, factor = ctx.saved_tensors
        if torch.is_grad_enabled():  # a graph of the gradient is asked for
            wanted = [t for t, needed in zip((x, scale), ctx.needs_input_grad, strict=True) if needed]
            found = iter(torch.autograd.grad(normalize(x, dim=1) * scale, wanted, gradient, create_graph=True))
            of_x, of_scale = (next(found) if needed else None for needed in ctx.needs_input_grad)
            return of_x, of_scale
        along = (gradient * unit).sum(1, keepdim=True)
        of_scale = along.sum() / scale if ctx.needs_input_grad[1] else None
        return torch.addcmul(gradient, unit, along.div_(-scale.square())).mul_(factor), of_scale


def unit_rows(x: Tensor, scale: Tensor) -> Tensor:
    """`scale * normalize(x, dim=1)`, with a cheaper gradient.

    Args:
        x: [n, d].
        scale: a scalar.
    """
    return _UnitRows.apply(x, scale)


class Cosine(Critic):
    """Cosine similarity over a temperature: Chen et al. 2020 (arXiv:2002.05709).

    learned=True makes log(1/temperature) a parameter, as in Radford et al. 2021 (arXiv:2103.00020,
    section 2.5), with the temperature kept at or above `minimum` so that it cannot run away.

    Args:
        temperature: what the cosine is divided by; where it starts, if it is learned.
        learned: whether it is a parameter.
        minimum: the lowest temperature, positive.

    Raises:
        ValueError: if temperature < minimum, or minimum <= 0.
    """

    name = "cosine"
    description = "cosine of two learned embeddings over a learned temperature: bounded scores"
    separable = True

    log_inverse: Tensor

    def __init__(self, temperature: float = 0.5, learned: bool = False, minimum: float = 0.01) -> None:
        super().__init__()
        if not temperature >= minimum > 0:
            raise ValueError(f"temperature={temperature} must not be below minimum={minimum}, nor that be 0 or less")
        self.minimum = minimum
        logit = torch.tensor(-math.log(temperature))
        if learned:
            self.log_inverse = nn.Parameter(logit)
        else:
            self.register_buffer("log_inverse", logit, persistent=False)

    @classmethod
    def for_dims(cls, dim_x: int, dim_y: int) -> Critic:
        """Behind two networks: the cosine of raw samples of unlike dimensions does not exist."""
        g, h = mlp([dim_x, 128, 128, 32]), mlp([dim_y, 128, 128, 32])
        return Projected(g, h, cls(temperature=0.1, learned=True))

    @property
    def temperature(self) -> float:
        """The temperature; it can be set where it is not learned, which schedules do."""
        return 1 / self.inverse_temperature().detach().item()

    @temperature.setter
    def temperature(self, value: float) -> None:
        if isinstance(self.log_inverse, nn.Parameter):
            raise ValueError("the temperature is learned: set learned=false to fix or schedule it")
        if not value >= self.minimum:
            raise ValueError(f"temperature must be at least minimum={self.minimum}, got {value}")
        self.log_inverse.fill_(-math.log(value))

    def inverse_temperature(self) -> Tensor:
        return self.log_inverse.clamp(max=-math.log(self.minimum)).exp()

    @property
    def score_range(self) -> float:
        return 2 * self.inverse_temperature().detach().item()

    def factors(self, x: Tensor, y: Tensor) -> Pair | None:
        inverse = self.inverse_temperature().to(x.dtype)
        if y is x:
            both = unit_rows(x, inverse.sqrt())
            return both, both
        return unit_rows(x, inverse), normalize(y, dim=1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        left = normalize(x, dim=1)
        right = left if y is x else normalize(y, dim=1)
        # The temperature divides the n rows, not the n m scores.
        return left * self.inverse_temperature().to(x.dtype) @ right.T


class Projected(Critic):
    """A critic of learned embeddings: critic(g(x), h(y)).

    Args:
        g: x [n, dim_x] -> embeddings [n, d].
        h: y [m, dim_y] -> embeddings [m, d'].
        critic: scores the embeddings.
    """

    def __init__(self, g: nn.Module, h: nn.Module, critic: Critic) -> None:
        super().__init__()
        self.g, self.h, self.critic = g, h, critic
        self.separable = critic.separable
        self.batch_size, self.eval_batch_size = critic.batch_size, critic.eval_batch_size

    @property
    def score_range(self) -> float:
        return self.critic.score_range

    def factors(self, x: Tensor, y: Tensor) -> Pair | None:
        return score_factors(self.critic, self.g(x), self.h(y))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.critic(self.g(x), self.h(y))
