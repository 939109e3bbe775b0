"""Results of Defense-GAN on MNIST at full width on one GPU, in a given time.

    python benchmarks/gpu_defense_gan_rows.py rows --seconds 900
    python benchmarks/gpu_defense_gan_rows.py timings --seconds 90 --peak 66.9e12 \
        --peak-tf32 494.7e12

Both parts work in the folder ``--out`` of ``gpu_defense_gan_generator.py`` (default: the current
one) and use the weights of its run.

    rows     the recipe ``defense_gan_mnist_full`` for models A to D, with three seeds of A, first
             ``orig`` and ``fast``, then ``rec``; sweeps over steps and restarts of the search, on
             the first classifier. The processes share the GPU; all arithmetic is in float32.
    timings  the searches of ``projection.py``, in TF32 and float32, on a GPU without other work

Each part begins with the most important jobs, and stops the remaining ones when the time is up. If
``rows`` is started again, its runs are resumed. ``--short`` follows a generator with ``--short``.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from gpu_defense_gan_generator import GAN
from jobs import Job, run_jobs

NAME = "defense_gan_mnist_full"
WEIGHTS = GAN / "weights.safetensors"
BENCHMARKS = Path(__file__).parent

SWEPT = ["nearest", "0x1e", "10x10", "25x10", "50x10", "100x10", "25x1", "25x2", "25x5", "25x20"]
VALIDATED = ["nearest", "0x1e", "5x1e", "25x1e", "10x10", "25x10", "50x10"]


def main() -> None:
    options = parser().parse_args()
    began = time.monotonic()
    ends = began + options.seconds
    os.chdir(options.out)  # the paths of the recipes are relative
    if options.part == "rows":
        run_jobs(row_jobs(options), options.workers, ends, {"NVIDIA_TF32_OVERRIDE": "0"})
    else:
        run_jobs(timing_jobs(options), 1, ends, {})
    print(f"{options.part}: {time.monotonic() - began:.0f} s", flush=True)


def row_jobs(options: argparse.Namespace) -> list[Job]:
    """The runs of all models, and the two sweeps after the first of them."""
    models = [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("c", 0), ("d", 0)]
    searches = [row_job(options, model, seed, ("orig", "fast")) for model, seed in models]
    rec = [row_job(options, model, 0, ("rec",)) for model in "abcd"]
    if options.short:
        searches, rec = searches[:1], rec[:1]
    return [searches[0], *sweep_jobs(options, searches[0]), *searches[1:], *rec]


def row_job(options: argparse.Namespace, model: str, seed: int, defences: tuple[str, ...]) -> Job:
    """A run of one model, with some of the defences."""
    name = "_".join([NAME, model, str(seed), *(["rec"] if defences == ("rec",) else [])])
    changes = [f"classifier=defense_gan_{model}", f"defences={','.join(defences)}"]
    changes += options.changes
    if options.short:
        changes += ["images=20", "pretraining.steps=50"]
        changes += [f"trials.{place}.attack.steps=2" for place in range(2, 10)]
        widths = {"orig": "method.width", "rec": "method.width", "fast": "method.gan.width"}
        changes += [f"defences.{defence}.{widths[defence]}=2" for defence in defences]
        changes += ["defences.rec.steps=5"] if "rec" in defences else []
    command = [sys.executable, "-m", "spearshield", "run", NAME, "--device", options.device]
    command += ["--out", f"runs/{name}", "--seed", str(seed), *data_dir(options)]
    for change in changes:
        command += ["--set", change]
    return Job(name, command)


def sweep_jobs(options: argparse.Namespace, row: Job) -> list[Job]:
    """Sweeps over steps and restarts on the classifier of ``row``."""
    few, many = ("10", "20") if options.short else ("500", "1000")
    validation = ["--images", few, "--split", "validation"]
    sweep = [*benchmark("sweep.py", options, row.name), "--chunk", "5000", "--search"]
    return [
        Job("sweep", [*sweep, *SWEPT, "--images", many, "--out", "sweep.json"], (row.name,)),
        Job(
            "sweep_validation",
            [*sweep, *VALIDATED, *validation, "--out", "sweep_validation.json"],
            (row.name,),
        ),
    ]


def timing_jobs(options: argparse.Namespace) -> list[Job]:
    """The searches of ``projection.py`` next to each other, in both precisions."""
    row = row_job(options, "a", 0, ("orig", "fast"))
    projection = benchmark("projection.py", options, row.name)
    projection += ["--batch", "1000", "--chunk", "10000"]
    tf32 = [*projection, "--precision", "tf32", *peak(options.peak_tf32)]
    float32 = [*projection, "--precision", "float32", *peak(options.peak)]
    few, some, many = ("20", "20", "40") if options.short else ("200", "500", "5000")
    commands = {
        "projection_some": [*tf32, "--images", some],
        "projection_many": [*tf32, "--images", many, "--searches", "same", "fast"],
        "projection_float32": [*float32, "--images", few],
    }
    return [Job(name, [*own, "--out", f"{name}.json"]) for name, own in commands.items()]


def benchmark(script: str, options: argparse.Namespace, run: str) -> list[str]:
    """The command of another script, on a run and on G and E."""
    command = [sys.executable, str(BENCHMARKS / script), f"runs/{run}", "--gan", str(WEIGHTS)]
    command += ["--device", options.device, *data_dir(options)]
    return command + (["--width", "2"] if options.short else [])


def data_dir(options: argparse.Namespace) -> list[str]:
    return ["--data-dir", str(options.data_dir)] if options.data_dir else []


def peak(operations: float | None) -> list[str]:
    return ["--peak", str(operations)] if operations else []


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("part", choices=["rows", "timings"])
    options.add_argument("--out", type=Path, default=Path(), metavar="FOLDER")
    options.add_argument("--seconds", type=float, required=True, help="time for everything")
    options.add_argument("--device", default="cuda", choices=["cpu", "cuda"])
    options.add_argument("--data-dir", type=lambda text: Path(text).resolve())
    options.add_argument("--workers", type=int, default=3, help="processes at a time, for rows")
    options.add_argument("--peak", type=float, help="operations per second in float32")
    options.add_argument("--peak-tf32", type=float, help="the same in TF32")
    options.add_argument("--set", dest="changes", action="append", default=[], help="of all rows")
    options.add_argument("--short", action="store_true", help="few images, to try the script")
    return options


if __name__ == "__main__":
    main()
