"""gzip and npz files: truncated, corrupt and oversized ones are refused by name."""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from fixtures import files
from spearshield.storage import archives
from spearshield.storage.archives import UnsuitableError, corrupt_as_value_error, gunzip, npz


def test_damage_is_reported_under_the_name_of_the_file() -> None:
    message = "a/b is truncated, corrupt or of another kind: EOFError: why"
    with pytest.raises(ValueError, match=message), corrupt_as_value_error("a/b"):
        raise EOFError("why")


def test_an_unsuitable_file_is_not_called_corrupt() -> None:
    with (
        pytest.raises(UnsuitableError, match="^a/b: c: why$"),
        corrupt_as_value_error("a/b"),
        corrupt_as_value_error("c"),
    ):
        raise UnsuitableError("why")


def test_gunzip_refuses_a_bomb_and_a_wrong_checksum(tmp_path: Path) -> None:
    path = tmp_path / "f.gz"
    content = gzip.compress(bytes(1000))
    path.write_bytes(content)
    assert gunzip(path, 1000) == bytes(1000)
    with pytest.raises(ValueError, match=r"f\.gz.*more than 999 bytes"):
        gunzip(path, 999)
    path.write_bytes(content[:-8] + bytes([content[-8] ^ 1]) + content[-7:])
    with pytest.raises(ValueError, match=r"f\.gz.*CRC"):
        gunzip(path, 1000)


def test_npz_returns_the_requested_arrays(tmp_path: Path) -> None:
    path = tmp_path / "f.npz"
    np.savez(path, a=files.noise(4, 3), b=np.asfortranarray(files.noise(3, 2)), c=np.ones(1))
    arrays = npz(path, ["a", "b", "z"])
    assert arrays.keys() == {"a", "b"}
    assert (arrays["a"] == files.noise(4, 3)).all() and (arrays["b"] == files.noise(3, 2)).all()


def test_npz_refuses_a_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f.npz"
    np.savez_compressed(path, a=np.zeros(600), b=np.zeros(600))
    monkeypatch.setattr(archives, "LARGEST", 8000)
    npz(path, ["a"])
    with pytest.raises(ValueError, match=r"f\.npz.*unpack to more than 8000"):
        npz(path, ["a", "b"])


def test_npz_notices_a_name_that_changed_in_its_directory(tmp_path: Path) -> None:
    path = tmp_path / "f.npz"
    np.savez(path, a=files.noise(4), y=files.noise(4))
    before, _, after = path.read_bytes().rpartition(b"y.npy")
    path.write_bytes(before + b"z.npy" + after)
    with pytest.raises(ValueError, match=r"f\.npz.*differ"):
        npz(path, ["a", "y"])


@pytest.mark.parametrize("form", ["stored", "compressed"])
def test_npz_notices_a_changed_byte(tmp_path: Path, form: str) -> None:
    path = tmp_path / "f.npz"
    (np.savez if form == "stored" else np.savez_compressed)(path, a=files.noise(500))
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    with pytest.raises(ValueError, match=r"f\.npz"):
        npz(path, ["a"])


@pytest.mark.parametrize("shape", [(5,), (7,), (1 << 50,)], ids=["short", "long", "absurd"])
def test_npz_compares_an_array_with_its_header(tmp_path: Path, shape: tuple[int]) -> None:
    path = tmp_path / "f.npz"
    header = io.BytesIO()
    form = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, form)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", header.getvalue() + bytes(6))
    with pytest.raises(ValueError, match=r"f\.npz"):
        npz(path, ["a"])


def test_the_reason_is_short_and_without_addresses() -> None:
    for error, said in (
        (
            ValueError("node <ast.BinOp object at 0x7f00> " + "x" * 999),
            "kind: node an object x+[.]{3}$",
        ),
        (OSError(22, "Invalid argument"), "kind: OSError: Invalid argument$"),
        (EOFError(), "kind: EOFError: EOFError$"),
    ):
        with pytest.raises(ValueError, match=said) as caught, corrupt_as_value_error("f.npz"):
            raise error
        assert len(str(caught.value)) < 300
