"""UIPD: a universal inverse perturbation, one for all images.

Universal inverse perturbation (UIP) defence, Acta Automatica Sinica.
https://doi.org/10.16383/j.aas.c201077

    f  classifier                                   it does not change
    u  universal inverse perturbation               the purifier adds it: x_hat = clip(x + u)
    G  generator    z -> u,  z a fixed latent       or u itself is trained

    L = CE(f(clip(x + u)), y)   on clean images;    u in the threat model

No adversarial image is used. An attacker who subtracts u from his images meets the bare classifier.

Differences from the paper. Only its abstract was available: the perturbation is learned from
features of clean data that are relevant to the classes, is added to any image, and raises clean
accuracy. The loss, the bound of u, the generator and the optimiser are reconstructed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from spearshield.method import Learner, Method, Outcome, Paper, Task, frozen
from spearshield.nets.inverse_perturbation import Translation, UniversalGenerator
from spearshield.ranges import require
from spearshield.rng import Rng
from spearshield.threat import Linf, ThreatModel
from spearshield.training.classifier_training import accuracy
from spearshield.training.optim import minimise
from spearshield.types import Images, Labels, Shape


@dataclass(frozen=True)
class UIPD(Method):
    """Hyper-parameters of the universal inverse perturbation.

    Args:
        threat: The set of allowed perturbations u.
        source: ``generator``: u is the output of a network; ``pixels``: the pixels of u are
            trained.
        latent: Length of the generator's latent.
        width: Channels of the generator before its last layer.
        lr: Learning rate of Adam.

    Raises:
        ValueError: A number is out of range.
    """

    paper = Paper(
        "Universal inverse perturbation defense, Acta Automatica Sinica",
        "",
        2023,
        "https://doi.org/10.16383/j.aas.c201077",
    )

    threat: ThreatModel = Linf(0.3)  # noqa: RUF009 - a frozen value
    source: Literal["generator", "pixels"] = "generator"
    latent: int = 64
    width: int = 32
    lr: float = 1e-3

    def __post_init__(self) -> None:
        ThreatModel.check(self.threat)
        require(self, "source", one_of=("generator", "pixels"))
        require(self, "latent", "width", at_least=1)
        require(self, "lr", at_least=0)

    def learner(self, task: Task) -> UIPDLearner:
        return UIPDLearner(self, task)


class UIPDLearner(Learner):
    def __init__(self, method: UIPD, task: Task) -> None:
        super().__init__()
        self.method = method
        self.task = task
        self.G: nn.Module = (
            UniversalGenerator(task.shape, method.latent, method.width)
            if method.source == "generator"
            else Pixels(task.shape)
        )
        self.optimiser = torch.optim.Adam(self.G.parameters(), method.lr)

    def step(self, x: Images, y: Labels, *, rng: Rng) -> Mapping[str, float]:  # noqa: ARG002
        logits = frozen(self.task.classifier)((x + self.u()).clamp(0, 1))
        loss = cross_entropy(logits, y)
        minimise(self.optimiser, loss)
        return {"cross_entropy": loss.item(), "accuracy": accuracy(logits, y)}

    def u(self) -> Tensor:
        """The universal inverse perturbation, inside the threat model."""
        u: Tensor = self.G()
        return self.method.threat.clip(self.method.threat.eps * u)

    def outcome(self) -> Outcome:
        with torch.no_grad():
            u = self.u().detach().clone()
        return Outcome(self.task.classifier, purifier=Translation(u).eval())


class Pixels(nn.Module):
    """A perturbation whose pixels are the weights; it starts at zero."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.pixels = nn.Parameter(torch.zeros(1, *shape))

    def forward(self) -> Tensor:
        return self.pixels.tanh()
