"""CelebA: crop, attributes, and agreement of lists and pictures."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from fixtures import files
from spearshield.dataset import Dataset
from spearshield.datasets.celeba import CelebA

PARTS = [0, 2, 0, 1, 0, 2, 0]
MALE = [1, -1, -1, 1, 1, 1, -1]


def picture(i: int) -> np.ndarray:
    """Aligned pictures are 178 pixels wide and 218 high; only the middle 108 x 108 are bright."""
    pixels = np.zeros((218, 178, 3), np.uint8)
    pixels[55:163, 35:89], pixels[55:163, 89:143] = 98 + 20 * i, 102 + 20 * i
    return pixels


def small(folder: Path) -> Dataset:
    own = folder / "celeba"
    own.mkdir(parents=True)
    names = [f"{i + 1:06}.jpg" for i in range(len(PARTS))]
    with zipfile.ZipFile(own / "img_align_celeba.zip", "w") as archive:
        archive.writestr("img_align_celeba/", "")
        for i in (3, 0, 1, 2, 6, 5, 4):
            image = files.encoded(picture(i), "JPEG", quality=95)
            archive.writestr(f"img_align_celeba/{names[i]}", image)
    rows = [f"{name} {-male:2}  {male:2} -1" for name, male in zip(names, MALE, strict=True)]
    (own / "list_attr_celeba.txt").write_text(
        "\n".join([str(len(rows)), "Bald Male Smiling", *rows]) + "\n"
    )
    rows = [f"{name} {part}" for name, part in zip(names, PARTS, strict=True)]
    (own / "list_eval_partition.txt").write_text("\n".join(rows) + "\n")
    return CelebA(size=8, validation=1)


def test_the_middle_of_each_picture_with_its_gender(tmp_path: Path) -> None:
    data = small(tmp_path)
    for split, places in (("train", [0, 2, 4, 6]), ("test", [1, 5])):
        found = data.read(split, tmp_path)
        assert found.pixels.shape == (len(places), 3, 8, 8)
        assert found.y.tolist() == [int(MALE[i] == 1) for i in places]
        assert found.names == ("not Male", "Male")
        bright = torch.tensor([100 + 20 * i for i in places])
        # The middle and nothing but it, up to JPEG.
        assert (found.pixels.long() - bright[:, None, None, None]).abs().max() <= 8


def test_any_attribute_may_be_the_class(tmp_path: Path) -> None:
    small(tmp_path)
    found = CelebA(size=8, attribute="Bald").read("train", tmp_path)
    assert found.y.tolist() == [0, 1, 0, 1] and found.names == ("not Bald", "Bald")
    with pytest.raises(ValueError, match=r"no attribute 'Hat'; it has Bald, Male, Smiling"):
        CelebA(attribute="Hat").read("train", tmp_path)


@pytest.mark.parametrize("name", ["list_attr_celeba.txt", "list_eval_partition.txt"])
def test_lists_and_pictures_go_together(tmp_path: Path, name: str) -> None:
    data = small(tmp_path)
    path = tmp_path / "celeba" / name
    path.write_text(path.read_text().replace("000003.jpg", "000009.jpg"))
    with pytest.raises(
        ValueError, match=rf"img_align_celeba\.zip.* 7 files are not the 7 of .*{name}"
    ):
        data.read("test", tmp_path)


def test_a_picture_that_is_not_aligned_is_named(tmp_path: Path) -> None:
    data = small(tmp_path)
    with zipfile.ZipFile(tmp_path / "celeba" / "img_align_celeba.zip", "w") as archive:
        for i in range(len(PARTS)):
            image = files.encoded(picture(i)[:107], "JPEG")
            archive.writestr(f"img_align_celeba/{i + 1:06}.jpg", image)
    with pytest.raises(ValueError, match=r"000002\.jpg has fewer than 108 x 108 pixels"):
        data.read("test", tmp_path)


def test_the_size_is_checked() -> None:
    with pytest.raises(ValueError, match="size must be at least 1, got 0"):
        CelebA(size=0)
