"""Transferability by hand: rates, intervals, statements, and what is computed again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from torch import nn

from mutations import fails_under
from spearshield.adversary import Attack
from spearshield.dataset import Examples
from spearshield.judging import transferability as module
from spearshield.judging.evaluation import EvaluationSettings, OutsideThreatError
from spearshield.judging.interval import wilson
from spearshield.judging.transferability import Transferability, transferability
from spearshield.rng import Rng
from spearshield.threat import Linf


class Brightness(nn.Module):
    """Class 1 if the mean of the image is above a threshold, else class 0."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = nn.Parameter(torch.tensor(threshold))

    def forward(self, x):
        z = 20 * (x.mean((1, 2, 3)) - self.threshold)
        return torch.stack([-z, z], 1)


@dataclass(frozen=True)
class Brighter(Attack):
    """Adds as much as it takes to cross the source's threshold, at most eps."""

    display_name: ClassVar[str] = "brighter"

    def perturb(self, model, x, y, rng):
        x_adv = x + self.threat.eps
        for step in torch.linspace(self.threat.eps, 0, 61):
            bright = (model((x + step).clamp(0, 1)).argmax(1) == 1)[:, None, None, None]
            x_adv = torch.where(bright, x + step, x_adv)
        return self.threat.project(x_adv, x)


@dataclass(frozen=True)
class RandomlyBrighter(Attack):
    """Adds a random number to each image, at most eps."""

    def perturb(self, model, x, y, rng):
        return self.threat.project(x + self.threat.eps * rng.uniform((1, 1, 1)), x)


@pytest.fixture
def images() -> Examples:
    values = torch.tensor([0.2, 0.3, 0.45, 0.9])
    pixels = (255 * values).round().to(torch.uint8)[:, None, None, None].expand(4, 1, 2, 2)
    return Examples.of(pixels.clone(), torch.tensor([0, 0, 0, 1]), ("dark", "bright"))


CROSSING = Brighter(Linf(0.3))


def measured(images, folder, thresholds=(0.4, 0.6), batch_size=1, attack: Attack = CROSSING):
    networks = {name: Brightness(t).eval() for name, t in zip("ab", thresholds, strict=False)}
    settings = EvaluationSettings(batch_size=batch_size)
    found, _ = transferability(networks, [attack], images, settings, folder)
    return found


@fails_under(
    "rates over all images, right or not",
    (
        Transferability,
        "asr",
        lambda self, attack: (self.attacked[attack] != self.y).float().mean(2),
    ),
)
def test_rates_by_hand(images, tmp_path):
    """Threshold 0.4 gets image 2 wrong. What just crosses 0.4 stays below 0.6."""
    found = measured(images, tmp_path)
    assert found.names == ("a", "b") and found.attacks == ("brighter",)
    assert found.clean.tolist() == [[0, 0, 1, 1], [0, 0, 0, 1]]
    assert found.attacked[0, 0].tolist() == [[1, 1, 1, 1], [0, 0, 0, 1]]
    assert found.attacked[0, 1].tolist() == [[1, 1, 1, 1], [0, 0, 1, 1]]
    torch.testing.assert_close(found.asr(0), torch.tensor([[2 / 3, 0.0], [2 / 3, 1 / 4]]))
    torch.testing.assert_close(found.accuracy(0), torch.tensor([[0.25, 1.0], [0.25, 0.75]]))
    # On the first classifier: 0.2 more for image 0, 0.1 for image 1, nothing for the others.
    assert found.l2[0, 0] == pytest.approx((0.2 / 0.2 + 0.1 / 0.3) / 4, rel=0.05)


def made(attacked):
    """A matrix of two classifiers that get all 100 images right, from the shares that fool them."""
    y = torch.zeros(100, dtype=torch.long)
    rows = [[(torch.arange(100) < 100 * share).long() for share in row] for row in attacked]
    predicted = torch.stack([torch.stack(row) for row in rows])[None]
    clean = torch.zeros(2, 100, dtype=torch.long)
    return Transferability(("a", "b"), ("fgsm",), y, clean, predicted, torch.zeros(1, 2))


@fails_under(
    "the classifier's attacks on itself counted",
    (Transferability, "_others", lambda self, classifier: [*range(len(self.names))]),
)
def test_statements_by_hand():
    easiest, furthest = made([[1.0, 0.8], [0.1, 1.0]]).statements()
    assert easiest.startswith("Easiest to fool by adversarial images of the others: b, 80.0 %")
    assert "more than a, 10.0 %" in easiest and "by 70.0 points" in easiest
    assert furthest.startswith("Adversarial images fool the others most: a, 80.0 %")
    for statement in made([[0.0, 0.5], [0.48, 0.0]]).statements():
        assert "not distinguishable from" in statement


def test_the_rate_of_two_classifiers_has_the_interval_of_an_audit():
    statement = made([[0.0, 0.5], [0.1, 0.0]]).statements()[0]
    low, high = 100 * wilson(50, 100).low, 100 * wilson(50, 100).high
    assert f"b, 50.0 % ({low:.1f} to {high:.1f}); more than a, 10.0 %" in statement


@pytest.mark.parametrize("count", [1, 3])
def test_few_images_show_nothing_even_if_all_agree(count):
    """Three images that all fool one classifier and never the other; and intervals without NaN."""
    found = made([[0.0, 1.0], [0.0, 0.0]])
    few = replace(
        found, y=found.y[:count], clean=found.clean[:, :count], attacked=found.attacked[..., :count]
    )
    for statement in few.statements():
        assert "100.0 % (" in statement and "(100.0 to 100.0)" not in statement
        assert "0.0 % (0.0 to 0.0)" not in statement and "nan" not in statement
        assert "by 100.0 points (" in statement
    assert all(("not distinguishable" in one) is (count == 1) for one in few.statements())


def test_equal_classifiers_are_not_equal_for_certain():
    for share in (0.0, 1.0):
        for statement in made([[0.0, share], [share, 0.0]]).statements():
            assert "by 0.0 points (-1.9 to 1.9)" in statement


def by_position(seed, ids):
    return Rng(seed, torch.arange(len(ids)))


@fails_under(
    "randomness by the position in the batch",
    (module, "Rng", by_position),
    attack=RandomlyBrighter(Linf(0.3)),
)
@pytest.mark.parametrize("attack", [CROSSING, RandomlyBrighter(Linf(0.3))])
def test_the_batch_size_changes_nothing(images, tmp_path, attack):
    one, three = (
        measured(images, tmp_path / str(size), batch_size=size, attack=attack) for size in (1, 3)
    )
    for part in ("clean", "attacked", "l2"):
        torch.testing.assert_close(getattr(one, part), getattr(three, part))
    assert not torch.equal(one.attacked[0, 0], one.clean)


class Same:
    sha256 = "the same"


@fails_under(
    "the stored outcome of another network",
    (module, "content", lambda value: Same),
)
def test_only_what_changed_is_computed_again(images, tmp_path, monkeypatch):
    first = measured(images, tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(module._Cell, "_batch", None)
        assert torch.equal(measured(images, tmp_path).attacked, first.attacked)
    other = measured(images, tmp_path, thresholds=(0.4, 0.95))
    assert not torch.equal(first.attacked, other.attacked)


def test_an_attack_outside_its_budget_raises(images, tmp_path):
    class TooFar(Brighter):
        def perturb(self, model, x, y, rng):
            return 1 - x

    with pytest.raises(OutsideThreatError, match="left Linf"):
        networks = {"a": Brightness(0.4).eval(), "b": Brightness(0.6).eval()}
        transferability(networks, [TooFar(Linf(0.1))], images, EvaluationSettings(), tmp_path)


def test_where_nothing_can_be_said(images, tmp_path):
    """One classifier alone; and a classifier that is never right, whose rates are not numbers."""
    assert measured(images, tmp_path, thresholds=(0.4,)).statements() == ()
    wrong = Examples(images.pixels, 1 - images.y, images.ids, images.names)
    found = measured(wrong, tmp_path, thresholds=(0.6, 0.4))
    assert found.statements() == () and found.to_json()["asr"][0][0][0] is None
