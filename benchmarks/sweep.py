"""Steps and restarts of Defense-GAN's search: accuracy, detection and time.

    python benchmarks/sweep.py RUN --gan FILE --width 16 --search 25x10 200x10 10x1e --out FILE

A search is named by steps x restarts. With a final e, as in 10x1e, its one start is E(x). The
search ``nearest`` returns the nearest training image, as a generator of exactly these images would.
FILE holds G and E. The run provides the images and the classifier; FGSM attacks the classifier. The
time includes search, classifier and scores: process time of one thread on a CPU, wall-clock time on
a GPU. All arithmetic is in float32.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spearshield.attacks.fgsm import FGSM
from spearshield.experiment.opened import open_run
from spearshield.judging.answers import CleanAnswers
from spearshield.judging.evaluation import score_attacked
from spearshield.judging.interval import wilson
from spearshield.method import Defended, Task
from spearshield.methods.defense_gan import DefenseGAN
from spearshield.methods.encoder_projection import EncoderProjection
from spearshield.nets.latent_projection import LatentSearchSettings, squared_error
from spearshield.rng import Rng
from spearshield.storage.atomic import write_json
from spearshield.threat import Linf


def main() -> None:
    options = parser().parse_args()
    torch.set_num_threads(1)
    torch.backends.cudnn.allow_tf32 = False
    device = options.device
    run = open_run(options.run, options.data_dir, device)
    classifier = run.bare.classifier.eval()
    task = Task(classifier, classifier, *run.data_shape)
    examples = run.recipe.data.load(options.split, root=options.data_dir, seed=run.recipe.seed)
    examples = examples[: options.images]
    x, y, ids = examples.images(device), examples.y.to(device), examples.ids.to(device)
    x_adv = FGSM(Linf(options.eps))(classifier, x, y, rng=Rng(run.recipe.seed, ids))
    search = LatentSearchSettings(lr=options.lr, z_std=options.z_std, chunk=options.chunk)
    gan = DefenseGAN(options.width, options.latent, search=search, weights=options.gan)
    rows = []
    for name in options.search:
        if name == "nearest":
            victim = Defended(Nearest(run.training_set.images(device)), classifier).eval()
        else:
            victim = named(name, gan).learner(task).outcome().defended
        victim.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        rows.append({"search": name, **measured(victim, x, x_adv, y, ids)})
        print(rows[-1], flush=True)
    about = {
        "data": type(run.recipe.data).__name__,
        "split": options.split,
        "images": len(x),
        "eps": options.eps,
        "width": options.width,
        "z_std": options.z_std,
        "lr": options.lr,
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
        "torch": torch.__version__,
    }
    write_json(options.out, {**about, "rows": rows})


class Nearest(nn.Module):
    """A purifier that returns the nearest of some images, with the squared error as its score."""

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.images = images

    def forward(self, x: Tensor) -> Tensor:
        return self.images[torch.cdist(x.flatten(1), self.images.flatten(1)).argmin(1)]

    def detection_score(self, x: Tensor) -> Tensor:
        return squared_error(self(x), x) - 1


def named(name: str, gan: DefenseGAN) -> DefenseGAN | EncoderProjection:
    """The method behind a name such as 25x10 or 10x1e."""
    steps, restarts = map(int, name.removesuffix("e").split("x"))
    if not name.endswith("e"):
        return replace(gan, search=replace(gan.search, steps=steps, restarts=restarts))
    if restarts != 1:
        raise ValueError(f"a search from E(x) has one start, got {name}")
    return EncoderProjection(gan, gan_steps=0, encoder_steps=0, refine_steps=steps)


def measured(victim: Defended, x: Tensor, x_adv: Tensor, y: Tensor, ids: Tensor) -> dict[str, Any]:
    clock = time.process_time if x.device.type == "cpu" else time.perf_counter
    began = clock()
    score = score_attacked(CleanAnswers(victim, draws=1), x, x_adv, y, ids)
    seconds = clock() - began  # the scores are on the CPU, so a GPU has finished
    clean, attacked = (score.victim_clean == score.y), (score.victim_adv == score.y)
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
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("run", type=Path, metavar="RUN")
    options.add_argument("--gan", required=True, metavar="FILE", help="weights of G and E")
    options.add_argument("--search", nargs="+", required=True, metavar="LxR")
    options.add_argument("--width", type=int, default=64)
    options.add_argument("--latent", type=int, default=128)
    options.add_argument("--z-std", type=float, default=1.0)
    options.add_argument("--eps", type=float, default=0.3)
    options.add_argument("--split", default="test", choices=["validation", "test"])
    options.add_argument("--images", type=int, default=1000)
    options.add_argument("--lr", type=float, default=10.0, help="learning rate of the search")
    options.add_argument("--chunk", type=int, default=500, help="latents per batch of a search")
    options.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    options.add_argument("--data-dir", type=Path)
    options.add_argument("--out", type=Path, required=True)
    return options


if __name__ == "__main__":
    main()
