"""Networks on the command line: whose weights they have, and a purifier of one's own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from cli.test_cli import fails
from mutations import fails_under
from spearshield.classifiers import architecture
from spearshield.cli import main, networks
from spearshield.storage.weights import save_weights

COMMANDS = {
    "audit": ["--attack=fgsm", "--eps=0.1"],
    "attack": ["--attack=fgsm", "--eps=0.1"],
    "protect": ["--steps=1", "--held-out=0", "--set=method.width=4"],
    "learn-attack": ["--method=uap", "--steps=1"],
}


def words(command: str, own: Path, *more: str) -> list[str]:
    given = [f"--data={own}/x.npz", f"--out={own}/out", "--device=cpu", *COMMANDS[command]]
    return [command, *given, *more]


@fails_under(
    "random weights accepted",
    (networks, "_drawn", lambda network, again: []),
    command="audit",
    name="m_cnn",
)
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", ["m_cnn", "own_nets:random", "own_nets:new_head"])
def test_random_weights_are_refused_by_every_command(own, capsys, command, name):
    said = fails(capsys, 2, *words(command, own, f"--classifier={name}"))
    assert f"{name} has random weights" in said and "--weights FILE" in said
    assert "new_head" not in name or "(2.weight and 1 others)" in said
    said = fails(capsys, 2, *words(command, own, f"--classifier={name}", "--weights="))
    assert "--weights is empty" in said
    assert not (own / "out" / "results.json").exists() and not (own / "out" / "card.json").exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_weights_of_a_file_or_of_the_function_itself_are_taken(own, command):
    if command == "audit":
        assert main(words(command, own, "--classifier=own_nets:without_weights")) == 0
        shutil.rmtree(own / "out")
    assert main(words(command, own, "--classifier=own_nets:loaded")) == 0
    own_weights = ["--classifier=own_nets:random", f"--weights={own}/w.pt"]
    assert main([*words(command, own, *own_weights), f"--out={own}/again"]) == 0


def test_weights_do_not_go_with_a_model_that_has_its_own(own, capsys):
    shield = words("protect", own, "--classifier=own_nets:loaded")
    assert main(shield) == 0
    audit = ["audit", f"{own}/out", f"--weights={own}/w.pt", f"--data={own}/x.npz"]
    audit += ["--classifier=own_nets:loaded", f"--out={own}/audit"]
    assert "there is no use for --weights with" in fails(capsys, 2, *audit)


def views(path: Path) -> list[str]:
    return [row["view"] for row in json.loads((path / "results.json").read_text())]


@pytest.mark.parametrize("purifier", ["build_rounds", "Rounds", "rounds", "quarters"])
def test_a_purifier_of_ones_own_is_attacked_around_and_ignored(own, capsys, purifier):
    audit = words("audit", own, "--classifier=own_nets:loaded", f"--purifier=own_nets:{purifier}")
    assert main(audit) == 0
    assert views(own / "out") == ["oblivious", "adaptive", "bpda", "worst_case"]
    rows = json.loads((own / "out" / "results.json").read_text())
    name = "quarters" if purifier == "quarters" else "Rounds"
    assert {(row["method"], row["classifier"]) for row in rows} == {(name, "own_nets:loaded")}
    assert rows[1]["robust_acc"] == rows[1]["acc"]  # the exact gradient of rounding is zero
    attack = words("attack", own, "--classifier=own_nets:loaded", f"--purifier=own_nets:{purifier}")
    assert main([*attack, "--view=bpda", f"--out={own}/set"]) == 0
    assert "attacked" in capsys.readouterr().out


def test_a_battery_tries_a_purifier_of_ones_own_in_every_way(own):
    network = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 3))
    network.load_state_dict(torch.load(own / "w.pt", weights_only=True))
    x = torch.from_numpy(np.load(own / "x.npz")["x"])[:, None].float() / 255
    right = network.eval()((4 * x).round() / 4).argmax(1)
    np.savez(own / "right.npz", x=(x * 255).round().byte().numpy(), y=right.numpy())
    audit = ["audit", "--classifier=own_nets:loaded", "--purifier=own_nets:rounds", "--eps=0.3"]
    audit += ["--classes=3"]
    assert main([*audit, f"--data={own}/right.npz", f"--out={own}/out", "--device=cpu"]) == 0
    rows = json.loads((own / "out" / "results.json").read_text())
    assert {row["view"] for row in rows} >= {"oblivious", "adaptive", "bpda"}
    assert rows[-1]["acc"] == 1.0 and rows[-1]["robust_acc"] == 0.0


def test_a_purifier_in_front_of_a_shield(own):
    assert main(words("protect", own, "--classifier=own_nets:loaded")) == 0
    card = (own / "out" / "card.json").read_bytes()
    audit = ["audit", f"{own}/out", "--classifier=own_nets:loaded", f"--data={own}/x.npz"]
    audit += ["--purifier=own_nets:quarters", "--attack=fgsm", "--eps=0.1", f"--out={own}/audit"]
    assert main(audit) == 0
    assert views(own / "audit") == ["oblivious", "adaptive", "bpda", "worst_case"]
    assert (own / "out" / "card.json").read_bytes() == card  # it is not about this shield alone


def test_the_weights_of_a_purifier(own, capsys):
    audit = words("audit", own, "--classifier=own_nets:loaded", "--purifier=own_nets:denoiser")
    said = fails(capsys, 2, *audit)
    assert "own_nets:denoiser has random weights" in said and "--purifier-weights FILE" in said
    assert "--purifier-weights is empty" in fails(capsys, 2, *audit, "--purifier-weights=")
    trained = nn.Sequential(nn.Conv2d(1, 4, 3, 1, 1), nn.Conv2d(4, 1, 3, 1, 1), nn.Sigmoid())
    save_weights(trained, own / "p.safetensors")
    assert main([*audit, f"--purifier-weights={own}/p.safetensors"]) == 0
    assert "does not fit" in fails(
        capsys, 2, *audit, f"--purifier-weights={own}/w.pt", f"--out={own}/b"
    )


@pytest.mark.parametrize(
    ("purifier", "said"),
    [
        ("own_nets:nothing", "has no function 'nothing'"),
        ("own_nets", "write package.module:function"),
        ("own_nets:two", "cannot be called"),
        ("own_nets:half", "it must keep both"),
        ("own_nets:outside", "is not an image"),
    ],
)
def test_a_mistake_about_a_purifier_is_one_line(own, capsys, purifier, said):
    if purifier.endswith("outside"):
        layer = nn.BatchNorm2d(1)
        layer.bias.data += 2
        save_weights(layer, own / "p.safetensors")
        purifier = [f"--purifier={purifier}", f"--purifier-weights={own}/p.safetensors"]
    else:
        purifier = [f"--purifier={purifier}"]
    assert said in fails(capsys, 2, *words("audit", own, "--classifier=own_nets:loaded", *purifier))
    lonely = words("audit", own, "--classifier=own_nets:loaded", "--purifier-weights=p.safetensors")
    assert "goes with --purifier" in fails(capsys, 2, *lonely)


def test_a_named_architecture_needs_the_weights_of_its_shape(own):
    save_weights(architecture("m_cnn").build((1, 8, 8), 3), own / "m.safetensors")
    assert main(words("audit", own, "--classifier=m_cnn", f"--weights={own}/m.safetensors")) == 0
