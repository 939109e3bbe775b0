"""Small networks for the self-test, trained on the embedded digits."""

from __future__ import annotations

from functools import cached_property

from torch import nn

from spearshield.attacks.pgd import PGD
from spearshield.classifiers.small_cnn import SmallCNN
from spearshield.datasets.digits import Digits
from spearshield.method import Method, Task
from spearshield.methods.pgd_adversarial_training import PGDAdversarialTraining
from spearshield.methods.standard_training import StandardTraining
from spearshield.rng import ambient
from spearshield.selftest.layers import Residual
from spearshield.threat import Linf
from spearshield.training.loop import Training, train
from spearshield.types import Images, Labels

THREAT = Linf(0.15)
TRAINING_ATTACK = PGD(THREAT, steps=3, step_size=0.075, early_stop=False)
STEPS = 200
LR = 3e-3


class Networks:
    """Trained networks, and the images that they are audited on. Each is trained when first used.

    Args:
        images: Number of test images.
    """

    def __init__(self, images: int) -> None:
        self.train, self.test = Digits().load("train"), Digits().load("test")[:images]

    @property
    def x(self) -> Images:
        """The test images."""
        return self.test.images()

    @property
    def y(self) -> Labels:
        """The labels of the test images."""
        return self.test.y

    @cached_property
    def plain(self) -> nn.Module:
        """A small convolutional network, trained on clean images."""
        return self._trained(StandardTraining(lr=LR), self._cnn(0))

    @cached_property
    def hardened(self) -> nn.Module:
        """The same network after adversarial training."""
        return self._trained(PGDAdversarialTraining(lr=LR), self._cnn(0))

    @cached_property
    def others(self) -> tuple[nn.Module, nn.Module]:
        """Two networks like ``plain``, from other initial weights."""
        first, second = (self._trained(StandardTraining(lr=LR), self._cnn(k)) for k in (1, 2))
        return first, second

    @cached_property
    def tanh(self) -> nn.Module:
        """A perceptron with tanh."""
        return self._trained(StandardTraining(lr=LR), _perceptron(nn.Tanh()))

    @cached_property
    def gelu(self) -> nn.Module:
        """A perceptron with GELU and dropout."""
        return self._trained(StandardTraining(lr=LR), _perceptron(nn.GELU(), nn.Dropout(0.2)))

    @cached_property
    def residual(self) -> nn.Module:
        """A residual network with batch normalisation."""
        with ambient(0):
            blocks = [Residual(16), Residual(16), nn.AvgPool2d(4), nn.Flatten()]
            network = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), *blocks, nn.Linear(64, 10))
        return self._trained(StandardTraining(lr=LR), network)

    @cached_property
    def pooled(self) -> nn.Module:
        """A perceptron on images of 4x4 pixels."""
        return self._trained(
            StandardTraining(lr=LR), nn.Sequential(nn.AvgPool2d(2), _perceptron(nn.ReLU(), side=4))
        )

    @cached_property
    def members(self) -> tuple[nn.Module, ...]:
        """Three networks of one architecture."""
        return (self.plain, *self.others)

    def _cnn(self, seed: int) -> nn.Module:
        with ambient(seed):
            return SmallCNN().build(self.train.shape, self.train.classes)

    def _trained(self, method: Method, network: nn.Module) -> nn.Module:
        task = Task(network, network, self.train.shape, self.train.classes, TRAINING_ATTACK)
        training = Training(method, STEPS, TRAINING_ATTACK, batch_size=64)
        return train(training, task, lambda: self.train, seed=0).outcome().classifier


def _perceptron(*hidden: nn.Module, side: int = 8) -> nn.Module:
    """A perceptron with one hidden layer for images of ``side`` x ``side`` pixels."""
    with ambient(0):
        return nn.Sequential(nn.Flatten(), nn.Linear(side**2, 100), *hidden, nn.Linear(100, 10))
