"""Networks of AdvGAN: the threat model, sizes, and generators conditioned on a classifier."""

from __future__ import annotations

import pytest
import torch

from fixtures.models import HalfSpace
from methods.test_adv_gan import X, images, step
from methods.test_ape_gan import Constant
from methods.test_substitute import Oracle, Plane
from mutations import fails_under
from spearshield.attacks.fgsm import FGSM
from spearshield.method import Task
from spearshield.methods.adv_gan import AdvGAN
from spearshield.methods.cycle_adv_gan import CycleAdvGAN
from spearshield.nets.adv_gan import (
    ConditionedGenerator,
    Discriminator,
    Generator,
    PerturbationGenerator,
)
from spearshield.rng import Rng, ambient
from spearshield.threat import L2, Linf


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
