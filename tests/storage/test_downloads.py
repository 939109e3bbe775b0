"""Search of data folders, downloads, and the messages about missing files."""

from __future__ import annotations

import hashlib
import http.server
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from spearshield.storage import downloads
from spearshield.storage.downloads import File, locate, locate_path

CONTENT = bytes(range(256)) * 100
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/gone":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[:1000] if self.path == "/cut" else CONTENT)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    server = http.server.HTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("SPEARSHIELD_DATA", str(tmp_path / "environment"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def put(path: Path, content: bytes = CONTENT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_the_order_in_which_folders_are_searched(tmp_path: Path) -> None:
    """The last folder is filled first, so each new file must be preferred to all earlier ones."""
    file = File("f.gz", "nowhere", SHA256)
    root = tmp_path / "root"
    folders = [tmp_path / "cache" / "spearshield", tmp_path / "environment", root]
    for folder in folders:
        for path in (folder / "f.gz", folder / "other" / "f.gz", folder / "mine" / "f.gz"):
            put(path)
            assert locate("mine", [file], root, beside=["other"]) == [path]


def test_a_file_outside_its_folder_must_be_the_published_one(tmp_path: Path) -> None:
    """The files of MNIST and Fashion-MNIST have the same names."""
    file = File("f.gz", "nowhere", SHA256)
    path = put(tmp_path / "f.gz", b"another")
    with pytest.raises(ValueError, match=rf"{path} is not the published f\.gz of mine.*move it"):
        locate("mine", [file], tmp_path)
    own = put(tmp_path / "mine" / "f.gz", b"another")
    assert locate("mine", [file], tmp_path) == [own]
    assert locate("mine", [file], own.parent) == [own]


@pytest.mark.parametrize("name", ["f.gz", "f"])
def test_files_are_found_where_another_library_left_them(tmp_path: Path, name: str) -> None:
    file = File("f.gz", "nowhere", SHA256)
    path = put(tmp_path / "Mine" / "raw" / name, b"unzipped")
    for root in (tmp_path, path.parent):
        assert locate("mine", [file], root, beside=["Mine/raw"]) == [path]


def test_an_unzipped_file_outside_its_folder_is_refused(tmp_path: Path) -> None:
    path = put(tmp_path / "f", b"unzipped")
    message = rf"{path} may belong to another data set .* move it to {tmp_path / 'mine'}"
    with pytest.raises(ValueError, match=message):
        locate("mine", [File("f.gz", "nowhere", SHA256)], tmp_path)


def test_a_missing_file_is_downloaded_once(tmp_path: Path, address: str) -> None:
    file = File("f.gz", f"{address}/f.gz", SHA256)
    (path,) = locate("mine", [file], None)
    assert path == tmp_path / "cache" / "spearshield" / "mine" / "f.gz"
    assert path.read_bytes() == CONTENT
    assert [p.name for p in path.parent.iterdir()] == ["f.gz"]
    assert locate("mine", [File("f.gz", f"{address}/gone", SHA256)], None) == [path]


@pytest.mark.parametrize("bad", ["checksum", "cut"])
def test_a_download_that_is_not_the_published_file_is_not_kept(
    tmp_path: Path, address: str, bad: str
) -> None:
    sha256 = "0" * 64 if bad == "checksum" else SHA256
    with pytest.raises((ValueError, FileNotFoundError), match=f"{address}/{bad}"):
        locate("mine", [File("f.gz", f"{address}/{bad}", sha256)], None)
    assert not (tmp_path / "cache").exists()


def test_a_failed_download_says_everything_that_is_needed(tmp_path: Path, address: str) -> None:
    wanted = [
        File("there", "nowhere"),
        File("f.gz", f"{address}/gone", SHA256),
        File("g.gz", "https://example.org"),
    ]
    put(tmp_path / "root" / "there")
    with pytest.raises(FileNotFoundError) as caught:
        locate("mine", wanted, tmp_path / "root")
    message = str(caught.value)
    for part in ("404", f"f.gz (from {address}/gone)", "g.gz (from https://example.org)"):
        assert part in message
    for folder in ("root/mine", "environment/mine", "environment", "cache/spearshield/mine"):
        assert f"{tmp_path / folder}" in message
    assert "there (" not in message


def test_a_silent_server_times_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "TIMEOUT", 0.05)
    with http.server.HTTPServer(("127.0.0.1", 0), Server) as silent:  # it never serves
        file = File("f.gz", f"http://127.0.0.1:{silent.server_port}/", SHA256)
        start = time.monotonic()
        with pytest.raises(FileNotFoundError, match="timed out"):
            locate("mine", [file], tmp_path)
        assert time.monotonic() - start < 3


def test_a_download_has_a_limit(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "LARGEST", 1000)
    with pytest.raises(ValueError, match="sent 1001 bytes"):
        locate("mine", [File("f.gz", f"{address}/f.gz", SHA256)], None)


def test_a_path_is_also_searched_in_the_data_folders(tmp_path: Path) -> None:
    inside = put(tmp_path / "environment" / "own" / "a.npz")
    assert locate_path("own/a.npz", None) == inside
    assert locate_path(str(inside), None) == inside
    with pytest.raises(FileNotFoundError, match=rf"looked for own/b\.npz, .*{tmp_path}/cache"):
        locate_path("own/b.npz", None)
