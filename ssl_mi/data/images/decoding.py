"""One image file -> uint8 pixels `[h, w, channels]`, or an error that names the file and the remedy.

| in the file | what becomes of it |
|---|---|
| 8 bits: grey, RGB, palette, CMYK | RGB; with `channels=1` grey |
| alpha | dropped; kept with `channels=4` (RGBA) and `channels=2` (grey and alpha) |
| more than 8 bits | divided by the power of two that leaves 8 of the `bits` in use |
| floats, negative or larger integers | refused without `levels`, the two values that become 0 and 255 |
| other numbers of channels, `.npy` arrays | with `channels` equal to theirs |
| a rotation in EXIF | applied |
| several frames or pages | the first |

Files of more than `max_megapixels` are refused by their header. What is no regular file is never opened for reading.
"""

from __future__ import annotations

import importlib.util
import io
import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from ssl_mi.data.images.encoded import EncodedImage

# What a file is called decides whether it is looked at; what it holds decides how it is decoded.
EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".npy")
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF", "PPM")

File = str | EncodedImage  # what is decoded: a file by its path, or what is encoded inside something larger

MOST_MEGAPIXELS = 178.0  # beyond it Pillow refuses
_ORIENTATION, _TURNED = 0x0112, range(5, 9)  # EXIF: values that swap height and width
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_MEANING = {1: "grey", 3: "RGB"}


class UnreadableImage(ValueError):
    """An image file that cannot be used; the message names it.

    Attributes:
        path: The file, as it can be printed.
        why: What is wrong with it.
    """

    def __init__(self, message: str, path: str = "", why: str = "") -> None:
        super().__init__(message)
        self.path, self.why = path, why


class Raw(NamedTuple):
    """An image as its file holds it.

    Attributes:
        pixels: `[h, w, c]`, of any number type.
        alpha: Whether the last channel is transparency.
    """

    pixels: np.ndarray
    alpha: bool = False


@dataclass(frozen=True)
class Decoder:
    """How files become pixels (see the module).

    Attributes:
        channels: Of the pixels: 3 is RGB, 1 grey, 4 RGBA, 2 grey and alpha; others must be in the file.
        levels: (black, white): the values of pixels of more than 8 bits that become 0 and 255; what lies beyond is
            clipped. None: integers by `bits`, floats are refused.
        bits: In use in pixels of more than 8 bits, the same for all files of a set; a brighter pixel is an error. None:
            as many as the image at hand uses.
        max_megapixels: 10^6 pixels; a larger image is an error.
        key: Where the configuration has these settings, for messages.

    Raises:
        ValueError: Numbers out of range.
    """

    channels: int = 3
    levels: tuple[float, float] | None = None
    bits: int | None = None
    max_megapixels: float = 100.0
    key: str = "data.sets"

    def __post_init__(self) -> None:
        if isinstance(self.channels, bool) or not isinstance(self.channels, int) or self.channels < 1:
            raise ValueError(f"{self.key}.channels={self.channels}: use 1 (grey), 3 (RGB) or as many as the files have")
        if self.levels is not None:
            low_high = tuple(self.levels)
            numbers = all(isinstance(x, int | float) and math.isfinite(x) for x in low_high)
            if len(low_high) != 2 or not numbers or not low_high[0] < low_high[1]:
                raise ValueError(
                    f"{self.key}.levels={self.levels}: give the values of black and white, as [0, 4095], or null"
                )
            object.__setattr__(self, "levels", (float(low_high[0]), float(low_high[1])))
        if not 0 < self.max_megapixels <= MOST_MEGAPIXELS:
            raise ValueError(
                f"{self.key}.max_megapixels={self.max_megapixels} must be above 0 and at most {MOST_MEGAPIXELS:g}"
            )

    def __call__(self, path: File) -> np.ndarray:
        """The pixels, uint8 `[h, w, channels]`.

        Raises:
            UnreadableImage: If they cannot be had.
        """
        with _named(path, self.key):
            raw = self.raw(path)
            pixels = self._as_channels(self._as_bytes(raw.pixels), raw.alpha)
            return np.array(pixels) if isinstance(raw.pixels, np.memmap) else pixels

    def raw(self, path: File) -> Raw:
        """The pixels as the file holds them; decoders raise whatever they like on damaged files."""
        with opened(path) as file:
            if _is_npy(file):
                return Raw(self._array(file))
            if _needs_tifffile(file):
                return self._tiff(file)
            with Image.open(file, formats=FORMATS) as image:
                self._check_size(image.width, image.height)
                rawmode = _deep_rawmode(image)
                if rawmode is not None:
                    return _deep_png(file, rawmode)
                return Raw(*_pillow(image))

    def size(self, path: File) -> tuple[int, int]:
        """(height, width) from the header of the file.

        Raises:
            UnreadableImage: If the header shows that the file cannot be used.
        """
        with _named(path, self.key), opened(path) as file:
            if _is_npy(file):
                return self._array(file).shape[:2]
            if _needs_tifffile(file):
                height, width = _tiff_shape(file)
                self._check_size(width, height)
                return height, width
            with Image.open(file, formats=FORMATS) as image:
                self._check_size(image.width, image.height)
                turned = "exif" in image.info and image.getexif().get(_ORIENTATION) in _TURNED
                return (image.width, image.height) if turned else (image.height, image.width)

    def frames(self, path: File) -> int:
        """How many frames or pages a file has, of which the first is used."""
        with _named(path, self.key), opened(path) as file:
            if _is_npy(file) or _needs_tifffile(file):
                return 1
            with Image.open(file, formats=FORMATS) as image:
                return 1 if image.format == "JPEG" else int(getattr(image, "n_frames", 1))

    def settings(self) -> dict[str, Any]:
        """The arguments in plain values, which a checkpoint keeps."""
        levels = None if self.levels is None else list(self.levels)
        return {"channels": self.channels, "levels": levels, "bits": self.bits, "max_megapixels": self.max_megapixels}

    def _check_size(self, width: int, height: int) -> None:
        if width * height > self.max_megapixels * 1e6:
            raise ValueError(
                f"it has {width} x {height} pixels, more than {self.key}.max_megapixels={self.max_megapixels:g}: "
                "make it smaller, or raise that"
            )
        if width * height == 0:
            raise ValueError(f"it has {width} x {height} pixels")

    def _as_bytes(self, pixels: np.ndarray) -> np.ndarray:
        """Any numbers -> uint8, by `levels` or by the bits in use."""
        if pixels.dtype == np.uint8:
            return pixels
        if pixels.dtype == np.bool_:
            return pixels.astype(np.uint8) * np.uint8(255)
        low, high = pixels.min(), pixels.max()
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ValueError("some of its pixels are NaN or infinite")
        if self.levels is not None:
            black, white = self.levels
            scaled = (pixels.astype(np.float64) - black) * (255 / (white - black))
            return scaled.clip(0, 255).round().astype(np.uint8)
        if pixels.dtype.kind == "f" or low < 0 or high >= 2**16:
            raise ValueError(
                f"its pixels ({pixels.dtype}, {low:g} to {high:g}) have no known range: set {self.key}.levels to the "
                "values of black and white"
            )
        bits = bits_in_use(int(high)) if self.bits is None else self.bits
        if high >= 2**bits:
            raise ValueError(
                f"its pixels go up to {high}, and those of the files that were looked at first need {bits} bits, up "
                f"to {2**bits - 1}: set {self.key}.levels=[0, {2 ** bits_in_use(int(high)) - 1}]"
            )
        return (pixels >> (bits - 8)).astype(np.uint8)

    def _as_channels(self, pixels: np.ndarray, alpha: bool) -> np.ndarray:
        found, wanted = pixels.shape[2], self.channels
        if found == wanted:
            return pixels
        if alpha:
            return self._as_channels(pixels[..., :-1], alpha=False)
        if (found, wanted) == (1, 3):
            return np.repeat(pixels, 3, axis=2)
        if (found, wanted) == (3, 1):
            return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).convert("L"))[..., None]
        what = _MEANING.get(found, "")
        raise ValueError(
            f"it has {found} channel{'s' * (found != 1)}{f' ({what})' * bool(what)} and {self.key}.channels={wanted}: "
            f"with {self.key}.channels={found} set data.mean and data.std of {found} numbers, and "
            f"encoder.in_channels={found}"
        )

    def _array(self, file: BinaryIO) -> np.ndarray:
        """The array of a .npy file as `[h, w, c]`, read when it is used."""
        # A header that claims too much fails here. What is in memory already has no name to be mapped by.
        name = getattr(file, "name", None)
        array = np.load(name or file, mmap_mode="r" if name else None, allow_pickle=False)
        if array.dtype.kind not in "buif":
            raise ValueError(f"it holds values of type {array.dtype}; images are numbers")
        if array.ndim == 2:
            array = array[..., None]
        elif array.ndim == 3 and array.shape[2] != self.channels and array.shape[0] in (1, self.channels):
            array = array.transpose(1, 2, 0)
        if array.ndim != 3:
            raise ValueError(f"it is an array {list(array.shape)}; an image is [h, w], [h, w, c] or [c, h, w]")
        self._check_size(array.shape[1], array.shape[0])
        if array.shape[2] > 1024:
            raise ValueError(f"it is an array {list(array.shape)}: {array.shape[2]} channels are none of an image")
        return array

    def _tiff(self, file: BinaryIO) -> Raw:
        """A TIFF that Pillow would cut down: several channels of more than 8 bits, floats, many bands."""
        height, width = _tiff_shape(file)
        self._check_size(width, height)
        import tifffile

        file.seek(0)
        with tifffile.TiffFile(file) as tiff:
            page = tiff.pages[0]
            pixels, axes = page.asarray(), page.axes
            extra = tuple(getattr(page, "extrasamples", ()) or ())
        if axes == "SYX":
            pixels = pixels.transpose(1, 2, 0)
        elif axes == "YX":
            pixels = pixels[..., None]
        elif axes != "YXS":
            raise ValueError(f"its first page has the axes {axes}; an image has height, width and channels")
        alpha = pixels.shape[2] in (2, 4) and len(extra) == 1 and int(extra[0]) in (1, 2)
        return Raw(pixels, alpha)


def decode(path: File, decoder: Decoder | None = None) -> np.ndarray:
    """One image file as uint8 `[h, w, channels]`, RGB unless the decoder has other channels.

    Args:
        path: The file, or an encoded image.
        decoder: How; None for RGB, where each image of more than 8 bits is scaled by the bits that it uses.

    Raises:
        UnreadableImage: If the pixels cannot be had.
    """
    return (decoder or Decoder())(path)


def bits_in_use(highest: int) -> int:
    """The bits that numbers from 0 to `highest` need, at least 8."""
    return max(8, int(highest).bit_length())


def shown(path: str | os.PathLike[str]) -> str:
    """A path as it can be printed: bytes that are no UTF-8, and characters that are not printable, are escaped."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


@contextmanager
def _named(path: File, key: str) -> Iterator[None]:
    """Turn whatever is raised inside into UnreadableImage, with the file and the remedy."""
    try:
        yield
    except (UnreadableImage, MemoryError):
        raise
    except Exception as error:
        why = _cause(error, path)
        raise UnreadableImage(
            f"cannot decode {shown(path)}: {why}. Replace or remove the file, or leave such files out, and count "
            f"them, with {key}.on_error=skip",
            shown(path),
            why,
        ) from error


def _cause(error: Exception, path: File) -> str:
    if isinstance(error, FileNotFoundError):
        return "it is not there any more"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    if isinstance(error, Image.UnidentifiedImageError):
        with opened(path) as file:
            empty = not file.read(1)
        return "the file is empty" if empty else f"its content is none of {', '.join(FORMATS)}"
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def opened(path: File) -> Iterator[BinaryIO]:
    """A regular file, open for reading. Anything else might never answer, so it is opened without waiting."""
    if isinstance(path, EncodedImage):
        yield io.BytesIO(path.read())
        return
    with open(path, "rb", opener=_without_waiting) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("it is no regular file")
        yield file


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _is_npy(file: BinaryIO) -> bool:
    start = file.read(6)
    file.seek(0)
    return start == b"\x93NUMPY"


def _needs_tifffile(file: BinaryIO) -> bool:
    """Whether this is a TIFF that Pillow cannot read, or of which it would keep a part without a word."""
    start = file.read(4)
    file.seek(0)
    if start not in _TIFF:
        return False
    try:
        image: Any
        with Image.open(file, formats=("TIFF",)) as image:
            tags = image.tag_v2
            samples = int(tags.get(277, 1))
            bits = max(np.atleast_1d(tags.get(258, 1)))
            kept = len(image.getbands()) >= samples and (samples == 1 or bits <= 8)
    except Image.UnidentifiedImageError:
        kept = False
    finally:
        file.seek(0)
    return not kept


def _tiff_shape(file: BinaryIO) -> tuple[int, int]:
    if importlib.util.find_spec("tifffile") is None:
        raise ValueError(
            "it is a TIFF of many channels, or of several with more than 8 bits, which the package tifffile reads: "
            "pip install 'ssl_mi[tiff]'"
        )
    import tifffile

    with tifffile.TiffFile(file) as tiff:
        page: Any = tiff.pages[0]
        height, width = int(page.imagelength), int(page.imagewidth)
    file.seek(0)
    return height, width


def _deep_rawmode(image: Any) -> str | None:
    """How the pixels of a PNG of 16 bits and several channels are packed, of which Pillow keeps the upper 8 bits."""
    args = image.tile[0][3] if image.format == "PNG" and image.tile else None
    return args if isinstance(args, str) and args in ("LA;16B", "RGB;16B", "RGBA;16B") else None


def _deep_png(file: BinaryIO, rawmode: str) -> Raw:
    """All 16 bits of a PNG, in passes over the file that each keep one byte of every number.

    Pillow unpacks such pixels from big-endian numbers and keeps the first byte; read as little-endian numbers, it is
    the second. Grey and alpha have four bytes, as an RGBA pixel of 8 bits.
    """
    if rawmode == "LA;16B":
        four = _unpacked(file, "RGBA").astype(np.uint16)
        return Raw(four[..., ::2] << 8 | four[..., 1::2], alpha=True)
    high, low = (_unpacked(file, rawmode.replace("16B", order)).astype(np.uint16) for order in ("16B", "16L"))
    return Raw(high << 8 | low, alpha=high.shape[2] == 4)


def _unpacked(file: BinaryIO, rawmode: str) -> np.ndarray:
    file.seek(0)
    image: Any
    with Image.open(file, formats=("PNG",)) as image:
        image.tile = [tile._replace(args=rawmode) for tile in image.tile]
        return _bytes(image)


def _pillow(image: Image.Image) -> tuple[np.ndarray, bool]:
    """(pixels, whether the last channel is alpha) of an image that Pillow holds without loss."""
    if "exif" in image.info or image.format == "TIFF":
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return np.array(image)[..., None], False
    if image.mode == "1":
        image = image.convert("L")
    if image.mode == "P":
        image = image.convert("RGBA")  # a transparent palette entry has no direct way to RGB
        pixels = _bytes(image)
        return (pixels, True) if (pixels[..., 3] != 255).any() else (pixels[..., :3], False)
    if image.mode == "La":
        image = image.convert("LA")
    if image.mode not in ("RGB", "L", "LA", "RGBA"):
        image = image.convert("RGB")
    return _bytes(image), image.mode in ("LA", "RGBA")


def _bytes(image: Image.Image) -> np.ndarray:
    # Pillow's own array interface makes one more copy.
    return np.frombuffer(image.tobytes(), np.uint8).reshape(image.height, image.width, -1)
