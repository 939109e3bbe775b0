"""Faults in what is made of detectors, and of the search after the gradient: a test must fail."""

from __future__ import annotations

import pytest
import torch

from attacks import test_guided_search as guided_test
from attacks import test_orthogonal_pgd as hiding_test
from judging import test_detection as detecting
from spearshield.attacks import guided_search, orthogonal_pgd
from spearshield.attacks.square import Square
from spearshield.judging import evaluation, score
from spearshield.judging.checks import comparison
from spearshield.views import DetectorAware

SEARCH = Square.search


def from_the_clean_image(self, model, x, y, rng, start):
    return SEARCH(self, model, x, y, rng, x)


def everything_accepted(model, x):
    return x.new_full((len(x),), -1.0)


FAULTS = {
    "a rejected image counts as broken": (
        (score, "_right_or_rejected", lambda answers, y: answers == y),
        detecting.test_rates_with_rejections_counted_by_hand,
    ),
    "the victim's suspicion is not asked for": (
        (evaluation, "detection_score", lambda victim, x: torch.empty(len(x), 0)),
        lambda: detecting.test_rejecting_is_an_error_on_clean_images_and_right_on_attacked_ones(
            detecting.bright(), detecting.Fence
        ),
    ),
    "the attacker who hides does not look": (
        (orthogonal_pgd, "_detection_score", everything_accepted),
        hiding_test.test_finds_the_gap_that_pgd_does_not,
    ),
    "both gradients taken whole": (
        (orthogonal_pgd, "_orthogonal", lambda gradient, other: gradient),
        hiding_test.test_an_orthogonal_step_does_not_change_the_detection_score,
    ),
    "every victim met by the attacker who hides": (
        (DetectorAware, "applies_to", lambda self, purifier: True),
        lambda: detecting.test_only_a_victim_that_detects_meets_an_attacker_who_hides("quick"),
    ),
    "detectors nobody minds are no finding": (
        (comparison, "detector_ignored", lambda results: None),
        lambda: detecting.test_a_detector_that_no_attacker_minds_is_a_finding(detecting.bright()),
    ),
    "the search starts over": (
        (guided_search.Square, "search", from_the_clean_image),
        guided_test.test_breaks_images_that_neither_part_breaks_alone,
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_makes_a_test_fail(fault, monkeypatch):
    (owner, name, faulty), check = FAULTS[fault]
    check()
    monkeypatch.setattr(owner, name, faulty)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check()
