"""The judge: a victim meets its trials, and every number comes with what puts it in doubt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from spearshield.dataset import Examples
from spearshield.discover import name_of
from spearshield.judging import checks, results
from spearshield.judging.cached_evaluation import CachedEvaluation, title
from spearshield.judging.evaluation import EvaluationSettings
from spearshield.judging.score import Score, worst_case
from spearshield.judging.trial import Trial
from spearshield.method import Defended, Outcome
from spearshield.progress import Progress, no_progress
from spearshield.storage.serialization import dump
from spearshield.threat import ThreatModel
from spearshield.training.loop import Training
from spearshield.views import Adaptive, Oblivious


@dataclass(frozen=True)
class Judge:
    """Measures what a victim's trials leave of it; what lies in ``folder`` is not measured again.

    Args:
        trials: What every victim meets, where it applies.
        images: What is attacked.
        settings: Seed, draws, batch size and device.
        about: What the rows say of the run: the fields ``recipe``, ``data``, ``split`` and
            ``classifier`` of :class:`~spearshield.judging.results.Row`.
        parameters: What the rows say of the classifier: architecture and weights.
        folder: Where outcomes and pictures are kept.
        progress: Opens a bar for each trial.
        examined: Images that each victim itself is examined on, in search of what puts its numbers
            in doubt; 0: only its scores are compared.
    """

    trials: tuple[Trial, ...]
    images: Examples
    folder: Path
    settings: EvaluationSettings
    about: Mapping[str, str]
    parameters: Mapping[str, Any]
    progress: Progress = no_progress
    examined: int = 0

    def rows(
        self,
        method: str,
        outcome: Outcome,
        training: Training | None,
        learnt: tuple[Trial, ...] = (),
    ) -> Iterator[results.Row]:
        """A row for every trial of a victim, and for each budget the worst case over its trials.

        The worst case is over the images that all these trials were made on.

        Args:
            method: What the victim is called.
            training: How it was trained, for the record.
            learnt: Trials that it meets beside those of the recipe.
        """
        made_with = {
            "training": dump(training),
            "draws": self.settings.draws,
            **self.parameters,
        }
        met: dict[ThreatModel, list[tuple[Trial, Score]]] = {}
        for trial, score in self.measured(method, outcome, learnt):
            met.setdefault(trial.attack.threat, []).append((trial, score))
            about = {"attack": _settings(trial), "survivors": trial.survivors}
            yield self._row(method, score, trial.attack.threat, trial, about | made_with)
        for threat, same in met.items():
            worst = overall([score for _, score in same])
            found = checks.compare(same) + self._examine(method, outcome.defended, threat)
            yield replace(
                self._row(method, worst, threat, None, {"cells": len(same)} | made_with),
                findings=[asdict(finding) for finding in found],
                verdict=checks.verdict(found, worst.robust_acc),
            )

    def measured(
        self, method: str, outcome: Outcome, learnt: tuple[Trial, ...] = ()
    ) -> Iterator[tuple[Trial, Score]]:
        """What a victim meets, and its score, in order."""
        victim, met = outcome.defended, dict[ThreatModel, list[Score]]()
        evaluation = CachedEvaluation(victim, method, self.folder, self.settings)
        for trial in (*self.applicable(outcome), *learnt):
            earlier = met.setdefault(trial.attack.threat, [])
            earlier.append(self._measure(evaluation, trial, earlier))
            yield trial, earlier[-1]

    def applicable(self, outcome: Outcome) -> tuple[Trial, ...]:
        """What a victim meets: the trials whose view suits it.

        Without a purifier an oblivious attack is an adaptive one, and is made as such.
        """
        bare, met = isinstance(outcome.purifier, nn.Identity), []
        for trial in self.trials:
            if trial.view.applies_to(outcome.purifier):
                met.append(trial)
            elif bare and isinstance(trial.view, Oblivious):
                met.append(replace(trial, view=Adaptive()))
        return tuple(dict.fromkeys(met))

    def _measure(
        self, evaluation: CachedEvaluation, trial: Trial, earlier: Sequence[Score]
    ) -> Score:
        """The score of one trial, given those of the earlier ones on its budget."""
        images = self.images[: trial.images] if trial.images else self.images
        so_far: Score | None = None
        if trial.survivors and earlier:
            so_far = overall([score.first(len(images)) for score in earlier])
            images = images[: so_far.images][so_far.robust]
            if len(images) == 0:
                return replace(so_far, seconds=0.0, forwards=0)
        bar = self.progress(f"attack {evaluation.name}: {title(trial)}", len(images))
        score = evaluation(trial, images, bar)
        return so_far.updated(so_far.robust, score) if so_far else score

    def _examine(
        self, method: str, victim: Defended, threat: ThreatModel
    ) -> tuple[checks.Finding, ...]:
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
        about: dict[str, Any],
    ) -> results.Row:
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
            parameters=about,
            curve=score.curve(threat) if trial and _looks_for_the_nearest(trial) else None,
        )


def overall(scores: Sequence[Score]) -> Score:
    """The worst case over the images that all the scores are about."""
    shared = min(score.images for score in scores)
    return worst_case([score.first(shared) for score in scores])


def _looks_for_the_nearest(trial: Trial) -> bool:
    """Whether the distances of the trial's score are the smallest that its attack found.

    An attack that stops early takes any inside the budget, and in the score of a trial on survivors
    most images are those of earlier trials.
    """
    stops = getattr(trial.attack, "early_stop", False)
    return trial.attack.minimal and not stops and not trial.survivors


def _settings(trial: Trial) -> dict[str, Any]:
    """The hyper-parameters of the trial's attack."""
    settings: dict[str, Any] = dump(trial.attack)
    return {name: value for name, value in settings.items() if name not in ("type", "threat")}
