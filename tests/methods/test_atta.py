"""ATTA: perturbations go on from epoch to epoch, and move with the image."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from fixtures.trainings import Recorder
from mutations import fails_under
from spearshield.attacks.fgsm import FGSM
from spearshield.method import Task
from spearshield.methods.atta import ATTA, ATTALearner, PerturbationMemory
from spearshield.rng import Rng
from spearshield.threat import L2, Linf
from spearshield.training.augmentation import Augmentation


def learner(**settings):
    network = Recorder().eval()
    task = Task(network, network, (1, 4, 4), 2, FGSM(Linf(0.2)))
    return ATTA(lr=0.0, **settings).learner(task)


X = torch.full((6, 1, 4, 4), 0.5)
Y = torch.arange(6) % 2


@fails_under(
    "memory that forgets", (PerturbationMemory, "store", lambda self, ids, perturbations: None)
)
def test_steps_of_two_epochs_add_up():
    """On a linear classifier, steps of eps / 4 reach the corner of the ball after eight."""
    trained = learner(steps=1, step_size=0.25, restart=0.0)
    sizes = []
    for epoch in range(9):
        trained.step(X, Y, rng=Rng.of_batch(0, 6).fold(epoch))
        sizes.append((trained.classifier.shown[-1] - X).abs().amin((1, 2, 3)))
    corner = torch.full((6,), 0.2)
    assert (sizes[0] < 0.19).any()
    torch.testing.assert_close(sizes[-1], corner, atol=0.002, rtol=0.0)


def test_images_start_at_random_for_the_share_of_restarts():
    trained = learner(steps=1, step_size=1e-6, restart=1.0)
    for epoch in range(2):
        trained.step(X, Y, rng=Rng.of_batch(0, 6).fold(epoch))
    first, second = trained.classifier.shown
    assert (first - second).abs().amax() > 0.05


def test_a_perturbation_moves_with_its_image():
    trained = learner(steps=1, step_size=1e-6, restart=0.0, augmentation=Augmentation(1, flip=True))
    stored = Rng.of_batch(1, 6).uniform((1, 4, 4), -1.0, 1.0)
    ids = torch.arange(6)
    trained.memory.grow(ids)
    trained.memory.store(ids, stored)
    rng = Rng.of_batch(0, 6)
    trained.step(X, Y, rng=rng)
    moved = trained.method.augmentation(X + 0.2 * stored, rng.fold(2))
    torch.testing.assert_close(trained.classifier.shown[0], moved, atol=2e-3, rtol=0.0)


@fails_under(
    "choice of the first images",
    (ATTALearner, "hardest", lambda self, x, y, share: torch.arange(round(share * len(x)))),
)
def test_the_hardest_images_are_attacked_and_trained_on():
    trained = learner(steps=1, step_size=0.5, restart=0.0, hardest=0.5)
    x = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    ids = torch.arange(6)
    trained.memory.grow(ids)
    trained.memory.store(ids, torch.zeros(6, 1, 4, 4))
    losses = cross_entropy(trained.attacked()(x), Y, reduction="none")
    trained.step(x, Y, rng=Rng.of_batch(0, 6))
    chosen = set(losses.topk(3).indices.tolist())
    moved = trained.memory(ids).abs().amax((1, 2, 3)).nonzero()[:, 0].tolist()
    assert set(moved) == chosen
    assert len(trained.classifier.shown[0]) == 3


def test_the_memory_grows_and_is_saved():
    memory = PerturbationMemory((1, 2, 2))
    memory.grow(torch.tensor([3]))
    memory.store(torch.tensor([3]), torch.full((1, 1, 2, 2), -1.0))
    memory.grow(torch.tensor([20]))
    other = PerturbationMemory((1, 2, 2))
    other.load_state_dict(memory.state_dict())
    assert torch.equal(other(torch.tensor([3, 2]))[:, 0, 0, 0], torch.tensor([-1.0, 0.0]))
    assert other.knows(torch.tensor([3, 2])).flatten().tolist() == [True, False]


@pytest.mark.parametrize("threat", [Linf(0.3), L2(3.0)], ids=str)
def test_the_memory_keeps_perturbations_of_every_norm(threat):
    """In L2 the pixels of a large image change by less than eps / 127."""
    rng = Rng.of_batch(0, 3)
    delta = threat.sample_perturbation(torch.zeros(3, 3, 96, 96), rng)
    delta[2] = 0
    memory = PerturbationMemory((3, 96, 96))
    memory.grow(rng.ids)
    memory.store(rng.ids, delta / threat.eps)
    lost = L2(1.0).size(threat.eps * memory(rng.ids) - delta)
    assert (lost <= 0.02 * L2(1.0).size(delta)).all()


def test_settings_out_of_range_raise():
    with pytest.raises(ValueError, match="restart must be at most 1, got 2.0"):
        ATTA(restart=2.0)
