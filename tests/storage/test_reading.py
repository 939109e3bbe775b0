"""Files and JSON text: bounded before they are read, and refused with one line."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from mutations import fails_under
from spearshield.storage import reading
from spearshield.storage.reading import file_bytes, parse_json, read_json, read_object, shortened

DEEP = "[" * 101 + "]" * 101


@fails_under(
    "no bound of depth",
    (reading, "_check_depth", lambda text: None),
    text=DEEP,
    raises=pytest.fail.Exception,
)
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "Expecting value"),
        ('{"a": 1, "a": 2}', "the key 'a' occurs twice"),
        ("[NaN]", "NaN is not a number"),
        ("[-Infinity]", "-Infinity is not a number"),
        ("[1e999]", "1e999 is too large"),
        ("[1" + "0" * 10_000 + "]", r"10{79}\.\.\. has more than 64 bits"),
        ("[9223372036854775808]", "has more than 64 bits"),
        (r'["\ud800"]', "half of a surrogate pair"),
        (DEEP, "nested deeper than 100"),
        ('{"a":' * 101 + "1" + "}" * 101, "nested deeper than 100"),
        ('["' + r"\"" * 1000, "Unterminated string"),
    ],
)
def test_json_that_python_would_take_or_fail_on_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_json(text)


@pytest.mark.parametrize(
    "text", ["[" * 10**6, '"' + r"\"" * 10**6, '{"' * 10**5, "[]," * 10**5, "1" * 10**6]
)
def test_a_refusal_takes_no_time(text: str) -> None:
    start = time.monotonic()
    with pytest.raises(ValueError):
        parse_json(text)
    assert time.monotonic() - start < 5


def test_plain_json_is_read_as_python_reads_it(tmp_path: Path) -> None:
    value = {"a": [1, -2.5, 1e-300, True, None, "\U0001f600 [{", 2**63 - 1], "b": {"": '\\"'}}
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False)):
        assert parse_json(text) == value
        (tmp_path / "j").write_text(text, encoding="utf-8-sig")
        assert read_json(tmp_path / "j") == value


def test_a_file_that_is_not_json_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "j.json"
    for content, said in (
        (b"{", r"j\.json is not JSON: Expecting property name"),
        ('{"a": 1}'.encode("utf-16"), r"j\.json is not JSON: it is not text in UTF-8"),
        (b"\xff\x00", r"j\.json is not JSON: it is not text in UTF-8"),
        (b"[1]", r"j\.json holds a JSON list; it must hold an object"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=said):
            read_object(path)
    monkeypatch.setattr(reading, "LARGEST_JSON", 2)
    with pytest.raises(ValueError, match=r"j\.json has 3 bytes, more than 2"):
        read_json(path)


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "file").write_bytes(b"12")
    for name, kind, said in (
        ("absent", FileNotFoundError, rf"there is no .*absent; looked in {tmp_path}"),
        ("folder", ValueError, "is a folder"),
        ("pipe", ValueError, "is a pipe or a device"),
        ("zero", ValueError, "is a pipe or a device"),
        ("loop", OSError, "leads back to itself"),
        ("file/below", ValueError, "is below a file"),
        ("a\0b", ValueError, "is not a path"),
        ("x" * 5000, OSError, "file name too long"),
    ):
        with pytest.raises(kind, match=said) as caught:
            file_bytes(tmp_path / name, 2)
        assert len(str(caught.value)) < 400 and "\n" not in str(caught.value)
    assert file_bytes(tmp_path / "file", 2) == b"12"


def test_shortened_text_stays_on_one_line() -> None:
    assert shortened("a\n\x1b[31m" + "b" * 100) == "a\ufffd\ufffd[31m" + "b" * 73 + "..."
