"""A recipe becomes a run folder: train, attack, evaluate, report. Run again, it goes on.

recipe.json                     saved before anything else happens
TRAINING/                       checkpoint, losses and deployable weights of each training; of one
                                that leaves a learned attack, attack.safetensors too
TRAINING/attacked/              its training images, where they are attacked once
outcomes/METHOD.ATTACK.VIEW     the outcome of every image; a finished cell is not run again
pictures/METHOD.ATTACK.VIEW     a few images of it, for the report
results.json  report.html  report.md
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import nn

from spearshield.attack import Attack
from spearshield.dataset import Examples, Split
from spearshield.discover import name_of
from spearshield.experiment.manifest import FILE, Manifest
from spearshield.experiment.recipe import Recipe
from spearshield.judging import results
from spearshield.judging.evaluation import EvaluationSettings
from spearshield.judging.judge import Judge
from spearshield.judging.trial import Trial
from spearshield.method import Defended, Outcome, Task
from spearshield.progress import Progress, no_progress
from spearshield.rng import ambient
from spearshield.storage.atomic import write_json
from spearshield.storage.serialization import dump
from spearshield.storage.weights import load_weights, save_weights
from spearshield.training.learned_attack import AttackFrom, LearnedAttack
from spearshield.training.loop import Training, train
from spearshield.training.precomputed_attack import PrecomputedAttack
from spearshield.training.transfer_attack import Transfer
from spearshield.types import Shape
from spearshield.views import Adaptive, Oblivious, Transferred, View

UNDEFENDED = "none"


@dataclass(frozen=True)
class Run:
    """One recipe in one folder. Its parts are made, or loaded, when they are first asked for.

    Args:
        name: The recipe's name.
        folder: Where everything is written.
        data_dir: A folder to look for data in first.
        device: Where tensors live.
        progress: Opens a bar for each long job.
        trained: The run folder whose trainings are judged; ``None``: this one.
        only: The one training that is judged; empty: all.
        examined: Images that each victim itself is examined on; 0: only its scores are compared.
    """

    recipe: Recipe
    name: str
    folder: Path
    data_dir: Path | None = None
    device: str = "cpu"
    progress: Progress = no_progress
    trained: Path | None = None
    selected: str = ""
    examined: int = 0

    def __call__(self) -> list[results.Row]:
        """Do what is not done yet, and write ``results.json`` and the report.

        Raises:
            ValueError: The folder holds another recipe's run; names the fields that differ.
        """
        from spearshield.report import write_report  # noqa: PLC0415 - slow, and only here

        self.train()
        rows = self.evaluate()
        write_report([self.folder], self.folder)
        return rows

    def train(self) -> dict[str, Outcome]:
        """Train what is not trained yet; leave deployable weights beside each checkpoint.

        Raises:
            ValueError: A training cannot be done as it is set; said before the first one begins.
        """
        for name, training in self.trainings.items():
            if training:
                self._try(name, training)
        self.claim()
        for name, outcome in self.outcomes.items():
            networks: dict[str, nn.Module] = {"weights": outcome.defended}
            if isinstance(outcome.attack, LearnedAttack):
                networks["attack"] = outcome.attack.network
            for what, network in networks.items():
                path = self.folder / name / f"{what}.safetensors"
                if not path.exists():
                    save_weights(network, path)
        return self.outcomes

    def _try(self, name: str, training: Training) -> None:
        """Refuse a training that is bound to fail: make its learner, and throw that away."""
        self._after(name, training.trained_on)
        learn_from = training.learn_from
        if isinstance(learn_from, AttackFrom):
            self._after(name, learn_from.training)
        if training.precompute and learn_from:
            learn_from = PrecomputedAttack.empty(learn_from)
        shape, classes = self.data_shape
        with ambient(self.recipe.seed):
            task = Task(self._untrained(), self._untrained(), shape, classes, learn_from)
            training.method.learner(task)

    def evaluate(self) -> list[results.Row]:
        """Attack what is not attacked yet and write ``results.json``."""
        self.claim()
        rows = list(self.rows())
        write_json(self.folder / "results.json", results.to_json(rows))
        return rows

    def claim(self) -> None:
        """Write the recipe into the folder, or see that it is the one already there."""
        for trial in self.recipe.trials:
            if isinstance(trial.attack, AttackFrom):
                self._check(trial.attack.training)
        Manifest(self.name, self.recipe, *self.data_shape).write_or_verify(self.folder)

    @cached_property
    def data_shape(self) -> tuple[Shape, int]:
        """Shape and number of classes of the images; of a trained run, known without its data."""
        if self.trained and (self.trained / FILE).exists():
            claim = Manifest.of(self.trained)
            return claim.shape, claim.classes
        return self.images.shape, self.images.classes

    @cached_property
    def training_set(self) -> Examples:
        """The images that methods learn from, unless they say otherwise."""
        return self._load("train")

    @cached_property
    def images(self) -> Examples:
        """The images that are attacked."""
        found = self._load(self.recipe.split)
        return found[: self.recipe.images] if self.recipe.images else found

    def _load(self, split: Split) -> Examples:
        found = self.recipe.data.load(split, root=self.data_dir, seed=self.recipe.seed)
        if len(found) == 0:
            raise ValueError(f"the {split} split of {name_of(self.recipe.data)} is empty")
        return found

    @cached_property
    def trainings(self) -> dict[str, Training | None]:
        """What is judged, by name: first the bare classifier, then the defences.

        A defence is called as its training, numbered where a name comes again.
        """
        recipe = self.recipe
        bare = None if recipe.weights else recipe.pretraining
        named: dict[str, Training | None] = {name_of(bare) if bare else UNDEFENDED: bare}
        for training in recipe.defences:
            name = base = name_of(training)
            while name in named:
                name = f"{base}~{int(name.partition('~')[2] or 1) + 1}"
            named[name] = training
        return named

    @property
    def selected_names(self) -> list[str]:
        """The names of what is judged in this run: ``only``, or all."""
        if self.selected:
            self._check(self.selected)
        return [self.selected] if self.selected else [*self.trainings]

    def _check(self, name: str) -> None:
        if name not in self.trainings:
            raise ValueError(f"no {name!r} in this run; it has {', '.join(self.trainings)}")

    @cached_property
    def outcomes(self) -> dict[str, Outcome]:
        """What the chosen trainings left behind, by name, laid out in memory as is fastest."""
        found = {name: self._outcome(name) for name in self.selected_names}
        for outcome in found.values():
            outcome.defended.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return found

    @cached_property
    def _made(self) -> dict[str, Outcome]:
        """The outcomes that there are so far."""
        return {}

    def _outcome(self, name: str) -> Outcome:
        if name not in self._made:
            training = self.trainings[name]
            if training is None or training is self.recipe.pretraining:
                self._made[name] = self.bare
            else:
                former = training.trained_on
                about = self._outcome(former).defended if former else self.bare.classifier
                self._made[name] = self._train(training, about, name)
        return self._made[name]

    def _after(self, name: str, other: str) -> None:
        """Refuse a training that needs another one, where that is no defence before it."""
        earlier = [*self.trainings]
        earlier = earlier[1 : earlier.index(name)]
        if other and other not in earlier:
            raise ValueError(
                f"{name} needs {other!r}, which is no defence before it; "
                f"these are: {', '.join(earlier) or 'none'}"
            )

    def attack(self, name: str) -> Attack:
        """The attack that a training left behind.

        It holds its own networks: of a trained run, neither classifier nor data are needed.

        Raises:
            ValueError: There is no such training, or it left none behind.
        """
        self._check(name)
        training = self.trainings[name]
        if self.trained and training and name not in self._made:
            outcome = self._train(training, self._untrained(), name)
        else:
            outcome = self._outcome(name)
        attack = outcome.attack
        if attack is None:
            raise ValueError(f"{self.folder / name} is no attack: its method leaves none behind")
        if training and isinstance(attack, (LearnedAttack, Transfer)):
            return replace(attack, training=training)
        return attack

    def view_of(self, victim: Run) -> View:
        """What the attack of the one training of this run that is chosen knows of a victim.

        It looks at none any more, so it knows what it was learnt against.

        Args:
            victim: A trained run, and the training in it that is attacked; or any other.
        """
        if not victim.trained or victim.trained.resolve() != self.folder.resolve():
            return Transferred()
        bare, *_ = self.trainings
        trained_on = {
            name: training.trained_on if training and training.trained_on else bare
            for name, training in self.trainings.items()
        }
        learnt_on = trained_on[self.selected_names[-1]]
        if victim.selected == learnt_on:
            return Adaptive()
        return Oblivious() if trained_on.get(victim.selected, bare) == learnt_on else Transferred()

    @property
    def trials(self) -> tuple[Trial, ...]:
        """The recipe's, with the attacks that its trainings left behind in their place."""
        return tuple(
            replace(trial, attack=self._left(trial.attack))
            if isinstance(trial.attack, AttackFrom)
            else trial
            for trial in self.recipe.trials
        )

    def _left(self, left: AttackFrom) -> Attack:
        attack = self.attack(left.training)
        if attack.threat != left.threat:
            raise ValueError(
                f"{left.training!r} leaves behind an attack on {attack.threat}, not {left.threat}"
            )
        return attack

    @property
    def outcome(self) -> Outcome:
        """What the one chosen training left behind: ``only``, or the last."""
        return self.outcomes[self.selected_names[-1]]

    @property
    def victim(self) -> Defended:
        """The one victim that is chosen."""
        return self.outcome.defended

    @cached_property
    def bare(self) -> Outcome:
        """The classifier without a defence."""
        recipe, network = self.recipe, self._untrained()
        if recipe.weights:
            load_weights(network, Path(recipe.weights))
        elif recipe.pretraining:
            return self._train(recipe.pretraining, network, name_of(recipe.pretraining))
        return Outcome(network)

    def _untrained(self) -> nn.Module:
        """The classifier with fresh weights, the same ones for the same seed."""
        with ambient(self.recipe.seed, step=-2):
            network = self.recipe.classifier.build(*self.data_shape)
        return network.eval().to(self.device)

    def _train(self, training: Training, classifier: nn.Module, name: str) -> Outcome:
        shape, classes = self.data_shape
        if isinstance(training.learn_from, AttackFrom):
            training = replace(training, learn_from=self._left(training.learn_from))
        task = Task(classifier, self._untrained(), shape, classes, training.learn_from)
        learner = train(
            training,
            task,
            lambda: self.training_set if training.split == "train" else self._load(training.split),
            seed=self.recipe.seed,
            folder=(self.trained or self.folder) / name,
            device=self.device,
            progress=self.progress,
            finished=self.trained is not None,
        )
        return learner.outcome()

    def rows(self) -> Iterator[results.Row]:
        """A row for every defence and trial, and the worst cases."""
        recipe = self.recipe
        judge = Judge(
            self.trials,
            self.images,
            self.folder,
            EvaluationSettings(recipe.seed, recipe.draws, recipe.batch_size, self.device),
            about={
                "recipe": self.name,
                "data": name_of(recipe.data),
                "split": recipe.split,
                "classifier": name_of(recipe.classifier),
            },
            parameters={"weights": recipe.weights, "classifier": dump(recipe.classifier)},
            progress=self.progress,
            examined=self.examined,
        )
        for name, outcome in self.outcomes.items():
            if outcome.is_defence or self.selected:
                learnt = () if self.trained else self.learnt(name)
                yield from judge.rows(name, outcome, self.trainings[name], learnt)

    def learnt(self, name: str) -> tuple[Trial, ...]:
        """The attacks that the run's trainings have left for the victim ``name``.

        They are those that were learnt against it, and its own, which was learnt without it; but
        none that the recipe says itself on whom to try.
        """
        bare, *_ = self.trainings
        tried = {
            trial.attack.training
            for trial in self.recipe.trials
            if isinstance(trial.attack, AttackFrom)
        }
        met = []
        for other, outcome in self.outcomes.items():
            training = self.trainings[other]
            if other in tried or outcome.attack is None:
                continue
            if training and name == (training.trained_on or bare):
                met.append(Trial(self.attack(other)))
            elif name == other:
                met.append(Trial(self.attack(other), Oblivious()))
        return tuple(met)


def reopen(folder: Path, data_dir: Path | None = None, device: str = "cpu") -> Run:
    """The run that lies in ``folder``.

    Raises:
        FileNotFoundError: There is none.
        ValueError: Its recipe cannot be read.
    """
    claim = Manifest.of(folder)
    return Run(claim.recipe, claim.name, folder, data_dir, device)
