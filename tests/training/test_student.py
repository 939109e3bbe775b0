"""Students of black boxes: what they are trained on, and how far queries reach."""

from __future__ import annotations

import pytest
import torch

from fixtures.models import HalfSpace
from spearshield.rng import Rng
from spearshield.threat import L2, Linf
from spearshield.training.student import Student

SMALL = Student(images=3, mixtures=2, rounds=2, steps=1, batch_size=2)


def transferred(threat, model=None, student=SMALL, n=4):
    x = torch.rand(n, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    y = torch.arange(n) % 2
    return student.transfer(model or HalfSpace(), x, y, 2, threat, Rng.of_batch(0, n))


def test_the_student_is_trained_on_the_queries_which_are_held_in_8_bits(monkeypatch):
    asked, held = [], []
    real = Student._train

    def model(x):
        asked.append(x.clone())
        return HalfSpace()(x)

    def train(self, student, optimiser, seen, seed):
        held.append(seen)
        real(self, student, optimiser, seen, seed)

    monkeypatch.setattr(Student, "_train", train)
    attack = transferred(Linf(0.1), model)
    queries, answers = torch.cat(asked), held[-1]
    assert attack.queries == len(queries) == 3 * (1 + 2 + 2 * 2)
    images, labels = answers[torch.arange(len(queries))]
    assert torch.equal(images, queries) and torch.equal(labels, HalfSpace()(queries).argmax(1))
    tensors = [value for value in vars(answers).values() if isinstance(value, torch.Tensor)]
    assert sum(value.nbytes for value in tensors) == len(queries) * (16 + 8)


@pytest.mark.parametrize("threat", [Linf(0.7), Linf(1.0), L2(3.9)])
def test_a_large_budget_reaches_the_whole_range(threat):
    assert transferred(threat).threat == threat
