"""The doors of images with labels: npz, folders of pictures, IDX, batches."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

from fuzz import files
from fuzz.door import Door
from fuzz.oracle import Refusal, answered, check_examples, require
from fuzz.values import Made
from spearshield.datasets import dataset
from spearshield.datasets.image_folder import ImageFolder
from spearshield.datasets.npz import Npz
from spearshield.experiment.as_examples import as_examples
from spearshield.storage import idx


def enter_npz(given: tuple[Made, dict[str, Any]]) -> bool:
    """Read an npz file as test images."""
    made, more = given
    path = Path("t.npz")
    path.write_bytes(made.content)

    data = answered(lambda: dataset("t.npz", **more))
    if isinstance(data, Refusal):
        return False
    assert isinstance(data, Npz)
    answer = answered(lambda: as_examples(data), file=path, whole=made.whole)
    if isinstance(answer, Refusal):
        return False
    check_examples(answer)
    if more.get("size"):
        require(answer.shape[1:] == more["size"], "another size", answer.shape)
    return True


SIZES = st.sampled_from([None] * 4 + [(6, 6), (3, 9), (1, 1)])
NPZ = Door(
    "npz",
    st.tuples(
        files.npz_files(),
        st.fixed_dictionaries(
            {}, optional={"size": SIZES, "classes": st.sampled_from([None, 1, 3, 10])}
        ),
    ),
    enter_npz,
    weight=2,
)

PLACES = ("a", "b", "1", "02", "2", "test/a", "train/a", "", "a/deep", ".hidden", "1e", "²", "test")
"""Folders that pictures lie in."""


def enter_folder(given: tuple[list[tuple[str, str, Made]], dict[str, Any]]) -> bool:
    """Read a folder of pictures as test images."""
    pictures, more = given
    folder = Path("photos")
    folder.mkdir()
    for i, (place, suffix, made) in enumerate(pictures):
        (folder / place).mkdir(parents=True, exist_ok=True)
        (folder / place / f"{i}{suffix}").write_bytes(made.content)

    def read() -> Any:
        data = dataset("photos", **more)
        assert isinstance(data, ImageFolder)
        return as_examples(data)

    whole = all(made.whole for _, _, made in pictures)
    answer = answered(read, whole=whole)
    if isinstance(answer, Refusal):
        one = len(pictures) == 1 and not more
        require(not one or "photos" in answer.message, "message without the file", answer.message)
        return False
    check_examples(answer)
    if more.get("size"):
        require(answer.shape[1:] == more["size"], "another size", answer.shape)
    return True


def _folders(pictures: Any) -> Any:
    one = st.tuples(st.sampled_from([*PLACES[:2]] * 6 + [*PLACES]), pictures).map(
        lambda t: (t[0], *t[1])
    )
    options = {
        "size": SIZES,
        "classes": st.sampled_from([None, 1, 2, 3]),
        "channels": st.sampled_from([1, 3]),
    }
    return st.tuples(
        st.lists(one, min_size=1, max_size=3), st.fixed_dictionaries({}, optional=options)
    )


FOLDER = Door("png and jpg", _folders(files.pictures()), enter_folder, weight=2)


def enter_idx(given: tuple[str, Made, Made]) -> bool:
    """Read images and labels in the format of MNIST."""
    suffix, images, labels = given
    paths = Path(f"images{suffix}"), Path(f"labels{suffix}")
    for path, made in zip(paths, (images, labels), strict=True):
        path.write_bytes(made.content)
    names = tuple("0123456789")
    answer = answered(lambda: idx.examples(*paths, names), whole=images.whole)
    if isinstance(answer, Refusal):
        named = any(f"{path}:" in answer.message or f"{path} " in answer.message for path in paths)
        require(named, "message without the file", answer.message)
        return False
    check_examples(answer)
    return True


IDX = Door("idx", files.idx_files(), enter_idx)


def grey(*shape: int) -> torch.Tensor:
    """A gradient of a shape."""
    return torch.linspace(0, 1, math.prod(shape)).reshape(shape)


ITEMS = st.sampled_from(
    [
        grey(1, 6, 6),
        grey(2, 1, 6, 6),
        grey(2, 3, 6, 6),
        0,
        1,
        torch.tensor([0, 1]),
        "a",
        None,
        (),
        b"x",
        np.ones((1, 6, 6), "u1"),
        [0, 1],
        grey(6, 6),
        {"x": 1},
        -1,
        1.5,
        torch.tensor(2),
    ]
)


def enter_batches(given: tuple[list[Any], str]) -> bool:
    """Turn batches into examples."""
    batches, form = given

    def generated() -> Iterator[Any]:
        yield from batches

    source: Any = {
        "list": batches,
        "tuple": tuple(batches),
        "generator": generated(),
        "dict": dict(enumerate(batches)),
    }[form]
    answer = answered(lambda: as_examples(source))
    if isinstance(answer, Refusal):
        return False
    check_examples(answer)
    return True


_GOOD = st.sampled_from([(2, 1), (1, 1), (2, 3)]).map(
    lambda size: (grey(*size, 6, 6), torch.arange(size[0]))
)
_PAIR = st.tuples(ITEMS, ITEMS) | _GOOD
BATCHES = Door(
    "batches",
    st.tuples(
        st.lists(_GOOD, min_size=1, max_size=3)
        | st.lists(_PAIR | _PAIR.map(list) | ITEMS | st.tuples(ITEMS, ITEMS, ITEMS), max_size=3),
        st.sampled_from(["list", "list", "generator", "tuple", "dict"]),
    ),
    enter_batches,
)

DOORS = (NPZ, FOLDER, IDX, BATCHES)
