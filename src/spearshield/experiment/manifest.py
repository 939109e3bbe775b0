"""The manifest of a run folder: the recipe of the folder, written before anything else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spearshield.experiment.folders import RECIPE, REMEDY, differences, refuse_others
from spearshield.experiment.limits import check_images
from spearshield.experiment.recipe import Recipe, recipe_of
from spearshield.storage.atomic import write_json
from spearshield.storage.digest import digest
from spearshield.storage.reading import file_bytes, read_json, read_object
from spearshield.storage.serialization import dump, field_of, load
from spearshield.storage.tensor_files import LARGEST
from spearshield.types import Shape


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
            ValueError: The folder holds something else than a run, or the run of another recipe;
                names the fields that differ.
        """
        path = folder / RECIPE
        refuse_others(folder, RECIPE)
        images = {"shape": [*self.shape], "classes": self.classes}
        own = {"name": self.name, "recipe": dump(self.recipe), "images": images}
        own |= {"weights_sha256": self.weights}
        if not path.exists():
            write_json(path, own)
            return
        try:
            saved = _with_new_fields(read_json(path), self.weights)
        except ValueError as error:
            raise ValueError(f"{error}; {REMEDY}") from error
        if saved != own:
            raise ValueError(
                f"{folder} holds the run of another recipe (other {differences(saved, own)}); "
                f"{REMEDY}, or delete that folder"
            )

    @staticmethod
    def read(folder: Path) -> Manifest:
        """The manifest in ``folder``. Functions that it names are not imported.

        Raises:
            FileNotFoundError: There is none.
            ValueError: It cannot be read; names the file and the field.
        """
        path = folder / RECIPE
        if not path.exists():
            raise FileNotFoundError(f"{folder} is not a run folder: it has no {RECIPE}")
        saved = {"weights_sha256": "", **read_object(path)}
        recipe = recipe_of(saved, path)
        try:
            shape = field_of(saved, "images.shape", tuple[int, int, int])
            classes = field_of(saved, "images.classes", int)
            check_images(shape, classes)
            name, weights = (field_of(saved, key, str) for key in ("name", "weights_sha256"))
        except ValueError as error:
            raise ValueError(f"{path} is not the manifest of a run folder: {error}") from error
        return Manifest(name, recipe, shape, classes, weights)


def weights_of(recipe: Recipe) -> str:
    """The digest of the file of a recipe's ``weights``; empty if there is none."""
    if not recipe.weights:
        return ""
    path = Path(recipe.weights)
    if not path.is_file():
        raise FileNotFoundError(
            f"the recipe's weights {path} is no file; name a file of trained weights"
        )
    return digest(file_bytes(path, LARGEST))


def _with_new_fields(saved: Any, weights: str) -> Any:
    """A manifest with default values for the fields that were added after it was written."""
    try:
        return {"weights_sha256": weights, **saved, "recipe": dump(load(saved["recipe"]))}
    except (KeyError, TypeError, ValueError, RecursionError):
        return saved
