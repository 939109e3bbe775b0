"""A case: failing trials, images broken in a smaller budget, own shares of trials, escalation."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from fixtures.models import Apply, HalfSpace
from judging.test_judge import ABOUT, examples
from mutations import fails_under
from spearshield.adversary import Attack
from spearshield.attacks.fgsm import FGSM
from spearshield.attacks.pgd import PGD
from spearshield.attacks.square import Square
from spearshield.gradients import NonFiniteGradientWarning
from spearshield.judging import examination
from spearshield.judging.cached_evaluation import StoredScoreError
from spearshield.judging.checks import INSPECTIONS, STRENGTH
from spearshield.judging.evaluation import EvaluationSettings, OutsideThreatError
from spearshield.judging.examination import Examination
from spearshield.judging.finding import Finding
from spearshield.judging.judge import Judge
from spearshield.judging.results import WORST_CASE
from spearshield.judging.score import Score
from spearshield.judging.trial import Trial
from spearshield.method import Outcome
from spearshield.progress import Interrupted
from spearshield.threat import L2, Linf
from spearshield.training.transfer_attack import SourceError, Transfer
from spearshield.views import Transferred

SMALL, LARGE = Linf(0.01), Linf(0.03)


def rows(folder, classifier, *trials, examine=None):
    settings = EvaluationSettings()
    judge = Judge(trials, examples(), folder, settings, ABOUT, {}, examination=examine)
    return list(judge.rows("victim", Outcome(classifier.eval())))


def worst(made, eps, norm="Linf"):
    (row,) = [r for r in made if (r.attack, r.threat, r.eps) == (WORST_CASE, norm, eps)]
    return row


@dataclass(frozen=True)
class Nothing(Attack):
    """Returns the clean images."""

    def perturb(self, model, x, y, rng):
        return x


@fails_under(
    "images broken in a smaller budget do not count",
    (Score, "also_broken", lambda self, other, threat: self),
)
def test_an_attack_in_a_smaller_budget_counts_for_larger_ones(tmp_path):
    strong = Trial(PGD(SMALL, steps=10))
    made = rows(tmp_path, HalfSpace(), strong, Trial(Nothing(LARGE)), Trial(Nothing(L2(0.05))))
    small = worst(made, SMALL.eps)
    assert small.robust_acc < small.acc
    assert worst(made, LARGE.eps).robust_acc == small.robust_acc
    # A perturbation of 0.01 in each of 16 pixels has an L2 norm of 0.04.
    assert worst(made, 0.05, "L2").robust_acc == small.robust_acc


def test_an_attack_in_a_larger_budget_does_not_count_for_smaller_ones(tmp_path):
    made = rows(tmp_path, HalfSpace(), Trial(Nothing(SMALL)), Trial(FGSM(LARGE)))
    assert worst(made, SMALL.eps).robust_acc == 1.0 > worst(made, LARGE.eps).robust_acc


def test_rows_say_how_many_images_each_attack_broke_by_itself(tmp_path):
    first, second, summary = rows(
        tmp_path, HalfSpace(), Trial(FGSM(SMALL)), Trial(FGSM(SMALL), survivors=True)
    )
    assert first.attacked == 24 and first.broke == round(24 * (1 - first.robust_acc)) > 0
    assert (second.attacked, second.broke) == (24 - first.broke, 0)
    assert second.robust_acc == first.robust_acc
    assert summary.attacked is None and summary.broke is None


class Fragile(nn.Module):
    """A half-space that fails on images whose pixels are not on 8-bit levels."""

    def __init__(self) -> None:
        super().__init__()
        self.plane = HalfSpace()

    def forward(self, x):
        if x.requires_grad:
            raise RuntimeError("my layer has no backward pass")
        return self.plane(x)


def test_a_trial_that_fails_is_a_finding_and_the_others_go_on(tmp_path):
    made = rows(tmp_path, Fragile(), Trial(PGD(SMALL)), Trial(Square(SMALL, queries=20)))
    assert [row.attack for row in made] == ["square", WORST_CASE]
    (finding,) = [f for f in made[-1].findings if f["check"] == "could_not_run"]
    assert finding["severity"] == "high"
    assert "my layer has no backward pass" in finding["means"] and "pgd" in finding["means"]


def test_an_evaluation_without_any_score_is_an_error(tmp_path):
    with pytest.raises(
        ValueError,
        match="Fragile fails on images of .*: my layer has no backward pass .*test_case.py",
    ):
        rows(tmp_path, Fragile(), Trial(PGD(SMALL)))


def test_a_battery_without_any_score_is_a_finding(tmp_path):
    made = rows(tmp_path, Fragile(), Trial(PGD(SMALL)), examine=Examination(effort="quick"))
    assert made[0].attack == "unattacked" and made[0].robust_acc == made[0].acc
    found = {f["check"]: f["severity"] for f in made[-1].findings}
    assert found["could_not_run"] == found["no_white_box"] == "high"


def test_a_source_without_a_gradient_is_no_finding_about_the_victim(tmp_path):
    cut = Apply(lambda x: HalfSpace()(x).detach())
    with pytest.raises(SourceError, match="a source of transferred attacks, passes no gradient"):
        rows(tmp_path, HalfSpace(), Trial(Transfer(SMALL, (cut,)), Transferred()))


def test_finished_checks_are_reused_for_the_same_victim_and_survivors(tmp_path, monkeypatch):
    """An audit that stops between two parts of the examination repeats the second alone."""
    examine, ran = Examination(effort="quick"), []

    def counted(probe, checks, bar):
        ran.append(checks)
        return (Finding(f"of_{len(checks)}", "low", {"share": 0.1}, "Means.", "next."),)

    monkeypatch.setattr(examination, "run_checks", counted)
    monkeypatch.setattr(examination, "escalation", lambda *_: ())
    first = rows(tmp_path, HalfSpace(), Trial(FGSM(SMALL)), examine=examine)
    assert len(first[-1].findings) >= 2
    assert ran == [INSPECTIONS, STRENGTH]
    again = rows(tmp_path, HalfSpace(), Trial(FGSM(SMALL)), examine=examine)
    assert ran == [INSPECTIONS, STRENGTH] and again[-1].findings == first[-1].findings
    next((tmp_path / "examined").glob("victim.examine.*")).unlink()
    rows(tmp_path, HalfSpace(), Trial(FGSM(SMALL)), examine=examine)
    assert ran[2:] == [STRENGTH]
    rows(tmp_path, Apply(HalfSpace()), Trial(FGSM(SMALL)), examine=examine)
    assert ran[3:] == [INSPECTIONS, STRENGTH]
    path = next((tmp_path / "examined").glob("victim.inspect.*"))
    path.write_text("{")
    with pytest.raises(StoredScoreError, match="inspect"):
        rows(tmp_path, HalfSpace(), Trial(FGSM(SMALL)), examine=examine)


def test_an_attack_outside_its_threat_model_ends_the_evaluation(tmp_path):
    @dataclass(frozen=True)
    class Leaves(Attack):
        def perturb(self, model, x, y, rng):
            return 1 - x

    with pytest.raises(OutsideThreatError, match="left Linf"):
        rows(tmp_path, HalfSpace(), Trial(Nothing(SMALL)), Trial(Leaves(SMALL)))


def test_a_gradient_that_is_not_finite_is_a_finding(tmp_path):
    @dataclass(frozen=True)
    class Warns(Nothing):
        def perturb(self, model, x, y, rng):
            warnings.warn("not finite", NonFiniteGradientWarning, stacklevel=1)
            return x

    made = rows(tmp_path, HalfSpace(), Trial(Warns(SMALL)))
    assert "not_finite" in {f["check"] for f in made[-1].findings}


def test_an_output_that_is_not_finite_is_a_finding_and_broken(tmp_path):
    half = HalfSpace()

    def outputs(x):
        off_level = ((255 * x - (255 * x).round()).abs() > 0.01).flatten(1).any(1)
        return torch.where(off_level[:, None], torch.nan, half(x))

    made = rows(tmp_path, Apply(outputs), Trial(FGSM(Linf(0.0015))))
    assert made[-1].acc == 1.0 and made[-1].robust_acc == 0.0
    assert "not_finite" in {f["check"] for f in made[-1].findings}


class Masked(nn.Module):
    """A half-space that rounds its input to 64 grey levels, so that its gradient is zero."""

    def __init__(self) -> None:
        super().__init__()
        self.plane = HalfSpace()

    def forward(self, x):
        return self.plane((x * 63).round() / 63)


def test_a_finding_of_high_severity_is_followed_by_more_attacks(tmp_path, monkeypatch):
    calls = []

    def escalation(threat, victim, images, classes, effort, seed):
        calls.append((len(images), classes, effort))
        return (Trial(Square(threat, queries=200), survivors=True),)

    monkeypatch.setattr(examination, "escalation", escalation)
    made = rows(tmp_path, Masked(), Trial(PGD(LARGE)), examine=Examination(effort="quick"))
    assert calls == [(24, 2, "quick")]
    assert [row.attack for row in made] == ["pgd", "square", WORST_CASE]
    checks = {f["check"]: f["severity"] for f in made[-1].findings}
    assert checks["zero_gradient"] == "high" and checks["escalated"] == "note"
    assert made[-1].robust_acc == made[1].robust_acc < made[0].robust_acc


def test_a_sound_victim_gets_no_further_attacks(tmp_path, monkeypatch):
    monkeypatch.setattr(examination, "escalation", None)
    made = rows(tmp_path, HalfSpace(), Trial(PGD(SMALL, restarts=2)), examine=Examination())
    assert [row.attack for row in made] == ["pgd", WORST_CASE]
    assert made[-1].robust_acc > 0.05 and made[-1].findings == []
    assert made[-1].verdict == "not examined"  # 24 images are too few


def test_a_broken_victim_needs_no_checks_of_strength(tmp_path, monkeypatch):
    monkeypatch.setattr(examination, "STRENGTH", None)
    made = rows(tmp_path, HalfSpace(), Trial(PGD(Linf(0.3))), examine=Examination())
    assert made[-1].robust_acc == 0.0


def test_a_certificate_can_be_interrupted(tmp_path, monkeypatch):
    def stopped(*arguments):
        raise Interrupted("stopped")

    monkeypatch.setattr(examination, "certify", stopped)
    with pytest.raises(Interrupted):
        rows(tmp_path, HalfSpace(), Trial(PGD(SMALL, steps=2)), examine=Examination())


def test_a_certificate_that_fails_costs_no_rows(tmp_path, monkeypatch):
    def broken(*arguments):
        raise RuntimeError("no such bound")

    monkeypatch.setattr(examination, "certify", broken)
    with pytest.warns(UserWarning, match="RuntimeError: no such bound; no image counts as proved"):
        made = rows(tmp_path, HalfSpace(), Trial(PGD(SMALL, steps=2)), examine=Examination())
    assert worst(made, SMALL.eps).proved is None
