"""S2SNets: an autoencoder of structure, whose decoder passes the signal of a classifier.

Folz, Palacio, Hees, Borth, Dengel, "Adversarial Defense based on Structure-to-Signal Autoencoders",
2018. https://arxiv.org/abs/1803.07994

    f  classifier     it does not change
    E  encoder        image -> code, and the positions of its maxima
    D  decoder        code, positions -> image;    the purifier is x_hat = D(E(x))

    structure:  min over E and D of  MSE(D(E(x)), x)          without labels
    signal:     min over D of        CE(f(D(E(x))), y)        E in evaluation mode, and fixed

E has seen no labels, so the gradient of a loss of f loses information about the class on its way
through E. In evaluation nothing is detached, and an attacker differentiates D and E. The positions
of the maxima are piecewise constant, which can hide gradients.

Differences from the paper. Its text was not available; the networks follow the authors' code for
their other paper, https://github.com/spalaciob/s2snets-reconstruction. The loss of the first stage,
the optimiser, the learning rate and the schedules are reconstructed. The paper learns structure
from YFCC100m. As a control without the second stage: ``weights`` and no steps, or
``structure_steps`` alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss

from spearshield.method import Learner, Method, Outcome, Paper, Task, frozen
from spearshield.nets.segnet import VGG16, Decoder, Encoder, SegNet, stages_for
from spearshield.ranges import require
from spearshield.rng import Rng
from spearshield.storage.tensor_files import read_groups
from spearshield.storage.weights import load_part
from spearshield.training.classifier_training import accuracy
from spearshield.training.optim import cosine, minimise, set_lr
from spearshield.types import Images, Labels


@dataclass(frozen=True)
class S2SNets(Method):
    """Hyper-parameters of S2SNets. The defaults of the networks are the paper's for 256 pixels.

    Args:
        width: Channels of the first stage of E and of the last one of D.
        stages: Number of stages, from 1 to 5; ``None``: as many as leave a code of at least 3x3
            pixels, so 3 for images of 28 or 32 pixels, and 5 from 96 pixels on.
        structure_steps: Number of steps, from the first, that train E and D on structure; all later
            steps train D on the signal.
        decay_steps: Steps of each stage over which its learning rate decays to zero on a half
            cosine; 0: it is constant.
        lr: Learning rate of Adam for structure.
        signal_lr: Learning rate of Adam for the signal.
        vgg16: A file with the weights of torchvision's VGG16, whose convolutions E starts from.
        weights: A file with E and D from the first stage: a checkpoint of ``s2snets``, or the
            weights of its purifier.

    Raises:
        ValueError: A number is out of range, or ``weights`` and ``structure_steps`` are both given.
            At the start of training: a file does not fit.
    """

    paper = Paper(
        "Adversarial Defense based on Structure-to-Signal Autoencoders",
        "Folz, Joachim and Palacio, Sebastian and Hees, Joern and Borth, Damian and Dengel, "
        "Andreas",
        2018,
        "https://arxiv.org/abs/1803.07994",
    )

    width: int = 64
    stages: int | None = None
    structure_steps: int = 0
    decay_steps: int = 0
    lr: float = 1e-3
    signal_lr: float = 1e-4
    vgg16: str = ""
    weights: str = ""

    def __post_init__(self) -> None:
        require(self, "width", at_least=1)
        require(self, "stages", at_least=1, at_most=len(VGG16))
        require(self, "structure_steps", "decay_steps", "lr", "signal_lr", at_least=0)
        if self.weights and (self.structure_steps or self.vgg16):
            raise ValueError(
                "weights are those of a finished first stage; set structure_steps=0 and no vgg16"
            )

    def for_steps(self, steps: int) -> S2SNets:
        """The same method for ``steps`` steps: half train structure, unless it is loaded."""
        structure = 0 if self.weights else steps // 2
        return replace(self, structure_steps=structure, decay_steps=steps - structure)

    def learner(self, task: Task) -> S2SNetsLearner:
        return S2SNetsLearner(self, task)


class S2SNetsLearner(Learner):
    taken: Tensor

    def __init__(self, method: S2SNets, task: Task) -> None:
        super().__init__()
        self.method = method
        self.task = task
        channels, *sides = task.shape
        stages = method.stages or stages_for(min(sides))
        self.E = Encoder(channels, method.width, stages)
        self.D = Decoder(channels, method.width, stages)
        if method.vgg16:
            (tensors,) = read_groups(Path(method.vgg16)).values()
            self.E.transplant(tensors)
        if method.weights:
            path = Path(method.weights)
            if not (load_part(self.E, "E", path) and load_part(self.D, "D", path)):
                raise ValueError(f"{path} holds no E and D; give a checkpoint of s2snets")
        self.opt_e = torch.optim.Adam(self.E.parameters(), method.lr)
        self.opt_d = torch.optim.Adam(self.D.parameters(), method.lr)
        self.opt_signal = torch.optim.Adam(self.D.parameters(), method.signal_lr)
        self.register_buffer("taken", torch.tensor(0))

    @property
    def least_steps(self) -> int:
        return 0 if self.method.weights else 1

    def step(self, x: Images, y: Labels, *, rng: Rng) -> Mapping[str, float]:  # noqa: ARG002
        method, taken = self.method, int(self.taken)
        self.taken += 1
        if taken < method.structure_steps:
            return self.step_structure(x, taken)
        return self.step_signal(x, y, taken - method.structure_steps)

    def step_structure(self, x: Images, taken: int) -> Mapping[str, float]:
        """Update E and D: the same image."""
        set_lr(cosine(self.method.lr, taken, self.method.decay_steps), self.opt_e, self.opt_d)
        loss = mse_loss(self.D.train()(*self.E.train()(x)), x)
        self.opt_e.zero_grad()
        minimise(self.opt_d, loss)
        self.opt_e.step()
        return {"mse": loss.item()}

    def step_signal(self, x: Images, y: Labels, taken: int) -> Mapping[str, float]:
        """Update D: the class that f predicts."""
        set_lr(cosine(self.method.signal_lr, taken, self.method.decay_steps), self.opt_signal)
        with torch.no_grad():
            code, positions = self.E.eval()(x)
        x_hat = self.D.train()(code, positions).clamp(0, 1)
        logits = frozen(self.task.classifier)(x_hat)
        loss = cross_entropy(logits, y)
        minimise(self.opt_signal, loss)
        return {"cross_entropy": loss.item(), "accuracy": accuracy(logits, y)}

    def outcome(self) -> Outcome:
        return Outcome(self.task.classifier, purifier=SegNet(self.E, self.D).eval())
