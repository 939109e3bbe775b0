"""A run folder belongs to one recipe, which is written into it before anything else."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spearshield.experiment.recipe import Recipe
from spearshield.storage.atomic import write_json
from spearshield.storage.serialization import dump, load
from spearshield.types import Shape

FILE = "recipe.json"


@dataclass(frozen=True)
class Manifest:
    """What a run folder is for.

    Args:
        name: The recipe's name.
        shape, classes: Of the images, so that a trained run can be opened without its data.
    """

    name: str
    recipe: Recipe
    shape: Shape
    classes: int

    def write_or_verify(self, folder: Path) -> None:
        """Write the claim into the folder, or see that it is the one already there.

        Raises:
            ValueError: The folder holds another recipe's run; names the fields that differ.
        """
        path = folder / FILE
        images = {"shape": [*self.shape], "classes": self.classes}
        mine = {"name": self.name, "recipe": dump(self.recipe), "images": images}
        if not path.exists():
            write_json(path, mine)
            return
        try:
            theirs = _of_today(json.loads(path.read_text(encoding="utf-8")))
        except json.JSONDecodeError as error:
            raise ValueError(f"{path} is not JSON ({error}); choose another --out") from error
        if theirs != mine:
            raise ValueError(
                f"{folder} holds the run of another recipe (other {_changes(theirs, mine)}); "
                "choose another --out, or delete that folder"
            )

    @staticmethod
    def of(folder: Path) -> Manifest:
        """The claim in ``folder``.

        Raises:
            FileNotFoundError: There is none.
            ValueError: It cannot be read.
        """
        path = folder / FILE
        if not path.exists():
            raise FileNotFoundError(f"{folder} is no run folder: it has no {FILE}")
        try:
            saved = json.loads(path.read_text(encoding="utf-8"))
            channels, height, width = saved["images"]["shape"]
            shape = (channels, height, width)
            return Manifest(saved["name"], load(saved["recipe"]), shape, saved["images"]["classes"])
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path} is not a recipe of this version ({error})") from error


def _of_today(saved: Any) -> Any:
    """A claim with the fields that have been added since it was written, at their defaults."""
    try:
        return {**saved, "recipe": dump(load(saved["recipe"]))}
    except (KeyError, TypeError, ValueError, ImportError):
        return saved


def _changes(theirs: Any, mine: Any, path: str = "") -> str:
    """The dotted names of what differs between two plain JSON values."""
    if isinstance(theirs, dict) and isinstance(mine, dict) and theirs.keys() == mine.keys():
        inner = [_changes(theirs[k], mine[k], f"{path}.{k}") for k in mine if theirs[k] != mine[k]]
        return ", ".join(inner)
    if isinstance(theirs, list) and isinstance(mine, list) and len(theirs) == len(mine):
        pairs = [(i, a, b) for i, (a, b) in enumerate(zip(theirs, mine, strict=True)) if a != b]
        return ", ".join(_changes(a, b, f"{path}.{i}") for i, a, b in pairs)
    return path.removeprefix(".recipe").removeprefix(".") or "recipe"
