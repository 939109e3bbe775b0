"""G and E of Defense-GAN on MNIST at full width, trained on one GPU in a given time.

    python benchmarks/gpu_defense_gan_generator.py --seconds 247
    python benchmarks/gpu_defense_gan_generator.py --short --device cpu --seconds 60 --out FOLDER

The script measures the time of a training step in TF32 and in bfloat16, and in batches of 500 and
of 250 images. It then runs the recipe ``defense_gan_mnist_generator_full`` with as many steps as
the time allows, up to ``MOST`` for each network. With ``--rates`` it first takes 3,000 steps with
each learning rate of G, and chooses the rate with the smallest squared error of the search on 500
validation images. Steps are replayed as CUDA graphs, see ``cuda_graphs.py``. If the time is up
before the last step, the networks of that moment are kept, and E may have no step: use a GPU
without other work. In the folder ``--out`` (default: the current one) it writes:

    runs/defense_gan_mnist_generator_full  the run, whose weights gpu_defense_gan_rows.py uses
    gan.safetensors                        the weights of G and E alone
    samples.png                            64 images of G
    generator.json                         settings, times, losses and squared errors
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from cuda_graphs import graphs
from PIL import Image
from short_trainings import ShortTrainings
from torch import nn

from spearshield.experiment.recipe import Recipe
from spearshield.experiment.run import Run
from spearshield.methods.encoder_projection import EncoderProjection, Projector
from spearshield.nets.wgan import Critic, Generator
from spearshield.progress import Progress, ProgressBar
from spearshield.recipes.defense_gan_mnist_generator_full import RECIPE
from spearshield.rng import Rng
from spearshield.storage.atomic import write_json
from spearshield.storage.weights import load_part, save_weights
from spearshield.training.loop import CHECKPOINT, Interrupted, Training
from spearshield.training.loss_log import LOSSES

NAME = "defense_gan_mnist_generator_full"
FOLDER = Path("runs") / NAME
GAN = FOLDER / RECIPE.defences[0].display_name

BATCHES = (500, 250)
TRIED_STEPS = 3_000
MOST = {"gan": 200_000, "encoder": 10_000}
ENCODER_SHARE = 0.15
"""Largest share of the time that the training of E gets."""
RESERVE = 17.0
"""Seconds kept for the classifier of the run, the weights and the squared errors."""


@dataclass(frozen=True)
class Plan:
    """The settings that the measurements decide."""

    arithmetic: str
    batch_size: int
    lr: float
    gan_steps: int
    encoder_steps: int

    def training(self, training: Training) -> Training:
        """The training with these settings."""
        steps = self.gan_steps + self.encoder_steps
        gan = replace(training.method.gan, lr=self.lr, decay_steps=self.gan_steps)
        method = replace(
            training.method, gan=gan, gan_steps=self.gan_steps, encoder_steps=self.encoder_steps
        )
        return replace(training, method=method, steps=steps, batch_size=self.batch_size)


def main() -> None:
    options = parser().parse_args()
    ends = time.monotonic() + options.seconds
    options.out.mkdir(parents=True, exist_ok=True)
    os.chdir(options.out)  # the paths of the recipes are relative
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    torch.set_num_threads(1)
    recipe = narrow(RECIPE) if options.short else RECIPE
    (training,) = recipe.defences
    bench = ShortTrainings(options, recipe.data, training.method)
    cuda = options.device == "cuda"
    name = torch.cuda.get_device_name() if cuda else options.device
    found: dict[str, Any] = {"device": name, "torch": torch.__version__}
    plan = planned(options, ends, bench, found)
    training = plan.training(training)
    run = Run(
        replace(recipe, defences=(training,)),
        NAME,
        FOLDER,
        options.data_dir,
        options.device,
        stopping(ends - 8),
    )
    began = time.monotonic()
    try:
        with graphs(record=options.graphs, bfloat16=plan.arithmetic == "bfloat16"):
            run.train()
    except Interrupted as stopped:
        found["cut_off"] = str(stopped)
        print(stopped, flush=True)
    found["train_seconds"] = time.monotonic() - began
    G, E = kept(training.method, run)  # noqa: N806
    found["losses"] = losses(GAN / LOSSES)
    found["squared_error"] = {
        "search of Orig": bench.search_error(G),
        "encoder projection": bench.error(Projector(G, E, threshold=1.0)),
    }
    write_json(Path("generator.json"), found)
    print({name: value for name, value in found.items() if name != "losses"}, flush=True)


def narrow(recipe: Recipe) -> Recipe:
    """The recipe with small networks and a short training of the classifier."""
    (training,), pretraining = recipe.defences, recipe.pretraining
    method = replace(training.method, gan=replace(training.method.gan, width=2))
    return replace(
        recipe,
        defences=(replace(training, method=method),),
        pretraining=replace(pretraining, steps=5),
    )


def planned(
    options: argparse.Namespace, ends: float, bench: ShortTrainings, found: dict[str, Any]
) -> Plan:
    """The settings with which the training fits into the time; adds the measurements to found."""
    large, half = BATCHES
    if options.graphs:
        found["graphs"] = bench.graph_difference(large)
        print("relative difference of G by graphs:", found["graphs"], flush=True)
        if not found["graphs"] < 0.5:
            raise RuntimeError("the graphs train another G; use --no-graphs")
    speed = {
        kind: bench.seconds("gan", large, bfloat16=kind == "bfloat16")
        for kind in ("tf32", "bfloat16")
    }
    arithmetic = "bfloat16" if speed["bfloat16"] * 1.3 < speed["tf32"] else "tf32"
    bench.bfloat16 = arithmetic == "bfloat16"
    speed["half a batch"] = bench.seconds("gan", half, bench.bfloat16)
    batch, step = large, speed[arithmetic]
    if speed["half a batch"] < 0.65 * step:
        batch, step = half, speed["half a batch"]
    e_step = speed["encoder"] = bench.seconds("encoder", batch, bench.bfloat16)
    found |= {"seconds_per_step": speed, "tried": []}
    print(speed, flush=True)
    lr = bench.method.gan.lr
    if options.rates:
        steps = 40 if options.short else TRIED_STEPS
        found["tried"] = [bench.trial(rate, batch, steps) for rate in options.rates]
        print(json.dumps(found["tried"]), flush=True)
        lr = best_rate(found["tried"])
    left = ends - time.monotonic() - RESERVE
    e_steps = max(5, int(min(MOST["encoder"], ENCODER_SHARE * left / e_step)))
    g_steps = int(min(MOST["gan"], 0.97 * (left - e_steps * e_step) / step))
    plan = Plan(arithmetic, batch, lr, max(5, g_steps // 100 * 100), e_steps)
    found |= asdict(plan)
    print(plan, flush=True)
    return plan


def best_rate(tried: list[dict[str, Any]]) -> float:
    """The learning rate with the smallest squared error.

    Raises:
        RuntimeError: All trainings diverged.
    """
    finite = [trial for trial in tried if trial["squared_error"] is not None]
    if not finite:
        raise RuntimeError("the training diverged with each learning rate; give smaller ones")
    rate: float = min(finite, key=lambda trial: trial["squared_error"])["lr"]
    return rate


def stopping(ends: float) -> Progress:
    """Bars that print the losses ten times, and stop a training at the time ``ends``."""

    def progress(title: str, total: int) -> ProgressBar:
        began = time.monotonic()

        def bar(done: int, values: Mapping[str, float]) -> None:
            if done < total and time.monotonic() > ends:
                os.kill(os.getpid(), signal.SIGTERM)
            if done % max(1, total // 10) == 0:
                print(f"{title} {done}/{total} {time.monotonic() - began:.0f} s {values}")

        return bar

    return progress


def kept(method: EncoderProjection, run: Run) -> tuple[nn.Module, nn.Module]:
    """G and E of the run, finished or stopped; writes their weights and images of G."""
    shape, _ = run.data_shape
    G = Generator(shape, method.gan.width, method.gan.latent)  # noqa: N806
    E = Critic(shape, method.gan.width, method.gan.latent)  # noqa: N806
    weights = GAN / "weights.safetensors"
    source = weights if weights.exists() else GAN / CHECKPOINT
    for name, network in (("G", G), ("E", E)):
        if not load_part(network, name, source):
            raise ValueError(f"{source} holds no {name}")
    both = nn.ModuleDict({"G": G, "E": E})
    save_weights(both, Path("gan.safetensors"))
    if source != weights:
        save_weights(both, weights)
    with torch.no_grad():
        made = G.eval()(Rng.of_batch(0, 64).normal((method.gan.latent,)))
    rows = made[:, 0].reshape(8, 8, *shape[1:]).permute(0, 2, 1, 3).reshape(8 * shape[1], -1)
    Image.fromarray((255 * rows).round().byte().numpy()).save("samples.png")
    return G, E


def losses(path: Path, count: int = 100) -> list[dict[str, float]]:
    """About ``count`` of the steps with losses, from the file of a training."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines = [line for line in lines if len(line) > 1]  # others have their step number alone
    return lines[:: max(1, len(lines) // count)]


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--out", type=Path, default=Path(), metavar="FOLDER")
    options.add_argument("--seconds", type=float, required=True, help="time for everything")
    options.add_argument("--device", default="cuda", choices=["cpu", "cuda"])
    options.add_argument("--data-dir", type=lambda text: Path(text).resolve())
    options.add_argument("--rates", type=float, nargs="+", default=[], help="learning rates of G")
    options.add_argument("--no-graphs", dest="graphs", action="store_false")
    options.add_argument("--short", action="store_true", help="small networks, to try the script")
    return options


if __name__ == "__main__":
    main()
