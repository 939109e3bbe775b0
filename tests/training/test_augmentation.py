"""Augmentation: shifts and reflections of whole images."""

from __future__ import annotations

import pytest
import torch

from spearshield.rng import Rng
from spearshield.training.augmentation import Augmentation

X = torch.rand(200, 2, 5, 4, generator=torch.Generator().manual_seed(0))


def shifted(image, down, right):
    wide = torch.nn.functional.pad(image, (4, 4, 4, 4))
    return wide[:, 4 - down : 9 - down, 4 - right : 8 - right]


def candidates(image, shift, flip):
    moves = range(-shift, shift + 1)
    images = [shifted(image, down, right) for down in moves for right in moves]
    return images + [one.flip(2) for one in images] if flip else images


@pytest.mark.parametrize(("shift", "flip"), [(0, False), (0, True), (2, False), (1, True)])
def test_every_image_is_a_shift_or_a_reflection_and_all_occur(shift, flip):
    changed = Augmentation(shift, flip)(X, Rng.of_batch(0, 200))
    found = set()
    for image, one in zip(X, changed, strict=True):
        options = candidates(image, shift, flip)
        (number,) = (k for k, option in enumerate(options) if torch.equal(option, one))
        found.add(number)
    assert len(found) == len(options)


@pytest.mark.parametrize(("shift", "flip"), [(0, True), (2, False), (2, True)])
def test_undo_restores_what_did_not_leave_the_image(shift, flip):
    augmentation, rng = Augmentation(shift, flip), Rng.of_batch(0, 200)
    restored = augmentation.undo(augmentation(X, rng), rng)
    inner = (slice(None), slice(None), slice(shift, 5 - shift), slice(shift, 4 - shift))
    assert torch.equal(restored[inner], X[inner])
    assert ((restored == X) | (restored == 0)).all()


def test_an_image_is_changed_alike_in_every_batch():
    augmentation, rng = Augmentation(2, flip=True), Rng.of_batch(0, 200)
    assert torch.equal(augmentation(X, rng)[7:9], augmentation(X[7:9], rng[7:9]))


def test_a_negative_shift_raises():
    with pytest.raises(ValueError, match="shift must be at least 0, got -1"):
        Augmentation(shift=-1)
