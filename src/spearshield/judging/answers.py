"""Answers: the classes, margins and detection scores that a victim returns for images."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch

from spearshield.judging.score import NO_CLASS, REJECTED
from spearshield.losses.margin import margin_loss
from spearshield.method import Defended
from spearshield.types import (
    Classifier,
    DetectionScore,
    Draws,
    Ids,
    Images,
    Labels,
    Logits,
    PerImage,
)


class Answers(NamedTuple):
    """The answers of a victim to images; on the CPU.

    Args:
        classes: Predicted classes, by majority for a random victim, or ``REJECTED``.
        bare: Predicted classes of the classifier without its purifier.
        margin: Margin loss, mean over the draws of a random victim.
        draws: Predicted classes of a random victim, one column per draw; no columns for others.
        detection: Detection scores; no columns if the victim has no detector.
    """

    classes: Labels
    bare: Labels
    margin: PerImage
    draws: Draws
    detection: DetectionScore


def answers(victim: Defended, x: Images, y: Labels, draws: int) -> Answers:
    """The answers of a victim to images; a victim without purifiers is asked once.

    Args:
        draws: Number of predictions of a random victim for each image.
    """
    detection, purifiers = detection_score(victim, x), victim.purifiers
    columns, margins = [], []
    for draw in range(draws if purifiers.are_random else 1):
        score = detection
        if draw and purifiers.detect_at_random:
            score = detection_score(victim, x, draw)
        predicted = predict(partial(victim, draw=draw) if draw else victim, x, y)
        columns.append(predicted.classes.where(~(score > 0).any(1), REJECTED))
        margins.append(predicted.margin)
    all_draws = torch.stack(columns, 1)
    classes = all_draws.mode(1).values
    return Answers(
        classes=classes,
        bare=predict(victim.classifier, x, y).classes if len(purifiers) else classes,
        margin=torch.stack(margins).mean(0),
        draws=all_draws if purifiers.are_random else all_draws[:, :0],
        detection=detection,
    )


class CleanAnswers:
    """The answers of a victim to clean images, each computed once and kept by the image's id.

    Args:
        draws: Number of predictions of a random victim for each image.
    """

    def __init__(self, victim: Defended, draws: int) -> None:
        self.victim, self.draws = victim, draws
        self._rows: dict[int, int] = {}
        self._known: Answers | None = None

    def __call__(self, x: Images, y: Labels, ids: Ids) -> Answers:
        """The answers to these images."""
        names = ids.tolist()
        new = [i for i, name in enumerate(names) if name not in self._rows]
        if new:
            found, known = answers(self.victim, x[new], y[new], self.draws), self._known
            self._known = (
                Answers(*map(torch.cat, zip(known, found, strict=True))) if known else found
            )
            self._rows |= {names[i]: len(self._rows) + k for k, i in enumerate(new)}
        assert self._known is not None
        rows = torch.tensor([self._rows[name] for name in names])
        return Answers(*(part[rows] for part in self._known))


@torch.no_grad()
def detection_score(victim: Defended, x: Images, draw: int = 0) -> DetectionScore:
    """The detection score of each image; no columns if the victim has no detector."""
    if not victim.purifiers.detect:
        return torch.empty(len(x), 0)
    return victim.detection_score(x.clone(), draw)[:, None].float().cpu()


class Prediction(NamedTuple):
    """The predicted class of each image, and the margin loss; on the CPU."""

    classes: Labels
    margin: PerImage


@torch.no_grad()
def predict(model: Classifier, x: Images, y: Labels) -> Prediction:
    """The classes that ``model`` predicts; ``NO_CLASS`` where a logit is not finite."""
    logits: Logits = model(x.clone())  # some models change their input
    finite = logits.isfinite().all(1)
    classes = torch.where(finite, logits.argmax(1), NO_CLASS)
    return Prediction(classes.cpu(), margin_loss(logits, y).float().cpu())
