"""A recipe: data, classifier, defences and attacks of one run, as one frozen value."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from spearshield import discover
from spearshield.adversary import Attack
from spearshield.architecture import Architecture
from spearshield.dataset import Dataset, Split
from spearshield.discover import name_of
from spearshield.judging.trial import Trial
from spearshield.pixels import named
from spearshield.ranges import checked_seed, require
from spearshield.spelling import closest
from spearshield.storage.reading import read_object
from spearshield.storage.serialization import dump, load
from spearshield.threat import ThreatModel
from spearshield.training.learned_attack import AttackFrom
from spearshield.training.loop import Training
from spearshield.training.transfer_attack import TransferFrom

RESERVED = ("outcomes", "pictures", "shared_images", "examined", "con", "prn", "aux", "nul")
"""Names of other folders of a run, and of devices of Windows."""

UNDEFENDED = "undefended"
"""The name of the bare classifier in results, if it is not trained by the recipe."""


@dataclass(frozen=True)
class Recipe:
    """The settings of one run. Written to JSON and read again, it is the same value.

    Args:
        data: The data set.
        classifier: The architecture of the bare classifier.
        pretraining: The training of the bare classifier. ``None``: it is not trained.
        defences: The trainings of the methods. Each protects or attacks the bare classifier or an
            earlier defence.
        trials: The attacks and views under which each defence is evaluated. The bare classifier is
            evaluated once under each attack.
        weights: A file with weights of the bare classifier; replaces ``pretraining``.
        split: The split of the images to attack. Use ``validation`` to choose settings.
        images: Number of images to attack, from the first; 0: all.
        draws: Number of predictions of a random victim for each image; their majority is scored.
        batch_size: Number of images attacked at a time; changes speed and memory, not results.
        seed: Seed of trainings, attacks and random purifiers.

    Raises:
        ValueError: A number is out of range, or ``split`` is unknown.
    """

    data: Dataset
    classifier: Architecture
    pretraining: Training | None
    defences: tuple[Training, ...]
    trials: tuple[Trial, ...]
    weights: str = ""
    split: Split = "test"
    images: int = 0
    draws: int = 10
    batch_size: int = 250
    seed: int = 0

    def __post_init__(self) -> None:
        require(self, "images", at_least=0)
        require(self, "draws", "batch_size", at_least=1)
        checked_seed(self.seed)
        require(self, "split", one_of=get_args(Split))

    @property
    def trainings(self) -> dict[str, Training | None]:
        """The trainings by name: first the training of the bare classifier, then the defences.

        Equal names are numbered: ``dae``, ``dae~2``. The value is ``None`` for a bare classifier
        that is not trained.
        """
        bare = None if self.weights else self.pretraining
        named: dict[str, Training | None] = {name_of(bare) if bare else UNDEFENDED: bare}
        for training in self.defences:
            name = name_of(training)
            while name in named:
                name = _next(name)
            named[name] = training
        return named

    @property
    def threat(self) -> ThreatModel | None:
        """The threat model of the first trial; ``None`` if there are no trials."""
        return self.trials[0].attack.threat if self.trials else None

    @property
    def parameters(self) -> dict[str, Any]:
        """The settings of the bare classifier, for ``Row.parameters``."""
        return {"weights": self.weights, "classifier": dump(self.classifier)}

    def about(self, name: str) -> dict[str, str]:
        """The fields ``recipe``, ``data``, ``split`` and ``classifier`` of rows.

        Args:
            name: The name of the recipe.
        """
        return {
            "recipe": name,
            "data": name_of(self.data),
            "split": self.split,
            "classifier": name_of(self.classifier),
        }

    def trained_on(self, name: str) -> str:
        """The name of the victim that the method of the training ``name`` protects or attacks.

        The default is the bare classifier.
        """
        bare, *_ = self.trainings
        training = self.trainings.get(name)
        return training.trained_on if training and training.trained_on else bare

    def require_training(self, name: str) -> None:
        """Raise if the recipe has no training of this name.

        Raises:
            ValueError: Lists the closest names.
        """
        if not name:
            raise ValueError(f"name a training of this run; it has {', '.join(self.trainings)}")
        if name not in self.trainings:
            raise ValueError(f"no {name!r} in this run; {closest(name, self.trainings)}")

    def require_earlier(self, name: str, needed: str) -> None:
        """Raise unless ``needed`` is a defence that comes before the training ``name``.

        Raises:
            ValueError: Lists the defences before it.
        """
        _, *defences = self.trainings
        earlier = defences[: defences.index(name)] if name in defences else []
        if needed not in earlier:
            raise ValueError(
                f"{name} needs {needed!r}, which is not an earlier defence; "
                f"of those {closest(needed, earlier)}"
            )

    def check_names(self) -> None:
        """Raise if a training has a reserved name, or is referred to but absent or later.

        Raises:
            ValueError: Names both; or a reference to a training does not fit its place.
        """
        for name, training in self.trainings.items():
            if name.lower() in RESERVED:
                raise ValueError(f"a training cannot be called {name!r}; choose another name")
            if training and isinstance(training.learn_from, TransferFrom):
                raise ValueError(
                    f"{name} is trained on {name_of(training.learn_from)}, which only trials of "
                    "the recipe can use"
                )
            source = training and attack_from(training.learn_from)
            for needed in (training and training.trained_on, source):
                if needed:
                    self.require_earlier(name, needed)
        for trial in self.trials:
            for name in references(trial.attack):
                self.require_training(name)
            if isinstance(trial.attack, TransferFrom):
                trial.attack.check()


def _next(name: str) -> str:
    """The next name in the order ``dae``, ``dae~2``, ``dae~3``."""
    stem, _, number = name.rpartition("~")
    return f"{stem}~{int(number) + 1}" if stem and number.isdecimal() else f"{name}~2"


def references(attack: Attack) -> tuple[str, ...]:
    """The names of the trainings that an attack refers to."""
    return attack.trainings if isinstance(attack, (AttackFrom, TransferFrom)) else ()


def attack_from(attack: Attack | None) -> str:
    """The name of the training that an :class:`AttackFrom` refers to; "" for other attacks."""
    return attack.training if isinstance(attack, AttackFrom) else ""


def load_recipe(spec: str) -> Recipe:
    """The recipe of a name, or of a JSON file.

    Args:
        spec: The name of a file of :mod:`spearshield.recipes` or of an installed recipe, or the
            path of a JSON file: the output of ``--dry-run``, or the ``recipe.json`` of a run
            folder. Functions that the file names are not imported; see
            :class:`spearshield.classifiers.user.User`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: There is no such name, or the file is not a recipe.
    """
    path = Path(spec)
    if spec not in discover.names("recipes") and path.is_dir():
        raise ValueError(
            f"{spec} is a folder; name a recipe file in it, such as {path}/recipe.json"
        )
    if spec not in discover.names("recipes") and (path.is_file() or path.suffix == ".json"):
        return read_recipe(path)
    recipe: Recipe = discover.load("recipes", spec).RECIPE
    return recipe


def read_recipe(path: Path) -> Recipe:
    """The recipe in a JSON file: the recipe alone, or the ``recipe.json`` of a run folder.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is not a recipe; names the file and the field.
    """
    return recipe_of(read_object(path), path)


def recipe_of(saved: dict[str, Any], path: Path) -> Recipe:
    """The recipe in the object of a JSON file.

    Raises:
        ValueError: The object is not a recipe; names the file and the field.
    """
    inner = saved["recipe"] if "type" not in saved and "recipe" in saved else saved
    try:
        recipe = load(inner)
    except ValueError as error:
        raise ValueError(f"{path} is not a recipe of this version: {error}") from error
    if not isinstance(recipe, Recipe):
        raise ValueError(f"{path} is not a recipe: it holds {type(recipe).__name__}")
    with named(path):
        recipe.check_names()
    return recipe
