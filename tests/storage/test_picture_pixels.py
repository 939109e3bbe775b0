"""Pictures that stay on disk: the same pixels as in memory, parts, worker processes, errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import spearshield as ss
from mutations import fails_under
from spearshield.dataset import Examples
from spearshield.datasets import image_folder
from spearshield.datasets.image_folder import ImageFolder
from spearshield.rng import ambient
from spearshield.storage import picture_pixels
from spearshield.storage.picture_pixels import PicturePixels
from spearshield.training.batches import batches


@pytest.fixture
def folder(tmp_path):
    """Forty colour pictures in two classes, of two sizes, one of them turned by EXIF."""
    generator = np.random.default_rng(0)
    for i in range(40):
        pixels = generator.integers(0, 256, (9 + i % 2, 12, 3), dtype=np.uint8)
        place = tmp_path / "photos" / str(i % 2)
        place.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        if i == 7:
            exif[0x0112] = 6
        Image.fromarray(pixels).save(place / f"{i:02}.png", exif=exif)
    return tmp_path / "photos"


def both(folder, monkeypatch, **settings):
    """The examples of a folder in memory and on disk."""
    data = ImageFolder(path=str(folder), **settings)
    in_memory = data.load("test")
    monkeypatch.setattr(image_folder, "IN_MEMORY", 0)
    return in_memory, data.load("test")


@fails_under(
    "pictures in another order",
    (picture_pixels.PicturePixels, "decoded", lambda self, row: torch.zeros(3, 8, 8).byte()),
    few=100,
)
@pytest.mark.parametrize("few", [100, 2])
def test_the_pixels_are_those_in_memory(folder, monkeypatch, few):
    monkeypatch.setattr(picture_pixels, "FEW", few)
    memory, disk = both(folder, monkeypatch, size=(8, 8))
    assert isinstance(disk.pixels, PicturePixels) and disk.shape == (3, 8, 8) and len(disk) == 40
    assert torch.equal(disk.images(), memory.images()) and torch.equal(disk.y, memory.y)
    index = torch.tensor([5, 39, 5, 0])
    for part in (index, slice(3, 11), slice(2, 2)):
        assert torch.equal(disk[part].images(), memory[part].images())
    again = torch.tensor([7, 0])
    assert torch.equal(disk[10:30][again].images(), memory[10:30][again].images())


def test_the_fingerprint_changes_with_a_file_and_with_the_part(folder, monkeypatch):
    _, disk = both(folder, monkeypatch, size=(8, 8))
    before = disk.content
    assert before == disk.content != disk[:5].content
    changed = folder / "0" / "00.png"
    Image.new("RGB", (12, 9), "red").save(changed)
    assert disk.content != before and disk[1:].content == disk[1:].content


def test_errors_name_the_file_in_one_line(folder, monkeypatch):
    monkeypatch.setattr(picture_pixels, "FEW", 2)
    _, disk = both(folder, monkeypatch, size=(8, 8))
    broken = folder / "1" / "03.png"
    broken.write_bytes(broken.read_bytes()[:60])
    with pytest.raises(ValueError, match="03.png") as error:
        disk.images()
    assert "Traceback" not in str(error.value)
    broken.unlink()
    with pytest.raises(ValueError, match="03.png"):
        disk.images()


def test_sizes_that_differ_are_found_when_they_are_read(folder, monkeypatch):
    monkeypatch.setattr(image_folder, "IN_MEMORY", 0)
    disk = ImageFolder(path=str(folder)).load("test")
    with pytest.raises(ValueError, match=r"12 x 10 pixels but others have 12 x 9.*--size 9x12"):
        disk.images()


def test_training_reads_batches(folder, monkeypatch):
    memory, disk = both(folder, monkeypatch, size=(8, 8))
    for (_, x, y, _), (_, x_disk, y_disk, _) in zip(
        batches(memory, 16, 0, 0, 4, "cpu", None),
        batches(disk, 16, 0, 0, 4, "cpu", None),
        strict=True,
    ):
        assert torch.equal(x, x_disk) and torch.equal(y, y_disk)


def test_an_audit_is_the_same_from_disk(folder, monkeypatch, tmp_path):
    memory, disk = both(folder, monkeypatch, size=(8, 8))
    with ambient(0):
        model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 2))
    reports = [
        ss.audit(model, images, attacks="fgsm", threat=ss.Linf(0.1), progress=False)
        for images in (memory, disk)
    ]
    assert reports[0].robust == reports[1].robust and reports[0].clean == reports[1].clean
    assert isinstance(disk, Examples)
