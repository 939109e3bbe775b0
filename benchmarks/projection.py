"""The search of Defense-GAN beside a plain port of the reference: images a second, accuracy.

    python benchmarks/projection.py RUN --gan FILE --width 32 --eps 0.3 --out FILE
    python benchmarks/projection.py RUN --gan FILE --device cuda --peak 67e12 --images 10000 \
        --batch 500 --chunk 20000 --searches same fast --out FILE

G and E come from the weights or the checkpoint of a training of ``defense_gan``; images, and the
bare classifier that sees what comes out, from the run. The attacked images are those of FGSM on
that classifier. ``port`` is the release's search written plainly, ``same`` the same search as it is
here; ``short`` starts at E(x) alone and takes half the steps, ``fast`` none. The searches
alternate, batch by batch. On a CPU they run on one thread and time is that of the process; on an
accelerator it is that of the clock. The operations of a search are those of G, forward and to its
latent, at each of its steps.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from spearshield.attacks.fgsm import FGSM
from spearshield.experiment.run import reopen
from spearshield.method import Task, frozen
from spearshield.methods.defense_gan import FAST, DefenseGAN
from spearshield.nets.latent_projection import LatentSearchSettings, Projection
from spearshield.rng import Rng
from spearshield.storage.atomic import write_json
from spearshield.threat import Linf

STEPS, RESTARTS, BATCH = 200, 10, 50


def main() -> None:
    options = parser().parse_args()
    device = options.device
    torch.set_num_threads(1)
    run = reopen(options.run, options.data_dir, device)
    classifier = run.bare.classifier.eval()
    shape, classes = run.data_shape
    learner = DefenseGAN(options.width, options.latent, weights=options.gan).learner(
        Task(classifier, classifier, shape, classes)
    )
    learner.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    release = LatentSearchSettings(STEPS, RESTARTS, chunk=options.chunk)
    fast = replace(FAST, chunk=options.chunk)
    settings = {
        "port": release,
        "same": release,
        "short": replace(fast, steps=STEPS // 2),
        "fast": fast,
    }
    settings = {name: settings[name] for name in options.searches}
    searches: dict[str, Callable[[Tensor], Tensor]] = {
        name: Projection(learner.G, options.latent, descent, learner.E).eval()
        for name, descent in settings.items()
    }
    if "port" in searches:
        searches["port"] = lambda x: port(learner.G, options.latent, x)
    once = operations(learner.G, options.latent, device)
    examples = run.images[: options.images]
    found = {name: {"seconds": 0.0, "clean": 0, "attacked": 0, "error": 0.0} for name in searches}
    bare = {"clean": 0, "attacked": 0}
    for first in range(0, len(examples), options.batch):
        part = examples[first : first + options.batch]
        x, y = part.images(device), part.y.to(device)
        x_adv = FGSM(Linf(options.eps))(classifier, x, y, rng=Rng(0, part.ids.to(device)))
        for kind, images in (("clean", x), ("attacked", x_adv)):
            bare[kind] += right(classifier, images, y)
            for name, search in searches.items():
                began = clock(device)
                with torch.no_grad():
                    x_hat = search(images)
                found[name]["seconds"] += clock(device) - began
                found[name][kind] += right(classifier, x_hat, y)
                found[name]["error"] += float((x_hat - images).square().mean((1, 2, 3)).sum())
        done = first + len(part)
        print(done, "of", len(examples), row(found[options.searches[0]], done), flush=True)
    count = len(examples)
    rows: list[dict[str, Any]] = [
        {"search": name, **row(values, count)} for name, values in found.items()
    ]
    for line, descent in zip(rows, settings.values(), strict=True):
        line["times_first"] = round(line["images_per_second"] / rows[0]["images_per_second"], 2)
        rate = line["images_per_second"] * descent.steps * descent.restarts * once
        line["operations_per_second"] = rate
        line["share_of_peak"] = rate / options.peak if options.peak else None
        print(line)
    about = {
        "images": count,
        "eps": options.eps,
        "width": options.width,
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
        "operations_per_step": once,
        "peak": options.peak,
        "without": {kind: number / count for kind, number in bare.items()},
        "settings": {name: asdict(descent) for name, descent in settings.items()},
        "torch": torch.__version__,
    }
    write_json(options.out, {**about, "rows": rows})


def clock(device: str) -> float:
    """Seconds: of the process, or of the clock once the accelerator is done."""
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def operations(generator: nn.Module, latent: int, device: str) -> float:
    """Of one latent: G's image, and the gradient of its error; a multiply and an add are two."""
    z = torch.zeros(1, latent, device=device, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        frozen(generator)(z).square().sum().backward()  # type: ignore[no-untyped-call]
    return float(counter.get_total_flops())


def port(generator: nn.Module, latent: int, x: Tensor) -> Tensor:
    """The release's search, for one batch: all restarts at once, no gradient of weights."""
    generator.requires_grad_(False)
    goal = x.repeat_interleave(RESTARTS, 0)
    z = (latent**-0.5 * torch.randn(len(goal), latent, device=x.device)).requires_grad_()
    optimiser = torch.optim.SGD([z], lr=10.0, momentum=0.7)
    with torch.enable_grad():
        for _ in range(STEPS):
            optimiser.zero_grad()
            loss = (generator(z) - goal).square().mean((1, 2, 3)).sum()
            loss.backward()
            optimiser.step()
    with torch.no_grad():
        x_hat = generator(z)
        errors = (x_hat - goal).square().mean((1, 2, 3)).reshape(len(x), RESTARTS)
        places = RESTARTS * torch.arange(len(x), device=x.device)
        best: Tensor = x_hat[errors.argmin(1) + places]
        return best


@torch.no_grad()
def right(classifier: nn.Module, x: Tensor, y: Tensor) -> int:
    return int((classifier(x).argmax(1) == y).sum())


def row(values: dict[str, float], count: int) -> dict[str, float]:
    return {
        "images_per_second": round(2 * count / values["seconds"], 2),
        "process_seconds": round(values["seconds"], 2),
        "clean": values["clean"] / count,
        "attacked": values["attacked"] / count,
        "squared_error": round(values["error"] / (2 * count), 5),
    }


def parser() -> argparse.ArgumentParser:
    words = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    words.add_argument("run", type=Path, metavar="RUN")
    words.add_argument("--gan", required=True, metavar="FILE", help="with the weights of G and E")
    words.add_argument("--width", type=int, default=64)
    words.add_argument("--latent", type=int, default=128)
    words.add_argument("--eps", type=float, default=0.3)
    words.add_argument("--images", type=int, default=1000)
    words.add_argument("--batch", type=int, default=BATCH, help="images handed over at a time")
    words.add_argument("--chunk", type=int, default=500, help="latents moved at a time, by ours")
    words.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    words.add_argument("--peak", type=float, help="the device's operations a second, in float32")
    words.add_argument(
        "--searches",
        nargs="+",
        default=["port", "same", "short", "fast"],
        choices=["port", "same", "short", "fast"],
    )
    words.add_argument("--data-dir", type=Path)
    words.add_argument("--out", type=Path, required=True)
    return words


if __name__ == "__main__":
    main()
