"""Evaluation: the score of a victim under an attack through a view."""

from __future__ import annotations

import operator
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import reduce

import torch
from torch import Tensor, nn

from spearshield import foreign
from spearshield.adversary import Attack, check_images
from spearshield.dataset import Examples
from spearshield.discover import name_of
from spearshield.judging.answers import CleanAnswers, answers
from spearshield.judging.float32 import full_float32
from spearshield.judging.memory import give_back_memory
from spearshield.judging.score import Score
from spearshield.judging.similarity import ssim
from spearshield.logits import check_kind
from spearshield.method import Defended
from spearshield.progress import ProgressBar, no_bar
from spearshield.ranges import checked_seed, require
from spearshield.rng import Rng
from spearshield.threat import ThreatModel
from spearshield.types import Ids, Images, Labels, Shape
from spearshield.views import Adaptive, View


@dataclass(frozen=True)
class EvaluationSettings:
    """Settings that every evaluation shares, for any victim, attack and images.

    Args:
        seed: Seed of attacks and purifiers.
        draws: Predictions of a random victim for each image; their majority is scored.
        batch_size: Images attacked at a time; changes time and memory, not results.
        device: Device of the tensors, as PyTorch names it.

    Raises:
        ValueError: ``draws`` or ``batch_size`` is below 1, or ``seed`` is negative or from 2^63 on.
    """

    seed: int = 0
    draws: int = 10
    batch_size: int = 250
    device: str = "cpu"

    def __post_init__(self) -> None:
        require(self, "draws", "batch_size", at_least=1)
        object.__setattr__(self, "seed", checked_seed(self.seed))


@full_float32()
def evaluate(
    victim: Defended,
    attack: Attack,
    examples: Examples,
    view: View | None = None,
    settings: EvaluationSettings = EvaluationSettings(),
    *,
    clean: CleanAnswers | None = None,
    bar: ProgressBar = no_bar,
    keep: Callable[[Images], None] = lambda _: None,
) -> Score:
    """The score of ``victim`` under an attack through ``view``.

    The victim classifies the attacked images in float32, without rounding. A random victim is
    scored by the majority of its predictions, so a single draw cannot break an image. The same
    images, attack and seed give the same predictions for every batch size and order.

    Args:
        view: Maps the victim to the classifier that the attacker differentiates; by default the
            victim itself.
        settings: Seed, draws, batch size and device.
        clean: The answers of the victim to clean images, kept from one call to the next.
        bar: Called after each batch with the number of images done.
        keep: Called with the attacked images of each batch, in order.

    Raises:
        ValueError: The victim fails :func:`check_victim`; the attack returned an image outside its
            threat model (names the attack and the image); or there are no images.
    """
    view = view or Adaptive()
    device = settings.device
    if len(examples) == 0:
        raise ValueError("there are no images to evaluate on")
    check_victim(victim, examples.shape, examples.classes, device)
    model, clean = view(victim), clean or CleanAnswers(victim, settings.draws)
    scores: list[Score] = []
    for start in range(0, len(examples), settings.batch_size):
        part = examples[start : start + settings.batch_size]
        x, y = part.images(device), part.y.to(device)
        ids = part.ids.to(device)
        began = time.perf_counter()
        with count_forwards(victim.innermost) as forwards:
            x_adv = attack(model, x, y, rng=Rng(settings.seed, ids))
        seconds = time.perf_counter() - began
        check_attacked(x_adv, x, ids, attack.threat, name_of(attack))
        keep(x_adv)
        score = score_attacked(clean, x, x_adv, y, ids)
        scores.append(replace(score, seconds=seconds, forwards=forwards()))
        bar(start + len(part), {})
        give_back_memory()
    return reduce(operator.add, scores)


@full_float32()
def score_attacked(clean: CleanAnswers, x: Images, x_adv: Images, y: Labels, ids: Ids) -> Score:
    """The score of a victim on attacked images, with an attack cost of zero.

    Args:
        clean: The answers of the victim to clean images.
        x, x_adv: Clean and attacked images.
    """
    delta = (x_adv - x).flatten(1)
    before, after = clean(x, y, ids), answers(clean.victim, x_adv, y, clean.draws)
    return Score(
        ids=ids.cpu(),
        y=y.cpu(),
        victim_clean=before.classes,
        victim_adv=after.classes,
        bare_clean=before.bare,
        bare_adv=after.bare,
        l2=delta.norm(dim=1).cpu(),
        linf=delta.abs().amax(1).cpu(),
        normalised_l2=(delta.norm(dim=1) / x.flatten(1).norm(dim=1).clamp(min=1e-12)).cpu(),
        ssim=ssim(x, x_adv),
        clean_margin=before.margin,
        adv_margin=after.margin,
        clean_draws=before.draws,
        adv_draws=after.draws,
        clean_detection=before.detection,
        adv_detection=after.detection,
        seconds=0.0,
        forwards=0,
    )


def check_attacked(x_adv: Images, x: Images, ids: Ids, threat: ThreatModel, name: str) -> None:
    """Raise if an attacked image is outside the threat model.

    Raises:
        OutsideThreatError: Names the attack, the image, its distance and the budget.
    """
    if x_adv.shape != x.shape:
        raise OutsideThreatError(
            f"attack {name} returned shape {tuple(x_adv.shape)} for {tuple(x.shape)}"
        )
    allowed = threat.contains(x_adv, x)
    if not allowed.all():
        i = int((~allowed).nonzero()[0])
        pixels = x_adv[i]
        raise OutsideThreatError(
            f"attack {name} left {threat} on image {int(ids[i])}: "
            f"distance {float(threat.distance(x_adv, x)[i]):g}, "
            f"pixels from {float(pixels.min()):g} to {float(pixels.max()):g}, "
            f"{int(pixels.isnan().sum())} of them NaN"
        )


class OutsideThreatError(ValueError):
    """An attack returned an image that its threat model does not allow."""


def check_victim(
    victim: Defended, shape: Shape, classes: int, device: torch.device | str = "cpu"
) -> None:
    """Raise if the scores of a victim would be meaningless.

    Raises:
        ForeignError: The purifier or the classifier raises an error.
        ValueError: A layer is in training mode; the classifier does not return one logit for each
            class, or returns probabilities; or the purifier does not return images in [0, 1]
            of the same shape. The message suggests a change.
    """
    training = [name or "the model" for name, m in victim.named_modules() if m.training]
    if training:
        raise ValueError(f"{training[0]} is in training mode; call .eval() on the classifier first")
    x = Rng.of_batch(0, 8, device).uniform(shape)
    with torch.no_grad():
        x_hat = foreign.call(victim.purifier, x.clone())  # some models change their input
        logits = foreign.call(victim.classifier, x_hat.clone())
    _check_logits(logits, x, classes)
    if x_hat.shape != x.shape:
        raise ValueError(f"the purifier turns {tuple(x.shape)} into {tuple(x_hat.shape)}")
    try:
        check_images(x_hat)
    except ValueError as error:
        raise ValueError(f"the purifier's output is not an image: {error}") from error


def _check_logits(logits: object, x: Images, classes: int) -> None:
    """Raise if the classifier's output for uniform noise is not one logit for each class."""
    if not isinstance(logits, Tensor) or logits.shape != (len(x), classes):
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(
            f"the classifier must return logits of shape (images, {classes}) for this data set, "
            f"for {len(x)} images it returned {got}; give it one output for each class"
        )
    check_kind(logits, x, "logits")


@contextmanager
def count_forwards(model: nn.Module) -> Iterator[Callable[[], int]]:
    """Count the images that pass through ``model`` inside the block; yields the counter."""
    passed = 0

    def count(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:  # noqa: ARG001
        nonlocal passed
        passed += len(arguments[0])

    hook = model.register_forward_pre_hook(count)
    try:
        yield lambda: passed
    finally:
        hook.remove()
