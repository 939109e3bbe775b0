"""Image quilting: the database, the nearest patches, and the cut by hand."""

from __future__ import annotations

import pytest
import torch

from mutations import fails_under
from spearshield.method import Task
from spearshield.methods import image_quilting
from spearshield.methods.image_quilting import ImageQuilting, Quilt, before_cut
from spearshield.rng import Rng, ambient


def learner_of(method, shape=(2, 14, 17)):
    network = torch.nn.Identity()
    return method.learner(Task(network, network, shape, 3))


def trained(method, x, steps=12):
    learner = learner_of(method, tuple(x.shape[1:]))
    for step in range(steps):
        learner.step(x, torch.zeros(len(x), dtype=torch.long), rng=Rng(step, torch.arange(len(x))))
    return learner


@fails_under(
    "a straight cut",
    (image_quilting.Tensor, "argmin", lambda self, dim: self.new_zeros(len(self)).long()),
)
def test_the_cut_by_hand():
    error = torch.tensor([[[9.0, 0, 9, 9], [9, 9, 0, 9], [9, 9, 9, 0], [9, 9, 0, 9]]])
    expected = torch.arange(4) < torch.tensor([1, 2, 3, 2])[:, None]
    assert torch.equal(before_cut(error)[0], expected)


def test_the_cut_is_connected():
    error = torch.rand(50, 9, 4, generator=torch.Generator().manual_seed(0))
    at = before_cut(error).sum(2)
    assert at.diff(dim=1).abs().max() == 1


def test_the_database_holds_patches_of_the_images():
    with ambient(0):
        x = torch.rand(4, 2, 14, 17)
    method = ImageQuilting(patches=60)
    learner = trained(method, x)
    everything = torch.nn.functional.unfold(x, 5).transpose(1, 2).reshape(-1, 50)
    nearest = torch.cdist(learner.quilt.database, everything).amin(1)
    assert nearest.max() < 0.01
    assert len(learner.quilt.database.unique(dim=0)) > 40


def test_one_step_leaves_no_row_of_the_database_empty():
    with ambient(0):
        x = 0.5 + 0.5 * torch.rand(4, 2, 14, 17)
    learner = trained(ImageQuilting(patches=60), x, steps=1)
    everything = torch.nn.functional.unfold(x, 5).transpose(1, 2).reshape(-1, 50)
    assert torch.cdist(learner.quilt.database, everything).amin(1).max() < 0.01
    assert learner.outcome().purifier(0.1 * x).min() >= 0.5


def test_an_image_whose_patches_are_known_comes_back():
    """With one nearest patch and every patch in the database, the quilt is the image."""
    with ambient(0):
        x = torch.rand(2, 2, 14, 17)
    method = ImageQuilting(patches=2 * 10 * 13, nearest=1)
    quilt = Quilt(method, 2)
    quilt.database.copy_(torch.nn.functional.unfold(x, 5).transpose(1, 2).reshape(-1, 50))
    torch.testing.assert_close(quilt(x), x)


def test_perturbed_images_are_pieced_together_from_clean_pixels():
    with ambient(0):
        x = (torch.rand(4, 2, 14, 17) > 0.5).float()
        noisy = (x + 0.1 * torch.randn_like(x)).clamp(0, 1)
    quilt = trained(ImageQuilting(patches=500, nearest=3), x).outcome().purifier
    assert set(quilt(noisy).unique().tolist()) == {0.0, 1.0}
    assert not torch.equal(quilt(noisy), quilt(noisy, draw=1))


def test_unusable_settings_raise():
    with pytest.raises(ValueError, match="overlap must be below patch, got 5 and 5"):
        ImageQuilting(overlap=5)
    with pytest.raises(ValueError, match="nearest must be at most patches, got 10 and 4"):
        ImageQuilting(patches=4)
    with pytest.raises(ValueError, match="patch is 20 and the images have shape"):
        learner_of(ImageQuilting(patch=20))
