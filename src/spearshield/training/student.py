"""A student of a black box, trained near the images that are to be attacked.

The student learns the classes that the black box predicts. After each round of training it is
attacked, and the black box labels the attacked images for the next round: the augmentation of

Papernot, McDaniel, Goodfellow, Jha, Celik, Swami, "Practical Black-Box Attacks against Machine
Learning", 2017, https://arxiv.org/abs/1602.02697,

with attacks of several steps, in both directions around the decision boundary, in place of one
step. On small images its attacks transfer nearly as well as attacks on the black box itself.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from spearshield.attacks.pgd import PGD
from spearshield.nets.imitation import small_classifier
from spearshield.ranges import require
from spearshield.rng import Rng, ambient, permutation
from spearshield.storage.images import quantize_towards
from spearshield.threat import ThreatModel
from spearshield.training.optim import minimise
from spearshield.training.transfer_attack import Transfer
from spearshield.types import Classifier, Images, Labels

REACH = (1.0, 1.5)
"""Budgets of the attacks that make new queries, as multiples of ``eps``, within the range."""
NOISE = 0.3
"""Largest change of a pixel by noise in a mixture of two images."""


@dataclass(frozen=True)
class Student:
    """The training of a student, as a value.

    The black box is queried with ``1 + mixtures + 2 * rounds`` versions of each image, all rounded
    to 8 bits: the image, mixtures with other images, and attacked images.

    Args:
        images: Largest number of images that are attacked in the training.
        mixtures: Number of noisy mixtures of each image with another one.
        rounds: Number of rounds of training; each is followed by attacks on the student.
        steps: Number of updates in each round.
        kept: Number of last rounds whose students are sources of the transfer attack.
        lr: Learning rate of Adam.
        batch_size: Number of images in an update and in a query.

    Raises:
        ValueError: A number is out of range.
    """

    images: int = 100
    mixtures: int = 30
    rounds: int = 20
    steps: int = 60
    kept: int = 6
    lr: float = 3e-3
    batch_size: int = 64

    def __post_init__(self) -> None:
        require(self, "images", "rounds", "steps", "kept", "batch_size", at_least=1)
        require(self, "mixtures", at_least=0)
        require(self, "lr", above=0)

    def transfer(
        self, model: Classifier, x: Images, y: Labels, classes: int, threat: ThreatModel, rng: Rng
    ) -> Transfer:
        """A transfer attack from students of ``model``.

        Args:
            model: The black box; only its predicted classes are used.
            x, y: Images to attack in the training, and their labels.
            classes: Number of classes.
            threat: The threat model of the attack.
            rng: Randomness of the images.
        """
        x, y, rng = x[: self.images], y[: self.images], rng[: self.images]
        with ambient(rng.key):
            student = small_classifier(x.shape[1:], classes).to(x)
        optimiser = torch.optim.Adam(student.parameters(), self.lr)
        versions = 1 + self.mixtures + len(REACH) * self.rounds
        seen = _Answers(model, self.batch_size, versions, x)
        seen.ask(x, x)
        for number in range(self.mixtures):
            seen.ask(_mixture(x, number, rng.fold(0).fold(number)), torch.zeros_like(x))
        kept: list[nn.Module] = []
        for number in range(self.rounds):
            self._train(student.train(), optimiser, seen, rng.key + number)
            kept = [*kept, copy.deepcopy(student).eval().requires_grad_(False)][-self.kept :]
            for reach in REACH:
                wider = replace(threat, eps=min(reach * threat.eps, threat.diameter(x)))
                attack = PGD(wider, 10, wider.eps / 4, early_stop=False, loss="margin")
                seen.ask(attack.perturb(kept[-1], x, y, rng.fold(1).fold(number)), x)
        return Transfer(threat, tuple(kept[::-1]), queries=seen.count)

    def _train(
        self, student: nn.Module, optimiser: torch.optim.Optimizer, seen: _Answers, seed: int
    ) -> None:
        """One round of training on all answers so far."""
        orders: list[Tensor] = []
        with torch.enable_grad():
            for step in range(self.steps):
                if not orders:
                    order = permutation(seen.count, seed, step).to(seen.labels.device)
                    orders = list(torch.split(order, self.batch_size))
                images, labels = seen[orders.pop()]
                minimise(optimiser, cross_entropy(student(images), labels))


class _Answers:
    """Queries, in 8 bits, and the predicted classes.

    Args:
        model: The black box.
        batch_size: Number of images in a query.
        versions: Number of calls of :meth:`ask`.
        x: Images with the number and shape of the queries of each call.
    """

    def __init__(self, model: Classifier, batch_size: int, versions: int, x: Images) -> None:
        self.model, self.batch_size, self.count = model, batch_size, 0
        size = versions * len(x)
        self.pixels = torch.empty(size, *x.shape[1:], dtype=torch.uint8, device=x.device)
        self.labels = torch.empty(size, dtype=torch.long, device=x.device)
        self.dtype = x.dtype

    @torch.no_grad()
    def ask(self, queries: Images, x: Images) -> None:
        """Query the model with images that are rounded towards ``x``."""
        queries = quantize_towards(queries, x)
        answers = [self.model(part).argmax(1) for part in torch.split(queries, self.batch_size)]
        new = slice(self.count, self.count + len(queries))
        self.pixels[new], self.labels[new] = (255 * queries).round(), torch.cat(answers)
        self.count += len(queries)

    def __getitem__(self, index: Tensor) -> tuple[Images, Labels]:
        """Some of the queries, and their predicted classes."""
        return self.pixels[index].to(self.dtype) / 255, self.labels[index]


def _mixture(x: Images, number: int, rng: Rng) -> Images:
    """Each image mixed with another one, with noise of random strength."""
    share, strength = (rng.fold(k).uniform((1, 1, 1)).to(x) for k in range(2))
    noise = NOISE * strength * rng.fold(2).uniform(x.shape[1:], -1.0, 1.0).to(x)
    return (torch.lerp(x, x.roll(number + 1, 0), share) + noise).clamp(0, 1)
