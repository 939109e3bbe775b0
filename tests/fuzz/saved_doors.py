"""The doors of saved files: weights, recipes, cards, results, and the records of folders."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from torch import nn

import spearshield as ss
from fuzz import models, samples, weights
from fuzz.door import Door
from fuzz.oracle import Refusal, answered, check_images, command, require
from fuzz.values import Made, json_files, spoilt, written
from spearshield import discover
from spearshield.experiment.recipe import load_recipe, read_recipe
from spearshield.experiment.run import Run
from spearshield.storage.digest import digest
from spearshield.storage.serialization import dump, load
from spearshield.storage.weights import load_weights

RECIPES = list(discover.names("recipes"))
TREES = st.sampled_from([dump(load_recipe(name)) for name in RECIPES])


def enter_weights(given: tuple[str, Made]) -> bool:
    """Load a file of weights into a linear layer."""
    suffix, made = given
    path = Path(f"w{suffix}")
    path.write_bytes(made.content)
    network = nn.Sequential(nn.Linear(4, 3))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    answer = answered(lambda: load_weights(network, path), file=path, whole=made.whole)
    require(not Path("unpickled").exists(), "code of the file was run")
    after = network.state_dict()
    for name, value in after.items():
        require(value.shape == before[name].shape, f"{name} changed its shape", value.shape)
        require(value.dtype == torch.float32, f"{name} changed its dtype", value.dtype)
        require(bool(value.isfinite().all()), f"{name} is not finite")
        if isinstance(answer, Refusal):
            require(torch.equal(value, before[name]), "a refused file changed the network")
    return not isinstance(answer, Refusal)


WEIGHTS = Door("weights", weights.weight_files(), enter_weights, weight=2)


def enter_recipe(made: Made) -> bool:
    """Read a recipe, make a run of it, and print it as ``run --dry-run``."""
    path = Path("recipe.json")
    path.write_bytes(made.content)
    recipe = answered(lambda: read_recipe(path), file=path, whole=made.whole)
    status = command(["run", "recipe.json", "--dry-run"], file=path, whole=made.whole)
    if isinstance(recipe, Refusal):
        require(isinstance(status, Refusal), "the command accepts a recipe that the api refuses")
        return False
    require(status == 0, "the command refuses a recipe that the api accepts", status)
    again = load(json.loads(json.dumps(dump(recipe))))
    require(again == recipe, "the recipe changes on its way through JSON", (recipe, again))
    answered(recipe.check_names)
    run = answered(lambda: Run(recipe, "r", Path("run")))
    answered(lambda: [run.recipe.trained_on(name) for name in run.selected_names])
    return True


RECIPE = Door("recipe.json", json_files(TREES), enter_recipe, weight=2)


@st.composite
def cards(draw: DrawFn) -> tuple[str, Made, Made | None]:
    """The folder of a shield or spear; its card, and its weights, if these are changed as well."""
    kind = draw(st.sampled_from(["known", "known", "shield", "spear"]))
    folder = samples.whole() / kind
    card = samples.json_of(f"{kind}/card.json")
    change = draw(st.sampled_from(["card"] * 5 + ["weights", "both"]))
    body = None
    if change != "card":
        how, content = draw(spoilt((folder / "weights.safetensors").read_bytes(), 3000))
        body = Made(how, content, whole=False)
        card["sha256"] = digest(content)
    made = (
        draw(json_files(st.just(card)))
        if change != "weights"
        else Made("good", written(card), True)
    )
    return kind, made, body


def enter_card(given: tuple[str, Made, Made | None]) -> bool:
    """Load a saved shield or spear and use it."""
    kind, made, body = given
    folder = Path(kind)
    shutil.copytree(samples.whole() / kind, folder)
    (folder / "card.json").write_bytes(made.content)
    if body:
        (folder / "weights.safetensors").write_bytes(body.content)
    whole = made.whole and body is None
    saved = answered(lambda: ss.load(folder), file=folder, whole=whole)
    if isinstance(saved, Refusal):
        return False
    x = torch.rand(2, *saved.card.shape)
    if isinstance(saved, ss.Shield):
        used = answered(lambda: (saved.purify(x), saved(x), saved.rejects(x)))
        if not isinstance(used, Refusal):
            check_images(used[0], "purified images")
            require(bool(used[1].isfinite().all()), "logits are not finite")
    else:
        used = answered(lambda: saved(models.build(saved.card.shape), x, torch.zeros(2).long()))
        if not isinstance(used, Refusal):
            check_images(used, "attacked images")
            require(bool(saved.threat.contains(used, x).all()), "outside the budget", saved.threat)
    answered(lambda: saved.save("again"))
    return True


CARD = Door("card.json", cards(), enter_card, weight=2)


def enter_results(made: Made) -> bool:
    """Make a report of a file of results."""
    path = Path("results.json")
    path.write_bytes(made.content)
    status = command(["report", "results.json", "--out", "out"], file=path, whole=made.whole)
    if isinstance(status, Refusal):
        return False
    page = Path("out/report.html").read_text(encoding="utf-8")
    require("<script>alert" not in page, "the page runs a text of the results")
    return True


RESULTS = Door(
    "results.json",
    json_files(st.deferred(lambda: st.just(samples.json_of("results.json")))),
    enter_results,
)

REPEATED = {"audit": samples.AUDIT, "shield": samples.PROTECT, "spear": samples.LEARN}
"""The commands that resume the folders of the samples."""


@st.composite
def records(draw: DrawFn) -> tuple[str, Made]:
    """A file in the folder of an audit, shield or attack, and its new content."""
    folder = samples.whole()
    top = folder / draw(st.sampled_from([*REPEATED]))
    places = sorted(p for p in top.rglob("*") if p.suffix in (".json", ".safetensors"))
    place = draw(st.sampled_from(places))
    name = str(place.relative_to(folder))
    if place.suffix == ".json":
        return name, draw(json_files(st.just(samples.json_of(name))))
    how, content = draw(spoilt(place.read_bytes(), draw(st.sampled_from([None, 2000]))))
    return name, Made(how, content, whole=False)


def enter_record(given: tuple[str, Made]) -> bool:
    """Repeat the command that wrote a folder, after a change of one of its files."""
    name, made = given
    samples.unpack(Path.cwd())
    Path(name).write_bytes(made.content)
    folder = name.partition("/")[0]
    status = command(REPEATED[folder], whole=made.whole)
    if folder == "audit" and not isinstance(status, Refusal):
        samples.check_results(Path("audit/results.json"))
    return not isinstance(status, Refusal)


RECORD = Door("resumed folder", records(), enter_record)

DOORS = (WEIGHTS, RECIPE, CARD, RESULTS, RECORD)
