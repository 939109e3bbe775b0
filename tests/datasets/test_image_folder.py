"""Image folder: forms, class order, sizes, channels, and refused folders."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from fixtures import files
from spearshield.dataset import Dataset
from spearshield.datasets import dataset
from spearshield.datasets.image_folder import ImageFolder
from spearshield.discover import name_of


def small(folder: Path) -> Dataset:
    for split, n in (("train", 5), ("test", 3)):
        for c in ("cat", "dog"):
            for i in range(n):
                form = ("PNG", "JPEG")[i % 2]
                seed = 2 * i + (c == "dog")
                pixels = files.noise(12, 10, 3, seed=seed)
                put(
                    folder / "pets" / split / c / f"{i}.{form.lower()}", files.encoded(pixels, form)
                )
    return ImageFolder(path="pets", validation=5)


def put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def png(value: int, h: int = 4, w: int = 4) -> bytes:
    return files.encoded(files.noise(h, w, 3) // 255 + value)


def test_train_and_test_folders(tmp_path: Path) -> None:
    test = small(tmp_path).read("test", tmp_path)
    assert (test.names, test.y.tolist()) == (("cat", "dog"), [0] * 3 + [1] * 3)
    dog = files.noise(12, 10, 3, seed=1).transpose(2, 0, 1)
    assert (test.pixels[3].numpy() == dog).all()


def test_a_folder_of_classes_is_for_testing(tmp_path: Path) -> None:
    put(tmp_path / "b" / "2.png", png(20))
    put(tmp_path / "b" / "1.PNG", png(10))
    put(tmp_path / "a" / "3.png", png(30))
    put(tmp_path / "a" / "notes.txt", b"")
    put(tmp_path / "a" / ".hidden.png", b"")
    test = ImageFolder(path=str(tmp_path)).read("test", None)
    assert (test.names, test.y.tolist()) == (("a", "b"), [0, 1, 1])
    assert test.pixels.amin((1, 2, 3)).tolist() == [30, 10, 20]
    with pytest.raises(ValueError, match="has no folder 'train'"):
        ImageFolder(path=str(tmp_path)).read("train", None)


def test_a_flat_folder_has_one_class(tmp_path: Path) -> None:
    for i in range(3):
        put(tmp_path / f"{i}.png", png(i))
    test = ImageFolder(path=str(tmp_path)).read("test", None)
    assert (test.names, test.y.tolist()) == (("unlabelled",), [0, 0, 0])


def test_sizes_must_agree_unless_one_is_given(tmp_path: Path) -> None:
    put(tmp_path / "1.png", png(1, 4, 6))
    put(tmp_path / "2.png", png(2, 8, 4))
    with pytest.raises(
        ValueError, match=r"2\.png has 4 x 8 pixels but .*1\.png has 6 x 4; set .* --size 4x6, or"
    ):
        ImageFolder(path=str(tmp_path)).read("test", None)
    test = ImageFolder(path=str(tmp_path), size=(3, 5)).read("test", None)
    assert test.pixels.shape == (2, 3, 3, 5)


def test_class_folders_with_numbers_are_in_the_order_of_the_numbers(tmp_path: Path) -> None:
    for name in ("10", "2", "0", "1"):
        put(tmp_path / name / "1.png", png(int(name)))
    test = ImageFolder(path=str(tmp_path)).read("test", None)
    assert (test.names, test.y.tolist()) == (("0", "1", "2", "10"), [0, 1, 2, 3])
    assert test.pixels.amin((1, 2, 3)).tolist() == [0, 1, 2, 10]
    put(tmp_path / "cat" / "1.png", png(99))
    mixed = ImageFolder(path=str(tmp_path)).read("test", None)
    assert mixed.names == ("0", "1", "10", "2", "cat")


def test_classes_without_a_folder_are_counted_where_their_number_is_stated(tmp_path: Path) -> None:
    for name in ("1", "3"):
        put(tmp_path / name / "1.png", png(0))
    folder = ImageFolder(path=str(tmp_path))
    assert folder.read("test", None).y.tolist() == [0, 1]
    test = replace(folder, classes=5).read("test", None)
    assert (test.names, test.y.tolist()) == (("0", "1", "2", "3", "4"), [1, 3])
    message = "has the class folder '3', but classes is 3: class ids are 0 to 2"
    with pytest.raises(ValueError, match=message):
        replace(folder, classes=3).read("test", None)


def test_named_classes_come_before_those_without_a_folder(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        put(tmp_path / name / "1.png", png(0))
    folder = ImageFolder(path=str(tmp_path), classes=3)
    assert folder.read("test", None).names == ("cat", "dog", "2")
    with pytest.raises(ValueError, match="class folder 'dog', but classes is 1"):
        replace(folder, classes=1).read("test", None)


def test_a_folder_of_grey_images_has_one_channel(tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    Image.new("LA", (8, 8)).save(tmp_path / "b.png")
    assert ImageFolder(path=str(tmp_path)).read("test", None).shape == (1, 8, 8)
    Image.new("RGB", (8, 8)).save(tmp_path / "c.png")
    assert ImageFolder(path=str(tmp_path)).read("test", None).shape == (3, 8, 8)


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_palette_and_transparent_files_are_converted(tmp_path: Path, channels: int) -> None:
    colours = Image.fromarray(files.noise(8, 8, 3))
    for mode in ("1", "L", "LA", "P", "RGBA"):
        content = io.BytesIO()
        colours.convert(mode).save(content, "PNG")
        put(tmp_path / f"{mode}.png", content.getvalue())
    test = ImageFolder(path=str(tmp_path), channels=channels).read("test", None)
    assert test.pixels.shape == (5, channels, 8, 8)


def test_the_display_name_is_the_name_of_the_folder() -> None:
    assert name_of(ImageFolder(path="data/pets/")) == "pets"


def test_grey(tmp_path: Path) -> None:
    put(tmp_path / "1.png", files.encoded(files.noise(4, 4, 3)))
    test = ImageFolder(path=str(tmp_path), channels=1).read("test", None)
    luma = torch.tensor(files.noise(4, 4, 3)).float() @ torch.tensor([0.299, 0.587, 0.114])
    assert (test.pixels[0, 0].float() - luma).abs().max() <= 1


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds no .png"),
        ({"a/1.txt": b""}, "a holds no .png"),
        ({"a/1.png": png(0), "2.png": png(0)}, r"2\.png is outside the class folders"),
        ({"train/a/1.png": png(0), "test/b/1.png": png(0)}, "b is a class that .*train does not"),
        ({"train/a/1.png": png(0)}, "has no folder 'test'"),
        ({"a/1.png": png(0)[:-20]}, r"a/1\.png is truncated, corrupt"),
        ({"a/1.png": b"GIF89a"}, r"a/1\.png: it is not a PNG or JPEG file"),
        ({"a/1.png": b""}, r"a/1\.png: it is empty"),
        ({"a/1.png": png(0), "a/2.webp": b""}, r"2\.webp is not a PNG or JPEG file; convert it"),
        ({"a/b/1.png": png(0), "c/1.png": png(0)}, "a has pictures in its folder b; move them"),
        ({"a/1.png": png(0), "a/b/1.png": png(0)}, "a has pictures in its folder b; move them"),
        ({"train/a/1.png": png(0), "val/a/1.png": png(0)}, "it has train, val: rename the one"),
        ({"val/a/1.png": png(0)}, "has no folder 'test'.*it has val: rename the one to read"),
    ],
    ids=[
        *("empty", "no images", "mixed", "new class", "no test", "truncated", "GIF", "no bytes"),
        *("WebP", "nested", "images and nested", "val for test", "val alone"),
    ],
)
def test_other_folders_are_refused(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    for name, content in files.items():
        put(tmp_path / name, content)
    with pytest.raises(ValueError, match=message):
        ImageFolder(path=str(tmp_path)).read("test", None)


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    for name in ("car", "train"):
        put(tmp_path / name / "1.png", png(0))
    assert ImageFolder(path=str(tmp_path)).read("test", None).names == ("car", "train")


def test_links_are_followed_and_a_circle_of_them_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "data" / "a" / "1.png", png(7))
    (tmp_path / "data" / "b").symlink_to(tmp_path / "data" / "a")
    test = ImageFolder(path=str(tmp_path / "data")).read("test", None)
    assert (test.names, test.y.tolist()) == (("a", "b"), [0, 1])
    (tmp_path / "data" / "a" / "up").symlink_to(tmp_path / "data")
    with pytest.raises(ValueError, match="is a link to a folder, which is not followed"):
        ImageFolder(path=str(tmp_path / "data")).read("test", None)


def test_a_folder_is_found_in_a_data_folder(tmp_path: Path) -> None:
    put(tmp_path / "pets" / "a" / "1.png", png(0))
    assert dataset("pets", root=tmp_path) == ImageFolder(path="pets")


def test_fields_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="channels must be 1 or 3, got 4"):
        ImageFolder(channels=4)
    with pytest.raises(ValueError, match=r"size must be .* got \(0, 5\)"):
        ImageFolder(size=(0, 5))
    with pytest.raises(ValueError, match="path is empty; set it"):
        ImageFolder().read("test", None)
    put(tmp_path / "file", b"")
    with pytest.raises(ValueError, match="is not a folder"):
        ImageFolder(path=str(tmp_path / "file")).read("test", None)
