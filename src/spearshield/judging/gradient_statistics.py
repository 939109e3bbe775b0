"""Statistics of input gradients: how much they tell about the image and about its class.

Folz, Palacio, Hees, Borth, Dengel, "Adversarial Defense based on Structure-to-Signal Autoencoders",
2018, https://arxiv.org/abs/1803.07994, compare the gradients of a classifier with and without their
defence. Their definitions were not available; these are our own. A defence whose gradients tell
less about the class may only hide them: these numbers show no robustness.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from spearshield.adversary import loss_gradient
from spearshield.dataset import Examples
from spearshield.losses import margin
from spearshield.ranges import check
from spearshield.threat import L2
from spearshield.types import Classifier, Images, Labels

BINS = 16
"""Levels of pixels and of gradients in the estimate of their mutual information."""
FOLDS = 5
"""Parts of the images in the cross-validation of the probe."""
SIDE = 32
"""Gradients of larger images are averaged to this many pixels before the probe."""


@dataclass(frozen=True, eq=False)
class InputGradients:
    """The gradients of the cross-entropy in the pixels.

    Args:
        x: Images in [0, 1] of shape (n, c, h, w), on the CPU.
        y: Their labels.
        g: The gradients, of the shape of ``x``.
    """

    x: Images
    y: Labels
    g: Float[Tensor, "n c h w"]

    @classmethod
    def of(
        cls, model: Classifier, images: Examples, batch_size: int = 100, device: str = "cpu"
    ) -> InputGradients:
        """The gradients of a classifier, which may be defended, at clean images and their labels.

        Raises:
            ValueError: ``batch_size`` is below 1, or there are no images.
            NoGradientError: The classifier is not differentiable.
        """
        check("batch_size", batch_size, at_least=1, whole=True)
        if len(images) == 0:
            raise ValueError("there are no images")
        parts = []
        for start in range(0, len(images), batch_size):
            part = images[start : start + batch_size]
            x, y = part.images(device), part.y.to(device)
            parts.append(loss_gradient(model, x, y, margin.cross_entropy).gradient.cpu())
        return cls(images.images(), images.y, torch.cat(parts))

    @cached_property
    def entropy(self) -> float:
        """Entropy of |g| as a distribution over the pixels, over its largest value; mean.

        1: all pixels have the same share; 0: one pixel has all of it. Images without a gradient
        are left out; NaN if there is no other.
        """
        size = self.g.abs().flatten(1).double()
        size = size[size.sum(1) > 0]
        p = size / size.sum(1, keepdim=True)
        return float((torch.special.entr(p).sum(1) / np.log(p.shape[1])).mean())

    @cached_property
    def mutual_information(self) -> float:
        """Mutual information of the brightness of a pixel and its |g|, from 0 to 1; mean.

        Both are divided into 16 levels by rank, and the information is normalised by the mean of
        the two entropies. Constant images and gradients count as 0.
        """
        from sklearn.metrics import normalized_mutual_info_score  # noqa: PLC0415 - slow to import

        pairs = zip(self.x.flatten(1).numpy(), self.g.abs().flatten(1).numpy(), strict=True)
        levels = [(_levels(image), _levels(gradient)) for image, gradient in pairs]
        # scikit-learn gives 1 to two constants.
        found = [normalized_mutual_info_score(a, b) if np.ptp(a) > 0 else 0.0 for a, b in levels]
        return float(np.mean(found))

    @cached_property
    def class_accuracy(self) -> float | None:
        """Accuracy of a linear probe that tells the class from the gradient.

        Ridge regression on unit gradients, of at most 32 x 32 pixels, cross-validated in 5 parts.
        ``None`` if a class has fewer than 5 images.
        """
        from sklearn.linear_model import RidgeClassifier  # noqa: PLC0415 - slow to import
        from sklearn.model_selection import StratifiedKFold, cross_val_score  # noqa: PLC0415

        if int(self.y.bincount()[torch.unique(self.y)].min()) < FOLDS:
            return None
        h, w = self.g.shape[2:]
        small = adaptive_avg_pool2d(self.g, (min(h, SIDE), min(w, SIDE)))
        folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
        scores = cross_val_score(RidgeClassifier(), _unit(small).numpy(), self.y.numpy(), cv=folds)
        return float(np.mean(scores))

    @property
    def most_frequent(self) -> float:
        """Share of the most frequent class: the accuracy of a probe that learns nothing."""
        return float(self.y.bincount().max() / len(self.y))

    @cached_property
    def high_frequencies(self) -> float:
        """Share of the energy of g at spatial frequencies above half of the highest one; mean."""
        energy = torch.fft.rfft2(self.g.double()).abs().square()
        rows = torch.fft.fftfreq(self.g.shape[2]).abs()[:, None]
        columns = torch.fft.rfftfreq(self.g.shape[3])[None]
        double = torch.ones_like(columns) * 2  # the half of the spectrum that rfft leaves out
        double[:, 0] = 1
        if self.g.shape[3] % 2 == 0:
            double[:, -1] = 1
        energy = energy * double
        high = torch.maximum(rows.expand_as(energy[0, 0]), columns.expand_as(energy[0, 0])) > 0.25
        total = energy.sum((1, 2, 3))
        shares = (energy * high).sum((1, 2, 3))[total > 0] / total[total > 0]
        return float(shares.mean())

    def similarity(self, other: InputGradients) -> float:
        """Cosine similarity of the gradients of two classifiers at the same images; mean."""
        return float((_unit(self.g) * _unit(other.g)).sum(1).mean())

    def shift(self, other: InputGradients) -> float:
        """Wasserstein distance of the sizes of the values of unit gradients, at the same images.

        In units of the root mean square of the values. It is 0 if the gradients differ only in
        signs or in the order of their pixels.
        """
        a, b = (_unit(one.g).flatten().abs().sort().values for one in (self, other))
        return float((a - b).abs().mean() * np.sqrt(self.g[0].numel()))


def _levels(values: np.ndarray) -> np.ndarray:
    """The values as whole numbers below ``BINS``, equally many of each where ranks allow it."""
    edges = np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1])
    return np.searchsorted(edges, values, side="right")


def _unit(g: Tensor) -> Float[Tensor, "n d"]:
    """The gradients as rows of norm 1, however small they are; zero where there is none."""
    return L2(1.0).normalize(g).flatten(1)
