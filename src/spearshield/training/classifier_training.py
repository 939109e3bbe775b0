"""Trainings of a classifier: the optimiser, the schedules and the averages that they share.

Every method that trains the classifier itself has these settings, so that methods are compared on
one schedule. The loss is the paper's, in the method's file.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from spearshield.adversary import Attack
from spearshield.method import Learner, Method, Outcome, Task, frozen
from spearshield.ranges import require
from spearshield.rng import Rng, ambient
from spearshield.threat import ThreatModel
from spearshield.training.mixture import Mixture
from spearshield.training.optim import cosine, minimise, set_lr
from spearshield.training.overfitting_alarm import OverfittingAlarm
from spearshield.training.precomputed_attack import PrecomputedAttack
from spearshield.types import Classifier, Images, Labels, Logits

MOMENTUM = 0.9
"""Momentum of SGD."""


@dataclass(frozen=True, kw_only=True)
class ClassifierTraining(Method):
    """Settings of every training of a classifier.

    Args:
        lr: Highest learning rate.
        hold_steps: Steps before the learning rate decays.
        decay_steps: Steps over which it then decays to zero on a half cosine; 0: it is constant.
        rise_steps: Steps, from the first, over which it grows linearly to ``lr``.
        optimiser: ``adam``, or ``sgd`` with a momentum of 0.9.
        weight_decay: Factor of the L2 penalty on all weights; with Adam the decay is decoupled.
        average: Decay per step of the exponential moving average of the weights, which is then the
            result; 0: the result is the last weights.
        precision: Number format of convolutions and linear layers in training. ``bfloat16`` takes
            about half the time on processors that support it. Weights stay in float32.

    Raises:
        ValueError: A number is out of range.
    """

    trains_classifier: ClassVar[bool] = True

    lr: float = 1e-3
    hold_steps: int = 0
    decay_steps: int = 0
    rise_steps: int = 0
    optimiser: Literal["adam", "sgd"] = "adam"
    weight_decay: float = 0.0
    average: float = 0.0
    precision: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        require(self, "lr", "hold_steps", "decay_steps", "rise_steps", at_least=0)
        require(self, "weight_decay", at_least=0)
        require(self, "average", at_least=0, below=1)
        require(self, "optimiser", one_of=("adam", "sgd"))
        require(self, "precision", one_of=("float32", "bfloat16"))


@dataclass(frozen=True, kw_only=True)
class AdversarialTraining(ClassifierTraining):
    """Settings of every training of a classifier against an adversary.

    Args:
        warmup_steps: Steps over which eps grows linearly to the eps of the adversary.
        watch_every: Steps from one measurement of catastrophic overfitting to the next, see
            :class:`~spearshield.training.overfitting_alarm.OverfittingAlarm`; 0: none. A
            measurement takes at most as long as 10 steps of PGD.

    Raises:
        ValueError: A number is out of range. At the start of training: eps grows, but the images of
            the attack are precomputed.

    Warns:
        CatastrophicOverfittingWarning: Once in training, if ``watch_every`` is positive: the
            classifier withstands the training's adversary but not PGD.
    """

    warmup_share: ClassVar[float] = 0.2
    """Share of the steps over which eps grows, where only a number of steps is given."""

    warmup_steps: int = 0
    watch_every: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "warmup_steps", "watch_every", at_least=0)

    def for_steps(self, steps: int) -> AdversarialTraining:
        """The same method for ``steps`` steps; ``warmup_steps`` of 0 become a share of them.

        Without a warm-up, the training of small networks at a large eps can fail to start.
        """
        warmup = self.warmup_steps or int(self.warmup_share * steps)
        return replace(self, decay_steps=steps, warmup_steps=warmup)

    def check_attack(self, task: Task) -> None:
        """Check that precomputed images have the eps of every step.

        Raises:
            ValueError: The task's images are precomputed, but eps grows over the first steps.
        """
        if self.warmup_steps and isinstance(task.learn_from, PrecomputedAttack):
            raise ValueError(
                "images that are attacked before the first step have the full eps, but here it "
                f"grows over {self.warmup_steps} steps; set warmup_steps=0 or precompute=false"
            )


class ClassifierLearner(Learner):
    """A classifier, its optimiser, the average of its weights, and the alarm of its training."""

    taken: Tensor

    def __init__(self, method: ClassifierTraining, task: Task) -> None:
        super().__init__()
        if isinstance(method, AdversarialTraining):
            method.check_attack(task)
        self.method: Any = method
        self.classifier = copy.deepcopy(task.untrained)
        self.averaged = copy.deepcopy(self.classifier) if method.average else None
        self.optimiser = optimiser_of(method, self.classifier)
        self.register_buffer("taken", torch.tensor(0))
        every = method.watch_every if isinstance(method, AdversarialTraining) else 0
        self.alarm = OverfittingAlarm(every) if every else None

    @property
    def classifiers(self) -> list[nn.Module]:
        """The classifiers that a step may differentiate."""
        return [self.classifier]

    @property
    def share(self) -> float:
        """The share of eps at this step, in (0, 1]."""
        warmup: int = self.method.warmup_steps
        return min(1.0, (int(self.taken) + 1) / (warmup + 1))

    @property
    def decay(self) -> float:
        """The learning rate at this step, as a share of the highest one."""
        method, taken = self.method, int(self.taken)
        rise: float = min(1.0, (taken + 1) / (method.rise_steps + 1))
        return rise * cosine(1.0, taken, method.decay_steps, method.hold_steps)

    def logits(self, x: Images) -> Logits:
        """The logits of the classifier in training mode."""
        with self.precise(x):
            logits: Tensor = self.classifier.train()(x)
        return logits.to(x.dtype)

    def attacked(self) -> Classifier:
        """The current classifier in evaluation mode, for attacks: differentiable in its input."""
        network = frozen(self.classifier)

        def forward(x: Images) -> Logits:
            with self.precise(x):
                logits: Logits = network(x)
            return logits.to(x.dtype)

        return forward

    @torch.no_grad()
    def hardest(self, x: Images, y: Labels, share: float) -> Int[Tensor, " kept"]:
        """The positions of the images with the highest cross-entropy; all, if ``share`` is 1."""
        if share == 1:
            return torch.arange(len(x), device=x.device)
        kept = max(1, round(share * len(x)))
        return cross_entropy(self.attacked()(x), y, reduction="none").topk(kept).indices

    def watched(
        self, x: Images, y: Labels, x_adv: Images, threat: ThreatModel, rng: Rng
    ) -> dict[str, float]:
        """What the alarm adds to the losses of this step; nothing without an alarm.

        A method calls it before :meth:`minimise`, because ``x_adv`` was made for the weights before
        it.

        Args:
            x: Clean images in [0, 1].
            y: Their labels.
            x_adv: What the adversary of the training made of them.
            threat: The budget of the training at this step.
            rng: Randomness of these images at this step.

        Returns:
            ``gap``: accuracy on ``x_adv`` minus accuracy under PGD, when last measured.

        Warns:
            CatastrophicOverfittingWarning: Once, if the gap is large.
        """
        if self.alarm is None:
            return {}
        model = self.attacked()
        return {"gap": self.alarm.watch(int(self.taken), model, x, y, x_adv, threat, rng)}

    @property
    def measured(self) -> bool:
        """True if the alarm measures at this step; between measurements it uses no images."""
        return self.alarm is not None and self.alarm.due(int(self.taken))

    @contextmanager
    def precise(self, x: Images) -> Iterator[None]:
        """The number format of the method inside the block."""
        low = self.method.precision == "bfloat16"
        with torch.autocast(x.device.type, torch.bfloat16, enabled=low):
            yield

    def minimise(self, loss: Tensor) -> None:
        """One step of the optimiser on ``loss``; advances the schedules and the average."""
        method, taken = self.method, int(self.taken)
        set_lr(method.lr * self.decay, self.optimiser)
        minimise(self.optimiser, loss)
        self.taken += 1
        if self.averaged is not None:
            move_towards(self.averaged, self.classifier, min(method.average, taken / (taken + 9)))

    def outcome(self) -> Outcome:
        network = self.classifier if self.averaged is None else self.averaged
        return Outcome(network.eval(), retrained=True)


def passes(learner: ClassifierLearner, x: Images, y: Labels, rng: Rng) -> float:
    """Forward passes with a backward pass in a step of a training, per image; takes the step.

    Those of all classifiers count, also of the static models of ensemble training; those of
    generators do not. A pass with interval bounds counts once, but takes about three times as long.
    Includes those of the alarm, if it measures at this step. An attack that stops early at some
    images has a fraction.
    """
    images = 0

    def count(module: nn.Module, args: object, logits: Logits) -> None:  # noqa: ARG001
        nonlocal images
        images += len(logits) if logits.requires_grad else 0

    hooks = [network.register_forward_hook(count) for network in learner.classifiers]
    try:
        with ambient(0):
            learner.step(x, y, rng=rng)
    finally:
        for hook in hooks:
            hook.remove()
    return images / len(x)


def accuracy(logits: Logits, y: Labels) -> float:
    """Share of images that are classified as ``y``."""
    share: float = (logits.argmax(1) == y).float().mean().item()
    return share


def optimiser_of(method: ClassifierTraining, network: nn.Module) -> torch.optim.Optimizer:
    """The optimiser of the weights of ``network``."""
    weights = list(network.parameters())
    if method.optimiser == "sgd":
        return torch.optim.SGD(weights, method.lr, MOMENTUM, weight_decay=method.weight_decay)
    return torch.optim.AdamW(weights, method.lr, weight_decay=method.weight_decay)


@torch.no_grad()
def move_towards(averaged: nn.Module, network: nn.Module, decay: float) -> None:
    """Multiply the averaged weights by ``decay`` and add the rest of ``network``.

    Buffers, such as running averages of batch normalisation, are copied.
    """
    for mean, weight in zip(averaged.parameters(), network.parameters(), strict=True):
        mean.lerp_(weight, 1 - decay)
    for old, new in zip(averaged.buffers(), network.buffers(), strict=True):
        old.copy_(new)


def scaled(attack: Attack, share: float) -> Attack:
    """The attack with its eps, and the lengths of its steps if given, multiplied by ``share``.

    The attacks of a :class:`~spearshield.training.mixture.Mixture` change alike.
    """
    lengths = {name: getattr(attack, name, None) for name in ("step_size", "alpha")}
    changes: dict[str, Any] = {k: share * v for k, v in lengths.items() if v is not None}
    if isinstance(attack, Mixture):
        changes["attacks"] = tuple(scaled(one, share) for one in attack.attacks)
    return replace(attack, threat=shrunk(attack.threat, share), **changes)


def shrunk(threat: ThreatModel, share: float) -> ThreatModel:
    """The threat model with its eps multiplied by ``share``."""
    return replace(threat, eps=share * threat.eps)
