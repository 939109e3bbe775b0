"""The doors of words: ``--set`` on every recipe, and the options of every command."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from fuzz import samples
from fuzz.door import Door
from fuzz.oracle import Refusal, answered, command, require
from fuzz.words import COMMANDS, LOOSE, OPTIONS, SHORT, VALUES
from spearshield import discover
from spearshield.cli.options import changed
from spearshield.experiment.overrides import element_name
from spearshield.experiment.recipe import Recipe, load_recipe
from spearshield.storage.serialization import dump, load


def parts(value: Any) -> list[tuple[str, Any]]:
    """The fields of a frozen value, or the elements of a tuple by position and by name."""
    if isinstance(value, tuple):
        named = [(element_name(v), v) for v in value if is_dataclass(v)]
        return [(str(i), v) for i, v in enumerate(value)] + named
    return [(f.name, getattr(value, f.name)) for f in fields(value)] if is_dataclass(value) else []


def field_paths(value: Any, path: str = "") -> list[str]:
    """The dotted names of all fields of a frozen value."""
    inner = [p for name, v in parts(value) for p in field_paths(v, f"{path}.{name}".strip("."))]
    return [path, *inner]


@cache
def paths_of(recipe: str, leaves: bool) -> list[str]:
    """The dotted names of the fields of a recipe: of all, or of those without fields."""
    found = sorted(filter(None, field_paths(load_recipe(recipe))))
    return [p for p in found if not leaves or not any(q.startswith(f"{p}.") for q in found)]


def likely(recipe: str, path: str) -> SearchStrategy[str]:
    """Texts of the type of a field of a recipe."""
    value: Any = load_recipe(recipe)
    for step in path.split("."):
        value = dict(parts(value)).get(step)
    if isinstance(value, bool):
        return st.sampled_from(["true", "false", "True", "1"])
    if isinstance(value, int):
        return st.integers(-2, 300).map(str) | st.sampled_from(["1000000000000", str(value)])
    if isinstance(value, float):
        return st.floats().map(str) | st.floats(0, 1).map(str)
    if isinstance(value, tuple):
        return st.lists(st.integers(-1, 300).map(str), max_size=4).map(",".join)
    return VALUES


ODD_PATHS = ("{}.x", "{}.0", "x.{}", "{}.", ".{}", "", "{}..a", " {} ", "{}.-1", "{}.²")


@st.composite
def settings_of_recipes(draw: DrawFn) -> tuple[str, list[str]]:
    """The name of a recipe, and one to three values of ``--set``."""
    recipe = draw(st.sampled_from([*discover.names("recipes")]))
    changes = []
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
        path = draw(st.sampled_from(paths_of(recipe, leaves=draw(st.integers(0, 3)) > 0)))
        value = draw(likely(recipe, path) | likely(recipe, path) | VALUES)
        if draw(st.integers(0, 9)) == 0:
            path = draw(st.sampled_from(ODD_PATHS)).format(path)
        equals = draw(st.sampled_from(["="] * 12 + ["", "==", " = "]))
        changes.append(f"{path}{equals}{value}")
    return recipe, changes


def enter_set(given: tuple[str, list[str]]) -> bool:
    """Print a recipe with changes, as ``run --set ... --dry-run``."""
    name, changes = given

    def recipe_with_changes() -> Recipe:
        recipe = changed(load_recipe(name), changes)
        recipe.check_names()
        return recipe

    recipe = answered(recipe_with_changes)
    status = command(["run", name, "--dry-run", *(f"--set={change}" for change in changes)])
    if isinstance(recipe, Refusal):
        refused = isinstance(status, Refusal)
        require(refused, "the command accepts what the api refuses", recipe.message)
        return False
    require(status == 0, "the command refuses what the api accepts")
    again = load(json.loads(json.dumps(dump(recipe), allow_nan=False)))
    require(again == recipe, "the recipe changes on its way through JSON", (recipe, again))
    return True


@st.composite
def command_lines(draw: DrawFn) -> list[str]:
    """A command that works, with one to three of its words changed."""
    name = draw(st.sampled_from([*["audit"] * 6, *["attack"] * 3, *COMMANDS]))
    good, own = COMMANDS[name]
    words = good.split()
    for _ in range(draw(st.sampled_from([1, 1, 2, 3]))):
        kind = draw(st.sampled_from(["option"] * 8 + ["loose", "drop", "other"]))
        if kind == "loose":
            words.insert(draw(st.integers(0, len(words))), draw(LOOSE))
        elif kind == "drop" and words:
            del words[draw(st.integers(0, len(words) - 1))]
        else:
            option = draw(st.sampled_from(own if kind == "option" else [*OPTIONS]))
            value = draw(OPTIONS[option])
            if option in words and option not in ("--attack", "--view", "--set"):
                i = words.index(option)
                del words[i : i + 2]
            words += [option] if value is None else [f"{option}={value}"]
    short = SHORT.get(name.split()[0], "")
    if not any(word.startswith(short.split("=")[0]) for word in words):
        words.append(short)
    return [*name.split(), *words]


def enter_words(words: list[str]) -> bool:
    """Run a command in a folder with images, weights, a shield, a recipe and results."""
    samples.unpack(Path.cwd())
    status = command(words, fine=(0, 3))
    if isinstance(status, Refusal):
        return False
    folders = [word.removeprefix("--out=") for word in words if word.startswith("--out=")]
    folder = Path(folders[-1] if folders else "out")
    if words[0] == "audit":
        samples.check_results(folder / "results.json")
    if words[0] == "attack":
        samples.check_adversarial(folder)
    return True


DOORS = (
    Door("--set", settings_of_recipes(), enter_set, weight=2),
    Door("command line", command_lines(), enter_words, weight=2),
)
