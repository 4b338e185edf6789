"""Brute force for `neighbours`: every row against all others, where a tree can prune little. O(n²) time, O(n) memory.

Distances are taken in float32, eight at a time; whatever lies within their error of a decision is decided in float64,
so the answers are those of the trees, to the last bit.
"""

from __future__ import annotations

import numba
import numpy as np

BLOCK = 256  # rows whose smallest distance is kept, to skip most of them
FAR = np.float32(np.finfo(np.float32).max)  # the distance of a row to itself, to keep it out
_jit = numba.njit(cache=True, nogil=True, boundscheck=False)


def in_float32(values):
    """values [n, d] -> its centred columns in float32, the last repeated to make them 4 m: [4 m, n]; error bound."""
    low, high = values.min(0), values.max(0)
    centred = values - (low / 2 + high / 2)
    repeated = np.minimum(np.arange(-(-values.shape[1] // 4) * 4), values.shape[1] - 1)
    # Two roundings to float32 and one of the difference, of numbers up to `largest`.
    largest = max(np.abs(centred).max(), np.finfo(np.float32).tiny)
    return np.ascontiguousarray(centred.T[repeated].astype(np.float32)), float(largest * 2.0**-21)


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
def scan(x, y, x32, y32, slack_x, slack_y, k, first, last, radii, inside_x, inside_y):
    """Radius of the k-th joint neighbour and the strict marginal counts, of rows first..last, against all rows.

    x: [n, dx], x32: its columns in float32 (some twice) [4 m, n], slack_x: bounds the error of distances in x32.
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
