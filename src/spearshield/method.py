"""What a published method is, and what training it yields."""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from spearshield.attack import Attack
from spearshield.paper import Paper as Paper  # noqa: PLC0414 - part of this vocabulary
from spearshield.rng import Rng
from spearshield.types import Classifier, Images, Labels, Logits, PerImage, Shape


@dataclass(frozen=True)
class Task:
    """What a method is given.

    Args:
        classifier: A trained classifier, to attack or to protect. A method leaves it alone.
        untrained: The same architecture with fresh weights, for methods that train a classifier
            of their own; they train a copy.
        shape: Channels, height, width of an image.
        classes: Number of classes.
        learn_from: The attack a method learns from, where it learns from one.
    """

    classifier: nn.Module
    untrained: nn.Module
    shape: Shape
    classes: int
    learn_from: Attack | None = None

    @property
    def attack(self) -> Attack:
        """The attack a method learns from.

        Raises:
            ValueError: There is none.
        """
        if self.learn_from is None:
            raise ValueError("this method learns from an attack; give its training `learn_from`")
        return self.learn_from


@runtime_checkable
class Detects(Protocol):
    """What a purifier offers that may reject an image instead of purifying it."""

    def detection_score(self, x: Images) -> PerImage:
        """How far each image is beyond what is accepted: it is rejected above 0."""
        ...


@runtime_checkable
class Generates(Protocol):
    """What a purifier offers that answers with images of a generator ``G``."""

    G: nn.Module

    def search(self, x: Images, rng: Rng) -> tuple[Tensor, PerImage]:
        """The latent of an image of G near each image, and its distance."""
        ...


class Defended(nn.Module):
    """A purifier in front of a classifier; itself a classifier.

    Where the purifier :class:`Detects`, an image that it rejects gets logits too: whoever deploys
    or judges the victim asks for its suspicion as well.
    """

    def __init__(self, purifier: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.purifier = purifier
        self.classifier = classifier

    def forward(self, x: Images) -> Logits:
        logits: Logits = self.classifier(self.purifier(x))
        return logits

    @property
    def purifiers(self) -> nn.Module:
        """Its purifier, and those of the victim that it protects, where that is one, as a whole."""
        if isinstance(self.classifier, Defended):
            return nn.Sequential(self.purifier, self.classifier.purifiers)
        return self.purifier

    def detection_score(self, x: Images) -> PerImage:
        """The purifier's; minus infinity where it rejects nothing."""
        if isinstance(self.purifier, Detects):
            return self.purifier.detection_score(x)
        return x.new_full((len(x),), -math.inf)


@dataclass(frozen=True)
class Outcome:
    """Everything a method can leave behind.

    Args:
        queries: Images that the task's classifier was asked about, where it is a black box to the
            method.
    """

    classifier: nn.Module
    purifier: nn.Module = field(default_factory=nn.Identity)
    attack: Attack | None = None
    queries: int = 0

    @property
    def is_defence(self) -> bool:
        """Whether it is a victim of its own, and not an attack alone."""
        return self.attack is None or not isinstance(self.purifier, nn.Identity)

    @property
    def defended(self) -> Defended:
        """The victim an attacker meets, in evaluation mode."""
        return Defended(self.purifier, self.classifier).eval()


class RandomPurifier(nn.Module, abc.ABC):
    """A purifier that draws at random, from randomness that belongs to the image.

    ``forward`` derives it from the image's own pixels, so the answer does not depend on the batch,
    and an image changed ever so little is drawn for anew. ``forward(x, draw=k)`` is the k-th
    independent answer: a deployed purifier gives draw 0, an attacker averages over others.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.seed = seed

    def forward(self, x: Images, draw: int = 0) -> Images:
        return self.purify(x, Rng.of_content(self.seed, x).fold(draw))

    @abc.abstractmethod
    def purify(self, x: Images, rng: Rng) -> Images:
        """One answer, given its randomness."""


class Learner(nn.Module, abc.ABC):
    """The state of a training run. ``state_dict`` holds all of it: networks, optimisers, counters.

    Optimisers are plain attributes; counters that decide what a step does are buffers.
    """

    @abc.abstractmethod
    def step(self, x: Images, y: Labels, *, rng: Rng) -> Mapping[str, float]:
        """Learn from one batch and return the losses to log.

        Args:
            x: Clean images in [0, 1].
            y: Their labels.
            rng: Randomness of these images at this step.
        """

    @abc.abstractmethod
    def outcome(self) -> Outcome:
        """What has been learnt so far."""

    def get_extra_state(self) -> dict[str, Any]:
        return {name: optimiser.state_dict() for name, optimiser in self._optimisers().items()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        for name, optimiser in self._optimisers().items():
            optimiser.load_state_dict(state[name])

    def _optimisers(self) -> dict[str, torch.optim.Optimizer]:
        return {k: v for k, v in vars(self).items() if isinstance(v, torch.optim.Optimizer)}


@dataclass(frozen=True)
class Method(abc.ABC):
    """A published method: its hyper-parameters, and how to start training it."""

    paper: ClassVar[Paper]

    @abc.abstractmethod
    def learner(self, task: Task) -> Learner:
        """Fresh, untrained state for ``task``."""


def frozen(module: nn.Module) -> Classifier:
    """The module as a function in evaluation mode: gradients reach its input, not its weights."""
    module.eval()
    state = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    weights = {name: value.detach() for name, value in state.items()}

    def forward(x: Tensor) -> Tensor:
        answer: Tensor = torch.func.functional_call(module, weights, x)
        return answer

    return forward


def minimise(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    """One step of ``optimiser`` down ``loss``."""
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
