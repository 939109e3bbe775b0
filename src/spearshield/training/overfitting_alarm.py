"""An alarm for trainings whose classifier withstands nothing but the adversary of the training.

Under catastrophic overfitting (Wong, Rice, Kolter, "Fast is better than free: Revisiting
adversarial training", 2020, https://arxiv.org/abs/2001.03994) the accuracy under PGD falls to
about zero within a few hundred steps, while the accuracy under the adversary of the training stays
high or rises. The losses of the training do not show it. A learned adversary that is too weak has
the same effect.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from spearshield.adversary import misclassified
from spearshield.attacks.pgd import PGD
from spearshield.rng import Rng, ambient
from spearshield.threat import ThreatModel
from spearshield.types import Classifier, Images, Labels

THRESHOLD = 0.4
"""The gap of accuracies, in (0, 1], above which the alarm warns.

From the gaps of LeNet on MNIST at Linf 0.3, in batches of 128. They are at most 0.13 in PGD
training with 3 steps and 0.28 in TRADES with 5. FGSM reaches 0.91 and collapses; FGSM-RS reaches
0.45 and falls back to 0.30. In small batches the gap is noisy.
"""

STEPS = 10
"""Steps of the alarm's PGD; their length is ``eps / 4``."""

STREAM = -1
"""Names the randomness of the alarm, which no training uses."""


class CatastrophicOverfittingWarning(UserWarning):
    """A classifier in training withstands the adversary of its training, but not PGD."""


class OverfittingAlarm(nn.Module):
    """Compares the accuracies under a training's adversary and under PGD, every so many steps.

    It draws from a stream of its own and changes neither the classifier nor torch's generators, so
    a training gives the same weights with and without it. Buffers hold the last gap and whether it
    has warned, so a resumed training logs the same gaps and warns once.

    Args:
        every: Number of steps from one measurement to the next; the first is at step 0.
    """

    gap: Tensor
    warned: Tensor

    def __init__(self, every: int) -> None:
        super().__init__()
        self.every = every
        self.register_buffer("gap", torch.tensor(0.0))
        self.register_buffer("warned", torch.tensor(False))

    def due(self, step: int) -> bool:
        """True if it measures at this step."""
        return step % self.every == 0

    def watch(
        self,
        step: int,
        model: Classifier,
        x: Images,
        y: Labels,
        x_adv: Images,
        threat: ThreatModel,
        rng: Rng,
    ) -> float:
        """The last measured gap, after a measurement if it is due at this step.

        Args:
            step: Number of steps taken before.
            model: The classifier with the weights that ``x_adv`` was made for.
            x: Clean images of shape (n, c, h, w) in [0, 1].
            y: Their labels.
            x_adv: Images that the training's adversary made of ``x``.
            threat: The whole budget of the training at this step.
            rng: Randomness of these images at this step.

        Returns:
            Accuracy on ``x_adv`` minus accuracy under PGD, in [-1, 1].

        Warns:
            CatastrophicOverfittingWarning: The gap exceeds ``THRESHOLD`` for the first time.
        """
        if self.due(step):
            pgd = PGD(threat, STEPS, step_size=threat.eps / 4)
            with ambient(0, step):
                x_pgd = pgd(model, x, y, rng=rng.fold(STREAM))
                adversary, strong = accuracy(model, x_adv, y), accuracy(model, x_pgd, y)
            self.gap.fill_(adversary - strong)
            if adversary - strong > THRESHOLD and not self.warned:
                self.warned.fill_(True)
                warnings.warn(
                    f"possible catastrophic overfitting at step {step}: the accuracy is "
                    f"{adversary:.0%} under the adversary of the training and {strong:.0%} under "
                    f"PGD with the same budget, {threat}; the training goes on, but may need a "
                    "stronger adversary",
                    CatastrophicOverfittingWarning,
                    stacklevel=3,
                )
        gap: float = self.gap.item()
        return gap


def accuracy(model: Classifier, x: Images, y: Labels) -> float:
    """Share of images that ``model`` classifies as ``y``."""
    return 1.0 - misclassified(model, x, y).float().mean().item()
