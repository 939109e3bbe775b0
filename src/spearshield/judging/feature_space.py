"""Feature space: how far attacked and purified images are from the clean ones, for a classifier."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from spearshield.method import Defended
from spearshield.nets.features import features_of
from spearshield.types import Images, PerImage

AT_ONCE = 10
"""Images whose features are computed at a time."""


@dataclass(frozen=True, eq=False)
class FeatureSpace:
    """Images in the penultimate features of the classifier behind a purifier.

    Args:
        clean, attacked, purified: Features of the clean, the attacked, and the purified attacked
            images, of shape (n, d).
    """

    clean: Float[Tensor, "n d"]
    attacked: Float[Tensor, "n d"]
    purified: Float[Tensor, "n d"]

    @classmethod
    def of(cls, victim: Defended, x: Images, x_adv: Images) -> FeatureSpace:
        """The features of clean images and of attacked images in front of ``victim``, on the CPU.

        Args:
            x, x_adv: Images in [0, 1] of shape (n, c, h, w), on the device of the victim.
        """
        with torch.no_grad():
            x_hat = victim.purifier(x_adv.clone())
            parts = (
                torch.cat([features_of(victim.classifier, part)[0] for part in each.split(AT_ONCE)])
                for each in (x, x_adv, x_hat)
            )
            return cls(*(part.float().cpu() for part in parts))

    @property
    def distances(self) -> tuple[PerImage, PerImage]:
        """Distances of attacked and of purified images from the clean image, each of shape (n,).

        In units of the mean norm of the clean features.
        """
        unit = self.clean.norm(dim=1).mean().clamp(min=torch.finfo(torch.float32).tiny)
        attacked, purified = (
            (part - self.clean).norm(dim=1) / unit for part in (self.attacked, self.purified)
        )
        return attacked, purified

    @property
    def plane(self) -> Float[Tensor, "3 n 2"]:
        """Clean, attacked and purified images in the two principal directions of the clean ones."""
        centre = self.clean.mean(0)
        _, _, directions = torch.linalg.svd(self.clean - centre, full_matrices=False)
        parts = torch.stack([self.clean, self.attacked, self.purified]) - centre
        points = parts @ directions[:2].T
        return torch.nn.functional.pad(points, (0, 2 - points.shape[2]))
