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

LEAF = 12  # points in a leaf, at most
BLOCK = 256  # rows whose smallest distance is kept, to skip most of them
FAR = np.float32(np.finfo(np.float32).max)  # the distance of a row to itself, to keep it out
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
        _over_rows(lambda a, b: _count(queries, radii, closed, self.points, *self._nodes, a, b, out), len(queries))
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


# No NaN or -0.0 reaches these loops, and a count below 2^24 is exact in float32: with that said, they vectorise.
_vector = numba.njit(cache=True, nogil=True, fastmath={"nnan", "nsz", "reassoc"})


@_vector
def _gaps(columns, i, out, spare):
    """max_c |columns[c, j] - columns[c, i]| for all j, four columns a pass; columns: float32 [4 m, n].

    Returns the buffer with the answer. (Reading and writing the same array would keep LLVM from vectorising.)
    """
    d, n = columns.shape
    for c in range(0, d, 4):
        r0, r1, r2, r3 = columns[c], columns[c + 1], columns[c + 2], columns[c + 3]
        q0, q1, q2, q3 = r0[i], r1[i], r2[i], r3[i]
        first = c == 0
        for j in range(n):
            a, b = abs(r0[j] - q0), abs(r1[j] - q1)
            a = a if a > b else b
            b, e = abs(r2[j] - q2), abs(r3[j] - q3)
            b = b if b > e else e
            a = a if a > b else b
            b = np.float32(0) if first else out[j]
            spare[j] = a if a > b else b
        out, spare = spare, out
    return out


@_vector
def _join(gap_x, gap_y, gap, least):
    """gap = max(gap_x, gap_y), and its smallest value in each block."""
    n = len(gap)
    for j in range(n):
        a, b = gap_x[j], gap_y[j]
        gap[j] = a if a > b else b
    for block in range(len(least)):
        part = gap[block * BLOCK : (block + 1) * BLOCK]
        low = part[0]
        for j in range(len(part)):
            low = part[j] if part[j] < low else low
        least[block] = low


@_vector
def _below(gaps, low, high):
    """How many gaps are < low, and how many < high."""
    few = np.float32(0)
    many = np.float32(0)
    for j in range(len(gaps)):
        few += np.float32(1) if gaps[j] < low else np.float32(0)
        many += np.float32(1) if gaps[j] < high else np.float32(0)
    return np.int64(few), np.int64(many)


@_jit
def _scan(x, y, x32, y32, slack_x, slack_y, k, first, last, radii, inside_x, inside_y):
    """Radius of the k-th joint neighbour and the strict marginal counts, of rows first..last, against all rows.

    Distances are taken in float32 first, eight at a time; `slack` bounds their error, and whatever lies within
    it of a decision is decided in float64. x: [n, dx], x32: its columns (some twice) [4 m, n].
    """
    n = len(x)
    far = np.float32(np.inf)
    buffers = np.empty((5, n), np.float32)
    gap = buffers[4]
    least = np.empty((n + BLOCK - 1) // BLOCK, np.float32)
    best32 = np.empty(k, np.float32)
    best = np.empty(k)
    slack = max(slack_x, slack_y)
    for i in range(first, last):
        gap_x = _gaps(x32, i, buffers[0], buffers[1])
        gap_y = _gaps(y32, i, buffers[2], buffers[3])
        gap_x[i] = FAR
        gap_y[i] = FAR
        _join(gap_x, gap_y, gap, least)
        for t in range(k):
            best32[t] = far
            best[t] = np.inf
        for block in range(len(least)):
            if least[block] < best32[k - 1]:
                for j in range(block * BLOCK, min(n, (block + 1) * BLOCK)):
                    _insert(best32, gap[j])
        # Every row whose float64 distance can be among the k smallest.
        limit = np.float32(best32[k - 1] + 2.1 * slack)
        for block in range(len(least)):
            if least[block] <= limit:
                for j in range(block * BLOCK, min(n, (block + 1) * BLOCK)):
                    if gap[j] <= limit:
                        _insert(best, max(_distance(x, i, j), _distance(y, i, j)))
        radii[i] = best[k - 1]
        inside_x[i] = _count_gaps(gap_x, x, i, radii[i], slack_x)
        inside_y[i] = _count_gaps(gap_y, y, i, radii[i], slack_y)


@_jit
def _insert(best, value):
    """Put value among the ascending `best`, dropping the largest."""
    if value < best[-1]:
        t = len(best) - 1
        while t > 0 and best[t - 1] > value:
            best[t] = best[t - 1]
            t -= 1
        best[t] = value


@_jit
def _distance(points, i, j):
    largest = 0.0
    for c in range(points.shape[1]):
        largest = max(largest, abs(points[j, c] - points[i, c]))
    return largest


@_jit
def _count_gaps(gaps, points, i, radius, slack):
    """How many rows j have |points[j] - points[i]| < radius, given float32 distances that are off by < slack."""
    low = np.float32(radius - 1.1 * slack)
    high = np.float32(radius + 1.1 * slack)
    total, possible = _below(gaps, low, high)
    if possible != total:
        for j in range(len(gaps)):
            if low <= gaps[j] < high and _distance(points, i, j) < radius:
                total += 1
    return total


def joint_counts(x: np.ndarray, y: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two questions of KSG: x [n, dx], y [n, dy] -> joint k-th distances [n], strict marginal counts [n], [n].

    By trees or by brute force, whichever is faster for these dimensions and rows; the answers are the same bits.
    """
    n, dims = len(x), x.shape[1] + y.shape[1]
    # Measured: equal at n = 10,000 in 5 + 5 dimensions, at 27,000 in 6 + 6, at 200,000 in 8 + 8.
    if dims <= 8 or n > 10_000 * 1.65 ** (dims - 10):
        radii = np.ascontiguousarray(nearest(np.concatenate([x, y], 1), k)[:, k - 1])
        return radii, count_within(x, radii), count_within(y, radii)
    return scan(x, y, k)


def scan(x: np.ndarray, y: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Brute force, O(n²) time and O(n) memory: joint k-th distances [n], strict marginal counts [n], [n].

    The same answers as trees, to the last bit; faster where a tree can prune little.
    """
    columns, slacks = [], []
    for values in (x, y):
        low, high = values.min(0), values.max(0)
        centred = values - (low / 2 + high / 2)
        repeated = np.minimum(np.arange(-(-values.shape[1] // 4) * 4), values.shape[1] - 1)
        columns.append(np.ascontiguousarray(centred.T[repeated].astype(np.float32)))
        # Two roundings to float32 and one of the difference, of numbers up to `largest`.
        largest = max(np.abs(centred).max(), np.finfo(np.float32).tiny)
        slacks.append(float(largest * 2.0**-21))
    n = len(x)
    radii, inside_x, inside_y = np.empty(n), np.empty(n, np.int64), np.empty(n, np.int64)
    args = (x, y, *columns, *slacks, k)
    _over_rows(lambda a, b: _scan(*args, a, b, radii, inside_x, inside_y), n)
    return radii, inside_x, inside_y
