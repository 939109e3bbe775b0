"""A recipe is one run, whole: data, classifier, defences, attacks; a value, and plain JSON."""

from __future__ import annotations

from dataclasses import dataclass

from spearshield.architecture import Architecture
from spearshield.dataset import Dataset, Split
from spearshield.judging.trial import Trial
from spearshield.training.loop import Training


@dataclass(frozen=True)
class Recipe:
    """What to train, what to attack it with, on what.

    Args:
        classifier: The architecture of the bare classifier.
        pretraining: How the bare classifier is trained; ``None``: it is not.
        defences: What is trained to protect it, each on its own.
        trials: Every defence meets each of them; the bare classifier meets each attack once.
        weights: A file with the bare classifier's weights, in place of ``pretraining``.
        split: Which images are attacked; choices are made on ``validation``.
        images: How many of them, from the first; 0: all.
        draws: Answers asked of a random victim for each image; the majority is its verdict.
        batch_size: Images attacked at a time; changes speed and memory, not results.
    """

    data: Dataset
    classifier: Architecture
    pretraining: Training | None
    defences: tuple[Training, ...]
    trials: tuple[Trial, ...]
    weights: str = ""
    split: Split = "test"
    images: int = 0
    draws: int = 10
    batch_size: int = 250
    seed: int = 0

    def __post_init__(self) -> None:
        if self.images < 0 or self.draws < 1 or self.batch_size < 1:
            raise ValueError(
                "images must be >= 0, draws and batch_size >= 1, "
                f"got {self.images}, {self.draws} and {self.batch_size}"
            )
