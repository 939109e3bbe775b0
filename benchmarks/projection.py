"""The search of Defense-GAN beside a plain port of the reference: images a second, accuracy.

    python benchmarks/projection.py RUN --gan FILE --width 32 --eps 0.3 --out FILE

G and E come from the weights or the checkpoint of a training of ``defense_gan``; images, and the
bare classifier that sees what comes out, from the run. The attacked images are those of FGSM on
that classifier. The searches alternate, batch by batch, on one thread; time is that of the process.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from spearshield.atomic import write_json
from spearshield.attacks.fgsm import FGSM
from spearshield.method import Task
from spearshield.methods.defense_gan import FAST, DefenseGAN
from spearshield.projection import Descent, Projection
from spearshield.rng import Rng
from spearshield.run import reopen
from spearshield.threat import Linf

STEPS, RESTARTS, BATCH = 200, 10, 50


def main() -> None:
    options = parser().parse_args()
    torch.set_num_threads(1)
    run = reopen(options.run, options.data_dir)
    classifier = run.bare.classifier.eval()
    shape, classes = run.frame
    learner = DefenseGAN(options.width, options.latent, weights=options.gan).learner(
        Task(classifier, classifier, shape, classes)
    )
    learner.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    searches: dict[str, Callable[[Tensor], Tensor]] = {
        "port": lambda x: port(learner.G, options.latent, x)
    }
    settings = {"same": Descent(STEPS, RESTARTS), "fast": FAST}
    for name, descent in settings.items():
        searches[name] = Projection(learner.G, options.latent, descent, learner.E).eval()
    examples = run.images[: options.images]
    found = {name: {"seconds": 0.0, "clean": 0, "attacked": 0, "error": 0.0} for name in searches}
    bare = {"clean": 0, "attacked": 0}
    for first in range(0, len(examples), BATCH):
        part = examples[first : first + BATCH]
        x, y = part.images(), part.y
        x_adv = FGSM(Linf(options.eps))(classifier, x, y, rng=Rng(0, part.ids))
        for kind, images in (("clean", x), ("attacked", x_adv)):
            bare[kind] += right(classifier, images, y)
            for name, search in searches.items():
                began = time.process_time()
                with torch.no_grad():
                    x_hat = search(images)
                found[name]["seconds"] += time.process_time() - began
                found[name][kind] += right(classifier, x_hat, y)
                found[name]["error"] += float((x_hat - images).square().mean((1, 2, 3)).sum())
        done = first + len(part)
        print(done, "of", len(examples), row(found["port"], done), flush=True)
    count = len(examples)
    rows = [{"search": name, **row(values, count)} for name, values in found.items()]
    for line in rows:
        line["times_port"] = round(line["images_per_second"] / rows[0]["images_per_second"], 2)
        print(line)
    about = {
        "images": count,
        "eps": options.eps,
        "width": options.width,
        "without": {kind: number / count for kind, number in bare.items()},
        "settings": {name: asdict(descent) for name, descent in settings.items()},
        "torch": torch.__version__,
    }
    write_json(options.out, {**about, "rows": rows})


def port(generator: nn.Module, latent: int, x: Tensor) -> Tensor:
    """The release's search, for one batch: all restarts at once, no gradient of weights."""
    generator.requires_grad_(False)
    goal = x.repeat_interleave(RESTARTS, 0)
    z = (latent**-0.5 * torch.randn(len(goal), latent)).requires_grad_()
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
        best: Tensor = x_hat[errors.argmin(1) + RESTARTS * torch.arange(len(x))]
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
    words.add_argument("--data-dir", type=Path)
    words.add_argument("--out", type=Path, required=True)
    return words


if __name__ == "__main__":
    main()
