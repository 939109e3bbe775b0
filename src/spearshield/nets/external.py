"""Networks of other packages: their import, their normalisation, and checks of their output."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType

import torch
from torch import Tensor, nn

from spearshield import foreign
from spearshield.architecture import Normalize
from spearshield.foreign import cause as cause  # noqa: PLC0414
from spearshield.foreign import reason as reason  # noqa: PLC0414
from spearshield.inputs import placed
from spearshield.types import Images, Shape


def package(name: str) -> ModuleType:
    """An optional package, imported now.

    Raises:
        ValueError: It is absent or broken. For example, a torchvision built for another torch fails
            at import with a RuntimeError, and so does timm, which imports torchvision.
    """
    try:
        return importlib.import_module(name)
    except (ImportError, RuntimeError, OSError) as error:
        raise ValueError(
            f"{name} could not be imported ({reason(error)}); install a build that fits torch "
            f"{torch.__version__}, or choose a classifier that does not need it"
        ) from error


def published(name: str, create: Callable[[], nn.Module]) -> nn.Module:
    """The network that ``create`` builds with published weights.

    Raises:
        ValueError: The weights could not be downloaded; suggests a file of weights.
    """
    try:
        return create()
    except (ImportError, RuntimeError, OSError) as error:
        raise ValueError(
            f"the published weights of {name} could not be downloaded ({reason(error)}); "
            "load a file of weights instead, with pretrained=false"
        ) from error


def normalise(network: nn.Module, normalize: Normalize) -> None:
    """Add normalisation to a network, which then takes images in [0, 1].

    A hook is used, not a wrapper, so that the weights keep the names of published files.
    """
    network.register_buffer("spearshield_mean", normalize.mean, persistent=False)
    network.register_buffer("spearshield_std", normalize.std, persistent=False)
    network.register_forward_pre_hook(_normalise)


def fitted(network: nn.Module, shape: Shape, classes: int, name: str) -> nn.Module:
    """The network, after a check that it maps one black image to ``classes`` logits.

    Raises:
        ValueError: It does not take images of this shape, or does not return such logits.
    """
    logits = answer(network, shape, name)
    if not (isinstance(logits, Tensor) and logits.shape == (1, classes)):
        seen = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(
            f"{name} must return logits of shape (1, {classes}) for one image, it returns {seen}"
        )
    return network


def answer(network: nn.Module, shape: Shape, name: str) -> object:
    """The output of a network for one black image; the network is in training mode afterwards.

    Raises:
        ForeignError: It does not take images of this shape.
    """
    c, h, w = shape
    with torch.no_grad():
        lead = f"{name} does not take {c}x{h}x{w} images"
        returned: object = foreign.call(
            network.eval(), placed(torch.zeros(1, c, h, w), network), lead=lead
        )
    network.train()
    return returned


def _normalise(network: nn.Module, inputs: tuple[Images]) -> Images:
    mean, std = (network.get_buffer(f"spearshield_{name}") for name in ("mean", "std"))
    return (inputs[0] - mean) / std
