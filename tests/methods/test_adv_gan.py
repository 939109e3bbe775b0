"""AdvGAN: losses on numbers worked by hand, the threat model, and the conditioned generator."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fixtures.models import Affine, HalfSpace
from methods.test_ape_gan import Constant
from methods.test_substitute import Oracle, Plane
from mutations import fails_under
from spearshield.attacks.fgsm import FGSM
from spearshield.method import Task, frozen
from spearshield.methods import adv_gan
from spearshield.methods.adv_gan import AdvGAN, misclassification_loss, size_loss, success_rate
from spearshield.methods.cycle_adv_gan import CycleAdvGAN
from spearshield.nets.adv_gan import (
    ConditionedGenerator,
    Discriminator,
    Generator,
    PerturbationGenerator,
)
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


def learner_of(method, model=None, **settings):
    """A learner of AdvGAN, or of CycleAdvGAN from FGSM."""
    model = (model or HalfSpace()).eval()
    with ambient(0):
        return method(width=2, **settings).learner(
            Task(model, model, (1, 4, 4), 2, FGSM(Linf(0.1)))
        )


def perturbation_generator(learner):
    return learner.G if hasattr(learner, "G") else learner.A


class NotQueried(torch.nn.Module):
    """A victim that must not be queried."""

    def forward(self, x):
        pytest.fail("the victim was queried")


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


@fails_under(
    "perturbation not clipped",
    (PerturbationGenerator, "forward", lambda self, x: (x + self.generator(x)).clamp(0, 1)),
    threat=Linf(0.1),
    residual=True,
)
@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.4)], ids=str)
@pytest.mark.parametrize("residual", [True, False])
def test_perturbed_images_are_inside_the_threat_model(threat, residual):
    net = PerturbationGenerator((1, 9, 7), 2, threat, residual=residual)
    net.generator = Constant(0.9, (1, 9, 7))
    x = Rng.of_batch(0, 5).uniform((1, 9, 7))
    assert threat.contains(net(x), x).all()
    free = PerturbationGenerator((1, 9, 7), 2, threat, residual=residual, clip=False)
    free.generator = net.generator
    assert not threat.contains(free(x), x).any()
    assert ((free(x) >= 0) & (free(x) <= 1)).all()


def test_the_output_is_a_perturbation_or_an_image():
    net = PerturbationGenerator((1, 4, 4), 2, Linf(0.2))
    net.generator = Constant(-0.5, (1, 4, 4))
    torch.testing.assert_close(net(X), X - 0.1)
    net.residual = False  # the image is 0.25 everywhere: a quarter darker, 0.2 allowed
    torch.testing.assert_close(net(X), X - 0.2)


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
    fooled = (model(x_adv).argmax(1) != y).float().mean().item()
    assert reach > 0.5 and fooled > 0.8 * reach


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


class Recorder(torch.nn.Module):
    """A generator without effect that keeps the features it receives."""

    def forward(self, x, *classifier_features):
        self.classifier_features = classifier_features
        return torch.zeros_like(x)


class Convolutional(torch.nn.Module):
    """A classifier with two maps of the image's size and one of half the size."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Conv2d(1, 5, 1)
        self.second = torch.nn.Conv2d(5, 3, 1)
        self.pool = torch.nn.AvgPool2d(2)
        self.classes = torch.nn.Linear(3, 2)

    def forward(self, x):
        return self.classes(self.pool(self.second(self.first(x)).relu()).mean((2, 3)))


def constant_features(self, x, features=PerturbationGenerator.classifier_features):
    return tuple(t * 0 + 0.5 for t in features(self, x))


@fails_under(
    "generator conditioned on a constant",
    (PerturbationGenerator, "classifier_features", constant_features),
    method=AdvGAN,
)
@pytest.mark.parametrize("method", [AdvGAN, CycleAdvGAN])
def test_a_conditioned_generator_receives_probabilities_and_maps(method):
    with ambient(0):
        model = Convolutional().eval()
    net = perturbation_generator(learner_of(method, model, conditioned=True))
    net.generator = Recorder()
    x = images(6)
    torch.testing.assert_close(net(x), x)
    probabilities, whole, half, quarter = net.generator.classifier_features
    torch.testing.assert_close(probabilities, model(x).softmax(1).detach())
    maps = model.second(model.first(x)).detach()  # the last maps of their size
    torch.testing.assert_close(whole, maps)
    torch.testing.assert_close(half, model.pool(maps.relu()))
    assert quarter is half  # the nearest size there is
    assert not any(
        classifier_features.requires_grad
        for classifier_features in net.generator.classifier_features
    )
    assert not any(module._forward_hooks for module in net.condition_network.modules())
    assert perturbation_generator(learner_of(method, model)).classifier_features(x) == ()


class Mirroring(torch.nn.Module):
    """A classifier whose maps are of a batch twice as large: the images and their mirror images."""

    def __init__(self):
        super().__init__()
        self.maps = torch.nn.Conv2d(1, 5, 1)

    def forward(self, x):
        both = self.maps(torch.cat([x, x.flip(3)])).mean((2, 3))[:, :2]
        return sum(both.chunk(2))


@pytest.mark.parametrize("model", [HalfSpace(), Mirroring()], ids=["flat", "mirroring"])
@pytest.mark.parametrize("method", [AdvGAN, CycleAdvGAN])
def test_without_maps_of_the_images_the_images_take_their_place(method, model):
    net = perturbation_generator(learner_of(method, model.eval(), conditioned=True))
    x = images(6)
    probabilities, *maps = net.classifier_features(x)
    torch.testing.assert_close(probabilities, model(x).softmax(1).detach())
    assert all(own is x for own in maps)
    assert net(x).shape == x.shape


@pytest.mark.parametrize("method", [AdvGAN, CycleAdvGAN])
def test_a_conditioned_attack_contains_an_untrained_copy_of_the_classifier(method):
    model = HalfSpace().eval()
    first = learner_of(method, model, conditioned=True, lr=0.1)
    copy = perturbation_generator(first).condition_network
    assert copy is not model
    step(first)
    torch.testing.assert_close(copy.w, model.w)
    other = HalfSpace().eval()
    other.b.data.zero_()
    reopened = learner_of(method, other, conditioned=True)
    reopened.load_state_dict(first.state_dict())
    x, y = images(6), torch.zeros(6, dtype=torch.long)
    classifier_features = perturbation_generator(reopened).classifier_features(x)[0]
    torch.testing.assert_close(classifier_features, model(x).softmax(1).detach())
    attacks = [of.outcome().attack for of in (first, reopened)]
    torch.testing.assert_close(*(attack(NotQueried(), x, y) for attack in attacks))


@pytest.mark.parametrize("method", [AdvGAN, CycleAdvGAN])
def test_a_black_box_conditions_the_generator_on_its_student(method):
    oracle = Oracle()
    made = learner_of(method, oracle, conditioned=True, student=Plane(), student_steps=1)
    assert perturbation_generator(made).condition_network is made.f.student
    for number in range(3):
        losses = step(made, images(6), number=number)
    assert losses["queries"] == 6 + 12 + 12 == sum(map(len, oracle.queried))
    before = [p.clone() for p in made.f.student.parameters()]
    made.opt_g.step()  # does not contain the student
    assert all(map(torch.equal, before, made.f.student.parameters()))


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (8, 8), (28, 28), (32, 32), (30, 33), (64, 64)])
def test_images_of_any_size(size):
    x = torch.rand(2, 3, *size)
    assert Generator(3, 2).eval()(x).shape == x.shape
    features = (
        torch.rand(2, 4),
        torch.rand(2, 2, 9, 9),
        torch.rand(2, 3, 5, 2),
        torch.rand(2, 1, 1, 1),
    )
    assert ConditionedGenerator(3, 2, 4, (2, 3, 1)).eval()(x, *features).shape == x.shape
    assert Discriminator((3, *size), 2).eval()(x).shape == (2, 1)


@pytest.mark.parametrize(
    "setting", [{"width": 0}, {"gan_weight": -1.0}, {"kappa": -1.0}, {"student_steps": -1}], ids=str
)
def test_settings_out_of_range_raise(setting):
    with pytest.raises(ValueError, match=f"got {next(iter(setting.values()))}"):
        AdvGAN(**setting)


@pytest.mark.parametrize("target", [-1, 2])
def test_a_target_that_is_not_a_class_raises(target):
    with pytest.raises(ValueError, match=f"class from 0 to 1 or none, got {target}"):
        learner(target=target)
