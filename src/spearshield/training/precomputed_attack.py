"""An adversarial training set: one adversarial image of each training image, made once and kept.

A method that learns from an attack calls it at every step, so an image is attacked anew each time
it is shown. Where the model that is attacked stays as it is and the attack is slow, the images of
one time will do.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from spearshield.attack import Attack
from spearshield.dataset import Examples
from spearshield.method import frozen
from spearshield.progress import ProgressBar, no_bar
from spearshield.rng import Rng
from spearshield.storage import checkpoint
from spearshield.storage.serialization import dump
from spearshield.types import Classifier, Ids, Images, Labels

PART = 500
"""Images that are attacked together and kept in one file."""


@dataclass(frozen=True)
class PrecomputedAttack(Attack):
    """Answers with images that have been made already; the model and the labels are not looked at.

    The randomness handed in belongs to an image, and so says which one is meant.

    Args:
        attack: What made them.
        x_adv: The images.
        ids: What randomness belongs to, of each; in ascending order.

    Raises:
        ValueError: When called with an image of which there is none.
    """

    attack: Attack
    x_adv: Images = field(compare=False, repr=False)
    ids: Ids = field(compare=False, repr=False)

    @staticmethod
    def none(attack: Attack) -> PrecomputedAttack:
        """That of no image, which stands for one that is still to be made."""
        return PrecomputedAttack(
            attack.threat, attack, torch.empty(0, 1, 1, 1), torch.empty(0).long()
        )

    def perturb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:  # noqa: ARG002
        wanted = rng.ids.cpu()
        row = torch.searchsorted(self.ids, wanted).clamp(max=len(self.ids) - 1)
        x_adv = self.x_adv[row].to(x.device)
        if not (torch.equal(self.ids[row], wanted) and self.threat.contains(x_adv, x).all()):
            raise ValueError(
                "these are not the training images that were attacked once; a method that changes "
                "images before it attacks them needs precompute=false"
            )
        return x_adv


def precompute_attack(
    attack: Attack,
    classifier: nn.Module,
    examples: Examples,
    *,
    seed: int,
    folder: Path | None = None,
    device: torch.device | str = "cpu",
    bar: ProgressBar = no_bar,
) -> PrecomputedAttack:
    """The images that ``attack`` makes of ``examples`` on ``classifier``.

    Args:
        folder: Where they are kept. A part that lies there already is not made again, if it is of
            the same attack, weights, images and seed; ``None``: they are kept in memory alone.
        bar: Called with the number of images there are so far.

    Raises:
        ValueError: A part that was kept is corrupt; names the file.
    """
    examples = examples[examples.ids.argsort()]
    x_adv = torch.empty(len(examples), *examples.shape)
    about = _digest(
        [
            json.dumps([dump(attack), seed]).encode(),
            *map(_content, classifier.state_dict().values()),
        ]
    )
    for start in range(0, len(examples), PART):
        part = examples[start : start + PART]
        key = _digest([about.encode(), *map(_content, (part.ids, part.y, part.pixels))])
        path = folder / f"{start:06d}.safetensors" if folder else None
        kept = checkpoint.load(path) if path and path.exists() else {}
        if kept.get("key") != key:
            x, y, rng = part.images(device), part.y.to(device), Rng(seed, part.ids.to(device))
            kept = {"key": key, "x_adv": attack(frozen(classifier), x, y, rng=rng).cpu()}
            if path:
                checkpoint.save(path, kept)
        x_adv[start : start + PART] = kept["x_adv"]
        bar(start + len(part), {})
    return PrecomputedAttack(attack.threat, attack, x_adv, examples.ids)


def _digest(parts: list[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _content(value: torch.Tensor) -> bytes:
    return value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
