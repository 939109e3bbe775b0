"""Precomputed attacks: saving changes nothing, and images of other settings are not used."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch

from contracts.test_methods import assert_same_tree
from fixtures.models import HalfSpace
from mutations import fails_under
from spearshield.adversary import Attack
from spearshield.attacks.fgsm import FGSM
from spearshield.dataset import Examples
from spearshield.method import Learner, Method, Outcome, Paper, Task
from spearshield.rng import Rng
from spearshield.storage.content import Content
from spearshield.threat import Linf
from spearshield.training import precomputed_attack
from spearshield.training.learned_attack import LearnedAttack
from spearshield.training.loop import Training, train
from spearshield.training.precomputed_attack import PrecomputedAttack, precompute_attack


@dataclass(frozen=True)
class Noisy(Attack):
    """Random noise."""

    def perturb(self, model, x, y, rng):
        return (x + rng.uniform(x.shape[1:], -0.1, 0.1)).clamp(0, 1)


@dataclass(frozen=True)
class Sum(Method):
    """Its state is a sum of the adversarial images that depends on their order."""

    paper = Paper("Sum", "Nobody", 2026, "https://example.org/sum")

    def learner(self, task):
        return Summing(task)


class Summing(Learner):
    def __init__(self, task) -> None:
        super().__init__()
        self.task = task
        self.register_buffer("sum", torch.zeros(1, 4, 4))

    def step(self, x, y, *, rng):
        self.sum.mul_(1.01).add_(self.task.attack(self.task.classifier, x, y, rng=rng).sum(0))
        return {"sum": self.sum.sum().item()}

    def outcome(self):
        return Outcome(self.task.classifier)


THREAT = Linf(0.1)
ONCE = Training(Sum(), 9, Noisy(THREAT), batch_size=5, precompute=True)


@pytest.fixture(autouse=True)
def batches(monkeypatch) -> list[int]:
    """The sizes of the batches of noise; four images are in one file."""
    monkeypatch.setattr(precomputed_attack, "PART", 4)
    found: list[int] = []
    real = Attack.__call__

    def call(self, model, x, y, *, rng):
        if isinstance(self, Noisy):
            found.append(len(x))
        return real(self, model, x, y, rng=rng)

    monkeypatch.setattr(Attack, "__call__", call)
    return found


def examples(n=14):
    pixels = torch.randint(0, 256, (n, 1, 4, 4), generator=torch.Generator().manual_seed(0))
    shown = Examples.of(pixels.to(torch.uint8), torch.arange(n) % 2, ("a", "b"))
    return replace(shown, ids=torch.arange(n).flip(0) * 3)  # neither dense nor in order


def trained(training, folder=None, seed=1):
    model = HalfSpace().eval()
    task = Task(model, model, (1, 4, 4), 2, training.learn_from)
    return train(training, task, examples, seed=seed, folder=folder).state_dict()


def made(folder=None, model=None, attack=None, seed=1, shown=None, **settings):
    attack, model = attack or Noisy(THREAT), (model or HalfSpace()).eval()
    return precompute_attack(
        attack, model, shown or examples(), seed=seed, folder=folder, **settings
    )


def test_images_in_memory_or_on_disk_give_the_same_training(tmp_path, batches):
    in_memory = trained(ONCE)
    assert_same_tree(trained(ONCE, tmp_path), in_memory)
    assert sum(batches) == 2 * 14
    (tmp_path / "checkpoint.safetensors").unlink()
    assert_same_tree(trained(ONCE, tmp_path), in_memory)
    assert sum(batches) == 2 * 14


def test_resuming_the_attack_changes_nothing(tmp_path, batches):
    parts = []

    def killed(done, values):
        parts.append(done)
        if done == 8:
            raise KeyboardInterrupt

    model = HalfSpace().eval()
    with pytest.raises(KeyboardInterrupt):
        folder = tmp_path / "attacked"
        precompute_attack(Noisy(THREAT), model, examples(), seed=1, folder=folder, bar=killed)
    assert parts == [4, 8] and batches == [4, 4]
    trained(replace(ONCE, steps=4), tmp_path)
    assert batches == [4, 4, 4, 2]
    resumed = trained(ONCE, tmp_path)
    assert batches == [4, 4, 4, 2]
    assert_same_tree(resumed, trained(ONCE))


def test_the_batch_size_bounds_what_is_attacked_at_once_and_changes_nothing(batches):
    whole = made().x_adv
    assert batches == [4, 4, 4, 2]
    batches.clear()
    assert torch.equal(made(batch_size=3).x_adv, whole)
    assert batches == [3, 1, 3, 1, 3, 1, 2]
    batches.clear()
    trained(replace(ONCE, batch_size=2))
    assert set(batches) == {2}


def test_a_deterministic_attack_gives_the_same_training_as_attacking_at_each_step():
    plain = replace(ONCE, learn_from=FGSM(THREAT))
    assert_same_tree(trained(plain), trained(replace(plain, precompute=False)))


def test_a_random_attack_is_drawn_once_for_each_image_and_seed():
    assert not torch.equal(trained(ONCE)["sum"], trained(replace(ONCE, precompute=False))["sum"])
    assert not torch.equal(made().x_adv, made(seed=2).x_adv)


@fails_under(
    "adversarial images found by position in the batch",
    (PrecomputedAttack, "perturb", lambda self, model, x, y, rng: self.x_adv[: len(x)]),
)
def test_images_are_found_by_id_in_any_order():
    shown, kept = examples(), made()
    order = torch.tensor([7, 0, 13, 7])
    part = shown[order]
    x_adv = kept(HalfSpace(), part.images(), part.y, rng=Rng(5, part.ids).fold(9))
    alone = Noisy(THREAT)(HalfSpace(), part.images(), part.y, rng=Rng(1, part.ids))
    torch.testing.assert_close(x_adv, alone)


class Shift(torch.nn.Module):
    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = torch.nn.Parameter(torch.tensor(by))

    def forward(self, x):
        return (x + self.by).clamp(0, 1)


@fails_under(
    "networks identified by their layers alone",
    (precomputed_attack, "content", lambda value, modes: Content(repr(value), ())),
)
def test_another_network_of_the_attack_needs_a_new_attack(tmp_path):
    for by in (0.01, 0.03):
        attack = LearnedAttack(THREAT, Shift(by).eval())
        kept, shown = made(tmp_path, attack=attack), examples()
        x = shown.images()[shown.ids.argsort()]
        torch.testing.assert_close(kept.x_adv - x, ((x + by).clamp(0, 1) - x))


@fails_under(
    "adversarial images kept for another classifier",
    (precomputed_attack, "digest", lambda *parts: "the same"),
    changed="weights",
)
@pytest.mark.parametrize("changed", ["weights", "attack", "seed", "images"])
def test_another_setting_needs_a_new_attack(tmp_path, batches, changed):
    made(tmp_path)
    model, shown = HalfSpace(), examples()
    model.b.data += 0.1
    other = {
        "weights": {"model": model},
        "attack": {"attack": Noisy(Linf(0.2))},
        "seed": {"seed": 2},
        "images": {"shown": replace(shown, pixels=255 - shown.pixels)},
    }[changed]
    batches.clear()
    made(tmp_path, **other)
    assert sum(batches) == 14
    made(tmp_path, **other)
    assert sum(batches) == 14


OTHER_CODE = {
    "package": (precomputed_attack, "source_digest", lambda: "other"),
    "torch": (torch, "__version__", "2.0.0"),
    "attack": (Noisy, "perturb", lambda self, model, x, y, rng: x),
}


@pytest.mark.parametrize("changed", OTHER_CODE)
def test_other_code_needs_a_new_attack(tmp_path, batches, monkeypatch, changed):
    made(tmp_path)
    batches.clear()
    made(tmp_path)
    assert batches == []
    monkeypatch.setattr(*OTHER_CODE[changed])
    made(tmp_path)
    assert sum(batches) == 14


def test_other_images_raise():
    shown, kept = examples(), made()
    x, y, rng = shown.images(), shown.y, Rng(1, shown.ids)
    with pytest.raises(ValueError, match="not the training images"):
        kept(HalfSpace(), x.flip(0), y, rng=rng)
    with pytest.raises(ValueError, match="not the training images"):
        kept(HalfSpace(), x, y, rng=Rng(1, shown.ids + 1))


def test_a_corrupt_part_is_named(tmp_path):
    made(tmp_path)
    part = tmp_path / "000004.safetensors"
    part.write_bytes(part.read_bytes()[:-5])
    with pytest.raises(ValueError, match="000004.*delete it"):
        made(tmp_path)
