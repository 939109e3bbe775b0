"""One cell of a table: a victim under one trial, kept on disk so that it is measured once."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from safetensors.torch import save as to_bytes
from torch import Tensor

from spearshield.dataset import Examples
from spearshield.discover import name_of
from spearshield.judging.evaluation import evaluate
from spearshield.judging.score import REJECTED, TENSORS, Score
from spearshield.judging.trial import Trial
from spearshield.method import Defended
from spearshield.progress import Bar
from spearshield.storage import checkpoint
from spearshield.storage.atomic import write_atomically
from spearshield.storage.serialization import dump
from spearshield.types import Images

PICTURED = 10


def title(trial: Trial) -> str:
    """What the trial is called in file names and progress bars."""
    return f"{name_of(trial.attack)}.{trial.view}"


def measure(
    victim: Defended,
    trial: Trial,
    images: Examples,
    *,
    folder: Path,
    name: str,
    seed: int,
    draws: int,
    batch_size: int,
    device: str,
    bar: Bar,
) -> Score:
    """The score of ``victim`` under ``trial``: read from ``folder``, else measured and written.

    A stored outcome counts only for the same weights, images, attack, view and seed.

    Args:
        folder: The run folder.
        name: What the victim is called in it.
        bar: Called with the number of images done and the accuracy so far.

    Raises:
        ValueError: The stored outcome is corrupt; or see
            :func:`spearshield.judging.evaluation.evaluate`.
    """
    key = _key(victim, trial, images, seed, draws)
    stem = f"{name}.{title(trial)}.{key[:8]}"
    path = folder / "outcomes" / f"{stem}.safetensors"
    if path.exists():
        saved = checkpoint.load(path)
        if saved["key"] == key:
            bar(len(images), {})
            tensors = {field: saved[field] for field in TENSORS}
            return Score(**tensors, seconds=saved["seconds"], forwards=saved["forwards"])
    done = 0
    first: list[Images] = []

    def advance(count: int) -> None:
        nonlocal done
        done += count
        bar(done, {})

    def keep(x_adv: Images) -> None:
        if sum(len(part) for part in first) < PICTURED:
            first.append(x_adv[:PICTURED].cpu())

    score = evaluate(
        victim,
        trial.attack,
        images,
        trial.view,
        seed=seed,
        draws=draws,
        batch_size=batch_size,
        device=device,
        progress=advance,
        keep=keep,
    )
    outcome = {field: getattr(score, field) for field in TENSORS}
    cost = {"seconds": score.seconds, "forwards": score.forwards}
    checkpoint.save(path, {"key": key, **outcome, **cost})
    x_adv = torch.cat(first)[:PICTURED]
    _picture(victim, trial, images[: len(x_adv)], x_adv, score, folder, name, stem, device)
    return score


def _picture(
    victim: Defended,
    trial: Trial,
    images: Examples,
    x_adv: Images,
    score: Score,
    folder: Path,
    name: str,
    stem: str,
    device: str,
) -> None:
    with torch.no_grad():
        x_hat = victim.purifier(x_adv.to(device)).cpu()
    count = len(x_adv)

    def named(labels: Tensor) -> list[str]:
        return [images.names[i] if i != REJECTED else "rejected" for i in labels[:count].tolist()]

    about = {
        "method": name,
        "attack": name_of(trial.attack),
        "view": str(trial.view),
        "threat": type(trial.attack.threat).__name__,
        "eps": trial.attack.threat.eps,
        "parameters": dump(trial.attack),
        "truth": named(score.y),
        "bare_clean": named(score.bare_clean),
        "bare_adv": named(score.bare_adv),
        "victim_clean": named(score.victim_clean),
        "victim_adv": named(score.victim_adv),
    }
    tensors = {"x": images.images(), "x_adv": x_adv, "x_hat": x_hat}
    body = {key: value.contiguous().clone() for key, value in tensors.items()}
    content = to_bytes(body, {"picture": json.dumps(about)})
    write_atomically(folder / "pictures" / f"{stem}.safetensors", content)


def _key(victim: Defended, trial: Trial, images: Examples, seed: int, draws: int) -> str:
    """A digest of all that an outcome depends on."""
    digest = hashlib.sha256(json.dumps([dump(trial), seed, draws]).encode())
    for value in (*victim.state_dict().values(), images.ids, images.y, images.pixels):
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
