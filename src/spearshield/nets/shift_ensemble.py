"""A classifier whose logits are averaged over diagonal shifts of the image.

Pérez, Alfarra, Jeanneret, Rueda, Thabet, Ghanem, Arbeláez, "Enhancing Adversarial Robustness via
Test-time Transformation Ensembling", 2021, https://arxiv.org/abs/2107.14110. The paper averages
over reflections and crops.
"""

from __future__ import annotations

from torch import nn
from torch.nn.functional import pad

from spearshield.types import Images, Logits


class ShiftEnsemble(nn.Module):
    """The mean of the logits of the image and of its shifts down and to the right.

    A network with a stride of two samples its maps on a grid; a shift by one pixel samples the
    other rows and columns. Pixels that enter the image are black. The mean is differentiable, and
    nothing is random, so attacks need no special care.

    Args:
        classifier: From images in [0, 1] to logits.
        shift: Largest shift, in pixels. The classifier takes ``shift + 1`` passes.
    """

    def __init__(self, classifier: nn.Module, shift: int) -> None:
        super().__init__()
        self.classifier = classifier
        self.shift = shift
        self.training = classifier.training

    def forward(self, x: Images) -> Logits:
        """The mean of the logits."""
        h, w = x.shape[2:]
        logits: Logits = self.classifier(x)
        for s in range(1, self.shift + 1):
            logits = logits + self.classifier(pad(x, (s, 0, s, 0))[:, :, :h, :w])
        return logits / (self.shift + 1)
