"""Images and labels in every container, type, layout and size: converted or refused."""

from __future__ import annotations

import warnings

import jaxtyping
import numpy as np
import pytest
import torch

from fixtures import files
from mutations import fails_under
from spearshield import pixels
from spearshield.arrays import as_tensor
from spearshield.pixels import as_images, as_labels, as_pixels, check_images

LEVELS = files.noise(4, 8, 6)
FLOATS = (LEVELS / 255).astype(np.float32)
WANTED = torch.from_numpy(LEVELS)[:, None]


class Series:
    """A container that only converts itself to an array, as those of other libraries."""

    def __init__(self, values):
        self.values = np.asarray(values)

    def __array__(self, dtype=None, copy=None):
        return self.values


@pytest.fixture(autouse=True)
def unchecked(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # else it raises first


def quantised():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(WANTED / 255, 1 / 255, 0, torch.quint8)


CONTAINERS = {
    "arrays in a list": lambda: [*LEVELS],
    "tensors in a list": lambda: [*WANTED],
    "numbers in lists": FLOATS.tolist,
    "a series": lambda: Series(LEVELS),
    "negative strides": lambda: LEVELS[::-1].copy()[::-1],
    "columns first": lambda: np.asfortranarray(LEVELS),
    "read only": lambda: np.broadcast_to(LEVELS, LEVELS.shape),
    "big-endian": lambda: FLOATS.astype(">f8"),
    "a mask that hides nothing": lambda: np.ma.array(LEVELS),
    "with a gradient": (WANTED / 255).requires_grad_,
    "a parameter": lambda: torch.nn.Parameter(WANTED / 255),
    "sparse": WANTED.to_sparse,
    "quantised": quantised,
    "bfloat16": (WANTED / 255).bfloat16,
}


@pytest.mark.parametrize("given", CONTAINERS)
def test_the_container_changes_nothing(given):
    assert torch.equal(as_pixels(CONTAINERS[given]()), WANTED)


def nested():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.nested.nested_tensor([WANTED[0], WANTED[0, :, :4]])


def objects():
    found = np.empty(2, object)
    found[0], found[1] = LEVELS[0], LEVELS[0, :4]
    return found


REFUSED = {
    "no numbers": (lambda: WANTED.to("meta"), "device 'meta'"),
    "a nested tensor": (nested, "nested tensor; they must have one shape"),
    "hidden numbers": (lambda: np.ma.masked_greater(LEVELS, 9), "masked array in which numbers"),
    "objects": (objects, r"Python objects of type ndarray; np\.stack"),
    "strings": (lambda: np.full((1, 8, 6), "a"), "strings such as 'a'; they must be a tensor"),
    "records": (lambda: np.zeros((1, 8, 6), [("a", "u1")]), "are records"),
    "dates": (lambda: np.zeros((1, 8, 6), "M8[s]"), "are datetime64"),
    "arrays of two sizes": (lambda: [LEVELS[0], LEVELS[0, :4]], r"number 1 has \(4, 6\), number 0"),
    "tensors of two sizes": (lambda: [WANTED[0], WANTED[0, :, :4]], "differ in shape: number 1"),
    "lists of two lengths": (lambda: [[1.0], [1.0, 0.5]], "array of one shape"),
    "nothing": (lambda: LEVELS[:0], r"shape \(0, 8, 6\), which holds no pixel"),
    "a number": (lambda: 0.5, r"shape \(\); they must be \(n, c, h, w\)"),
    "flat": (lambda: LEVELS.reshape(4, 48), r"reshape\(-1, c, h, w\)"),
    "five axes": (lambda: WANTED[None], r"they must be \(n, c, h, w\)"),
    "two channels": (lambda: files.noise(4, 8, 6, 2), "with 1 or 3 channels"),
    "RGBA last": (lambda: files.noise(4, 8, 6, 4), r"fourth channel, as in images\[\.\.\., :3\]"),
    "RGBA first": (lambda: files.noise(4, 4, 8, 6), r"fourth channel, as in images\[:, :3\]"),
    "two layouts": (lambda: files.noise(4, 3, 8, 3), "could be .* or .*torch.from_numpy"),
}


@fails_under(
    "the layout guessed",
    (pixels, "channels_first", lambda images, torch_order: images.reshape(len(images), 1, -1, 1)),
    given="two layouts",
)
@pytest.mark.parametrize("given", REFUSED)
def test_other_containers_and_shapes_are_refused(given):
    make, said = REFUSED[given]
    with pytest.raises(ValueError, match=f"^images .*{said}"):
        as_pixels(make())


@pytest.mark.parametrize("side", [(1, 1), (2, 2), (1, 9), (9, 1), (3, 3)])
@pytest.mark.parametrize("channels", [1, 3])
def test_tensors_of_any_size_have_the_order_of_torch(channels, side):
    x = torch.from_numpy(files.noise(4, channels, *side))
    assert torch.equal(as_pixels(x), x)
    last = np.ascontiguousarray(x.permute(0, 2, 3, 1))
    if side not in ((1, 9), (9, 1), (3, 3), (1, 1)):
        assert torch.equal(as_pixels(last), x)


def test_images_keep_double_and_gain_single_precision():
    x = torch.rand(2, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    assert as_images(x) is x
    assert torch.equal(as_images(x.double()), x.double())
    for kind in (torch.float16, torch.bfloat16):
        assert torch.equal(as_images(x.to(kind)), x.to(kind).float())
    levels = (255 * x).byte()
    assert torch.equal(as_images(levels.numpy()), levels / 255)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((2, 1, 3, 3), "int16"), "images are int16"),
        (np.zeros((2, 3, 3), "float32"), r"shape \(2, 3, 3\)"),
        (np.zeros((2, 1, 3, 3), "complex64"), "images are complex64"),
        (np.full((2, 1, 3, 3), "a"), "images are strings .* they must be a tensor or array"),
    ],
)
def test_attacks_refuse_other_images(x, message):
    with pytest.raises(ValueError, match=message):
        as_images(x)


@pytest.mark.parametrize("shape", [(4, 0, 6, 6), (4, 1, 0, 6), (0, 1, 6, 0)])
def test_images_without_pixels_are_refused(shape):
    with pytest.raises(ValueError, match="which holds no pixel"):
        as_images(torch.zeros(shape))


def test_check_images_names_the_image_and_its_range():
    x = torch.full((3, 1, 2, 2), 0.5)
    check_images(x)
    x[1] = torch.tensor([[0.0, 255.0], [3.0, 4.0]])
    with pytest.raises(ValueError, match=r"image 1 has pixels from 0 to 255.*divide"):
        check_images(x)


Y = [0, 3, 1]

LABELS = {
    **{k: np.array(Y, k) for k in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", ">i4")},
    "a list": Y,
    "a tuple": tuple(Y),
    "a series": Series(Y),
    "tensors in a list": [torch.tensor(y) for y in Y],
    "a column": np.array(Y)[:, None],
    "a tensor": torch.tensor(Y, dtype=torch.uint8),
}


@pytest.mark.parametrize("given", LABELS)
def test_labels_in_every_container_and_type_of_integer(given):
    y = as_labels(LABELS[given])
    assert y.dtype == torch.int64 and y.tolist() == Y


def test_a_range_is_labels():
    assert as_labels(range(3)).tolist() == [0, 1, 2]


REFUSED_LABELS = {
    "one-hot rows": (np.eye(4)[Y], r"float64 of shape \(3, 4\).*argmax\(1\) converts"),
    "one-hot integers": (np.eye(4, dtype=int)[Y], r"argmax\(1\) converts"),
    "floats": (np.array(Y, float), r"are float64 .*astype\(int\) converts"),
    "a mask": (np.array(Y) > 0, "are bool .* integers"),
    "names": (["cat", "dog", "cow"], r"strings such as 'cat'.*np\.unique"),
    "names as objects": (np.array(["cat", "dog", "cow"], object), r"such as 'cat'.*np\.unique"),
    "a missing label": ([0, None, 1], r"Python objects of type int"),
    "a generator": (iter(Y), "Python objects of type list_iterator"),
    "one number": (1, r"shape \(\).*a list with one number for each image"),
    "negative": ([-1, 0, 1], "smallest label is -1; classes are numbered from 0"),
    "huge": ([0, 1, 10**12], "largest label is 1000000000000; it must be below 100,000"),
    "huge and unsigned": (np.array([0, 1, 2**64 - 1], np.uint64), "label is 18446744073709551615"),
    "hidden": (np.ma.masked_equal(Y, 3), "masked array in which numbers are missing"),
}


@fails_under(
    "huge labels taken for classes",
    (pixels, "MOST_CLASSES", 10**30),
    given="huge",
)
@pytest.mark.parametrize("given", REFUSED_LABELS)
def test_other_labels_are_refused(given):
    labels, said = REFUSED_LABELS[given]
    with pytest.raises(ValueError, match=said):
        as_labels(labels)


def test_a_tensor_of_numbers_is_kept():
    x = torch.zeros(2)
    assert as_tensor(x, "images") is x
