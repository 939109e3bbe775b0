"""Transductive evaluation: batch normalisation by the statistics of the images at hand.

The released code of Wang and Yu evaluates in this way: https://arxiv.org/abs/1905.09591,
https://github.com/whxbergkamp/RobustDL_GAN. The logits of an image then depend on the other images
of its batch, so no figure of such a classifier is a robust accuracy. It exists to measure the
difference.
"""

from __future__ import annotations

import copy

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from spearshield.types import Images, Logits


class Transductive(nn.Module):
    """A copy of a classifier that normalises by the statistics of each batch, in every mode.

    Args:
        classifier: The classifier; it does not change.
    """

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = copy.deepcopy(classifier).eval()
        for layer in self.classifier.modules():
            if isinstance(layer, _BatchNorm):
                layer.track_running_stats = False
                layer.running_mean = layer.running_var = None

    def forward(self, x: Images) -> Logits:
        """The logits of one batch, which depend on all its images."""
        logits: Logits = self.classifier(x)
        return logits
