"""Names come from files and from the entry points of installed packages, without torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from spearshield import discover
from spearshield.adversary import Attack
from spearshield.attacks.pgd import PGD
from spearshield.methods.ape_gan import APEGAN
from spearshield.threat import Linf

SRC = Path(__file__).parents[1] / "src"

ATTACKS = '''"""Attacks of a third party."""
from dataclasses import dataclass
from spearshield.adversary import Attack
import missing_unless_imported

@dataclass(frozen=True)
class Still(Attack):
    """An attack that returns its input."""
    steps: int = 1
    def perturb(self, model, x, y, rng):
        return x

@dataclass(frozen=True)
class Other(Still):
    pass
'''

RECIPE = '''"""A recipe of a third party."""
from spearshield.recipes.quickstart import RECIPE
'''

USE = """
import json, sys
from spearshield import discover

found = {kind: discover.names(kind) for kind in discover.PACKAGES}
assert "torch" not in sys.modules and "third" not in sys.modules
sys.modules["missing_unless_imported"] = sys

from spearshield.adversary import Attack
from spearshield.experiment.recipe import load_recipe
from spearshield.storage.serialization import dump, load
from spearshield.threat import Linf

still = discover.find("attacks", Attack, "still")(Linf(0.1), 3)
assert discover.name_of(still) == "still"
assert load(json.loads(json.dumps(dump(still)))) == still
assert load_recipe("theirs").seed == 0
print(json.dumps(found))
"""


def use(folder: Path, entries: str) -> subprocess.CompletedProcess[str]:
    """A process in which a package with these entry points is installed."""
    package, info = folder / "third", folder / "third-1.0.dist-info"
    package.mkdir()
    info.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('imported')\n" * ("pgd" in entries))
    (package / "attacks.py").write_text(ATTACKS)
    (package / "recipe.py").write_text(RECIPE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: third\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entries)
    return subprocess.run(
        [sys.executable, "-c", USE],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), str(SRC)])},
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_installed_package_adds_attacks_and_recipes(tmp_path: Path) -> None:
    done = use(
        tmp_path,
        "[spearshield.attacks]\nstill = third.attacks:Still\nother = third.attacks:Other\n"
        "[spearshield.recipes]\ntheirs = third.recipe\n",
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["attacks"]["still"] == "An attack that returns its input."
    assert found["attacks"]["other"] == "Attacks of a third party."
    assert found["recipes"]["theirs"] == "A recipe of a third party."
    assert {"pgd", "still"} <= found["attacks"].keys() and "quickstart" in found["recipes"]


def test_a_name_that_is_taken_is_an_error_that_names_both(tmp_path: Path) -> None:
    done = use(tmp_path, "[spearshield.attacks]\npgd = third.attacks:Still\n")
    assert done.returncode != 0
    assert (
        "two attacks are called 'pgd': spearshield.attacks.pgd and third.attacks:Still"
        in done.stderr
    )


def test_names_are_the_files_with_their_first_lines() -> None:
    found = discover.names("attacks")
    files = {path.stem for path in (SRC / "spearshield" / "attacks").glob("[a-z]*.py")}
    assert found.keys() >= files
    assert found["pgd"].startswith("PGD")
    assert all(line for kind in discover.PACKAGES for line in discover.names(kind).values())


def test_a_name_leads_to_its_class_and_back() -> None:
    assert discover.find("attacks", Attack, "pgd") is PGD
    assert discover.name_of(PGD(Linf(0.1))) == "pgd"
    assert discover.name_of(APEGAN()) == "ape_gan"


def test_an_unknown_name_lists_the_names() -> None:
    with pytest.raises(ValueError, match="no attack 'pdg'; the closest of .* are pgd"):
        discover.load("attacks", "pdg")


@pytest.mark.parametrize(
    ("module", "registered"),
    [
        ("spearshield.attacks.pgd", True),
        ("spearshield.experiment.recipe", True),
        ("spearshield.__main__", False),
        ("spearshield", False),
        ("os", False),
    ],
)
def test_only_modules_of_the_package_are_registered(module: str, registered: bool) -> None:
    assert discover.is_registered_module(module) is registered
