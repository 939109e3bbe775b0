"""Short trainings of G and E: time per step, effect of CUDA graphs, and learning rates."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from cuda_graphs import graphs
from torch import nn

from spearshield.dataset import Dataset
from spearshield.method import Task
from spearshield.methods.defense_gan import Reconstructor
from spearshield.methods.encoder_projection import EncoderProjection, EncoderProjectionLearner
from spearshield.nets.latent_projection import LatentSearchSettings, squared_error
from spearshield.rng import Rng
from spearshield.training.loop import Training, train
from spearshield.types import Images


class ShortTrainings:
    """Short trainings of one method on one data set.

    Args:
        options: ``device``, ``graphs``, ``short`` and ``data_dir`` of the command line.
        data: Its first 500 validation images measure the squared error.
    """

    def __init__(
        self, options: argparse.Namespace, data: Dataset, method: EncoderProjection
    ) -> None:
        self.device = options.device
        self.graphs = options.graphs
        self.warm, self.steps = (5, 10) if options.short else (30, 100)
        self.bfloat16 = False
        self.method = method
        self.images = data.load("train", root=options.data_dir)
        self.validation = data.load("validation", root=options.data_dir)[:500]
        unused = nn.Identity()
        self.task = Task(unused, unused, self.images.shape, self.images.classes)

    def seconds(self, network: str, batch: int, bfloat16: bool) -> float:
        """Seconds per step, after some steps that are not timed."""
        total = self.warm + self.steps
        gan_steps = 1 if network == "encoder" else total
        method = replace(self.method, gan_steps=gan_steps, encoder_steps=total)
        return self._timed(method, batch, self.warm, total, self.graphs, bfloat16)[1]

    def graph_difference(self, batch: int) -> float:
        """The distance between G by graphs and G without, relative to the distance it has moved."""
        steps = 2 * self.steps // 3
        start, without, by_graphs = (
            self._weights(batch, taken, record)
            for taken, record in ((1, False), (steps, False), (steps, True))
        )
        return float((by_graphs - without).norm() / (without - start).norm())

    def _weights(self, batch: int, steps: int, record: bool) -> torch.Tensor:
        learner, _ = self._timed(self.method, batch, 0, steps, record, bfloat16=False)
        return torch.cat([value.detach().flatten() for value in learner.G.parameters()])

    def trial(self, lr: float, batch: int, steps: int) -> dict[str, Any]:
        """The squared error after a short training of G, whose learning rate decays to zero.

        It is ``None`` if the training diverged.
        """
        gan = replace(self.method.gan, lr=lr, decay_steps=steps)
        method = replace(self.method, gan=gan, gan_steps=steps)
        error = seconds = None
        try:
            learner, seconds = self._timed(
                method, batch, steps // 10, steps, self.graphs, self.bfloat16
            )
            error = self.search_error(learner.G)
        except ValueError as diverged:
            print(diverged, flush=True)
        return {"lr": lr, "steps": steps, "squared_error": error, "seconds_per_step": seconds}

    def _timed(
        self,
        method: EncoderProjection,
        batch: int,
        warm: int,
        steps: int,
        record: bool,
        bfloat16: bool,
    ) -> tuple[EncoderProjectionLearner, float]:
        """The learner after ``steps`` steps, and seconds per step after step ``warm + 1``."""
        times, timed = [], steps - 1 - warm

        def bar(done: int, values: Mapping[str, float]) -> None:  # noqa: ARG001
            if done in (warm + 1, steps):
                if self.device == "cuda":
                    torch.cuda.synchronize()
                times.append(time.perf_counter())

        with graphs(record=record, bfloat16=bfloat16):
            learner = train(
                Training(method, steps, batch_size=batch),
                self.task,
                lambda: self.images,
                seed=0,
                device=self.device,
                progress=lambda title, total: bar,
            )
        return learner, (times[-1] - times[0]) / timed if timed else 0.0

    def search_error(self, generator: nn.Module) -> float:
        """The mean squared error of the search with the settings of Orig."""
        search = LatentSearchSettings(steps=25, z_std=1.0, chunk=5_000)
        purifier = Reconstructor(generator, self.method.gan.latent, search)
        rng = Rng(0, self.validation.ids.to(self.device))
        return self.error(purifier, lambda x: purifier.purify(x, rng))

    def error(self, purifier: nn.Module, purify: Callable[[Images], Images] | None = None) -> float:
        """The mean squared error of purified validation images."""
        x = self.validation.images(self.device)
        purifier.to(self.device).eval()
        with torch.no_grad():
            return float(squared_error((purify or purifier)(x), x).mean())
