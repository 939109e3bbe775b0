"""Time of one step of Defense-GAN's search: as it is, in bfloat16, and compiled.

    python benchmarks/projection_step.py --gan FILE --width 16 --out FILE

A step is the image of each latent and the gradient of its squared error. The three variants take
turns on one thread; the time is the median process time of the rounds. ``error`` is the distance of
the gradient from the gradient of the step as it is, relative to its norm.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from spearshield.classifiers.lenet import LeNet
from spearshield.method import Task, frozen
from spearshield.methods.defense_gan import DefenseGAN
from spearshield.storage.atomic import write_json


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--gan", required=True, help="weights of G")
    options.add_argument("--width", type=int, default=64)
    options.add_argument("--latents", type=int, nargs="+", default=[50, 500])
    options.add_argument("--rounds", type=int, default=20)
    options.add_argument("--out", type=Path, required=True)
    given = options.parse_args()
    torch.set_num_threads(1)
    lines: list[dict[str, Any]] = []
    for n in given.latents:
        lines += compared(given.gan, given.width, n, given.rounds)
        write_json(given.out, lines)


def compared(gan: str, width: int, n: int, rounds: int) -> list[dict[str, Any]]:
    shape = (1, 28, 28)
    unused = LeNet().build(shape, 10)
    learner = DefenseGAN(width, weights=gan).learner(Task(unused, unused, shape, 10))
    learner.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    generator = frozen(learner.G)

    def in_bfloat16(z: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return generator(z)

    searches: dict[str, Callable[[Tensor], Tensor]] = {
        "as it is": generator,
        "bfloat16": in_bfloat16,
        "compiled": torch.compile(learner.G.eval().requires_grad_(False)),
    }
    torch.manual_seed(0)
    z, x = torch.randn(n, learner.method.latent), torch.rand(n, *shape)
    x = x.contiguous(memory_format=torch.channels_last)
    expected = gradient(generator, z, x)
    found = {name: gradient(search, z, x) for name, search in searches.items()}
    seconds: dict[str, list[float]] = {name: [] for name in searches}
    for _ in range(rounds):
        for name, search in searches.items():
            began = time.process_time()
            gradient(search, z, x)
            seconds[name].append(time.process_time() - began)
    return [
        {
            "step": name,
            "latents": n,
            "width": width,
            "milliseconds": 1000 * median(seconds[name]),
            "error": float((found[name] - expected).norm() / expected.norm()),
            "torch": torch.__version__,
            "cpu": torch.backends.cpu.get_cpu_capability(),
        }
        for name in searches
    ]


def gradient(search: Callable[[Tensor], Tensor], z: Tensor, x: Tensor) -> Tensor:
    latents = z.detach().requires_grad_()
    error = (search(latents).float() - x).square().mean((1, 2, 3)).sum()
    return torch.autograd.grad(error, latents)[0]


if __name__ == "__main__":
    main()
