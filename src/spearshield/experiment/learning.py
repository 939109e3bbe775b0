"""One training of a user's own classifier, with its state in a folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from spearshield.dataset import Examples
from spearshield.experiment.card import Card
from spearshield.experiment.shield import Shield, Spear, fresh_copy, weights_digest
from spearshield.experiment.subject import classifier_card
from spearshield.method import Outcome, Task
from spearshield.progress import Progress
from spearshield.rng import ambient
from spearshield.storage.atomic import write_json
from spearshield.storage.digest import digest
from spearshield.storage.serialization import dump
from spearshield.threat import ThreatModel
from spearshield.training.learned_attack import LearnedAttack
from spearshield.training.loop import Training, train

RUNS = Path("runs")
TRAINING = "training.json"


@dataclass(frozen=True, eq=False)
class Learning:
    """Trains a defence or an attack for a classifier; the same call resumes it.

    Args:
        classifier: In evaluation mode, and not used elsewhere.
        threat: The threat model that goes into the card.
        folder: Where the state is kept; by default a folder in ``runs/``.
    """

    classifier: nn.Module
    training: Training
    threat: ThreatModel
    seed: int
    device: str
    folder: str | Path | None = None

    def shield(self, examples: Examples, progress: Progress) -> Shield:
        """Train, and return the defended classifier.

        Raises:
            ValueError: The method trains an attack and no defence.
        """
        outcome = self.outcome(examples, progress)
        if not outcome.is_defence:
            raise ValueError(
                f"{self.training.display_name} trains an attack and no defence; use learn_attack"
            )
        return Shield(outcome, self.card("shield", examples))

    def spear(self, examples: Examples, progress: Progress) -> Spear:
        """Train, and return the attack.

        Raises:
            ValueError: The method trains no attack that is a network.
        """
        outcome = self.outcome(examples, progress)
        attack = outcome.attack
        if not isinstance(attack, LearnedAttack):
            raise ValueError(
                f"{self.training.display_name} trains no attack that is a network; "
                "adv_gan, cycle_adv_gan and uap do"
            )
        card = self.card("spear", examples)
        return Spear(attack.threat, attack.network, self.training, attack.queries, card=card)

    def outcome(self, examples: Examples, progress: Progress) -> Outcome:
        """The outcome of the training.

        Raises:
            ValueError: The settings do not fit each other, the classifier or the images.
            Interrupted: A signal stopped the training; its state is saved.
        """
        with ambient(self.seed):
            untrained = fresh_copy(self.classifier)
        task = Task(
            self.classifier,
            untrained,
            examples.shape,
            examples.classes,
            self.training.learn_from,
        )
        learner = train(
            self.training,
            task,
            lambda: examples,
            seed=self.seed,
            folder=self.claimed_folder(examples),
            device=self.device,
            progress=progress,
        )
        return learner.outcome()

    def claimed_folder(self, examples: Examples) -> Path:
        """The folder for the state: the one that was given, or one named after this training.

        Raises:
            ValueError: It holds the state of another training.
        """
        settings = json.dumps([dump(self.training), self.seed])
        key = digest(settings, weights_digest(self.classifier), examples.pixels, examples.y)
        folder = Path(self.folder or RUNS / f"{self.training.display_name}-{key[:12]}")
        path = folder / TRAINING
        if not path.exists():
            write_json(path, {"key": key, "training": dump(self.training), "seed": self.seed})
        elif json.loads(path.read_text(encoding="utf-8")).get("key") != key:
            raise ValueError(
                f"{folder} holds the state of another training: the model, the images or the "
                "settings differ; choose another folder, or delete that one"
            )
        return folder

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
