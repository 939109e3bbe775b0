"""The interface of published methods: hyper-parameters, state of the training, and outcome."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from spearshield.adversary import Attack
from spearshield.defended import Defended as Defended  # noqa: PLC0414 - part of this vocabulary
from spearshield.defended import Detects as Detects  # noqa: PLC0414
from spearshield.defended import Generates as Generates  # noqa: PLC0414
from spearshield.defended import Purifiers as Purifiers  # noqa: PLC0414
from spearshield.defended import RandomPurifier as RandomPurifier  # noqa: PLC0414
from spearshield.paper import Paper as Paper  # noqa: PLC0414
from spearshield.rng import Rng
from spearshield.types import Classifier, Images, Labels, Shape


@dataclass(frozen=True)
class Task:
    """The input of a method.

    Args:
        classifier: A trained classifier to attack or to protect, in evaluation mode. A method does
            not change it.
        untrained: The same architecture with fresh weights. A method that trains a classifier
            trains a copy of it.
        shape: Channels, height and width of an image.
        classes: Number of classes.
        learn_from: The attack that the method is trained on, for methods that need one.
    """

    classifier: nn.Module
    untrained: nn.Module
    shape: Shape
    classes: int
    learn_from: Attack | None = None

    @property
    def attack(self) -> Attack:
        """The attack that the method is trained on.

        Raises:
            ValueError: The task has none.
        """
        if self.learn_from is None:
            raise ValueError("this method is trained on an attack; set learn_from of its training")
        return self.learn_from


@dataclass(frozen=True)
class Outcome:
    """The result of a training: a defence, an attack, or both.

    Args:
        classifier: The classifier that is protected or attacked, in evaluation mode.
        purifier: The network in front of it, in evaluation mode; by default the identity.
        attack: The attack that was trained, if any.
        queries: Number of images that a black-box classifier was queried with.
        retrained: True if the method trained ``classifier`` itself, which is then a defence.
    """

    classifier: nn.Module
    purifier: nn.Module = field(default_factory=lambda: nn.Identity().eval())
    attack: Attack | None = None
    queries: int = 0
    retrained: bool = False

    @property
    def is_defence(self) -> bool:
        """True if this outcome is a defence, False if the method only produced an attack."""
        return self.attack is None or self.retrained or not isinstance(self.purifier, nn.Identity)

    @property
    def defended(self) -> Defended:
        """The victim: the purifier in front of the classifier. Their mode does not change.

        Without a purifier, a classifier that is defended already is the victim.
        """
        if isinstance(self.purifier, nn.Identity) and isinstance(self.classifier, Defended):
            return self.classifier
        return Defended(self.purifier, self.classifier)


class Trainable(nn.Module):
    """A module with optimisers as plain attributes, which its ``state_dict`` includes."""

    def get_extra_state(self) -> dict[str, Any]:
        return {name: optimiser.state_dict() for name, optimiser in self._optimisers().items()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        for name, optimiser in self._optimisers().items():
            optimiser.load_state_dict(state[name])

    @property
    def least_steps(self) -> int:
        """The least number of steps after which the outcome is of use."""
        return 1 if self._optimisers() else 0

    @property
    def highest_lr(self) -> float:
        """The highest learning rate of an optimiser; 0 without one."""
        groups = (g for o in self._optimisers().values() for g in o.param_groups)
        return max((float(group["lr"]) for group in groups), default=0.0)

    def _optimisers(self) -> dict[str, torch.optim.Optimizer]:
        return {k: v for k, v in vars(self).items() if isinstance(v, torch.optim.Optimizer)}


class Learner(Trainable, abc.ABC):
    """The state of a training run. ``state_dict`` holds all of it: networks, optimisers, counters.

    A counter that a step depends on must be a buffer.
    """

    @abc.abstractmethod
    def step(self, x: Images, y: Labels, *, rng: Rng) -> Mapping[str, float]:
        """Train on one batch and return the losses to log.

        Args:
            x: Clean images in [0, 1].
            y: Their labels.
            rng: Randomness of these images at this step.
        """

    @abc.abstractmethod
    def outcome(self) -> Outcome:
        """The result of the steps so far, with its networks in evaluation mode."""


@dataclass(frozen=True)
class Method(abc.ABC):
    """The hyper-parameters of a published method."""

    paper: ClassVar[Paper]
    trained: ClassVar[bool] = True
    """False for a fixed rule, whose training has no steps."""
    trains_classifier: ClassVar[bool] = False
    """True for a training of the classifier itself."""

    @abc.abstractmethod
    def learner(self, task: Task) -> Learner:
        """The state at the start of a training for ``task``."""

    def for_steps(self, steps: int) -> Method:
        """These hyper-parameters for a training of ``steps`` steps.

        If the learning rate decays (``decay_steps``), it decays over all steps. A method with
        several phases divides the steps among the phases.
        """
        decays = any(field.name == "decay_steps" for field in fields(self))
        return replace(self, decay_steps=steps) if decays else self  # type: ignore[call-arg]


def frozen(module: nn.Module) -> Classifier:
    """The module as a function: in evaluation mode, and differentiable in its input alone.

    The function uses the current weights at each call. No call changes the mode of the module.
    """
    state = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    weights = {name: value.detach() for name, value in state.items()}

    def forward(x: Tensor) -> Tensor:
        with _evaluation_mode(module):
            output: Tensor = torch.func.functional_call(module, weights, x)
        return output

    return forward


@contextmanager
def _evaluation_mode(module: nn.Module) -> Iterator[None]:
    trained = [layer for layer in module.modules() if layer.training]
    for layer in trained:
        layer.training = False
    try:
        yield
    finally:
        for layer in trained:
            layer.training = True
