"""Nearest neighbours in the max norm: `queries` (compiled, on the CPU) and `torch_tiles` (torch, on any device).

Both are imported on first use, for all that use them: numba takes half a second to import and torch two, and most
estimators of a program need neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ssl_mi.information.core import lazy

if TYPE_CHECKING:
    from ssl_mi.information.neighbours import queries as queries
    from ssl_mi.information.neighbours import torch_tiles as torch_tiles

__getattr__, __dir__ = lazy.attach(__name__, {}, {"queries": "queries", "torch_tiles": "torch_tiles"})
