"""Networks on the command line: whose weights they have, and a purifier of one's own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from cli.test_cli import fails
from mutations import fails_under
from spearshield.classifiers import architecture
from spearshield.cli import main, networks
from spearshield.nets import external
from spearshield.storage.weights import save_weights

MODULE = """
import torch
from torch import nn

def random():
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 3))

def loaded():
    network = random()
    network.load_state_dict(torch.load(__file__.replace("own_nets.py", "w.pt"), weights_only=True))
    return network

def new_head():
    network = loaded()
    network[2] = nn.Linear(64, 3)
    return network

def without_weights():
    return nn.Sequential(nn.AdaptiveAvgPool2d((3, 1)), nn.Flatten())

class Rounds(nn.Module):
    def forward(self, x):
        return (4 * x).round() / 4

def build_rounds(shape):
    assert shape == (1, 8, 8)
    return Rounds()

rounds = Rounds()

def quarters(x):
    return (4 * x).round() / 4

def denoiser():
    return nn.Sequential(nn.Conv2d(1, 4, 3, 1, 1), nn.Conv2d(4, 1, 3, 1, 1), nn.Sigmoid())

def outside():
    return nn.BatchNorm2d(1)

def half():
    return nn.AvgPool2d(2)

def two(x, y):
    return x + y

class Form(nn.Module):
    def __init__(self, form):
        super().__init__()
        self.own, self.form, self.calls = loaded(), form, 0
    def forward(self, x):
        self.calls += 1
        return self.form(self.own(x), self.calls)

def mapping():
    return Form(lambda z, calls: {"hidden": z[:, :1], "logits": z})

def shares():
    return Form(lambda z, calls: z.softmax(1))

def double():
    return loaded().double()

def compiled():
    return torch.jit.script(loaded().eval())

def raises():
    return Form(lambda z, calls: {}["weights"])

def tires():
    return Form(lambda z, calls: z if calls < 5 else {}["weights"])

def with_classes(classes):
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, classes))

def breaks(x):
    return x if len(x) < 20 else {}["images"]
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with functions of a user's own, a classifier's weights, and images in an npz."""
    (tmp_path / "own_nets.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "own_nets", raising=False)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 3))
    torch.save(network.state_dict(), tmp_path / "w.pt")
    x = np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", x_train=x, y_train=np.arange(20) % 3, x=x, y=np.arange(20) % 3)
    return tmp_path


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
    assert "has its own weights; leave --weights out" in fails(capsys, 2, *audit)


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
