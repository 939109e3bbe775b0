"""timm: the classifiers of this library, as ``timm:NAME``.

Wightman, "PyTorch Image Models", 2019, https://github.com/huggingface/pytorch-image-models. timm
needs torchvision. Both are optional, and imported only when a network is built.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from torch import nn

from spearshield.architecture import Architecture, Normalize
from spearshield.nets import external
from spearshield.spelling import known
from spearshield.types import Shape


@dataclass(frozen=True)
class TimmModel(Architecture):
    """A model of timm, with the normalisation of its published weights.

    Args:
        name: The name in timm, with or without a tag: ``resnet18``, ``resnet18.a1_in1k``.
        pretrained: Use the published weights, which are downloaded if they are not in the cache.
            The last layer is replaced if they have another number of classes.

    Raises:
        ValueError: From ``build``: timm is absent or broken, has no such model or cannot download
            the weights, or the network does not fit images or classes.
    """

    name: str
    pretrained: bool = False

    @property
    def display_name(self) -> str:
        return f"timm:{self.name}"

    def build(self, shape: Shape, classes: int) -> nn.Module:
        timm = external.package("timm")
        base, dot, tag = self.name.partition(".")
        name = known(base, timm.list_models(), "model") + dot + tag
        arguments = {"num_classes": classes, "in_chans": shape[0], "pretrained": self.pretrained}
        create = partial(timm.create_model, name, **arguments)
        network = external.published(self.name, create) if self.pretrained else create()
        pixels = timm.data.resolve_model_data_config(network)
        external.normalise(network, Normalize.of(shape[0], pixels["mean"], pixels["std"]))
        return external.fitted(network, shape, classes, f"timm:{self.name}")
