"""Draw the picture of the README from a trained purifier of a run.

    python docs/make_picture.py runs/mnist_purifiers/ape_gan docs/picture.png

Columns are clean image, then, for an attacker unaware of the purifier and for an adaptive one, the
adversarial image, the perturbation and the purified image, each with the prediction below.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from spearshield.attacks.pgd import PGD
from spearshield.experiment.opened import open_run
from spearshield.rng import Rng
from spearshield.threat import Linf

CELL, GAP, TOP, SIDE = 84, 10, 64, 16
GREEN, RED, INK, FAINT = "#1a6b4a", "#b3261e", "#1f2328", "#59636e"


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("training", type=Path)
    words.add_argument("picture", type=Path)
    words.add_argument("--eps", type=float, default=0.3)
    words.add_argument("--images", type=int, nargs="+", default=[0, 1, 2, 3])
    options = words.parse_args()
    run = open_run(options.training)
    shield, examples = run.victim, run.images[torch.tensor(options.images)]
    x, y, rng = examples.images(), examples.y, Rng(0, examples.ids)
    attack = PGD(Linf(options.eps), steps=40, step_size=0.01, restarts=3)
    columns: list[tuple[str, Tensor, Tensor | None]] = [("clean", x, shield(x).argmax(1))]
    for model in (shield.classifier, shield):
        x_adv = attack(model, x, y, rng=rng)
        x_hat = shield.purifier(x_adv)
        shown = 0.5 + (x_adv - x) / (2 * options.eps)
        columns += [
            ("adversarial", x_adv, shield.classifier(x_adv).argmax(1)),
            ("perturbation", shown, None),
            ("purified", x_hat, shield(x_adv).argmax(1)),
        ]
    draw(columns, y).save(options.picture, optimize=True)


def draw(columns: list[tuple[str, Tensor, Tensor | None]], y: Tensor) -> Image.Image:
    """One row for each image, one column for each kind, with predictions in green or red."""
    wide = GAP * 3
    lefts = [SIDE + i * (CELL + GAP) + wide * ((i > 0) + (i > 3)) for i in range(len(columns))]
    row = CELL + 22
    picture = Image.new("RGB", (lefts[-1] + CELL + SIDE, TOP + len(y) * row + 8), "white")
    pen = ImageDraw.Draw(picture)
    large, small = (ImageFont.load_default(size) for size in (15, 13))
    for first, title in ((1, "attacker unaware of APE-GAN"), (4, "adaptive attacker")):
        pen.text((lefts[first], 12), title, fill=INK, font=large)
    for left, (title, images, predicted) in zip(lefts, columns, strict=True):
        pen.text((left, 40), title, fill=FAINT, font=small)
        for i, image in enumerate(images.detach().clamp(0, 1)):
            levels = (255 * image[0]).round().to(torch.uint8).numpy()
            tile = Image.fromarray(levels).resize((CELL, CELL), Image.Resampling.NEAREST)
            top = TOP + i * row
            picture.paste(tile, (left, top))
            if predicted is not None:
                right = int(predicted[i]) == int(y[i])
                said = f"predicted {int(predicted[i])}"
                pen.text((left, top + CELL + 2), said, fill=GREEN if right else RED, font=small)
    return picture


if __name__ == "__main__":
    main()
