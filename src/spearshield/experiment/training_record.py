"""What a training depends on, so that its state is not resumed by another training."""

from __future__ import annotations

from typing import Any

from torch import nn

from spearshield.dataset import Examples
from spearshield.storage.content import lasting_digest
from spearshield.storage.digest import digest, weights_digest
from spearshield.storage.serialization import dump
from spearshield.training.loop import Training


def training_record(
    training: Training, seed: int, classifier: nn.Module, images: Examples
) -> dict[str, Any]:
    """The settings, the classifier and the images of a training, as JSON values."""
    return {
        "training": dump(training, weights_digest),
        "seed": seed,
        "classifier": lasting_digest(classifier),
        "images": digest(images.content, images.y, images.ids),
    }
