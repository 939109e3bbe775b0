"""CycleAdvGAN: each term on numbers worked by hand, and the effect of each option."""

from __future__ import annotations

import math

import pytest
import torch

from fixtures.models import HalfSpace
from methods.test_adv_gan import Added, idle, images
from methods.test_ape_gan import Constant
from methods.test_substitute import Oracle, Plane
from mutations import fails_under
from spearshield.adversary import Attack
from spearshield.attacks.fgsm import FGSM
from spearshield.method import Task
from spearshield.methods import cycle_adv_gan
from spearshield.methods.cycle_adv_gan import CycleAdvGAN, Purifier
from spearshield.rng import Rng, ambient
from spearshield.threat import Linf
from spearshield.training.learned_attack import LearnedAttack
from spearshield.training.precomputed_attack import PrecomputedAttack

X = torch.full((2, 1, 4, 4), 0.5)
Y = torch.tensor([0, 1])
WEIGHTS = {
    f"{name}_weight": 0.0
    for name in ("gan", "cycle", "identity", "paired", "attack", "recovery", "size")
}


class Darker(Attack):
    """Subtracts 0.2 from every pixel."""

    def perturb(self, model, x, y, rng):
        return x - 0.2


def learner(model=None, attack=None, **settings):
    model = (model or HalfSpace()).eval()
    task = Task(model, model, (1, 4, 4), 2, attack or Darker(Linf(0.2)))
    with ambient(0):
        return CycleAdvGAN(width=2, **settings).learner(task)


def by_hand(**settings):
    """A adds 0.1, P adds 0.05, D_A always returns 0.25 and D_P 0.5."""
    made = learner(**{"lr": 1.0, "kappa": 0.0, **settings})
    made.A, made.P = Added(0.1), Added(0.05)
    made.D_A, made.D_P = Constant(0.25, (1,)), Constant(0.5, (1,))
    made.opt_g = torch.optim.SGD([*made.A.parameters(), *made.P.parameters()], 1.0)
    made.opt_d = idle()
    return made


def step(made, x=X, y=Y):
    return made.step(x, y, rng=Rng.of_batch(0, len(x)))


def test_all_losses_by_hand():
    losses = step(by_hand())
    assert losses["d"] == pytest.approx(0.75**2 + 0.25**2 + 0.5**2 + 0.5**2)
    assert losses["gan"] == pytest.approx(0.75**2 + 0.5**2)
    assert losses["cycle"] == pytest.approx(0.15 + 0.15)  # P(A(x)) - x and A(P(x_ref)) - x_ref
    # The gradient of the plane sums to 4.8: logits differ by 9.6 times the change of each pixel.
    assert losses["attack"] == pytest.approx(0.96 / 2)
    expected = 0.0
    for change in (-0.15, 0.15, 0.05):  # P(x_ref), P(A(x)), P(x)
        gap = 9.6 * change
        expected += (math.log1p(math.exp(gap)) + math.log1p(math.exp(-gap))) / 2
    assert losses["recovery"] == pytest.approx(expected)
    assert losses["success"] == 0.5


@fails_under(
    "size that is never penalised",
    (cycle_adv_gan, "size_loss", lambda x_adv, x, hinge: (x_adv - x).sum() * 0),
    weight="size",
)
@pytest.mark.parametrize(
    ("weight", "a", "p"),
    [
        ("gan", 0.0, 0.0),
        ("cycle", -2.0, -2.0),
        ("identity", 0.0, -1.0),
        ("paired", -1.0, 1.0),  # A(x) down to x_ref, P(x_ref) up to x
        ("attack", -9.6 / 2, 0.0),
        ("size", -4.0, 0.0),
    ],
)
def test_the_generators_descend_each_loss_by_its_weight(weight, a, p):
    made = by_hand(**{**WEIGHTS, f"{weight}_weight": 0.5})
    step(made)
    assert float(made.A.value.detach()) == pytest.approx(0.1 + 0.5 * a, abs=1e-5)
    assert float(made.P.value.detach()) == pytest.approx(0.05 + 0.5 * p, abs=1e-5)


@pytest.mark.parametrize(("cooperative", "a"), [(True, -2.0), (False, -1.0)])
def test_without_cooperation_the_attack_is_not_trained_through_the_purifier(cooperative, a):
    made = by_hand(**{**WEIGHTS, "cycle_weight": 0.5, "cooperative": cooperative})
    step(made)
    assert float(made.A.value.detach()) == pytest.approx(0.1 + 0.5 * a, abs=1e-5)
    assert float(made.P.value.detach()) == pytest.approx(0.05 - 0.5 * 2.0, abs=1e-5)


def test_recovery_moves_the_purifier_towards_the_true_class():
    made = by_hand(**{**WEIGHTS, "recovery_weight": 1.0})
    step(made, X + 0.05, torch.ones(2, dtype=torch.long))  # class 1 is the brighter side
    assert float(made.P.value.detach()) > 0.05


def test_each_discriminator_has_its_own_kind_of_real_image():
    made = by_hand()
    for name in ("D_A", "D_P"):
        net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 1))
        net[1].weight.data.fill_(1 / 16)
        net[1].bias.data.fill_(0.0)  # the mean of the pixels
        setattr(made, name, net)
    losses = step(made)
    # D_A: x_ref is 0.3, A(x) 0.6;  D_P: x is 0.5, P(x_ref) 0.35
    assert losses["d"] == pytest.approx(0.7**2 + 0.6**2 + 0.5**2 + 0.35**2)
    assert losses["gan"] == pytest.approx(0.4**2 + 0.65**2)


def unbounded_purifier(self, x):
    if self.residual:
        return (x + self.generator(x)).clamp(0, 1)
    return 0.5 + 0.5 * self.generator(x)


@fails_under(
    "purifier without a bound",
    (Purifier, "forward", unbounded_purifier),
    residual=True,
    max_residual=0.1,
    expected=0.41,
)
@pytest.mark.parametrize(
    ("residual", "max_residual", "expected"),
    [(True, 1.0, 0.0), (True, 0.1, 0.41), (False, 0.1, 0.05)],
)
def test_purified_images_are_in_range(residual, max_residual, expected):
    net = Purifier(1, 2, residual, max_residual)
    net.generator = Constant(-0.9, (1, 4, 4))
    torch.testing.assert_close(net(X), torch.full_like(X, expected))


def test_the_outcome_is_an_attack_and_a_purifier():
    model = HalfSpace().eval()
    made = learner(model, threat=Linf(0.1), clip=False, residual_attack=False)
    step(made)
    outcome = made.outcome()
    assert outcome.classifier is model and outcome.purifier is made.P
    assert isinstance(outcome.attack, LearnedAttack) and outcome.attack.threat == Linf(0.1)
    x = images(6)
    assert Linf(0.1).contains(outcome.attack(model, x, torch.zeros(6, dtype=torch.long)), x).all()


def test_training_yields_misclassification_and_recovery():
    model, threat = HalfSpace(), Linf(0.1)
    made = learner(model, FGSM(threat), threat=threat, lr=5e-3, identity_weight=1.0)
    x = 0.2 + 0.6 * images(64)
    y = model(x).argmax(1)
    for _ in range(200):
        step(made, x, y)
    outcome = made.outcome()

    def right(x):
        return (model(x).argmax(1) == y).float().mean().item()

    reach = (model.distance(x, threat) < 0.9 * threat.eps).float().mean().item()
    x_adv, x_ref = outcome.attack(model, x, y), FGSM(threat)(model, x, y)
    assert reach > 0.3 and 1 - right(x_adv) > 0.7 * reach
    for attacked in (x_adv, x_ref):
        assert right(outcome.purifier(attacked)) > right(attacked) + 0.2
    assert right(outcome.purifier(x)) > 0.9


def test_a_black_box_is_never_differentiated():
    oracle = Oracle()
    made = learner(oracle, FGSM(Linf(0.1)), student=Plane(), student_steps=1)
    x = images(4)
    y = torch.tensor([0, 1, 0, 1])
    assert step(made, x, y)["queries"] == 4
    assert step(made, x, y)["queries"] == 12
    assert torch.equal(oracle.queried[0], x) and torch.equal(oracle.queried[1][:4], x)
    assert made.outcome().queries == made.outcome().attack.queries == 12


def test_a_black_box_with_precomputed_images_raises():
    kept = PrecomputedAttack(Linf(0.2), Darker(Linf(0.2)), X, torch.arange(2))
    assert learner(attack=kept)
    with pytest.raises(ValueError, match="set precompute=false"):
        learner(attack=kept, student=Plane())


def test_settings_out_of_range_raise():
    with pytest.raises(ValueError, match="cycle_weight must be at least 0, got -1"):
        CycleAdvGAN(cycle_weight=-1.0)
    with pytest.raises(ValueError, match="class from 0 to 1 or none, got 3"):
        learner(target=3)
