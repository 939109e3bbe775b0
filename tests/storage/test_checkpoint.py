"""Atomic writes and checkpoints: exact round trips, and errors for everything else."""

from __future__ import annotations

import errno
import os

import pytest
import torch

from spearshield.storage import atomic, checkpoint

TREE = {
    "steps": 3,
    "lr": 1e-3,
    "none": None,
    "state": {"0.weight": torch.arange(6.0).reshape(2, 3), "seen": torch.tensor(7)},
    "optimiser": {"state": {0: {"step": torch.tensor(2.0)}}, "groups": [{"betas": (0.5, 0.9)}]},
}


def test_a_tree_is_restored(tmp_path):
    checkpoint.save(tmp_path / "c", TREE)
    back = checkpoint.load(tmp_path / "c")
    assert back["steps"] == 3 and back["lr"] == 1e-3 and back["none"] is None
    assert torch.equal(back["state"]["0.weight"], TREE["state"]["0.weight"])
    assert back["state"]["seen"].dtype == torch.int64 and back["state"]["seen"].shape == ()
    assert back["optimiser"]["state"][0]["step"] == 2
    assert back["optimiser"]["groups"] == [{"betas": [0.5, 0.9]}]


def test_an_optimiser_is_restored_exactly(tmp_path):
    def steps(weight, optimiser, n):
        for _ in range(n):
            optimiser.zero_grad()
            (weight**2).sum().backward()
            optimiser.step()

    weight = torch.nn.Parameter(torch.linspace(-1, 1, 5))
    optimiser = torch.optim.Adam([weight], 0.1)
    steps(weight, optimiser, 3)
    checkpoint.save(tmp_path / "c", {"w": weight, "o": optimiser.state_dict()})
    steps(weight, optimiser, 3)

    saved = checkpoint.load(tmp_path / "c")
    other = torch.nn.Parameter(saved["w"])
    fresh = torch.optim.Adam([other], 0.1)
    fresh.load_state_dict(saved["o"])
    steps(other, fresh, 3)
    assert torch.equal(weight, other)


@pytest.mark.parametrize("cut", [0, 4, 8, 60, -40, -1])
def test_a_truncated_checkpoint_names_itself(tmp_path, cut):
    path = tmp_path / "c.safetensors"
    checkpoint.save(path, TREE)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ValueError, match="c.safetensors is truncated"):
        checkpoint.load(path)


def test_a_flipped_bit_is_noticed(tmp_path):
    path = tmp_path / "c.safetensors"
    checkpoint.save(path, TREE)
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"c\.safetensors is corrupt.*delete it"):
        checkpoint.load(path)


def test_a_full_disk_does_not_damage_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "c"
    atomic.write_atomically(path, b"old")

    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        atomic.write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["c"]


def test_nan_is_not_written_as_json(tmp_path):
    for value, name in ((float("nan"), "nan"), (float("-inf"), "-inf")):
        with pytest.raises(ValueError, match=rf"rows\.1\.loss is {name}, which j cannot hold"):
            atomic.write_json(tmp_path / "j", {"rows": [{}, {"loss": value}]})
    assert not (tmp_path / "j").exists()
