"""A user's own code: a small classifier and purifier, and models that answer in odd ways."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

CLASSES = 3
SHAPE = (1, 6, 6)


def build(shape: tuple[int, int, int] = SHAPE, classes: int = CLASSES) -> nn.Module:
    """A linear classifier with fixed weights."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], classes))
    with torch.no_grad():
        for weights in network.parameters():
            weights.copy_(torch.linspace(-1, 1, weights.numel()).cos().reshape(weights.shape))
    return network.eval()


def smooth(x: Tensor) -> Tensor:
    """A purifier: the images, less bright."""
    return x * 0.9


def not_a_network(shape: tuple[int, int, int]) -> str:
    """A function that does not build a network."""
    return f"{shape}"


def fails(shape: tuple[int, int, int]) -> nn.Module:
    """A function that raises an error of the user."""
    raise KeyError(shape)


class Odd(nn.Module):
    """A linear classifier whose output, or input, goes through a function."""

    def __init__(
        self, after: Callable[[Tensor], Any], before: Callable[[Tensor], Any] | None
    ) -> None:
        super().__init__()
        self.inner, self.after, self.before = build(), after, before

    def forward(self, x: Tensor) -> Any:
        return self.after(self.inner(self.before(x) if self.before else x))


def _raise(error: BaseException) -> Any:
    raise error


OUTPUTS: dict[str, Callable[[Tensor], Any]] = {
    "logits": lambda z: z,
    "tuple": lambda z: (z, z),
    "list": lambda z: [None, z],
    "empty tuple": lambda z: (),
    "dict": lambda z: {"logits": z},
    "dict of two": lambda z: {"a": z, "b": z},
    "dict of numbers": lambda z: {1: 2},
    "none": lambda z: None,
    "text": lambda z: "logits",
    "number": lambda z: 3.0,
    "array": lambda z: z.detach().numpy(),
    "array of objects": lambda z: np.array([None] * len(z)),
    "nested list": lambda z: z.tolist(),
    "transposed": lambda z: z.T,
    "one image": lambda z: z[0],
    "one logit": lambda z: z[:, :1],
    "one number": lambda z: z.sum(),
    "flat": lambda z: z[:, 0],
    "no logit": lambda z: z[:, :0],
    "four dimensions": lambda z: z[:, :, None, None],
    "fewer images": lambda z: z[:-1],
    "more images": lambda z: torch.cat([z, z]),
    "half": lambda z: z.half(),
    "float64": lambda z: z.double(),
    "int": lambda z: z.long(),
    "bool": lambda z: z > 0,
    "complex": lambda z: z.to(torch.complex64),
    "classes": lambda z: z.argmax(1),
    "probabilities": lambda z: z.softmax(1),
    "nan": lambda z: z * torch.nan,
    "one nan": lambda z: z + torch.where(torch.arange(CLASSES) == 0, torch.nan, 0),
    "inf": lambda z: z / 0,
    "huge": lambda z: z * 1e38,
    "constant": lambda z: z * 0,
    "detached": lambda z: z.detach(),
    "no gradient": lambda z: torch.zeros_like(z),
    "in place": lambda z: z.mul_(2),
    "sparse": lambda z: z.to_sparse(),
    "meta": lambda z: z.to("meta"),
    "function": lambda z: lambda: z,
    "key error": lambda z: _raise(KeyError("mine")),
    "error without text": lambda z: _raise(RuntimeError()),
    "error of lines": lambda z: _raise(ValueError("one\ntwo")),
    "type error": lambda z: z + "a",  # type: ignore[operator]
    "assertion": lambda z: _raise(AssertionError()),
    "not implemented": lambda z: _raise(NotImplementedError("later")),
    "stop": lambda z: _raise(StopIteration()),
    "recursion": lambda z: _raise(RecursionError("deep")),
    "memory": lambda z: torch.zeros(10**12),
    "os error": lambda z: open("/absent/file"),  # noqa: SIM115, PTH123
    "random": lambda z: z + torch.rand_like(z),
    "warning": lambda z: torch.nn.functional.softmax(z),
    "training": lambda z: z if z.requires_grad else z * 1.0,
}

INPUTS: dict[str, Callable[[Tensor], Any] | None] = {
    "none": None,
    "in place": lambda x: x.mul_(0.5),
    "zeroed": lambda x: x.zero_(),
    "detached": lambda x: x.detach(),
    "numpy": lambda x: torch.from_numpy(x.detach().numpy()),
    "rounded": lambda x: (x * 255).round() / 255,
    "float64": lambda x: x.double(),
    "wrong shape": lambda x: x[:, :, :3],
}


def model(output: str, before: str, kind: str) -> Any:
    """A model of a user: a module, function, script or something else."""
    made: Any = Odd(OUTPUTS[output], INPUTS[before])
    kinds: dict[str, Callable[[], Any]] = {
        "module": lambda: made,
        "training mode": lambda: made.train(),
        "function": lambda: made.forward,
        "half": lambda: made.half(),
        "bfloat16": lambda: made.bfloat16(),
        "float64": lambda: made.double(),
        "meta": lambda: made.to("meta"),
        "script": lambda: torch.jit.script(build()),
        "trace": lambda: torch.jit.trace(build(), torch.zeros(2, *SHAPE)),
        "no weights": lambda: nn.Flatten(),
        "identity": lambda: nn.Identity(),
        "lazy": lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(CLASSES)),
        "batch norm": lambda: nn.Sequential(nn.BatchNorm2d(1), build()),
        "dropout": lambda: nn.Sequential(nn.Dropout(0.5), build()).train(),
        "other channels": lambda: nn.Sequential(nn.Conv2d(3, 3, 3), nn.Flatten(), nn.LazyLinear(3)),
        "list": lambda: nn.ModuleList([made]),
        "empty": lambda: nn.Module(),
        "class": lambda: Odd,
        "text": lambda: "fuzz.models:build",
        "nothing": lambda: None,
        "parallel": lambda: nn.DataParallel(made),
        "nan weights": lambda: _with_weights(build(), torch.nan),
        "zero weights": lambda: _with_weights(build(), 0.0),
        "frozen": lambda: made.requires_grad_(False),
        "two classes": lambda: build(SHAPE, 2),
        "one class": lambda: build(SHAPE, 1),
        "no classes": lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 0)),
        "many classes": lambda: build(SHAPE, 1000),
    }
    return kinds[kind]()


KINDS = (
    *(
        "module",
        "training mode",
        "function",
        "half",
        "bfloat16",
        "float64",
        "meta",
        "script",
        "trace",
    ),
    *("no weights", "identity", "lazy", "batch norm", "dropout", "other channels", "list", "empty"),
    *(
        "class",
        "text",
        "nothing",
        "parallel",
        "nan weights",
        "zero weights",
        "frozen",
        "two classes",
    ),
    *("one class", "no classes", "many classes"),
)


def _with_weights(network: nn.Module, value: float) -> nn.Module:
    with torch.no_grad():
        for weights in network.parameters():
            weights.fill_(value)
    return network


class Purifier(nn.Module):
    """A purifier around a function."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


PURIFIERS: dict[str, Callable[[Tensor], Any]] = {
    "smooth": smooth,
    "negative": lambda x: x - 1,
    "too bright": lambda x: x + 1e-3,
    "nan": lambda x: x * torch.nan,
    "wider": lambda x: torch.cat([x, x], 3),
    "fewer": lambda x: x[:1],
    "one channel more": lambda x: x.repeat(1, 3, 1, 1),
    "float64": lambda x: x.double(),
    "half": lambda x: x.half(),
    "array": lambda x: x.detach().numpy(),
    "tuple": lambda x: (x, x),
    "none": lambda x: None,
    "bytes": lambda x: (x * 255).to(torch.uint8),
    "in place": lambda x: x.mul_(0.5),
    "detached": lambda x: x.detach(),
    "random": lambda x: (x + 0.1 * torch.rand_like(x)).clamp(0, 1),
    "of the batch": lambda x: (x - x.mean()).clamp(0, 1),
    "odd for odd batches": lambda x: x if len(x) % 2 == 0 else x * 2,
    "key error": lambda x: _raise(KeyError("mine")),
    "error": lambda x: _raise(RuntimeError("one\ntwo")),
    "exit": lambda x: _raise(OSError("gone")),
}
