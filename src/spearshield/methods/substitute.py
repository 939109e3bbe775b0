"""Substitute: a classifier trained on the labels of a black box and attacked in its place.

Papernot, McDaniel, Goodfellow, Jha, Celik, Swami, "Practical Black-Box Attacks against Machine
Learning", 2017. https://arxiv.org/abs/1602.02697

    O  oracle      image -> label   the black box, the task's classifier
    F  substitute  image -> logits  the classifier that is trained

    S = seeds;  each round:  label S by O;  train F on S;  S += S + lambda * sign(dF_O(x)(x) / dx)

Differences from the paper. The settings are those of Defense-GAN's scripts, Samangouei, Kabkab,
Chellappa, 2018, https://arxiv.org/abs/1805.06605: Adam, six rounds of training with five
augmentations between them, a lambda of constant sign, and an S that keeps all images. Unlike in
the scripts, the oracle also labels the seeds, and new images are clipped to [0, 1]. One step of the
training is an epoch over S, so all rounds take ``rounds * epochs`` steps; further steps use the
last S.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy

from spearshield.adversary import loss_gradient
from spearshield.architecture import Architecture
from spearshield.classifiers.defense_gan_e import DefenseGANE
from spearshield.losses import margin
from spearshield.method import Learner, Method, Outcome, Paper, Task, frozen
from spearshield.ranges import require
from spearshield.rng import Rng, permutation
from spearshield.training.optim import minimise
from spearshield.training.transfer_attack import Transfer
from spearshield.types import Images, Labels


@dataclass(frozen=True)
class Substitute(Method):
    """A substitute for the task's classifier, which is only queried for labels.

    If the training has an attack (``learn_from``), the outcome includes this attack as a transfer
    attack with the substitute as its source.

    The seeds are the first images of the first batch: set the ``batch_size`` of the training to at
    least ``seeds``. Later batches and the given labels are not used.

    Args:
        network: Architecture of the substitute; the oracle may have another architecture.
        seeds: Largest number of images that the attacker owns.
        rounds: Rounds of training. Each round after the first doubles S, and so the queries.
        epochs: Epochs in each round.
        step_size: Lambda, the change of each pixel in an augmentation.
        lr: Learning rate of Adam.
        batch_size: Largest number of images in an update and in a query.

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
        require(self, "seeds", "rounds", "epochs", "batch_size", at_least=1)
        require(self, "step_size", "lr", above=0)

    def learner(self, task: Task) -> SubstituteLearner:
        return SubstituteLearner(self, task)


class SubstituteLearner(Learner):
    """S is the first ``queries`` rows of ``images`` and ``labels``; the other rows are empty."""

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
        # Of full size from the start, so that the checkpoints of all rounds have the same shapes.
        size = method.seeds * 2 ** (method.rounds - 1)
        self.register_buffer("images", torch.zeros(size, *task.shape))
        self.register_buffer("labels", torch.zeros(size, dtype=torch.long))
        self.register_buffer("queries", torch.tensor(0))
        self.register_buffer("taken", torch.tensor(0))

    def step(self, x: Images, y: Labels, *, rng: Rng) -> Mapping[str, float]:  # noqa: ARG002
        number, epoch = divmod(int(self.taken), self.method.epochs)
        if number == epoch == 0:
            self.query(x[: self.method.seeds])
        elif epoch == 0 and number < self.method.rounds:
            self.query(self.augmented())
        losses = self.train_epoch(rng)
        self.taken += 1
        return {**losses, "queries": self.queries.item()}

    @torch.no_grad()
    def query(self, x: Images) -> None:
        """Query the oracle for the labels of ``x``, and add both to S."""
        O = frozen(self.task.classifier)  # noqa: E741
        labels = [O(part).argmax(1) for part in torch.split(x, self.method.batch_size)]
        size = int(self.queries)
        self.images[size : size + len(x)] = x
        self.labels[size : size + len(x)] = torch.cat(labels)
        self.queries += len(x)

    def augmented(self) -> Images:
        """Each image of S, moved by lambda along the sign of dF_O(x)(x) / dx."""
        places = torch.arange(int(self.queries), device=self.images.device)
        F = frozen(self.F)
        moved = []
        for index in torch.split(places, self.method.batch_size):
            x, y = self.images[index], self.labels[index]
            # The cross-entropy is minus the logarithm of that probability.
            gradient = -loss_gradient(F, x, y, margin.cross_entropy).gradient
            moved.append((x + self.method.step_size * gradient.sign()).clamp(0, 1))
        return torch.cat(moved)

    def train_epoch(self, rng: Rng) -> Mapping[str, float]:
        """Train F on all of S once, in batches of nearly the same size."""
        size, F = int(self.queries), self.F.train()
        order = permutation(size, rng.key, int(self.taken)).to(self.images.device)
        loss_sum, agreed = 0.0, 0
        for index in order.tensor_split(math.ceil(size / self.method.batch_size)):
            logits, labels = F(self.images[index]), self.labels[index]
            loss = cross_entropy(logits, labels)
            minimise(self.optimiser, loss)
            loss_sum += len(index) * loss.item()
            agreed += int((logits.argmax(1) == labels).sum())
        return {"cross_entropy": loss_sum / size, "agreement": agreed / size}

    def outcome(self) -> Outcome:
        F, attack, queries = self.F.eval(), self.task.learn_from, int(self.queries)
        transfer = Transfer(attack.threat, (F,), attack, queries) if attack else None
        return Outcome(F, attack=transfer, queries=queries)
