"""The compiled form of the ops: one image at a time, from its 8-bit pixels to a normalised float view, in its cache.

`run` is an interpreter. Each image has a row of instructions (`ops.Kind`) with up to four numbers each, as `Op.steps`
wrote them, so a batch in which every image goes another way costs no more than one in which all go the same. The crop
reads only its box, the other steps change the view where it lies, and the normalisation is the last of them.

Values are those of the torch ops up to rounding: weights of the filters are computed by the same float32 operations in
the same order, sums may run in another order. Nothing here knows of other images, threads or batches.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from ssl_mi.data.images.ops import LUMA, Kind


def compiled(**options: Any) -> Callable[[Callable], Any]:
    """`numba.njit`, kept on disk for the next process; in memory alone where numba may write no folder."""

    def decorate(function: Callable) -> Any:
        try:
            return numba.njit(cache=True, nogil=True, boundscheck=False, **options)(function)
        except RuntimeError:  # that neither this package's folder nor the user's cache can be written
            return numba.njit(nogil=True, boundscheck=False, **options)(function)

    return decorate


# What is called from here alone needs no way in from Python, which would take as long to compile again.
_inner = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
_exact = compiled(**_inner)
# No NaN comes here. Sums may be regrouped, and products and sums joined, so that the loops run on vectors.
_vector = compiled(fastmath={"nnan", "nsz", "reassoc", "contract"}, **_inner)

_NOTHING, _CROP, _CROP_CUBIC = int(Kind.NOTHING), int(Kind.CROP), int(Kind.CROP_CUBIC)
_FLIP, _BRIGHTNESS, _CONTRAST = int(Kind.FLIP), int(Kind.BRIGHTNESS), int(Kind.CONTRAST)
_SATURATION, _HUE, _LUMA, _CHROMA = int(Kind.SATURATION), int(Kind.HUE), int(Kind.LUMA), int(Kind.CHROMA)
_BLUR, _SOLARIZE = int(Kind.BLUR), int(Kind.SOLARIZE)

# A literal would be a float64, and every product with it.
_R, _G, _B = (np.float32(weight) for weight in LUMA)
_ZERO, _HALF, _ONE, _1_5, _TWO, _2_5, _THREE, _FOUR, _SIX = (np.float32(x) for x in (0, 0.5, 1, 1.5, 2, 2.5, 3, 4, 6))
_SIXTH, _TINY, _BYTE = np.float32(1 / 6), np.float32(1e-20), np.float32(255)
_NEXT = np.uint32(1)
_MARGIN = np.float32(1e-3)  # pixels: whether a pixel at the end of a filter counts is decided by its weight
_PIECE = 2048  # numbers
_NEGLIGIBLE = 1e-9  # of a Gaussian's height: all that is beyond adds less than float32 resolves


@_exact
def _taps(length, target, cubic, first, weights):
    """The filter of each of `target` points over `length` pixels; returns how many taps the widest has, at least 2.

    first: uint32 [target]; weights: float32 [taps, target], 0 where a filter has fewer. The float32 operations are
    those of `geometry.interpolation_matrix`, one by one: rounded another way a filter moves by 1e-5 pixels.
    """
    step = np.float32(length) / np.float32(target)
    widen = step if step > _ONE else _ONE
    reach = _TWO if cubic else _ONE
    most = 2
    for i in range(target):
        centre = step * (np.float32(i) + _HALF) / widen
        low = max(0, int(np.ceil((centre - reach) * widen - _HALF - _MARGIN)))
        high = min(length - 1, int(np.floor((centre + reach) * widen - _HALF + _MARGIN)))
        total = _ZERO
        for p in range(low, high + 1):
            w = _weight(abs((np.float32(p) + _HALF) / widen - centre), cubic)
            weights[p - low, i] = w
            total += w
        for t in range(high + 1 - low):
            weights[t, i] /= total
        for t in range(high + 1 - low, weights.shape[0]):
            weights[t, i] = _ZERO
        first[i] = low
        most = max(most, high + 1 - low)
    return most


@_exact
def _weight(d, cubic):
    """The triangle, or Keys' cubic with a = -1/2, at distance d."""
    if not cubic:
        return max(_ONE - d, _ZERO)
    if d <= _ONE:
        return (_1_5 * d - _2_5) * d * d + _ONE
    return ((_2_5 - _HALF * d) * d - _FOUR) * d + _TWO if d < _TWO else _ZERO


@_vector
def _across(pixels, box, first, weights, taps, line, rows):
    """The rows of a box of uint8 pixels [H, W], in [0, 1], each through the filters of the columns."""
    top, left, w = int(box[0]), int(box[1]), int(box[3])
    for y in range(int(box[2])):
        for x in range(w):
            line[x] = np.float32(pixels[top + y, left + x]) / _BYTE
        for x in range(rows.shape[1]):
            p = first[x]
            rows[y, x] = weights[0, x] * line[p] + weights[1, x] * line[p + _NEXT]
        for t in range(2, taps):
            shift = np.uint32(t)
            for x in range(rows.shape[1]):
                rows[y, x] += weights[t, x] * line[first[x] + shift]


@_vector
def _down(rows, first, weights, taps, plane):
    """The rows of a view, [size * size], each from the rows that its filter reads."""
    size = rows.shape[1]
    for y in range(size):
        p, start = first[y], y * size
        w0, w1 = weights[0, y], weights[1, y]
        for x in range(size):
            plane[start + x] = w0 * rows[p, x] + w1 * rows[p + _NEXT, x]
        for t in range(2, taps):
            w, more = weights[t, y], p + np.uint32(t)
            for x in range(size):
                plane[start + x] += w * rows[more, x]


@_exact
def _crop(image, box, cubic, view, rows, line):
    """A box of an image, uint8 [c, h, w], resized to the view, float32 [c, size * size]."""
    size = rows.shape[1]
    # As many taps as reach across the widest filter; a line and the rows hold numbers behind their ends to weigh by 0.
    taps = int(2 * (2 if cubic else 1) * max(_ONE, max(box[2], box[3]) / np.float32(size))) + 2
    first_row, first_column = np.empty(size, np.uint32), np.empty(size, np.uint32)
    row_weights, column_weights = np.empty((taps, size), np.float32), np.empty((taps, size), np.float32)
    down = _taps(int(box[2]), size, cubic, first_row, row_weights)
    across = _taps(int(box[3]), size, cubic, first_column, column_weights)
    for c in range(len(image)):
        _across(image[c], box, first_column, column_weights, across, line, rows)
        _down(rows, first_row, row_weights, down, view[c])
        if cubic:
            _scale(view[c], _ONE, _ZERO)


@_exact
def _mirror(view, width):
    for c in range(view.shape[0]):
        for start in range(0, view.shape[1], width):
            row = view[c, start : start + width]
            for x in range(width // 2):
                row[x], row[width - 1 - x] = row[width - 1 - x], row[x]


@_vector
def _scale(plane, factor, offset):
    """clamp(factor x + offset)."""
    for i in range(len(plane)):
        x = factor * plane[i] + offset
        x = x if x > _ZERO else _ZERO
        plane[i] = x if x < _ONE else _ONE


@_vector
def _luma_sum(red, green, blue):
    total = _ZERO
    for i in range(len(red)):
        total += _R * red[i] + _G * green[i] + _B * blue[i]
    return total


@_vector
def _sum(plane):
    total = _ZERO
    for i in range(len(plane)):
        total += plane[i]
    return total


@_exact
def _mean_luma(view):
    """Rows of 256 in float32, their sums in float64."""
    n = view.shape[1]
    total = 0.0
    for start in range(0, n, 256):
        stop = min(n, start + 256)
        if len(view) == 3:
            total += np.float64(_luma_sum(view[0, start:stop], view[1, start:stop], view[2, start:stop]))
        else:
            total += np.float64(_sum(view[0, start:stop]))
    return np.float32(total / n)


@_vector
def _saturate(red, green, blue, factor):
    rest = _ONE - factor
    for i in range(len(red)):
        r, g, b = red[i], green[i], blue[i]
        grey = rest * (_R * r + _G * g + _B * b)
        r, g, b = factor * r + grey, factor * g + grey, factor * b + grey
        r, g, b = r if r > _ZERO else _ZERO, g if g > _ZERO else _ZERO, b if b > _ZERO else _ZERO
        red[i], green[i], blue[i] = r if r < _ONE else _ONE, g if g < _ONE else _ONE, b if b < _ONE else _ONE


@_vector
def _turn(red, green, blue, turns):
    """See `colour.turn_hue`. The hue runs in sixths of a turn: red 0, green 2, blue 4.

    A channel at distance d from its own hue, round the circle, is V - C clamp(d - 1, 0, 1).
    """
    shift = _SIX * turns
    for i in range(len(red)):
        r, g, b = red[i], green[i], blue[i]
        upper = g if g > b else b
        lower = g if g < b else b
        value = r if r > upper else upper
        smallest = r if r < lower else lower
        chroma = value - smallest
        from_red, from_green, from_blue = g - b, b - r, r - g
        over = from_green if g >= b else from_blue
        sector = _TWO if g >= b else _FOUR
        over = from_red if r >= upper else over
        sector = _ZERO if r >= upper else sector
        hue = over / (chroma if chroma > _TINY else _TINY) + sector + shift
        hue -= _SIX * np.floor(hue * _SIXTH)
        r = abs(hue - _THREE) - _ONE
        g = _TWO - abs(hue - _TWO)
        b = _TWO - abs(hue - _FOUR)
        r, g, b = r if r > _ZERO else _ZERO, g if g > _ZERO else _ZERO, b if b > _ZERO else _ZERO
        r, g, b = r if r < _ONE else _ONE, g if g < _ONE else _ONE, b if b < _ONE else _ONE
        red[i], green[i], blue[i] = smallest + chroma * r, smallest + chroma * g, smallest + chroma * b


@_vector
def _grey(red, green, blue):
    for i in range(len(red)):
        luma = _R * red[i] + _G * green[i] + _B * blue[i]
        red[i] = luma
        green[i] = luma
        blue[i] = luma


@_vector
def _colour_alone(red, green, blue):
    """See `colour.Chrominance`."""
    whole = _R + _G + _B
    wr, wg, wb = _R / whole, _G / whole, _B / whole
    for i in range(len(red)):
        r, g, b = red[i], green[i], blue[i]
        luma = wr * r + wg * g + wb * b
        red[i], green[i], blue[i] = (r - luma) * _HALF + _HALF, (g - luma) * _HALF + _HALF, (b - luma) * _HALF + _HALF


@_exact
def _solarize(plane, threshold):
    for i in range(len(plane)):
        x = plane[i]
        plane[i] = _ONE - x if x >= threshold else x


@_exact
def _gaussian(sigma, kernel):
    """kernel[d] = weight of a pixel at distance d, 0 beyond those that count; returns the last that does."""
    reach, total = 0, 0.0
    for d in range(len(kernel)):
        height = np.exp(-0.5 * (d / sigma) ** 2)
        kernel[d] = height
        total += height if d == 0 else 2 * height
        reach = d if height > _NEGLIGIBLE else reach
    for d in range(len(kernel)):
        kernel[d] = kernel[d] / total if d <= reach else 0
    return reach


@_vector
def _add(weight, one, other, then, third, fourth, out):
    """Two pairs of pixels at equal distances, one on either side."""
    for x in range(len(out)):
        out[x] += weight * (one[x] + other[x]) + then * (third[x] + fourth[x])


@_vector
def _times(weight, row, out):
    for x in range(len(out)):
        out[x] = weight * row[x]


@_vector
def _copy(row, out):
    for x in range(len(row)):
        out[x] = row[x]


@_exact
def _convolve(source, step, kernel, reach, start, stop, out):
    """out[i] = sum_d kernel[|d|] source[i + d step] for start <= i < stop, a piece at a time, for the cache."""
    for low in range(start, stop, _PIECE):
        part = out[low : min(low + _PIECE, stop)]
        _times(kernel[0], source[low:], part)
        for d in range(1, reach + 1, 2):
            e = min(d + 1, reach)
            _add(kernel[d], source[low - d * step :], source[low + d * step :],
                 kernel[e] if e > d else _ZERO, source[low - e * step :], source[low + e * step :], part)  # fmt: skip


@_exact
def _pad(plane, width, reach, out):
    """A plane [h * w] with `reach` pixels more on every side, reflected; the outermost pixel is there once."""
    height, stride = len(plane) // width, width + 2 * reach
    for y in range(height + 2 * reach):
        start = _reflect(y - reach, height) * width
        row, to = plane[start : start + width], out[y * stride : (y + 1) * stride]
        _copy(row, to[reach:])
        for d in range(1, reach + 1):
            to[reach - d] = row[d]
            to[reach + width - 1 + d] = row[width - 1 - d]


@_exact
def _blur(view, width, sigma, taps, padded, across):
    """The planes of a view blurred where they lie: along their rows, then down their columns, as one long line each.

    What the line carries over from one row to the next ends up in the padding alone.
    """
    kernel = np.empty(taps // 2 + 1, np.float32)
    reach = _gaussian(np.float64(sigma), kernel)
    height, stride = view.shape[1] // width, width + 2 * reach
    length = (height + 2 * reach) * stride
    for c in range(len(view)):
        _pad(view[c], width, reach, padded)
        _convolve(padded, 1, kernel, reach, reach, length - reach, across)
        _convolve(across, stride, kernel, reach, reach * stride, (reach + height) * stride, padded)
        for y in range(height):
            _copy(padded[(y + reach) * stride + reach : (y + reach + 1) * stride - reach], view[c, y * width :])


@_exact
def _widest(kinds, numbers, start, stop):
    """The most taps of a blur."""
    taps = 1
    for i in range(start, stop):
        for k in range(kinds.shape[1]):
            if kinds[i, k] == _BLUR:
                taps = max(taps, int(numbers[i, k, 1]))
    return taps


@_exact
def _reflect(i, n):
    i = abs(i)
    return min(i, 2 * (n - 1) - i)


@_exact
def _colour(view, kind, amount):
    """The steps on each pixel's own channels. Grey images have no hue, no saturation, and are their own luma."""
    if kind == _BRIGHTNESS:
        for c in range(len(view)):
            _scale(view[c], amount, _ZERO)
    elif kind == _CONTRAST:
        offset = (_ONE - amount) * _mean_luma(view)
        for c in range(len(view)):
            _scale(view[c], amount, offset)
    elif kind == _SOLARIZE:
        for c in range(len(view)):
            _solarize(view[c], amount)
    elif len(view) == 3:
        if kind == _SATURATION:
            _saturate(view[0], view[1], view[2], amount)
        elif kind == _HUE:
            _turn(view[0], view[1], view[2], amount)
        elif kind == _LUMA:
            _grey(view[0], view[1], view[2])
        elif kind == _CHROMA:
            _colour_alone(view[0], view[1], view[2])


@_vector
def _whole(image, view):
    """All of an image, uint8 [c, h, w], in [0, 1]."""
    width = image.shape[2]
    for c in range(image.shape[0]):
        for y in range(image.shape[1]):
            for x in range(width):
                view[c, y * width + x] = np.float32(image[c, y, x]) / _BYTE


@_vector
def _normalise(plane, mean, scale):
    for i in range(len(plane)):
        plane[i] = (plane[i] - mean) * scale


@_exact
def _begin(image, kinds, numbers, view, rows, line):
    """The crop, or the whole image; returns the place of the next instruction."""
    if len(kinds) > 0 and (kinds[0] == _CROP or kinds[0] == _CROP_CUBIC):
        _crop(image, numbers[0], kinds[0] == _CROP_CUBIC, view, rows, line)
        return 1
    _whole(image, view)
    return 0


@_exact
def _until_blur(kinds, numbers, k, view, width):
    """The instructions from the k-th on; returns the place of the first blur, or how many instructions there are."""
    while k < len(kinds) and kinds[k] != _BLUR:
        if kinds[k] == _FLIP:
            _mirror(view, width)
        elif kinds[k] != _NOTHING:
            _colour(view, kinds[k], numbers[k, 0])
        k += 1
    return k


@_exact
def _buffers(images, out):
    """A line of pixels and the rows of a crop, with numbers behind their ends to weigh by 0."""
    height, width = out.shape[2], out.shape[3]
    longest = max(images.shape[2], images.shape[3], height, width)
    more = 4 * (longest // width + 1) + 16
    return np.zeros(longest + more, np.float32), np.zeros((images.shape[2] + more, width), np.float32)


@compiled()
def run(images, kinds, numbers, mean, scale, start, stop, out):
    """Views `start` to `stop` of `out`: float32 [n, c, h, w], each of its own image and row of instructions.

    images: uint8 [n, c, H, W]; kinds: int64 [n, k], no blur; numbers: float32 [n, k, 4]; mean, scale: float32 [c], of
    (x - mean) * scale at the end. Without a crop as the first instruction a view begins as its whole image.
    """
    channels, width = out.shape[1], out.shape[3]
    line, rows = _buffers(images, out)
    for i in range(start, stop):
        view = out[i].reshape(channels, out.shape[2] * width)
        k = _begin(images[i], kinds[i], numbers[i], view, rows, line)
        if _until_blur(kinds[i], numbers[i], k, view, width) < kinds.shape[1]:
            raise ValueError("instructions with a blur are run by run_with_blur")
        for c in range(channels):
            _normalise(view[c], mean[c], scale[c])


@compiled()
def run_with_blur(images, kinds, numbers, mean, scale, start, stop, out):
    """`run` of any instructions. Apart: its code takes half as long again to compile, and many views need none."""
    channels, height, width = out.shape[1], out.shape[2], out.shape[3]
    line, rows = _buffers(images, out)
    reach = _widest(kinds, numbers, start, stop) // 2
    blurred = np.zeros((2, (height + 2 * reach) * (width + 2 * reach)), np.float32)
    for i in range(start, stop):
        view = out[i].reshape(channels, height * width)
        k = _begin(images[i], kinds[i], numbers[i], view, rows, line)
        k = _until_blur(kinds[i], numbers[i], k, view, width)
        while k < kinds.shape[1]:
            _blur(view, width, numbers[i, k, 0], int(numbers[i, k, 1]), blurred[0], blurred[1])
            k = _until_blur(kinds[i], numbers[i], k + 1, view, width)
        for c in range(channels):
            _normalise(view[c], mean[c], scale[c])


def kept(kernel: Any) -> bool:
    """Whether the compiled code of `run` or `run_with_blur` is on disk for the next process."""
    return bool(kernel.stats.cache_path)
