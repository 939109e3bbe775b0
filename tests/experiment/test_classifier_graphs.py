"""The script that replays the training steps of classifiers, without a GPU: each step is recomputed
from the tensors at fixed addresses, as a replay would read them.
"""

from __future__ import annotations

import copy
from contextlib import contextmanager

import pytest
import torch

from fixtures.scripts import script
from spearshield.attacks.fgsm import FGSM
from spearshield.attacks.pgd import PGD
from spearshield.classifiers.strided_cnn import StridedCNN
from spearshield.method import Task
from spearshield.methods.atta import ATTA
from spearshield.methods.fgsm_rs import FGSMRS
from spearshield.methods.ibp import IBP
from spearshield.methods.l2l import L2L
from spearshield.methods.learned_adversary import LearnedAdversary
from spearshield.methods.mtl_ibp import MTLIBP
from spearshield.methods.n_fgsm import NFGSM
from spearshield.methods.pgd_adversarial_training import PGDAdversarialTraining
from spearshield.methods.standard_training import StandardTraining
from spearshield.methods.trades import TRADES
from spearshield.rng import Rng, ambient
from spearshield.threat import Linf
from spearshield.training.augmentation import Augmentation
from spearshield.training.warp import Warp

SHAPE, CLASSES, BATCH, STEPS = (1, 8, 8), 3, 32, 9
SCHEDULE = {"lr": 1e-3, "rise_steps": 3, "decay_steps": 20, "average": 0.99}
ADVERSARIAL = {**SCHEDULE, "warmup_steps": 4}
FGSM_03, PGD_2 = FGSM(Linf(0.3)), PGD(Linf(0.3), steps=2, early_stop=False)
METHODS = [
    (StandardTraining(**SCHEDULE), None),
    (PGDAdversarialTraining(**ADVERSARIAL), PGD_2),
    (ATTA(hardest=0.5, augmentation=Augmentation(1, warp=Warp()), **ADVERSARIAL), FGSM_03),
    (TRADES(steps=2, step_size=0.1, beta=0.01, **ADVERSARIAL), FGSM_03),
    (FGSMRS(**ADVERSARIAL), FGSM_03),
    (NFGSM(**ADVERSARIAL), FGSM_03),
    (LearnedAdversary(width=2, hardest=0.5, **ADVERSARIAL), None),
    (L2L(width=2, **ADVERSARIAL), None),
    (IBP(kappa=0.0, interval_weights=True, **ADVERSARIAL), FGSM_03),
]


class Recomputed:
    """In place of a graph."""

    def __init__(self, recording):
        self.recording = recording

    def replay(self):
        taken = self.recording.learner.taken
        before = int(taken)
        with rates_kept(self.recording), self.recording.without_waiting():
            self.recording.compute()
        taken.fill_(before)  # a replay does not advance it


@contextmanager
def rates_kept(recording):
    """A block in which a step does not note its learning rates, as a replay does not."""
    recording.keep_rate = lambda *rates: None
    yield
    del recording.keep_rate


@pytest.mark.parametrize("method, attack", METHODS, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("renew", [1, 3])
def test_replayed_steps_are_the_steps_of_the_learner(method, attack, renew, monkeypatch):
    graphs = script("classifier_graphs")
    assert graphs.recordable(learner_of(method, attack))
    recorded = []

    def record(recording):
        # A step of a copy notes the learning rates, as the recording of a graph does.
        copies, recording.losses, recording.graph = {}, {}, None
        twin = copy.deepcopy(recording, copies)
        twin.rates = []
        with twin.without_waiting():
            twin.compute()
        own = {id(copies[id(rate)]): rate for rate in rates(recording.learner)}
        recording.rates = [(factor, own[id(rate)]) for factor, rate in twin.rates]
        recording.graph = Recomputed(recording)
        recorded.append(int(recording.learner.taken))

    monkeypatch.setattr(graphs.Recording, "record", record)
    monkeypatch.setattr(graphs, "RENEW", renew)
    monkeypatch.setattr(graphs, "FETCH", 2)
    one, other = learner_of(method, attack), learner_of(method, attack)
    replayed = graphs.Recording(other, type(other).step, *batch(0)[:2])
    for number in range(STEPS):
        x, y, rng = batch(number)
        losses, own = one.step(x, y, rng=rng), replayed(x, y, rng)
        if number >= graphs.WARM:
            assert bool(own) == (number % 2 == 1)
        assert own == {name: pytest.approx(losses[name], abs=1e-4) for name in own}
    warmed = getattr(method, "warmup_steps", graphs.WARM)
    assert recorded == sorted({*range(graphs.WARM, warmed + 1, renew), warmed})
    assert int(other.taken) == STEPS
    for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)


def test_learners_that_decide_on_the_cpu_are_not_recorded():
    recordable = script("classifier_graphs").recordable
    for method, attack in (
        (PGDAdversarialTraining(), PGD(Linf(0.3))),
        (PGDAdversarialTraining(), PGD(Linf(0.3), early_stop=False, restarts=2)),
        (PGDAdversarialTraining(), FGSM_03),
        (LearnedAdversary(generators=2), None),
        (LearnedAdversary(replay=1), None),
        (FGSMRS(optimiser="sgd"), FGSM_03),
        (MTLIBP(), FGSM_03),
    ):
        assert not recordable(learner_of(method, attack))


def rates(learner):
    """The learning rates of a learner, as tensors."""
    optimisers = [v for v in vars(learner).values() if isinstance(v, torch.optim.Optimizer)]
    return [group["lr"] for optimiser in optimisers for group in optimiser.param_groups]


def learner_of(method, attack):
    with ambient(0):
        network = StridedCNN(2).build(SHAPE, CLASSES)
        return method.learner(Task(network, network, SHAPE, CLASSES, attack))


def batch(number):
    generator = torch.Generator().manual_seed(number)
    x = torch.rand(BATCH, *SHAPE, generator=generator)
    ids = torch.arange(BATCH) + BATCH * number
    return x, (x.mean((1, 2, 3)) * 1e4).long() % CLASSES, Rng(0, ids).fold(number)
