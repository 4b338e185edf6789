"""Nearest neighbours in the max norm, and counts of points strictly inside a radius, exact in float64.

KSG-like estimators ask two questions of every point i: how far is its k-th neighbour in the joint space,
and how many points are strictly nearer than that in each marginal. The answer to "strictly" must not depend
on rounding, so every comparison is made on the same floating-point number |a - b|, and no constant is
subtracted from a radius. Pruning keeps this exact: fl(a - b) is monotone in a, so a box whose corner lies
beyond the radius holds no point within it, in floating point too.

Low dimensions use a balanced kd-tree; one dimension uses a sorted array. The kernels release the
interpreter's lock and run on plain threads; they are compiled on first use and cached on disk.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np

LEAF = 12  # points in a leaf, at most 2 * LEAF - 1 ... see `_build`
_jit = numba.njit(cache=True, nogil=True, boundscheck=False)


@_jit
def _build(points, leaf):
    """Balanced kd-tree: node i has children 2i+1 and 2i+2, splits its widest side at the median position.

    points: [n, d] -> (order int64 [n]: tree position -> row, begin, end int64 [nodes], low, high [nodes,
    d]).
    """
    n, d = points.shape
    depth = 0
    while (n >> depth) > leaf:
        depth += 1
    nodes = (1 << (depth + 1)) - 1
    inner = (1 << depth) - 1
    order = np.arange(n)
    begin = np.zeros(nodes, np.int64)
    end = np.zeros(nodes, np.int64)
    low = np.empty((nodes, d))
    high = np.empty((nodes, d))
    end[0] = n
    keys = np.empty(n)
    for node in range(nodes):
        b, e = begin[node], end[node]
        for c in range(d):
            low[node, c] = np.inf
            high[node, c] = -np.inf
        for p in range(b, e):
            row = order[p]
            for c in range(d):
                v = points[row, c]
                if v < low[node, c]:
                    low[node, c] = v
                if v > high[node, c]:
                    high[node, c] = v
        if node >= inner:
            continue
        widest = 0
        for c in range(1, d):
            if high[node, c] - low[node, c] > high[node, widest] - low[node, widest]:
                widest = c
        for p in range(b, e):
            keys[p] = points[order[p], widest]
        # Hoare's selection: positions b..m-1 hold the smaller half.
        m = (b + e) // 2
        left, right = b, e - 1
        while left < right:
            pivot = keys[(left + right) // 2]
            i, j = left, right
            while i <= j:
                while keys[i] < pivot:
                    i += 1
                while keys[j] > pivot:
                    j -= 1
                if i <= j:
                    keys[i], keys[j] = keys[j], keys[i]
                    order[i], order[j] = order[j], order[i]
                    i += 1
                    j -= 1
            if m <= j:
                right = j
            elif m >= i:
                left = i
            else:
                break
        begin[2 * node + 1], end[2 * node + 1] = b, m
        begin[2 * node + 2], end[2 * node + 2] = m, e
    return order, begin, end, low, high


@_jit
def _nearest(sorted_points, begin, end, low, high, k, first, last, out):
    """out[p, :] = distances from tree position p to its k nearest other points, ascending."""
    d = sorted_points.shape[1]
    nodes = len(begin)
    stack = np.empty(128, np.int64)
    bound = np.empty(128)
    best = np.empty(k)
    for p in range(first, last):
        for t in range(k):
            best[t] = np.inf
        radius = np.inf
        stack[0] = 0
        bound[0] = 0.0
        top = 1
        while top > 0:
            top -= 1
            node = stack[top]
            if bound[top] >= radius:
                continue
            while 2 * node + 2 < nodes:
                near, far = 2 * node + 1, 2 * node + 2
                gap_near = 0.0
                gap_far = 0.0
                for c in range(d):
                    q = sorted_points[p, c]
                    g = max(low[near, c] - q, q - high[near, c])
                    if g > gap_near:
                        gap_near = g
                    g = max(low[far, c] - q, q - high[far, c])
                    if g > gap_far:
                        gap_far = g
                if gap_far < gap_near or (gap_far == gap_near and begin[far] <= p < end[far]):
                    near, far = far, near
                    gap_near, gap_far = gap_far, gap_near
                if gap_far < radius:
                    stack[top] = far
                    bound[top] = gap_far
                    top += 1
                node = near
                if gap_near >= radius:
                    node = -1
                    break
            if node < 0:
                continue
            for r in range(begin[node], end[node]):
                dist = 0.0
                for c in range(d):
                    v = abs(sorted_points[r, c] - sorted_points[p, c])
                    if v > dist:
                        dist = v
                        if dist >= radius:
                            break
                if dist < radius and r != p:
                    t = k - 1
                    while t > 0 and best[t - 1] > dist:
                        best[t] = best[t - 1]
                        t -= 1
                    best[t] = dist
                    radius = best[k - 1]
        for t in range(k):
            out[p, t] = best[t]


@_jit
def _count(queries, radii, closed, sorted_points, begin, end, low, high, first, last, out):
    """out[p] = points of the tree at distance < radii[p] (<= when closed) from queries[p], itself too."""
    d = sorted_points.shape[1]
    nodes = len(begin)
    stack = np.empty(128, np.int64)
    for p in range(first, last):
        radius = radii[p]
        total = 0
        stack[0] = 0
        top = 1
        while top > 0:
            top -= 1
            node = stack[top]
            gap = 0.0
            reach = 0.0
            for c in range(d):
                q = queries[p, c]
                below = q - low[node, c]
                above = high[node, c] - q
                gap = max(gap, max(-below, -above))
                reach = max(reach, max(below, above))
            if gap > radius or (gap == radius and not closed):
                continue
            if reach < radius or (closed and reach == radius):
                total += end[node] - begin[node]
            elif 2 * node + 2 < nodes:
                stack[top] = 2 * node + 2
                stack[top + 1] = 2 * node + 1
                top += 2
            else:
                for r in range(begin[node], end[node]):
                    dist = 0.0
                    for c in range(d):
                        v = abs(sorted_points[r, c] - queries[p, c])
                        if v > dist:
                            dist = v
                    if dist < radius or (closed and dist == radius):
                        total += 1
        out[p] = total


@_jit
def _count_sorted(queries, radii, closed, line, first, last, out):
    """`_count` in one dimension: the points inside are one run of the sorted `line`, found by bisection."""
    n = len(line)
    for p in range(first, last):
        q = queries[p]
        radius = radii[p]
        a, b = 0, n
        while a < b:  # first position that is inside or to the right
            m = (a + b) // 2
            gap = q - line[m]
            if gap > radius or (gap == radius and not closed):
                a = m + 1
            else:
                b = m
        start = a
        b = n
        while a < b:  # first position to the right of the run
            m = (a + b) // 2
            gap = line[m] - q
            if gap > radius or (gap == radius and not closed):
                b = m
            else:
                a = m + 1
        out[p] = a - start


@_jit
def _extents(sorted_points, radii, split, begin, end, low, high, first, last, out):
    """out[p] = the largest distances in columns < split and columns >= split among points within radii[p].

    `split` columns belong to x. Points at exactly radii[p] are all included, so the answer does not depend
    on how ties are ordered.
    """
    d = sorted_points.shape[1]
    nodes = len(begin)
    stack = np.empty(128, np.int64)
    for p in range(first, last):
        radius = radii[p]
        extent_x = 0.0
        extent_y = 0.0
        stack[0] = 0
        top = 1
        while top > 0:
            top -= 1
            node = stack[top]
            gap = 0.0
            for c in range(d):
                q = sorted_points[p, c]
                gap = max(gap, max(low[node, c] - q, q - high[node, c]))
            if gap > radius:
                continue
            if 2 * node + 2 < nodes:
                stack[top] = 2 * node + 2
                stack[top + 1] = 2 * node + 1
                top += 2
                continue
            for r in range(begin[node], end[node]):
                dist_x = 0.0
                dist_y = 0.0
                for c in range(split):
                    dist_x = max(dist_x, abs(sorted_points[r, c] - sorted_points[p, c]))
                for c in range(split, d):
                    dist_y = max(dist_y, abs(sorted_points[r, c] - sorted_points[p, c]))
                if max(dist_x, dist_y) <= radius:
                    extent_x = max(extent_x, dist_x)
                    extent_y = max(extent_y, dist_y)
        out[p, 0] = extent_x
        out[p, 1] = extent_y


def threads() -> int:
    """Threads to use: NUMBA_NUM_THREADS or OMP_NUM_THREADS if set, else the cores of this process."""
    for variable in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS"):
        if os.environ.get(variable, "").isdigit():
            return max(1, int(os.environ[variable]))
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _over_rows(kernel, n: int) -> None:
    """kernel(first, last) over chunks of 0..n, on all cores when there is enough to do."""
    workers = threads()
    if workers == 1 or n < 2000:
        kernel(0, n)
        return
    edges = np.linspace(0, n, 4 * workers + 1).astype(int).tolist()  # 4 chunks each: costs differ by region
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(kernel, edges[:-1], edges[1:]))


class Tree:
    """A kd-tree over points float64 [n, d], to be asked about its own points (or, for counts, about any)."""

    def __init__(self, points: np.ndarray):
        points = np.ascontiguousarray(points, dtype=np.float64)
        self.order, *self._nodes = _build(points, LEAF)
        self.points = points[self.order]

    def nearest(self, k: int) -> np.ndarray:
        """Distances to the k nearest other points, ascending: [n, k]. Duplicates are at distance 0."""
        n = len(self.points)
        if not 1 <= k < n:
            raise ValueError(f"k must lie in 1..n-1, got k={k} with n={n}")
        out = np.empty((n, k))
        _over_rows(lambda a, b: _nearest(self.points, *self._nodes, k, a, b, out), n)
        return self._to_rows(out)

    def extents(self, radii: np.ndarray, split: int) -> np.ndarray:
        """The largest distances in columns < split and >= split among points within radii: [n, 2]."""
        n = len(self.points)
        out = np.empty((n, 2))
        radii = np.ascontiguousarray(radii[self.order])
        _over_rows(lambda a, b: _extents(self.points, radii, split, *self._nodes, a, b, out), n)
        return self._to_rows(out)

    def count(self, queries: np.ndarray, radii: np.ndarray, closed: bool = False) -> np.ndarray:
        """Points of the tree at distance < radii[i] (<= when closed) from queries[i]: int64 [queries]."""
        out = np.empty(len(queries), np.int64)
        _over_rows(
            lambda a, b: _count(queries, radii, closed, self.points, *self._nodes, a, b, out), len(queries)
        )
        return out

    def _to_rows(self, values: np.ndarray) -> np.ndarray:
        rows = np.empty_like(values)
        rows[self.order] = values
        return rows


class Line:
    """`Tree` for one dimension: a sorted array."""

    def __init__(self, points: np.ndarray):
        self.points = np.sort(np.ascontiguousarray(points, dtype=np.float64).reshape(-1))

    def count(self, queries: np.ndarray, radii: np.ndarray, closed: bool = False) -> np.ndarray:
        queries = np.ascontiguousarray(queries).reshape(-1)
        out = np.empty(len(queries), np.int64)
        _over_rows(lambda a, b: _count_sorted(queries, radii, closed, self.points, a, b, out), len(queries))
        return out


def nearest(points: np.ndarray, k: int) -> np.ndarray:
    """points [n, d] -> distances to the k nearest other points, ascending [n, k]."""
    return Tree(points).nearest(k)


def count_within(points: np.ndarray, radii: np.ndarray, closed: bool = False) -> np.ndarray:
    """points [n, d], radii [n] -> how many *other* points lie at distance < radii[i] (<= when closed)."""
    points = np.ascontiguousarray(points, dtype=np.float64)
    radii = np.ascontiguousarray(radii, dtype=np.float64)
    if points.shape[1] == 1:
        inside = Line(points).count(points, radii, closed)
    else:
        tree = Tree(points)
        # Neighbouring queries walk the same branches: ask in tree order.
        inside = tree._to_rows(tree.count(tree.points, np.ascontiguousarray(radii[tree.order]), closed))
    # The point itself is at distance 0: inside, unless the ball is open and empty.
    return inside - (1 if closed else (radii > 0).astype(np.int64))
