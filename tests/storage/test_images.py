"""PNG and JPEG files: modes, orientation, limits, corruption, resizing and rounding."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fixtures import files
from mutations import fails_under
from spearshield.storage import images as pictures
from spearshield.storage.images import fit, packed, picture, read
from spearshield.threat import Linf


def saved(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    content = io.BytesIO()
    image.save(content, form, **options)
    return content.getvalue()


@fails_under(
    "pixels rounded to the nearest level",
    (pictures, "quantize_towards", lambda x_adv, x: (255 * x_adv).round() / 255),
)
def test_8_bits_of_an_attacked_image_lie_between_it_and_the_clean_one() -> None:
    levels = torch.arange(256).float().reshape(1, 1, 16, 16)
    x = levels / 255
    for eps in (0.03, 8 / 255, 0.3):
        for sign in (-1, 1):
            found = pictures.quantize_towards((x + sign * eps).clamp(0, 1), x)
            moved = (255 * found - levels).abs()
            torch.testing.assert_close(255 * found, (255 * found).round())
            assert Linf(eps).contains(found, x).all()
            assert moved.max() == int(255 * eps + 1e-3)


def test_exif_rotation_is_applied() -> None:
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, :16] = 255  # the left half is white
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise, left becomes top
    turned = np.asarray(picture(saved(Image.fromarray(pixels), "JPEG", exif=exif), 1))
    assert turned.shape == (32, 16)
    assert turned[:12].min() > 240 and turned[-12:].max() < 15


def test_transparent_pixels_are_blended_with_white() -> None:
    pixels = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 0, 51]]], np.uint8)
    shown = np.asarray(picture(files.encoded(pixels), 3))
    assert shown.tolist() == [[[10, 20, 30], [255, 255, 255], [204, 204, 204]]]


def test_a_palette_is_resolved() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 0, 200, 100, 50])
    image.putpixel((1, 0), 1)
    assert np.asarray(picture(saved(image), 3)).tolist() == [[[0, 0, 0], [200, 100, 50]]]
    clear = np.asarray(picture(saved(image, transparency=0), 3))
    assert clear.tolist() == [[[255, 255, 255], [200, 100, 50]]]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_every_8_bit_mode_gives_the_requested_channels(mode: str, channels: int) -> None:
    image = Image.fromarray(files.noise(8, 8, 3)).convert(mode)
    shown = picture(saved(image, "JPEG" if mode == "CMYK" else "PNG"), channels)
    assert shown.mode == {1: "L", 3: "RGB"}[channels]


@pytest.mark.parametrize(("depth", "row"), [(1, 0b01000000), (2, 0b00010000), (4, 0b00000001)])
@pytest.mark.parametrize("transparent", [False, True])
def test_grey_of_fewer_bits_is_scaled_to_8(depth: int, row: int, transparent: bool) -> None:
    """Two pixels: black, and the lowest grey level, which may be the transparent one."""
    content = png(depth, 0, bytes([row]), 2, struct.pack(">H", 1) if transparent else b"")
    lowest = 255 // (2**depth - 1)
    for channels in (1, 3):
        shown = np.asarray(picture(content, channels)).reshape(2, -1)
        assert (shown[0] == 0).all() and (shown[1] == (255 if transparent else lowest)).all()


@pytest.mark.parametrize("mode", ["RGB", "P", "CMYK"])
def test_colours_and_their_luma_are_right_in_every_mode(mode: str) -> None:
    colours = Image.fromarray(np.full((8, 8, 3), (200, 30, 60), np.uint8))
    image = colours.quantize(2) if mode == "P" else colours.convert(mode)
    content = saved(image, *(("JPEG",) if mode == "CMYK" else ()))
    assert (abs(np.asarray(picture(content, 3)).astype(int) - (200, 30, 60)) <= 2).all()
    assert (abs(np.asarray(picture(content, 1)).astype(int) - 84) <= 2).all()


@pytest.mark.parametrize("colour_type", [0, 4], ids=["grey", "grey and alpha"])
def test_sixteen_bits_of_grey_are_refused(colour_type: int) -> None:
    content = png(16, colour_type, bytes(4 if colour_type == 0 else 8), 2)
    with pytest.raises(ValueError, match="more than 8 bits per channel"):
        picture(content, 1)


def test_sixteen_bits_are_refused() -> None:
    deep = Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000)
    with pytest.raises(ValueError, match="more than 8 bits per channel.*save it as grey or RGB"):
        picture(saved(deep), 1)


@pytest.mark.parametrize("colour_type", [2, 6], ids=["RGB", "RGBA"])
def test_sixteen_bits_per_colour_are_refused(tmp_path: Path, colour_type: int) -> None:
    """Pillow opens them in 8 bits, without notice."""
    path = tmp_path / "f.png"
    path.write_bytes(png_of_16_bits(colour_type))
    with Image.open(path) as opened:
        assert opened.mode in ("RGB", "RGBA")
    with pytest.raises(ValueError, match=r"f\.png: it has more than 8 bits per channel"):
        read(path, 3)


def png_of_16_bits(colour_type: int) -> bytes:
    """A PNG of 2 x 1 pixels with 16 bits per channel, which Pillow cannot write."""
    channels = 3 if colour_type == 2 else 4
    return png(16, colour_type, bytes(2 * 2 * channels), 2)


def png(depth: int, colour_type: int, row: bytes, width: int, transparent: bytes = b"") -> bytes:
    """A PNG of one row of pixels."""

    def chunk(name: bytes, body: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(name + body))
        return struct.pack(">I", len(body)) + name + body + crc

    header = struct.pack(">IIBBBBB", width, 1, depth, colour_type, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    content += chunk(b"tRNS", transparent) if transparent else b""
    return content + chunk(b"IDAT", zlib.compress(b"\0" + row)) + chunk(b"IEND", b"")


def test_a_picture_beyond_the_limit_of_pillow_is_refused_in_the_same_way(tmp_path: Path) -> None:
    path = tmp_path / "f.png"
    content = bytearray(saved(Image.new("1", (8, 8))))
    content[16:24] = struct.pack(">II", 60_000, 60_000)
    content[29:33] = struct.pack(">I", zlib.crc32(bytes(content[12:29])))
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"f\.png: it has more than 16000000 pixels"):
        read(path, 1)


def test_size_is_limited_before_decoding(tmp_path: Path) -> None:
    path = tmp_path / "f.png"
    path.write_bytes(saved(Image.new("L", (4001, 4000))))
    with pytest.raises(ValueError, match=r"f\.png.*4001 x 4000 pixels, more than 16000000"):
        read(path, 1)
    path.write_bytes(saved(Image.new("1", (12_000, 12_000))))  # Pillow would warn
    with pytest.raises(ValueError, match=r"f\.png.*12000 x 12000"):
        read(path, 1)
    with path.open("wb") as file:
        file.truncate(pictures._LARGEST_FILE * 10)
    with pytest.raises(ValueError, match=r"f\.png.*bytes, more than"):
        read(path, 1)


@pytest.mark.parametrize("form", ["GIF", "BMP", "TIFF"])
def test_other_formats_are_refused_under_any_file_name(tmp_path: Path, form: str) -> None:
    path = tmp_path / "f.png"
    path.write_bytes(files.encoded(files.noise(4, 4), form))
    with pytest.raises(ValueError, match=r"f\.png.*it is not a PNG or JPEG file"):
        read(path, 1)


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_every_cut_is_noticed(tmp_path: Path, form: str) -> None:
    path = tmp_path / "f"
    content = files.encoded(files.noise(20, 20, 3), form)
    end = len(content) - (4 if form == "PNG" else 0)  # a PNG ends with the checksum of nothing
    for cut in [*range(1, end, 7), end - 2, end - 1]:
        path.write_bytes(content[:cut])
        with pytest.raises(ValueError, match=f"{path} is truncated"):
            read(path, 3)


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_every_orientation(turn: int, form: str) -> None:
    """The bright quarter of the stored picture is at the top left."""
    pixels = np.zeros((16, 32), np.uint8)
    pixels[:8, :16] = 255
    exif = Image.Exif()
    exif[0x0112] = turn
    shown = np.asarray(picture(saved(Image.fromarray(pixels), form, exif=exif), 1))
    corners = [shown[y, x] > 127 for y, x in ((0, 0), (0, -1), (-1, -1), (-1, 0))]
    assert shown.shape == ((16, 32) if turn < 5 else (32, 16))
    assert corners.index(True) == (0, 1, 2, 3, 0, 1, 2, 3)[turn - 1] and sum(corners) == 1


@pytest.mark.parametrize("form", ["APNG", "MPO"])
def test_the_first_of_several_pictures_counts(form: str) -> None:
    first, second = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    kind = "PNG" if form == "APNG" else form
    content = saved(first, kind, save_all=True, append_images=[second])
    assert abs(np.asarray(picture(content, 3)).astype(int) - (255, 0, 0)).max() <= 2


def test_progressive_jpeg_and_a_colour_profile_change_nothing() -> None:
    image = Image.fromarray(files.noise(16, 16, 3))
    plain = np.asarray(picture(saved(image, "JPEG"), 3))
    assert (np.asarray(picture(saved(image, "JPEG", progressive=True), 3)) == plain).all()
    assert (
        np.asarray(picture(saved(image, icc_profile=b"a profile"), 3)) == files.noise(16, 16, 3)
    ).all()


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_broken_exif_rotates_nothing_and_says_nothing(form: str) -> None:
    content = saved(Image.new("L", (4, 2), 7), form, exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert picture(content, 1).size == (4, 2)


def test_images_beyond_the_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="do not fit into memory; choose a smaller size"):
        pictures.stack([Image.new("L", (4000, 4000))], 1 << 40)


def test_pictures_in_memory_are_left_alone() -> None:
    image = Image.new("L", (4, 2))
    image.getexif()[0x0112] = 6
    assert pictures.flattened(image, 3).size == (2, 4) and image.size == (4, 2)


def test_a_changed_byte_of_a_png_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "f.png"
    content = files.encoded(files.noise(20, 20, 3))
    for place in range(8, len(content) - 12, 31):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(ValueError, match=r"f\.png"):
            read(path, 3)


def test_fit_covers_the_size_and_keeps_the_middle() -> None:
    ramp = np.tile(np.arange(100, dtype=np.uint8), (50, 1))
    middle = np.asarray(fit(Image.fromarray(ramp), (50, 50)))
    assert (middle == ramp[:, 25:75]).all()  # 50 pixels are high enough, so nothing is resized
    half = np.asarray(fit(Image.fromarray(ramp), (25, 25))).astype(float)
    assert np.abs(half - (25.5 + 2 * np.arange(25))).max() <= 1
    inner = np.asarray(fit(Image.fromarray(ramp), (25, 50), margin=2.0))
    assert (inner == ramp[12:37, 25:75]).all()


@pytest.mark.parametrize("margin", [1.0, 8 / 7])
def test_fit_is_resizing_and_cutting(margin: float) -> None:
    image = Image.fromarray(files.noise(91, 57, 3))
    large = round(57 * margin * 31 / 57), round(91 * margin * 31 / 57)
    left, top = (large[0] - 31) // 2, (large[1] - 17) // 2
    cut = image.resize(large, Image.Resampling.BILINEAR).crop((left, top, left + 31, top + 17))
    difference = np.asarray(fit(image, (17, 31), margin)).astype(int) - np.asarray(cut)
    assert np.abs(difference).max() <= 1


def test_fit_takes_a_thin_picture() -> None:
    assert fit(Image.new("L", (2_000_000, 1), 7), (224, 224)).getextrema() == (7, 7)


@pytest.mark.parametrize(("h", "w"), [(3, 200), (200, 3), (57, 91), (224, 224), (1, 1)])
@pytest.mark.parametrize("margin", [1.0, 8 / 7])
def test_fit_returns_the_requested_size(h: int, w: int, margin: float) -> None:
    shown = np.asarray(fit(Image.fromarray(files.noise(h, w) | 1), (31, 17), margin))
    assert shown.shape == (31, 17)
    assert shown.min() > 0  # nothing but the picture, no black border


@pytest.mark.parametrize(
    "change",
    [
        {"offsets": lambda o: o[:-1]},
        {"offsets": lambda o: o[[0, 2, 1, 3]]},
        {"offsets": lambda o: o + 1},
        {"offsets": lambda o: o * 1.5},
        {"bytes": lambda b: b[:-1]},
        {"bytes": lambda b: b.astype(int)},
        {"labels": lambda y: y[:-1]},
        {"labels": lambda y: y[:, None]},
        {"labels": lambda y: y + 1},
        {"labels": lambda y: y[:0]},
    ],
)
def test_packed_pictures_are_checked(tmp_path: Path, change: dict[str, object]) -> None:
    content, offsets = files.packed(
        *(files.encoded(files.noise(8, 8, 3, seed=i)) for i in range(3))
    )
    arrays = {"bytes": content, "offsets": offsets, "labels": np.arange(3)}
    path = tmp_path / "f.npz"
    names = ("a", "b", "c")
    np.savez(path, **{f"t_{k}": v for k, v in arrays.items()})
    assert (
        packed(path, "t", names).pixels[1, 0].numpy() == files.noise(8, 8, 3, seed=1)[:, :, 0]
    ).all()
    arrays |= {key: alter(arrays[key]) for key, alter in change.items()}  # type: ignore
    np.savez(path, **{f"t_{k}": v for k, v in arrays.items()})
    with pytest.raises(ValueError, match=r"f\.npz"):
        packed(path, "t", names)


def test_packed_pictures_have_one_size(tmp_path: Path) -> None:
    content, offsets = files.packed(
        files.encoded(files.noise(8, 8)), files.encoded(files.noise(9, 8))
    )
    np.savez(tmp_path / "f.npz", t_bytes=content, t_offsets=offsets, t_labels=[0, 0])
    with pytest.raises(ValueError, match=r"f\.npz.*picture 1 has shape \(3, 9, 8\).*resize"):
        packed(tmp_path / "f.npz", "t", ("a",))
