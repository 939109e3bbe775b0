"""The oracle of the fuzz finds every kind of wrong answer, and no fault in a right one."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import strategies as st

import spearshield.cli.commands  # noqa: F401 - slow, and not part of an answer
from fuzz import door, oracle
from fuzz.oracle import Fault, Refusal, answered, check_images, check_pixels, command, require

FILE = Path("folder/x.npz")


def raises(error: BaseException) -> Any:
    def call() -> None:
        raise error

    return call


@pytest.mark.parametrize(
    "error",
    [
        ValueError("folder/x.npz is no npz file; save it by numpy.savez"),
        FileNotFoundError("there is no x.npz"),
        FileNotFoundError(2, "No such file or directory", "x.npz"),
    ],
)
def test_a_clear_line_is_a_refusal(error: Exception) -> None:
    answer = answered(raises(error), file=FILE, whole=True)
    assert isinstance(answer, Refusal) and answer.message in str(error)


def test_a_value_is_returned() -> None:
    assert answered(lambda: 3) == 3


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (KeyError("x.npz"), "KeyError"),
        (TypeError("x.npz"), "TypeError"),
        (RecursionError("x.npz"), "RecursionError"),
        (MemoryError("x.npz"), "MemoryError"),
        (UnicodeDecodeError("utf-8", b"x.npz", 0, 1, "bad"), "UnicodeDecodeError"),
        (PermissionError("x.npz"), "PermissionError"),
        (SystemExit("x.npz"), "SystemExit"),
        (ValueError(" "), "empty message"),
        (ValueError("x.npz\nis bad"), "several lines"),
        (ValueError("x.npz" * 200), "600 characters"),
        (ValueError("x.npz: <_io.BytesIO object at 0x7f>"), "<_io"),
        (ValueError("x.npz: try weights_only=False"), "weights_only"),
        (ValueError("the file is bad"), "without the file"),
        (ValueError("x.npz is truncated or corrupt"), "whole file called corrupt"),
    ],
)
def test_any_other_error_is_a_fault(error: BaseException, kind: str) -> None:
    with pytest.raises(Fault, match=kind):
        answered(raises(error), file=FILE, whole=True)


def test_a_warning_is_a_fault() -> None:
    with pytest.raises(Fault, match="UserWarning"):
        answered(lambda: exec(compile("import warnings; warnings.warn('x')", "/a/b.py", "exec")))


def compute() -> None:
    started = time.process_time()
    while time.process_time() < started + 5:
        pass


@pytest.mark.parametrize("hang", [compute, lambda: time.sleep(5)])
def test_a_hang_is_a_fault(monkeypatch: pytest.MonkeyPatch, hang: Callable[[], None]) -> None:
    monkeypatch.setattr(oracle, "SECONDS", 0.2)
    monkeypatch.setattr(oracle, "WAITING", 0.5)
    with pytest.raises(Fault, match=r"takes more than 0\.2 s"):
        answered(hang)


@pytest.mark.parametrize(
    "images",
    [
        torch.full((1, 1, 2, 2), 1.5),
        torch.full((1, 1, 2, 2), torch.nan),
        torch.zeros(1, 1, 2, 2, dtype=torch.int64),
        torch.zeros(1, 2, 2),
        [[0.0]],
    ],
)
def test_what_is_no_image_is_a_fault(images: Any) -> None:
    check_images(torch.ones(1, 1, 2, 2))
    with pytest.raises(Fault):
        check_images(images)


def test_other_pixels_are_a_fault() -> None:
    x = torch.arange(8, dtype=torch.uint8).reshape(1, 2, 2, 2)
    check_pixels(x, x.permute(0, 2, 3, 1).numpy())
    check_pixels(x, x.numpy() / 255)
    with pytest.raises(Fault, match="other pixels"):
        check_pixels(x, x.numpy() + 1)


def test_a_command_is_done_refused_or_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    assert command(["list", "attacks"]) == 0
    refused = command(["report", "absent", "--out", "x"])
    assert isinstance(refused, Refusal) and "absent" in refused.message
    assert isinstance(command(["list", "--absent"]), Refusal)
    monkeypatch.setattr(oracle, "main", lambda words: {}["x"])
    with pytest.raises(Fault, match="KeyError"):
        command(["list"])
    monkeypatch.setattr(oracle, "main", lambda words: 1)
    with pytest.raises(Fault, match="exit status 1"):
        command(["list"])


def test_a_search_counts_inputs_and_groups_what_it_finds(tmp_path: Path) -> None:
    tally = door.Tally()
    odd = door.Door(
        "odd", st.integers(0, 10**6), lambda i: require(i % 2 == 0, "odd") or True, (7,)
    )
    door.search(odd, 50, 0, tally, tmp_path / "current")
    assert tally.inputs == 51 and tally.accepted + tally.findings["odd"].count == 51
    assert [*tally.findings] == ["odd"] and len(tally.findings["odd"].shown) == 1
    again = door.Tally()
    door.search(odd, 50, 0, again, tmp_path / "current")
    assert again.seen == tally.seen, "the search is not the same every time"
    assert (tmp_path / "current").read_text().startswith("odd: ")
