"""Networks of a user on the command line: their outputs, classes, errors and published weights."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from torch import nn

from cli.test_cli import fails
from cli.test_networks import COMMANDS, words
from spearshield.classifiers import user
from spearshield.cli import main
from spearshield.nets import external


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("name", ["mapping", "double", "compiled", "shares"])
def test_networks_in_every_form(own, name):
    form = ["--output=probabilities"] if name == "shares" else []
    assert main(words("audit", own, f"--classifier=own_nets:{name}", *form)) == 0
    rows = json.loads((own / "out" / "results.json").read_text())
    assert main([*words("audit", own, "--classifier=own_nets:loaded"), f"--out={own}/plain"]) == 0
    plain = json.loads((own / "plain" / "results.json").read_text())
    assert [row["robust_acc"] for row in rows] == [row["robust_acc"] for row in plain]


def test_a_shield_of_a_network_in_another_form(own):
    assert main(words("protect", own, "--classifier=own_nets:mapping")) == 0
    audit = ["audit", f"{own}/out", "--classifier=own_nets:mapping", f"--data={own}/x.npz"]
    assert main([*audit, "--attack=fgsm", "--eps=0.1", "--device=cpu", f"--out={own}/again"]) == 0


def test_a_transfer_takes_a_shield_and_its_network_in_any_order(own, capsys, monkeypatch):
    network = [f"--weights={own}/w.pt", "--classifier=own_nets:with_classes"]
    assert main(words("protect", own, *network)) == 0
    shield, bare = f"{own}/out", f"own_nets:with_classes={own}/w.pt"
    transfer = [f"--data={own}/x.npz", "--attack=fgsm", "--eps=0.1", "--device=cpu"]
    for models in ((bare, shield), (shield, bare)):
        monkeypatch.setattr(user, "_named_by_user", set())
        out = f"--out={own}/first-{models.index(bare)}"
        assert main(["transfer", *models, *transfer, out]) == 0
    monkeypatch.setattr(user, "_named_by_user", set())
    said = fails(capsys, 2, "transfer", shield, f"{own}/out", *transfer, f"--out={own}/other")
    assert "two models are called" in said
    shutil.copytree(shield, own / "again")
    said = fails(capsys, 2, "transfer", shield, f"{own}/again", *transfer, f"--out={own}/other")
    assert "in transfer as a model NAME=WEIGHTS" in said


def test_the_classes_are_the_outputs_where_the_data_lack_some(own, capsys):
    x, y = np.load(own / "x.npz")["x"], np.arange(20) % 2
    np.savez(own / "x.npz", x=x, y=y, x_train=x, y_train=y)  # no image of class 2
    loaded = "--classifier=own_nets:loaded"
    for command in COMMANDS:
        assert main([*words(command, own, loaded), f"--out={own}/{command}"]) == 0
    own_weights = ["--classifier=own_nets:with_classes", f"--weights={own}/w.pt"]
    said = fails(capsys, 2, *words("audit", own, *own_weights))
    assert "does not fit the network" in said and "show 2 classes; --classes sets another" in said
    assert main(words("audit", own, *own_weights, "--classes=3")) == 0
    said = fails(capsys, 2, *words("audit", own, loaded, "--classes=5"))
    assert "--classes is 5, and own_nets:loaded has 3 outputs" in said
    np.savez(own / "x.npz", x=x, y=y + 2, x_train=x, y_train=y + 2)
    for command in COMMANDS:
        said = fails(capsys, 2, *words(command, own, loaded, f"--out={own}/{command}-again"))
        assert "label 3 is out of range: the model has 3 classes" in said


@pytest.mark.parametrize("command", COMMANDS)
def test_an_error_of_a_network_is_one_line_with_its_place(own, capsys, command):
    place = f"KeyError: 'weights' (at {own}/own_nets.py:"
    assert place in fails(capsys, 2, *words(command, own, "--classifier=own_nets:raises"))
    if command in ("audit", "attack"):
        assert place in fails(capsys, 2, *words(command, own, "--classifier=own_nets:tires"))
        broken = words(command, own, "--classifier=own_nets:loaded", "--purifier=own_nets:breaks")
        said = fails(capsys, 2, *broken)
        assert "the purifier breaks fails on images of shape (20, 1, 8, 8): KeyError: " in said
    with pytest.raises(ValueError, match="weights") as traceback:
        main(words(command, own, "--classifier=own_nets:raises", "--debug"))
    assert isinstance(traceback.value.__cause__, KeyError)


WRONG = {
    "kind of output": ("shares", [], "or --output probabilities"),
    "claimed kind": ("loaded", ["--output=probabilities"], "--output logits"),
    "no file": ("random", ["--weights=no.pt"], "--weights no.pt is no file"),
    "a folder": ("random", ["--weights=."], "--weights . is no file"),
    "channels": ("loaded", ["--mean=0.5,0.5,0.5", "--std=1,1,1"], "images have 1"),
    "scale": ("loaded", ["--mean=127", "--std=58"], "must be in [0, 1]"),
    "published": ("loaded", ["--weights=published"], "has no published weights"),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("wrong", WRONG)
def test_a_mistake_about_a_network_is_one_line(own, capsys, command, wrong):
    name, options, said = WRONG[wrong]
    given = words(command, own, f"--classifier=own_nets:{name}", *options)
    assert said in fails(capsys, 2, *given)


@pytest.mark.parametrize("name", ["timm:net", "torchvision:net"])
def test_published_weights(own, capsys, monkeypatch, name):
    def create(*_, num_classes=3, weights="published", pretrained=False, **__):
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))
        if pretrained or weights == published:
            nn.init.ones_(network[1].weight), nn.init.zeros_(network[1].bias)
        return network

    def transforms():
        return SimpleNamespace(mean=(0.5,), std=(0.5,))

    published = SimpleNamespace(meta={"categories": [0, 1, 2]}, transforms=transforms)
    data = SimpleNamespace(resolve_model_data_config=lambda _: {"mean": (0.5,), "std": (0.5,)})
    models = SimpleNamespace(
        list_models=lambda module: ["net"],
        get_model_weights=lambda _: SimpleNamespace(DEFAULT=published),
        get_model=create,
    )
    stubs = {
        "timm": SimpleNamespace(list_models=lambda: ["net"], create_model=create, data=data),
        "torchvision": SimpleNamespace(models=models),
    }
    monkeypatch.setattr(external, "package", lambda package: stubs[package])
    said = fails(capsys, 2, *words("audit", own, f"--classifier={name}"))
    assert "has random weights" in said and "--weights published" in said
    assert main(words("audit", own, f"--classifier={name}", "--weights=published")) == 0
