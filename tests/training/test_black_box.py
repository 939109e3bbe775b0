"""The model that an attack is trained on: distillation, queries, and their limits."""

from __future__ import annotations

import copy

import torch

from contracts.test_methods import assert_same_tree
from fixtures.models import HalfSpace
from methods.test_substitute import Oracle, Plane, images
from spearshield.method import Task
from spearshield.rng import ambient
from spearshield.training.black_box import BlackBox, WhiteBox, target_model

X = images(6)


def task(classifier):
    return Task(classifier.eval(), classifier, (1, 4, 4), 2)


def black_box(classifier, labels_only=False):
    with ambient(0):
        made = target_model(task(classifier), Plane(), 1, labels_only, lr=0.1)
    assert isinstance(made, BlackBox)
    return made


def test_without_a_student_the_classifier_itself_is_differentiated():
    classifier = HalfSpace()
    made = target_model(task(classifier), None, 0, False, lr=0.1)
    assert isinstance(made, WhiteBox)
    x = X.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(made.surrogate()(x)[:, 1].sum(), x)
    torch.testing.assert_close(gradient, classifier.w.detach().expand_as(x))
    assert classifier.w.grad is None
    assert made.distil(X) == {} and made.queries == 0
    assert made.network() is not classifier and not made.network().w.requires_grad


def test_the_loss_is_the_cross_entropy_with_the_probabilities():
    made = black_box(HalfSpace())
    probabilities = HalfSpace()(X).softmax(1)
    # A student that equals the black box has the entropy of the probabilities as its loss.
    entropy = -(probabilities * probabilities.log()).sum(1).mean()
    torch.testing.assert_close(torch.tensor(made.distil(X)["distillation"]), entropy.detach())


def test_every_query_is_counted():
    oracle = Oracle()
    made = black_box(oracle)
    assert [made.distil(x)["queries"] for x in (X, X, X[:2])] == [6, 12, 14]
    assert made.queries == 14 == sum(map(len, oracle.queried))


def test_distillation_makes_the_student_agree():
    made = black_box(HalfSpace())
    made.student.w.data.neg_()
    before = (made.surrogate()(X).argmax(1) == HalfSpace()(X).argmax(1)).float().mean()
    for _ in range(60):
        made.distil(X)
    after = (made.surrogate()(X).argmax(1) == HalfSpace()(X).argmax(1)).float().mean()
    assert before <= 0.5 and after == 1


def test_labels_only_uses_labels_only():
    """An oracle with one-hot logits has the same labels, and other probabilities."""
    states = []
    for hard in (False, True):
        made = black_box(Oracle(hard), labels_only=True)
        for _ in range(3):
            made.distil(X)
        states.append(made.state_dict())
    assert_same_tree(*states)
    soft, hard = black_box(Oracle()), black_box(Oracle(True))
    for made in (soft, hard):
        made.distil(X)
    assert not torch.equal(soft.student.w, hard.student.w)


def test_its_state_includes_the_optimiser_and_the_queries():
    first, second = black_box(HalfSpace()), black_box(HalfSpace())
    first.distil(X)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert second.queries == 6
    for made in (first, second):
        made.distil(X)
    assert_same_tree(first.state_dict(), second.state_dict())
