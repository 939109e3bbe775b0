"""A user's network: its arguments, its errors, and that no file alone makes it run code."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from spearshield.classifiers import architecture
from spearshield.classifiers.user import UnnamedFunction, User
from spearshield.storage.serialization import dump, load

SOURCE = """
from torch import nn

def both(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], classes))

def neither():
    return both((1, 4, 4), 3)

def one(classes, width=5):
    return nn.Sequential(nn.Flatten(), nn.Linear(16, width), nn.Linear(width, classes))

class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.fc = nn.Linear(16, classes)

    def forward(self, x):
        return self.fc(x.flatten(1))

def greedy(depth):
    return neither()

def broken():
    return {}["weights"]

class BrokenForward(nn.Module):
    def forward(self, x):
        return x.nonsense()

def number():
    return 3

def named():
    class Named(Net):
        def forward(self, x):
            return {"logits": self.fc(x.flatten(1))}
    return Named(3)

answer = 42

instance = neither()

make = lambda classes: both((1, 4, 4), classes)

def empty():
    return neither().to("meta")

def half():
    return neither().half()

def lazy():
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(3))

class Many(Net):
    def forward(self, x, mask):
        return self.fc(x.flatten(1))
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """The name of a module on the path, different for each test."""
    name = f"mine_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


@pytest.mark.parametrize("function", ["both", "neither", "one", "Net", "make", "lazy"])
def test_a_function_gets_the_arguments_that_it_has_parameters_for(mine: str, function: str) -> None:
    network = architecture(f"{mine}:{function}").build((1, 4, 4), 3)
    assert network(torch.rand(2, 1, 4, 4)).shape == (2, 3)
    assert network.training


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("broken", r"broken failed: KeyError: 'weights' \(at .*mine_\d+\.py:25\)"),
        ("BrokenForward", r"does not take 1x4x4 images: AttributeError: .*nonsense.* \(at .*:29\)"),
        ("greedy", r"\(depth\) cannot be called \(missing a required argument: 'depth'\)"),
        ("number", r"must return a torch\.nn\.Module, it returned int"),
        ("named", r"must return logits of shape \(1, 3\) for one image, it returns dict"),
        ("instance", r"instance is a network; .* as in def build\(\): return instance"),
        ("empty", "1.weight is on the device meta"),
        ("Many", r"does not take 1x4x4 images: TypeError: .*missing 1 required .* 'mask'"),
        ("answer", "has no function 'answer'; it has both, neither, one, Net"),
        ("absent", "has no function 'absent'; it has both"),
    ],
)
def test_a_wrong_function_is_refused(mine: str, function: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        architecture(f"{mine}:{function}").build((1, 4, 4), 3)


def test_a_network_for_a_wrapper_may_have_other_outputs(mine: str) -> None:
    x = torch.rand(2, 1, 4, 4)
    assert architecture(f"{mine}:named").network((1, 4, 4), 3)(x)["logits"].shape == (2, 3)
    assert architecture(f"{mine}:neither").network((1, 4, 4), 7)(x).shape == (2, 3)
    assert architecture(f"{mine}:half").network((1, 4, 4), 3)(x.half()).dtype == torch.float16
    with pytest.raises(ValueError, match="does not take 1x5x5 images"):
        architecture(f"{mine}:named").network((1, 5, 5), 3)


def test_other_images_and_classes_are_refused(mine: str) -> None:
    with pytest.raises(ValueError, match=r"neither does not take 1x5x5 images: mat1 and mat2"):
        architecture(f"{mine}:neither").build((1, 5, 5), 3)
    with pytest.raises(ValueError, match=r"logits of shape \(1, 4\).*returns \(1, 3\)"):
        architecture(f"{mine}:neither").build((1, 4, 4), 4)


def test_an_absent_module_is_refused(mine: str) -> None:
    with pytest.raises(ValueError, match="could not be imported .*No module named.*PYTHONPATH"):
        architecture(f"{mine}_not:both").build((1, 4, 4), 3)


def test_a_module_that_fails_at_import_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine_broken.py").write_text("def both(:\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match="mine_broken could not be imported .*syntax"):
        architecture("mine_broken:both").build((1, 4, 4), 3)
    (tmp_path / "mine_failing.py").write_text("ready = 1\nready / 0\n")
    with pytest.raises(ValueError, match="failed at import: ZeroDivisionError: .*failing.py:2"):
        architecture("mine_failing:both").build((1, 4, 4), 3)


@pytest.mark.parametrize("script", ["import sys\nsys.exit(3)", "raise SystemExit"])
def test_a_script_that_ends_the_program_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    name = f"mine_script_{len(script)}"
    (tmp_path / f"{name}.py").write_text(script)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match=r"ends the program when it is imported .*__main__"):
        architecture(f"{name}:both").build((1, 4, 4), 3)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (":both", r"write package\.module:function"),
        ("mine:", r"write package\.module:function"),
        ("mine:a b", r"write package\.module:function"),
        ("mine.both", r"'mine\.both' names no classifier; write package\.module:function"),
        ("nets/mine.py", "names no classifier"),
        ("mine.py:both", r"path of a file; .*PYTHONPATH=\., and write mine:both"),
        ("nets/mine.py:both", "path of a file; .*PYTHONPATH=nets, and write mine:both"),
        ("nets/mine:both", "path of a file; .*PYTHONPATH=nets, and write mine:both"),
    ],
)
def test_half_a_target_or_a_path_is_refused(target: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        architecture(target).build((1, 4, 4), 3)


def test_a_function_that_only_a_file_names_is_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = f"import pathlib\npathlib.Path({str(tmp_path / 'ran')!r}).touch()\n"
    (tmp_path / "untrusted.py").write_text(mark + SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    written = dump(User("untrusted:both"))
    network = load(written).build((1, 4, 4), 3)
    assert isinstance(network, UnnamedFunction)
    for use in (lambda: network(torch.rand(1, 1, 4, 4)), network.state_dict):
        with pytest.raises(ValueError, match="runs its code.*add --classifier untrusted:both"):
            use()
    assert not (tmp_path / "ran").exists()
    assert architecture("untrusted:both") == load(written)
    assert load(written).build((1, 4, 4), 3)(torch.rand(2, 1, 4, 4)).shape == (2, 3)
    assert (tmp_path / "ran").exists()


def test_the_display_name_is_the_function() -> None:
    assert User("untrusted:both").display_name == "untrusted:both"
