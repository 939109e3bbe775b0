"""What an attack is."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn.functional import cross_entropy

from spearshield.rng import Rng
from spearshield.threat import ThreatModel
from spearshield.types import Classifier, Images, Labels, Mask


@dataclass(frozen=True)
class Attack(abc.ABC):
    """A frozen value that maps a model and a batch to perturbed images.

    It is called; an author writes :meth:`perturb`. It neither trains nor stores the model, leaves
    its weights, their ``.grad`` and its mode alone, and treats each image on its own.
    """

    gradient_free: ClassVar[bool] = False
    """Whether the attack never differentiates the model."""

    minimal: ClassVar[bool] = False
    """Whether it looks for the smallest perturbation of each image, not just for any."""

    threat: ThreatModel

    def __call__(
        self, model: Classifier, x: Images, y: Labels, *, rng: Rng | None = None
    ) -> Images:
        """Images inside ``threat`` that ``model`` should not classify as ``y``.

        Args:
            model: Maps images in [0, 1] to logits; most attacks differentiate it.
            x: Clean images in [0, 1].
            y: Their true labels.
            rng: The images' randomness; by default that of seed 0 and their position in the batch.

        Raises:
            ValueError: ``x`` is not in [0, 1], or ``y`` or ``rng`` does not belong to it.
        """
        check_images(x)
        rng = rng or Rng.of_batch(0, len(x), x.device)
        if not len(x) == len(y) == len(rng.ids):
            raise ValueError(
                f"{len(x)} images, {len(y)} labels and randomness for {len(rng.ids)}: "
                "each image needs one of each"
            )
        if len(x) == 0:
            return x.clone()
        return self.perturb(model, x.detach(), y, rng).detach()

    @abc.abstractmethod
    def perturb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:
        """The attack itself, on inputs that have been checked."""


def check_images(x: Images) -> None:
    """Refuse what is not an image in [0, 1].

    Raises:
        ValueError: A pixel is NaN, infinite or outside [0, 1]; the message gives the range seen.
    """
    inside = ((x >= 0) & (x <= 1)).flatten(1).all(1)
    if not inside.all():
        worst = int((~inside).nonzero()[0])
        low, high = float(x[worst].min()), float(x[worst].max())
        raise ValueError(
            f"image {worst} has pixels from {low:g} to {high:g}; images must be finite and in "
            "[0, 1] (divide 8-bit images by 255; a classifier carries its own normalisation)"
        )


def loss_gradient(model: Classifier, x: Images, y: Labels) -> tuple[Images, Mask]:
    """Gradient of each image's own cross-entropy, and which images the model gets wrong already.

    Raises:
        ValueError: A gradient is not finite.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        logits = model(x)
        (gradient,) = torch.autograd.grad(cross_entropy(logits, y, reduction="sum"), x)
    check_gradient(gradient)
    return gradient, logits.detach().argmax(1) != y


def check_gradient(gradient: Images) -> None:
    """Refuse a gradient that leads nowhere.

    Raises:
        ValueError: It is not finite; the message names the image.
    """
    finite = gradient.isfinite().flatten(1).all(1)
    if not finite.all():
        worst = int((~finite).nonzero()[0])
        raise ValueError(f"the gradient at image {worst} of the batch is not finite")


@torch.no_grad()
def fooled(model: Classifier, x: Images, y: Labels) -> Mask:
    """Which images ``model`` does not classify as ``y``."""
    return model(x).argmax(1) != y


def within(threat: ThreatModel, x_adv: Images, x: Images) -> Images:
    """``x_adv`` itself where ``threat`` allows it, elsewhere its projection.

    For attacks that look for the nearest adversarial image. It lies so close to the decision
    boundary that the rounding in a needless projection could take it back across.
    """
    inside = threat.contains(x_adv, x, tolerance=0.0)
    return torch.where(inside[:, None, None, None], x_adv, threat.project(x_adv, x))
