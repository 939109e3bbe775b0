from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

import made
from spearshield.storage import idx

NAMES = tuple("0123456789")
LABELS = made.idx(np.arange(4, dtype=np.uint8))
HEAD = struct.pack(">4I", 0x803, 4, 28, 28)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (gzip.compress(HEAD + bytes(4 * 784 - 1)), "but 3135 bytes follow"),
        (gzip.compress(HEAD + bytes(4 * 784 + 1)), "but 3137 bytes follow"),
        (gzip.compress(HEAD[:10]), "unpack requires a buffer"),
        (gzip.compress(b""), "it starts with , not 00000803"),
        (b"", "it starts with , not 00000803"),
        (LABELS, "it starts with 00000801, not 00000803"),
        (HEAD + bytes(4 * 784), "Not a gzipped file"),
        (made.idx(made.noise(4, 32, 32)), r"shape \(4, 32, 32\)"),
        (made.idx(made.noise(0, 28, 28)), r"shape \(0, 28, 28\)"),
    ],
    ids=["short", "long", "half a head", "nothing", "empty", "labels", "raw", "32 x 32", "none"],
)
def test_other_images_are_refused(tmp_path: Path, images: bytes, message: str) -> None:
    x, y = tmp_path / "x.gz", tmp_path / "y.gz"
    x.write_bytes(images)
    y.write_bytes(LABELS)
    with pytest.raises(ValueError, match=rf"x\.gz.*{message}"):
        idx.examples(x, y, NAMES)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.arange(3, dtype=np.uint8), "3 labels for 4 images"),
        (np.array([0, 1, 2, 10], np.uint8), "labels run from 0 to 10"),
    ],
)
def test_other_labels_are_refused(tmp_path: Path, labels: np.ndarray, message: str) -> None:
    x, y = tmp_path / "x.gz", tmp_path / "y.gz"
    x.write_bytes(made.idx(made.noise(4, 28, 28)))
    y.write_bytes(made.idx(labels))
    with pytest.raises(ValueError, match=rf"y\.gz.*{message}"):
        idx.examples(x, y, NAMES)
