"""The batches of a training: a function of the images, the seed and the number of the step."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from spearshield.dataset import Examples
from spearshield.rng import Rng, permutation
from spearshield.stored_pixels import StoredPixels
from spearshield.training.augmentation import Augmentation
from spearshield.types import Images, Labels

AUGMENTED = -2
"""Names the randomness of augmentations, which no training uses."""


def batches(
    examples: Examples,
    batch_size: int,
    seed: int,
    done: int,
    steps: int,
    device: torch.device | str,
    augmentation: Augmentation | None,
) -> Iterator[tuple[int, Images, Labels, Rng]]:
    """Yields step number, images, labels and randomness, from step ``done`` to step ``steps``."""
    # All at once, because indexing on the device is fast; but not images that stay on disk.
    stored = isinstance(examples.pixels, StoredPixels)
    pixels = examples.pixels if stored else examples.pixels.to(device)
    labels, ids = examples.y.to(device), examples.ids.to(device)
    per_epoch = len(examples) // batch_size
    order, order_epoch = torch.empty(0, dtype=torch.long), -1
    for step in range(done, steps):
        epoch, batch = divmod(step, per_epoch)
        if epoch != order_epoch:
            order, order_epoch = permutation(len(examples), seed, epoch).to(device), epoch
        index = order[batch * batch_size : (batch + 1) * batch_size]
        rng = Rng(seed, ids[index]).fold(step)
        x = pixels[index.cpu() if stored else index].to(device).float() / 255
        yield step, augmentation(x, rng.fold(AUGMENTED)) if augmentation else x, labels[index], rng
