"""On grid: an attack whose images have only the pixel values that clean images can have.

Rounding an attacked image to 8 bits is the usual last step before it is stored as a file; Kurakin,
Goodfellow, Bengio, "Adversarial Examples in the Physical World", 2017.
https://arxiv.org/abs/1607.02533. Here it is a part of the attack, against models that recognise
attacked images by pixels between the levels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from spearshield.adversary import Attack, unbroken
from spearshield.attacks.apgd import BestAttempts
from spearshield.attacks.automatic_bpda import AutomaticBPDA
from spearshield.nets.surrogate_calls import straight_through
from spearshield.ranges import require
from spearshield.rng import Rng
from spearshield.types import Classifier, Images, Labels, Logits, Mask

FINEST = 255
"""Number of steps between black and white in 8-bit images."""
TOLERANCE = 1e-6
"""Largest distance of a pixel of float32 from its level."""

SAMPLED = 1000
"""Approximate number of pixels that are tested first; most numbers of levels do not fit them."""


@dataclass(frozen=True)
class OnGrid(Attack):
    """Runs an attack through a rounding of its images towards the clean image, on four grids.

    The grids are tried in turn on the images that are not broken: multiples of 1 / 255; multiples
    of 1 / n, for the smallest n that fits all pixels of the clean image; the same with multiples
    rounded to 8 bits; and the values that occur in the clean image. The backward pass skips the
    rounding. A pixel of the clean image that is on no grid may stay as it is. The result is the
    attempt with the largest margin loss.

    Args:
        attack: An attack that calls the model only with the whole batch, such as APGD without early
            stopping, because each image has its own rounding; ``None``:
            :class:`~spearshield.attacks.automatic_bpda.AutomaticBPDA`.
        steps: Number of gradient steps in each run of the default attack.

    Raises:
        ValueError: ``steps`` is not positive, or ``attack`` has another threat model; when called:
            the attack calls the model with a part of the batch.
    """

    attack: Attack | None = None
    steps: int = 100

    def __post_init__(self) -> None:
        require(self, "steps", at_least=1)
        if self.attack and self.attack.threat != self.threat:
            raise ValueError(f"the attack is on {self.attack.threat}, not {self.threat}")

    def perturb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:
        best = BestAttempts(model, x, y)
        attack = self.attack or AutomaticBPDA(self.threat, steps=self.steps, early_stop=False)
        for (number, levels), left in unbroken(enumerate(grids(x)), x, best.is_broken):
            rounded = Rounded(model, x[left], levels[left])
            found = attack.perturb(rounded, x[left], y[left], rng[left].fold(number))
            best.add(left, rounded.round(found))
        return best.x_adv


class Rounded(nn.Module):
    """A model behind the rounding of images towards the clean images ``x``, skipped by gradients.

    Args:
        levels: Allowed pixel values of each image, in ascending order.
    """

    def __init__(self, model: Classifier, x: Images, levels: Float[Tensor, "n l"]) -> None:
        super().__init__()
        self.model = model
        self.x, self.levels = x, levels

    def forward(self, x_adv: Images) -> Logits:
        logits: Logits = self.model(straight_through(x_adv, self.round(x_adv)))
        return logits

    @torch.no_grad()
    def round(self, x_adv: Images) -> Images:
        """The level nearest to ``x_adv`` between it and the clean image, or the clean pixel.

        Raises:
            ValueError: There is another number of images than clean images.
        """
        if len(x_adv) != len(self.x):
            raise ValueError(
                f"the attack called the model with {len(x_adv)} of {len(self.x)} images; choose an "
                "attack without early stopping"
            )
        x, x_adv = self.x.flatten(1), x_adv.flatten(1).contiguous()
        last = self.levels.shape[1] - 1
        above = torch.searchsorted(self.levels, x_adv - TOLERANCE)
        below = torch.searchsorted(self.levels, x_adv + TOLERANCE, right=True) - 1
        higher = self.levels.gather(1, below.clamp(min=0))
        lower = self.levels.gather(1, above.clamp(max=last))
        rounded = torch.where(x_adv > x, higher.maximum(x), lower.minimum(x))
        return rounded.view_as(self.x)


def grids(x: Images) -> Iterator[Float[Tensor, "n l"]]:
    """The levels of each image on each grid, in ascending order."""
    place = torch.arange(FINEST + 1).to(x)
    yield (place / FINEST).expand(len(x), -1)
    for bits in (False, True):
        steps = coarsest(x, bits)
        if (steps < FINEST).any():
            yield _even(place.minimum(steps[:, None]), steps[:, None], bits)
    yield x.flatten(1).sort(1).values


def coarsest(x: Images, bits: bool) -> Float[Tensor, " n"]:
    """The smallest n so that all pixels of an image are multiples of 1 / n; 255 if there is none.

    Args:
        bits: The multiples are rounded to 8 bits.
    """
    found = torch.full((len(x),), float(FINEST)).to(x)
    pixels = x.flatten(1)
    sample = pixels[:, :: max(1, pixels.shape[1] // SAMPLED)]
    for steps in reversed(range(1, FINEST)):
        fits = _fits(sample, steps, bits).nonzero().squeeze(1)
        found[fits[_fits(pixels[fits], steps, bits)]] = steps
    return found


def _fits(pixels: Float[Tensor, "n d"], steps: int, bits: bool) -> Mask:
    """True for each image that has only evenly spaced levels."""
    level = _even((steps * pixels).round(), steps, bits)
    return ((pixels - level).abs() <= TOLERANCE).all(1)


def _even(place: Tensor, steps: Tensor | int, bits: bool) -> Tensor:
    """Evenly spaced levels by their number; the last is 1."""
    return (FINEST * place / steps).round() / FINEST if bits else place / steps
