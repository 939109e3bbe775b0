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

from spearshield import foreign
from spearshield.arguments import check_instance
from spearshield.gradients import NoGradientError as NoGradientError  # noqa: PLC0414 - for authors
from spearshield.gradients import NonFiniteGradientWarning as NonFiniteGradientWarning  # noqa: PLC0414
from spearshield.gradients import gradients, one_warning, recording
from spearshield.inputs import check_budget, guarded
from spearshield.pixels import as_images as as_images  # noqa: PLC0414
from spearshield.pixels import as_labels
from spearshield.pixels import check_images as check_images  # noqa: PLC0414
from spearshield.rng import Rng
from spearshield.threat import ThreatModel
from spearshield.types import Classifier, Ids, Images, Labels, Logits, Loss, Mask, PerImage

Run = TypeVar("Run")

RESOLUTION = 1e-6
"""Smallest useful change of a pixel: less may be lost to rounding in float32."""


@dataclass(frozen=True)
class Attack(abc.ABC):
    """A frozen value that maps a model and a batch of images to adversarial images.

    Users call it, as in ``PGD(Linf(8 / 255))(model, x, y)``; authors implement :meth:`perturb`. An
    attack neither trains nor stores the model, changes neither its weights, their ``.grad`` nor its
    mode, and treats each image independently of the rest of the batch.

    An image that the model misclassifies from the start is returned unchanged. Two kinds of attack
    are the exception, because they take every step on every image: attacks with a fixed number of
    steps (FGSM, RAND+FGSM, BIM, MI-FGSM), and attacks with ``early_stop=False``, as for random
    models. An attack on a model with a detector returns an image unchanged if it is misclassified
    and not rejected; Carlini and Wagner's, if it is misclassified with the requested confidence.

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
                attacks differentiate it. It may be in another precision than the images, or change
                its input in place: see :func:`~spearshield.inputs.guarded`.
            x: Clean images of shape (n, c, h, w): floats in [0, 1], or 8-bit numbers.
            y: Their true labels of shape (n,): integers of any type.
            rng: Randomness of each image; by default seed 0 and the positions in the batch.

        Returns:
            Images in [0, 1] with the shape of ``x``: float64 if ``x`` is float64, else float32.

        Raises:
            ValueError: ``x`` or ``y`` has the wrong type, shape or range, ``y`` or ``rng`` has
                another length, ``threat`` allows every image of this shape, or the model does not
                return one logit for each class, or returns probabilities.
            NoGradientError: The attack needs a gradient, and the model cuts the graph.
            ForeignError: The model raises an error; names the file and line.

        Warns:
            NonFiniteGradientWarning: Once, if gradients were not finite.
        """
        x = as_images(x)
        y = as_labels(y).to(x.device)
        check_images(x)
        rng = rng or Rng.of_batch(0, len(x), x.device)
        check_instance(rng, Rng, "the randomness as Rng(seed, ids)")
        if not len(x) == len(y) == len(rng.ids):
            raise ValueError(
                f"{len(x)} images, {len(y)} labels and randomness for {len(rng.ids)}: "
                "each image needs one of each"
            )
        if len(x) == 0:
            return x.clone()
        check_budget(self.threat, x)
        lead = (
            f"{foreign.name_of(model)} under {type(self).__name__} fails on {tuple(x.shape)} images"
        )
        with guarded(model, y, x.dtype) as victim, one_warning():
            x_adv: Images = foreign.call(
                self.perturb, victim, x.detach().clone(), y, rng, lead=lead
            )
        return x_adv.detach()

    @abc.abstractmethod
    def perturb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:
        """Adversarial images. The arguments have been checked, and the batch is not empty."""


class LossGradient(NamedTuple):
    """The loss of each image, its gradient, and whether the image is misclassified."""

    loss: PerImage
    gradient: Images
    wrong: Mask


def loss_gradient(model: Classifier, x: Images, y: Labels, loss: Loss) -> LossGradient:
    """``loss(model(x), y)`` and its gradient with respect to ``x``, in one forward pass.

    Raises:
        NoGradientError: The model cuts the graph.
    """
    with recording():
        x = x.detach().requires_grad_()
        logits = model(x)
        value = loss(logits, y)
    (gradient,) = gradients(value, x)
    return LossGradient(value.detach(), gradient, logits.detach().argmax(1) != y)


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
        """Distance, difference and gradient of the class whose decision boundary is nearest.

        A boundary that the image has not crossed counts as at least the distance at which a pixel
        changes by ``RESOLUTION``, so that a step towards it is never lost, not even for a tie.
        """
        distance, index = self.distances(threat).min(1)
        rows = torch.arange(len(index), device=index.device)
        difference, gradient = self.differences[rows, index], self.gradients[rows, index]
        shortest = shortest_step(threat, gradient)
        near = (difference <= 0) & (distance < shortest)
        slope = threat.dual_norm(gradient)
        return (
            torch.where(near, shortest, distance),
            torch.where(near, -shortest * slope, difference),
            gradient,
        )


def shortest_step(threat: ThreatModel, gradient: Images) -> PerImage:
    """Length of the steepest step that changes its largest pixel by ``RESOLUTION``."""
    largest = threat.steepest_step(gradient).abs().amax((1, 2, 3))
    return RESOLUTION / largest.clamp(min=RESOLUTION)


def linearise(
    model: Classifier, x: Images, y: Labels, classes: Callable[[Logits], Int[Tensor, "n r"]]
) -> Linearised:
    """The logits of ``classes(logits)`` minus the logit of ``y``, and the gradients.

    One forward pass, and one backward pass for each of the ``r`` classes. A tie without a gradient,
    as a network without biases has on a black image, gets a gradient towards grey, because there
    the network has one.

    Raises:
        NoGradientError: The model cuts the graph.
    """
    with recording():
        x = x.detach().requires_grad_()
        logits = model(x)
        others = classes(logits.detach())
        differences = logits.gather(1, others) - logits.gather(1, y[:, None])
        found = [gradients(difference, x, again=True)[0] for difference in differences.unbind(1)]
    slopes, differences = torch.stack(found, 1), differences.detach()
    flat = (differences == 0) & (others != y[:, None]) & (slopes == 0).flatten(2).all(2)
    grey = (0.5 - x.detach()).sign()[:, None]
    return Linearised(differences, torch.where(flat[:, :, None, None, None], grey, slopes))


def within(threat: ThreatModel, x_adv: Images, x: Images) -> Images:
    """``x_adv`` itself where ``threat`` allows it, elsewhere its projection.

    For attacks that search for the smallest perturbation. Their images are so close to the decision
    boundary that the rounding error of an unnecessary projection could change the class.
    """
    x_adv = torch.where(x_adv.isfinite().flatten(1).all(1)[:, None, None, None], x_adv, x)
    inside = threat.contains(x_adv, x, tolerance=0.0)
    return torch.where(inside[:, None, None, None], x_adv, threat.project(x_adv, x))
