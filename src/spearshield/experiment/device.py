"""The device of a computation."""

from __future__ import annotations

import re
from types import NoneType

import torch

from spearshield.spelling import got


def checked_device(device: object) -> str:
    """The name of a device, by default the CPU.

    Args:
        device: ``None``, ``cpu``, ``cuda``, ``cuda:N`` or a ``torch.device``.

    Raises:
        ValueError: There is no such device on this machine.
    """
    name = "cpu" if device is None else str(device)
    if not isinstance(device, (str, torch.device, NoneType)):
        name = got(device)
    if name == "cpu":
        return name
    if not re.fullmatch(r"cuda(:\d{1,3})?", name):
        raise ValueError(f"no device {name!r}; choose cpu, cuda, or cuda:N for one of several")
    if not torch.cuda.is_available():
        raise ValueError(f"no CUDA device is available for {name}; use the device cpu")
    if int(name.partition(":")[2] or 0) >= torch.cuda.device_count():
        raise ValueError(f"no device {name}; there are {torch.cuda.device_count()} CUDA devices")
    return name
