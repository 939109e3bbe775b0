"""The folder with the real data; tests that need it are skipped if it is absent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)  # the networks of the tests are too small for more threads

BESIDE = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder with the real data. A test that uses it is skipped if it is absent."""
    root = Path(os.environ.get("SPEARSHIELD_DATA", BESIDE))
    if not (root / "mnist").is_dir():
        pytest.skip(f"no real data: {root}/mnist is not there; set SPEARSHIELD_DATA")
    os.environ["SPEARSHIELD_DATA"] = str(root)  # where data sets look
    return root
