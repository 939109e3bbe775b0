"""Strategies of files of images and labels: npz, PNG, JPEG and IDX, whole and spoilt."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
import zlib
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from numpy.typing import NDArray
from PIL import Image

from fuzz.arrays import Filled, filled, labels
from fuzz.values import Made, spoilt, texts

NAMES = (("x", "y"), ("images", "labels"), ("x_test", "y_test"), ("x_train", "y_train"), ("x", "z"))
NPY_HEADERS = (
    *("{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000, 1, 6, 6), }",),
    *("{'descr': '|u1', 'fortran_order': False, 'shape': (-4, 1, 6, 6), }",),
    *("{'descr': '|u1', 'fortran_order': True, 'shape': (4, 1, 6, 6), }",),
    *("{'descr': '|u1', 'fortran_order': False, 'shape': (4, 1, 6, 7), }",),
    *("{'descr': '|u1', 'fortran_order': False, 'shape': (4.0, 1, 6, 6), }",),
    *("{'descr': '|u1', 'fortran_order': False, 'shape': 144, }",),
    *(
        "{'descr': '|u1', 'fortran_order': 3, 'shape': (4, 1, 6, 6), }",
        "{'descr': '|u1', }",
        "[]",
        "",
    ),
    *("{'descr': [('a', '|u1')], 'fortran_order': False, 'shape': (4, 1, 6, 6), }",),
    *("{'descr': '|O', 'fortran_order': False, 'shape': (4, 1, 6, 6), }", "(" * 3000),
    *(
        "{'descr': '|V999999999', 'fortran_order': False, 'shape': (4, 1, 6, 6), }",
        "1 +" * 300 + "1",
    ),
    *("{'descr': 'zz', 'fortran_order': False, 'shape': (True, 1, 6, 6), }", "__import__('os')"),
    *(
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1, 6, 6), }",
        "{'a': b'\\xff'}",
        "\x00",
    ),
)


def saved_npz(arrays: dict[str, NDArray[Any]]) -> bytes:
    """An npz file; arrays of Python objects are pickled."""
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]
    return content.getvalue()


def npz_of(x: Filled, y: Any, keys: tuple[str, str] = ("x", "y"), **more: Any) -> Made:
    """An npz file with images and labels."""
    arrays = {keys[0]: x.array(), **more}
    if y is not None:
        arrays[keys[1]] = np.asarray(y)
    about = f"{keys[0]}={tuple(x)}, {keys[1]}={y!r:.120}, {more!r:.80}"
    return Made(f"npz {about}", saved_npz(arrays), whole=True)


@st.composite
def npz_files(draw: DrawFn) -> Made:
    """Npz files of odd arrays, with odd headers and members, and with changed bytes."""
    x = draw(filled)
    y = draw(labels(x.shape[0] if x.shape and x.shape[0] < 300 else None))
    more = {}
    if draw(st.integers(0, 5)) == 0:
        more["names"] = np.array(
            draw(st.lists(texts.filter(lambda t: "\ud800" not in t), max_size=4))
        )
    if draw(st.integers(0, 5)) == 0:
        more[draw(st.sampled_from(["y_test", "y_train", "x_train", "other"]))] = draw(
            filled
        ).array()
    try:
        made = npz_of(x, y, draw(st.sampled_from([*NAMES[:1] * 4, *NAMES])), **more)
    except ValueError:  # ragged labels
        made = npz_of(x, None)
    kind = draw(st.sampled_from(["whole"] * 9 + ["spoilt", "spoilt", "header", "member"]))
    if kind == "spoilt":
        how, content = draw(spoilt(made.content))
        return Made(f"{made.how}, {how}", content, whole=False)
    if kind in ("header", "member"):
        return draw(crafted_npz())
    return made


def npy(header: str, body: bytes, version: bytes = b"\x01\x00") -> bytes:
    """An npy file with any header."""
    text = header.encode("latin-1") + b"\n"
    size = struct.pack("<H" if version[0] == 1 else "<I", len(text) % 65536)
    return b"\x93NUMPY" + version + size + text + body


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip file."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return content.getvalue()


def unzipped(content: bytes) -> dict[str, bytes]:
    """The members of a zip file."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@st.composite
def crafted_npz(draw: DrawFn) -> Made:
    """Npz files with right checksums and odd headers, sizes, names or methods of compression."""
    good = npz_of(Filled("u1", (4, 1, 6, 6), "image"), [0, 1, 2, 0])
    members = unzipped(good.content)
    header = draw(st.sampled_from(NPY_HEADERS))
    version = draw(
        st.sampled_from([b"\x01\x00", b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x09\x00"])
    )
    body = members["x.npy"][-144:] + bytes(draw(st.sampled_from([0, 0, 1, 400])))
    kind = draw(st.sampled_from(["header", "header", "labels", "bomb", "twice", "text", "path"]))
    if kind == "header":
        members["x.npy"] = npy(header, body, version)
    if kind == "labels":
        members["y.npy"] = npy(header, bytes(32), version)
    if kind == "bomb":
        members["x.npy"] = npy(NPY_HEADERS[0], bytes(1 << 24))
    if kind == "text":
        members["x.npy"] = draw(st.binary(max_size=60))
    if kind == "path":
        members["../x.npy"] = members.pop("x.npy")
    method = draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2]))
    whole = zipped(members, method)
    if kind == "twice":
        whole = whole.replace(b"y.npy", b"x.npy")
    return Made(f"npz with {kind} {header!r:.90} version {version!r}, {method}", whole, whole=False)


BOMB = zlib.compress(bytes(1 << 24))
MODES = ("L", "RGB", "RGBA", "LA", "P", "PA", "1", "CMYK", "I;16", "I", "F", "YCbCr", "HSV", "LAB")


def chunk(name: bytes, body: bytes) -> bytes:
    """A chunk of a PNG file with the right checksum."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(header: tuple[int, ...], data: bytes, *more: bytes) -> bytes:
    """A PNG file of width, height, depth, colour, compression, filter and interlace, and rows."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", *header))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@st.composite
def crafted_png(draw: DrawFn) -> Made:
    """PNG files with right checksums and any header, rows and further chunks."""
    sides = st.sampled_from([1, 2, 6, 6, 6, 7, 0, 60_000, 2**31 - 1, 2**32 - 1])
    depth = draw(st.sampled_from([1, 2, 4, 8, 8, 8, 16, 0, 3, 32]))
    colour = draw(st.sampled_from([0, 0, 2, 2, 3, 4, 6, 1, 7]))
    end = draw(st.sampled_from([(0, 0, 0)] * 4 + [(0, 0, 1), (1, 0, 0), (0, 1, 0), (0, 0, 9)]))
    header = (draw(sides), draw(sides), depth, colour, *end)
    rows = draw(st.sampled_from([bytes(26) * 6, bytes(7) * 6, b"", bytes(10**6), b"\x05" * 200]))
    data = zlib.compress(rows)
    if draw(st.integers(0, 6)) == 0:
        data = draw(st.sampled_from([b"", data[:5], b"junk"]))
    extras = {
        "palette": chunk(b"PLTE", bytes(range(12))),
        "long palette": chunk(b"PLTE", bytes(900)),
        "transparency": chunk(b"tRNS", bytes(6)),
        "short transparency": chunk(b"tRNS", b"\x00"),
        "text bomb": chunk(b"zTXt", b"key\x00\x00" + BOMB),
        "profile bomb": chunk(b"iCCP", b"name\x00\x00" + BOMB),
        "profile": chunk(b"iCCP", b"name\x00\x00junk"),
        "exif": chunk(
            b"eXIf",
            b"MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00",
        ),
        "bad exif": chunk(b"eXIf", b"MM\x00*\xff\xff\xff\xff"),
        "animation": chunk(b"acTL", struct.pack(">II", 2**31, 0)),
        "gamma": chunk(b"gAMA", bytes(4)),
        "short chunk": chunk(b"cHRM", b"\x00"),
        "bad name": chunk(b"\xff\xff\xff\xff", b""),
        "second header": chunk(b"IHDR", struct.pack(">IIBBBBB", 6, 6, 8, 0, 0, 0, 0)),
    }
    names = draw(st.lists(st.sampled_from([*extras]), max_size=2))
    content = png(header, data, *(extras[name] for name in names))
    return Made(f"png {header} of {len(rows)} bytes with {names}", content, whole=False)


def drawn_picture(mode: str, size: tuple[int, int], form: str, **options: Any) -> Made:
    """A picture of a gradient, as Pillow writes it."""
    grey = np.linspace(0, 255, size[0] * size[1]).astype(np.uint8).reshape(size[1], size[0])
    image = Image.fromarray(grey)
    if mode in ("P", "PA"):
        image = image.convert("RGB").quantize(16)
    image = image.convert("RGB").convert(mode) if mode in ("LAB", "HSV") else image.convert(mode)
    content = io.BytesIO()
    image.save(content, form, **options)
    return Made(f"{form} {mode} {size} {options!r:.60}", content.getvalue(), whole=True)


@st.composite
def pictures(draw: DrawFn) -> tuple[str, Made]:
    """The suffix and the content of a file that may be a picture."""
    form = draw(st.sampled_from(["PNG", "PNG", "JPEG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"]))
    size = draw(st.sampled_from([(6, 6)] * 6 + [(1, 1), (5, 6), (1, 400), (3000, 2)]))
    options: dict[str, Any] = {}
    if draw(st.integers(0, 3)) == 0 and form in ("PNG", "JPEG"):
        exif = Image.Exif()
        exif[0x0112] = draw(st.sampled_from([1, 3, 6, 8, 9, 65535]))
        options["exif"] = exif.tobytes()
    if form == "PNG" and draw(st.integers(0, 4)) == 0:
        options["transparency"] = draw(st.sampled_from([0, 255, b"\x00\x80"]))
    try:
        made = drawn_picture(draw(st.sampled_from(MODES[:5] * 2 + MODES)), size, form, **options)
    except (OSError, ValueError, TypeError):
        made = drawn_picture("RGB", size, form)
    suffix = draw(st.sampled_from([".png"] * 3 + [".jpg", ".jpeg", ".PNG"]))
    kind = draw(
        st.sampled_from(["whole"] * 3 + ["spoilt", "spoilt head", "crafted", "crafted", "raw"])
    )
    if kind == "crafted":
        return suffix, draw(crafted_png())
    if kind == "raw":
        raw = draw(st.binary(max_size=60))
        return suffix, Made(f"raw {raw!r}", raw, whole=False)
    if kind.startswith("spoilt"):
        how, content = draw(spoilt(made.content, 60 if kind == "spoilt head" else None))
        return suffix, Made(f"{made.how}, {how}", content, whole=False)
    return suffix, made._replace(whole=form in ("PNG", "JPEG"))


def idx_of(array: NDArray[Any], dims: int | None = None, magic: bytes | None = None) -> bytes:
    """An IDX file."""
    shape = struct.pack(f">{array.ndim}I", *array.shape)
    return (
        (magic or bytes((0, 0, 8, array.ndim if dims is None else dims))) + shape + array.tobytes()
    )


@st.composite
def idx_files(draw: DrawFn) -> tuple[str, Made, Made]:
    """A suffix, and files of images and labels in the format of MNIST."""
    n = draw(st.sampled_from([4, 4, 4, 1, 0]))
    side = draw(st.sampled_from([28] * 12 + [27, 0, 1]))
    fill = draw(st.sampled_from(["image", "image", "ones", "zero"]))
    images = idx_of(Filled("u1", (n, side, side), fill).array())
    ids = draw(st.sampled_from([list(range(n)), [9] * n, [10] * n, [255] * n, [0] * (n + 1)]))
    label = idx_of(np.array(ids, np.uint8))
    whole, how = True, f"idx {n} x {side} {fill}, labels {ids}"
    suffix = draw(st.sampled_from(["", ".gz", ".gz"]))
    kind = draw(
        st.sampled_from([*["whole"] * 4, "head", "spoilt", "packed", "bomb", "shape", "raw"])
    )
    if kind in ("head", "spoilt"):
        more, images = draw(spoilt(images, 16 if kind == "head" else None))
        whole, how = False, f"{how}, {more}"
    if kind == "shape":
        shape = draw(
            st.lists(
                st.sampled_from([0, 1, 4, 28, 2**16, 2**31, 2**32 - 1]), min_size=3, max_size=3
            )
        )
        images = bytes((0, 0, 8, 3)) + struct.pack(">3I", *shape) + images[16:]
        whole, how = False, f"{how}, shape {shape}"
    if kind == "bomb":
        images, whole, how = (
            images + bytes(80 << 20 if draw(st.integers(0, 9)) == 0 else 9),
            False,
            "idx bomb",
        )
    packed = [gzip.compress(part, 1) if suffix else part for part in (images, label)]
    if kind == "packed":
        more, packed[0] = draw(spoilt(packed[0]))
        whole, how = False, f"{how}, packed, {more}"
    if kind == "raw":
        packed[draw(st.integers(0, 1))] = draw(st.binary(max_size=40))
        whole, how = False, f"{how}, raw"
    return suffix, Made(how, packed[0], whole), Made(how, packed[1], whole)
