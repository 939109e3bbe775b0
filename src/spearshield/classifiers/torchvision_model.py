"""torchvision: the classifiers of this library, as ``torchvision:NAME``.

https://pytorch.org/vision/stable/models.html. torchvision is optional, and imported only when a
network is built.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from spearshield.architecture import Architecture, Normalize
from spearshield.nets import external
from spearshield.spelling import known
from spearshield.types import Shape


@dataclass(frozen=True)
class TorchvisionModel(Architecture):
    """A model of ``torchvision.models``, with the normalisation of its published weights.

    Args:
        name: The name in torchvision: ``resnet18``, ``vgg19``.
        pretrained: Use the published weights, which are downloaded if they are not in torch's
            cache. They have 1,000 classes; for another number use ``timm:NAME``, which replaces the
            last layer.

    Raises:
        ValueError: From ``build``: torchvision is absent or broken, has no such model or cannot
            download the weights, or the network does not fit images or classes.
    """

    name: str
    pretrained: bool = False

    @property
    def display_name(self) -> str:
        return f"torchvision:{self.name}"

    def build(self, shape: Shape, classes: int) -> nn.Module:
        models = external.package("torchvision").models
        name = known(self.name, models.list_models(module=models), "model")
        weights = models.get_model_weights(name).DEFAULT
        if self.pretrained:
            published = len(weights.meta["categories"])
            if classes != published:
                raise ValueError(
                    f"the published weights of {self.name} have {published} classes, not "
                    f"{classes}; use timm:{self.name}, which replaces the last layer, or "
                    "pretrained=false"
                )
            network = external.published(self.name, lambda: models.get_model(name, weights=weights))
        else:
            network = models.get_model(name, num_classes=classes)
        # Inception and GoogLeNet: in training only logits, although the auxiliary heads remain so
        # that published files fit; and the rescaling that the published weights expect.
        for flag, value in (("aux_logits", False), ("transform_input", True)):
            if hasattr(network, flag):
                setattr(network, flag, value)
        pixels = weights.transforms()
        external.normalise(network, Normalize.of(shape[0], tuple(pixels.mean), tuple(pixels.std)))
        return external.fitted(network, shape, classes, f"torchvision:{self.name}")
