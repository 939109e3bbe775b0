"""NPZ: layouts, ranges, classes, sizes, and refused arrays."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fixtures import files
from spearshield.dataset import Dataset, Examples
from spearshield.datasets import dataset
from spearshield.datasets.npz import Npz
from spearshield.discover import name_of


def small(folder: Path) -> Dataset:
    folder.mkdir(parents=True)
    np.savez_compressed(
        folder / "own.npz",
        x_train=files.noise(40, 8, 6, 3, seed=1),
        y_train=np.arange(40) % 4,
        x_test=files.noise(20, 8, 6, 3, seed=2),
        y_test=np.arange(20) % 3,
    )
    return Npz(path="own.npz", validation=10)


def read(folder: Path, classes: int | None = None, **arrays: Any) -> Examples:
    np.savez(folder / "a.npz", **arrays)
    return Npz(path=str(folder / "a.npz"), classes=classes).read("test", None)


def test_both_splits_have_the_same_classes(tmp_path: Path) -> None:
    data = small(tmp_path / "data")
    test = data.read("test", tmp_path / "data")
    assert test.names == data.read("train", tmp_path / "data").names == ("0", "1", "2", "3")
    assert (test.pixels.permute(0, 2, 3, 1).numpy() == files.noise(20, 8, 6, 3, seed=2)).all()


@pytest.mark.parametrize(
    ("shape", "channels"),
    [((5, 8, 6), 1), ((5, 8, 6, 1), 1), ((5, 1, 8, 6), 1), ((5, 8, 6, 3), 3), ((5, 3, 8, 6), 3)],
)
def test_layouts(tmp_path: Path, shape: tuple[int, ...], channels: int) -> None:
    x = files.noise(*shape)
    test = read(tmp_path, x=x, y=np.arange(5))
    assert test.shape == (channels, 8, 6)
    first = x[0].transpose(2, 0, 1) if shape[-1] == channels else x[0].reshape(channels, 8, 6)
    assert (test.pixels[0].numpy() == first).all()


def test_floats_are_rounded_to_8_bits(tmp_path: Path) -> None:
    x = np.array([[[0.0, 1.0, 0.4999 / 255, 0.5001 / 255]]], np.float32)
    assert read(tmp_path, x=x, y=[0]).pixels.flatten().tolist() == [0, 255, 0, 1]


def test_names_and_classes(tmp_path: Path) -> None:
    x = files.noise(2, 4, 4)
    assert read(tmp_path, images=x, labels=[[0], [1]]).names == ("0", "1")
    assert read(tmp_path, x=x, y=[0, 1], names=["cat", "dog", "cow"]).names[2] == "cow"
    assert read(tmp_path, classes=10, x=x, y=[0, 1]).classes == 10


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"y": [0, 1]},
            "no test images with labels; it needs the arrays x_test and y_test or x and",
        ),
        ({"x": files.noise(2, 4, 4), "labels": [0, 1]}, "no test images with labels"),
        ({"x": files.noise(2, 4, 4), "y": [0]}, "2 images and 1 labels"),
        (
            {"x": files.noise(2, 4, 4), "y": [0, -1]},
            "y: the smallest label is -1; classes are numbered from 0",
        ),
        ({"x": files.noise(2, 4, 4), "y": [0.0, 1.0]}, "y: labels are float64 .* integers"),
        ({"x": files.noise(2, 4, 4), "y": np.eye(2, dtype=int)}, "y: labels are int64 .*argmax"),
        (
            {"x": files.noise(2, 4, 4), "y": [0, 5], "names": ["a", "b"]},
            "labels from 0 to 5; they must be from 0 to 1 for 2 classes",
        ),
        ({"x": files.noise(2, 4, 4) * 2.0, "y": [0, 1]}, r"x: .* finite and in \[0, 1\]"),
        ({"x": np.full((2, 4, 4), np.nan), "y": [0, 1]}, r"x: .* finite and in \[0, 1\]"),
        ({"x": files.noise(2, 4, 4).astype(int), "y": [0, 1]}, "x: images are int64"),
        ({"x": files.noise(2, 4, 4) % 2, "y": [0, 1]}, "x: the brightest pixel is 1 of 255"),
        ({"x": files.noise(2, 4, 4, 4), "y": [0, 1]}, r"x: images have shape \(2, 4, 4, 4\)"),
        ({"x": files.noise(2, 3, 4, 3), "y": [0, 1]}, "x: .* could be"),
        ({"x": files.noise(0, 4, 4), "y": [0]}, r"x: images have shape \(0"),
        ({"x": files.noise(2, 4, 4), "y": []}, "y: labels are float64|y: there are no labels"),
        ({"x": files.noise(2, 4, 4), "y": ["cat", "dog"]}, "y: labels are strings such as 'cat'"),
        ({"x": files.noise(2, 4, 4), "y": [0, 10**12]}, "y: the largest label is 1000000000000"),
        ({"x": files.noise(2, 16), "y": [0, 1]}, r"x: images have shape \(2, 16\).*reshape"),
        ({"x": 3, "y": [0, 1]}, r"x: images have shape \(\)"),
        ({"x": np.full((2, 4, 4), "a"), "y": [0, 1]}, "x: images are strings"),
        ({"x": np.zeros((2, 4, 4), np.longdouble), "y": [0, 1]}, "x: images are float128|float64"),
        ({"X": files.noise(2, 4, 4), "Y": [0, 1]}, r"and has X, Y \(np\.savez"),
        ({"arr_0": files.noise(2, 4, 4)}, r"and has arr_0 \(np\.savez"),
        ({}, "and has none"),
        (
            {"x": files.noise(2, 4, 4), "y": [1, 2], "names": ["a", "b"]},
            "labels from 1 to 2; .* 0 to 1 for 2 classes; if classes are numbered from 1, subtract",
        ),
        *(
            ({"x": files.noise(2, 4, 4), "y": [0, 1], "names": names}, "names is .* one string for")
            for names in ("ab", [["a", "b"]], [0.5, 1.5], np.array([], str))
        ),
        ({"x": np.array([{}, {}]), "y": [0, 1]}, "x holds Python objects"),
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"a\.npz.*{message}") as caught:
        read(tmp_path, **arrays)
    assert "corrupt" not in str(caught.value)


def single(folder: Path) -> bytes:
    np.save(folder / "a.npy", files.noise(2, 4, 4))
    return (folder / "a.npy").read_bytes()


def zipped(folder: Path) -> bytes:
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        archive.writestr("x", files.encoded(files.noise(4, 4)))
        archive.writestr("y", b"0")
    return (folder / "a.zip").read_bytes()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (single, "is a single array, in NumPy's npy format; an npz file holds arrays with names"),
        (zipped, "x is not an array in NumPy's npy format"),
        (lambda folder: b"1,2\n", "is not an npz file; an npz file holds"),
        (lambda folder: b"", "is empty; an npz file holds"),
    ],
    ids=["npy", "pictures", "csv", "empty"],
)
def test_files_of_another_kind_are_not_called_corrupt(
    tmp_path: Path, content: Callable[[Path], bytes], said: str
) -> None:
    (tmp_path / "a.npz").write_bytes(content(tmp_path))
    with pytest.raises(ValueError, match=rf"a\.npz.*{said}") as caught:
        Npz(path=str(tmp_path / "a.npz")).read("test", None)
    assert "corrupt" not in str(caught.value)


def test_names_of_bytes_are_text(tmp_path: Path) -> None:
    names = np.array([b"cat", b"dog"])
    assert read(tmp_path, x=files.noise(2, 4, 4), y=[0, 1], names=names).names == ("cat", "dog")


def test_classes_are_compared_with_labels_and_names(tmp_path: Path) -> None:
    x = files.noise(2, 4, 4)
    with pytest.raises(ValueError, match="labels from 0 to 5; they must be from 0 to 2 for 3"):
        read(tmp_path, classes=3, x=x, y=[0, 5])
    with pytest.raises(ValueError, match="it has 2 names, but classes is 3"):
        read(tmp_path, classes=3, x=x, y=[0, 1], names=["a", "b"])
    with pytest.raises(ValueError, match="y_train holds labels from 0 to 9; .* 0 to 1 for 2"):
        read(tmp_path, classes=2, x=x, y=[0, 1], y_train=[0, 9])


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_resized_to_a_given_size(tmp_path: Path, channels: int) -> None:
    x = np.full((2, 8, 6, channels), 7, np.uint8)
    np.savez(tmp_path / "a.npz", x=x, y=[0, 1])
    test = Npz(path=str(tmp_path / "a.npz"), size=(4, 4)).read("test", None)
    assert test.pixels.shape == (2, channels, 4, 4) and test.pixels.unique().tolist() == [7]
    with pytest.raises(ValueError, match="size must be a height and a width"):
        Npz(size=(4, 0))


def test_the_display_name_is_the_name_of_the_file() -> None:
    assert name_of(Npz(path="data/faces.npz")) == "faces"
    assert name_of(Npz()) == "npz"


def test_dataset_passes_settings_to_a_file_or_a_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=files.noise(2, 4, 4), y=[0, 1])
    spec = str(tmp_path / "a.npz")
    assert dataset(spec, size=(2, 2), classes=None) == Npz(path=spec, size=(2, 2))
    assert dataset("mnist", validation=7).validation == 7
    with pytest.raises(ValueError, match="mnist has no setting 'size'; it has validation"):
        dataset("mnist", size=(2, 2))


def test_a_split_that_is_not_there_is_refused(tmp_path: Path) -> None:
    read(tmp_path, x=files.noise(2, 4, 4), y=[0, 1])
    with pytest.raises(
        ValueError, match="no train images with labels; it needs the arrays x_train"
    ):
        Npz(path="a.npz").read("train", tmp_path)


def test_fields_are_checked() -> None:
    with pytest.raises(ValueError, match="classes must be at least 1, got 0"):
        Npz(classes=0)
    with pytest.raises(ValueError, match="classes must be at most 100000, got 100000000"):
        Npz(classes=10**8)
    with pytest.raises(ValueError, match="size must have at most 16000000 pixels, got 1000000 x"):
        Npz(size=(10**6, 10**6))
    with pytest.raises(ValueError, match="path is empty; set it"):
        Npz().read("test", None)
