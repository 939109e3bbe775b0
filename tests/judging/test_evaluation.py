"""Evaluation: costs, refused victims and attacks, and results that depend on the image alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from fixtures.models import Apply, HalfSpace, Noise
from laws.test_threat import contains_nan
from mutations import fails_under
from spearshield import views
from spearshield.adversary import Attack
from spearshield.attacks.pgd import PGD
from spearshield.dataset import Examples
from spearshield.judging import evaluation
from spearshield.judging.answers import CleanAnswers
from spearshield.judging.evaluation import (
    EvaluationSettings,
    check_victim,
    evaluate,
    score_attacked,
)
from spearshield.judging.score import NO_CLASS
from spearshield.method import Defended
from spearshield.rng import Rng
from spearshield.threat import Linf, ThreatModel


def bare(model: nn.Module | None = None) -> Defended:
    return Defended(nn.Identity(), model or HalfSpace()).eval()


@pytest.fixture
def examples() -> Examples:
    """Grey images on both sides of the half-space; every fourth label is wrong."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(110, 160, (24, 1, 4, 4), generator=generator).to(torch.uint8)
    right = HalfSpace()(pixels.float() / 255).argmax(1)
    y = torch.where(torch.arange(24) % 4 == 3, 1 - right, right)
    return Examples.of(pixels, y, ("below", "above"))


def test_scores_of_parts_add_up_to_the_score_of_the_whole(examples):
    attack = PGD(Linf(0.05), steps=5)
    whole = evaluate(bare(), attack, examples)
    parts = evaluate(bare(), attack, examples[:10]) + evaluate(bare(), attack, examples[10:])
    assert torch.equal(parts.victim_adv, whole.victim_adv) and parts.images == whole.images
    torch.testing.assert_close(parts.l2, whole.l2)
    assert parts.forwards == whole.forwards


class RngOfPositions:
    """Randomness of the positions in a batch, in place of the ids of the images."""

    of_batch = Rng.of_batch

    def __new__(cls, seed, ids):
        return Rng.of_batch(seed, len(ids))


@fails_under(
    "randomness of the position in the batch", (evaluation, "Rng", RngOfPositions), batch_size=7
)
@pytest.mark.parametrize("batch_size", [1, 7, 24])
def test_results_do_not_depend_on_batch_size_or_order(examples, batch_size):
    attack = PGD(Linf(0.05), steps=3)
    whole = evaluate(bare(), attack, examples, settings=EvaluationSettings(4, batch_size=24))
    order = torch.randperm(24, generator=torch.Generator().manual_seed(1))
    shuffled = evaluate(
        bare(), attack, examples[order], settings=EvaluationSettings(4, batch_size=batch_size)
    )
    assert torch.equal(shuffled.victim_adv, whole.victim_adv[order])
    torch.testing.assert_close(shuffled.l2, whole.l2[order])


def test_the_cost_counts_every_image_sent_through_the_classifier(examples):
    attack = PGD(Linf(0.01), steps=3, early_stop=False)
    assert evaluate(bare(), attack, examples).forwards == 3 * len(examples)
    early = replace(attack, early_stop=True)  # which also tests the clean images
    assert evaluate(bare(), early, examples).forwards < (1 + 3) * len(examples)


@dataclass(frozen=True)
class Fixed(Attack):
    """Adds a constant to every pixel, and sets one pixel to a value."""

    shift: float = 0.0
    value: float | None = None

    def perturb(self, model, x, y, rng):
        x_adv = x + self.shift
        if self.value is not None:
            x_adv[0, 0, 0, 0] = self.value
        return x_adv


@fails_under(
    "range check that NaN passes",
    (ThreatModel, "contains", contains_nan),
    attack=Fixed(Linf(0.1), value=float("nan")),
    message="1 of them NaN",
)
@pytest.mark.parametrize(
    ("attack", "message"),
    [
        (Fixed(Linf(0.1), shift=0.2), "distance 0.2"),
        (Fixed(Linf(0.1), value=float("nan")), "1 of them NaN"),
        (Fixed(Linf(1.0), value=1.5), "to 1.5"),
        (Fixed(Linf(1.0), value=-0.1), "from -0.1"),
    ],
)
def test_an_attack_that_leaves_its_threat_model_is_an_error(examples, attack, message):
    with pytest.raises(ValueError, match=rf"left Linf .* on image 5.*{message}"):
        evaluate(bare(), attack, examples[5:9])


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (lambda x: HalfSpace()(x).softmax(1), "returns probabilities"),
        (lambda x: torch.zeros(len(x), 3), r"of shape \(images, 2\).*returned \(8, 3\)"),
        (lambda x: torch.zeros(len(x)), "one output for each class"),
        (
            lambda x: HalfSpace()(x[:, :, :3]),
            r"Apply fails on images of shape \(8, 1, 4, 4\).*models.py:75",
        ),
    ],
)
def test_a_classifier_that_cannot_be_judged_is_refused(examples, outputs, message):
    with pytest.raises(ValueError, match=message):
        evaluate(bare(Apply(outputs)), PGD(Linf(0.1)), examples)


@fails_under(
    "an argmax over NaN is a class", (torch.Tensor, "isfinite", lambda self: ~self.isnan())
)
def test_an_output_that_is_not_finite_is_no_class(examples):
    def outputs(x):
        dark = x.flatten(1).mean(1) < 0.53
        return torch.where(dark[:, None], torch.inf, HalfSpace()(x))

    x = examples.images()
    dark = x.flatten(1).mean(1) < 0.53
    score = score_attacked(
        CleanAnswers(bare(Apply(outputs)), draws=1), x, x, examples.y, examples.ids
    )
    assert 0 < dark.sum() < len(x)
    assert torch.equal(score.victim_adv == NO_CLASS, dark)
    assert not score.robust[dark].any() and score.not_finite == (int(dark.sum()),) * 2


def test_training_mode_is_refused():
    victim = Defended(nn.Identity(), nn.Sequential(nn.Dropout(), HalfSpace()))
    with pytest.raises(ValueError, match=r"in training mode; call \.eval\(\)"):
        check_victim(victim, (1, 4, 4), 2)


def test_a_purifier_out_of_range_is_refused():
    victim = Defended(Apply(lambda x: 2 * x), HalfSpace()).eval()
    with pytest.raises(ValueError, match="the purifier's output is not an image"):
        check_victim(victim, (1, 4, 4), 2)


class Staircase(nn.Module):
    """A purifier that rounds to eight grey levels; its gradient is zero."""

    def forward(self, x):
        return (x * 7).round() / 7


def test_a_masked_gradient_is_not_robustness(examples):
    victim, attack = Defended(Staircase(), HalfSpace()).eval(), PGD(Linf(0.25), random_start=False)
    masked = evaluate(victim, attack, examples, views.Adaptive())
    exposed = evaluate(victim, attack, examples, views.BPDA())
    assert masked.robust_acc == masked.acc > 0.5
    assert exposed.robust_acc == 0


def test_the_predictions_of_a_random_victim_do_not_depend_on_the_batch(examples):
    victim, attack = Defended(Noise(0.02), HalfSpace()).eval(), PGD(Linf(0.02), steps=3)
    whole = evaluate(victim, attack, examples, views.EOT(4), EvaluationSettings(batch_size=24))
    single = evaluate(victim, attack, examples, views.EOT(4), EvaluationSettings(batch_size=1))
    assert torch.equal(whole.victim_adv, single.victim_adv)
    assert whole.forwards % 4 == 0  # a gradient costs four forward passes


NOISY = Defended(Noise(0.15), HalfSpace()).eval()
"""A victim of whose predictions most are correct, but not all."""


def first_draw(draws, dim):
    """In place of ``Tensor.mode``: the first value, not the most frequent one."""
    return SimpleNamespace(values=draws.select(dim, 0))


@fails_under("judged by one draw", (torch.Tensor, "mode", first_draw))
def test_a_random_victim_is_judged_by_the_majority(examples):
    score = evaluate(NOISY, PGD(Linf(1e-6), steps=1), examples)
    right = score.adv_draws == score.y[:, None]
    assert score.adv_draws.shape == (24, 10)
    assert torch.equal(score.victim_adv == score.y, right.sum(1) > 5 - (score.y == 0) * 0.5)
    assert ((right.sum(1) > 5) & ~right.all(1)).any()  # some draws are wrong, the majority is not
    whole = evaluate(bare(), PGD(Linf(1e-6), steps=1), examples)
    assert whole.adv_draws.shape == (24, 0) and whole.repeated is None


def test_fewer_draws_are_the_first_of_more(examples):
    attack = PGD(Linf(1e-6), steps=1)
    ten, one = (
        evaluate(NOISY, attack, examples, settings=EvaluationSettings(draws=k)) for k in (10, 1)
    )
    assert torch.equal(one.adv_draws, ten.adv_draws[:, :1])
    assert torch.equal(one.victim_adv, one.adv_draws[:, 0])
