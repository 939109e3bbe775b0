"""Properties of every data set.

The test file of a data set has a function ``small``, which writes a small copy of the files into a
folder and returns the data set that reads them; and a tuple ``SPLITS``, unless it has all three.
"""

from __future__ import annotations

import importlib.util
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

import pytest
import torch

from spearshield.dataset import Dataset, Examples, Split
from spearshield.discover import discover, names
from spearshield.storage.serialization import dump, load

TESTS = Path(__file__).parents[1] / "datasets"


@dataclass
class Small:
    data: Dataset
    root: Path
    splits: tuple[Split, ...]

    def load(self, split: Split, seed: int = 0) -> Examples:
        return self.data.load(split, root=self.root, seed=seed)

    @property
    def files(self) -> list[Path]:
        return sorted(path for path in self.root.rglob("*") if path.is_file())


@pytest.fixture(params=[*names("datasets")])
def small(request: pytest.FixtureRequest, tmp_path: Path) -> Small:
    spec = importlib.util.spec_from_file_location(
        f"small_{request.param}", TESTS / f"test_{request.param}.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    root = tmp_path / "data"
    splits = getattr(module, "SPLITS", ("train", "validation", "test"))
    return Small(module.small(root), root, splits)


@pytest.fixture(autouse=True)
def nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No network, and no data except the small files of the test."""

    def refuse(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("SPEARSHIELD_DATA", raising=False)


def test_every_file_defines_one_data_set_that_needs_no_argument() -> None:
    for kind in discover("datasets", Dataset).values():
        data = kind()
        assert load(dump(data)) == data


def test_examples_are_8_bit_images_with_labels_and_ids(small: Small) -> None:
    for split in small.splits:
        part = small.load(split)
        assert len(part) > 0
        assert part.pixels.dtype == torch.uint8 and part.pixels.ndim == 4
        assert part.shape[0] in (1, 3)
        assert part.y.dtype == part.ids.dtype == torch.int64
        assert int(part.y.min()) >= 0
        assert int(part.y.max()) < part.classes == len(part.names)
        assert len(part.ids.unique()) == len(part)
        x = part.images()
        assert 0 <= float(x.min()) < float(x.max()) <= 1


def test_labels_follow_their_images_into_validation(small: Small) -> None:
    if "train" not in small.splits:
        with pytest.raises(ValueError, match="train"):
            small.load("train")
        return
    whole = small.data.read("train", small.root)
    for split in ("train", "validation"):
        part = small.load(split)
        assert torch.equal(part.pixels, whole.pixels[part.ids])
        assert torch.equal(part.y, whole.y[part.ids])


def test_validation_is_drawn_from_train_by_seed(small: Small) -> None:
    if "validation" not in small.splits:
        pytest.skip("it has no training images")
    whole = set(range(len(small.data.read("train", small.root))))
    chosen = []
    for seed in (0, 0, 1):
        train = set(small.load("train", seed).ids.tolist())
        validation = set(small.load("validation", seed).ids.tolist())
        assert len(validation) == small.data.validation
        assert train | validation == whole and not train & validation
        chosen.append(validation)
    assert chosen[0] == chosen[1] != chosen[2]


def test_a_truncated_file_is_named_and_never_a_wrong_array(small: Small) -> None:
    parts: tuple[Split, ...] = tuple(s for s in ("train", "test") if s in small.splits)
    whole = {split: small.load(split) for split in parts}
    for file in small.files:
        content = file.read_bytes()
        size = len(content)
        for cut in sorted({0, 1, 10, size // 3, size // 2, size - 30, size - 2}):
            file.write_bytes(content[:cut])
            refused = 0
            for split in parts:
                try:
                    part = small.load(split)
                except (ValueError, FileNotFoundError) as error:
                    assert str(file) in str(error)
                    refused += 1
                else:
                    assert torch.equal(part.pixels, whole[split].pixels)
                    assert torch.equal(part.y, whole[split].y)
            # a PNG's last bytes are the checksum of nothing
            assert refused or (file.suffix == ".png" and cut == size - 2), cut
        file.write_bytes(content)


def test_a_missing_file_is_named_with_the_folders_searched(small: Small, tmp_path: Path) -> None:
    if not small.files:
        pytest.skip("it is embedded")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(FileNotFoundError) as caught:
        small.data.load("test", root=empty)
    message = str(caught.value)
    assert str(empty) in message and str(tmp_path / "cache") in message
    wanted = {getattr(small.data, "path", file.name) for file in small.files}
    assert any(name in message for name in wanted)
    assert "\n" not in message
