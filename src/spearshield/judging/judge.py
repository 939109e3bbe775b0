"""The judge: runs the trials of a victim, and reports each result with its findings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from spearshield.dataset import Examples
from spearshield.discover import name_of
from spearshield.judging import checks, results
from spearshield.judging.cached_evaluation import CachedEvaluation, data_digest
from spearshield.judging.case import Case, TrialScore
from spearshield.judging.evaluation import EvaluationSettings
from spearshield.judging.examination import Examination
from spearshield.judging.finding import Finding
from spearshield.judging.provenance import Provenance
from spearshield.judging.score import Score
from spearshield.judging.trial import Trial
from spearshield.method import Outcome
from spearshield.progress import Progress, no_progress
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
        examination: The checks that examine each victim, with the attacks that follow a finding of
            high severity; ``None``: scores are compared, and the verdict is ``not examined``.
    """

    trials: tuple[Trial, ...]
    images: Examples
    folder: Path
    settings: EvaluationSettings
    about: Mapping[str, str]
    parameters: Mapping[str, Any]
    progress: Progress = no_progress
    examination: Examination | None = None

    def rows(
        self,
        method: str,
        outcome: Outcome,
        training: Training | None = None,
        more: tuple[Trial, ...] = (),
    ) -> Iterator[results.Row]:
        """A row for every trial, and for each threat model a row with the worst case.

        The checks of the victim come first, then the trials, then for each threat model the checks
        of the strength of attacks, the attacks that follow a finding of high severity, and the
        worst case.

        Args:
            method: Name of the victim.
            training: The training of the victim; stored in ``Row.parameters``.
            more: Trials for this victim alone, after the others.

        Raises:
            ValueError: No trial could run.
        """
        common = {"training": dump(training), "draws": self.settings.draws, **self.parameters}
        trials = (*self.applicable(outcome), *more)
        case = self.case(method, outcome)
        inspected = {threat: case.inspect(threat) for threat in _threats(trials)}
        for trial in trials:
            if scored := case.run(trial):
                yield self._trial_row(method, scored, common)
        for threat in inspected:
            if scored := case.without_attack(threat):
                yield self._trial_row(method, scored, common)
        for threat in _threats([each.trial for each in case.scores]):
            found = [*inspected[threat], *checks.compare(case.scored(threat))]
            found += case.strength(threat)
            before = case.worst(threat).robust_acc
            for trial in case.escalation(threat, [*found, *case.failures]):
                if scored := case.run(trial):
                    yield self._trial_row(method, scored, common)
            found += case.failures
            found += checks.escalated(before, case.worst(threat).robust_acc)
            yield self._worst_row(method, case, threat, found, common)

    def scores(
        self, method: str, outcome: Outcome, more: tuple[Trial, ...] = ()
    ) -> Iterator[tuple[Trial, Score]]:
        """Every trial that takes part, in order, with the score of the victim."""
        case = self.case(method, outcome)
        for trial in (*self.applicable(outcome), *more):
            if scored := case.run(trial):
                yield trial, scored.score

    def case(self, method: str, outcome: Outcome) -> Case:
        """The case of a victim, before its first trial."""
        data = data_digest(self.images)
        evaluation = CachedEvaluation(outcome.defended, method, self.folder, self.settings, data)
        return Case(evaluation, self.images, self.progress, self.examination)

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

    def _trial_row(self, method: str, scored: TrialScore, common: Mapping[str, Any]) -> results.Row:
        """The row of a trial."""
        trial, threat = scored.trial, scored.trial.attack.threat
        parameters = {"attack": _hyperparameters(trial), "survivors": trial.survivors, **common}
        return self._row(
            method,
            scored.score,
            scored.provenance,
            threat,
            attack=name_of(trial.attack),
            view=str(trial.view),
            parameters=parameters,
            attacked=scored.attacked,
            broke=scored.broke,
            curve=scored.score.curve(threat) if _has_curve(trial) else None,
        )

    def _worst_row(
        self,
        method: str,
        case: Case,
        threat: ThreatModel,
        found: Sequence[Finding],
        common: Mapping[str, Any],
    ) -> results.Row:
        """The row of the worst case over the trials with a threat model."""
        worst = case.worst(threat)
        examined = self.examination is not None
        return self._row(
            method,
            worst,
            case.provenance(threat),
            threat,
            attack=results.WORST_CASE,
            view=results.WORST_CASE,
            parameters={"cells": len(case.scored(threat)), **common},
            proved=case.proved(threat),
            findings=[asdict(finding) for finding in checks.gravest(found)],
            verdict=checks.verdict(found, worst.robust_acc, images=worst.images, examined=examined),
        )

    def _row(
        self,
        method: str,
        score: Score,
        provenance: Provenance,
        threat: ThreatModel,
        **about: Any,
    ) -> results.Row:
        """A row with the fields that all rows of a victim share."""
        return results.row(
            score,
            provenance,
            **self.about,
            method=method,
            threat=threat.norm,
            eps=threat.eps,
            seed=self.settings.seed,
            **about,
        )


def _threats(trials: Sequence[Trial]) -> list[ThreatModel]:
    """The threat models of the trials, in order."""
    return list(dict.fromkeys(trial.attack.threat for trial in trials))


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
