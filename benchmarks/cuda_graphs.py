"""The training steps of the encoder projection as CUDA graphs.

An update of a small network is hundreds of short kernels, and takes as long as the CPU needs to
launch them. Here each kind of update (of D, G and E) is recorded once and replayed. The images, the
learning rates and the key of the randomness are tensors at fixed addresses, which each replay reads
anew; the random draws are those of :class:`~spearshield.rng.Rng`. The losses are copied to the CPU
at every ``FETCH``-th step only, because a copy waits for the GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from spearshield.methods.encoder_projection import EncoderProjectionLearner
from spearshield.rng import _GOLDEN, Rng, _mix, _signed
from spearshield.training.optim import cosine, set_lr

WARM = 3
"""Updates of each kind before it is recorded."""
FETCH = 100
"""Steps between two copies of the losses to the CPU."""


class KeyedRng(Rng):
    """The draws of :class:`Rng` with a tensor as the key, which a replay can read anew."""

    def __init__(self, key: Tensor, ids: Tensor) -> None:
        object.__setattr__(self, "key", key)
        object.__setattr__(self, "ids", ids)

    def fold(self, value: int) -> KeyedRng:
        other = value + 1 if value >= 0 else value
        return KeyedRng(_mix(self.key + _signed(_GOLDEN * other)), self.ids)

    def __getitem__(self, index: Tensor | slice) -> KeyedRng:
        return KeyedRng(self.key, self.ids[index])

    def _bits(self, shape: torch.Size | tuple[int, ...]) -> Tensor:
        count = 1
        for size in shape:
            count *= size
        image = _mix(_mix(self.ids * _signed(_GOLDEN)) + self.key)
        place = (torch.arange(count, device=self.ids.device) + 1) * _signed(_GOLDEN)
        return _mix(image[:, None] + place).reshape(len(self.ids), *shape)


class Updates:
    """The updates of one learner, on batches of one size.

    Args:
        x: The first batch of images.
        record: If true, updates are replayed as CUDA graphs; else, and on a CPU, they are computed
            kernel by kernel.
        bfloat16: If true, G and D multiply in bfloat16 (autocast); E never does.
    """

    def __init__(
        self, learner: EncoderProjectionLearner, x: Tensor, record: bool, bfloat16: bool
    ) -> None:
        self.learner = learner
        self.record = record and x.is_cuda
        self.bfloat16 = bfloat16
        self.taken = int(learner.taken)
        self.x = torch.empty_like(x)
        self.ids = torch.zeros(len(x), dtype=torch.long, device=x.device)
        self.key = torch.zeros((), dtype=torch.long, device=x.device)
        self.rng = KeyedRng(self.key, self.ids)
        self.kinds: dict[str, Callable[[], dict[str, Tensor]]] = {
            "critic": lambda: learner.update_critic(self.x, self.rng),
            "generator": lambda: learner.update_generator(self.rng),
            "encoder": lambda: learner.update_encoder(self.x, self.rng),
        }
        self.graphs: dict[str, tuple[Any, dict[str, Tensor]]] = {}
        self.done = dict.fromkeys(self.kinds, 0)
        self.side = torch.cuda.Stream() if x.is_cuda else None
        if x.is_cuda:
            for optimiser in learner._optimisers().values():
                (group,) = optimiser.param_groups
                group["capturable"] = True
                group["lr"] = torch.tensor(float(group["lr"]), device=x.device)

    def step(self, x: Tensor, rng: Rng) -> Mapping[str, float]:
        """One training step; its losses, or an empty mapping where they are not fetched."""
        gan, method, learner = self.learner.method, self.learner.encoder, self.learner
        self.x.copy_(x)
        self.ids.copy_(rng.ids)
        self.key.fill_(_signed(rng.key))
        taken = self.taken
        self.taken += 1
        learner.taken += 1
        if taken < method.gan_steps:
            lr = cosine(gan.lr, taken, gan.decay_steps)
            self._set_lr(lr, learner.opt_g, learner.opt_d)
            losses = self._update("critic")
            if (taken + 1) % gan.critic_steps == 0:
                losses = losses | self._update("generator")
        else:
            lr = cosine(method.lr, taken - method.gan_steps, method.encoder_steps)
            self._set_lr(lr, learner.opt_e)
            losses = self._update("encoder")
        if (taken + 1) % FETCH:
            return {}
        return {name: value.item() for name, value in losses.items()}

    def _set_lr(self, lr: float, *optimisers: torch.optim.Optimizer) -> None:
        if not self.x.is_cuda:
            set_lr(lr, *optimisers)
            return
        for optimiser in optimisers:
            (group,) = optimiser.param_groups
            group["lr"].fill_(lr)  # in place, because the graph reads this address

    def _update(self, kind: str) -> dict[str, Tensor]:
        self.done[kind] += 1
        if not self.record:
            return self._compute(kind)
        if self.done[kind] <= WARM:
            assert self.side is not None
            self.side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.side):
                losses = self._compute(kind)
            torch.cuda.current_stream().wait_stream(self.side)
            return losses
        if kind not in self.graphs:
            graph = torch.cuda.CUDAGraph()
            torch.cuda.synchronize()
            with torch.cuda.graph(graph):
                losses = self._compute(kind)
            self.graphs[kind] = graph, losses
        graph, losses = self.graphs[kind]
        graph.replay()
        return losses

    def _compute(self, kind: str) -> dict[str, Tensor]:
        enabled = self.bfloat16 and kind != "encoder"
        with torch.autocast(
            self.x.device.type, torch.bfloat16, enabled=enabled, cache_enabled=False
        ):
            return self.kinds[kind]()


@contextmanager
def graphs(*, record: bool, bfloat16: bool) -> Iterator[None]:
    """Inside the block, learners of the encoder projection take their steps by :class:`Updates`."""

    def step(
        self: EncoderProjectionLearner,
        x: Tensor,
        y: Tensor,  # noqa: ARG001
        *,
        rng: Rng,
    ) -> Mapping[str, float]:
        if "updates" not in vars(self):
            object.__setattr__(self, "updates", Updates(self, x, record, bfloat16))
        return self.updates.step(x, rng)

    before = EncoderProjectionLearner.step
    EncoderProjectionLearner.step = step  # type: ignore[method-assign]
    try:
        yield
    finally:
        EncoderProjectionLearner.step = before  # type: ignore[method-assign]
