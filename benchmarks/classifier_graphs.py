"""The training steps of classifiers as CUDA graphs.

A step of adversarial training of a small network is a thousand short kernels, and takes as long as
the CPU needs to launch them. Inside :func:`classifier_graphs`, a step is recorded and replayed, and
recorded anew at every ``RENEW``-th step while eps grows. The images, labels, learning rates, the
decay of the average and the key of the randomness are tensors at fixed addresses, which each replay
reads anew. The losses are copied to the CPU at every ``FETCH``-th step only, and the overfitting
alarm does not measure.

Learners whose steps copy numbers to the CPU, or decide on the CPU how to go on, take their steps
kernel by kernel, see :func:`recordable`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from cuda_graphs import FETCH, WARM, KeyedRng
from torch import Tensor, nn

from spearshield import gradients
from spearshield.adversary import Attack
from spearshield.attacks.pgd import PGD
from spearshield.methods import l2l, learned_adversary
from spearshield.methods.atta import ATTALearner, PerturbationMemory
from spearshield.methods.fgsm_rs import FGSMRSLearner
from spearshield.methods.ibp import IBPLearner
from spearshield.methods.l2l import L2LLearner
from spearshield.methods.learned_adversary import LearnedAdversaryLearner
from spearshield.methods.n_fgsm import NFGSMLearner
from spearshield.methods.pgd_adversarial_training import PGDAdversarialLearner
from spearshield.methods.standard_training import StandardLearner
from spearshield.methods.trades import TRADESLearner
from spearshield.rng import Rng, _signed
from spearshield.training import classifier_training
from spearshield.training.classifier_training import ClassifierLearner
from spearshield.types import Images, Labels

RECORDED = (
    StandardLearner,
    PGDAdversarialLearner,
    ATTALearner,
    TRADESLearner,
    FGSMRSLearner,
    NFGSMLearner,
    LearnedAdversaryLearner,
    L2LLearner,
    IBPLearner,
)

RENEW = 10
"""Steps after which the graph is recorded anew while eps grows."""

HIGHEST_ID = 69_999
"""The highest identifier of an image of MNIST, for the memory of ATTA."""

Step = Callable[..., Mapping[str, Any]]


class Unread(float):
    """A loss of a recorded step. NaN stands for it while a graph is recorded."""

    def __new__(cls, tensor: Tensor) -> Unread:
        number = super().__new__(cls, math.nan if tensor.is_cuda else tensor.tolist())
        number.tensor = tensor.detach()
        return number

    tensor: Tensor

    def __neg__(self) -> Unread:
        return Unread(-self.tensor)


class Recording:
    """The steps of one learner, on batches of one size."""

    def __init__(self, learner: ClassifierLearner, step: Step, x: Images, y: Labels) -> None:
        self.learner, self.step = learner, step
        self.x, self.y = torch.empty_like(x), torch.empty_like(y)
        self.ids = torch.zeros_like(y)
        self.key = torch.zeros((), dtype=torch.long, device=x.device)
        self.kept = torch.zeros((), device=x.device)
        self.rates: list[tuple[float, Tensor]] = []
        self.graph: Any = None
        self.losses: Mapping[str, Unread] = {}
        self.warm = self.recorded = 0
        learner.taken = learner.taken.cpu()  # reading it does not wait for the GPU
        if x.is_cuda:  # convolutions take less time
            learner.classifier.to(memory_format=torch.channels_last)
        if isinstance(learner, ATTALearner):
            learner.memory.grow(torch.tensor([HIGHEST_ID], device=x.device))
        for value in vars(learner).values():
            if isinstance(value, torch.optim.Optimizer):
                for group in value.param_groups:
                    group["capturable"] = x.is_cuda
                    group["lr"] = torch.tensor(float(group["lr"]), device=x.device)
                for state in value.state.values():  # of a training that is resumed
                    state["step"] = state["step"].to(x.device)

    def __call__(self, x: Images, y: Labels, rng: Rng) -> Mapping[str, float]:
        """One training step; its losses, or an empty mapping where they are not fetched."""
        learner = self.learner
        taken = int(learner.taken)
        if self.warm < WARM:
            self.warm += 1
            with rates_set_by(self.fill):
                return self.step(learner, x, y, rng=rng)
        self.x.copy_(x)
        self.y.copy_(y)
        self.ids.copy_(rng.ids)
        self.key.fill_(_signed(rng.key))
        warmup = getattr(learner.method, "warmup_steps", 0)
        due = taken - self.recorded >= RENEW or taken == warmup
        if self.graph is None or (taken <= warmup and due):
            self.record()
            self.recorded = taken
            learner.taken.fill_(taken)
        for factor, rate in self.rates:
            rate.fill_(factor * learner.decay)
        self.kept.fill_(1 - min(learner.method.average, taken / (taken + 9)))
        self.graph.replay()
        learner.taken += 1
        if (taken + 1) % FETCH:
            return {}
        return {name: value.tensor.item() for name, value in self.losses.items()}

    def record(self) -> None:
        """Record the graph of a step, without taking it."""
        for value in vars(self.learner).values():
            if isinstance(value, torch.optim.Optimizer):
                value.zero_grad(set_to_none=True)
        torch.cuda.synchronize()
        self.graph, self.rates = torch.cuda.CUDAGraph(), []
        with self.without_waiting(), torch.cuda.graph(self.graph):
            self.compute()

    def compute(self) -> None:
        """The step on the tensors at fixed addresses."""
        self.losses = self.step(self.learner, self.x, self.y, rng=KeyedRng(self.key, self.ids))

    @contextmanager
    def without_waiting(self) -> Iterator[None]:
        """Inside the block, a step copies no number between the CPU and the GPU."""
        with ExitStack() as patches:
            patches.enter_context(rates_set_by(self.keep_rate))
            for owner, name, value in (
                (gradients, "finite", lambda gradient: gradient),
                (Tensor, "item", lambda tensor: Unread(tensor)),  # noqa: PLW0108 - a method
                (PerturbationMemory, "grow", lambda memory, ids: None),
                (Attack, "__call__", unchecked),
                (classifier_training, "move_towards", self.move_towards),
            ):
                patches.enter_context(patch.object(owner, name, value))
            yield

    @staticmethod
    def fill(lr: float, *optimisers: torch.optim.Optimizer) -> None:
        """Set a learning rate in place, because the graph reads this address."""
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["lr"].fill_(lr)

    def keep_rate(self, lr: float, *optimisers: torch.optim.Optimizer) -> None:
        """Note the learning rate as a multiple of the schedule, for each replay."""
        factor = lr / self.learner.decay
        for optimiser in optimisers:
            self.rates += [(factor, group["lr"]) for group in optimiser.param_groups]

    @torch.no_grad()
    def move_towards(self, averaged: nn.Module, network: nn.Module, decay: float) -> None:  # noqa: ARG002
        """The average of the weights, with a decay that each replay reads anew."""
        for mean, weight in zip(averaged.parameters(), network.parameters(), strict=True):
            mean.lerp_(weight, self.kept)
        for old, new in zip(averaged.buffers(), network.buffers(), strict=True):
            old.copy_(new)


@contextmanager
def rates_set_by(set_lr: Callable[..., None]) -> Iterator[None]:
    """Inside the block, trainings set their learning rates by ``set_lr``."""
    with ExitStack() as patches:
        for module in (classifier_training, l2l, learned_adversary):
            patches.enter_context(patch.object(module, "set_lr", set_lr))
        yield


def unchecked(attack: Attack, model: Any, x: Images, y: Labels, *, rng: Rng) -> Images:
    """The images of an attack, without the checks that wait for the GPU."""
    return attack.perturb(model, x.detach(), y, rng).detach()


def recordable(learner: ClassifierLearner) -> bool:
    """True if all steps of a learner launch the same kernels, without waiting for the GPU."""
    method = learner.method
    if isinstance(learner, PGDAdversarialLearner):
        attack = learner.attack
        if not isinstance(attack, PGD) or attack.early_stop or attack.restarts > 1:
            return False
    if isinstance(learner, LearnedAdversaryLearner) and (method.generators > 1 or method.replay):
        return False
    return type(learner) in RECORDED and method.optimiser == "adam"


@contextmanager
def classifier_graphs() -> Iterator[None]:
    """Inside the block, recordable learners on a GPU replay their steps; no alarm measures."""
    with ExitStack() as patches:
        patches.enter_context(patch.object(ClassifierLearner, "watched", lambda *_: {}))
        for kind in RECORDED:
            patches.enter_context(patch.object(kind, "step", recorded(kind.step)))
        yield


def recorded(step: Step) -> Step:
    """A method ``step`` that replays ``step``."""

    def replayed(self: ClassifierLearner, x: Images, y: Labels, *, rng: Rng) -> Mapping[str, float]:
        if not x.is_cuda or not recordable(self):
            return step(self, x, y, rng=rng)
        if "recording" not in vars(self):
            object.__setattr__(self, "recording", Recording(self, step, x, y))
        return self.recording(x, y, rng)

    return replayed
