"""Whole files to start from: images, weights, a shield, an attack, a recipe, an audit."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

import spearshield as ss
from fuzz import models
from fuzz.files import drawn_picture, saved_npz
from fuzz.oracle import check_images, command, inside, require
from spearshield.experiment.recipe import load_recipe
from spearshield.judging import results
from spearshield.nets.wrapped_classifier import WrappedClassifier
from spearshield.storage.atomic import write_json
from spearshield.storage.serialization import dump

COUNT = 6


def images() -> np.ndarray:
    """Six grey images of 6 x 6 pixels."""
    return np.linspace(0, 255, COUNT * 36).astype(np.uint8).reshape(COUNT, 1, 6, 6)


def labels() -> np.ndarray:
    """Their labels, as the classifier of the fuzz sees them."""
    x = torch.from_numpy(images()).float() / 255
    found: np.ndarray = models.build()(x).argmax(1).numpy()
    found[:2] = 1, 2
    return found


_OWN = ("--classifier", "fuzz.models:build", "--data", "t.npz")
_SHORT = ("--steps", "1", "--batch-size", "2")
AUDIT = ("audit", *_OWN, "--attack", "fgsm", "--eps", "0.1", "--out", "audit")
PROTECT = ("protect", *_OWN, "--method", "dae", *_SHORT, "--held-out", "0", "--out", "shield")
LEARN = ("learn-attack", *_OWN, *_SHORT, "--out", "spear")
"""Commands that take a moment."""


@cache
def whole() -> Path:
    """A folder with one file or folder of each kind."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-samples-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "t.npz").write_bytes(saved_npz({"x": images(), "y": labels()}))
    (folder / "w.npz").write_bytes(
        saved_npz({k: v.numpy() for k, v in models.build().state_dict().items()})
    )
    (folder / "photos").mkdir()
    for i in range(3):
        picture = drawn_picture("L", (6, 6), "PNG")
        (folder / "photos" / f"{i}").mkdir()
        (folder / "photos" / f"{i}" / "a.png").write_bytes(picture.content)
    write_json(folder / "recipe.json", dump(load_recipe("quickstart")))
    with inside(folder):
        for words in (AUDIT, PROTECT, LEARN):
            status = command(words)
            assert status == 0, status
    known = ss.classifiers.SmallCNN()
    wrapped = WrappedClassifier(known.build(models.SHAPE, models.CLASSES), architecture=known)
    shield = ss.protect(
        wrapped.eval(),
        torch.from_numpy(images()),
        labels(),
        method="dae",
        held_out=0,
        steps=1,
        batch_size=2,
        folder=folder / "training",
        progress=False,
    )
    shield.save(folder / "known")
    shutil.copy(folder / "audit" / "results.json", folder / "results.json")
    return folder


def unpack(folder: Path) -> None:
    """Copy the samples into a folder."""
    shutil.copytree(whole(), folder, dirs_exist_ok=True)


def check_results(path: Path) -> None:
    """Raise a ``Fault`` unless the rows of an audit are sound."""
    require(path.exists(), "an audit without results.json")
    for row in results.read(path):
        require(0 <= row.robust_acc <= row.acc <= 1, "robust accuracy above accuracy", row)
        require(row.linf <= 1, "a perturbation above 1", row.linf)


def check_adversarial(folder: Path) -> None:
    """Raise a ``Fault`` unless the adversarial images in a folder are images."""
    found = [*folder.rglob("*.safetensors"), *folder.rglob("*.npz")]
    require(bool(found), "an attack without images")
    for path in found:
        tensors = load_file(path) if path.suffix == ".safetensors" else dict(np.load(path))
        check_images(torch.as_tensor(tensors["x_adv"]), "adversarial images")


def json_of(name: str) -> Any:
    """The content of a JSON file of the samples."""
    return json.loads((whole() / name).read_text(encoding="utf-8"))
