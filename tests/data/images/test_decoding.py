"""Files of every kind of pixel: decoded as they should be, or refused by name."""

import struct
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from ssl_mi.data.images.decoding import Decoder, UnreadableImage, bits_in_use, decode
from ssl_mi.data.images.folder import ImageFolder


def noise(*shape, top=256, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, top, shape).astype(dtype)


def png(path, pixels, colour):
    """A PNG of 16 bits a channel; colour: 2 RGB, 4 grey and alpha, 6 RGBA."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n"
    path.write_bytes(start + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    return str(path)


def npy(path, array):
    np.save(path, array)
    return str(path)


def saved(path, pixels, **options):
    Image.fromarray(pixels).save(path, **options)
    return str(path)


# More than 8 bits


@pytest.mark.parametrize("bits", [9, 12, 16])
@pytest.mark.parametrize("kind", ["grey.png", "grey.tif", "rgb.png", "grey.npy"])
def test_of_deep_pixels_the_upper_eight_bits_in_use_are_kept(tmp_path, bits, kind):
    channels = 3 if kind == "rgb.png" else 1
    pixels = noise(10, 14, channels, top=2**bits, dtype=np.uint16)
    pixels[0, 0] = 2**bits - 1
    path = tmp_path / kind
    if kind == "rgb.png":
        png(path, pixels, 2)
    elif kind == "grey.npy":
        npy(path, pixels[..., 0])
    else:
        saved(path, pixels[..., 0])
    wanted = np.broadcast_to((pixels >> (bits - 8)).astype(np.uint8), (10, 14, 3))
    assert np.array_equal(decode(str(path)), wanted)


def test_all_files_of_a_folder_are_scaled_alike_and_a_brighter_one_is_refused(tmp_path, caplog):
    for i in range(20):
        (tmp_path / "a").mkdir(exist_ok=True)
        # 12 bits: the first image is dark, and stays dark beside the others.
        saved(tmp_path / "a" / f"{i:02}.png", np.full((8, 8), 4095 if i else 400, np.uint16))
    folder = ImageFolder(str(tmp_path), in_memory=False)
    train = folder.load().train
    assert "12 are in use: 4095 becomes white" in caplog.text
    assert folder.decoder.bits == 12
    assert (decode(str(tmp_path / "a" / "00.png"), folder.decoder) == 400 >> 4).all()
    assert train.images.decoder == folder.decoder
    saved(tmp_path / "late.png", np.full((8, 8), 5000, np.uint16))
    with pytest.raises(UnreadableImage, match=r"go up to 5000, .* need 12 bits.*levels=\[0, 8191\]"):
        decode(str(tmp_path / "late.png"), folder.decoder)


def test_levels_give_floats_and_signed_values_a_range(tmp_path):
    values = np.array([[-1000.0, 0.0], [500.0, 9000.0]], np.float32)  # as of a tomograph
    for path in (saved(tmp_path / "f.tif", values), npy(tmp_path / "i.npy", values.astype(np.int16))):
        with pytest.raises(UnreadableImage, match=r"-1000 to 9000\) have no known range: set data\.sets\.levels"):
            decode(path)
        grey = decode(path, Decoder(channels=1, levels=(-1000, 1000)))
        assert grey[..., 0].tolist() == [[0, 128], [191, 255]]  # 255 (x + 1000) / 2000, rounded and clipped
    with pytest.raises(UnreadableImage, match="NaN or infinite"):
        decode(npy(tmp_path / "nan.npy", np.full((2, 2), np.nan)), Decoder(levels=(0, 1)))


@pytest.mark.parametrize(
    "wrong", [{"channels": 0}, {"channels": True}, {"levels": (1, 1)}, {"levels": (0, float("nan"))},
              {"max_megapixels": 0}, {"max_megapixels": 500}],
)  # fmt: skip
def test_settings_out_of_range_are_refused_by_name(wrong):
    with pytest.raises(ValueError, match=rf"data\.sets\.{next(iter(wrong))}="):
        Decoder(**wrong)


# Channels


def test_channels_are_kept_dropped_or_refused_by_name(tmp_path):
    rgba, la, rgb, grey = noise(6, 7, 4), noise(6, 7, 2), noise(6, 7, 3), noise(6, 7)
    files = {
        "rgba": saved(tmp_path / "rgba.png", rgba),
        "la": saved(tmp_path / "la.png", la),
        "rgb": saved(tmp_path / "rgb.png", rgb),
        "grey": saved(tmp_path / "grey.png", grey),
        "five": npy(tmp_path / "five.npy", noise(6, 7, 5)),
        "five first": npy(tmp_path / "first.npy", noise(6, 7, 5).transpose(2, 0, 1)),
    }
    kept = {(3, "rgba"): rgba[..., :3], (4, "rgba"): rgba, (2, "la"): la, (1, "la"): la[..., :1], (3, "rgb"): rgb,
            (1, "grey"): grey[..., None], (5, "five"): noise(6, 7, 5), (5, "five first"): noise(6, 7, 5)}  # fmt: skip
    for (channels, name), pixels in kept.items():
        assert np.array_equal(decode(files[name], Decoder(channels)), pixels), name
    luma = np.asarray(Image.fromarray(rgb).convert("L"))[..., None]
    assert np.array_equal(decode(files["rgb"], Decoder(1)), luma)
    for channels, name, found in ((4, "rgb", "3 channels"), (3, "five", "5 channels"), (2, "grey", "1 channel ")):
        with pytest.raises(UnreadableImage, match=rf"{found}.*data\.sets\.channels={channels}: .*encoder\.in_channels"):
            decode(files[name], Decoder(channels))


def test_tiffs_that_pillow_would_cut_down_are_read_whole(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    thirteen, deep = noise(6, 7, 13), noise(6, 7, 3, top=4096, dtype=np.uint16)
    deep[0, 0] = 4095
    tifffile.imwrite(tmp_path / "13.tif", thirteen, photometric="minisblack", planarconfig="contig")
    tifffile.imwrite(
        tmp_path / "planes.tif", thirteen.transpose(2, 0, 1), photometric="minisblack", planarconfig="separate"
    )
    tifffile.imwrite(tmp_path / "deep.tif", deep, photometric="rgb")
    for name in ("13.tif", "planes.tif"):
        assert np.array_equal(decode(str(tmp_path / name), Decoder(13)), thirteen)
    assert np.array_equal(decode(str(tmp_path / "deep.tif")), (deep >> 4).astype(np.uint8))
    with pytest.raises(UnreadableImage, match=r"13 channels .*data\.sets\.channels=3"):
        decode(str(tmp_path / "13.tif"))


def test_a_transparency_that_holds_something_and_further_frames_are_said_to_be_dropped(tmp_path, caplog):
    (tmp_path / "a").mkdir()
    for i in range(20):
        saved(tmp_path / "a" / f"{i}.png", noise(8, 8, 4))
    first, second = Image.fromarray(noise(8, 8)), Image.fromarray(255 - noise(8, 8))
    first.save(tmp_path / "a" / "moving.gif", save_all=True, append_images=[second])
    ImageFolder(str(tmp_path)).load()
    assert "20 of 21 files that were looked at have transparency, which is dropped" in caplog.text
    assert "1 of 21 files that were looked at hold several frames" in caplog.text
    assert np.array_equal(decode(str(tmp_path / "a" / "moving.gif"), Decoder(1))[..., 0], noise(8, 8))


def test_the_rotation_in_exif_is_applied(tmp_path):
    pixels = noise(10, 14, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn by 90 degrees, clockwise
    path = saved(tmp_path / "x.png", pixels, exif=exif)
    assert np.array_equal(decode(path), np.rot90(pixels, -1))
    assert Decoder().size(path) == (14, 10)


# What is refused before it costs anything


def test_an_image_too_large_is_refused_by_its_header(tmp_path):
    path = saved(tmp_path / "x.png", noise(40, 50))
    with pytest.raises(UnreadableImage, match=r"50 x 40 pixels, more than data\.sets\.max_megapixels=0\.001"):
        Decoder(max_megapixels=0.001)(path)


def test_an_array_that_claims_more_than_its_file_holds_is_refused(tmp_path):
    path = Path(npy(tmp_path / "x.npy", noise(8, 8, 3)))
    path.write_bytes(path.read_bytes().replace(b"(8, 8, 3)", b"(8,8,9**9)").replace(b"9**9", b"9999"))
    for content in (path.read_bytes(), path.read_bytes()[:40], b"\x93NUMPY\x01\x00"):
        path.write_bytes(content)
        with pytest.raises(UnreadableImage, match=r"x\.npy"):
            decode(str(path))


# Anything else


def _samples():
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        saved(root / "a.jpg", noise(9, 11, 3))
        saved(root / "b.png", noise(9, 11, 4))
        saved(root / "c.tif", noise(9, 11, top=4096, dtype=np.uint16))
        saved(root / "d.gif", noise(9, 11))
        saved(root / "e.webp", noise(9, 11, 3))
        png(root / "f.png", noise(9, 11, 3, top=4096, dtype=np.uint16), 2)
        npy(root / "g.npy", noise(9, 11, 3))
        return [path.read_bytes() for path in sorted(root.iterdir())]


@pytest.mark.slow
@settings(max_examples=3000, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(_samples()), st.lists(st.tuples(st.integers(0, 2000), st.binary(max_size=8)), max_size=6),
       st.integers(0, 4000), st.integers(1, 5))  # fmt: skip
def test_damaged_files_are_decoded_or_refused_by_name(content, changes, length, channels):
    """Half a minute: bytes replaced and files cut short, at random."""
    damaged = bytearray(content)
    for place, new in changes:
        damaged[place : place + len(new)] = new
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.img"
        path.write_bytes(damaged[:length])
        decoder = Decoder(channels, max_megapixels=0.1)
        message, pixels = f"{path}", np.empty((1, 1, channels), np.uint8)
        try:
            pixels = decoder(str(path))
        except UnreadableImage as error:
            message = str(error)
        assert str(path) in message
        assert "\n" not in message
        assert (pixels.dtype, pixels.ndim, pixels.shape[2]) == (np.uint8, 3, channels)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32))
def test_bits_in_use_are_the_fewest_that_hold_the_number(highest):
    bits = bits_in_use(highest)
    assert highest < 2**bits
    assert bits == 8 or highest >= 2 ** (bits - 1)
