"""The answers of a victim: each clean image is answered once, a bare classifier is asked once."""

from __future__ import annotations

import torch
from torch import nn

from fixtures.models import HalfSpace
from mutations import fails_under
from spearshield.attacks.fgsm import FGSM
from spearshield.dataset import Examples
from spearshield.judging import answers as module
from spearshield.judging.answers import Answers, CleanAnswers, answers
from spearshield.judging.evaluation import evaluate
from spearshield.method import Defended
from spearshield.threat import Linf


class Counting(nn.Module):
    """A purifier or classifier that counts the images it sees."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.seen = inner, 0

    def forward(self, x):
        self.seen += len(x)
        return self.inner(x)


def victim(purifier=None):
    return Defended(purifier or nn.Identity(), Counting(HalfSpace())).eval()


def examples(count=20):
    x = torch.rand(count, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    pixels = (x * 255).round().to(torch.uint8)
    return Examples(pixels, torch.arange(count) % 2, torch.arange(count), ("0", "1"))


def parts(images):
    return images.images(), images.y, images.ids


def test_each_clean_image_is_answered_once():
    own, images = victim(), examples()
    clean = CleanAnswers(own, draws=1)
    first = clean(*parts(images[:12]))
    assert own.classifier.seen == 12
    clean(*parts(images[5:9]))
    assert own.classifier.seen == 12
    clean(*parts(images[8:20]))
    assert own.classifier.seen == 20
    assert all(map(torch.equal, first, answers(own, *parts(images[:12])[:2], 1)))


@fails_under(
    "answers of other images",
    (
        module.CleanAnswers,
        "__call__",
        lambda self, x, y, ids: answers(self.victim, x.flip(0), y, 1),
    ),
)
def test_answers_follow_the_ids_in_any_order():
    own, images = victim(), examples()
    order = torch.randperm(20, generator=torch.Generator().manual_seed(1))
    clean = CleanAnswers(own, draws=1)
    clean(*parts(images[order[:7]]))
    found = clean(*parts(images[order]))
    expected = answers(own, images[order].images(), images[order].y, 1)
    assert isinstance(found, Answers) and all(map(torch.equal, found, expected))


def test_a_victim_without_purifiers_is_asked_once():
    bare, purified = victim(), victim(Counting(nn.Identity()))
    x, y, _ = parts(examples())
    found = answers(bare, x, y, 1)
    assert bare.classifier.seen == 20 and torch.equal(found.bare, found.classes)
    answers(purified, x, y, 1)
    assert purified.classifier.seen == 40 and purified.purifier.seen == 20


def test_an_evaluation_of_fgsm_costs_three_forward_passes_and_two_when_repeated():
    own, images = victim(), examples()
    clean, checked = CleanAnswers(own, draws=1), 8  # images of the check of the victim
    first = evaluate(own, FGSM(Linf(0.1)), images, clean=clean)
    assert own.classifier.seen == checked + 3 * 20
    again = evaluate(own, FGSM(Linf(0.1)), images, clean=clean)
    assert own.classifier.seen == 2 * checked + 5 * 20
    assert torch.equal(first.victim_clean, again.victim_clean)
