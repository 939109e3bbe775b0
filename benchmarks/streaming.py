"""Memory and time of an audit of a large image folder, as JSON on the standard output.

    python benchmarks/streaming.py [--images 50000] [--folder FOLDER]

Makes JPEG pictures of 224 x 224 pixels in a folder, unless they are there, and audits a small
network on all of them with FGSM in a process of its own, whose largest memory is read. The process
is then killed half way through another run, which is started again and goes on.
"""

from __future__ import annotations

import argparse
import json
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

SIDE, CLASSES = 224, 10

AUDIT = """
import json, resource, sys, time
import torch
import spearshield as ss
from spearshield.rng import ambient
torch.set_num_threads(1)
with ambient(0):
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 8, 8), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(4),
        torch.nn.Flatten(), torch.nn.Linear(128, 10),
    )
began = time.monotonic()
images = ss.datasets.ImageFolder(sys.argv[1], size=(224, 224))
report = ss.audit(model, images, attacks="fgsm", views="adaptive", threat=ss.Linf(4 / 255), limit=0,
                  folder=sys.argv[2], progress=False)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"images": report.worst.images, "robust": report.robust, "peak_mib": round(peak),
                  "seconds": round(time.monotonic() - began, 1)}))
"""


def make(folder: Path, count: int) -> None:
    """Write pictures of coloured noise at a low resolution, enlarged."""
    generator = np.random.default_rng(0)
    for i in range(count):
        path = folder / str(i % CLASSES) / f"{i:06d}.jpg"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            small = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(small).resize((SIDE, SIDE)).save(path, quality=75)


def audit(folder: Path, out: str, stop_after: float | None = None) -> dict[str, float]:
    """The figures of an audit; stopped by SIGKILL after a number of seconds, if one is given."""
    process = subprocess.Popen(
        [sys.executable, "-c", AUDIT, str(folder), out], stdout=subprocess.PIPE, text=True
    )
    if stop_after is not None:
        time.sleep(stop_after)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        return {}
    printed, _ = process.communicate()
    found: dict[str, float] = json.loads(printed)
    return found


def main() -> None:
    """Print the figures of a whole audit, and of one that was stopped half way."""
    options = argparse.ArgumentParser()
    options.add_argument("--images", type=int, default=50_000)
    options.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "streaming")
    words = options.parse_args()
    make(words.folder / "pictures", words.images)
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        whole = audit(words.folder / "pictures", first)
        audit(words.folder / "pictures", second, stop_after=whole["seconds"] * 0.6)
        resumed = audit(words.folder / "pictures", second)
    mine = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    result = {"whole": whole, "resumed": resumed, "largest_process_mib": round(mine)}
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
