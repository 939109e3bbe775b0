"""Speed and accuracy of Defense-GAN's search, of a port of the release, and of the encoder.

    python benchmarks/projection.py RUN --gan FILE --width 32 --eps 0.3 --out FILE
    python benchmarks/projection.py RUN --gan FILE --device cuda --peak 67e12 --images 10000 \
        --batch 1000 --chunk 10000 --searches same fast --out FILE

FILE holds G and E. The run provides the undefended classifier and the data set, whose first test
images are searched, clean and under FGSM against that classifier. The searches are:

    port   the release's search: 200 steps from 10 starts, written in plain PyTorch
    same   the same search by this package
    short  half of the steps, from the one start E(x)
    fast   the encoder projection: no step

They take turns, batch by batch. On a CPU they use one thread and the time is the process time; on
a GPU it is the wall-clock time, after a search on images of noise that is not timed. The operations
of a search are those of G and of the gradient in its latent, at each step.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from spearshield.attacks.fgsm import FGSM
from spearshield.dataset import Examples
from spearshield.experiment.opened import open_run
from spearshield.method import Task, frozen
from spearshield.methods.defense_gan import DefenseGAN, Reconstructor
from spearshield.methods.encoder_projection import Projector, RefinedProjector
from spearshield.nets.latent_projection import LatentSearchSettings
from spearshield.rng import Rng
from spearshield.storage.atomic import write_json
from spearshield.threat import Linf

STEPS, RESTARTS, BATCH = 200, 10, 50

Search: TypeAlias = Callable[[Tensor], Tensor]
"""Maps images to generated images."""


def main() -> None:
    options = parser().parse_args()
    device = options.device
    torch.set_num_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = options.precision == "tf32"
    torch.backends.cudnn.allow_tf32 = options.precision == "tf32"
    run = open_run(options.run, options.data_dir, device)
    classifier = run.bare.classifier.eval()
    shape, classes = run.data_shape
    learner = DefenseGAN(options.width, options.latent, weights=options.gan).learner(
        Task(classifier, classifier, shape, classes)
    )
    learner.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    settings = {name: settings_of(name, options.chunk) for name in options.searches}
    searches = {
        name: search(name, learner.G, learner.E, options.latent, own)
        for name, own in settings.items()
    }
    once = operations(learner.G, options.latent, device)
    examples = run.recipe.data.load("test", root=options.data_dir, seed=run.recipe.seed)
    examples = examples[: options.images]
    bare, found = take_turns(searches, classifier, examples, options)
    rows = [{"search": name, **row(values, len(examples))} for name, values in found.items()]
    for line, own in zip(rows, settings.values(), strict=True):
        line["times_first"] = round(line["images_per_second"] / rows[0]["images_per_second"], 2)
        rate = line["images_per_second"] * own.steps * own.restarts * once
        line["operations_per_second"] = rate
        line["share_of_peak"] = rate / options.peak if options.peak else None
        print(line)
    about = {
        "images": len(examples),
        "eps": options.eps,
        "width": options.width,
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
        "precision": options.precision,
        "operations_per_step": once,
        "peak": options.peak,
        "without": {kind: number / len(examples) for kind, number in bare.items()},
        "settings": {name: asdict(own) for name, own in settings.items()},
        "torch": torch.__version__,
    }
    write_json(options.out, {**about, "rows": rows})


def settings_of(name: str, chunk: int) -> LatentSearchSettings:
    """The steps and the restarts of one of the four searches."""
    release = LatentSearchSettings(STEPS, RESTARTS, chunk=chunk)
    if name == "short":
        return replace(release, steps=STEPS // 2, restarts=1)
    return replace(release, steps=0, restarts=1) if name == "fast" else release


def take_turns(
    searches: dict[str, Search],
    classifier: nn.Module,
    examples: Examples,
    options: argparse.Namespace,
) -> tuple[dict[str, int], dict[str, dict[str, float]]]:
    """Run all searches on one batch after the other.

    Returns:
        The number of images that the bare classifier classifies correctly, clean and attacked; for
        each search, its time in seconds, the same two numbers, and the sum of squared errors.
    """
    device = options.device
    found = {name: {"seconds": 0.0, "clean": 0, "attacked": 0, "error": 0.0} for name in searches}
    bare = {"clean": 0, "attacked": 0}
    if device == "cuda":
        noise = Rng.of_batch(0, min(options.batch, len(examples)), device).uniform(examples.shape)
        for project in searches.values():
            timed(project, noise, device)
    for first in range(0, len(examples), options.batch):
        part = examples[first : first + options.batch]
        x, y = part.images(device), part.y.to(device)
        x_adv = FGSM(Linf(options.eps))(classifier, x, y, rng=Rng(0, part.ids.to(device)))
        for kind, images in (("clean", x), ("attacked", x_adv)):
            bare[kind] += right(classifier, images, y)
            for name, project in searches.items():
                x_hat, seconds = timed(project, images, device)
                found[name]["seconds"] += seconds
                found[name][kind] += right(classifier, x_hat, y)
                found[name]["error"] += float((x_hat - images).square().mean((1, 2, 3)).sum())
        done = first + len(part)
        print(done, "of", len(examples), row(found[options.searches[0]], done), flush=True)
    return bare, found


def timed(project: Search, x: Tensor, device: str) -> tuple[Tensor, float]:
    """The result of a search, and its time in seconds."""
    began = clock(device)
    with torch.no_grad():
        x_hat = project(x)
    return x_hat, clock(device) - began


def search(
    name: str,
    generator: nn.Module,
    encoder: nn.Module | None,
    latent: int,
    settings: LatentSearchSettings,
) -> Search:
    """One of the four searches."""
    assert encoder is not None
    if name == "port":
        return lambda x: port(generator, latent, x)
    if name == "fast":
        return Projector(generator, encoder, threshold=1.0).eval()
    kind = Reconstructor if name == "same" else RefinedProjector
    return kind(generator, latent, settings, encoder).eval()


def clock(device: str) -> float:
    """Process time in seconds on a CPU, wall-clock time on a GPU once it is idle."""
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def operations(generator: nn.Module, latent: int, device: str) -> float:
    """Operations per latent, of G and of the gradient; a multiplication and an addition are two."""
    z = torch.zeros(1, latent, device=device, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        frozen(generator)(z).square().sum().backward()  # type: ignore[no-untyped-call]
    return float(counter.get_total_flops())


def port(generator: nn.Module, latent: int, x: Tensor) -> Tensor:
    """The release's search on one batch, with all restarts in one batch."""
    generator.requires_grad_(False)
    target = x.repeat_interleave(RESTARTS, 0)
    z = (latent**-0.5 * torch.randn(len(target), latent, device=x.device)).requires_grad_()
    optimiser = torch.optim.SGD([z], lr=10.0, momentum=0.7)
    with torch.enable_grad():
        for _ in range(STEPS):
            optimiser.zero_grad()
            loss = (generator(z) - target).square().mean((1, 2, 3)).sum()
            loss.backward()
            optimiser.step()
    with torch.no_grad():
        x_hat = generator(z)
        errors = (x_hat - target).square().mean((1, 2, 3)).reshape(len(x), RESTARTS)
        places = RESTARTS * torch.arange(len(x), device=x.device)
        best: Tensor = x_hat[errors.argmin(1) + places]
        return best


@torch.no_grad()
def right(classifier: nn.Module, x: Tensor, y: Tensor) -> int:
    return int((classifier(x).argmax(1) == y).sum())


def row(values: dict[str, float], count: int) -> dict[str, Any]:
    return {
        "images_per_second": round(2 * count / values["seconds"], 2),
        "process_seconds": round(values["seconds"], 2),
        "clean": values["clean"] / count,
        "attacked": values["attacked"] / count,
        "squared_error": round(values["error"] / (2 * count), 5),
    }


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("run", type=Path, metavar="RUN")
    options.add_argument("--gan", required=True, metavar="FILE", help="weights of G and E")
    options.add_argument("--width", type=int, default=64)
    options.add_argument("--latent", type=int, default=128)
    options.add_argument("--eps", type=float, default=0.3)
    options.add_argument("--images", type=int, default=1000)
    options.add_argument("--batch", type=int, default=BATCH, help="images per call")
    options.add_argument("--chunk", type=int, default=500, help="latents per batch of a search")
    options.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    options.add_argument("--peak", type=float, help="operations per second, in this precision")
    options.add_argument("--precision", default="float32", choices=["float32", "tf32"])
    options.add_argument(
        "--searches",
        nargs="+",
        default=["port", "same", "short", "fast"],
        choices=["port", "same", "short", "fast"],
    )
    options.add_argument("--data-dir", type=Path)
    options.add_argument("--out", type=Path, required=True)
    return options


if __name__ == "__main__":
    main()
