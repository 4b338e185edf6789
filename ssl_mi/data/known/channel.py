"""A uniform symbol through a symmetric channel: the closed form, its inverse, and its draws.

X uniform on {0 .. K-1}; Y = X, but with probability e one of the other K - 1 symbols, each equally likely:

    I(X; Y) = ln K - h(e) - e ln(K - 1),   h(e) = -e ln e - (1 - e) ln(1 - e)

Y is uniform too. I falls from ln K at e = 0 to 0 at e = (K - 1) / K. K = 2 is the binary symmetric channel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from scipy.optimize import brentq
from torch import Tensor

from ssl_mi.data.known.views import SHARED, Pairs, check_nats


def channel_nats(error: float, symbols: int) -> float:
    """I(X; Y) in nats. ValueError unless 0 <= error <= 1 and symbols >= 2."""
    if not 0 <= error <= 1:
        raise ValueError(f"error={error} is no probability")
    if symbols < 2:
        raise ValueError(f"symbols={symbols}: a channel needs at least 2")
    spread = sum(-p * math.log(p) for p in (error, 1 - error) if p > 0)
    return math.log(symbols) - spread - error * math.log(symbols - 1)


def channel_error(nats: float, symbols: int, name: str, key: str = "data.nats") -> float:
    """The error at which `channel_nats` is `nats`, 0 <= e <= (K - 1) / K. ValueError outside 0 .. ln K, naming the
    key of the configuration that the nats came from."""
    check_nats(name, nats, 0.0, math.log(symbols), "data.nats=null shares all" if key == "data.nats" else "", key)
    silent = (symbols - 1) / symbols  # here Y is independent of X
    if nats >= channel_nats(0.0, symbols):
        return 0.0
    if nats <= max(0.0, channel_nats(silent, symbols)):
        return silent
    return brentq(lambda error: channel_nats(error, symbols) - nats, 0.0, silent, xtol=1e-15)


def integers(uniform: Tensor, below: int | Tensor) -> Tensor:
    """Numbers in [0, 1) -> whole numbers in 0 .. below - 1: int64 of the same shape."""
    return (uniform * below).long()


def symbol_pairs(pairs: Pairs, symbols: int, errors: Sequence[float], op: int = 0) -> tuple[Tensor, Tensor]:
    """Independent symbols, one a column, and what the channel of each column makes of them: int64 [n, k] twice.

    Uses the shared draws `op` (symbols) and `op + 1` (errors).
    """
    k = len(errors)
    sent = integers(pairs.draws(SHARED, op).uniform(k), symbols)
    noise = pairs.draws(SHARED, op + 1)
    wrong = noise.uniform(k) < torch.tensor(errors, dtype=torch.float32, device=sent.device)
    other = 1 + integers(noise.uniform(k), symbols - 1)
    return sent, (sent + wrong * other) % symbols
