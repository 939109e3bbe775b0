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
from fuzz.values import texts
from spearshield import discover
from spearshield.cli.options import changed
from spearshield.experiment.overrides import element_name
from spearshield.experiment.recipe import load_recipe
from spearshield.storage.serialization import dump, load

NUMBERS = (
    "0",
    "1",
    "-1",
    "0.5",
    "2.5",
    "1e9",
    "1e999",
    "nan",
    "inf",
    "1_000",
    "0x10",
    "8/255",
    "1/0",
    "1e-320",
    "99999999999999999999",
    "٣",
    " 4 ",
    "+3",
    "1,2",
    "1,",
    ",",
    "none",
    "true",
    "False",
    "[]",
    "()",
)
VALUES = (
    st.sampled_from(
        [*NUMBERS] * 2
        + [*discover.names("attacks"), *discover.names("methods")]
        + [*discover.names("datasets"), *discover.names("classifiers"), *discover.names("recipes")]
        + [
            "eot(10)",
            "eot(0)",
            "eot(",
            "eot)",
            "bpda(stand_in)",
            "Linf",
            "L2",
            "timm:resnet18",
            "torchvision:",
            "os:abort",
            "fuzz.models:build",
            "fuzz.models:",
            ":build",
            ".",
            "..",
            "/",
            "photos",
            "t.npz",
            "train",
        ]
    )
    | texts
)


def field_paths(value: Any, path: str = "") -> list[str]:
    """The dotted names of all fields of a frozen value."""
    items: list[tuple[str, Any]] = []
    if isinstance(value, tuple):
        items = [(str(i), v) for i, v in enumerate(value)] + [
            (element_name(v), v) for v in value if is_dataclass(v)
        ]
    elif is_dataclass(value):
        items = [(f.name, getattr(value, f.name)) for f in fields(value)]
    found = [p for name, v in items for p in field_paths(v, f"{path}.{name}".strip("."))]
    return [path, *found]


@cache
def paths_of(recipe: str) -> list[str]:
    """The dotted names of all fields of a recipe."""
    return sorted(filter(None, field_paths(load_recipe(recipe))))


def likely(recipe: str, path: str) -> SearchStrategy[str]:
    """Texts of the type of a field of a recipe."""
    value = value_at(recipe, path)
    if isinstance(value, bool):
        return st.sampled_from(["true", "false", "True", "1"])
    if isinstance(value, int):
        return st.integers(-2, 300).map(str) | st.sampled_from(["1000000000000", str(value)])
    if isinstance(value, float):
        return st.floats().map(str) | st.floats(0, 1).map(str)
    if isinstance(value, tuple):
        return st.lists(st.integers(-1, 300).map(str), max_size=4).map(",".join)
    return VALUES


def value_at(recipe: str, path: str) -> Any:
    """The value of a field; ``None`` if there is none."""
    value: Any = load_recipe(recipe)
    for step in path.split("."):
        if isinstance(value, tuple):
            names = {str(i): v for i, v in enumerate(value)} | {
                element_name(v): v for v in value if is_dataclass(v)
            }
            value = names.get(step)
        else:
            value = getattr(value, step, None) if step.isidentifier() else None
    return value


@st.composite
def settings_of_recipes(draw: DrawFn) -> tuple[str, list[str]]:
    """The name of a recipe, and one to three values of ``--set``."""
    recipe = draw(st.sampled_from([*discover.names("recipes")]))
    changes = []
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
        path = draw(st.sampled_from(paths_of(recipe)))
        if draw(st.integers(0, 9)) == 0:
            path = draw(
                st.sampled_from(
                    ["{}.x", "{}.0", "x.{}", "{}.", ".{}", "", "{}..a", " {} ", "{}.-1"]
                )
            ).format(path)
        equals = draw(st.sampled_from(["="] * 12 + ["", "==", " = "]))
        changes.append(f"{path}{equals}{draw(likely(recipe, path) | VALUES)}")
    return recipe, changes


def enter_set(given: tuple[str, list[str]]) -> bool:
    """Print a recipe with changes, as ``run --set ... --dry-run``."""
    name, changes = given
    recipe = answered(lambda: changed(load_recipe(name), changes))
    words = [f"--set={change}" for change in changes]
    status = command(["run", name, "--dry-run", *words])
    if isinstance(recipe, Refusal):
        require(
            isinstance(status, Refusal), "the command accepts what the api refuses", recipe.message
        )
        return False
    require(status == 0, "the command refuses what the api accepts")
    again = load(json.loads(json.dumps(dump(recipe), allow_nan=False)))
    require(again == recipe, "the recipe changes on its way through JSON", (recipe, again))
    return True


SET = Door("--set", settings_of_recipes(), enter_set, weight=2)

ATTACKS = (
    "fgsm",
    "fgsm",
    "fgsm",
    "bim",
    "random",
    "",
    "spear",
    "shield",
    "t.npz",
    "FGSM",
    "deepfool",
)
OPTIONS: dict[str, Any] = {
    "--eps": st.sampled_from(
        [*NUMBERS, "0.1", "8/255", "8", "2", "300", "1e-9", "0.3.1", "8//255", "1/-3"]
    )
    | texts,
    "--threat": st.sampled_from(
        ["Linf", "L2", "linf", "L0", "", "inf", "Linf(0.1)", "ThreatModel"]
    ),
    "--size": st.sampled_from(
        ["6x6", "6", "6X6", "0x6", "6x6x6", "-6x6", "6x", "²x6", "1000000x1000000", "x", "3x9", ""]
    ),
    "--view": st.sampled_from(
        [
            "adaptive",
            "oblivious",
            "bpda",
            "eot",
            "eot(2)",
            "eot(0)",
            "eot(-1)",
            "eot(x)",
            "EOT",
            "bpda(stand_in)",
            "bpda()",
            "detector_aware",
            "in_range",
            "transferred",
            "",
            "(",
        ]
    ),
    "--images": st.sampled_from(["1", "3", "0", "-1", "1000", "1.5", "x", "99999999999999999999"]),
    "--classes": st.sampled_from(["3", "1", "0", "-1", "10", "100000000", "2", "x"]),
    "--mean": st.sampled_from(["0.5", "0.5,0.5", "", "x", "nan", "0.5,", "1e999", "0,0,0"]),
    "--std": st.sampled_from(["0.5", "0", "-1", "0.5,0.5", "nan", "inf", "1e-320", "0.5;0.5"]),
    "--output": st.sampled_from(
        ["logits", "probabilities", "binary_logit", "binary_probability", "x"]
    ),
    "--split": st.sampled_from(["test", "train", "validation", "all"]),
    "--seed": st.sampled_from(
        ["0", "1", "-1", "99999999999999999999", "1.5", str(2**63), str(2**64)]
    ),
    "--device": st.sampled_from(["cpu", "auto", "cuda", "mps", "cpu:0", "meta"]),
    "--data": st.sampled_from(
        [
            "t.npz",
            "t.npz",
            "photos",
            "digits",
            "w.npz",
            "absent.npz",
            "",
            ".",
            "shield",
            "npz",
            "image_folder",
            "t.npz/x",
        ]
    ),
    "--classifier": st.sampled_from(
        ["fuzz.models:build"] * 4
        + [
            "fuzz.models:fails",
            "fuzz.models:not_a_network",
            "fuzz.models:absent",
            "fuzz.models",
            "absent:x",
            "m_cnn",
            "lenet",
            "timm:",
            "torchvision:resnet18",
            "timm:resnet18",
            "fuzz.models:SHAPE",
            "",
            ":",
            "os:abort",
            "a b:c",
            "fuzz.models:build:x",
            "user",
            "json:loads",
            "fuzz..models:x",
            ".:x",
            "math:pi",
        ]
    ),
    "--weights": st.sampled_from(
        ["w.npz", "absent.pt", "", "t.npz", "photos", "w.txt", ".", "shield/weights.safetensors"]
    ),
    "--purifier": st.sampled_from(
        [
            "fuzz.models:smooth",
            "fuzz.models:fails",
            "fuzz.models:build",
            "fuzz.models:not_a_network",
            "absent:x",
            "",
            "math:pi",
            "math:sqrt",
            "json:loads",
            "torch:relu",
            "builtins:list",
            "builtins:print",
        ]
    ),
    "--purifier-weights": st.sampled_from(["w.npz", "absent.pt", ""]),
    "--effort": st.sampled_from(["quick", "slow"]),
    "--min-robust-acc": st.sampled_from(["0.5", "1.5", "nan", "50%", "-0", "x"]),
    "--data-dir": st.sampled_from([".", "absent", "t.npz", ""]),
    "--set": st.sampled_from(
        [
            "attack.steps=1",
            "attack.x=1",
            "view.samples=2",
            "steps=1",
            "attack=pgd",
            "x",
            "=",
            "attack.threat=Linf",
            "attack.threat.eps=0.2",
            "attack.threat.eps=nan",
            "view=eot",
        ]
    ),
    "--transfer-from": st.sampled_from(["shield", "absent", "t.npz", "."]),
    "--format": st.sampled_from(["npz", "safetensors", "png"]),
    "--out": st.sampled_from(
        ["out"] * 6 + ["t.npz", "shield", "", "a/b/c", "out\x00", "x" * 300, "t.npz/a", "."]
    ),
    "--attack": st.sampled_from(ATTACKS),
    "--steps": st.sampled_from(["0", "1", "-1", "x"]),
    "--batch-size": st.sampled_from(["2", "0", "-1", "1", "1000"]),
    "--held-out": st.sampled_from(["0", "-1", "1000"]),
    "--method": st.sampled_from(["dae", "ape_gan", "adv_gan", "absent", "", "uap"]),
    "--require-valid": st.none(),
    "--debug-x": st.none(),
}
OWN = (
    "--eps",
    "--threat",
    "--size",
    "--images",
    "--classes",
    "--mean",
    "--std",
    "--output",
    "--split",
    "--seed",
    "--device",
    "--data",
    "--classifier",
    "--weights",
    "--data-dir",
    "--out",
    "--attack",
    "--set",
)
AUDIT = (
    *OWN,
    "--view",
    "--purifier",
    "--purifier-weights",
    "--effort",
    "--min-robust-acc",
    "--transfer-from",
    "--require-valid",
)
TEMPLATES: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "audit": (
        [
            "--classifier",
            "fuzz.models:build",
            "--data",
            "t.npz",
            "--attack",
            "fgsm",
            "--eps",
            "0.1",
            "--out",
            "out",
        ],
        AUDIT,
    ),
    "audit shield": (
        [
            "--data",
            "t.npz",
            "--attack",
            "fgsm",
            "--eps",
            "0.1",
            "--classifier",
            "fuzz.models:build",
            "--out",
            "out",
        ],
        AUDIT,
    ),
    "attack": (
        [
            "--classifier",
            "fuzz.models:build",
            "--data",
            "t.npz",
            "--attack",
            "fgsm",
            "--eps",
            "0.1",
            "--out",
            "out",
        ],
        (*AUDIT[:-4], "--format"),
    ),
    "protect": (
        [
            "--classifier",
            "fuzz.models:build",
            "--data",
            "t.npz",
            "--method",
            "dae",
            "--steps",
            "1",
            "--batch-size",
            "2",
            "--held-out",
            "0",
            "--out",
            "out",
        ],
        (*OWN, "--steps", "--batch-size", "--held-out", "--method"),
    ),
    "learn-attack": (
        [
            "--classifier",
            "fuzz.models:build",
            "--data",
            "t.npz",
            "--method",
            "adv_gan",
            "--steps",
            "1",
            "--batch-size",
            "2",
            "--out",
            "out",
        ],
        (*OWN, "--steps", "--batch-size", "--method"),
    ),
    "purify shield": (
        ["t.npz", "out"],
        ("--device", "--seed", "--data-dir", "--classifier", "--set"),
    ),
    "run quickstart": (["--dry-run"], ("--seed", "--device", "--data-dir", "--out", "--set")),
    "run recipe.json": (["--dry-run"], ("--seed", "--device", "--data-dir", "--out", "--set")),
    "report": (["results.json", "--out", "out"], ("--out", "--debug-x")),
    "list": (["attacks"], ("--debug-x",)),
    "show": (["fgsm"], ("--debug-x",)),
}
LOOSE = (
    "",
    "absent",
    "t.npz",
    "shield",
    ".",
    "photos",
    "-",
    "--",
    "digits",
    "a/b",
    "/",
    "x" * 5000,
    "--eps",
    "\ud800",
    "a\nb",
)


@st.composite
def command_lines(draw: DrawFn) -> list[str]:
    """A command that works, with one to three of its words changed."""
    name = draw(st.sampled_from([*["audit"] * 6, *["attack"] * 3, *TEMPLATES]))
    template, own = TEMPLATES[name]
    words = [*template]
    for _ in range(draw(st.sampled_from([1, 1, 2, 3]))):
        kind = draw(st.sampled_from(["option"] * 8 + ["loose", "drop", "other"]))
        if kind == "loose":
            words.insert(draw(st.integers(0, len(words))), draw(st.sampled_from(LOOSE)))
        elif kind == "drop" and words:
            del words[draw(st.integers(0, len(words) - 1))]
            words += ["--dry-run"] if name.startswith("run") else []
        else:
            option = draw(st.sampled_from(own if kind == "option" else [*OPTIONS]))
            value = draw(OPTIONS[option])
            if option in words and option not in ("--attack", "--view", "--set"):
                i = words.index(option)
                del words[i : i + 2]
            words += [option] if value is None else [f"{option}={value}"]
    return [*name.split(), *words]


def enter_words(words: list[str]) -> bool:
    """Run a command in a folder with images, weights, a shield, a recipe and results."""
    samples.unpack(Path.cwd())
    status = command(words, fine=(0, 3))
    if isinstance(status, Refusal):
        return False
    folder = Path("out")
    if words[0] == "audit":
        samples.check_results(folder / "results.json")
    if words[0] == "attack":
        samples.check_adversarial(folder)
    return True


WORDS = Door("command line", command_lines(), enter_words, weight=2)

DOORS = (SET, WORDS)
