"""GRIP-GAN: inverse perturbations that are trained on noise, without attacks.

General robust inverse perturbation, a method in the table of Zhang, Zhang, Song, Yang, Zuo,
"IP-GAN", Acta Electronica Sinica, 2023, no. 4, pp. 879-884. https://www.ejournal.org.cn

    f  classifier     it does not change
    G  generator      image -> inverse perturbation;  the purifier is x_hat = clip(x + G(x))

    x_noisy = clip(x + s n),  n ~ N(0, 1) for each pixel,  s ~ U(0, noise) for each image
    x_hat   = clip(x_noisy + G(x_noisy))

The losses are those of IP-GAN: see :mod:`spearshield.training.guided_purifier`.

Differences from the paper. Its text was not available. Known is that it adds random noise to real
images and generates a general robust inverse perturbation. Everything else is reconstructed: it is
IP-GAN with noise in place of adversarial images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from spearshield.method import Outcome, Paper, Task
from spearshield.ranges import require
from spearshield.rng import Rng
from spearshield.training.guided_purifier import GuidedPurifierLearner, GuidedPurifierTraining
from spearshield.types import Images, Labels


@dataclass(frozen=True)
class GRIPGAN(GuidedPurifierTraining):
    """Hyper-parameters of GRIP-GAN; further settings are those of ``GuidedPurifierTraining``.

    Args:
        noise: Largest standard deviation of the noise, on the [0, 1] pixel scale.

    Raises:
        ValueError: A number is out of range.
    """

    paper = Paper(
        "IP-GAN: inverse perturbation fusing generative adversarial network",
        "Zhang, Shihui and Zhang, Xiaowei and Song, Dandan and Yang, Yongliang and Zuo, Dongxu",
        2023,
        "https://www.ejournal.org.cn",
    )

    noise: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "noise", at_least=0)

    def learner(self, task: Task) -> GRIPGANLearner:
        return GRIPGANLearner(self, task)


class GRIPGANLearner(GuidedPurifierLearner):
    def step(self, x: Images, y: Labels, *, rng: Rng) -> Mapping[str, float]:
        s = self.method.noise * rng.fold(0).uniform((1, 1, 1))
        x_noisy = (x + s * rng.fold(1).normal(x.shape[1:])).clamp(0, 1)
        losses, _ = self.restore(self.task.classifier, x_noisy, x, y)
        return losses

    def outcome(self) -> Outcome:
        return Outcome(self.task.classifier, purifier=self.G.eval())
