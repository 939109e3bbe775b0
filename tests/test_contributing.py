"""The method that CONTRIBUTING.md shows satisfies the contract of methods, and is found by name."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from contracts import test_methods as contract
from contracts.test_methods import examples, task  # noqa: F401 - fixtures

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    """The first code block in a language."""
    return re.search(rf"```{language}\n(.*?)```", PAGE, re.S)[1]


@pytest.fixture
def blur(tmp_path, monkeypatch):
    """The method, with its default hyper-parameters."""
    (tmp_path / "blur_example.py").write_text(block("python"))
    spec = importlib.util.spec_from_file_location("blur_example", tmp_path / "blur_example.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "blur_example", module)
    spec.loader.exec_module(module)
    return module.Blur()


@pytest.mark.parametrize(
    "contract_test",
    [
        contract.test_names_its_paper_and_the_differences,
        contract.test_a_step_changes_the_state_and_returns_finite_losses,
        contract.test_does_not_change_the_task,
        contract.test_the_outcome_is_admitted_by_the_judge,
        contract.test_the_output_for_an_image_does_not_depend_on_its_batch,
        contract.test_resuming_changes_nothing,
        contract.test_accepts_colour_images_that_are_not_square,
    ],
)
def test_the_example_satisfies_the_contract_of_methods(contract_test, blur, request):
    names = contract_test.__code__.co_varnames[: contract_test.__code__.co_argcount]
    others = [name for name in names if name not in ("method", "trained")]
    contract_test(blur, **{name: request.getfixturevalue(name) for name in others})


def test_the_entry_point_of_the_example_is_found(tmp_path):
    group, entry = re.search(r'"(.*)"\]\n(.*)\n', block("toml")).groups()
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "__init__.py").touch()
    (tmp_path / "my_package" / "blur.py").write_text(block("python"))
    info = tmp_path / "my_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my_package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{entry.replace(chr(34), '')}\n")
    path = os.pathsep.join([str(tmp_path), str(ROOT / "src")])
    done = subprocess.run(
        [sys.executable, "-m", "spearshield", "show", "blur"],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "a trained convolution with one filter" in done.stdout
