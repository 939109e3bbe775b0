"""Pixels: the type of an array decides what its numbers mean, at every door that takes images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from fixtures.models import Apply
from mutations import fails_under
from spearshield import dataset
from spearshield.adversary import Attack
from spearshield.cli import file_tools
from spearshield.dataset import Examples
from spearshield.datasets.image_folder import ImageFolder
from spearshield.experiment.as_examples import as_examples
from spearshield.pixels import eight_bit
from spearshield.threat import Linf
from spearshield.training.learned_attack import LearnedAttack

LEVELS = np.arange(256, dtype=np.uint8).reshape(4, 1, 8, 8)
Y = np.arange(4)

MEANT = {
    "uint8": LEVELS,
    "float32": (LEVELS / 255).astype(np.float32),
    "float64": LEVELS / 255,
    "big-endian float32": (LEVELS / 255).astype(">f4"),
    "torch uint8": torch.from_numpy(LEVELS),
    "torch float32": torch.from_numpy(LEVELS).float() / 255,
    "float16": (LEVELS / 255).astype(np.float16),
    "float32 that is not contiguous": np.ascontiguousarray((LEVELS / 255).T.astype("f4")).T,
}


@fails_under(
    "floats divided by 255 again",
    (dataset, "eight_bit", lambda images: (torch.as_tensor(images) / 255 * 255).byte()),
    given="torch float32",
    raises=ValueError,
)
@pytest.mark.parametrize("given", MEANT)
def test_the_type_decides_what_the_numbers_mean(given):
    images = MEANT[given]
    as_tensor = images if isinstance(images, torch.Tensor) else eight_bit(images)
    for made in (
        Examples.of(as_tensor, torch.from_numpy(Y), tuple("abcd")),
        as_examples(images, Y),
    ):
        assert torch.equal(made.pixels, torch.from_numpy(LEVELS)), given


def test_an_image_of_floats_keeps_its_level():
    made = Examples.of(torch.full((2, 1, 4, 4), 0.95), torch.zeros(2).long(), ("a",))
    assert made.pixels.unique().tolist() == [242]
    torch.testing.assert_close(made.images(), torch.full((2, 1, 4, 4), 242 / 255))


REFUSED = {
    "int64 from 0 to 255": (LEVELS.astype(np.int64), "are int64; they must be uint8"),
    "int16": (LEVELS.astype(np.int16), "are int16"),
    "int8": ((LEVELS // 2).astype(np.int8), "are int8"),
    "uint16": (LEVELS.astype(np.uint16) * 257, "are uint16"),
    "int32 tensor": (torch.from_numpy(LEVELS).int(), "are int32"),
    "bool": (LEVELS > 99, "are bool"),
    "complex": (LEVELS / 255 + 0j, "are complex128"),
    "objects": (LEVELS.astype(object), "are Python objects"),
    "long double": (LEVELS.astype(np.longdouble) / 255, "are float128"),
    "floats from 0 to 255": (LEVELS.astype(np.float32), "run from 0 to 255; floats must be finite"),
    "floats from -1 to 1": (LEVELS / 127.5 - 1, "run from -1 to 1"),
    "NaN": (np.where(LEVELS == 7, np.nan, LEVELS / 255), "run from nan to nan"),
    "infinity": (np.where(LEVELS == 7, np.inf, LEVELS / 255), "to inf"),
    "a mask of 0 and 1": (LEVELS % 2, "brightest pixel is 1 of 255"),
    "labels in place of images": (np.ones_like(LEVELS), "brightest pixel is 1 of 255"),
    "divided by 255 twice": (LEVELS / 255 / 255, "brightest pixel is 1 of 255"),
}


class Answer(nn.Module):
    def forward(self, x):
        return x.clone()


@fails_under(
    "nearly black images taken for images",
    (dataset, "check_levels", lambda pixels: None),
    (file_tools, "check_levels", lambda pixels: None),
    given="a mask of 0 and 1",
)
@pytest.mark.parametrize("given", REFUSED)
def test_other_numbers_are_refused_at_every_door(tmp_path: Path, given: str) -> None:
    images, said = REFUSED[given]
    with pytest.raises(ValueError, match=said):
        as_examples(images, Y)
    array = np.asarray(images)
    if array.dtype in (object, np.longdouble):
        return
    np.savez(tmp_path / "x.npz", x=array, y=Y)
    with pytest.raises(ValueError, match=said):
        as_examples(tmp_path / "x.npz")
    attack = LearnedAttack(Linf(0.1), Answer(), None)
    for through in (file_tools.purify, file_tools.perturb):
        with pytest.raises(ValueError, match=rf"x\.npz: x: .*{said}"):
            through(
                Answer() if through is file_tools.purify else attack,
                tmp_path / "x.npz",
                tmp_path / "out.npz",
                (1, 8, 8),
                "cpu",
            )
    assert not (tmp_path / "out.npz").exists()


def test_a_black_image_is_an_image():
    assert as_examples(np.zeros((1, 8, 8), np.uint8), [0]).pixels.unique().tolist() == [0]


def test_a_folder_of_masks_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Image.fromarray((LEVELS[0, 0] % 2).astype(np.uint8)).save(tmp_path / "a" / "mask.png")
    with pytest.raises(ValueError, match="brightest pixel is 1 of 255"):
        ImageFolder(path=str(tmp_path)).read("test", None)


@pytest.mark.parametrize("kind", ["f2", "f4", "f8", ">f4", "u1"])
@pytest.mark.parametrize("layout", ["first", "last", "none"])
def test_a_file_keeps_its_type_and_layout(tmp_path: Path, kind: str, layout: str) -> None:
    given = LEVELS if kind == "u1" else (LEVELS / 255).astype(kind)
    given = {"first": given, "last": given.transpose(0, 2, 3, 1), "none": given[:, 0]}[layout]
    np.savez(tmp_path / "in.npz", images=given, labels=Y)
    half = Apply(lambda x: x / 2)
    file_tools.purify(half, tmp_path / "in.npz", tmp_path / "out.npz", (1, 8, 8), "cpu")
    with np.load(tmp_path / "out.npz") as made:
        assert made["images"].dtype.name == given.dtype.name
        assert made["images"].shape == given.shape
        wanted = np.rint(given / 2) if kind == "u1" else given / 2
        np.testing.assert_allclose(made["images"], wanted, atol=1e-3)


def test_an_answer_out_of_range_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", x=LEVELS)
    double = Apply(lambda x: 2 * x)
    with pytest.raises(ValueError, match="pixels from 0.*to 2|must be finite and in"):
        file_tools.purify(double, tmp_path / "in.npz", tmp_path / "out.npz", (1, 8, 8), "cpu")
    assert not (tmp_path / "out.npz").exists()


class Shift(nn.Module):
    """Adds the whole budget of 0.1 where there is room, and subtracts it elsewhere."""

    def forward(self, x):
        return torch.where(x < 0.5, x + 0.1, x - 0.1)


@fails_under(
    "halves rounded to the nearest",
    (file_tools._Pass, "in_type", lambda self, dtype, answers, x: answers.astype(dtype)),
    kind="f2",
)
@pytest.mark.parametrize("kind", ["u1", "f2", "f4", "f8"])
def test_attacked_files_stay_inside_the_budget(tmp_path: Path, kind: str) -> None:
    given = LEVELS if kind == "u1" else (LEVELS / 255).astype(kind)
    np.savez(tmp_path / "in.npz", x=given)
    attack: Attack = LearnedAttack(Linf(0.1), Shift(), None)
    file_tools.perturb(attack, tmp_path / "in.npz", tmp_path / "out.npz", (1, 8, 8), "cpu")
    with np.load(tmp_path / "out.npz") as made:
        scale = 255 if kind == "u1" else 1
        away = np.abs(made["x"].astype(np.float64) - given.astype(np.float64)) / scale
    assert 0.09 < away.max() <= 0.1 + 1e-6
