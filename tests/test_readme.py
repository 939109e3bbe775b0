"""Every example of the README runs, as it is written there."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from spearshield.cli import main
from spearshield.cli.parser import parser
from spearshield.datasets.digits import Digits

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")

MYNET = """
from torch import nn


def build():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(128, 10)
    )


def smooth(x):
    return nn.functional.avg_pool2d(x, 3, 1, 1)
"""

MY_PROJECT = """
import numpy as np
import torch
from mynet import build, smooth as my_purifier

model = build()
model.load_state_dict(torch.load("w.pt"))
with np.load("images.npz") as file:
    images, labels = file["x_train"], file["y_train"]
    test_images, test_labels = (torch.from_numpy(file[k]) for k in ("x_test", "y_test"))
test_images = test_images.float() / 255
"""


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A folder with a user's network, its weights, images and photos; the working directory."""
    (tmp_path / "mynet.py").write_text(MYNET)
    (tmp_path / "my_project.py").write_text(MY_PROJECT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("mynet", "my_project"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    from mynet import build  # the user's own

    train, test = Digits().load("train")[:250], Digits().load("test")[:40]
    torch.manual_seed(0)
    network = build()
    optimiser = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(60):
        optimiser.zero_grad()
        nn.functional.cross_entropy(network(train.images()), train.y).backward()
        optimiser.step()
    torch.save(network.state_dict(), "w.pt")
    parts = {"train": train, "test": test}
    arrays = {f"x_{name}": part.pixels.numpy() for name, part in parts.items()}
    np.savez("images.npz", **arrays, **{f"y_{n}": part.y.numpy() for n, part in parts.items()})
    Path("photos").mkdir()
    for i, image in enumerate(test.pixels[:3, 0]):
        Image.fromarray(image.numpy()).save(f"photos/{i}.png")
    return tmp_path


def commands(text: str) -> list[list[str]]:
    """The commands of this package in the shell blocks of a page."""
    blocks = re.findall(r"```sh\n(.*?)```", text, re.S)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [
        shlex.split(line, comments=True)[1:] for line in lines if line.startswith("spearshield ")
    ]


def test_the_commands_run_as_they_are_written(project, capsys):
    pytest.importorskip("onnxscript")
    found = commands(README)
    assert [words[0] for words in found] == [
        "audit",
        "audit",
        "protect",
        "audit",
        "export",
        "purify",
    ]
    for words in found:
        assert main(words) == 0, (words, capsys.readouterr().err)
    made = ["audit/report.html", "audit/results.json", "shield/card.json", "shield.onnx"]
    made += ["audit_own/report.html"]
    made += ["shield/weights.safetensors", "audit_shield/report.html", "purified/2.png"]
    for name in made:
        assert (project / name).is_file(), name
    measured = json.loads((project / "shield" / "card.json").read_text())["measured"]
    assert measured["images"] == 40 and measured["verdict"] == "not examined"  # too few


def test_the_python_runs_as_it_is_written(project, capsys):
    pytest.importorskip("onnxscript")
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len(blocks) == 2 and len(blocks[0].strip().splitlines()) <= 10
    namespace: dict[str, object] = {}
    for block in blocks:
        exec(block, namespace)
    said = capsys.readouterr().out
    assert "robust accuracy" in said and "verdict" in said
    for name in ("audit/report.html", "audit/results.json", "shield/card.json", "shield.onnx"):
        assert (project / name).is_file(), name
    assert namespace["x_hat"].shape == namespace["test_images"].shape
    torch.testing.assert_close(
        namespace["wrapped"](namespace["test_images"]), namespace["model"](namespace["test_images"])
    )


PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *(ROOT / "docs").glob("*.md"),
    *(ROOT / "docs" / "results").rglob("*.md"),
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_of_the_documents_parses(page):
    """Commands inside loops too; a variable of the shell stands for a number."""
    text = re.sub(r"\$\(.*?\)", "", page.read_text("utf-8"), flags=re.S)
    text = re.sub(r"\$\w+", "0", text).replace("\\\n", " ")
    text = re.sub(r"^ *(for .*; do )?(spearshield .*?)(; done)?$", r"\2", text, flags=re.M)
    for words in commands(text):
        parser().parse_args(words)
