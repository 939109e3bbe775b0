"""A recipe becomes a run folder: train, attack, evaluate, report. Run again, it goes on.

recipe.json                     saved before anything else happens
classifier/  METHOD/            checkpoint, losses and deployable weights of each training
outcomes/METHOD.ATTACK.VIEW     the outcome of every image; a finished cell is not run again
pictures/METHOD.ATTACK.VIEW     a few images of it, for the report
results.json  report.html  report.md
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from spearshield import cell, results
from spearshield.atomic import write_json
from spearshield.dataset import Examples, Split
from spearshield.discover import name_of
from spearshield.method import Defended, Outcome, Task
from spearshield.recipe import Recipe, Trial, dump, load
from spearshield.rng import ambient
from spearshield.score import Score, worst_case
from spearshield.threat import ThreatModel
from spearshield.training import Training, train
from spearshield.types import Shape
from spearshield.views import Adaptive
from spearshield.weights import load_weights, save_weights

RECIPE = "recipe.json"
UNDEFENDED = "none"

Bar = Callable[[int, Mapping[str, float]], None]
Track = Callable[[str, int], Bar]


def untracked(title: str, total: int) -> Bar:  # noqa: ARG001
    """Shows no progress."""
    return lambda done, values: None


@dataclass(frozen=True)
class Run:
    """One recipe in one folder. Its parts are made, or loaded, when they are first asked for.

    Args:
        name: The recipe's name.
        folder: Where everything is written.
        data_dir: A folder to look for data in first.
        device: Where tensors live.
        track: Told the title and length of each long job; gives a function to call with the
            amount done so far and the latest values.
        trained: The run folder whose trainings are judged; ``None``: this one.
        only: The one training that is judged; empty: all.
    """

    recipe: Recipe
    name: str
    folder: Path
    data_dir: Path | None = None
    device: str = "cpu"
    track: Track = untracked
    trained: Path | None = None
    only: str = ""

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
        """Train what is not trained yet; leave deployable weights beside each checkpoint."""
        self.claim()
        for name, outcome in self.outcomes.items():
            weights = self.folder / name / "weights.safetensors"
            if not weights.exists():
                save_weights(outcome.defended, weights)
        return self.outcomes

    def evaluate(self) -> list[results.Row]:
        """Attack what is not attacked yet and write ``results.json``."""
        self.claim()
        rows = list(self.rows())
        write_json(self.folder / "results.json", results.to_json(rows))
        return rows

    def claim(self) -> None:
        """Write the recipe into the folder, or see that it is the one already there."""
        path = self.folder / RECIPE
        shape, classes = self.frame
        images = {"shape": [*shape], "classes": classes}
        mine = {"name": self.name, "recipe": dump(self.recipe), "images": images}
        if not path.exists():
            write_json(path, mine)
            return
        try:
            theirs = json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise ValueError(f"{path} is not JSON ({error}); choose another --out") from error
        if theirs != mine:
            raise ValueError(
                f"{self.folder} holds the run of another recipe (other {_changes(theirs, mine)}); "
                "choose another --out, or delete that folder"
            )

    @cached_property
    def frame(self) -> tuple[Shape, int]:
        """Shape and number of classes of the images; of a trained run, known without its data."""
        if self.trained and (self.trained / RECIPE).exists():
            images = json.loads((self.trained / RECIPE).read_text(encoding="utf-8"))["images"]
            channels, height, width = images["shape"]
            return (channels, height, width), images["classes"]
        return self.images.shape, self.images.classes

    @cached_property
    def training_set(self) -> Examples:
        """The images that methods learn from."""
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

        A defence is called by its method's name, numbered where the method comes again.
        """
        recipe = self.recipe
        bare = None if recipe.weights else recipe.pretraining
        named: dict[str, Training | None] = {name_of(bare.method) if bare else UNDEFENDED: bare}
        for training in recipe.defences:
            name = base = name_of(training.method)
            while name in named:
                name = f"{base}~{int(name.partition('~')[2] or 1) + 1}"
            named[name] = training
        return named

    @property
    def chosen(self) -> list[str]:
        """The names of what is judged in this run: ``only``, or all."""
        if self.only and self.only not in self.trainings:
            raise ValueError(f"no {self.only!r} in this run; it has {', '.join(self.trainings)}")
        return [self.only] if self.only else [*self.trainings]

    @cached_property
    def outcomes(self) -> dict[str, Outcome]:
        """What the chosen trainings left behind, by name."""
        return {name: self._outcome(name) for name in self.chosen}

    def _outcome(self, name: str) -> Outcome:
        training = self.trainings[name]
        if training is None or training is self.recipe.pretraining:
            return self.bare
        return self._train(training, self.bare.classifier, name)

    @property
    def victim(self) -> Defended:
        """The one victim that is chosen: ``only``, or the last that was trained."""
        return self.outcomes[self.chosen[-1]].defended

    @cached_property
    def bare(self) -> Outcome:
        """The classifier without a defence."""
        recipe, network = self.recipe, self._untrained()
        if recipe.weights:
            load_weights(network, Path(recipe.weights))
        elif recipe.pretraining:
            return self._train(recipe.pretraining, network, name_of(recipe.pretraining.method))
        return Outcome(network)

    def _untrained(self) -> nn.Module:
        """The classifier with fresh weights, the same ones for the same seed."""
        with ambient(self.recipe.seed, step=-2):
            network = self.recipe.classifier.build(*self.frame)
        return network.eval().to(self.device)

    def _train(self, training: Training, classifier: nn.Module, name: str) -> Outcome:
        shape, classes = self.frame
        task = Task(classifier, self._untrained(), shape, classes, training.learn_from)
        bar = self.track(f"train {name}", training.steps)
        learner = train(
            training,
            task,
            lambda: self.training_set,
            seed=self.recipe.seed,
            folder=(self.trained or self.folder) / name,
            device=self.device,
            progress=lambda step, losses: bar(step + 1, losses),
        )
        bar(training.steps, {})
        return learner.outcome()

    def rows(self) -> Iterator[results.Row]:
        """A row for every defence and trial, and its worst case over the trials of one budget.

        The worst case is over the images that all these trials were made on.
        """
        for name, outcome in self.outcomes.items():
            scores: dict[ThreatModel, list[Score]] = {}
            for trial in self.trials(outcome):
                images = self.images[: trial.images] if trial.images else self.images
                score = cell.measure(
                    outcome.defended,
                    trial,
                    images,
                    folder=self.folder,
                    name=name,
                    seed=self.recipe.seed,
                    batch_size=self.recipe.batch_size,
                    device=self.device,
                    bar=self.track(f"attack {name}: {cell.title(trial)}", len(images)),
                )
                scores.setdefault(trial.attack.threat, []).append(score)
                attack = dump(trial.attack)
                about: dict[str, Any] = {
                    "attack": {k: v for k, v in attack.items() if k not in ("type", "threat")}
                }
                yield self._row(name, score, trial.attack.threat, trial, about)
            for threat, same in scores.items():
                about = {"cells": len(same)}
                shared = min(score.images for score in same)
                worst = worst_case([score.first(shared) for score in same])
                yield self._row(name, worst, threat, None, about)

    def trials(self, outcome: Outcome) -> tuple[Trial, ...]:
        """What a victim meets: without a purifier all views are one, the adaptive."""
        if not isinstance(outcome.purifier, nn.Identity):
            return self.recipe.trials
        return tuple(dict.fromkeys(replace(trial, view=Adaptive()) for trial in self.recipe.trials))

    def _row(
        self,
        name: str,
        score: Score,
        threat: ThreatModel,
        trial: Trial | None,
        about: dict[str, Any],
    ) -> results.Row:
        recipe = self.recipe
        training = self.trainings[name]
        return results.row(
            score,
            recipe=self.name,
            data=name_of(recipe.data),
            split=recipe.split,
            classifier=name_of(recipe.classifier),
            method=name,
            attack=name_of(trial.attack) if trial else results.WORST_CASE,
            threat=type(threat).__name__,
            eps=threat.eps,
            view=str(trial.view) if trial else results.WORST_CASE,
            seed=recipe.seed,
            device=self.device,
            parameters={
                **about,
                "classifier": dump(recipe.classifier),
                "training": dump(training),
                "weights": recipe.weights,
            },
        )


def reopen(folder: Path, data_dir: Path | None = None, device: str = "cpu") -> Run:
    """The run that lies in ``folder``.

    Raises:
        FileNotFoundError: There is none.
        ValueError: Its recipe cannot be read.
    """
    path = folder / RECIPE
    if not path.exists():
        raise FileNotFoundError(f"{folder} is no run folder: it has no {RECIPE}")
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        name, recipe, _ = saved["name"], load(saved["recipe"]), saved["images"]["shape"]
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not a recipe of this version ({error})") from error
    return Run(recipe, name, folder, data_dir, device)


def _changes(theirs: Any, mine: Any, path: str = "") -> str:
    """The dotted names of what differs between two plain JSON values."""
    if isinstance(theirs, dict) and isinstance(mine, dict) and theirs.keys() == mine.keys():
        inner = [_changes(theirs[k], mine[k], f"{path}.{k}") for k in mine if theirs[k] != mine[k]]
        return ", ".join(inner)
    if isinstance(theirs, list) and isinstance(mine, list) and len(theirs) == len(mine):
        pairs = [(i, a, b) for i, (a, b) in enumerate(zip(theirs, mine, strict=True)) if a != b]
        return ", ".join(_changes(a, b, f"{path}.{i}") for i, a, b in pairs)
    return path.removeprefix(".recipe").removeprefix(".") or "recipe"
