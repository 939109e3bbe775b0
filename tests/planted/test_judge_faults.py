"""Faults in the judge and in its strong attacks: each must make a test of theirs fail."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from attacks import test_apgd as apgd_test
from attacks import test_fab as fab_test
from attacks import test_square as square_test
from judging import test_battery as battery
from judging import test_checks as checking
from judging import test_evaluation as evaluating
from spearshield.attacks import apgd
from spearshield.attacks.square import LinfWindows
from spearshield.judging import battery as batteries
from spearshield.judging import evaluation
from spearshield.judging.checks import comparison
from spearshield.losses.margin import dlr
from spearshield.threat import Linf, ThreatModel
from spearshield.training import transfer_attack
from spearshield.views import BPDA
from training import test_transfer_attack as transferring


def halved_where_it_stands(self, required_rises):
    stuck = ~self.halved & (self.loss_best == self.loss_best_before)
    self.halved = (self.rises < required_rises) | stuck
    self.step_size[self.halved] /= 2
    self.rises = torch.zeros_like(self.rises)
    self.loss_best_before = self.loss_best.clone()


def off_the_picture(self, x, gradient, rise):
    length = (rise / self.dual_norm(gradient))[:, None, None, None]
    return length * self.steepest_step(gradient)


def windows_of_the_first_image(draw):
    def shared(self, x, side, count, rng):
        return tuple(d[:1].expand_as(d) for d in draw(self, x, side, count, rng))

    return shared


def one_draw(victim, x, ids, draws, detection_score):
    return everyone(victim, x, ids, draws, detection_score)[:, :1]


everyone = evaluation.draw_predictions
FAULTS = {
    "step halved without going back to the best point": (
        (apgd.APGDState, "at_checkpoint", halved_where_it_stands),
        apgd_test.test_is_algorithm_1,
    ),
    "DLR of the wrong sign": (
        (apgd, "LOSSES", {**apgd.LOSSES, "dlr": lambda logits, y: -dlr(logits, y)}),
        apgd_test.test_dlr_and_margin_work_where_cross_entropy_is_saturated,
    ),
    "projection that leaves the picture": (
        (ThreatModel, "to_hyperplane", off_the_picture),
        lambda: fab_test.test_the_exact_distance_where_pixels_cannot_move(Linf),
    ),
    "windows shared by the batch": (
        (LinfWindows, "draw", windows_of_the_first_image(LinfWindows.draw)),
        lambda: square_test.test_a_candidate_differs_in_windows_that_depend_on_the_image(
            LinfWindows(Linf(0.1))
        ),
    ),
    "one lucky draw breaks an image": (
        (evaluation, "draw_predictions", one_draw),
        lambda: evaluating.test_a_random_victim_is_judged_by_the_majority(evaluating.grey()),
    ),
    "a broken image handed to the next source": (
        (transfer_attack, "fooled", lambda model, x, y: torch.zeros(len(y), dtype=torch.bool)),
        transferring.test_an_image_that_one_source_broke_is_not_handed_to_the_next,
    ),
    "white-box attacks counted as none": (
        (comparison.TrialOutcome, "white_box", False),
        checking.test_all_white_box_attacks_count_together,
    ),
    "stand-ins left out": (
        (BPDA, "applies_to", lambda self, purifier: self.through == "identity"),
        lambda: battery.test_what_a_purifier_declares_decides_the_views("quick"),
    ),
    "every trial on survivors": (
        (
            batteries,
            "_oblivious_pgd",
            lambda threat: replace(OBLIVIOUS_PGD(threat), survivors=True),
        ),
        lambda: battery.test_the_first_and_the_last_trial_see_every_image_and_the_others_survivors(
            "quick"
        ),
    ),
}
OBLIVIOUS_PGD = batteries._oblivious_pgd


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_makes_a_test_fail(fault, monkeypatch):
    (owner, name, faulty), check = FAULTS[fault]
    check()
    monkeypatch.setattr(owner, name, faulty)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check()
