"""Files through a network: sizes, names, and targets that are whole or absent."""

from __future__ import annotations

from argparse import Namespace
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from fixtures import files
from fixtures.models import Apply
from mutations import fails_under
from spearshield.cli import console, file_tools, options
from spearshield.dataset import Examples
from spearshield.judging import adversarial_set
from spearshield.storage import atomic
from spearshield.storage.images import fit
from spearshield.threat import Linf
from spearshield.training.learned_attack import LearnedAttack

SHAPE = (1, 8, 6)
HALF = Apply(lambda x: x / 2)


def purify(source: Path, target: Path, network: nn.Module = HALF, resize: bool = False) -> int:
    count, _ = file_tools.purify(network, source, target, SHAPE, "cpu", resize)
    return count


def picture(path: Path, *shape: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(files.encoded(files.noise(*(shape or SHAPE[1:]))))
    return path


def test_pictures_of_other_sizes_are_resized_if_asked(tmp_path: Path) -> None:
    picture(tmp_path / "in" / "large.png", 20, 9, 3)
    picture(tmp_path / "in" / "right.png")
    with pytest.raises(ValueError, match=r"large\.png has 9 x 20 pixels.*--size 8x6 resizes"):
        purify(tmp_path / "in", tmp_path / "out")
    assert purify(tmp_path / "in", tmp_path / "out", resize=True) == 2
    large = fit(Image.fromarray(files.noise(20, 9, 3)).convert("L"), (8, 6))
    for name, wanted in (("large", np.asarray(large)), ("right", files.noise(8, 6))):
        shown = np.asarray(Image.open(tmp_path / "out" / f"{name}.png")).astype(float)
        assert np.abs(shown - wanted / 2).max() <= 0.5


@pytest.mark.parametrize("size", [None, [8, 6], [6, 8]])
def test_the_size_that_is_asked_for_must_be_the_size_of_the_network(size: list[int] | None) -> None:
    words = Namespace(size=size)
    if size == [6, 8]:
        with pytest.raises(ValueError, match="--size is 6x8, and this network was trained on 8x6"):
            options.resize_to(words, SHAPE)
    else:
        assert options.resize_to(words, SHAPE) == (size is not None)


def test_hidden_files_are_left_out(tmp_path: Path) -> None:
    picture(tmp_path / "in" / "a" / "é 猫.png")
    for name in ("._é 猫.png", ".git/a.png", "Thumbs.db"):
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"")
    assert purify(tmp_path / "in", tmp_path / "out") == 1
    made = [path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*.png")]
    assert made == [Path("a/é 猫.png")]


SOURCES = {
    "inside": ("in", "in/out", "in/out is inside .*in; name a folder outside"),
    "itself": ("in", "in", "in exists already; name a new one"),
    "a file": ("in", "one.png", "one.png exists already"),
    "one picture": ("one.png", "out.png", "one.png is one picture; give a folder"),
    "an npy file": ("a.npy", "out.npz", "a.npy is a single array, in NumPy's npy format"),
    "an npz to a folder": (
        "other.npz",
        "out",
        "other.npz is an npz file, and so must be the output",
    ),
    "a folder to an npz": (
        "in",
        "out.npz",
        "in is a folder, and so must be the output, got .*out.npz",
    ),
    "other names": ("other.npz", "out.npz", r"no array x_adv, x, images or x_test; it has z"),
    "another format": ("webp", "out", "a.webp is not a PNG or JPEG file; convert it"),
    "a link": ("linked", "out", "up is a link to a folder"),
}


@pytest.mark.parametrize("given", SOURCES)
def test_other_sources_and_targets_are_refused(tmp_path: Path, given: str) -> None:
    picture(tmp_path / "in" / "a.png")
    picture(tmp_path / "one.png")
    np.save(tmp_path / "a.npy", files.noise(2, 8, 6))
    np.savez(tmp_path / "other.npz", z=files.noise(2, 8, 6))
    (tmp_path / "webp").mkdir()
    (tmp_path / "webp" / "a.webp").write_bytes(b"")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "up").symlink_to(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    source, target, said = SOURCES[given]
    with pytest.raises(ValueError, match=said):
        purify(tmp_path / source, tmp_path / target)
    assert sorted(tmp_path.rglob("*")) == before


def test_arrays_are_not_resized(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=files.noise(2, 9, 9))
    with pytest.raises(ValueError, match="--size resizes the pictures of a folder, not arrays"):
        purify(tmp_path / "a.npz", tmp_path / "out.npz", resize=True)
    with pytest.raises(ValueError, match=r"x: images have shape \(2, 9, 9\); this purifier was"):
        purify(tmp_path / "a.npz", tmp_path / "out.npz")


@fails_under("folders written in place", (file_tools, "new_folder", nullcontext))
def test_nothing_remains_of_a_target_that_failed(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(file_tools, "BATCH", 1)
    picture(tmp_path / "in" / "1.png")
    picture(tmp_path / "in" / "2.png", 9, 9)
    (tmp_path / "out").mkdir()
    with pytest.raises(ValueError, match=r"2\.png"):
        purify(tmp_path / "in", tmp_path / "out")
    assert [*(tmp_path / "out").iterdir()] == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


def test_a_new_folder_replaces_an_empty_one_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "new" / "out"
    with atomic.new_folder(target) as made:
        (made / "a").write_bytes(b"a")
        assert not target.exists()
    assert [path.name for path in target.iterdir()] == ["a"]
    assert [path.name for path in target.parent.iterdir()] == ["out"]
    with pytest.raises(ValueError, match="out exists already"), atomic.new_folder(target):
        pass
    with pytest.raises(KeyboardInterrupt), atomic.new_folder(tmp_path / "other"):
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_an_adversarial_set_is_whole_or_absent(tmp_path: Path, monkeypatch) -> None:
    def full(path: Path, image: torch.Tensor) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(adversarial_set, "write_png", full)
    x = torch.rand(2, *SHAPE)
    examples = Examples.of(x, torch.zeros(2).long(), ("a", "b"))
    made = object.__new__(adversarial_set.AdversarialSet)
    fields = {"examples": examples, "x_adv": examples.images(), "trial": None}
    settings = adversarial_set.EvaluationSettings()
    for name, value in {**fields, "settings": settings}.items():
        object.__setattr__(made, name, value)
    monkeypatch.setattr(adversarial_set, "dump", lambda trial: {})
    with pytest.raises(OSError, match="No space"):
        made.save(tmp_path / "set")
    assert [*tmp_path.iterdir()] == []


def test_the_class_of_each_id_is_printed_where_it_is_not_its_name(capsys) -> None:
    x, y = torch.zeros(2, 1, 2, 2), torch.tensor([0, 1])
    console.classes(Examples.of(x, y, ("0", "1")))
    assert capsys.readouterr().out == ""
    console.classes(Examples.of(x, y, ("0", "1", "10")))
    assert capsys.readouterr().out == "classes: 2 = 10\n"
    console.classes(Examples.of(x, y, tuple(f"c{i}" for i in range(12))))
    assert "0 = c0, 1 = c1, " in (said := capsys.readouterr().out) and "and 2 more" in said


@pytest.mark.parametrize("dtype", ["uint8", "<f4", ">f4", "<f2", "<f8", ">f8"])
def test_an_npz_keeps_its_type_and_the_budget_of_an_attack(tmp_path: Path, dtype: str) -> None:
    threat, noise = Linf(0.1), np.random.default_rng(0).random((5, *SHAPE))
    x = (noise * 255).astype(np.uint8) if dtype == "uint8" else noise.astype(dtype)
    np.savez(tmp_path / "in.npz", x=x)
    attack = LearnedAttack(threat, Apply(lambda x: (x + 0.1).clamp(0, 1)))
    file_tools.perturb(attack, tmp_path / "in.npz", tmp_path / "out.npz", SHAPE, "cpu")
    with np.load(tmp_path / "out.npz") as file:
        found = file["x"]
    assert found.dtype == x.dtype and not np.array_equal(found, x)
    scale = 255.0 if dtype == "uint8" else 1.0
    assert np.abs(found.astype(float) - x.astype(float)).max() / scale <= 0.1 + 1e-6
