"""Rates and worst cases counted by hand, and intervals against a published table."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mutations import fails_under
from spearshield.judging.interval import wilson
from spearshield.judging.score import Score, worst_case


def score(y, victim_clean, victim_adv, bare_clean, bare_adv) -> Score:
    n = len(y)
    columns = (y, victim_clean, victim_adv, bare_clean, bare_adv)
    labels = [torch.tensor(column) for column in columns]
    floats = [*[torch.zeros(n)] * 3, torch.ones(n), torch.zeros(n), torch.zeros(n)]
    none = [torch.empty(n, 0, dtype=kind) for kind in (*[torch.long] * 2, *[torch.float] * 2)]
    return Score(torch.arange(n), *labels, *floats, *none, seconds=1.0, forwards=n)


@fails_under(
    "images that were misclassified before the attack count as robust",
    (Score, "robust", property(lambda self: self.victim_adv == self.y)),
)
def test_every_rate_counted_by_hand():
    #                 robust  broken  restored  wrong before  both misclassified
    s = score(
        y=[0, 0, 0, 0, 0],
        victim_clean=[0, 0, 0, 1, 0],
        victim_adv=[0, 1, 0, 0, 1],
        bare_clean=[0, 0, 0, 1, 0],
        bare_adv=[0, 0, 1, 1, 1],
    )
    assert s.acc == 4 / 5
    assert s.robust_acc == 2 / 5  # correct before and after: the first and the third
    assert s.asr == 2 / 4  # the bare classifier is correct on four, and misclassifies two of them
    assert s.dsr == 1 / 2  # the victim classifies one of those two correctly


def test_a_rate_without_a_denominator_is_none():
    never_right = score([0], [1], [1], [1], [1])
    assert never_right.asr is None and never_right.dsr is None
    never_fooled = score([0], [0], [0], [0], [0])
    assert never_fooled.asr == 0 and never_fooled.dsr is None


def test_the_worst_case_is_taken_image_by_image():
    first = score([0, 0, 0], [0, 0, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0])
    second = score([0, 0, 0], [0, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 0])
    assert first.robust_acc == second.robust_acc == 2 / 3
    worst = worst_case([first, second])
    assert worst.robust_acc == 1 / 3
    assert worst.robust.tolist() == [False, False, True]


def test_a_worst_case_over_other_images_is_refused():
    first = score([0, 0], *[[0, 0]] * 4)
    with pytest.raises(ValueError, match="the same images"):
        worst_case([first, replace(first, ids=torch.tensor([0, 2]))])
    with pytest.raises(ValueError, match="at least one score"):
        worst_case([])


def test_a_worst_case_is_over_the_images_that_all_scores_share():
    long = score([0, 0, 0, 0], [0] * 4, [1, 0, 0, 1], [0] * 4, [0] * 4)
    short = score([0, 0], [0, 0], [0, 1], [0, 0], [0, 0])
    worst = worst_case([long, short])
    assert worst.ids.tolist() == [0, 1] and worst.robust.tolist() == [False, False]
    assert (worst.seconds, worst.forwards) == (1.5, 4)


def test_the_first_images_have_their_share_of_the_cost():
    whole = score([0, 0, 0, 0], [0, 0, 0, 0], [0, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0])
    half = whole.first(2)
    assert half.ids.tolist() == [0, 1] and half.robust_acc == 1 / 2
    assert (half.seconds, half.forwards) == (0.5, 2)
    assert whole.first(9).images == whole.images and whole.first(9).seconds == 1.0


def test_an_update_replaces_the_images_of_the_part():
    whole = score([0, 0, 0], [0, 0, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0])
    part = replace(score([0, 0], [0, 0], [0, 1], [0, 0], [0, 0]), ids=torch.tensor([1, 2]))
    after = whole.updated(whole.robust, part)
    assert after.robust.tolist() == [False, True, False]
    assert after.ids.tolist() == [0, 1, 2] and after.forwards == part.forwards
    assert whole.robust.tolist() == [False, True, True]  # unchanged


def test_the_statistics_of_a_random_victim_counted_by_hand():
    plain = score([0, 0], [0, 0], [0, 1], [0, 0], [0, 0])
    assert plain.repeated is None
    repeated = replace(
        plain,
        clean_draws=torch.tensor([[0, 0, 0], [0, 0, 1]]),
        adv_draws=torch.tensor([[1, 0, 0], [0, 1, 1]]),
    ).repeated
    assert repeated == {
        "one_shot": (5 / 6, 3 / 6),
        "worst_of": (1 / 2, 0.0),
        "vote": (1.0, 1 / 2),
        "fixed_seed": (1.0, 1 / 2),
    }


def test_the_area_under_the_roc_curve_counted_by_hand():
    plain = score([0, 0], [0, 0], [0, 1], [0, 0], [0, 0])
    assert plain.auc is None
    detected = replace(
        plain,
        clean_detection=torch.tensor([[0.1], [0.4]]),
        adv_detection=torch.tensor([[0.4], [0.3]]),
    )
    # Of four pairs, the attacked image has the higher score in two, and a tie in one.
    assert detected.auc == (2 + 0.5) / 4


def test_the_wilson_interval_against_published_values():
    """Newcombe, "Two-sided confidence intervals for the single proportion", 1998, table I."""
    for hits, trials, low, high in [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ]:
        interval = wilson(hits, trials)
        assert interval.low == pytest.approx(low, abs=5e-5)
        assert interval.high == pytest.approx(high, abs=5e-5)
    assert wilson(0, 0).low == 0 and wilson(0, 0).high == 1


@pytest.mark.parametrize("trials", [1, 7, 50, 100, 1000, 10_000])
def test_the_wilson_interval_is_exact_at_both_ends(trials):
    assert wilson(0, trials).low == 0
    assert wilson(trials, trials).high == 1
