"""Networks of other packages: import the package, check a network, normalise its input."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Sequence
from types import ModuleType

import torch
from torch import Tensor, nn

from spearshield.architecture import Normalize
from spearshield.types import Images, Shape


def package(name: str) -> ModuleType:
    """The optional package ``name``, imported at this call.

    Raises:
        ValueError: The package is absent, or its import fails, as torchvision's and timm's do if
            torchvision was built for another version of torch.
    """
    try:
        return importlib.import_module(name)
    except (ImportError, RuntimeError, OSError) as error:
        raise ValueError(
            f"{name} could not be imported ({reason(error)}); install a build that fits torch "
            f"{torch.__version__}, or choose a classifier that does not need it"
        ) from error


def check_name(name: str, known: Sequence[str]) -> None:
    """Raise if ``name`` is not among the ``known`` names of a package.

    Raises:
        ValueError: Lists the closest names.
    """
    if name not in known:
        close = difflib.get_close_matches(name, known, n=5, cutoff=0)
        raise ValueError(f"no model {name!r}; the closest of {len(known)}: {', '.join(close)}")


def published(name: str, create: Callable[[], nn.Module]) -> nn.Module:
    """The network with published weights that ``create`` returns.

    Raises:
        ValueError: The weights could not be downloaded.
    """
    try:
        return create()
    except (ImportError, RuntimeError, OSError) as error:
        raise ValueError(
            f"the published weights of {name} could not be fetched ({reason(error)}); "
            "load a file of weights instead, with pretrained=false"
        ) from error


def normalise(network: nn.Module, normalize: Normalize) -> None:
    """Add the normalisation to the network, so that its input is images in [0, 1].

    It is a hook and not a wrapper, so the names of the weights stay the same.
    """
    network.register_buffer("spearshield_mean", normalize.mean, persistent=False)
    network.register_buffer("spearshield_std", normalize.std, persistent=False)
    network.register_forward_pre_hook(_normalise)


def fitted(network: nn.Module, shape: Shape, classes: int, name: str) -> nn.Module:
    """The network in training mode, after a check of its output for one black image.

    Raises:
        ValueError: It does not accept images of this shape, or does not return ``classes`` logits.
    """
    c, h, w = shape
    try:
        with torch.no_grad():
            logits = network.eval()(torch.zeros(1, c, h, w))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise ValueError(f"{name} does not take {c}x{h}x{w} images: {reason(error)}") from error
    if not (isinstance(logits, Tensor) and logits.shape == (1, classes)):
        seen = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(
            f"{name} must return logits of shape (1, {classes}) for one image, it returns {seen}"
        )
    return network.train()


def reason(error: BaseException) -> str:
    """The first line of the error's message, or its type if there is none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _normalise(network: nn.Module, inputs: tuple[Images]) -> Images:
    mean, std = (network.get_buffer(f"spearshield_{name}") for name in ("mean", "std"))
    return (inputs[0] - mean) / std
