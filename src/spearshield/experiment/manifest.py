"""The manifest of a run folder: the recipe to which the folder belongs, written first."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spearshield.experiment.recipe import Recipe, read_recipe
from spearshield.storage.atomic import write_json
from spearshield.storage.serialization import dump, load
from spearshield.training.loop import CHECKPOINT
from spearshield.types import Shape

FILE = "recipe.json"


@dataclass(frozen=True)
class Manifest:
    """The recipe of a run folder.

    Args:
        name: The recipe's name.
        shape, classes: Shape of an image and number of classes, so that a trained run can be opened
            without its data.
        weights: Digest of the file of the recipe's ``weights``; empty if there is none.
    """

    name: str
    recipe: Recipe
    shape: Shape
    classes: int
    weights: str = ""

    def write_or_verify(self, folder: Path) -> None:
        """Write the manifest to ``folder``, or verify that it is the one in ``folder``.

        Raises:
            ValueError: The folder holds a training, or the run of another recipe; names the fields
                that differ.
        """
        path = folder / FILE
        if (folder / CHECKPOINT).exists():
            raise ValueError(f"{folder} holds a training; choose another --out")
        images = {"shape": [*self.shape], "classes": self.classes}
        own = {"name": self.name, "recipe": dump(self.recipe), "images": images}
        own |= {"weights_sha256": self.weights}
        if not path.exists():
            write_json(path, own)
            return
        try:
            saved = _with_new_fields(json.loads(path.read_text(encoding="utf-8")), self.weights)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path} is not JSON ({error}); choose another --out") from error
        if saved != own:
            raise ValueError(
                f"{folder} holds the run of another recipe (other {_differences(saved, own)}); "
                "choose another --out, or delete that folder"
            )

    @staticmethod
    def read(folder: Path) -> Manifest:
        """The manifest in ``folder``. No function that it names is imported.

        Raises:
            FileNotFoundError: There is none.
            ValueError: It cannot be read; names the file and the field.
        """
        path = folder / FILE
        if not path.exists():
            raise FileNotFoundError(f"{folder} is not a run folder: it has no {FILE}")
        recipe = read_recipe(path)
        saved = json.loads(path.read_text(encoding="utf-8"))
        try:
            name, images = saved["name"], saved["images"]
            channels, height, width = map(int, images["shape"])
            shape, weights = (channels, height, width), str(saved.get("weights_sha256", ""))
            return Manifest(str(name), recipe, shape, int(images["classes"]), weights)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path} is not the manifest of a run folder: it needs name, recipe, images.shape "
                "and images.classes"
            ) from error


def _with_new_fields(saved: Any, weights: str) -> Any:
    """A manifest with the fields that were added since it was written, at their defaults."""
    try:
        return {"weights_sha256": weights, **saved, "recipe": dump(load(saved["recipe"]))}
    except (KeyError, TypeError, ValueError, RecursionError):
        return saved


def _differences(saved: Any, own: Any, path: str = "") -> str:
    """The dotted names of the fields in which two JSON values differ."""
    if isinstance(saved, dict) and isinstance(own, dict) and saved.keys() == own.keys():
        names = [name for name in own if saved[name] != own[name]]
        return ", ".join(_differences(saved[n], own[n], f"{path}.{n}") for n in names)
    if isinstance(saved, list) and isinstance(own, list) and len(saved) == len(own):
        pairs = [(i, a, b) for i, (a, b) in enumerate(zip(saved, own, strict=True)) if a != b]
        return ", ".join(_differences(a, b, f"{path}.{i}") for i, a, b in pairs)
    return path.removeprefix(".recipe").removeprefix(".") or "recipe"
