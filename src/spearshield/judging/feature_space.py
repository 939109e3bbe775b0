"""Feature space: how far attacked and purified images are from the clean ones, for a classifier."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from spearshield.nets.features import features_seen
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
    def of(cls, classifier: nn.Module, x: Images, x_adv: Images, x_hat: Images) -> FeatureSpace:
        """The features of clean, attacked and purified images, on the CPU.

        Args:
            classifier: The classifier behind the purifier.
            x, x_adv, x_hat: Images in [0, 1] of shape (n, c, h, w), on the device of the
                classifier.
        """
        parts = (
            torch.cat(
                [features_seen(classifier, part.clone()) for part in torch.split(each, AT_ONCE)]
            )
            for each in (x, x_adv, x_hat)
        )
        return cls(*(part.float().cpu() for part in parts))

    @property
    def finite(self) -> bool:
        """True if no feature is NaN or infinite; otherwise there is no plane."""
        return all(bool(part.isfinite().all()) for part in vars(self).values())

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
