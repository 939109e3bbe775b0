"""A run: a recipe in a folder, which trains, attacks, evaluates and reports, and can be resumed.

recipe.json                     the manifest, written first
TRAINING/                       record, checkpoint, losses and weights.safetensors of each training;
                                attack.safetensors where its method trains an attack
TRAINING/attacked/              the attacked training images, where the attack is precomputed
outcomes/METHOD.ATTACK.VIEW     the result for each image; it is not computed again
pictures/METHOD.ATTACK.VIEW     a few images for the report
results.json  report.html  report.md
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import torch
from torch import nn

from spearshield.adversary import Attack
from spearshield.classifiers.user import UnnamedFunction
from spearshield.dataset import Examples, Split
from spearshield.discover import name_of
from spearshield.experiment.folders import RECIPE, RESULTS, TRAINING, claim, refuse_others
from spearshield.experiment.learned_attacks import (
    learned_attack_trials,
    learned_attack_view,
    transfer_view,
)
from spearshield.experiment.limits import built_from
from spearshield.experiment.manifest import Manifest, weights_of
from spearshield.experiment.recipe import UNDEFENDED, Recipe
from spearshield.experiment.rehearsal import check_budgets, rehearsed
from spearshield.experiment.shield import WEIGHTS, with_weights
from spearshield.experiment.training_record import training_record
from spearshield.judging import results
from spearshield.judging.evaluation import EvaluationSettings
from spearshield.judging.judge import Judge
from spearshield.judging.trial import Trial
from spearshield.method import Defended, Learner, Outcome, Task
from spearshield.progress import Progress, no_progress
from spearshield.rng import ambient
from spearshield.storage.atomic import write_json
from spearshield.storage.lock import locked
from spearshield.storage.weights import load_weights, save_weights
from spearshield.training.learned_attack import AttackFrom, LearnedAttack
from spearshield.training.loop import CHECKPOINT, Training, check_trainable, train
from spearshield.training.transfer_attack import Transfer, TransferFrom
from spearshield.types import Shape
from spearshield.views import Transferred, View


@dataclass(frozen=True)
class Run:
    """A recipe in a folder. Its parts are computed or loaded when they are first used.

    Args:
        name: The name of the recipe.
        folder: The folder for all files of the run.
        data_dir: A folder that is searched for data first.
        device: The device of all tensors, as PyTorch names it.
        progress: Opens a bar for each long job.
        trained: The run folder of finished trainings; ``None``: train in ``folder``.
        selected: The name of the only training to evaluate; empty: all.
    """

    recipe: Recipe
    name: str
    folder: Path
    data_dir: Path | None = None
    device: str = "cpu"
    progress: Progress = no_progress
    trained: Path | None = None
    selected: str = ""

    def __call__(self) -> list[results.Row]:
        """Do all remaining trainings and evaluations, and write ``results.json`` and the report.

        Raises:
            ValueError: See :meth:`train`.
        """
        from spearshield.report import write_report  # noqa: PLC0415 - slow, and only here

        self.train()
        rows = self.evaluate()
        write_report([self.folder], self.folder)
        return rows

    def train(self) -> dict[str, Outcome]:
        """The outcomes, after all remaining trainings; writes their weights.

        Raises:
            ValueError: A training cannot work with these settings, raised before any training; or
                the folder holds something else or is in use.
        """
        self._rehearse()
        with self._claimed():
            for name, outcome in self.outcomes.items():
                save_weights(outcome.defended, self.folder / name / WEIGHTS)
                if isinstance(outcome.attack, LearnedAttack):
                    save_weights(outcome.attack.network, self.folder / name / "attack.safetensors")
        return self.outcomes

    def evaluate(self) -> list[results.Row]:
        """The rows, after all remaining evaluations; writes ``results.json``."""
        with self._claimed():
            rows = list(self.rows())
            write_json(self.folder / RESULTS, results.to_json(rows))
        return rows

    @contextmanager
    def _claimed(self) -> Iterator[None]:
        """Locks the folder inside the block, after a check that it holds this run and no other."""
        self.recipe.check_names()
        refuse_others(self.folder, RECIPE)
        with locked(self.folder):
            self.write_manifest()
            yield

    def write_manifest(self) -> None:
        """Write the manifest to the folder, or verify that it is the manifest of the folder."""
        weights = self._manifest.weights if self._manifest else weights_of(self.recipe)
        Manifest(self.name, self.recipe, *self.data_shape, weights).write_or_verify(self.folder)

    @cached_property
    def _manifest(self) -> Manifest | None:
        return Manifest.read(self.trained) if self.trained else None

    @cached_property
    def data_shape(self) -> tuple[Shape, int]:
        """Shape of an image and number of classes; for a trained run, from its manifest."""
        known = self._manifest or self.images
        return known.shape, known.classes

    @cached_property
    def training_set(self) -> Examples:
        """The training split."""
        return self._load("train")

    @cached_property
    def images(self) -> Examples:
        """The images to attack."""
        return self._load(self.recipe.split)[: self.recipe.images or None]

    def _load(self, split: Split) -> Examples:
        examples = self.recipe.data.load(split, root=self.data_dir, seed=self.recipe.seed)
        if len(examples) == 0:
            raise ValueError(f"the {split} split of {name_of(self.recipe.data)} is empty")
        return examples

    @cached_property
    def outcomes(self) -> dict[str, Outcome]:
        """The outcomes of the selected trainings, with networks in the fastest memory format."""
        found = {name: self._outcome(name) for name in self.selected_names}
        for outcome in found.values():
            outcome.defended.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return found

    @property
    def selected_names(self) -> list[str]:
        """The names of the trainings to evaluate."""
        if self.selected:
            self.recipe.require_training(self.selected)
        return [self.selected] if self.selected else [*self.recipe.trainings]

    @property
    def outcome(self) -> Outcome:
        """The outcome of the selected training, or of the last one."""
        return self.outcomes[self.selected_names[-1]]

    @property
    def victim(self) -> Defended:
        """The defended classifier of the selected training, or of the last one."""
        return self.outcome.defended

    @cached_property
    def bare(self) -> Outcome:
        """The classifier without a defence."""
        recipe = self.recipe
        network = self._untrained(recipe.pretraining)
        if isinstance(network, UnnamedFunction):
            return Outcome(network)
        if recipe.weights:
            saved = self.trained and self.trained / UNDEFENDED / WEIGHTS
            load_weights(network, saved or Path(recipe.weights))
        elif recipe.pretraining:
            return self._train(recipe.pretraining, network, name_of(recipe.pretraining))
        return Outcome(network)

    @cached_property
    def _computed(self) -> dict[str, Outcome]:
        return {}

    def _outcome(self, name: str) -> Outcome:
        """The outcome of one training, computed once."""
        if name not in self._computed:
            training = self.recipe.trainings[name]
            if training is None or training is self.recipe.pretraining:
                self._computed[name] = self.bare
            else:
                earlier = training.trained_on
                victim = self._outcome(earlier).defended if earlier else self.bare.classifier
                self._computed[name] = self._train(training, victim, name)
        return self._computed[name]

    def _untrained(self, training: Training | None) -> nn.Module:
        """The classifier with fresh weights, which depend on the seed of the training only."""
        seed = training.seed(self.recipe.seed) if training else self.recipe.seed
        with ambient(seed, step=-2), built_from(f"the recipe {self.name}"):
            network = self.recipe.classifier.build(*self.data_shape)
        if isinstance(network, UnnamedFunction) and not self.trained:
            network.refuse()
        return network.eval().to(self.device)

    def _rehearse(self) -> None:
        """Raise if a budget or a training cannot work, before any training."""
        check_budgets(self.recipe, self.data_shape[0])
        for name, training in self.recipe.trainings.items():
            if training and not (self.folder / name / CHECKPOINT).exists():
                learner = self._fresh(training)
                check_trainable(training, learner, len(self._images_of(training)))

    def _fresh(self, training: Training) -> Learner:
        """The learner of a training before its first step."""
        with built_from(f"the recipe {self.name}"):
            build = partial(self._untrained, training)
            return rehearsed(training, self.recipe.seed, build, self.data_shape)

    def _images_of(self, training: Training) -> Examples:
        """The training images of a training."""
        return self.training_set if training.split == "train" else self._load(training.split)

    def _train(self, training: Training, classifier: nn.Module, name: str) -> Outcome:
        """The outcome of a training with a method that protects or attacks ``classifier``."""

        learn_from = training.learn_from and self._attack_of(training.learn_from)
        folder = (self.trained or self.folder) / name
        if self.trained:
            training = replace(training, method=with_weights(training.method, folder / WEIGHTS))
            self._fresh(training)
        if not self.trained:
            record = training_record(
                training, self.recipe.seed, classifier, self._images_of(training)
            )
            claim(folder / TRAINING, record, "another training")
        return train(
            replace(training, learn_from=learn_from),
            Task(classifier, self._untrained(training), *self.data_shape, learn_from),
            lambda: self._images_of(training),
            seed=self.recipe.seed,
            folder=folder,
            device=self.device,
            progress=self.progress,
            finished=self.trained is not None,
        ).outcome()

    def attack(self, name: str) -> Attack:
        """The attack that a training yields. It needs neither the classifier nor the data.

        Raises:
            ValueError: There is no such training, or its method does not train an attack.
        """
        self.recipe.require_training(name)
        training = self.recipe.trainings[name]
        if self.trained and training and name not in self._computed:
            outcome = self._train(training, self._untrained(training), name)
        else:
            outcome = self._outcome(name)
        if outcome.attack is None:
            raise ValueError(f"{self.folder / name} is not an attack: its method trains no attack")
        if training and isinstance(outcome.attack, (LearnedAttack, Transfer)):
            return replace(outcome.attack, training=training)
        return outcome.attack

    def _attack_of(self, attack: Attack) -> Attack:
        """The attack itself, or the learned attack that it refers to."""
        if not isinstance(attack, AttackFrom):
            return attack
        learned = self.attack(attack.training)
        if learned.threat != attack.threat:
            raise ValueError(
                f"the attack of {attack.training!r} was trained for {learned.threat}, "
                f"not for {attack.threat}"
            )
        return learned

    def learned_attack_view(self, victim: Run) -> View:
        """The view under which the learned attack of the selected training attacks ``victim``."""
        if not victim.trained or victim.trained.resolve() != self.folder.resolve():
            return Transferred()
        return learned_attack_view(self.recipe, self.selected_names[-1], victim.selected)

    def trials(self, victim: str) -> tuple[Trial, ...]:
        """The trials of the recipe on a defence, with attacks in place of references to them."""
        return tuple(self._trial(trial, victim) for trial in self.recipe.trials)

    def _trial(self, trial: Trial, victim: str) -> Trial:
        """A trial on a defence; a transfer attack gets the view that follows from its sources."""
        attack = trial.attack
        if not isinstance(attack, TransferFrom):
            return replace(trial, attack=self._attack_of(attack))
        sources = [self._classifier_of(name) for name in attack.trainings]
        view = transfer_view(self._outcome(victim).defended, sources)
        return replace(trial, attack=attack.of(sources), view=view)

    def _classifier_of(self, name: str) -> Defended:
        """The defended classifier of a training.

        Raises:
            ValueError: The training yields an attack only.
        """
        outcome = self._outcome(name)
        if not outcome.is_defence:
            raise ValueError(
                f"{self.folder / name} is no source of a transfer attack: its method trains an "
                "attack and no classifier"
            )
        return outcome.defended

    def rows(self) -> Iterator[results.Row]:
        """A row for each defence and trial, and for each worst case."""
        recipe = self.recipe
        settings = EvaluationSettings(recipe.seed, recipe.draws, recipe.batch_size, self.device)
        about = recipe.about(self.name), recipe.parameters, self.progress
        made = {} if self.trained else self.outcomes
        attacks = {name: self.attack(name) for name, outcome in made.items() if outcome.attack}
        for name, outcome in self.outcomes.items():
            if outcome.is_defence or self.selected:
                judge = Judge(self.trials(name), self.images, self.folder, settings, *about)
                more = learned_attack_trials(recipe, attacks, name)
                yield from judge.rows(name, outcome, recipe.trainings[name], more)
