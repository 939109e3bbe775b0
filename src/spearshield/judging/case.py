"""A case: one victim before the judge, with the trials that have run so far."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

from spearshield.adversary import Attack
from spearshield.dataset import Examples
from spearshield.foreign import cause
from spearshield.gradients import NoGradientError, NonFiniteGradientWarning
from spearshield.judging.cached_evaluation import CachedEvaluation, StoredScoreError, title
from spearshield.judging.checks import INSPECTIONS, STRENGTH, Check, could_not_run
from spearshield.judging.checks.probe import share
from spearshield.judging.evaluation import EvaluationSettings, OutsideThreatError, check_victim
from spearshield.judging.examination import Examination
from spearshield.judging.finding import BROKEN, Finding
from spearshield.judging.provenance import Provenance
from spearshield.judging.score import Score, worst_case
from spearshield.judging.stored_findings import EXAMINED, StoredFindings
from spearshield.judging.trial import Trial
from spearshield.progress import Interrupted, Progress, ProgressBar
from spearshield.rng import Rng, ambient
from spearshield.storage.digest import digest
from spearshield.threat import ThreatModel
from spearshield.training.transfer_attack import SourceError
from spearshield.types import Classifier, Images, Labels


@dataclass(frozen=True, eq=False)
class TrialScore:
    """The score of one trial.

    Args:
        score: The score; for a trial on survivors, the worst case over it and the trials before it.
        provenance: The origin of the score.
        attacked: Number of images that this trial attacked.
        broke: Number of these images that it broke.
    """

    trial: Trial
    score: Score
    provenance: Provenance
    attacked: int
    broke: int


class ContradictionError(RuntimeError):
    """An attack broke an image that is proved robust."""


@dataclass(frozen=True)
class Unattacked(Attack):
    """Returns the clean images, for a victim on which no attack could run."""

    gradient_free = True
    display_name: ClassVar[str] = "unattacked"

    def perturb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:  # noqa: ARG002
        return x


class Case:
    """The state of the judgement of one victim.

    A trial that ends with an error is a finding, and the other trials go on.

    Args:
        evaluation: Evaluates the victim under a trial.
        images: Images to attack.
        progress: Opens a bar for each trial.
        examination: The checks; ``None``: none.

    Raises:
        ValueError: The scores of the victim would be meaningless: see
            :func:`~spearshield.judging.evaluation.check_victim`.
    """

    def __init__(
        self,
        evaluation: CachedEvaluation,
        images: Examples,
        progress: Progress,
        examination: Examination | None,
    ) -> None:
        self.evaluation, self.images, self.progress = evaluation, images, progress
        self.examination = examination
        self.scores: list[TrialScore] = []
        self.failures: list[Finding] = []
        self._error: Exception | None = None
        victim, device = evaluation.victim, self.settings.device
        check_victim(victim, images.shape, images.classes, device)

    @property
    def settings(self) -> EvaluationSettings:
        """Seed, draws, batch size and device."""
        return self.evaluation.settings

    def run(self, trial: Trial) -> TrialScore | None:
        """The score of a trial, which is added to the case; ``None`` if the trial failed.

        Raises:
            OutsideThreatError: The attack returned an image outside its threat model.
            SourceError: A source of a transfer attack passes no gradient.
            StoredScoreError: A stored score is corrupt.
            OSError: As on a full disk.
        """
        with warnings.catch_warnings(record=True) as caught, ambient(self.settings.seed):
            warnings.simplefilter("always", NonFiniteGradientWarning)
            try:
                scored = self._score(trial)
            except (OutsideThreatError, SourceError, StoredScoreError, Interrupted, OSError):
                raise
            except NoGradientError as error:
                self._fail(_broken_graph(trial), error)
                return None
            except Exception as error:  # noqa: BLE001 - whatever the user's network raises
                self._fail(could_not_run(title(trial), error), error)
                return None
        if any(issubclass(each.category, NonFiniteGradientWarning) for each in caught):
            self._add(_non_finite_gradient(trial))
        self.scores.append(scored)
        return scored

    def without_attack(self, threat: ThreatModel) -> TrialScore | None:
        """The score of the clean images, if no trial could run on an examined victim.

        Raises:
            ValueError: No trial could run, and the victim is not examined or fails on the clean
                images too.
        """
        error = self._error
        if self.scored(threat) or not error:
            return None
        if self.examination and (scored := self.run(Trial(Unattacked(threat)))):
            return scored
        if self.scores:
            return None
        if isinstance(error, ValueError):
            raise error
        raise ValueError(f"no attack could run on the model: {cause(error)}") from error

    def scored(self, threat: ThreatModel) -> list[tuple[Trial, Score]]:
        """The trials with this threat model and their scores, in order."""
        found = [each for each in self.scores if each.trial.attack.threat == threat]
        return [(each.trial, each.score) for each in found]

    def worst(self, threat: ThreatModel) -> Score:
        """The per-image worst case over all trials with this threat model.

        An image that an attack under another threat model broke counts as well, if its perturbation
        is inside this threat model.
        """
        worst = worst_case([score for _, score in self.scored(threat)])
        for each in self.scores:
            if each.trial.attack.threat != threat:
                worst = worst.also_broken(each.score, threat)
        return worst

    def provenance(self, threat: ThreatModel) -> Provenance:
        """The origin of the scores with this threat model."""
        made = [each for each in self.scores if each.trial.attack.threat == threat]
        return Provenance.of_all([each.provenance for each in made])

    def inspect(self, threat: ThreatModel) -> tuple[Finding, ...]:
        """The findings of the checks of the victim."""
        if not self.examination:
            return ()
        about = (self.evaluation.victim, self.images, threat, self.settings)
        examine = partial(self.examination.inspect, *about)
        return self._examined("inspect", INSPECTIONS, examine, self.images, threat)

    def strength(self, threat: ThreatModel) -> tuple[Finding, ...]:
        """The findings about the strength of the attacks; none for a broken victim."""
        worst = self.worst(threat)
        if not self.examination or worst.robust_acc < BROKEN:
            return ()
        survivors = self.images[: worst.images][worst.robust]
        about = (self.evaluation.victim, survivors, threat, self.settings, worst.images)
        examine = partial(self.examination.strength, *about)
        return self._examined("examine", STRENGTH, examine, survivors, threat, worst.images)

    def escalation(self, threat: ThreatModel, found: Sequence[Finding]) -> tuple[Trial, ...]:
        """The attacks that follow a finding of high severity; none for a broken victim."""
        worst = self.worst(threat)
        alarmed = any(finding.severity == "high" for finding in found)
        if not self.examination or not alarmed or worst.robust_acc < BROKEN:
            return ()
        try:
            return self.examination.escalation(
                self.evaluation.victim,
                self.images[: worst.images][worst.robust],
                threat,
                self.settings,
            )
        except Exception as error:  # noqa: BLE001 - whatever the user's network raises
            self._fail(could_not_run("the preparation of more attacks", error), error)
            return ()

    def proved(self, threat: ThreatModel) -> float | None:
        """The share of images that are proved robust; ``None`` without a proof for any image.

        Raises:
            ContradictionError: An attack broke an image that is proved robust.

        Warns:
            UserWarning: The certificate ended with an error.
        """
        if not self.examination:
            return None
        worst = self.worst(threat)
        images = self.images[: worst.images]
        bar = self.progress(f"certify {self.evaluation.name}", len(images))
        victim = self.evaluation.victim
        try:
            proved = self.examination.proved(victim, images, threat, self.settings)
        except (Interrupted, OSError):
            raise
        except Exception as error:  # noqa: BLE001 - the attacks took long, and their rows are right
            warnings.warn(
                f"the certificate ended with {type(error).__name__}: {error}; no image counts as "
                "proved; please report this",
                stacklevel=2,
            )
            return None
        bar(len(images), {})
        if proved is None:
            return None
        if (wrong := proved & ~worst.robust).any():
            raise ContradictionError(
                f"image {int(worst.ids[wrong][0])} is proved robust to {threat}, and an attack "
                "broke it: the certificate or the attack is wrong; please report this"
            )
        return share(proved)

    def _examined(
        self,
        part: str,
        checks: Sequence[Check],
        examine: Callable[[ProgressBar], tuple[Finding, ...]],
        images: Examples,
        *about: Any,
    ) -> tuple[Finding, ...]:
        """The findings of a part of the examination, which are stored when all its checks are done.

        Args:
            examine: Returns the findings.
            images: The images that are examined.
            about: Other values that the findings depend on.

        Raises:
            StoredScoreError: The stored findings are corrupt.
        """
        evaluation, total = self.evaluation, len(checks)
        bar = self.progress(f"{part} {evaluation.name}", total)
        key = evaluation.key(images, part, self.examination, *about)
        name = f"{evaluation.name}.{part}.{digest(str(about))[:8]}.json"
        stored = StoredFindings(evaluation.folder / EXAMINED / name, key)
        try:
            found = stored(partial(examine, bar))
        except ValueError as error:
            raise StoredScoreError(str(error)) from error
        bar(total, {})
        return found

    def _score(self, trial: Trial) -> TrialScore:
        """The score of one trial, given the earlier scores with the same threat model."""
        threat = trial.attack.threat
        earlier = [score for _, score in self.scored(threat)]
        images = self.images[: trial.images] if trial.images else self.images
        so_far: Score | None = None
        if trial.survivors and earlier:
            so_far = worst_case([score.first(len(images)) for score in earlier])
            images = images[: so_far.images][so_far.robust]
            if len(images) == 0:
                free = replace(so_far, seconds=0.0, forwards=0)
                return TrialScore(trial, free, self.provenance(threat), 0, 0)
        bar = self.progress(f"attack {self.evaluation.name}: {title(trial)}", len(images))
        score, origin = self.evaluation(trial, images, bar)
        broke = int(score.broken.sum())
        if so_far:
            score = so_far.updated(so_far.robust, score)
            origin = Provenance.of_all([self.provenance(threat), origin])
        return TrialScore(trial, score, origin, len(images), broke)

    def _fail(self, finding: Finding, error: Exception) -> None:
        self._error = self._error or error
        self._add(finding)

    def _add(self, finding: Finding) -> None:
        """Record a finding; one finding of each check, because all trials may fail alike."""
        if finding.check not in {each.check for each in self.failures}:
            self.failures.append(finding)


def _broken_graph(trial: Trial) -> Finding:
    return Finding(
        "broken_graph",
        "high",
        {"images with a gradient": 0},
        f"No gradient reaches the image, so {title(trial)} could not run.",
        "remove detach, no_grad and NumPy, or attack without gradients.",
    )


def _non_finite_gradient(trial: Trial) -> Finding:
    return Finding(
        "not_finite",
        "high",
        {"attacks with a gradient that is not finite": 1},
        f"Some gradients were NaN or infinite, first in {title(trial)}; the attack went on without "
        "these pixels.",
        "find the operation (a root of zero, a logarithm, a division) and bound its argument.",
    )
