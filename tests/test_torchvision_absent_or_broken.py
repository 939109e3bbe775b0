"""The package works if torchvision is absent, or fails at import.

timm imports torchvision, so it fails as well. Each case runs in its own process.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src"

CHECK = """
import importlib, pkgutil, sys

if "absent" in sys.argv:
    sys.modules["torchvision"] = None

import spearshield
from spearshield import discover
from spearshield.architecture import Architecture
from spearshield.classifiers import architecture

for module in pkgutil.walk_packages(spearshield.__path__, "spearshield."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
assert sys.modules.get("torchvision") is None, "torchvision was imported along with the package"

kinds = discover.discover("classifiers", Architecture)
assert {"torchvision_model", "timm_model", "lenet"} <= kinds.keys()
architecture("lenet").build((1, 28, 28), 10)

for spec in ("torchvision:resnet18", "timm:resnet18"):
    try:
        architecture(spec).build((3, 32, 32), 10)
    except ValueError as error:
        print(error)
"""


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("absent", "import of torchvision halted; None in sys.modules"),
        ("broken", "operator torchvision::nms does not exist"),
    ],
)
def test_everything_else_works(tmp_path: Path, case: str, reason: str) -> None:
    (tmp_path / "timm").mkdir()
    (tmp_path / "timm" / "__init__.py").write_text("import torchvision\n")
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(
        'raise RuntimeError("operator torchvision::nms does not exist")\n'
    )
    path = os.pathsep.join([str(tmp_path), str(SRC)])
    done = subprocess.run(
        [sys.executable, "-c", CHECK, case],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 2, lines
    for package, line in zip(("torchvision", "timm"), lines, strict=True):
        assert line.startswith(f"{package} could not be imported ({reason}); install a build")
