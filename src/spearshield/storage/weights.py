"""Weights in files, checked before they reach a network.

:mod:`spearshield.storage.tensor_files` reads the files, without running code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, TypeAlias

import safetensors.torch
import torch
from torch import Tensor, nn

from spearshield.storage.atomic import write_atomically
from spearshield.storage.reading import shortened
from spearshield.storage.tensor_files import Groups, read_groups

Tensors: TypeAlias = Mapping[str, Tensor]

_COUNTERS = ("num_batches_tracked", "n_averaged", "total_ops", "total_params")
"""Last parts of the names of numbers that change no output."""

_MEANS, _STDS = ("mean", "means", "mu"), ("std", "stds", "sigma", "sd")
"""Last parts of the names that other packages give to the normalisation of images."""


def save_weights(module: nn.Module, path: Path) -> None:
    """Write the weights of ``module`` to a safetensors file, atomically.

    Raises:
        ValueError: ``path`` does not end in ``.safetensors``.
        OSError: For example, the disk is full; an earlier file at ``path`` is kept whole.
    """
    if path.suffix != ".safetensors":
        raise ValueError(f"weights are written as .safetensors, got {path.name!r}")
    body = {k: v.detach().cpu().contiguous().clone() for k, v in module.state_dict().items()}
    write_atomically(path, safetensors.torch.save(body))


class MisfitError(ValueError):
    """The weights in a file are of another network."""


class Normalisation(NamedTuple):
    """The mean and standard deviation that are subtracted from images, and divide them."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


def load_weights(module: nn.Module, path: Path, *, normalised: Normalisation | None = None) -> None:
    """Load the weights of a file into ``module``; if they do not fit, change nothing.

    Of the dictionaries in a checkpoint, the one that fits ``module`` is loaded. The first parts of
    names do not matter where all names share them, such as ``module.`` or ``backbone.``, except
    numbers, which are positions among other layers. Floating point numbers of another precision
    are converted. Counters, such as those of batch normalisation, may be missing.

    Args:
        normalised: The normalisation in front of ``module``, which the file may repeat.

    Raises:
        FileNotFoundError: There is no such file; names the folder in which it was looked for.
        ValueError: The file is of another kind, truncated or corrupt; its names, shapes or types do
            not match ``module``; two different dictionaries in it match; it holds another
            normalisation; or a number is not finite. Names the file.
        OSError: The file cannot be opened.
    """
    expected = _tensors_of(module)
    found = _fitting(expected, read_groups(path), path)
    if found.normalisation and not _close(found.normalisation, normalised):
        mean, std = (",".join(f"{n:.6g}" for n in numbers) for numbers in found.normalisation)
        raise ValueError(
            f"{path} also holds the normalisation of its images, which the network does not have; "
            f"add --mean {mean} --std {std}, or save the weights of the network alone"
        )
    converted = _converted(expected, found.tensors)
    if bad := not_finite(converted):
        raise ValueError(f"{path}: {bad}; the training that wrote it diverged, use another file")
    module.load_state_dict({**module.state_dict(), **converted})


def load_part(module: nn.Module, name: str, path: Path) -> bool:
    """Load the network ``name`` of a training into ``module``; see :func:`load_weights`.

    The file is the checkpoint of the training, or the weights of its victim or of its purifier.

    Returns:
        True if the file holds such a network, else False.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is truncated or corrupt, or the network's weights do not fit or are not
            finite; names the file.
    """
    heads = tuple(f"{where}{name}." for where in ("purifier.", "/state/", ""))
    found = {
        full.removeprefix(head): value
        for tensors in read_groups(path).values()
        for full, value in tensors.items()
        for head in heads
        if full.startswith(head)
    }
    if not found:
        return False
    expected = _tensors_of(module)
    if fault := _fault(expected, found):
        raise ValueError(
            f"{path}: {name} does not fit ({fault}); set the width, latent and data with which it "
            "was trained"
        )
    converted = _converted(expected, found)
    if bad := not_finite(converted):
        raise ValueError(
            f"{path}: {name} is not finite ({bad}); its training diverged, use another file"
        )
    module.load_state_dict(converted)
    return True


class _Found(NamedTuple):
    """The tensors of one dictionary under the names of a network, as far as its names fit."""

    tensors: Tensors
    normalisation: Normalisation | None = None


def _fitting(expected: Tensors, groups: Groups, path: Path) -> _Found:
    """The dictionary of a file that fits the network.

    Raises:
        MisfitError: None fits.
        ValueError: Several fit that differ; names them.
    """
    found = {name: _under_names(expected, tensors) for name, tensors in groups.items()}
    fitting = {name: one for name, one in found.items() if not _fault(expected, one.tensors)}
    if not fitting:
        largest = max(found.values(), key=lambda one: len(one.tensors))
        fault = _fault(_without_counters(expected), _without_counters(largest.tensors))
        raise MisfitError(
            f"{path} does not fit the network ({fault}); choose the architecture, number of "
            "classes and image size for which the file was made"
        )
    first, *others = fitting.values()
    for other in others:
        if not all(torch.equal(first.tensors[name], other.tensors[name]) for name in expected):
            raise ValueError(
                f"{path} holds several weights for the network, which differ: "
                f"{_some([*fitting])}; save one of them alone, as "
                f"torch.save(torch.load(path)[{next(iter(fitting))!r}], new_path)"
            )
    return first


def _under_names(expected: Tensors, found: Tensors) -> _Found:
    """The tensors of a file under the names of the network, if these can be found."""
    if (renamed := _renamed(expected, found)) is not None:
        return _Found(renamed)
    pair = {_normalisation_part(name): name for name in found if name not in expected}
    if {"mean", "std"} <= pair.keys():
        mean, std = found[pair["mean"]], found[pair["std"]]
        rest = {name: v for name, v in found.items() if name not in (pair["mean"], pair["std"])}
        renamed = _renamed(expected, rest)
        if renamed is not None and mean.numel() == std.numel() <= 4:
            return _Found(renamed, Normalisation(_numbers(mean), _numbers(std)))
    return _Found(found)


def _renamed(expected: Tensors, found: Tensors) -> Tensors | None:
    """The tensors of ``found`` under the names of ``expected``; ``None`` if the names differ.

    Counters that the network does not have are left out, and those of the network that are missing
    keep their values. Of names that share one tensor in the network, the file needs one.
    """
    ties = _ties(expected)
    for own in _shared_starts(expected):
        for start in _shared_starts(found):
            moved = {own + name.removeprefix(start): value for name, value in found.items()}
            known = {name: value for name, value in moved.items() if name in expected}
            tied = {name: moved[other] for name, other in ties if other in moved}
            whole = {**_counters(expected), **tied, **known}
            if not _without_counters(moved).keys() - expected.keys() and whole.keys() == (
                expected.keys()
            ):
                return whole
    return None


def _ties(tensors: Tensors) -> list[tuple[str, str]]:
    """The pairs of different names of one tensor."""
    places: dict[object, list[str]] = {}
    for name, value in tensors.items():
        if value.numel() and value.data_ptr():
            place = value.data_ptr(), value.shape, value.stride(), value.dtype
            places.setdefault(place, []).append(name)
    return [(a, b) for names in places.values() for a in names for b in names if a != b]


def _shared_starts(names: Tensors) -> Iterator[str]:
    """The starts that all names of weights share, from none to the longest: "", "module.", ..."""
    start, weights = "", _without_counters(names)
    while True:
        yield start
        part, dot, _ = next(iter(weights), "").removeprefix(start).partition(".")
        start += part + dot
        if not dot or part.isdigit() or not all(name.startswith(start) for name in weights):
            return


def _is_counter(name: str) -> bool:
    return name.rpartition(".")[2] in _COUNTERS


def _counters(tensors: Tensors) -> Tensors:
    return {name: value for name, value in tensors.items() if _is_counter(name)}


def _without_counters(tensors: Tensors) -> Tensors:
    return {name: value for name, value in tensors.items() if not _is_counter(name)}


def _normalisation_part(name: str) -> str:
    """``mean`` or ``std`` for a name that other packages give to a normalisation, else ""."""
    last = name.rpartition(".")[2]
    return "mean" if last in _MEANS else "std" if last in _STDS else ""


def _numbers(tensor: Tensor) -> tuple[float, ...]:
    return tuple(map(float, tensor.flatten().tolist()))


def _close(a: Normalisation, b: Normalisation | None) -> bool:
    """True if two normalisations are the same up to rounding."""
    pairs = zip(a.mean + a.std, b.mean + b.std, strict=False) if b else ()
    same_length = b is not None and len(a.mean) == len(b.mean)
    return same_length and all(abs(x - y) <= 1e-4 for x, y in pairs)


def _tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """The tensors in the ``state_dict`` of a module, without extra state of other types."""
    return {k: v for k, v in module.state_dict().items() if isinstance(v, Tensor)}


def _fault(expected: Tensors, found: Tensors) -> str:
    """The reasons why ``found`` cannot replace ``expected``; empty if it can."""
    odd = {name: _unusual(value) for name, value in found.items() if _unusual(value)}
    both = [name for name in expected if name in found and name not in odd]
    faults = {
        "missing": [name for name in expected if name not in found],
        "unexpected": sorted(name for name in found if name not in expected),
        "not plain numbers": [f"{shortened(name)} {kind}" for name, kind in odd.items()],
        "of another shape": [
            f"{name} {tuple(found[name].shape)} for {tuple(expected[name].shape)}"
            for name in both
            if found[name].shape != expected[name].shape
        ],
        "of another type": [
            f"{name} {found[name].dtype} for {expected[name].dtype}"
            for name in both
            if _kind(found[name]) != _kind(expected[name])
        ],
    }
    return "; ".join(f"{fault}: {_some(names)}" for fault, names in faults.items() if names)


def _unusual(value: Tensor) -> str:
    """The kind of a tensor that is not a plain array of numbers in memory; empty if it is one."""
    if value.is_nested:
        return "nested"
    if value.layout is not torch.strided:
        return str(value.layout).removeprefix("torch.")
    if value.is_quantized:
        return "quantised"
    return "" if value.device.type == "cpu" else f"on the device {value.device.type}"


def _converted(expected: Tensors, found: Tensors) -> dict[str, Tensor]:
    """The tensors of ``found`` in the types of ``expected``."""
    return {name: value.to(expected[name].dtype) for name, value in found.items()}


def not_finite(tensors: Tensors) -> str:
    """The first tensor with values that are not finite; empty if all are finite."""
    for name, value in tensors.items():
        if count := int((~value.isfinite()).sum()):
            return f"{name} has {count} values that are not finite"
    return ""


def _kind(value: Tensor) -> str:
    """The dtype of a tensor, with one name for all floats, which are converted into each other."""
    return "float" if value.is_floating_point() else str(value.dtype)


def _some(names: list[str], count: int = 3) -> str:
    """The first names of a list, and the number of the others."""
    more = len(names) - count
    shown = ", ".join(map(shortened, names[:count]))
    return shown + (f" and {more} more" if more > 0 else "")
