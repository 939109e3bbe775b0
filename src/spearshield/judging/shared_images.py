"""Adversarial images of a bare classifier, which every purifier in front of it is given.

An attack that is unaware of the defence makes the same images for every purifier of one classifier,
so a run attacks the classifier once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from spearshield.adversary import Attack
from spearshield.dataset import Examples
from spearshield.judging.score import Score
from spearshield.storage import checkpoint
from spearshield.storage.content import content
from spearshield.storage.digest import digest
from spearshield.storage.installed import source_digest
from spearshield.training.precomputed_attack import PrecomputedAttack
from spearshield.types import Images

LARGEST = 256 << 20
"""Largest size of the images of one attack, in bytes; more are made again for each purifier."""


@dataclass(frozen=True)
class SharedImages:
    """The stored adversarial images of one attack on one classifier.

    Args:
        attack: The attack.
        path: The file that holds its images, or will hold them.
        examples: The clean images.
    """

    attack: Attack
    path: Path
    examples: Examples

    @staticmethod
    def of(
        attack: Attack,
        classifier: nn.Module,
        examples: Examples,
        folder: Path,
        seed: int,
        device: str,
    ) -> SharedImages | None:
        """The shared images in a folder.

        ``None`` if they are too large, or if the content of the attack or of the classifier
        cannot be determined.
        """
        if 4 * examples.pixels.numel() > LARGEST or len(torch.unique(examples.ids)) < len(examples):
            return None
        found = content((attack, classifier))
        if found.unknown:
            return None
        key = digest(
            found.sha256,
            f"{seed} {torch.device(device).type} {torch.__version__} {source_digest()}",
            examples.ids,
            examples.y,
            examples.content,
        )
        return SharedImages(attack, folder / f"{key[:32]}.safetensors", examples)

    def replayed(self, known: dict[str, Any]) -> PrecomputedAttack:
        """The attack that returns the images of the file.

        Args:
            known: The content of the file.
        """
        ids = self.examples.ids
        order = ids.argsort()
        return PrecomputedAttack(self.attack.threat, self.attack, known["x_adv"][order], ids[order])

    def store(self, x_adv: Images, score: Score) -> None:
        """Write the images, in the order of the examples, and the cost of the attack."""
        cost = {"seconds": score.seconds, "forwards": score.forwards}
        checkpoint.save(self.path, {"x_adv": x_adv, **cost})
