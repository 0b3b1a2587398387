"""Who may speak to the server: hosts, origins, keys, and how much may be sent."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice, repeat
from typing import Any

import pytest

from pipeline.errors import ConfigError
from pipeline.serving.guards import Access, Guard

KEY = "0123456789abcdef"


def access(host: str = "127.0.0.1", key: str | None = None, names: tuple[str, ...] = (), mb: float = 1) -> Access:
    return Access(host, 8000, names, key, mb)


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Reads all that is sent and tells its length."""
    length, more = 0, True
    while more:
        message = await receive()
        length += len(message["body"])
        more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(length).encode()})


def asked(
    given: Access,
    headers: Sequence[tuple[str, str]],
    path: str = "/v1/models",
    method: str = "GET",
    blocks: Iterable[bytes] = (b"",),
    through: Any = app,
) -> tuple[int, dict[str, str], bytes, int]:
    """Status, headers and body of the response, and how many blocks of the body were drawn."""
    sent: list[Any] = []
    drawn = 0
    left = iter(blocks)
    following = [next(left)]

    async def receive() -> Any:
        nonlocal drawn
        drawn += 1
        block = following.pop()
        following.extend(islice(left, 1))
        return {"type": "http.request", "body": block, "more_body": bool(following)}

    async def send(message: Any) -> None:
        sent.append(message)

    named = [(name.lower().encode(), value.encode()) for name, value in headers]
    scope = {"type": "http", "method": method, "path": path, "headers": named}
    guard = Guard(through, given, ("/", "/static/*", "/health"), {"/api/uploads": 4_000_000_000, "/api/key": 10_000})
    asyncio.run(guard(scope, receive, send))
    assert [message["type"] for message in sent[:2]] == ["http.response.start", "http.response.body"]
    assert [message.get("more_body", False) for message in sent[1:]] == [True] * (len(sent) - 2) + [False]
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], found, b"".join(message["body"] for message in sent[1:]), drawn


HERE = ("Host", "127.0.0.1:8000")


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8000", "localhost:9000", "LOCALHOST", "[::1]:8000", "127.0.0.2", "gpu1.lab"]
)
def test_own_names_are_answered_on_loopback(host: str) -> None:
    assert asked(access(names=("gpu1.lab",)), [("Host", host)])[0] == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "10.0.0.5",
        "0.0.0.0",
        "",
        "a b",
    ],
)
def test_a_foreign_host_is_refused_on_loopback(host: str) -> None:
    """DNS rebinding: the browser names the host of the page that it came from."""
    status, _, body, drawn = asked(access(), [("Host", host)])
    assert (status, drawn) == (403, 0)
    assert "access.names=" in json.loads(body)["error"]["message"]


def test_elsewhere_any_address_is_answered_and_names_only_if_declared() -> None:
    key = ("Authorization", f"Bearer {KEY}")
    far = access("0.0.0.0", KEY, ("gpu1",))
    assert asked(far, [("Host", "192.168.1.7:8000"), key])[0] == 200
    assert asked(far, [("Host", "gpu1:8000"), key])[0] == 200
    assert asked(far, [("Host", "evil.example"), key])[0] == 403


def test_two_hosts_are_refused() -> None:
    assert asked(access(), [HERE, ("Host", "localhost")])[0] == 400


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1:8000", 200),
        ("https://127.0.0.1:8000", 200),
        ("http://localhost:8000", 403),
        ("http://127.0.0.1:8888", 403),
        ("https://evil.example", 403),
        ("null", 403),
        ("http://[", 403),
    ],
)
def test_only_the_servers_own_page_may_ask_from_a_browser(origin: str, status: int) -> None:
    assert asked(access(), [HERE, ("Origin", origin)], method="POST")[0] == status


@pytest.mark.parametrize(
    ("site", "mode", "dest", "method", "status"),
    [
        ("same-origin", "cors", "empty", "POST", 200),
        ("none", "navigate", "document", "GET", 200),
        ("cross-site", "navigate", "document", "GET", 200),
        ("cross-site", "navigate", "iframe", "GET", 403),
        ("cross-site", "navigate", "document", "POST", 403),
        ("cross-site", "no-cors", "image", "GET", 403),
        ("same-site", "no-cors", "video", "GET", 403),
    ],
)
def test_what_a_foreign_page_embeds_is_refused(site: str, mode: str, dest: str, method: str, status: int) -> None:
    fetch = [("Sec-Fetch-Site", site), ("Sec-Fetch-Mode", mode), ("Sec-Fetch-Dest", dest)]
    assert asked(access(), [HERE, *fetch], method=method)[0] == status


def test_a_key_is_demanded_where_there_is_one() -> None:
    given = access(key=KEY)
    assert asked(given, [HERE])[0] == 401
    assert asked(given, [HERE])[1]["www-authenticate"] == "Bearer"
    assert asked(given, [HERE, ("Authorization", f"Bearer {KEY}")])[0] == 200
    assert asked(given, [HERE, ("Authorization", f"bearer {KEY}")])[0] == 200
    for wrong in (f"Bearer {KEY}x", f"Bearer {KEY[:-1]}", f"Basic {KEY}", "Bearer ", "Bearer \u00e9"):
        assert asked(given, [HERE, ("Authorization", wrong)])[0] == 401
    assert asked(given, [HERE], "/")[0] == 200
    assert asked(given, [HERE], "/static/ask.js")[0] == 200
    assert asked(given, [HERE], "/health/more")[0] == 401


def test_the_pages_cookie_proves_the_key_and_does_not_hold_it() -> None:
    given = access(key=KEY)
    assert given.cookie
    name, proof = given.cookie
    assert KEY not in proof
    assert asked(given, [HERE, ("Cookie", f"a=b; {name}={proof}")])[0] == 200
    assert asked(given, [HERE, ("Cookie", f"{name}={proof[:-1]}x")])[0] == 401
    other = access(key=KEY[::-1])
    assert asked(other, [HERE, ("Cookie", f"{name}={proof}")])[0] == 401


@pytest.mark.parametrize(
    ("host", "key"), [("0.0.0.0", None), ("", None), ("::", "short"), ("192.168.1.7", None), ("gpu1.lab", "x" * 15)]
)
def test_without_a_long_key_it_listens_on_loopback_alone(host: str, key: str | None) -> None:
    with pytest.raises(ConfigError) as caught:
        access(host, key)
    assert "access.host=127.0.0.1" in caught.value.remedy
    for near in ("127.0.0.1", "localhost", "::1", "127.8.0.1"):
        assert access(near).is_loopback
    assert not access(host, KEY).is_loopback


@pytest.mark.parametrize("key", ["", "two words of a key", "schl\u00fcssel-schl\u00fcssel"])
def test_a_key_that_no_header_can_hold_is_refused(key: str) -> None:
    with pytest.raises(ConfigError, match="api_key"):
        access(key=key)


def test_too_much_is_refused_before_the_application_sees_it() -> None:
    async def unseen(scope: Any, receive: Any, send: Any) -> None:
        pytest.fail("it was given to the application")

    long = [HERE, ("Content-Length", "1000001")]
    status, headers, body, _ = asked(access(), long, method="POST", through=unseen)
    assert (status, headers["connection"]) == (413, "close")
    assert "1 MB" in json.loads(body)["error"]["message"]
    for path, length in (("/api/uploads", "6000000000"), ("/api/key", "10001")):
        assert asked(access(), [HERE, ("Content-Length", length)], path, "POST", through=unseen)[0] == 413
    for wrong in ("many", "-1", "1 2", "9" * 5000):
        assert asked(access(), [HERE, ("Content-Length", wrong)], method="POST", through=unseen)[0] == 400


def test_too_much_without_a_length_is_refused_as_soon_as_it_is_seen() -> None:
    chunked = [HERE, ("Transfer-Encoding", "chunked")]
    blocks = [b"x" * 400_000] * 10
    assert asked(access(), chunked, method="POST", blocks=blocks[:2])[2] == b"800000"
    assert asked(access(), chunked, method="POST", blocks=blocks)[0] == 413
    status, _, _, drawn = asked(access(), chunked, method="POST", blocks=repeat(b"x" * 4_000_000))
    assert status == 413
    assert 1 < drawn < 20, "some of an endless request is dropped, so that its sender sees the response"


def test_an_application_that_hides_the_refusal_does_not_change_it() -> None:
    async def hiding(scope: Any, receive: Any, send: Any) -> None:
        try:
            await app(scope, receive, send)
        except Exception:
            await send({"type": "http.response.start", "status": 400, "headers": []})
            await send({"type": "http.response.body", "body": b"could not parse"})

    blocks = [b"x" * 400_000] * 10
    assert asked(access(), [HERE], method="POST", blocks=blocks, through=hiding)[0] == 413


def test_every_response_says_that_no_other_site_may_use_it() -> None:
    for headers in (asked(access(), [HERE])[1], asked(access(), [("Host", "evil.example")])[1]):
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert not any(name.startswith("access-control") for name in headers)


@contextmanager
def served(guarded: Any) -> Iterator[int]:
    """The port of uvicorn with an application."""
    uvicorn = pytest.importorskip("uvicorn")
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(guarded, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


def test_6_gb_are_refused_over_a_real_connection_without_being_sent() -> None:
    with served(Guard(app, access(), (), {"/api/uploads": 4_000_000_000})) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=250)
        connection.putrequest("POST", "/api/uploads")
        connection.putheader("Content-Length", "6000000000")
        connection.endheaders()
        response = connection.getresponse()
        assert response.status == 413
        assert "4 GB" in json.loads(response.read())["error"]["message"]
        connection.close()
