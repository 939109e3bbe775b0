"""Several networks of one architecture, whose logits are averaged.

Hansen, Salamon, "Neural network ensembles", 1990. https://doi.org/10.1109/34.58871

The networks have weights of their own and are trained together: an attack in training is on the
mean.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from spearshield.architecture import Architecture
from spearshield.classifiers.small_cnn import SmallCNN
from spearshield.ranges import require
from spearshield.types import Images, Logits, Shape


@dataclass(frozen=True)
class Ensemble(Architecture):
    """The mean of the logits of several networks.

    Args:
        inner: The architecture of the networks.
        members: Number of networks.

    Raises:
        ValueError: ``members`` is below 1.
    """

    inner: Architecture = SmallCNN()  # noqa: RUF009 - a frozen value
    members: int = 2

    def __post_init__(self) -> None:
        require(self, "members", at_least=1)

    def build(self, shape: Shape, classes: int) -> nn.Module:
        return Members(*(self.inner.build(shape, classes) for _ in range(self.members)))


class Members(nn.ModuleList):
    """Networks in a list, which is itself a classifier."""

    def __init__(self, *networks: nn.Module) -> None:
        super().__init__(networks)

    def forward(self, x: Images) -> Logits:
        """The mean of the logits."""
        logits: Logits = sum(network(x) for network in self)
        return logits / len(self)
