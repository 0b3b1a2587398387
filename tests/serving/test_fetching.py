"""Videos from http addresses: public hosts alone, bounded in size and time."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import RequestError
from pipeline.serving.fetching import fetch, is_public
from pipeline.serving.scratch import Scratch

BYTES = b"\x00\x00\x00\x18ftypmp42" + b"v" * 5000


def here(address: str) -> bool:
    """This test's server alone counts as public."""
    return address == "127.0.0.1"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(f"{self.headers['Host']} {self.path}")
        getattr(self, f"_{self.path.strip('/').partition('.')[0].partition('?')[0]}")()

    def _give(self, body: bytes, kind: str = "video/mp4", length: int | None = None, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def _video(self) -> None:
        self._give(BYTES)

    def _page(self) -> None:
        self._give(b"<html>", "text/html; charset=utf-8")

    def _list(self) -> None:
        self._give(b"#EXTM3U\nfile:///etc/passwd", "video/mp4")

    def _gone(self) -> None:
        self._give(b"", status=404)

    def _huge(self) -> None:
        self._give(b"", length=6_000_000_000)

    def _short(self) -> None:
        self._give(BYTES, length=9000)
        self.close_connection = True

    def _endless(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "video/mp4")
        self.end_headers()
        self.close_connection = True
        try:
            while True:
                self.wfile.write(b"x" * 10_000)
        except OSError:
            pass

    def _drip(self) -> None:
        """A byte now and then, before the headers are complete."""
        self.close_connection = True
        try:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            while not self.server.ended.wait(0.05):  # type: ignore[attr-defined]
                self.wfile.write(b"x")
        except OSError:
            pass

    def _trickle(self) -> None:
        """A video of unknown length that comes too slowly."""
        self.close_connection = True
        try:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\n\r\n")
            while not self.server.ended.wait(0.05):  # type: ignore[attr-defined]
                self.wfile.write(b"x")
        except OSError:
            pass

    def _lead(self) -> None:
        self.send_response(302)
        self.send_header("Location", self.path.partition("?")[2])
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    made = ThreadingHTTPServer(("127.0.0.1", 0), type("Asked", (Handler,), {"asked": []}))
    made.ended = threading.Event()  # type: ignore[attr-defined]
    thread = threading.Thread(target=made.serve_forever, args=(0.02,))
    thread.start()
    yield made
    made.ended.set()  # type: ignore[attr-defined]
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Scratch]:
    made = Scratch(tmp_path, 100_000, 300_000)
    yield made
    made.close()


def at(server: ThreadingHTTPServer, path: str) -> str:
    return f"http://127.0.0.1:{server.server_port}/{path}"


def refused(url: str, scratch: Scratch, seconds: float = 30, may_reach: Any = here) -> RequestError:
    with pytest.raises(RequestError) as caught:
        fetch(url, scratch, seconds, may_reach)
    assert os.listdir(scratch.folder) == ["in-use"]
    return caught.value


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700:4700::1111", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.0.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("ff02::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:8.8.8.8", True),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::808:808", True),
        ("2002:7f00:1::", False),
    ],
)
def test_public_addresses(address: str, public: bool) -> None:
    assert is_public(address) is public


def test_a_video_is_fetched_and_kept_until_it_is_released(server: ThreadingHTTPServer, scratch: Scratch) -> None:
    kept = fetch(at(server, "video.mp4?token=1"), scratch, 30, here)
    assert (kept.path.read_bytes(), kept.path.suffix, kept.size) == (BYTES, ".mp4", len(BYTES))
    assert server.RequestHandlerClass.asked == [f"127.0.0.1:{server.server_port} /video.mp4?token=1"]  # type: ignore[attr-defined]
    kept.release()
    assert not kept.path.exists()


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254", "0.0.0.0"],
)
def test_no_private_address_is_connected_to_however_it_is_written(
    host: str, scratch: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("connected"))
    error = refused(f"http://{host}:9/video.mp4", scratch, may_reach=is_public)
    assert error.http in (403, 502)  # 502: the system has no such address


def test_a_name_that_resolves_again_to_another_address_gains_nothing(
    server: ThreadingHTTPServer, scratch: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was checked is what is connected to: the name is resolved once."""
    answers = [[("127.0.0.1", server.server_port)], [("10.0.0.1", 80)]]

    def resolved(*_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", place) for place in answers.pop(0)]

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    fetch("http://rebinding.example/video.mp4", scratch, 30, here).release()
    assert len(answers) == 1
    assert server.RequestHandlerClass.asked == ["rebinding.example /video.mp4"]  # type: ignore[attr-defined]
    answers[:] = [[("127.0.0.1", server.server_port), ("10.0.0.1", 80)]]
    assert refused("http://mixed.example/video.mp4", scratch).http == 403


def test_redirects_are_checked_like_the_first_address(server: ThreadingHTTPServer, scratch: Scratch) -> None:
    fetch(at(server, "lead?/video"), scratch, 30, here).release()
    assert refused(at(server, "lead?http://127.0.0.2/video"), scratch).http == 403
    for elsewhere in ("file:///etc/passwd", "ftp://127.0.0.1/video", "http://me:pw@127.0.0.1/video"):
        assert refused(at(server, f"lead?{elsewhere}"), scratch).http == 400


def test_redirects_end(server: ThreadingHTTPServer, scratch: Scratch) -> None:
    port = server.server_port
    server.RequestHandlerClass._lead = lambda self: (  # type: ignore[attr-defined]
        self.send_response(302),
        self.send_header("Location", f"http://127.0.0.1:{port}/lead"),
        self.send_header("Content-Length", "0"),
        self.end_headers(),
    )
    assert "more than 5 times" in refused(at(server, "lead"), scratch).problem


@pytest.mark.parametrize(
    ("path", "http"), [("page", 400), ("list", 400), ("gone", 502), ("huge", 413), ("short", 502), ("endless", 413)]
)
def test_only_a_whole_video_of_bounded_size_is_taken(
    path: str, http: int, server: ThreadingHTTPServer, scratch: Scratch
) -> None:
    assert refused(at(server, path), scratch).http == http


@pytest.mark.parametrize("path", ["drip", "trickle"])
def test_a_slow_server_is_left(path: str, server: ThreadingHTTPServer, scratch: Scratch) -> None:
    assert refused(at(server, path), scratch, seconds=0.4).http == 504


@pytest.mark.parametrize("url", ["http://", "http://a b/", "http://host:port/", "http://[::1/", "http://h\r\nX: y/"])
def test_an_address_that_is_none_is_refused(url: str, scratch: Scratch) -> None:
    assert refused(url, scratch, may_reach=is_public).http in (400, 502)
