"""Substitute: a copy of a black box, learnt from its answers, to attack in its place.

Papernot, McDaniel, Goodfellow, Jha, Celik, Swami, "Practical Black-Box Attacks against Machine
Learning", 2017. https://arxiv.org/abs/1602.02697

    O  oracle      image -> label   the black box, the task's classifier
    F  substitute  image -> logits  what is learnt

    S = seeds;  each round:  label S by O;  train F on S;  S += S + lambda * sign(dF_O(x)(x) / dx)

Differences from the paper. The settings are those of Defense-GAN's scripts, Samangouei, Kabkab,
Chellappa, 2018, https://arxiv.org/abs/1805.06605: Adam, six rounds of training with five
augmentations between them, a lambda of one sign, and all of S is kept. Unlike there, the oracle
labels the seeds too, and new images are clipped to [0, 1], for nothing else is an image. One step
of training is an epoch over S, so all rounds take ``rounds * epochs`` steps; more go on with the
last S.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy

from spearshield.architecture import Architecture
from spearshield.attack import loss_gradient
from spearshield.classifiers.defense_gan_e import DefenseGANE
from spearshield.losses import margin
from spearshield.method import Learner, Method, Outcome, Paper, Task, frozen, minimise
from spearshield.rng import Rng, permutation
from spearshield.training.transfer_attack import Transfer
from spearshield.types import Images, Labels


@dataclass(frozen=True)
class Substitute(Method):
    """A substitute for the task's classifier, of which nothing but labels is used.

    Where the training names an attack to learn from, that attack on the substitute is left behind
    too, to be transferred.

    The first batch handed to ``step`` is the seeds, a smaller one all of it; give its training
    ``batch_size=150``. Later batches, and all labels handed in, are left alone.

    Args:
        network: Architecture of the substitute; the attacker need not know the oracle's.
        seeds: Images the attacker owns, at most.
        rounds: Rounds of training. Each but the first doubles the images, and so the queries.
        epochs: Epochs in each round.
        step_size: Lambda, how far new images are from the old ones in each pixel.
        lr: Learning rate of Adam.
        batch_size: Images of an update, and of a query, at most.

    Raises:
        ValueError: A number is not positive.
    """

    paper = Paper(
        "Practical Black-Box Attacks against Machine Learning",
        "Papernot, Nicolas and McDaniel, Patrick and Goodfellow, Ian and Jha, Somesh "
        "and Celik, Z. Berkay and Swami, Ananthram",
        2017,
        "https://arxiv.org/abs/1602.02697",
    )

    network: Architecture = DefenseGANE()  # noqa: RUF009 - a frozen value
    seeds: int = 150
    rounds: int = 6
    epochs: int = 10
    step_size: float = 0.1
    lr: float = 1e-3
    batch_size: int = 128

    def __post_init__(self) -> None:
        for name in ("seeds", "rounds", "epochs", "step_size", "lr", "batch_size"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")

    def learner(self, task: Task) -> SubstituteLearner:
        return SubstituteLearner(self, task)


class SubstituteLearner(Learner):
    """``queries`` images and their labels are known so far; the rest of the buffers is empty."""

    images: torch.Tensor
    labels: torch.Tensor
    queries: torch.Tensor
    taken: torch.Tensor

    def __init__(self, method: Substitute, task: Task) -> None:
        super().__init__()
        self.method = method
        self.task = task
        self.F = method.network.build(task.shape, task.classes)
        self.optimiser = torch.optim.Adam(self.F.parameters(), method.lr)
        # At full size from the start, so that a checkpoint fits whatever round it is from.
        most = method.seeds * 2 ** (method.rounds - 1)
        self.register_buffer("images", torch.zeros(most, *task.shape))
        self.register_buffer("labels", torch.zeros(most, dtype=torch.long))
        self.register_buffer("queries", torch.tensor(0))
        self.register_buffer("taken", torch.tensor(0))

    def step(self, x: Images, y: Labels, *, rng: Rng) -> Mapping[str, float]:  # noqa: ARG002
        number, epoch = divmod(int(self.taken), self.method.epochs)
        if number == epoch == 0:
            self.ask(x[: self.method.seeds])
        elif epoch == 0 and number < self.method.rounds:
            self.ask(self.neighbours())
        losses = self.train_epoch(rng)
        self.taken += 1
        return {**losses, "queries": self.queries.item()}

    @torch.no_grad()
    def ask(self, x: Images) -> None:
        """Add images to S, with the labels that the oracle gives them."""
        oracle = self.task.classifier.eval()
        labels = [oracle(part).argmax(1) for part in torch.split(x, self.method.batch_size)]
        known = int(self.queries)
        self.images[known : known + len(x)] = x
        self.labels[known : known + len(x)] = torch.cat(labels)
        self.queries += len(x)

    def neighbours(self) -> Images:
        """Each image of S, moved along the slope of its label's probability under F."""
        known, F = torch.arange(int(self.queries)), frozen(self.F)
        moved = []
        for index in torch.split(known, self.method.batch_size):
            x, y = self.images[index], self.labels[index]
            # The cross-entropy is minus the logarithm of that probability.
            slope = -loss_gradient(F, x, y, margin.cross_entropy).gradient
            moved.append((x + self.method.step_size * slope.sign()).clamp(0, 1))
        return torch.cat(moved)

    def train_epoch(self, rng: Rng) -> Mapping[str, float]:
        """Show F all of S once, in batches of nearly the same size."""
        known, F = int(self.queries), self.F.train()
        order = permutation(known, rng.key, int(self.taken)).to(self.images.device)
        loss_sum, agreed = 0.0, 0
        for index in order.tensor_split(math.ceil(known / self.method.batch_size)):
            logits, labels = F(self.images[index]), self.labels[index]
            loss = cross_entropy(logits, labels)
            minimise(self.optimiser, loss)
            loss_sum += len(index) * loss.item()
            agreed += int((logits.argmax(1) == labels).sum())
        return {"cross_entropy": loss_sum / known, "agreement": agreed / known}

    def outcome(self) -> Outcome:
        F, attack, queries = self.F.eval(), self.task.learn_from, int(self.queries)
        transfer = Transfer(attack.threat, (F,), attack, queries) if attack else None
        return Outcome(F, attack=transfer, queries=queries)
