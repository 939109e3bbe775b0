"""One training of a user's own classifier, with its state in a folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from spearshield.dataset import Examples
from spearshield.experiment.card import Card
from spearshield.experiment.folders import (
    CARD,
    TRAINING,
    check_writable,
    claim,
    refuse_others,
    refuse_training_of_run,
)
from spearshield.experiment.shield import Shield, Spear, refuse_another
from spearshield.experiment.subject import classifier_card
from spearshield.experiment.training_record import training_record
from spearshield.method import Outcome, Task
from spearshield.nets.fresh_copy import fresh_copy
from spearshield.progress import Progress
from spearshield.ranges import checked_seed
from spearshield.rng import ambient
from spearshield.storage.digest import digest, weights_digest
from spearshield.storage.lock import locked
from spearshield.threat import ThreatModel
from spearshield.training.learned_attack import LearnedAttack
from spearshield.training.loop import Training, check_trainable, train

RUNS = Path("runs")


@dataclass(frozen=True, eq=False)
class Learning:
    """Trains a defence or an attack for a classifier; the same call resumes it.

    Args:
        classifier: In evaluation mode, and not used elsewhere.
        threat: The threat model that goes into the card.
        folder: Where the state is kept; by default a folder in ``runs/``.
        out: Where the result is saved; ``None``: it is not.
    """

    classifier: nn.Module
    training: Training
    threat: ThreatModel
    seed: int
    device: str
    folder: str | Path | None = None
    out: str | Path | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", checked_seed(self.seed))

    def shield(self, examples: Examples, progress: Progress) -> Shield:
        """Train, save and return the defended classifier.

        Raises:
            ValueError: The method trains an attack and no defence, or ``out`` holds something else.
        """
        if not self.untrained(examples).is_defence:
            raise ValueError(
                f"{self.training.display_name} trains an attack and no defence; use learn_attack"
            )
        card = self.card("shield", examples)
        self.check_out(card)
        shield = Shield(self.outcome(examples, progress), card)
        if self.out:
            shield.save(self.out)
        return shield

    def spear(self, examples: Examples, progress: Progress) -> Spear:
        """Train, save and return the attack.

        Raises:
            ValueError: The method trains no attack on this classifier that is a network, or ``out``
                holds something else.
        """
        untrained = self.untrained(examples)
        if untrained.retrained and untrained.attack:
            raise ValueError(
                f"{self.training.display_name} trains its attack on a classifier of its own, not "
                "on this one; adv_gan, cycle_adv_gan and uap attack this one"
            )
        if not isinstance(untrained.attack, LearnedAttack):
            raise ValueError(
                f"{self.training.display_name} trains no attack that is a network; "
                "adv_gan, cycle_adv_gan and uap do"
            )
        card = self.card("spear", examples)
        self.check_out(card)
        attack = self.outcome(examples, progress).attack
        assert isinstance(attack, LearnedAttack)
        made = Spear(attack.threat, attack.network, self.training, attack.queries, card=card)
        if self.out:
            made.save(self.out)
        return made

    def check_out(self, card: Card) -> None:
        """Raise unless the result can be saved.

        Raises:
            ValueError: The folder holds something else, or cannot be written.
        """
        if self.out:
            check_writable(Path(self.out))
            refuse_another(Path(self.out), card)

    def outcome(self, examples: Examples, progress: Progress) -> Outcome:
        """The outcome of the training.

        Raises:
            ValueError: The settings do not fit each other, the classifier, the images or the
                folder; or another process uses the folder.
            Interrupted: A signal stopped the training; its state is saved.
        """
        check_writable(self.place(examples))
        with locked(self.place(examples)):
            self.claim(examples)
            learner = train(
                self.training,
                self.task(examples),
                lambda: examples,
                seed=self.seed,
                folder=self.place(examples),
                device=self.device,
                progress=progress,
            )
        return learner.outcome()

    def untrained(self, examples: Examples) -> Outcome:
        """The outcome before the first step, which has the parts of the final one.

        Raises:
            ValueError: The settings do not fit each other, the classifier or the images.
        """
        with ambient(self.training.seed(self.seed)):
            learner = self.training.method.learner(self.task(examples))
        check_trainable(self.training, learner, len(examples))
        return learner.outcome()

    def task(self, examples: Examples) -> Task:
        """The task of the method."""
        with ambient(self.training.seed(self.seed)):
            fresh = fresh_copy(self.classifier)
        return Task(
            self.classifier, fresh, examples.shape, examples.classes, self.training.learn_from
        )

    def claim(self, examples: Examples) -> None:
        """Write what the state folder is for, or verify it.

        Raises:
            ValueError: The folder holds something else, or the state of another training.
        """
        place = self.place(examples)
        refuse_training_of_run(place)
        refuse_others(place, TRAINING, CARD)
        claim(place / TRAINING, self.record(examples), "the state of another training")

    def place(self, examples: Examples) -> Path:
        """The folder for the state: the one that was given, or one named after this training."""
        key = digest(json.dumps(self.record(examples)))
        return Path(self.folder or RUNS / f"{self.training.display_name}-{key[:12]}")

    def record(self, examples: Examples) -> dict[str, Any]:
        """The settings, the classifier and the images of the training."""
        return training_record(self.training, self.seed, self.classifier, examples)

    def card(self, kind: str, examples: Examples) -> Card:
        """The card of the result."""
        return Card(
            kind=kind,
            name=self.training.display_name,
            training=self.training,
            threat=self.threat,
            seed=self.seed,
            shape=examples.shape,
            names=examples.names,
            classifier=classifier_card(self.classifier),
            trained_on=weights_digest(self.classifier),
        )
