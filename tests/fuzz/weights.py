"""Strategies of files of weights: safetensors, npz and the formats of torch."""

from __future__ import annotations

import collections
import datetime
import io
import json
import os
import pickle
import struct
import warnings
from functools import partial
from typing import Any

import numpy as np
import safetensors.torch
import torch
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from torch import nn

from fuzz.files import unzipped, zipped
from fuzz.values import Made, json_values, mutated, spoilt, texts

warnings.filterwarnings("ignore", module="fuzz")  # torch's, of odd tensors

STATE = {"0.weight": torch.linspace(-1, 1, 12).reshape(3, 4), "0.bias": torch.zeros(3)}
"""The weights of the network of the door: one linear layer."""


class Malicious:
    """An object that runs code when it is unpickled."""

    def __reduce__(self) -> Any:
        return (os.mkdir, ("unpickled",))


ODD_TENSORS: dict[str, Any] = {
    "half": lambda: STATE["0.weight"].half(),
    "bfloat16": lambda: STATE["0.weight"].bfloat16(),
    "float64": lambda: STATE["0.weight"].double(),
    "float8": lambda: STATE["0.weight"].to(torch.float8_e4m3fn),
    "int": lambda: STATE["0.weight"].long(),
    "bool": lambda: STATE["0.weight"].bool(),
    "complex": lambda: STATE["0.weight"].to(torch.complex64),
    "nan": lambda: STATE["0.weight"] * torch.nan,
    "inf in float64": lambda: STATE["0.weight"].double() * 1e300,
    "transposed": lambda: STATE["0.weight"].T,
    "transposed twice": lambda: STATE["0.weight"].T.contiguous().T,
    "parameter": lambda: nn.Parameter(STATE["0.weight"].clone()),
    "sparse": lambda: STATE["0.weight"].to_sparse(),
    "csr": lambda: STATE["0.weight"].to_sparse_csr(),
    "meta": lambda: STATE["0.weight"].to("meta"),
    "quantised": lambda: torch.quantize_per_tensor(STATE["0.weight"], 0.1, 0, torch.qint8),
    "empty": lambda: torch.empty(0),
    "scalar": lambda: torch.tensor(1.0),
    "expanded": lambda: torch.ones(1, 1).expand(3, 4),
    "uint16": lambda: torch.ones(3, 4, dtype=torch.uint16),
    "nested": lambda: torch.nested.nested_tensor([torch.ones(4), torch.ones(2)]),
    "huge expanded": lambda: torch.ones(1).expand(10**12),
    "list": lambda: STATE["0.weight"].tolist(),
    "array": lambda: STATE["0.weight"].numpy(),
    "none": lambda: None,
    "number": lambda: 3.5,
    "text": lambda: "weights",
}


def _recursive() -> dict[str, Any]:
    tree: dict[str, Any] = {"epoch": 1}
    tree["model"] = tree
    return tree


def _deep(depth: int = 3000) -> Any:
    tree: Any = STATE
    for _ in range(depth):
        tree = {"model": tree}
    return tree


TREES: dict[str, Any] = {
    "state": lambda: STATE,
    "network": lambda: nn.Sequential(nn.Linear(4, 3)),
    "wrapped": lambda: {"epoch": 3, "state_dict": STATE},
    "wrapped thrice": lambda: {"model": {"net": {"state_dict": STATE}}},
    "two wrappers": lambda: {"model": {"a": 1}, "state_dict": STATE},
    "prefixed": lambda: {f"module._orig_mod.{k}": v for k, v in STATE.items()},
    "prefix of one": lambda: {"0.weight": STATE["0.weight"], "module.0.bias": STATE["0.bias"]},
    "ordered": lambda: collections.OrderedDict(STATE),
    "numbered": lambda: dict(enumerate(STATE.values())),
    "list": lambda: list(STATE.values()),
    "tensor": lambda: STATE["0.weight"],
    "nothing": lambda: None,
    "empty": lambda: {},
    "empty wrapper": lambda: {"state_dict": {}},
    "recursive": _recursive,
    "deep": _deep,
    "date": lambda: {"when": datetime.date(2026, 1, 1), "state_dict": STATE},
    "malicious": lambda: {**STATE, "0.bias": Malicious()},
    "hidden": lambda: {"state_dict": STATE, "more": Malicious()},
    "partial": lambda: {"state_dict": STATE, "f": partial(print, "x")},
    "numpy number": lambda: {"loss": np.float64(1), "state_dict": STATE},
    "optimiser": lambda: {"model": STATE, "optim": torch.optim.Adam([torch.ones(1)]).state_dict()},
    "empty name": lambda: {"": STATE["0.weight"]},
    "long names": lambda: {"n" * 5000 + str(i): torch.ones(1) for i in range(5)},
}


@st.composite
def torch_files(draw: DrawFn) -> tuple[str, Made]:
    """Files of ``torch.save``, of old and new form, and with changed bytes."""
    suffix = draw(st.sampled_from([".pt", ".pth", ".ckpt", ".bin"]))
    name = draw(st.sampled_from([*TREES]))
    tree = TREES[name]()
    if draw(st.integers(0, 2)) == 0:
        odd = draw(st.sampled_from([*ODD_TENSORS]))
        name, tree = f"{odd} tensor", {**STATE, draw(st.sampled_from([*STATE])): ODD_TENSORS[odd]()}
    old = draw(st.booleans())
    kind = draw(st.sampled_from(["whole"] * 4 + ["spoilt", "pickle", "script", "member", "raw"]))
    content = io.BytesIO()
    try:
        torch.save(tree, content, _use_new_zipfile_serialization=not old)
    except (
        RuntimeError,
        RecursionError,
        pickle.PicklingError,
        AttributeError,
        NotImplementedError,
    ):
        content = io.BytesIO()
        torch.save(STATE, content)
        name, old = "state", False
    data, how = content.getvalue(), f"torch {name} {'old' if old else 'new'}"
    if kind == "spoilt":
        more, data = draw(spoilt(data, draw(st.sampled_from([None, 300]))))
        return suffix, Made(f"{how}, {more}", data, whole=False)
    if kind == "pickle":
        return suffix, Made("plain pickle of numbers", pickle.dumps({"a": [1, 2]}), whole=False)
    if kind == "script":
        content = io.BytesIO()
        torch.jit.save(torch.jit.script(nn.Linear(4, 3)), content)
        return suffix, Made("TorchScript", content.getvalue(), whole=True)
    if kind == "member" and not old:
        more, data = draw(with_spoilt_member(data))
        return suffix, Made(f"{how}, {more}", data, whole=False)
    if kind == "raw":
        raw = draw(st.binary(max_size=40))
        return suffix, Made(f"raw {raw!r}", raw, whole=False)
    return suffix, Made(how, data, whole=True)


@st.composite
def with_spoilt_member(draw: DrawFn, content: bytes) -> tuple[str, bytes]:
    """A zip file with changed bytes in one member, and the right checksum."""
    members = unzipped(content)
    name = draw(st.sampled_from([*members]))
    how, members[name] = draw(spoilt(members[name]))
    return f"{name}: {how}", zipped(members)


@st.composite
def npz_weights(draw: DrawFn) -> tuple[str, Made]:
    """Weights in npz files, with odd arrays and names."""
    arrays: dict[str, Any] = {k: v.numpy() for k, v in STATE.items()}
    odd = {
        "half": arrays["0.weight"].astype("f2"),
        "big-endian": arrays["0.weight"].astype(">f4"),
        "long": arrays["0.weight"].astype("g"),
        "complex": arrays["0.weight"].astype("c16"),
        "uint16": np.ones((3, 4), "u2"),
        "bool": np.ones((3, 4), "?"),
        "objects": np.array([[None] * 4] * 3),
        "texts": np.array([["a"] * 4] * 3),
        "dates": np.zeros((3, 4), "M8[s]"),
        "structured": np.zeros((3, 4), [("a", "f4")]),
        "fortran": np.asfortranarray(arrays["0.weight"]),
        "empty": np.zeros((0, 4), "f4"),
        "nan": arrays["0.weight"] * np.nan,
        "huge": arrays["0.weight"].astype("f8") * 1e300,
        "scalar": np.float32(1),
    }
    name = draw(st.sampled_from([*odd, "none", "none"]))
    if name in odd:
        arrays[draw(st.sampled_from([*STATE]))] = odd[name]
    if draw(st.integers(0, 3)) == 0:
        arrays = {f"module.{k}": v for k, v in arrays.items()}
    content = io.BytesIO()
    np.savez(content, **arrays)
    data = content.getvalue()
    if draw(st.integers(0, 4)) == 0:
        more, data = draw(spoilt(data))
        return ".npz", Made(f"npz {name}, {more}", data, whole=False)
    return ".npz", Made(f"npz with {name}", data, whole=True)


@st.composite
def safetensors_files(draw: DrawFn) -> tuple[str, Made]:
    """Weights in safetensors files, with a changed header, odd tensors or changed bytes."""
    kind = draw(st.sampled_from(["whole", "odd", "header", "header", "length", "spoilt", "raw"]))
    state = dict(STATE)
    if kind == "odd":
        name = draw(st.sampled_from([*ODD_TENSORS]))
        try:
            state[draw(st.sampled_from([*STATE]))] = ODD_TENSORS[name]().contiguous()
            return ".safetensors", Made(f"safetensors {name}", safetensors.torch.save(state), True)
        except (ValueError, AttributeError, RuntimeError, KeyError, NotImplementedError):
            state = dict(STATE)
    data = safetensors.torch.save(state)
    size = int.from_bytes(data[:8], "little")
    if kind == "header":
        tree = json.loads(data[8 : 8 + size])
        how, tree = draw(mutated(st.just(tree)))
        text = json.dumps(tree).encode("utf-8", "surrogatepass")
        return ".safetensors", Made(
            f"safetensors header {how}",
            struct.pack("<Q", len(text)) + text + data[8 + size :],
            False,
        )
    if kind == "length":
        length = draw(
            st.sampled_from([0, 1, size + 1, size * 1000, 10**8, 2**31, 2**63, 2**64 - 1])
        )
        return ".safetensors", Made(
            f"safetensors length {length}", struct.pack("<Q", length) + data[8:], False
        )
    if kind == "spoilt":
        more, data = draw(spoilt(data, draw(st.sampled_from([None, 8, 100]))))
        return ".safetensors", Made(f"safetensors, {more}", data, whole=False)
    if kind == "raw":
        raw = draw(
            st.binary(max_size=40)
            | st.builds(lambda v: str(v).encode("utf-8", "replace"), json_values | texts)
        )
        return ".safetensors", Made(f"raw {raw!r:.80}", raw, whole=False)
    return ".safetensors", Made("safetensors", data, whole=True)


@st.composite
def weight_files(draw: DrawFn) -> tuple[str, Made]:
    """The suffix and content of a file of weights; sometimes with the suffix of another format."""
    suffix, made = draw(st.one_of(torch_files(), npz_weights(), safetensors_files()))
    if draw(st.integers(0, 9)) == 0:
        other = draw(st.sampled_from([".pt", ".npz", ".safetensors", ".txt", ""]))
        return other, made._replace(whole=made.whole and other == suffix)
    return suffix, made
