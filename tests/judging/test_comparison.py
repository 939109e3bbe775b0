"""Findings from the comparison of scores: weaker attackers, losses and steps."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch

from fixtures.models import HalfSpace
from mutations import fails_under
from spearshield.adversary import Attack
from spearshield.attacks.fab import FAB
from spearshield.attacks.fgsm import FGSM
from spearshield.attacks.pgd import PGD
from spearshield.judging.checks import (
    compare,
    comparison,
)
from spearshield.judging.score import Score
from spearshield.judging.trial import Trial
from spearshield.threat import Linf
from spearshield.training.transfer_attack import Transfer
from spearshield.views import BPDA, EOT, Adaptive, Oblivious, Transferred


@dataclass(frozen=True)
class GradientFree(Attack):
    """An attack without gradients that changes nothing."""

    gradient_free = True

    def perturb(self, model, x, y, rng):
        return x


def score(robust: int, n: int = 1000, first: int = 0) -> Score:
    """A score over ``n`` images; ``robust`` images are robust, starting at number ``first``."""
    y = torch.zeros(n, dtype=torch.long)
    index = torch.arange(n)
    victim_adv = (~((index >= first) & (index < first + robust))).long()
    columns = dict.fromkeys(("y", "victim_clean", "bare_clean", "bare_adv"), y)
    columns |= dict.fromkeys(("l2", "linf", "normalised_l2", "ssim"), torch.full((n,), 0.1))
    columns |= {"clean_margin": torch.full((n,), -2.0), "adv_margin": torch.full((n,), -1.0)}
    columns |= dict.fromkeys(("clean_draws", "adv_draws"), y[:, None][:, :0])
    columns |= dict.fromkeys(("clean_detection", "adv_detection"), torch.empty(n, 0))
    return Score(ids=index, victim_adv=victim_adv, **columns, seconds=1.0, forwards=40 * n)


def grave(found):
    """The findings except a note that the last trial still broke images."""
    return [(f.check, f.severity) for f in found if f.check != "still_breaking"]


STRONG, BALL = PGD(Linf(0.1), restarts=2), Linf(0.1)


@pytest.mark.parametrize(
    ("attacker", "check"),
    [
        (Trial(GradientFree(BALL)), "black_box_wins"),
        (Trial(GradientFree(BALL), EOT(4)), "black_box_wins"),
        (Trial(STRONG, Oblivious()), "transfer_wins"),
        (Trial(GradientFree(BALL), Oblivious()), "transfer_wins"),
        (Trial(GradientFree(BALL), survivors=True), "black_box_wins"),
        (Trial(Transfer(BALL, (HalfSpace(),))), "transfer_wins"),
    ],
)
@pytest.mark.parametrize(
    ("robust", "first", "severity"),
    [(600, 0, None), (598, 0, None), (597, 0, "low"), (549, 0, "high"), (700, 100, "high")],
)
def test_weaker_attackers_are_compared_image_by_image(attacker, check, robust, first, severity):
    found = compare([(Trial(STRONG), score(600)), (attacker, score(robust, first=first))])
    assert grave(found) == ([(check, severity)] if severity else [])


@fails_under("white-box attacks not counted as such", (comparison.TrialOutcome, "white_box", False))
def test_all_white_box_attacks_count_together():
    white = [(Trial(STRONG), score(600)), (Trial(STRONG, BPDA()), score(500))]
    assert compare([*white, (Trial(GradientFree(BALL)), score(500))]) == ()


@fails_under(
    "transfer to itself counted as transfer",
    (comparison, "_as_white_box", lambda trial: trial),
)
def test_a_transfer_from_the_victim_to_itself_is_a_white_box_attack():
    itself = Trial(Transfer(BALL, (HalfSpace(),), STRONG, names=("victim",)), Adaptive())
    other = replace(itself, view=Transferred())
    assert grave(compare([(itself, score(600))])) == []
    assert grave(compare([(Trial(STRONG), score(600)), (itself, score(400))])) == []
    assert grave(compare([(itself, score(600)), (other, score(400))])) == [
        ("transfer_wins", "high")
    ]


def test_images_broken_before_do_not_count_for_a_trial_on_survivors():
    oblivious = (Trial(STRONG, Oblivious()), score(300))
    later = (Trial(PGD(BALL), BPDA(), survivors=True), score(250))
    found = compare([oblivious, (Trial(STRONG), score(600)), later])
    assert grave(found) == [("transfer_wins", "high")]
    (gain,) = found[-1].saw.values()
    assert gain == pytest.approx(0.3)


def test_each_threat_model_is_compared_separately_and_over_shared_images():
    found = compare(
        [
            (Trial(STRONG), score(600)),
            (Trial(GradientFree(Linf(0.15))), score(100)),
            (Trial(PGD(Linf(0.15), restarts=2)), score(100)),
            (Trial(GradientFree(BALL), images=500), score(500, n=500)),
        ]
    )
    assert found == ()


def test_without_a_white_box_attack_there_is_a_finding():
    (finding,) = compare(
        [(Trial(STRONG, Oblivious()), score(900)), (Trial(GradientFree(BALL)), score(9))]
    )
    assert (finding.check, finding.severity) == ("no_white_box", "high")


def test_losses_and_steps_are_compared_through_the_same_view():
    margin = (Trial(PGD(BALL, loss="dlr")), score(450))
    (finding,) = compare([(Trial(PGD(BALL)), score(600)), margin])
    assert (finding.check, finding.severity) == ("loss_gap", "low")
    assert compare([(Trial(PGD(BALL), BPDA()), score(600)), margin]) == ()
    one_step = (Trial(FGSM(BALL)), score(500))
    assert compare([one_step, (Trial(STRONG), score(515))]) == ()
    (finding,) = compare([one_step, (Trial(STRONG), score(530))])
    assert finding.check == "single_step_wins"


def test_a_single_score_gives_no_finding():
    assert compare([]) == ()
    assert compare([(Trial(STRONG, Adaptive()), score(3))]) == ()


@pytest.mark.parametrize(("alone", "severity"), [(20, None), (21, "low"), (101, "high")])
def test_minimum_norm_attacks_are_compared_with_attacks_inside_the_budget(alone, severity):
    found = compare(
        [(Trial(STRONG), score(700)), (Trial(FAB(BALL), survivors=True), score(700 - alone))]
    )
    assert grave(found) == ([("white_box_gap", severity)] if severity else [])


FEEBLE = {
    "few forward passes": {"forwards": 9 * 600},
    "small perturbations": {"linf": torch.full((1000,), 0.04)},
    "a loss that does not rise": {"adv_margin": torch.full((1000,), -2.0)},
}


@fails_under("feeble attacks ignored", (comparison, "feeble_attacks", lambda scored: None))
@pytest.mark.parametrize("fault", FEEBLE)
def test_an_evaluation_by_feeble_attacks_alone_is_a_finding(fault):
    feeble = (Trial(STRONG), replace(score(600), **FEEBLE[fault]))
    assert grave(compare([feeble])) == [("feeble_attack", "high")]
    assert compare([feeble, (Trial(PGD(BALL), BPDA()), score(600))]) == ()
    assert compare([(Trial(STRONG), replace(score(0), **FEEBLE[fault]))]) == ()


def test_steps_that_cannot_reach_the_budget_are_a_finding():
    short = PGD(BALL, steps=40, step_size=0.002, restarts=2)
    (finding,) = compare([(Trial(short), score(600))])
    assert finding.saw == {"sum of all steps, as a share of the budget": pytest.approx(0.8)}
    (finding,) = compare([(Trial(PGD(BALL)), score(600))])
    assert (finding.check, finding.severity) == ("feeble_attack", "low")


@pytest.mark.parametrize(("last", "severity"), [(10, None), (11, "low")])
def test_a_battery_that_ends_while_it_breaks_images_says_so(last, severity):
    found = compare(
        [
            (Trial(STRONG), score(700)),
            (Trial(PGD(BALL, loss="margin"), survivors=True), score(700 - last)),
        ]
    )
    assert [f.severity for f in found if f.check == "still_breaking"] == (
        [severity] if severity else []
    )
