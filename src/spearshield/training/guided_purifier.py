"""Purifiers that a classifier guides: the settings and the two players that methods share.

    f  classifier; phi its penultimate features
    G  the purifier   image -> x_hat
    D  discriminator  image -> logit, high for clean images

    L_D = BCE(D(x), 1) + BCE(D(x_hat), 0)
    L_G = adversarial_weight * BCE(D(x_hat), 1) + logit_weight * CE(f(x_hat), y)
        + feature_weight * |phi(x_hat) - phi(x)|^2 / mean |phi(x)|^2
        + pixel_weight * MSE(x_hat, x)

The sources are those of the methods.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from spearshield.losses.features import feature_distance
from spearshield.losses.gan import bce
from spearshield.method import Learner, Method, Task
from spearshield.nets.adv_gan import Discriminator
from spearshield.nets.features import features_of
from spearshield.nets.inverse_perturbation import Fusion, InversePerturbation
from spearshield.ranges import require
from spearshield.training.classifier_training import accuracy
from spearshield.training.optim import cosine, minimise, set_lr
from spearshield.types import Images, Labels


@dataclass(frozen=True, kw_only=True)
class GuidedPurifierTraining(Method):
    """Settings of all trainings of a guided purifier.

    Args:
        width: Channels of the first convolution of the generator, and of the discriminator.
        blocks: Number of residual blocks of the generator.
        adversarial_weight: Weight of the discriminator's loss.
        logit_weight: Weight of the classifier's cross-entropy.
        feature_weight: Weight of the distance of penultimate features.
        pixel_weight: Weight of the mean squared error of the pixels, on the [0, 1] pixel scale.
        lr: Learning rate of all Adam optimisers.
        decay_steps: Steps over which the learning rate decays to zero on a half cosine; 0: it is
            constant.

    Raises:
        ValueError: A number is out of range.
    """

    width: int = 32
    blocks: int = 4
    adversarial_weight: float = 0.02
    logit_weight: float = 1.0
    feature_weight: float = 1.0
    pixel_weight: float = 10.0
    lr: float = 1e-3
    decay_steps: int = 0

    def __post_init__(self) -> None:
        require(self, "width", "blocks", at_least=1)
        require(self, "adversarial_weight", "logit_weight", "feature_weight", at_least=0)
        require(self, "pixel_weight", "lr", "decay_steps", at_least=0)


class GuidedPurifierLearner(Learner):
    """The purifier, the discriminator, their optimisers, and the number of steps taken."""

    taken: Tensor

    def __init__(self, method: GuidedPurifierTraining, task: Task) -> None:
        super().__init__()
        self.method: Any = method
        self.task = task
        self.G = Fusion(InversePerturbation(task.shape[0], method.width, method.blocks))
        self.D = Discriminator(task.shape, method.width)
        self.opt_g = torch.optim.Adam(self.G.parameters(), method.lr, betas=(0.5, 0.999))
        self.opt_d = torch.optim.Adam(self.D.parameters(), method.lr, betas=(0.5, 0.999))
        self.register_buffer("taken", torch.tensor(0))

    @property
    def lr(self) -> float:
        """The learning rate at this step."""
        return cosine(self.method.lr, int(self.taken), self.method.decay_steps)

    def restore(
        self, f: nn.Module, damaged: Images, x: Images, y: Labels
    ) -> tuple[Mapping[str, float], Images]:
        """Update D, then G; advances the schedule.

        Args:
            f: The classifier that guides G; it does not change.
            damaged: What the purifier receives in place of ``x``.
            x: Clean images in [0, 1].
            y: Their labels.

        Returns:
            The losses to log, and x_hat.
        """
        method, discriminate = self.method, self.D.train()
        set_lr(self.lr, self.opt_g, self.opt_d)
        self.taken += 1
        x_hat: Tensor = self.G.train()(damaged)

        # D: high scores for clean images, low scores for purified images.
        loss_d = bce(discriminate(x), real=True) + bce(discriminate(x_hat.detach()), real=False)
        minimise(self.opt_d, loss_d)

        # G: natural images with the features and the class of the clean image.
        phi, _ = features_of(f, x)
        phi_hat, logits = features_of(f, x_hat)
        loss_g = (
            method.adversarial_weight * bce(discriminate(x_hat), real=True)
            + method.logit_weight * cross_entropy(logits, y)
            + method.feature_weight * feature_distance(phi_hat, phi.detach())
            + method.pixel_weight * mse_loss(x_hat, x)
        )
        minimise(self.opt_g, loss_g)
        losses = {"d": loss_d.item(), "g": loss_g.item(), "accuracy": accuracy(logits, y)}
        return losses, x_hat.detach()
