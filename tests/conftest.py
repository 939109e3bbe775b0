"""Nothing but where the real data lie, and how a test says that they do not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)  # the tests' networks are small; more threads only wait for each other

BESIDE = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder with the real data; a test that asks for it is skipped where there is none."""
    root = Path(os.environ.get("SPEARSHIELD_DATA", BESIDE))
    if not (root / "mnist").is_dir():
        pytest.skip(f"no real data: {root}/mnist is not there; set SPEARSHIELD_DATA")
    return root
