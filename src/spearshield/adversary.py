"""The attack interface, and the steps that several attacks share."""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, TypeVar

import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from spearshield.rng import Rng
from spearshield.threat import ThreatModel
from spearshield.types import Classifier, Ids, Images, Labels, Logits, Loss, Mask, PerImage

Run = TypeVar("Run")


@dataclass(frozen=True)
class Attack(abc.ABC):
    """A frozen value that maps a model and a batch of images to adversarial images.

    Users call it, as in ``PGD(Linf(8 / 255))(model, x, y)``; authors implement :meth:`perturb`. An
    attack neither trains nor stores the model, changes neither its weights, their ``.grad`` nor its
    mode, and treats each image independently of the rest of the batch.

    Args:
        threat: The threat model: the images that the attack may return.
    """

    gradient_free: ClassVar[bool] = False
    """True if the attack never differentiates the model."""

    minimal: ClassVar[bool] = False
    """True if the attack searches for the smallest perturbation of each image."""

    random_search: ClassVar[bool] = False
    """True if the images that only this attack breaks are found by random search."""

    threat: ThreatModel

    def __call__(
        self,
        model: Classifier,
        x: Tensor | NDArray[Any],
        y: Tensor | NDArray[Any],
        *,
        rng: Rng | None = None,
    ) -> Images:
        """Images inside ``threat`` that ``model`` should not classify as ``y``.

        Args:
            model: Maps images in [0, 1] of shape (n, c, h, w) to logits of shape (n, k). Most
                attacks differentiate it.
            x: Clean images of shape (n, c, h, w): floats in [0, 1], or 8-bit numbers.
            y: Their true labels of shape (n,).
            rng: Randomness of each image; by default seed 0 and the positions in the batch.

        Returns:
            Images in [0, 1] with the shape of ``x``.

        Raises:
            ValueError: ``x`` is not in [0, 1], or ``y`` or ``rng`` has another length.
        """
        x, y = as_images(x), torch.as_tensor(y)
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
        """Adversarial images. The arguments have been checked, and the batch is not empty."""


def as_images(x: Tensor | NDArray[Any]) -> Images:
    """Images as a tensor of floats: arrays are converted, 8-bit numbers are divided by 255.

    Raises:
        ValueError: They are not of shape (n, c, h, w), or neither floats nor 8-bit numbers.
    """
    images = torch.as_tensor(x)
    if images.dtype == torch.uint8:
        images = images.float() / 255
    if images.ndim != 4 or not images.is_floating_point():
        raise ValueError(
            f"images are {images.dtype} of shape {tuple(images.shape)}; they must be floats in "
            "[0, 1], or uint8, of shape (n, c, h, w)"
        )
    return images


def check_images(x: Images) -> None:
    """Raise if a pixel is not finite or not in [0, 1].

    Raises:
        ValueError: Names the first such image, and its lowest and highest pixel.
    """
    inside = ((x >= 0) & (x <= 1)).flatten(1).all(1)
    if not inside.all():
        worst = int((~inside).nonzero()[0])
        low, high = float(x[worst].min()), float(x[worst].max())
        raise ValueError(
            f"image {worst} has pixels from {low:g} to {high:g}; images must be finite and in "
            "[0, 1] (divide 8-bit images by 255, and normalise inside the classifier)"
        )


class NoGradientError(ValueError):
    """No gradient of the model's output reaches the image."""


class NonFiniteGradientWarning(RuntimeWarning):
    """A gradient was NaN or infinite, and the attack went on without these pixels."""


class LossGradient(NamedTuple):
    """The loss of each image, its gradient, and whether the image is misclassified."""

    loss: PerImage
    gradient: Images
    wrong: Mask


def loss_gradient(model: Classifier, x: Images, y: Labels, loss: Loss) -> LossGradient:
    """``loss(model(x), y)`` and its gradient with respect to ``x``, in one forward pass.

    Raises:
        ValueError: A gradient is not finite.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        logits = model(x)
        value = loss(logits, y)
        (gradient,) = torch.autograd.grad(value.sum(), x)
    check_gradient(gradient)
    return LossGradient(value.detach(), gradient, logits.detach().argmax(1) != y)


def check_gradient(gradient: Images) -> None:
    """Raise if a gradient is not finite.

    Raises:
        ValueError: Names the first such image.
    """
    finite = gradient.isfinite().flatten(1).all(1)
    if not finite.all():
        worst = int((~finite).nonzero()[0])
        raise ValueError(f"the gradient at image {worst} of the batch is not finite")


@torch.no_grad()
def misclassified(model: Classifier, x: Images, y: Labels) -> Mask:
    """True for each image that ``model`` does not classify as ``y``."""
    return model(x).argmax(1) != y


def unbroken(
    runs: Iterable[Run], x: Images, broken: Callable[[Ids], Mask] | None
) -> Iterator[tuple[Run, Ids]]:
    """Yields each run with the indices of the images that no earlier run has broken.

    The loop of every attack with restarts. It ends early when all images are broken.

    Args:
        runs: One value for each run, such as ``range(restarts)``.
        x: The images, for their number and device.
        broken: Called before each run with the remaining indices; returns True for each image that
            needs no further run. ``None``: every run attacks every image.
    """
    left = torch.arange(len(x), device=x.device)
    for run in runs:
        if broken is not None:
            left = left[~broken(left)]
        if len(left) == 0:
            return
        yield run, left


def until_misclassified(
    runs: Iterable[Run], model: Classifier, x_adv: Images, y: Labels
) -> Iterator[tuple[Run, Ids]]:
    """Yields each run with the indices of the images that ``model`` still classifies as ``y``.

    Args:
        runs: One value for each run, such as ``range(restarts)``.
        x_adv: The images so far; the caller changes them in place.
    """
    return unbroken(runs, x_adv, lambda left: misclassified(model, x_adv[left], y[left]))


class Linearised(NamedTuple):
    """Logit differences of ``r`` classes to the label, and their gradients."""

    differences: Float[Tensor, "n r"]
    gradients: Float[Tensor, "n r c h w"]

    def distances(self, threat: ThreatModel) -> Float[Tensor, "n r"]:
        """Distance to the decision boundary of each class; infinite where the gradient is zero."""
        slopes = threat.dual_norm(self.gradients.flatten(0, 1)).view_as(self.differences)
        return torch.where(slopes > 0, self.differences.abs() / slopes, math.inf)

    def nearest(self, threat: ThreatModel) -> tuple[PerImage, PerImage, Images]:
        """Distance, difference and gradient of the class whose decision boundary is nearest."""
        distance, index = self.distances(threat).min(1)
        rows = torch.arange(len(index), device=index.device)
        return distance, self.differences[rows, index], self.gradients[rows, index]


def linearise(
    model: Classifier, x: Images, y: Labels, classes: Callable[[Logits], Int[Tensor, "n r"]]
) -> Linearised:
    """The logits of ``classes(logits)`` minus the logit of ``y``, and the gradients.

    One forward pass, and one backward pass for each of the ``r`` classes.

    Raises:
        ValueError: A gradient is not finite.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        logits = model(x)
        differences = logits.gather(1, classes(logits.detach())) - logits.gather(1, y[:, None])
        gradients = [
            torch.autograd.grad(difference.sum(), x, retain_graph=True)[0]
            for difference in differences.unbind(1)
        ]
    for gradient in gradients:
        check_gradient(gradient)
    return Linearised(differences.detach(), torch.stack(gradients, 1))


def within(threat: ThreatModel, x_adv: Images, x: Images) -> Images:
    """``x_adv`` itself where ``threat`` allows it, elsewhere its projection.

    For attacks that search for the smallest perturbation. Their images are so close to the decision
    boundary that the rounding error of an unnecessary projection could change the class.
    """
    inside = threat.contains(x_adv, x, tolerance=0.0)
    return torch.where(inside[:, None, None, None], x_adv, threat.project(x_adv, x))
