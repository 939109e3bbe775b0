"""UAP: closed form on a half-space, and the images that contribute to the mean."""

from __future__ import annotations

import pytest
import torch

from fixtures.models import HalfSpace
from spearshield.adversary import misclassified
from spearshield.datasets.digits import Digits
from spearshield.method import Task
from spearshield.methods.uap import UAP
from spearshield.rng import Rng
from spearshield.threat import L2, Linf
from spearshield.training.learned_attack import LearnedAttack


def learner(model=None, **settings):
    model = (model or HalfSpace()).eval()
    return UAP(**settings).learner(Task(model, model, (1, 4, 4), 2))


def train(made, x, y, steps=1):
    for _ in range(steps):
        losses = made.step(x, y, rng=Rng.of_batch(0, len(x)))
    return losses


GREY = torch.full((3, 1, 4, 4), 0.5)
ONES = torch.ones(3, dtype=torch.long)


@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.4)], ids=str)
def test_on_a_half_space_it_is_the_steepest_descent_of_the_margin(threat):
    made, w = learner(threat=threat), HalfSpace().w.detach()[None]
    train(made, GREY, ONES, 9)
    delta = made.perturbation.delta.detach()
    torch.testing.assert_close(delta, -0.9 * threat.eps * threat.steepest_step(w))
    train(made, GREY, ONES, 9)  # further steps stay in the threat model
    torch.testing.assert_close(delta, -threat.eps * threat.steepest_step(w))


def test_the_length_of_a_step():
    made = learner(threat=Linf(0.1), step_size=0.03)
    train(made, GREY, ONES)
    size = made.perturbation.delta.detach().abs()
    torch.testing.assert_close(size, torch.full_like(size, 0.03))


@pytest.mark.parametrize(("beta", "sign"), [(1.0, -1), (100.0, 1)])
def test_images_above_beta_do_not_contribute(beta, sign):
    # Three misclassified images outweigh the fourth, unless their loss is clipped.
    model = HalfSpace()
    misclassified = GREY + 0.3 * model.w.detach()
    x, y = torch.cat([misclassified, GREY[:1]]).clamp(0, 1), torch.tensor([0, 0, 0, 1])
    made = learner(model, threat=Linf(0.1), beta=beta)
    losses = train(made, x, y)
    assert torch.equal(made.perturbation.delta.sign()[0], sign * model.w.sign())
    assert (losses["cross_entropy"] < 1) == (beta == 1)


def test_clipped_pixels_contribute_to_the_gradient():
    made = learner(threat=Linf(0.1))
    made.perturbation.delta.data.fill_(-0.05)
    train(made, torch.zeros(3, 1, 4, 4), torch.zeros(3, dtype=torch.long))
    moved = made.perturbation.delta.detach()[0] + 0.05
    torch.testing.assert_close(moved, 0.01 * HalfSpace().w.detach().sign())


def test_new_images_are_misclassified_more_often_than_with_noise():
    """On handwritten digits, with the nearest-mean classifier."""
    seen, new = Digits().load("train"), Digits().load("test")
    x, y, truth = seen.images(), seen.y, new.y
    means = torch.stack([x[y == k].flatten(1).mean(0) for k in range(10)])
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)).eval()
    model[1].weight.data, model[1].bias.data = 4 * means, -2 * means.square().sum(1)
    made = UAP(threat=Linf(0.3)).learner(Task(model, model, (1, 8, 8), 10))
    for start in range(0, 1200, 60):
        train(made, x[start : start + 60], y[start : start + 60])

    def share(x_adv):
        return float(misclassified(model, x_adv, truth).float().mean())

    x = new.images()
    signs = [2 * Rng.of_batch(k, 1).integers((1, 8, 8), 2) - 1 for k in range(5)]
    by_noise = max(share((x + 0.3 * sign).clamp(0, 1)) for sign in signs)
    assert share(made.outcome().attack(model, x, truth)) > by_noise + 0.15


def test_the_outcome_is_the_unchanged_classifier_and_an_attack():
    model = HalfSpace().eval()
    made = learner(model, threat=Linf(0.1))
    train(made, GREY, ONES, 2)
    outcome = made.outcome()
    assert outcome.classifier is model and isinstance(outcome.purifier, torch.nn.Identity)
    assert isinstance(outcome.attack, LearnedAttack) and outcome.attack.threat == Linf(0.1)
    x = torch.linspace(0, 1, 48).reshape(3, 1, 4, 4)
    expected = (x + made.perturbation.delta.detach()).clamp(0, 1)
    torch.testing.assert_close(outcome.attack(model, x, ONES), expected)


def test_training_images_are_counted():
    made = learner()
    assert train(made, GREY, ONES, 4)["images"] == 12
    resumed = learner()
    resumed.load_state_dict(made.state_dict())
    assert resumed.outcome().attack.network.seen == 12


@pytest.mark.parametrize("setting", [{"step_size": 0.0}, {"beta": -1.0}], ids=str)
def test_settings_out_of_range_raise(setting):
    with pytest.raises(ValueError, match=f"got {next(iter(setting.values()))}"):
        UAP(**setting)
