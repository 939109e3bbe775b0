"""The victim: purifiers in front of a classifier, and the abilities that a purifier may have."""

from __future__ import annotations

import abc
import math
from collections.abc import Iterator
from functools import reduce
from typing import Any, Protocol, runtime_checkable

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spearshield import foreign
from spearshield.inputs import Converts, placed
from spearshield.pixels import as_input
from spearshield.rng import Rng
from spearshield.types import Images, Logits, PerImage


@runtime_checkable
class Detects(Protocol):
    """A purifier that can reject an image."""

    def detection_score(self, x: Images) -> PerImage:
        """The score of each image; a positive score rejects the image."""
        ...


@runtime_checkable
class Generates(Protocol):
    """A purifier that always outputs an image of its generator."""

    def generate(self, z: Tensor) -> Images:
        """The generated images of latents, differentiable in ``z``."""
        ...

    def search(self, x: Images, rng: Rng) -> tuple[Tensor, PerImage]:
        """The latent of a generated image near each image, and its distance to the image."""
        ...


class RandomPurifier(nn.Module, abc.ABC):
    """A purifier with random output.

    The randomness is a function of the pixels of the image. The output for an image therefore does
    not depend on its batch, and any change of the image gives an independent draw.

    Args:
        seed: Outputs under different seeds are independent.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.seed = seed

    def forward(self, x: Images, draw: int = 0) -> Images:
        """The purified images.

        Args:
            draw: Number of the independent draw. The deployed purifier uses draw 0; attacks that
                average over the randomness use the others.
        """
        return self.purify(x, Rng.of_content(self.seed, x).fold(draw))

    @abc.abstractmethod
    def purify(self, x: Images, rng: Rng) -> Images:
        """The purified images, as a function of the images and their randomness."""


class Purifiers(Converts):
    """Purifiers in order, as one purifier with the abilities of all of them.

    A plain ``nn.Sequential`` counts as its parts if one of them declares an ability. The identity
    is left out, so that an empty value means that nothing is purified.
    """

    def __init__(self, *purifiers: nn.Module) -> None:
        super().__init__()
        self.parts = nn.ModuleList(part for purifier in purifiers for part in _parts(purifier))

    def __iter__(self) -> Iterator[nn.Module]:
        return iter(self.parts)

    def __len__(self) -> int:
        return len(self.parts)

    def forward(self, x: Images, draw: int = 0) -> Images:
        for purifier in self:
            x = _output(purifier, x, draw)
        return x

    @property
    def are_random(self) -> bool:
        """True if a purifier is a :class:`RandomPurifier`."""
        return any(isinstance(purifier, RandomPurifier) for purifier in self)

    @property
    def detect(self) -> bool:
        """True if a purifier :class:`Detects`."""
        return any(isinstance(purifier, Detects) for purifier in self)

    @property
    def detect_at_random(self) -> bool:
        """True if a purifier :class:`Detects` behind a random one, so its score is random, too."""
        kinds = [isinstance(purifier, RandomPurifier) for purifier in self]
        return any(isinstance(p, Detects) and any(kinds[:i]) for i, p in enumerate(self))

    def detection_score(self, x: Images, draw: int = 0) -> PerImage:
        """The largest detection score; minus infinity if no purifier detects.

        Each purifier scores the output of the purifier before it.
        """
        scores: list[PerImage] = []
        last = max((i for i, p in enumerate(self) if isinstance(p, Detects)), default=-1)
        for i, purifier in enumerate(self):
            if isinstance(purifier, Detects):
                scores.append(foreign.call(purifier.detection_score, placed(x, purifier)))
            if i < last:
                x = _output(purifier, x, draw)
        return reduce(torch.maximum, scores) if scores else x.new_full((len(x),), -math.inf)


class Defended(Converts):
    """A purifier in front of a classifier; itself a classifier.

    Each part gets the images in the dtype and on the device of its weights, if it has any. The
    classifier may itself be defended. Rejected images have logits, too: only
    :meth:`detection_score` shows that an image is rejected. A new instance is in training mode if
    one of its two parts is.
    """

    def __init__(self, purifier: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.purifier = purifier
        self.classifier = classifier
        self.training = purifier.training or classifier.training

    def forward(self, x: Tensor | NDArray[Any], draw: int = 0) -> Logits:
        """The logits.

        Args:
            x: Images of shape (n, c, h, w): floats in [0, 1], or 8-bit numbers.
            draw: Number of the independent draw of every random purifier.

        Raises:
            ValueError: The images have another shape, or are neither floats nor uint8.
        """
        x_hat = _output(self.purifier, as_input(x), draw)
        logits: Logits = _output(self.classifier, x_hat, draw)
        return logits

    @property
    def purifiers(self) -> Purifiers:
        """All purifiers in order, those of a defended classifier included."""
        inner = self.classifier.purifiers if isinstance(self.classifier, Defended) else ()
        return Purifiers(self.purifier, *inner)

    @property
    def innermost(self) -> nn.Module:
        """The classifier behind all purifiers."""
        classifier = self.classifier
        return classifier.innermost if isinstance(classifier, Defended) else classifier

    def detection_score(self, x: Tensor | NDArray[Any], draw: int = 0) -> PerImage:
        """The largest detection score of the purifiers; see :class:`Purifiers`.

        Takes and refuses images as :meth:`forward` does.
        """
        return self.purifiers.detection_score(as_input(x), draw)


def _parts(purifier: nn.Module) -> list[nn.Module]:
    """The purifiers that a purifier consists of."""
    if isinstance(purifier, Purifiers):
        return [*purifier]
    if type(purifier) is nn.Sequential and not _declares(purifier):
        parts = [part for child in purifier for part in _parts(child)]
        if not parts or any(map(_declares, parts)):
            return parts
    return [] if isinstance(purifier, nn.Identity) else [purifier]


def _declares(purifier: nn.Module) -> bool:
    """True if a purifier declares an ability itself."""
    declared = isinstance(purifier, (RandomPurifier, Detects, Generates))
    return declared or hasattr(purifier, "differentiable_approximation")


def _output(module: nn.Module, x: Tensor, draw: int) -> Tensor:
    """The output of a module under one draw of its randomness; draw 0 is the deployed one.

    The module gets the images in the dtype and on the device of its weights.
    """
    x = placed(x, module)
    if draw and isinstance(module, (RandomPurifier, Purifiers, Defended)):
        output: Tensor = foreign.call(module, x, draw=draw)
    elif draw and type(module) is nn.Sequential:
        output = reduce(lambda inner, part: _output(part, inner, draw), module, x)
    else:
        output = foreign.call(module, x)
    return output
