"""Strategies of arrays, labels and tensors, mostly odd ones."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from numpy.typing import NDArray

DTYPES = (
    *("u1", "f4", "f8", "f2", ">f4", ">f8", "i1", "i2", "i4", "i8", ">i2", "u2", "u4", "u8", ">u2"),
    *("?", "c8", "c16", "g", "U3", "S3", "M8[s]", "m8[s]", "V4", "O"),
)
SHAPES = (
    *(
        (4, 1, 6, 6),
        (4, 6, 6),
        (4, 6, 6, 3),
        (4, 3, 6, 6),
        (1, 1, 6, 6),
        (6, 6),
        (6, 6, 3),
        (36,),
        (),
    ),
    *(
        (0, 1, 6, 6),
        (4, 0, 6, 6),
        (4, 1, 0, 6),
        (4, 1, 1, 1),
        (4, 2, 6, 6),
        (4, 6, 6, 4),
        (4, 1, 6, 6, 1),
    ),
    *(
        (3, 3, 3, 3),
        (3, 6, 3, 6),
        (4, 5, 6, 6),
        (2, 1, 300, 2),
        (4, 36),
        (4, 1, 1, 6),
        (4, 3, 6, 1),
    ),
)
FILLS = (
    *(
        "image",
        "image",
        "image",
        "unit",
        "zero",
        "one",
        "ones",
        "nan",
        "inf",
        "-inf",
        "negative",
        "levels",
    ),
    *("edge", "tiny", "half", "huge", "mask", "one nan"),
)


class Filled(NamedTuple):
    """An array by its type, shape and numbers."""

    dtype: str
    shape: tuple[int, ...]
    fill: str

    def array(self) -> NDArray[Any]:
        """The array."""
        numbers = self._numbers().reshape(self.shape)
        with np.errstate(all="ignore"):
            if np.dtype(self.dtype).kind in "OUS":
                return numbers.round().astype(np.int64).astype(self.dtype)
            if np.dtype(self.dtype).kind in "MmV":
                return np.zeros(self.shape, self.dtype)
            return (
                np.nan_to_num(numbers, posinf=9, neginf=-9).astype(self.dtype)
                if (np.dtype(self.dtype).kind in "iub")
                else numbers.astype(self.dtype)
            )

    def _numbers(self) -> NDArray[np.float64]:
        count = int(np.prod(self.shape))
        unit = np.linspace(0, 1, count) if count != 1 else np.ones(1)
        levels = np.dtype(self.dtype).kind in "iub"
        special = {
            "image": (unit * 255).round() if levels else unit,
            "unit": unit,
            "zero": unit * 0,
            "one": np.eye(1, max(count, 1))[0][:count],
            "ones": np.ones(count),
            "nan": np.full(count, np.nan),
            "inf": np.full(count, np.inf),
            "-inf": np.full(count, -np.inf),
            "negative": -unit,
            "levels": unit * 255,
            "edge": unit * (1 + 2**-23),
            "tiny": unit * 1e-40,
            "half": np.full(count, 0.5),
            "huge": unit * 1e300,
            "mask": (unit > 0.5).astype(float),
            "one nan": np.where(np.arange(count) == count - 1, np.nan, unit),
        }
        return special[self.fill]


filled: SearchStrategy[Filled] = st.builds(
    Filled,
    st.sampled_from(["u1"] * 60 + ["f4"] * 40 + [*DTYPES]),
    st.sampled_from([*SHAPES[:3]] * 25 + [*SHAPES]),
    st.sampled_from([*FILLS[:4]] * 12 + [*FILLS]),
)


@st.composite
def labels(draw: DrawFn, n: int | None = None) -> Any:
    """Labels: mostly class ids for ``n`` images, in an array, tensor or list; or something else."""
    count = 4 if n is None else n
    good = draw(st.lists(st.integers(0, 2), min_size=count, max_size=count))
    kind = draw(
        st.sampled_from(["good"] * 30 + ["from 1", "negative", "huge", "one-hot", "short", "odd"])
    )
    if kind == "from 1":
        good = [i + 1 for i in good]
    if kind == "negative":
        good = [-1, *good[1:]]
    if kind == "huge":
        good = [draw(st.sampled_from([10**3, 10**7, 2**31, 2**62])), *good[1:]]
    if kind == "short":
        good = good[:-1]
    if kind == "odd":
        return draw(st.sampled_from([None, "labels", 3, [], [[]], {}, [None] * 4, ["a"] * 4, 1.5]))
    form = draw(
        st.sampled_from(
            [*["i8"] * 10, "i4", "u1", ">i4", "u8", "f4", "?", "tensor", "list", "column"]
        )
    )
    array = np.array(good, np.int64)
    if kind == "one-hot":
        array = np.eye(3, dtype=np.int64)[array % 3]
    if form == "tensor":
        return torch.from_numpy(array)
    if form == "list":
        return array.tolist()
    return array.reshape(-1, 1) if form == "column" else array.astype(form)


TENSOR_KINDS = (
    *(
        "array",
        "array",
        "tensor",
        "tensor",
        "grad",
        "strided",
        "flipped",
        "sparse",
        "half",
        "bfloat16",
    ),
    *("float8", "meta", "quantised", "list", "readonly", "masked", "subclass", "expanded", "conj"),
)


def in_form(array: NDArray[Any], kind: str) -> Any:
    """An array in another form: a tensor of some kind, a list, a read-only or masked array."""
    if kind in ("array", "list", "readonly", "masked"):
        made = array.copy()
        if made.ndim:
            made.flags.writeable = kind != "readonly"
        return (
            made.tolist()
            if kind == "list"
            else np.ma.masked_array(made)
            if kind == "masked"
            else made
        )
    try:
        tensor = torch.from_numpy(np.ascontiguousarray(array, array.dtype.newbyteorder("=")))
    except TypeError:
        return array
    floats = tensor.float() if not tensor.is_complex() else tensor
    forms: dict[str, Any] = {
        "tensor": lambda: tensor,
        "grad": lambda: floats.clone().requires_grad_(),
        "strided": lambda: (
            tensor.transpose(0, -1).contiguous().transpose(0, -1) if tensor.ndim else tensor
        ),
        "flipped": lambda: tensor.flip(0) if tensor.ndim else tensor,
        "sparse": lambda: floats.to_sparse() if tensor.ndim else tensor,
        "half": lambda: floats.half(),
        "bfloat16": lambda: floats.bfloat16(),
        "float8": lambda: floats.real.float().to(torch.float8_e4m3fn),
        "meta": lambda: tensor.to("meta"),
        "quantised": lambda: torch.quantize_per_tensor(floats.real, 1 / 255, 0, torch.quint8),
        "subclass": lambda: torch.nn.Parameter(floats),
        "expanded": lambda: (
            floats[:1].expand(floats.shape) if tensor.ndim and len(tensor) else tensor
        ),
        "conj": lambda: floats.to(torch.complex64).conj(),
    }
    try:
        return forms[kind]()
    except (RuntimeError, TypeError):
        return tensor
