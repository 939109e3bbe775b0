"""Adversarial training sets: each training image is attacked once, and the result is stored.

By default a method calls its training attack at every step. If the attacked model does not change
during the training and the attack is slow, attacking each image once is enough.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from spearshield.adversary import Attack
from spearshield.dataset import Examples
from spearshield.method import frozen
from spearshield.progress import ProgressBar, no_bar
from spearshield.rng import Rng
from spearshield.storage import checkpoint
from spearshield.storage.content import content
from spearshield.storage.digest import digest
from spearshield.storage.installed import source_digest
from spearshield.types import Classifier, Ids, Images, Labels

PART = 500
"""Number of images that are stored in one file."""


@dataclass(frozen=True)
class PrecomputedAttack(Attack):
    """Returns stored adversarial images; neither the model nor the labels are used.

    An image is identified by the id of its randomness.

    Args:
        attack: The attack that made the images.
        x_adv: The adversarial images.
        ids: The id of each image, in ascending order.

    Raises:
        ValueError: When called with an image that has no adversarial image here.
    """

    attack: Attack
    x_adv: Images = field(compare=False, repr=False)
    ids: Ids = field(compare=False, repr=False)

    @staticmethod
    def empty(attack: Attack) -> PrecomputedAttack:
        """A value without images, to check a training before its images are attacked."""
        return PrecomputedAttack(
            attack.threat, attack, torch.empty(0, 1, 1, 1), torch.empty(0).long()
        )

    def perturb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:  # noqa: ARG002
        ids = rng.ids.cpu()
        row = torch.searchsorted(self.ids, ids).clamp(max=len(self.ids) - 1)
        x_adv = self.x_adv[row].to(x.device)
        if not (torch.equal(self.ids[row], ids) and self.threat.contains(x_adv, x).all()):
            raise ValueError(
                "these are not the training images that were attacked before the first step; a "
                "method that attacks changed images needs precompute=false"
            )
        return x_adv


def precompute_attack(
    attack: Attack,
    classifier: nn.Module,
    examples: Examples,
    *,
    seed: int,
    batch_size: int = 128,
    folder: Path | None = None,
    device: torch.device | str = "cpu",
    bar: ProgressBar = no_bar,
) -> PrecomputedAttack:
    """The adversarial images of ``attack`` on ``classifier`` for all ``examples``.

    Args:
        batch_size: Number of images that are attacked together; changes time and memory only.
        folder: Folder for the images, in parts. A part in the folder is used if it was made with
            the same attack, classifier, images, seed and code, and the same version of torch.
            ``None``: images stay in memory only.
        bar: Called with the number of images done.

    Raises:
        ValueError: A part in the folder is corrupt; names the file.
    """
    examples = examples[examples.ids.argsort()]
    x_adv = torch.empty(len(examples), *examples.shape)
    source = digest(
        content((attack, classifier), modes=False).sha256,
        f"{seed} {torch.__version__} {source_digest()}",
    )
    for start in range(0, len(examples), PART):
        part = examples[start : start + PART]
        key = digest(source, part.ids, part.y, part.content)
        path = folder / f"{start:06d}.safetensors" if folder else None
        kept = checkpoint.load(path) if path and path.exists() else {}
        if kept.get("key") != key:
            found = []
            for first in range(0, len(part), batch_size):
                some = part[first : first + batch_size]
                x, y, rng = some.images(device), some.y.to(device), Rng(seed, some.ids.to(device))
                found.append(attack(frozen(classifier), x, y, rng=rng).cpu())
            kept = {"key": key, "x_adv": torch.cat(found)}
            if path:
                checkpoint.save(path, kept)
        x_adv[start : start + PART] = kept["x_adv"]
        bar(start + len(part), {})
    return PrecomputedAttack(attack.threat, attack, x_adv, examples.ids)
