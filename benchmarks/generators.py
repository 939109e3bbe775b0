"""Ablation of AdvGAN and CycleAdvGAN: one option at a time, on validation images of MNIST.

    python benchmarks/generators.py --weights RUN/standard_training/weights.safetensors --out FILE

Each line is one short training. It holds the attack's success on the bare classifier (L-inf 0.3, of
correctly classified images), the L2 norm of its perturbations, and the accuracy behind the purifier
on images of its own attack, of FGSM, which it was trained on, and of PGD-40, and on clean images.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import torch

from spearshield.attacks.fgsm import FGSM
from spearshield.attacks.pgd import PGD
from spearshield.classifiers.lenet import LeNet
from spearshield.datasets.mnist import MNIST
from spearshield.judging.evaluation import EvaluationSettings, evaluate
from spearshield.method import Defended, Method, Task
from spearshield.methods.adv_gan import AdvGAN
from spearshield.methods.cycle_adv_gan import CycleAdvGAN
from spearshield.rng import ambient
from spearshield.storage.atomic import write_json
from spearshield.storage.serialization import dump
from spearshield.storage.weights import load_weights
from spearshield.threat import Linf
from spearshield.training.loop import Training, train
from spearshield.views import Oblivious

BUDGET = Linf(0.3)
ADV, CYCLE = AdvGAN(kappa=0.0), CycleAdvGAN(kappa=0.0, residual_purifier=False)
"""The settings that the variants change."""
RESIDUAL = replace(CYCLE, residual_purifier=True, kappa=5.0)

VARIANTS: dict[str, Method] = {
    "adv_gan": ADV,
    "adv_gan, size is free": replace(ADV, size_weight=0.0),
    "adv_gan, kappa 5": replace(ADV, kappa=5.0),
    "adv_gan, size is free, kappa 5": replace(ADV, size_weight=0.0, kappa=5.0),
    "adv_gan, informed, kappa 5": replace(ADV, conditioned=True, kappa=5.0),
    "adv_gan, no discriminator": replace(ADV, gan_weight=0.0),
    "adv_gan, price in place of clipping": replace(ADV, clip=False, size_weight=1.0),
    "adv_gan, target 0": replace(ADV, target=0),
    "adv_gan, black box": replace(ADV, student=LeNet(), student_steps=200),
    "adv_gan, black box, labels only": replace(
        ADV, student=LeNet(), student_steps=200, labels_only=True
    ),
    "cycle_adv_gan": CYCLE,
    "cycle_adv_gan, pairs": replace(CYCLE, paired_weight=10.0),
    "cycle_adv_gan, no cycle": replace(CYCLE, cycle_weight=0.0),
    "cycle_adv_gan, no identity": replace(CYCLE, identity_weight=0.0),
    "cycle_adv_gan, no discriminators": replace(CYCLE, gan_weight=0.0),
    "cycle_adv_gan, direct attack": replace(CYCLE, residual_attack=False),
    "cycle_adv_gan, residual purifier": replace(CYCLE, residual_purifier=True),
    "cycle_adv_gan, price in place of clipping": replace(CYCLE, clip=False, size_weight=1.0),
    "cycle_adv_gan, size costs": replace(CYCLE, size_weight=1.0),
    "cycle_adv_gan, kappa 5": replace(CYCLE, kappa=5.0),
    "cycle_adv_gan, informed, kappa 5": replace(CYCLE, conditioned=True, kappa=5.0),
    "cycle_adv_gan, pairs, kappa 5": replace(CYCLE, paired_weight=10.0, kappa=5.0),
    "cycle_adv_gan, residual purifier, kappa 5": RESIDUAL,
    "cycle_adv_gan, residual purifier of at most 0.3, kappa 5": replace(RESIDUAL, max_residual=0.3),
    "cycle_adv_gan, residual purifier, not cooperative, kappa 5": replace(
        RESIDUAL, cooperative=False
    ),
    "cycle_adv_gan, recovery 1": replace(CYCLE, recovery_weight=1.0),
    "cycle_adv_gan, no labels for the purifier": replace(CYCLE, recovery_weight=0.0),
    "cycle_adv_gan, width 16": replace(CYCLE, width=16),
    "cycle_adv_gan, black box": replace(CYCLE, student=LeNet(), student_steps=200),
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--weights", type=Path, required=True, help="weights of a trained LeNet")
    options.add_argument(
        "--out", type=Path, required=True, help="JSON; its lines are not measured again"
    )
    options.add_argument("--steps", type=int, default=1000)
    options.add_argument("--batch-size", type=int, default=64)
    options.add_argument("--images", type=int, default=2000)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("names", nargs="*", help="variants; by default all")
    given = options.parse_args()
    torch.set_num_threads(1)
    data = MNIST()
    examples = data.load("train", seed=given.seed)
    images = data.load("validation", seed=given.seed)[: given.images]
    with ambient(given.seed):
        network, fresh = (LeNet().build(images.shape, images.classes).eval() for _ in range(2))
    bare = Defended(torch.nn.Identity(), network).eval()
    load_weights(bare, given.weights)
    network.to(memory_format=torch.channels_last)
    task = Task(network, fresh, images.shape, images.classes, FGSM(BUDGET))
    lines = json.loads(given.out.read_text()) if given.out.exists() else []
    for name in given.names or VARIANTS:
        about = {"variant": name, "steps": given.steps, "batch_size": given.batch_size}
        about |= {"seed": given.seed, "images": len(images), "method": dump(VARIANTS[name])}
        if any(about.items() <= line.items() for line in lines):
            continue
        began = time.process_time()
        training = Training(VARIANTS[name], given.steps, FGSM(BUDGET), given.batch_size)
        outcome = train(training, task, lambda: examples, seed=given.seed).outcome()
        seconds = time.process_time() - began
        attack, victim = outcome.attack, outcome.defended
        assert attack is not None
        settings = EvaluationSettings(seed=given.seed)
        on_bare = evaluate(bare, attack, images, settings=settings)
        line = {**about, "seconds": round(seconds), "success": on_bare.asr}
        line |= {"l2": float(on_bare.l2.mean()), "queries": outcome.queries}
        line["images_per_second"] = round(len(images) / on_bare.seconds)
        target = getattr(VARIANTS[name], "target", None)
        if target is not None:
            others = on_bare.y != target
            line["target"] = float((on_bare.bare_adv[others] == target).float().mean())
        if not isinstance(outcome.purifier, torch.nn.Identity):
            attacks = {"own": attack, "fgsm": FGSM(BUDGET), "pgd": PGD(BUDGET, steps=40)}
            scores = {
                name: evaluate(victim, own, images, Oblivious(), settings)
                for name, own in attacks.items()
            }
            line |= {name: score.robust_acc for name, score in scores.items()}
            line["clean"] = scores["own"].acc
        lines.append(line)
        write_json(given.out, lines)
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
