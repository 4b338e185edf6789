"""Nearest neighbours in the max norm, and counts of points strictly inside a radius, exact in float64.

KSG-like estimators ask two questions of every point i: how far is its k-th neighbour in the joint space,
and how many points are strictly nearer than that in each marginal. The answer to "strictly" must not depend
on rounding, so every comparison is made on the same floating-point number |a - b|, and no constant is
subtracted from a radius.

`trees` does the work, `bruteforce` does beyond ten dimensions a side or so: the answers are the same bits. Both are
compiled on first use and cached on disk, hold no interpreter lock, take O(n) memory, and run on plain threads here.
`tiled` is the same in torch, for tensors on other devices.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ssl_mi.information.neighbours import bruteforce
from ssl_mi.information.neighbours import kd_tree as trees

ALONE = 20_000  # numbers in a sample; with fewer, one thread is as fast as several
HELD = 2**20  # radii of permuted pairings that are held at a time


def threads() -> int:
    """Threads to use: NUMBA_NUM_THREADS or OMP_NUM_THREADS if set, else the cores of this process."""
    for variable in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS"):
        if os.environ.get(variable, "").isdigit():
            return max(1, int(os.environ[variable]))
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.lru_cache(maxsize=1)
def _pool(workers: int, process: int) -> ThreadPoolExecutor:
    # Kept, for threads take longer to start than a small sample to search; by process, for they do not survive a fork.
    return ThreadPoolExecutor(workers, thread_name_prefix="neighbours")


def _side_by_side(task: Callable, *arguments: Iterable, workers: int) -> list:
    """[task(a, b, ...) for a, b, ... in zip(*arguments)], `workers` at a time. A task must not call this itself."""
    if workers == 1:
        return list(map(task, *arguments))
    return list(_pool(workers, os.getpid()).map(task, *arguments))


def _over(kernel: Callable[[int, int], None], parts: int, workers: int) -> None:
    """kernel(first, last) over chunks of 0..parts: four a thread, since regions differ in cost."""
    edges = np.linspace(0, parts, (4 * workers if workers > 1 else 1) + 1).astype(int).tolist()
    _side_by_side(kernel, edges[:-1], edges[1:], workers=workers)


def _workers(size: int) -> int:
    return threads() if size >= ALONE else 1


class Tree:
    """A kd-tree over points float64 [n, d], to be asked about its own points on `workers` threads."""

    def __init__(self, points: np.ndarray, workers: int | None = None) -> None:
        n, d = points.shape
        self.n = n
        self.workers = _workers(points.size) if workers is None else workers
        columns = np.ascontiguousarray(points.T, dtype=np.float64)
        leaves = -(-n // trees.LEAF)
        top = 1 << (leaves - 1).bit_length()
        if d == 1:
            self.order = np.argsort(columns[0])
        else:
            self.order = np.arange(n)
            trees.split(columns, self.order, np.empty(n), top)
        width = d + d % 2
        self._blocks = np.empty((leaves, width, trees.LEAF))
        self._blocks[-1] = np.inf
        low, high = np.empty((2, 2 * top, width))
        low[:], high[:] = np.inf, -np.inf
        trees.fill(columns, self.order, top, self._blocks, low, high)
        self._nodes = (low, high, top, n)

    def nearest(self, k: int) -> np.ndarray:
        """Distances to the k nearest other points, ascending: [n, k]. Duplicates are at distance 0."""
        return self._rows(self._nearest(k).transpose(0, 2, 1).reshape(-1, k))

    def radii(self, k: int) -> np.ndarray:
        """Distance to the k-th nearest other point: [n]."""
        return self._rows(self._nearest(k)[:, k - 1].reshape(-1))

    def count(self, radii: np.ndarray, closed: bool = False) -> np.ndarray:
        """How many *other* points lie at distance < radii[..., i] (<= when closed) of point i: int64, as radii.

        radii: [n], or [B, n] to ask B times of each point, which costs much less than B times as much.
        """
        radii = _opened(radii) if closed else radii
        by_leaf = self._by_leaf(radii if radii.ndim == 2 else radii[None])
        least, most = np.where(by_leaf > 0, by_leaf, np.inf).min(2), by_leaf.max(2)
        leaves, per_leaf, times = by_leaf.shape
        total = np.empty((leaves, per_leaf, times), np.int64)
        fixed = (self._blocks, *self._nodes, by_leaf, least, most)
        _over(lambda a, b: trees.count(*fixed, a, b, total), len(total), self.workers)
        # The point itself is at distance 0: inside, unless the ball is empty.
        return self._rows(total.reshape(-1, times)).T.reshape(radii.shape) - (radii > 0)

    def extents(self, radii: np.ndarray, split: int) -> np.ndarray:
        """The largest distances in columns < split and >= split among points at distance <= radii: [n, 2]."""
        out = np.empty((len(self._blocks), 2, trees.LEAF))
        by_leaf = self._by_leaf(_opened(radii)[None])[:, :, 0]
        _over(lambda a, b: trees.extents(self._blocks, *self._nodes, by_leaf, split, a, b, out), len(out), self.workers)
        return self._rows(out.transpose(0, 2, 1).reshape(-1, 2))

    def _nearest(self, k: int) -> np.ndarray:
        if not 1 <= k < self.n:
            raise ValueError(f"k must lie in 1..n-1, got k={k} with n={self.n}")
        best = np.empty((len(self._blocks), k, trees.LEAF))
        _over(lambda a, b: trees.nearest(self._blocks, *self._nodes, a, b, best), len(best), self.workers)
        return best

    def _rows(self, values: np.ndarray) -> np.ndarray:
        """Values by tree position -> values by row."""
        rows = np.empty((self.n, *values.shape[1:]), values.dtype)
        rows[self.order] = values[: self.n]
        return rows

    def _by_leaf(self, radii: np.ndarray) -> np.ndarray:
        """Radii by row [B, n] -> [leaves, LEAF, B], negative where the last leaf has no point."""
        by_leaf = np.full((len(self._blocks), trees.LEAF, len(radii)), -1.0)
        by_leaf.reshape(-1, len(radii))[: self.n] = radii.T[self.order]
        return by_leaf


def _opened(radii: np.ndarray) -> np.ndarray:
    """Radii of open balls that hold what the closed ones do: a floating-point number is <= r iff it is < the next."""
    return np.nextafter(radii, np.inf)


def nearest(points: np.ndarray, k: int) -> np.ndarray:
    """points [n, d] -> distances to the k nearest other points, ascending [n, k]."""
    return Tree(points).nearest(k)


def count_within(points: np.ndarray, radii: np.ndarray, closed: bool = False) -> np.ndarray:
    """points [n, d], radii [n] -> how many *other* points lie at distance < radii[i] (<= when closed)."""
    return Tree(points).count(np.asarray(radii, np.float64), closed)


def joint_counts(x: np.ndarray, y: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two questions of KSG: x [n, dx], y [n, dy] -> joint k-th distances [n], strict marginal counts [n], [n].

    By trees or by brute force, whichever is faster for these dimensions and rows; the answers are the same bits.
    """
    if trees_pay(len(x), x.shape[1] + y.shape[1]):
        joint, tree_x, tree_y = _trees(x, y)
        radii = joint.radii(k)
        return radii, tree_x.count(radii), tree_y.count(radii)
    return scan(x, y, k)


def counts_over_k(x: np.ndarray, y: np.ndarray, ks: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Strict marginal counts [len(ks), n], [len(ks), n] of `joint_counts` at each k of `ks`, from the same trees."""
    if trees_pay(len(x), x.shape[1] + y.shape[1]):
        joint, tree_x, tree_y = _trees(x, y)
        radii = np.ascontiguousarray(joint.nearest(max(ks))[:, np.array(ks) - 1].T)
        return tree_x.count(radii), tree_y.count(radii)
    inside = [scan(x, y, k)[1:] for k in ks]
    return np.stack([inside_x for inside_x, _ in inside]), np.stack([inside_y for _, inside_y in inside])


def trees_pay(n: int, dims: int) -> bool:
    """Whether trees are faster than brute force for n rows of `dims` columns, both sides together.

    Measured on Gaussians: equal in 10 + 10 dimensions up to n = 3,000, in 11 + 11 at 10,000, in 13 + 13 at 25,000.
    """
    return dims <= 20 or n > 10_000 * 1.3 ** (dims - 22)


def _trees(x: np.ndarray, y: np.ndarray) -> list[Tree]:
    """Trees of (x, y), of x and of y."""
    parts = np.concatenate([x, y], 1), x, y
    workers = _workers(parts[0].size)
    return _side_by_side(lambda part: Tree(part, workers), parts, workers=workers)


def scan(x: np.ndarray, y: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`joint_counts` by brute force."""
    largest = max(np.abs(x).max(), np.abs(y).max())
    scale = 2.0 ** -np.frexp(largest)[1] if largest > 1e30 else 1.0  # float32 ends at 1e38
    x, y = np.ascontiguousarray(x * scale), np.ascontiguousarray(y * scale)
    (x32, slack_x), (y32, slack_y) = bruteforce.in_float32(x), bruteforce.in_float32(y)
    n = len(x)
    radii, inside_x, inside_y = np.empty(n), np.empty(n, np.int64), np.empty(n, np.int64)
    fixed = (x, y, x32, y32, slack_x, slack_y, k)
    _over(lambda a, b: bruteforce.scan(*fixed, a, b, radii, inside_x, inside_y), n, _workers(n * n))
    return radii / scale, inside_x, inside_y


def permuted_counts(
    x: np.ndarray, y: np.ndarray, k: int, partners: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each b, the strict marginal counts [n], [n] of `joint_counts(x, y[partners[b]], k)`, one after the other.

    partners: int64 [B, n], each row a permutation of 0..n-1. The trees of x and y do not depend on the pairing and
    are built once; the threads share out the permutations, then the rows whose neighbours are counted for all of them.
    """
    n, workers = len(x), threads()
    tree_x, tree_y = _side_by_side(lambda points: Tree(points, workers), (x, y), workers=workers)
    some = max(4 * workers, HELD // n)  # at a time, so that memory stays O(n)
    for first in range(0, len(partners), some):
        chunk = partners[first : first + some]
        joints = (lambda partner: Tree(np.concatenate([x, y[partner]], 1), workers=1).radii(k)), chunk
        radii = np.stack(_side_by_side(*joints, workers=workers))
        radii_of_y = np.empty_like(radii)
        np.put_along_axis(radii_of_y, chunk, radii, 1)
        yield from zip(tree_x.count(radii), np.take_along_axis(tree_y.count(radii_of_y), chunk, 1), strict=True)
