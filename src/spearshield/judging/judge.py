"""The judge: runs the trials of a victim, and reports each result with its findings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from spearshield.dataset import Examples
from spearshield.discover import name_of
from spearshield.judging import checks, results
from spearshield.judging.cached_evaluation import (
    CachedEvaluation,
    Measurement,
    data_digest,
    title,
)
from spearshield.judging.evaluation import EvaluationSettings
from spearshield.judging.provenance import Provenance
from spearshield.judging.score import Score, worst_case
from spearshield.judging.trial import Trial
from spearshield.method import Defended, Outcome
from spearshield.progress import Progress, no_progress
from spearshield.ranges import require
from spearshield.storage.serialization import dump
from spearshield.threat import ThreatModel
from spearshield.training.loop import Training
from spearshield.views import Adaptive, Oblivious


@dataclass(frozen=True)
class Judge:
    """Runs trials against victims. Scores that are stored in ``folder`` are not computed again.

    Args:
        trials: Trials for every victim; each takes part if its view applies.
        images: Images to attack.
        folder: Folder for scores and pictures.
        settings: Seed, draws, batch size and device.
        about: Fields of :class:`~spearshield.judging.results.Row` that are the same in all rows:
            ``recipe``, ``data``, ``split`` and ``classifier``.
        parameters: Entries of ``Row.parameters`` that are the same in all rows, such as the
            architecture and the weights of the classifier.
        progress: Opens a bar for each trial.
        examined: Number of images on which the checks examine each victim; 0: they only compare
            scores.

    Raises:
        ValueError: ``examined`` is negative.
    """

    trials: tuple[Trial, ...]
    images: Examples
    folder: Path
    settings: EvaluationSettings
    about: Mapping[str, str]
    parameters: Mapping[str, Any]
    progress: Progress = no_progress
    examined: int = 0

    def __post_init__(self) -> None:
        require(self, "examined", at_least=0)

    def rows(
        self,
        method: str,
        outcome: Outcome,
        training: Training | None = None,
        more: tuple[Trial, ...] = (),
    ) -> Iterator[results.Row]:
        """A row for every trial, then for each threat model a row with the worst case.

        Args:
            method: Name of the victim.
            training: The training of the victim; stored in ``Row.parameters``.
            more: Trials for this victim alone, after the others.
        """
        made_with = {
            "training": dump(training),
            "draws": self.settings.draws,
            **self.parameters,
        }
        by_threat: dict[ThreatModel, list[tuple[Trial, Measurement]]] = {}
        for trial, measured in self.measurements(method, outcome, more):
            by_threat.setdefault(trial.attack.threat, []).append((trial, measured))
            parameters = {"attack": _hyperparameters(trial), "survivors": trial.survivors}
            yield self._row(method, measured, trial.attack.threat, trial, parameters | made_with)
        for threat, made in by_threat.items():
            scored = [(trial, measured.score) for trial, measured in made]
            worst = _worst([measured for _, measured in made])
            found = checks.compare(scored) + self._examine(method, outcome.defended, threat)
            yield replace(
                self._row(method, worst, threat, None, {"cells": len(scored)} | made_with),
                findings=[asdict(finding) for finding in found],
                verdict=checks.verdict(found, worst.score.robust_acc),
            )

    def scores(
        self, method: str, outcome: Outcome, more: tuple[Trial, ...] = ()
    ) -> Iterator[tuple[Trial, Score]]:
        """Every trial that takes part, in order, with the score of the victim."""
        for trial, measured in self.measurements(method, outcome, more):
            yield trial, measured.score

    def measurements(
        self, method: str, outcome: Outcome, more: tuple[Trial, ...] = ()
    ) -> Iterator[tuple[Trial, Measurement]]:
        """Every trial that takes part, in order, with the score of the victim and its origin."""
        earlier: dict[ThreatModel, list[Measurement]] = {}
        data = data_digest(self.images)
        evaluation = CachedEvaluation(outcome.defended, method, self.folder, self.settings, data)
        for trial in (*self.applicable(outcome), *more):
            measured = earlier.setdefault(trial.attack.threat, [])
            measured.append(self._measured(evaluation, trial, measured))
            yield trial, measured[-1]

    def applicable(self, outcome: Outcome) -> tuple[Trial, ...]:
        """The trials with a view that applies to a victim.

        Without a purifier, the oblivious view is replaced by the adaptive view, which is the same.
        """
        bare, found = isinstance(outcome.purifier, nn.Identity), []
        for trial in self.trials:
            if trial.view.applies_to(outcome.purifier):
                found.append(trial)
            elif bare and isinstance(trial.view, Oblivious):
                found.append(replace(trial, view=Adaptive()))
        return tuple(dict.fromkeys(found))

    def _measured(
        self, evaluation: CachedEvaluation, trial: Trial, earlier: Sequence[Measurement]
    ) -> Measurement:
        """The score of one trial, given the earlier scores with the same threat model."""
        images = self.images[: trial.images] if trial.images else self.images
        so_far: Measurement | None = None
        if trial.survivors and earlier:
            so_far = _worst([(one.score.first(len(images)), one.provenance) for one in earlier])
            images = images[: so_far.score.images][so_far.score.robust]
            if len(images) == 0:
                return so_far._replace(score=replace(so_far.score, seconds=0.0, forwards=0))
        bar = self.progress(f"attack {evaluation.name}: {title(trial)}", len(images))
        measured = evaluation(trial, images, bar)
        if so_far is None:
            return measured
        return Measurement(
            so_far.score.updated(so_far.score.robust, measured.score),
            Provenance.of_all([so_far.provenance, measured.provenance]),
        )

    def _examine(
        self, method: str, victim: Defended, threat: ThreatModel
    ) -> tuple[checks.Finding, ...]:
        """The findings of the checks that query the victim."""
        if not self.examined:
            return ()
        bar = self.progress(f"examine {method}", 1)
        found = checks.examine(
            victim,
            self.images,
            threat,
            seed=self.settings.seed,
            device=self.settings.device,
            images=self.examined,
        )
        bar(1, {})
        return found

    def _row(
        self,
        method: str,
        measured: Measurement,
        threat: ThreatModel,
        trial: Trial | None,
        parameters: dict[str, Any],
    ) -> results.Row:
        """The row of a trial; without a trial, of a worst case."""
        score, provenance = measured
        return results.row(
            score,
            provenance,
            **self.about,
            method=method,
            attack=name_of(trial.attack) if trial else results.WORST_CASE,
            threat=threat.norm,
            eps=threat.eps,
            view=str(trial.view) if trial else results.WORST_CASE,
            seed=self.settings.seed,
            parameters=parameters,
            curve=score.curve(threat) if trial and _has_curve(trial) else None,
        )


def _worst(measured: Sequence[tuple[Score, Provenance]]) -> Measurement:
    """The worst case over scores, image by image, with the origin of all of them."""
    scores, origins = zip(*measured, strict=True)
    return Measurement(worst_case(scores), Provenance.of_all(origins))


def _has_curve(trial: Trial) -> bool:
    """True if each distance in the score is the smallest distance that the attack found.

    False if the attack stops at its first success, or if most images of the score come from earlier
    trials.
    """
    stops = getattr(trial.attack, "early_stop", False)
    return trial.attack.minimal and not stops and not trial.survivors


def _hyperparameters(trial: Trial) -> dict[str, Any]:
    """The hyper-parameters of the trial's attack, without its threat model."""
    values: dict[str, Any] = dump(trial.attack)
    return {name: value for name, value in values.items() if name not in ("type", "threat")}
