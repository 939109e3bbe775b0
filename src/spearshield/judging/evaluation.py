"""Evaluation: attack every image through a view, and let the victim decide."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from skimage.metrics import structural_similarity
from torch import Tensor, nn

from spearshield.attack import Attack, check_images
from spearshield.dataset import Examples
from spearshield.discover import name_of
from spearshield.judging.score import REJECTED, Score
from spearshield.method import Defended, Detects, RandomPurifier
from spearshield.progress import ProgressBar, no_bar
from spearshield.rng import Rng
from spearshield.threat import ThreatModel
from spearshield.types import (
    Classifier,
    DetectionScore,
    Draws,
    Ids,
    Images,
    Labels,
    Logits,
    PerImage,
    Shape,
)
from spearshield.views import Adaptive, View


@dataclass(frozen=True)
class EvaluationSettings:
    """How an evaluation is run, whatever the victim, the attack and the images.

    Args:
        seed: Seed of every attack and purifier.
        draws: Answers taken from a random victim for each image; the majority is its prediction.
        batch_size: Images attacked at a time; changes speed and memory, not results.
        device: Where tensors live, as torch names it.

    Raises:
        ValueError: ``draws`` or ``batch_size`` is below 1.
    """

    seed: int = 0
    draws: int = 10
    batch_size: int = 250
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.draws < 1 or self.batch_size < 1:
            raise ValueError(
                f"draws and batch_size must be >= 1, got {self.draws} and {self.batch_size}"
            )


def evaluate(
    victim: Defended,
    attack: Attack,
    examples: Examples,
    view: View | None = None,
    settings: EvaluationSettings = EvaluationSettings(),
    *,
    bar: ProgressBar = no_bar,
    keep: Callable[[Images], None] = lambda _: None,
) -> Score:
    """Attack every image through ``view`` and let the ``victim`` classify what comes back.

    The victim decides in float32, on the images as they were returned; a random victim by the
    majority of ``draws`` answers, so that no image is broken by one lucky draw. The same images,
    attack and seed give the same outcomes whatever the batch size and the order.

    Args:
        view: What the attacker differentiates; by default the victim as it is.
        settings: Seed, draws, batch size and device.
        bar: Called after each batch with the number of images done.
        keep: Handed the attacked images of each batch, in order.

    Raises:
        ValueError: The victim is not fit to be judged (see :func:`admit`), or the attack left its
            threat model; names the attack and the image.
    """
    view = view or Adaptive()
    device = settings.device
    admit(victim, examples.shape, examples.classes, device)
    model = view(victim)
    total: Score | None = None
    for start in range(0, len(examples), settings.batch_size):
        part = examples[start : start + settings.batch_size]
        x, y = part.images(device), part.y.to(device)
        ids = part.ids.to(device)
        began = time.perf_counter()
        with counted(victim.classifier) as count:
            x_adv = attack(model, x, y, rng=Rng(settings.seed, ids))
        seconds = time.perf_counter() - began
        check_attacked(x_adv, x, ids, attack.threat, name_of(attack))
        keep(x_adv)
        score = outcome(victim, x, x_adv, y, ids, seconds, count(), settings.draws)
        total = score if total is None else total + score
        bar(start + len(part), {})
    if total is None:
        raise ValueError("there are no images to evaluate on")
    return total


def outcome(
    victim: Defended,
    x: Images,
    x_adv: Images,
    y: Labels,
    ids: Ids,
    seconds: float = 0.0,
    forwards: int = 0,
    draws: int = EvaluationSettings.draws,
) -> Score:
    """The score of attacked images that are at hand.

    Raises:
        ValueError: Some logits are not finite; names the image.
    """
    delta = (x_adv - x).flatten(1)
    clean_detection, adv_detection = (detection_score(victim, images) for images in (x, x_adv))
    clean_draws = drawn(victim, x, ids, draws, clean_detection)
    adv_draws = drawn(victim, x_adv, ids, draws, adv_detection)
    random = isinstance(victim.purifier, RandomPurifier)
    return Score(
        ids=ids.cpu(),
        y=y.cpu(),
        victim_clean=clean_draws.mode(1).values,
        victim_adv=adv_draws.mode(1).values,
        bare_clean=predict(victim.classifier, x, ids),
        bare_adv=predict(victim.classifier, x_adv, ids),
        l2=delta.norm(dim=1).cpu(),
        linf=delta.abs().amax(1).cpu(),
        ssim=ssim(x, x_adv),
        clean_draws=clean_draws if random else clean_draws[:, :0],
        adv_draws=adv_draws if random else adv_draws[:, :0],
        clean_detection=clean_detection,
        adv_detection=adv_detection,
        seconds=seconds,
        forwards=forwards,
    )


def drawn(
    victim: Defended, x: Images, ids: Ids, draws: int, detection_score: DetectionScore
) -> Draws:
    """The classes of independent answers of a random victim; of others, of the one answer.

    The first column is the deployed answer. An image that is rejected has no class.

    Raises:
        ValueError: Some logits are not finite; names the image.
    """
    purifier = victim.purifier
    models: list[Classifier] = [victim]
    if isinstance(purifier, RandomPurifier):
        models = [
            lambda x, k=k: victim.classifier(purifier(x, draw=k))  # type: ignore[misc]
            for k in range(draws)
        ]
    answers = torch.stack([predict(model, x, ids) for model in models], 1)
    return answers.where(~(detection_score > 0).any(1, keepdim=True), REJECTED)


@torch.no_grad()
def detection_score(victim: Defended, x: Images) -> DetectionScore:
    """How suspicious the victim finds each image; no columns where it does not detect."""
    if not isinstance(victim.purifier, Detects):
        return torch.empty(len(x), 0)
    return victim.detection_score(x)[:, None].float().cpu()


@torch.no_grad()
def predict(model: Classifier, x: Images, ids: Ids) -> Labels:
    """The classes ``model`` predicts.

    Raises:
        ValueError: Some logits are not finite (an argmax over NaN is no answer); names the image.
    """
    logits: Logits = model(x)
    finite = logits.isfinite().all(1)
    if not finite.all():
        raise ValueError(f"the classifier's logits for image {int(ids[~finite][0])} are not finite")
    return logits.argmax(1).cpu()


def check_attacked(x_adv: Images, x: Images, ids: Ids, threat: ThreatModel, name: str) -> None:
    """Refuse attacked images that the attacker may not submit.

    Raises:
        ValueError: Names the attack, the image, how far it went, and how far it may go.
    """
    if x_adv.shape != x.shape:
        raise ValueError(f"attack {name} returned shape {tuple(x_adv.shape)} for {tuple(x.shape)}")
    allowed = threat.contains(x_adv, x)
    if not allowed.all():
        i = int((~allowed).nonzero()[0])
        pixels = x_adv[i]
        raise ValueError(
            f"attack {name} left {threat} on image {int(ids[i])}: "
            f"distance {float(threat.distance(x_adv, x)[i]):g}, "
            f"pixels from {float(pixels.min()):g} to {float(pixels.max()):g}, "
            f"{int(pixels.isnan().sum())} of them NaN"
        )


def admit(victim: Defended, shape: Shape, classes: int, device: torch.device | str = "cpu") -> None:
    """Refuse a victim whose scores would mean nothing.

    Raises:
        ValueError: Some layer is in training mode; the output is not one finite logit a class; it
            is a probability; or the purified images are no images. Says what to do.
    """
    training = [name or "the model" for name, m in victim.named_modules() if m.training]
    if training:
        raise ValueError(f"{training[0]} is in training mode; call .eval() on the classifier first")
    rng = Rng.of_batch(0, 8, device)
    x = rng.uniform(shape)
    try:
        with torch.no_grad():
            x_hat = victim.purifier(x)
            logits = victim.classifier(x_hat)
    except RuntimeError as error:
        raise ValueError(
            f"the classifier fails on images of shape {shape}: {str(error).splitlines()[0]}"
        ) from error
    if not isinstance(logits, Tensor) or logits.shape != (8, classes):
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(
            f"the classifier must return logits of shape (images, {classes}) for this data set, "
            f"for 8 images it returned {got}; give it one output a class"
        )
    if not logits.isfinite().all():
        raise ValueError("the classifier's logits are not finite on uniform noise")
    sums = logits.double().sum(1)
    if logits.min() >= 0 and (sums - 1).abs().max() < 1e-4:
        raise ValueError(
            "the classifier returns probabilities (rows sum to one); return logits, without the "
            "softmax: saturated probabilities hide the gradient and the robustness is not real"
        )
    if x_hat.shape != x.shape:
        raise ValueError(f"the purifier turns {tuple(x.shape)} into {tuple(x_hat.shape)}")
    try:
        check_images(x_hat)
    except ValueError as error:
        raise ValueError(f"the purifier's output is not an image: {error}") from error


@contextmanager
def counted(model: nn.Module) -> Iterator[Callable[[], int]]:
    """Counts the images that pass through ``model`` inside the block."""
    passed = 0

    def count(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:  # noqa: ARG001
        nonlocal passed
        passed += len(arguments[0])

    hook = model.register_forward_pre_hook(count)
    try:
        yield lambda: passed
    finally:
        hook.remove()


def ssim(x: Images, x_adv: Images) -> PerImage:
    """Structural similarity of each pair, by scikit-image: a uniform 7x7 window, data range 1.

    Wang, Bovik, Sheikh, Simoncelli, "Image Quality Assessment: From Error Visibility to Structural
    Similarity", 2004, https://doi.org/10.1109/TIP.2003.819861. On images smaller than 7 pixels the
    window is the largest odd one that fits.
    """
    side = min(7, *x.shape[2:])
    window = side if side % 2 else side - 1
    a, b = x.cpu().numpy(), x_adv.cpu().numpy()
    values = [
        structural_similarity(p, q, win_size=window, channel_axis=0, data_range=1.0)  # type: ignore[no-untyped-call]
        for p, q in zip(a, b, strict=True)
    ]
    return torch.from_numpy(np.asarray(values, dtype=np.float32))
