"""Steps and restarts of Defense-GAN's search: accuracy, detection and time of each.

    python benchmarks/sweep.py RUN --gan FILE --width 16 --search 25x10 200x10 --out FILE

Searches are named by steps x restarts, those that start at E with a last e, as 10x1e; ``nearest``
is the nearest training image, what a generator would answer that makes those and nothing else. G
and E come from the weights or the checkpoint of a training of ``defense_gan``; images, and the
classifier that sees what comes out, from the run. The attacked images are those of FGSM on that
classifier. Time is that of the process, on one thread, for search, classifier and scores together.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spearshield.attacks.fgsm import FGSM
from spearshield.experiment.run import reopen
from spearshield.judging.evaluation import score_attacked
from spearshield.judging.score import wilson
from spearshield.method import Defended, Task
from spearshield.methods.defense_gan import DefenseGAN
from spearshield.nets.latent_projection import LatentSearchSettings, squared_error
from spearshield.rng import Rng
from spearshield.storage.atomic import write_json
from spearshield.threat import Linf


def main() -> None:
    options = parser().parse_args()
    torch.set_num_threads(1)
    run = reopen(options.run, options.data_dir)
    classifier = run.bare.classifier.eval()
    task = Task(classifier, classifier, *run.data_shape)
    examples = run.recipe.data.load(options.split, root=options.data_dir, seed=run.recipe.seed)
    examples = examples[: options.images]
    x, y, ids = examples.images(), examples.y, examples.ids
    x_adv = FGSM(Linf(options.eps))(classifier, x, y, rng=Rng(run.recipe.seed, ids))
    rows = []
    for name in options.search:
        if name == "nearest":
            victim = Defended(Nearest(run.training_set.images()), classifier).eval()
        else:
            descent = named(name, options.z_std)
            method = DefenseGAN(options.width, options.latent, search=descent, weights=options.gan)
            victim = method.learner(task).outcome().defended
        victim.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        rows.append({"search": name, **measured(victim, x, x_adv, y, ids)})
        print(rows[-1], flush=True)
    about = {
        "data": type(run.recipe.data).__name__,
        "split": options.split,
        "images": len(x),
        "eps": options.eps,
        "width": options.width,
        "z_std": options.z_std,
        "torch": torch.__version__,
    }
    write_json(options.out, {**about, "rows": rows})


class Nearest(nn.Module):
    """The nearest of some images, and the squared error by which detection goes."""

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.images = images

    def forward(self, x: Tensor) -> Tensor:
        return self.images[torch.cdist(x.flatten(1), self.images.flatten(1)).argmin(1)]

    def detection_score(self, x: Tensor) -> Tensor:
        return squared_error(self(x), x) - 1


def named(name: str, z_std: float) -> LatentSearchSettings:
    steps, restarts = name.removesuffix("e").split("x")
    start = "encoder" if name.endswith("e") else "random"
    return LatentSearchSettings(int(steps), int(restarts), z_std=z_std, start=start)  # type: ignore[arg-type]


def measured(victim: Defended, x: Tensor, x_adv: Tensor, y: Tensor, ids: Tensor) -> dict[str, Any]:
    began = time.process_time()
    score = score_attacked(victim, x, x_adv, y, ids, draws=1)
    seconds = time.process_time() - began
    clean, attacked = (score.victim_clean == y), (score.victim_adv == y)
    return {
        "clean": score.acc,
        "clean_interval": interval(clean),
        "attacked": float(attacked.double().mean()),
        "attacked_interval": interval(attacked),
        "auc": score.auc,
        "squared_error": [
            float((1 + detection_score).mean())
            for detection_score in (score.clean_detection, score.adv_detection)
        ],
        "images_per_second": 2 * len(x) / seconds,
    }


def interval(right: Tensor) -> tuple[float, float]:
    bounds = wilson(int(right.sum()), len(right))
    return bounds.low, bounds.high


def parser() -> argparse.ArgumentParser:
    words = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    words.add_argument("run", type=Path, metavar="RUN")
    words.add_argument("--gan", required=True, metavar="FILE", help="with the weights of G and E")
    words.add_argument("--search", nargs="+", required=True, metavar="LxR")
    words.add_argument("--width", type=int, default=64)
    words.add_argument("--latent", type=int, default=128)
    words.add_argument("--z-std", type=float, default=1.0)
    words.add_argument("--eps", type=float, default=0.3)
    words.add_argument("--split", default="test", choices=["validation", "test"])
    words.add_argument("--images", type=int, default=1000)
    words.add_argument("--data-dir", type=Path)
    words.add_argument("--out", type=Path, required=True)
    return words


if __name__ == "__main__":
    main()
