"""A kd-tree whose leaves are scanned by vector instructions: the compiled part of `neighbours.Tree`.

Leaves hold LEAF points each, column by column: `blocks` float64 [leaves, columns, LEAF], where an odd last column is
repeated and the last leaf filled up with infinity. Nodes are numbered as in a heap: the root is 1, node i has the
children 2 i and 2 i + 1, leaf b is node `top` + b. `low`, `high` [nodes, columns] are their boxes.

The queries are the points themselves, one leaf of them at a time, so that what lies beyond the reach of all is passed
over at once. Every distance is max_c |a_c - b_c| in float64. Passing over boxes keeps this exact: fl(a - b) is
monotone in a, so where the nearest corner of a box lies beyond the radius, so do its points, in floating point too.
"""

from __future__ import annotations

import numba
import numpy as np

LEAF = 64  # measured: 32 is slower and 128 no faster
_jit = numba.njit(cache=True, nogil=True, boundscheck=False, fastmath={"nnan", "nsz"})  # no NaN comes here
# Parts of the hot loop of `nearest`, which would be a tenth slower with a call in it.
_inlined = numba.njit(cache=True, nogil=True, boundscheck=False, fastmath={"nnan", "nsz"}, inline="always")


@_jit
def _span(node, top, n):
    """The tree positions below a node: begin, end (could it hold all it has room for), and end among n points."""
    first, width = node, LEAF
    while first < top:
        first *= 2
        width *= 2
    begin = (first - top) * LEAF
    return begin, begin + width, min(n, begin + width)


@_jit
def split(columns, order, keys, top):
    """Order the rows so that each node's children lie on either side of a cut across its widest side.

    columns: [d, n]. order: int64 [n], tree position -> row, changed in place. keys: [n], scratch.
    The side is measured on 64 of the rows, which is all it takes; cuts are at full leaves.
    """
    d, n = columns.shape
    for node in range(1, top):
        begin, room, end = _span(node, top, n)
        cut = (begin + room) // 2
        if cut >= end:
            continue
        step = max(1, (end - begin) // 64)
        widest, width = 0, -1.0
        for c in range(d):
            least = greatest = columns[c, order[begin]]
            for p in range(begin, end, step):
                v = columns[c, order[p]]
                least = min(least, v)
                greatest = max(greatest, v)
            if greatest - least > width:
                widest, width = c, greatest - least
        for p in range(begin, end):
            keys[p] = columns[widest, order[p]]
        # Hoare's selection: the smaller keys go to positions below the cut.
        left, right = begin, end - 1
        while left < right:
            a, b, c = keys[left], keys[(left + right) // 2], keys[right]
            pivot = max(min(a, b), min(max(a, b), c))
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
            if cut <= j:
                right = j
            elif cut >= i:
                left = i
            else:
                break


@_jit
def fill(columns, order, top, blocks, low, high):
    """Copy the rows to `blocks` and measure all boxes. Nodes without points keep low = inf, high = -inf."""
    d, n = columns.shape
    for leaf in range(len(blocks)):
        for c in range(blocks.shape[1]):
            least, greatest = np.inf, -np.inf
            for j in range(min(LEAF, n - leaf * LEAF)):
                v = columns[min(c, d - 1), order[leaf * LEAF + j]]
                blocks[leaf, c, j] = v
                least = min(least, v)
                greatest = max(greatest, v)
            low[top + leaf, c] = least
            high[top + leaf, c] = greatest
    for node in range(top - 1, 0, -1):
        for c in range(low.shape[1]):
            low[node, c] = min(low[2 * node, c], low[2 * node + 1, c])
            high[node, c] = max(high[2 * node, c], high[2 * node + 1, c])


# --- vector loops: LEAF numbers each, two columns a pass ------------------------------------------------------
# `work` [2, LEAF] is written on one side and read on the other: updating in place would keep LLVM from vectorising.


@_jit
def _distances(blocks, other, leaf, q, work):
    """work[side, j] = distance from point q of `leaf` to point j of the leaf `other` -> side."""
    side = 0
    for c in range(0, blocks.shape[1], 2):
        a, b = blocks[leaf, c, q], blocks[leaf, c + 1, q]
        if c == 0:
            for j in range(LEAF):
                work[0, j] = max(abs(blocks[other, 0, j] - a), abs(blocks[other, 1, j] - b))
        else:
            for j in range(LEAF):
                far = max(abs(blocks[other, c, j] - a), abs(blocks[other, c + 1, j] - b))
                work[1 - side, j] = max(work[side, j], far)
            side = 1 - side
    return side


@_jit
def _gaps(blocks, leaf, low, high, node, work):
    """work[side, q] = how far point q of `leaf` is from the box of `node`, at most 0 inside -> side."""
    side = 0
    for c in range(0, blocks.shape[1], 2):
        a, b, e, f = low[node, c], high[node, c], low[node, c + 1], high[node, c + 1]
        if c == 0:
            for q in range(LEAF):
                u, v = blocks[leaf, 0, q], blocks[leaf, 1, q]
                work[0, q] = max(max(a - u, u - b), max(e - v, v - f))
        else:
            for q in range(LEAF):
                u, v = blocks[leaf, c, q], blocks[leaf, c + 1, q]
                work[1 - side, q] = max(work[side, q], max(max(a - u, u - b), max(e - v, v - f)))
            side = 1 - side
    return side


@_jit
def _insert(ranks, work, side):
    """Put each work[side, q] in its place among ranks[1:, q], ascending. ranks[0] is below all."""
    for t in range(len(ranks) - 2, -1, -1):
        for q in range(LEAF):
            v = min(ranks[t + 1, q], work[side, q])
            ranks[t + 1, q] = max(ranks[t, q], v)


@_jit
def _fewer(work, side, limit):
    number = 0
    for j in range(LEAF):
        number += 1 if work[side, j] < limit else 0
    return number


@_jit
def _reaching(work, side, radii, which):
    """which[:m] = the queries q with work[side, q] < radii[q] -> m. `which` has room for one more."""
    some = 0
    for q in range(LEAF):
        some += 1 if work[side, q] < radii[q] else 0
    m = 0
    if some > 0:
        for q in range(LEAF):
            which[m] = q
            m += 1 if work[side, q] < radii[q] else 0
    return m


# --- searches -------------------------------------------------------------------------------------------------


@_jit
def _gap(low, high, a, b):
    """How far apart the boxes of nodes a and b are: below 0 when they overlap."""
    gap = -np.inf
    for c in range(low.shape[1]):
        gap = max(gap, max(low[b, c] - high[a, c], low[a, c] - high[b, c]))
    return gap


@_jit
def _push(stack, gaps, held, node, gap, widest):
    if gap < widest:
        stack[held], gaps[held] = node, gap
        held += 1
    return held


@_inlined
def _own_leaf(blocks, leaf, size, ranks, radii, work):
    """Begin ranks and radii with the points of the leaf itself, for all queries at once -> the largest radius."""
    k = len(ranks) - 1
    for q in range(LEAF):
        ranks[0, q] = -1.0
        for t in range(1, k + 1):
            ranks[t, q] = np.inf
    for j in range(size):
        side = _distances(blocks, leaf, leaf, j, work)
        work[side, j] = np.inf
        _insert(ranks, work, side)
    widest = -1.0
    for q in range(LEAF):
        radii[q] = ranks[k, q] if q < size else -1.0
        widest = max(widest, radii[q])
    return widest


@_jit
def _push_relatives(low, high, own, widest, stack, gaps):
    """Put the siblings of a leaf's ancestors on the stack, the closest relatives on top -> how many."""
    height, held = 0, 0
    while (own >> height) > 1:
        height += 1
    for h in range(height - 1, -1, -1):
        other = (own >> h) ^ 1
        held = _push(stack, gaps, held, other, _gap(low, high, own, other), widest)
    return held


@_inlined
def _other_leaf(blocks, other, leaf, which, m, ranks, radii, work):
    """Improve ranks and radii of the queries which[:m] of `leaf` by the points of `other` -> whether any did."""
    k = len(ranks) - 1
    nearer = False
    for w in range(m):
        q = which[w]
        side = _distances(blocks, other, leaf, q, work)
        if _fewer(work, side, radii[q]) > 0:
            nearer = True
            for j in range(LEAF):
                v = work[side, j]
                if v < radii[q]:
                    t = k
                    while ranks[t - 1, q] > v:
                        ranks[t, q] = ranks[t - 1, q]
                        t -= 1
                    ranks[t, q] = v
                    radii[q] = ranks[k, q]
    return nearer


@_jit
def nearest(blocks, low, high, top, n, first, last, best):
    """best[leaf, :, q] = distances from point q of leaves first..last to its k nearest other points, ascending."""
    k = best.shape[1]
    ranks = np.empty((k + 1, LEAF))
    radii = np.empty(LEAF)
    work = np.empty((2, LEAF))
    which = np.empty(LEAF + 1, np.int64)
    stack = np.empty(128, np.int64)
    gaps = np.empty(128)
    for leaf in range(first, last):
        own = top + leaf
        widest = _own_leaf(blocks, leaf, min(LEAF, n - leaf * LEAF), ranks, radii, work)
        held = _push_relatives(low, high, own, widest, stack, gaps)
        while held > 0:
            held -= 1
            if gaps[held] >= widest:
                continue
            node = stack[held]
            if node < top:
                gap_a, gap_b = _gap(low, high, own, 2 * node), _gap(low, high, own, 2 * node + 1)
                far = 1 if gap_a < gap_b else 0
                held = _push(stack, gaps, held, 2 * node + far, max(gap_a, gap_b), widest)
                held = _push(stack, gaps, held, 2 * node + 1 - far, min(gap_a, gap_b), widest)
                continue
            side = _gaps(blocks, leaf, low, high, node, work)
            m = _reaching(work, side, radii, which)
            if _other_leaf(blocks, node - top, leaf, which, m, ranks, radii, work):
                widest = -1.0
                for q in range(LEAF):
                    widest = max(widest, radii[q])
        for t in range(k):
            for q in range(LEAF):
                best[leaf, t, q] = ranks[t + 1, q]


@_jit
def _around(low, high, top, n, leaf, least, most, whole, stack, found):
    """found[:m] = leaves within the radius `most` of some query of `leaf` -> m, number of points in reach of all.

    The latter are those of nodes that lie wholly within every radius `least`; whole=False puts them in `found` too.
    """
    own = top + leaf
    widest, narrowest = 0.0, np.inf
    for q in range(LEAF):
        widest = max(widest, most[q])
        narrowest = min(narrowest, least[q])
    m, inside = 0, 0
    stack[0], held = 1, 1
    while held > 0:
        held -= 1
        node = stack[held]
        gap, reach = -np.inf, -np.inf
        for c in range(low.shape[1]):
            a, b = low[node, c] - high[own, c], high[node, c] - low[own, c]
            gap = max(gap, max(a, -b))
            reach = max(reach, max(-a, b))
        if gap >= widest:
            continue
        if whole and reach < narrowest:
            begin, _, end = _span(node, top, n)
            inside += end - begin
        elif node < top:
            stack[held], stack[held + 1] = 2 * node + 1, 2 * node
            held += 2
        else:
            found[m] = node - top
            m += 1
    return m, inside


@_jit
def count(blocks, low, high, top, n, radii, least, most, first, last, total):
    """total[leaf, q, b] = points, itself among them, at distance < radii[leaf, q, b] from point q of first..last.

    Several radii a point, of which `least` is the smallest > 0 and `most` the largest, measure each distance once.
    """
    away = np.empty((2, LEAF))
    work = np.empty((2, LEAF))
    which = np.empty(LEAF + 1, np.int64)
    stack = np.empty(128, np.int64)
    found = np.empty(len(blocks), np.int64)
    many = radii.shape[2]
    for leaf in range(first, last):
        m, inside = _around(low, high, top, n, leaf, least[leaf], most[leaf], True, stack, found)
        for q in range(LEAF):
            for b in range(many):
                total[leaf, q, b] = inside if radii[leaf, q, b] > 0.0 else 0
        for f in range(m):
            gaps = _gaps(blocks, leaf, low, high, top + found[f], away)
            reaching = _reaching(away, gaps, most[leaf], which)
            for w in range(reaching):
                q = which[w]
                side = _distances(blocks, found[f], leaf, q, work)
                for b in range(many):
                    if away[gaps, q] < radii[leaf, q, b]:
                        total[leaf, q, b] += _fewer(work, side, radii[leaf, q, b])


@_jit
def extents(blocks, low, high, top, n, radii, split_at, first, last, out):
    """out[leaf, :, q] = the largest distance in columns < split_at, and in the others, among points < radii[leaf, q].

    All points nearer than the radius count, so the answer does not depend on how ties are ordered.
    """
    work = np.empty((2, LEAF))
    which = np.empty(LEAF + 1, np.int64)
    stack = np.empty(128, np.int64)
    found = np.empty(len(blocks), np.int64)
    for leaf in range(first, last):
        for q in range(LEAF):
            out[leaf, 0, q] = out[leaf, 1, q] = 0.0
        m, _ = _around(low, high, top, n, leaf, radii[leaf], radii[leaf], False, stack, found)
        for f in range(m):
            side = _gaps(blocks, leaf, low, high, top + found[f], work)
            reaching = _reaching(work, side, radii[leaf], which)
            for w in range(reaching):
                q = which[w]
                side = _distances(blocks, found[f], leaf, q, work)
                for j in range(LEAF):
                    if work[side, j] < radii[leaf, q]:
                        for c in range(blocks.shape[1]):
                            y = 0 if c < split_at else 1
                            v = abs(blocks[found[f], c, j] - blocks[leaf, c, q])
                            out[leaf, y, q] = max(out[leaf, y, q], v)
