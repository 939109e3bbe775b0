"""AdvGAN: losses on numbers worked by hand, the threat model, and the conditioned generator."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fixtures.models import Affine, HalfSpace
from methods.test_ape_gan import Constant
from methods.test_substitute import Oracle, Plane
from mutations import fails_under
from spearshield.method import Task, frozen
from spearshield.methods import adv_gan
from spearshield.methods.adv_gan import AdvGAN, misclassification_loss, size_loss, success_rate
from spearshield.rng import Rng, ambient
from spearshield.threat import L2, Linf
from spearshield.training.black_box import BlackBox
from spearshield.training.learned_attack import LearnedAttack

X = torch.full((3, 1, 4, 4), 0.5)
Y = torch.tensor([0, 1, 0])
LOGITS = torch.tensor([[3.0, 1.0, 0.0], [0.0, 2.0, 6.0]])


class Added(torch.nn.Module):
    """The image and a number."""

    def __init__(self, value) -> None:
        super().__init__()
        self.value = torch.nn.Parameter(torch.tensor(value))

    def forward(self, x):
        return x + self.value


def learner(model=None, classes=2, **settings):
    model = (model or HalfSpace()).eval()
    shape = (1, 4, 4)
    with ambient(0):
        return AdvGAN(width=2, **settings).learner(Task(model, model, shape, classes))


def by_hand(**settings):
    """G adds 0.1 to every pixel and D always returns 0.25; the optimiser of D does nothing."""
    made = learner(**{"lr": 1.0, "kappa": 0.0, **settings})
    made.G, made.D = Added(0.1), Constant(0.25, (1,))
    made.opt_g, made.opt_d = torch.optim.SGD(made.G.parameters(), 1.0), idle()
    return made


def idle():
    """An optimiser that changes nothing."""
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.0)


def step(made, x=X, y=None, number=0):
    y = Y.repeat(len(x) // 3) if y is None else y
    return made.step(x, y, rng=Rng.of_batch(number, len(x)))


def images(n, seed=0):
    return Rng.of_batch(seed, n).uniform((1, 4, 4))


@pytest.mark.parametrize(
    ("target", "kappa", "expected"),
    [
        (None, 0.0, 2.0 / 2),  # the margins are 3 - 1 and 2 - 6
        (None, 3.0, (2.0 - 3.0) / 2),
        (None, 9.0, (2.0 - 4.0) / 2),
        (1, 0.0, (2.0 + 4.0) / 2),
        (2, 0.0, 3.0 / 2),
        (2, 1.0, (3.0 - 1.0) / 2),
    ],
)
def test_the_misclassification_loss_by_hand(target, kappa, expected):
    loss = misclassification_loss(LOGITS, torch.tensor([0, 1]), target, kappa)
    assert float(loss) == pytest.approx(expected)


def test_the_size_loss_starts_at_the_hinge_and_has_a_zero_gradient_at_zero():
    assert float(size_loss(X + 0.1, X, 0.0)) == pytest.approx(0.4)
    assert float(size_loss(X + 0.1, X, 0.3)) == pytest.approx(0.1)
    assert float(size_loss(X + 0.1, X, 0.5)) == 0
    x_adv = X.clone().requires_grad_()
    size_loss(x_adv, X, 0.0).backward()
    assert torch.equal(x_adv.grad, torch.zeros_like(X))


def test_the_success_rate_of_a_target_excludes_images_of_its_class():
    y = torch.tensor([0, 1])
    assert success_rate(LOGITS, y, None) == 0.5
    assert success_rate(LOGITS, y, 0) == 0 and success_rate(LOGITS, y, 2) == 0.5
    assert success_rate(LOGITS, torch.tensor([2, 2]), 2) == 0


def negated(loss):
    return lambda *arguments: -loss(*arguments)


@fails_under(
    "generator that helps the classifier",
    (adv_gan, "misclassification_loss", negated(adv_gan.misclassification_loss)),
)
def test_all_losses_by_hand():
    losses = step(by_hand())
    assert losses["d"] == pytest.approx(0.75**2 + 0.25**2)
    # The plane's gradient sums to 4.8: a change of 0.1 in each pixel of a grey image is a margin
    # of 0.48, so the logits differ by 0.96, in favour of class 1.
    assert losses["attack"] == pytest.approx(0.96 / 3)
    assert losses["size"] == pytest.approx(0.4)
    assert losses["success"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("weights", "moved"),
    [
        ({"attack_weight": 1.0}, -9.6 / 3),  # only the image of class 1 contributes
        ({"attack_weight": 0.5}, -4.8 / 3),
        ({"attack_weight": 1.0, "kappa": 5.0}, 9.6 / 3),  # the others contribute too: 2 - 1
        ({"attack_weight": 1.0, "target": 0}, -9.6),
        ({"size_weight": 2.0}, -2.0 * 4),
        ({"gan_weight": 1.0}, 0.0),
    ],
    ids=str,
)
def test_the_generator_descends_each_loss_by_its_weight(weights, moved):
    none = {"gan_weight": 0.0, "attack_weight": 0.0, "size_weight": 0.0}
    made = by_hand(**{**none, **weights})
    step(made)
    assert float(made.G.value.detach()) == pytest.approx(0.1 + moved, abs=1e-5)


def test_discriminator_and_generator_are_trained_against_each_other():
    made = learner(attack_weight=0.0, size_weight=0.0, gan_weight=1.0, lr=1.0)
    made.D = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 1))
    made.D[1].weight.data.fill_(-1 / 16)
    made.D[1].bias.data.fill_(1.5)  # 1 for grey images, less for lighter ones
    made.G = Added(0.1)
    made.opt_g, made.opt_d = torch.optim.SGD(made.G.parameters(), 1.0), idle()
    step(made)
    # D(x_adv) = 0.9, and (0.9 - 1)^2 falls by 2 * 0.1 as the value falls
    assert float(made.G.value.detach()) == pytest.approx(0.1 - 0.2, abs=1e-5)
    loss = step(made)["d"]
    made.opt_d, made.opt_g = torch.optim.SGD(made.D.parameters(), 0.05), idle()
    made.method = replace(made.method, lr=0.05)
    for _ in range(20):
        last = step(made)["d"]
    assert last < loss


@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.5)], ids=str)
@pytest.mark.parametrize("clip", [True, False])
def test_the_outcome_is_an_attack_in_the_threat_model(threat, clip):
    made = learner(threat=threat, clip=clip)
    step(made)
    attack, x = made.outcome().attack, images(6)
    assert isinstance(attack, LearnedAttack) and attack.threat == threat
    x_adv = attack(HalfSpace(), x, torch.zeros(6, dtype=torch.long))
    assert threat.contains(x_adv, x).all() and not torch.equal(x_adv, x)
    alone = [attack(HalfSpace(), image[None], torch.zeros(1, dtype=torch.long)) for image in x]
    torch.testing.assert_close(torch.cat(alone), x_adv)


def test_training_reaches_most_images_that_can_be_misclassified():
    model, threat = HalfSpace(), Linf(0.2)
    made = learner(model, threat=threat, size_weight=0.0, lr=5e-3)
    x = 0.3 + 0.4 * images(64)
    y = model(x).argmax(1)
    for _ in range(60):
        step(made, x, y)
    reach = (model.distance(x, threat) < 0.9 * threat.eps).float().mean().item()
    x_adv = made.outcome().attack(model, x, y)
    misclassified = (model(x_adv).argmax(1) != y).float().mean().item()
    assert reach > 0.5 and misclassified > 0.8 * reach


def test_a_targeted_attack_reaches_its_target():
    model = Affine(3)
    made = learner(model, 3, threat=Linf(0.5), target=2, size_weight=0.0, lr=5e-3)
    x = images(64)
    y = model(x).argmax(1)
    for _ in range(40):
        losses = step(made, x, y)
    taken = model(made.outcome().attack(model, x, y)).argmax(1)
    assert (taken == 2).float().mean() > 0.9 and losses["success"] > 0.9


def uncounted_query(self, x, query=BlackBox.query):
    before = self.count.clone()
    answers = query(self, x)
    self.count.copy_(before)
    return answers


@fails_under(
    "black box differentiated",
    (BlackBox, "surrogate", lambda self: frozen(self.task.classifier)),
)
@fails_under("queries not counted", (BlackBox, "query", uncounted_query))
def test_a_black_box_is_queried_with_clean_and_perturbed_images():
    oracle = Oracle()
    made = learner(oracle, student=Plane(), student_steps=1)
    x = images(6)
    assert step(made, x)["queries"] == 6 and torch.equal(oracle.queried[0], x)
    with torch.no_grad():
        expected = torch.cat([x, made.G.train()(x)])
    losses = step(made, x)
    assert losses["queries"] == 18
    torch.testing.assert_close(oracle.queried[1], expected)
    outcome = made.outcome()
    assert outcome.queries == outcome.attack.queries == 18
    assert outcome.classifier is oracle
    assert learner().outcome().queries == 0


def test_the_first_steps_train_only_the_student():
    made = learner(Oracle(), student=Plane(), student_steps=1)
    made.f.student.w.data.zero_()
    before = [p.clone() for p in made.G.parameters()]
    step(made)
    assert all(map(torch.equal, before, made.G.parameters()))
    assert made.f.student.w.abs().max() > 0
    step(made)
    assert not all(map(torch.equal, before, made.G.parameters()))


@pytest.mark.parametrize(
    "setting", [{"width": 0}, {"gan_weight": -1.0}, {"kappa": -1.0}, {"student_steps": -1}], ids=str
)
def test_settings_out_of_range_raise(setting):
    with pytest.raises(ValueError, match=f"got {next(iter(setting.values()))}"):
        AdvGAN(**setting)


@pytest.mark.parametrize("target", [-1, 2])
def test_a_target_that_is_not_a_class_raises(target):
    with pytest.raises(
        ValueError, match=f"target must be (at least 0|a class from 0 to 1 or none), got {target}"
    ):
        learner(target=target)
