"""The judge: runs the trials of a victim, and reports each result with its findings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from spearshield.dataset import Examples
from spearshield.discover import name_of
from spearshield.judging import checks, results
from spearshield.judging.cached_evaluation import CachedEvaluation, title
from spearshield.judging.evaluation import EvaluationSettings
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
            ``recipe``, ``data``, ``split`` and ``classifier``; optionally ``command``.
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
        by_threat: dict[ThreatModel, list[tuple[Trial, Score]]] = {}
        for trial, score in self.scores(method, outcome, more):
            by_threat.setdefault(trial.attack.threat, []).append((trial, score))
            parameters = {"attack": _hyperparameters(trial), "survivors": trial.survivors}
            yield self._row(method, score, trial.attack.threat, trial, parameters | made_with)
        for threat, scored in by_threat.items():
            worst = worst_case([score for _, score in scored])
            found = checks.compare(scored) + self._examine(method, outcome.defended, threat)
            yield replace(
                self._row(method, worst, threat, None, {"cells": len(scored)} | made_with),
                findings=[asdict(finding) for finding in found],
                verdict=checks.verdict(found, worst.robust_acc),
            )

    def scores(
        self, method: str, outcome: Outcome, more: tuple[Trial, ...] = ()
    ) -> Iterator[tuple[Trial, Score]]:
        """Every trial that takes part, in order, with the score of the victim."""
        earlier: dict[ThreatModel, list[Score]] = {}
        evaluation = CachedEvaluation(outcome.defended, method, self.folder, self.settings)
        for trial in (*self.applicable(outcome), *more):
            scores = earlier.setdefault(trial.attack.threat, [])
            scores.append(self._score(evaluation, trial, scores))
            yield trial, scores[-1]

    def applicable(self, outcome: Outcome) -> tuple[Trial, ...]:
        """The trials with a view that applies to a victim.

        Without a purifier, the oblivious view is replaced by the adaptive view, which is the same.
        """
        victim, found = outcome.defended, []
        for trial in self.trials:
            if trial.view.applies_to(victim):
                found.append(trial)
            elif not victim.purifiers and isinstance(trial.view, Oblivious):
                found.append(replace(trial, view=Adaptive()))
        return tuple(dict.fromkeys(found))

    def _score(self, evaluation: CachedEvaluation, trial: Trial, earlier: Sequence[Score]) -> Score:
        """The score of one trial, given the earlier scores with the same threat model."""
        images = self.images[: trial.images] if trial.images else self.images
        so_far: Score | None = None
        if trial.survivors and earlier:
            so_far = worst_case([score.first(len(images)) for score in earlier])
            images = images[: so_far.images][so_far.robust]
            if len(images) == 0:
                return replace(so_far, seconds=0.0, forwards=0)
        bar = self.progress(f"attack {evaluation.name}: {title(trial)}", len(images))
        score = evaluation(trial, images, bar)
        return so_far.updated(so_far.robust, score) if so_far else score

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
        score: Score,
        threat: ThreatModel,
        trial: Trial | None,
        parameters: dict[str, Any],
    ) -> results.Row:
        """The row of a trial; without a trial, of a worst case."""
        return results.row(
            score,
            **self.about,
            method=method,
            attack=name_of(trial.attack) if trial else results.WORST_CASE,
            threat=threat.norm,
            eps=threat.eps,
            view=str(trial.view) if trial else results.WORST_CASE,
            seed=self.settings.seed,
            device=self.settings.device,
            parameters=parameters,
            curve=score.curve(threat) if trial and _has_curve(trial) else None,
        )


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
