"""Who may speak to the server, and how much they may send: checked before any other part sees a request.

A page that somebody has open in a browser can send requests to a server on the same machine, and by DNS rebinding also
read its responses: the name of the page's host resolves to 127.0.0.1 after a while. Such requests give themselves away
by ``Host``, ``Origin`` or ``Sec-Fetch-Site``, and are refused on loopback, too.

Source: the Fetch standard (``Origin``), W3C Fetch Metadata Request Headers, RFC 9110 (``Host``, 413), RFC 6750 (keys).
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import json
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from pipeline.errors import ConfigError, RequestError

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

SHORTEST_KEY = 16
"""Characters: a shorter one can be guessed by trying."""
_MOST_MB = 1e6
_DRAINED_BYTES = 64 << 20
_DRAINED_SECONDS = 2.0
"""Of what a refused client is still sending: one whose connection is closed meanwhile may not see the response."""
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_.\-]+)(?::[0-9]{1,5})?", re.ASCII | re.IGNORECASE)
_LENGTH = re.compile(r"[0-9]{1,18}")
_FROM_ELSEWHERE = ("cross-site", "same-site")
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
"""Of every response. There is no CORS header: no other site may read anything."""


@dataclass(frozen=True)
class Access:
    """Who may speak to the server."""

    host: str
    """The address that it listens on."""
    port: int
    """0 takes a free one."""
    names: tuple[str, ...]
    """Names of this machine that requests may use, besides addresses and ``localhost``."""
    api_key: str | None
    """What requests must carry as a bearer token; None where the server is reached from this machine alone."""
    request_mb: float
    """The most that a request may carry, besides an upload."""

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"access.port={self.port} is no port", "set access.port=8000")
        if not 0 < self.request_mb <= _MOST_MB:
            raise ConfigError(f"access.request_mb={self.request_mb}: above 0", "set access.request_mb=64")
        if self.api_key is not None and not re.fullmatch(r"[!-~]+", self.api_key):
            raise ConfigError(
                "access.api_key is empty, or has a space or a character that no header can hold",
                "use letters and digits: GENS_API_KEY=$(openssl rand -hex 32) gens serve",
            )
        for name in self.names:
            if _name_in(name) != name.lower():
                raise ConfigError(
                    f"access.names: {name!r} is no host name", "give names alone: access.names=[gpu1.lab]"
                )
        if not self.is_loopback and len(self.api_key or "") < SHORTEST_KEY:
            has = "without a key" if self.api_key is None else f"with a key of {len(self.api_key)} characters"
            raise ConfigError(
                f"access.host={self.host or '(all)'}: others can reach the server, {has}",
                f"give a key of {SHORTEST_KEY} characters or more, GENS_API_KEY=$(openssl rand -hex 32) gens serve "
                "..., or listen on this machine alone: access.host=127.0.0.1",
            )

    @property
    def is_loopback(self) -> bool:
        """Whether only programs on this machine reach the server."""
        address = _address(self.host)
        return self.host == "localhost" if address is None else address.is_loopback

    @property
    def cookie(self) -> tuple[str, str] | None:
        """Name and value of the cookie that the page carries, since a video element sends no key.

        The value proves that the key was known and does not give it away.
        """
        if self.api_key is None:
            return None
        proof = hmac.new(self.api_key.encode(), b"gens serve: page", hashlib.sha256).hexdigest()
        return f"gens_{hashlib.sha256(proof.encode()).hexdigest()[:8]}", proof

    def is_key(self, given: str) -> bool:
        """Whether a key is the right one, in a time that does not depend on where they differ."""
        return self.api_key is not None and _are_same(given, self.api_key)


class Guard:
    """ASGI middleware that refuses requests before the application sees them. It goes around everything else.

    Args:
        app: the application.
        access: who may speak to it.
        unlocked: paths that need no key: what is there tells nothing of videos and questions. One that ends with
            ``/*`` stands for all below it.
        limits: of what is sent to certain paths, in bytes; for all others ``access`` has one.
    """

    def __init__(self, app: App, access: Access, unlocked: Iterable[str], limits: Mapping[str, int]) -> None:
        self._app = app
        self._access = access
        self._names = frozenset(name.lower() for name in (*access.names, "localhost"))
        self._unlocked = tuple(unlocked)
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI says."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] != "http":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        else:
            passage = _Passage(receive, send, self._limit(scope), _has_body(scope))
            try:
                self._check(scope, passage)
            except RequestError as error:
                await passage.refuse(error)
                return
            await passage.through(self._app, scope)

    def _limit(self, scope: Scope) -> int:
        return self._limits.get(scope["path"], int(self._access.request_mb * 1e6))

    def _check(self, scope: Scope, passage: _Passage) -> None:
        headers = _Headers(scope)
        host = headers.only("host", 400) or ""
        self._check_host(host)
        _check_origin(headers.only("origin", 403), host)
        _check_site(headers, scope["method"])
        self._check_key(scope, headers)
        length = headers.only("content-length", 400) or "0"
        if not _LENGTH.fullmatch(length):
            raise RequestError(f"Content-Length: {length[:40]!r} is no number", "send the length in bytes", 400)
        passage.check_length(int(length))

    def _check_host(self, host: str) -> None:
        name = _name_in(host)
        address = _address(name or "")
        # Nobody can make a page's host out of an address, so that any will do where the server is to be reached.
        is_address = address is not None and (address.is_loopback or not self._access.is_loopback)
        if name in self._names or is_address:
            return
        raise RequestError(
            f"Host: {host[:100]!r} is no name of this server",
            "use its address, or let it answer to this name as well: gens serve 'access.names=[NAME]'",
            403,
        )

    def _check_key(self, scope: Scope, headers: _Headers) -> None:
        access = self._access
        path = scope["path"]
        is_open = any(path == each or (each.endswith("/*") and path.startswith(each[:-1])) for each in self._unlocked)
        if access.cookie is None or is_open:
            return
        kind, _, given = (headers.only("authorization", 400) or "").partition(" ")
        if kind.lower() == "bearer" and access.is_key(given.strip()):
            return
        name, proof = access.cookie
        if any(_are_same(value, proof) for value in headers.cookies(name)):
            return
        raise RequestError(
            "the server demands a key, and the request has none or another one",
            "send it as a header, Authorization: Bearer KEY (what clients call api_key), or type it on the page at /",
            401,
        )


def refusal(error: RequestError) -> bytes:
    """The body of a response, in the form that clients of OpenAI's API read."""
    kind = "authentication_error" if error.http == 401 else "invalid_request_error"
    said = {"message": str(error), "type": kind, "param": None, "code": error.http}
    return json.dumps({"error": said}).encode()


class _Passage:
    """One request on its way through: counts what comes in, and adds headers to what goes out."""

    def __init__(self, receive: Receive, send: Send, limit: int, has_body: bool) -> None:
        self._receive = receive
        self._send = send
        self._limit = limit
        self._has_more = has_body
        self._received = 0
        self._has_begun = self._is_over = self._is_refusal = False
        self._refused: RequestError | None = None

    def check_length(self, length: int) -> None:
        if length > self._limit:
            self._refused = RequestError(
                f"the request carries more than the {_size(self._limit)} that the server takes",
                "send less, name a file below a folder of the server instead, or raise access.request_mb= or "
                "videos.video_gb= of gens serve",
                413,
            )
            raise self._refused

    async def through(self, app: App, scope: Scope) -> None:
        try:
            await app(scope, self.receive, self.send)
        except Exception:
            # The application may have wrapped the refusal in an exception of its own.
            if self._refused is None or self._has_begun:
                raise
            await self.refuse(self._refused)

    async def receive(self) -> Message:
        message = await self._receive()
        self._has_more = message["type"] == "http.request" and bool(message.get("more_body"))
        if message["type"] == "http.request":
            self._received += len(message.get("body", b""))
            self.check_length(self._received)
        return message

    async def send(self, message: Message) -> None:
        if self._refused is not None and not self._has_begun:
            await self.refuse(self._refused)
        else:
            await self._pass_on(message)

    async def refuse(self, error: RequestError) -> None:
        body = refusal(error)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        headers += [(b"www-authenticate", b"Bearer")] if error.http == 401 else []
        headers += [(b"connection", b"close")] if self._has_more else []
        await self._pass_on({"type": "http.response.start", "status": error.http, "headers": headers})
        await self._pass_on({"type": "http.response.body", "body": body})
        self._is_over = True

    async def _pass_on(self, message: Message) -> None:
        if self._is_over:
            return
        if message["type"] == "http.response.start":
            self._has_begun = True
            there = list(message.get("headers", ()))
            known = {name.lower() for name, _ in there}
            message = {**message, "headers": [*there, *(each for each in _HEADERS if each[0] not in known)]}
            self._is_refusal = message["status"] >= 400
        elif self._is_refusal and self._has_more and not message.get("more_body"):
            await self._send({**message, "more_body": True})
            await self._drain()
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    async def _drain(self) -> None:
        """Read and drop a bounded part of what is still coming."""
        left = _DRAINED_BYTES
        with suppress(TimeoutError):
            async with asyncio.timeout(_DRAINED_SECONDS):
                while self._has_more and left > 0:
                    message = await self._receive()
                    left -= len(message.get("body", b""))
                    self._has_more = bool(message.get("more_body"))


class _Headers:
    """The headers of a request."""

    def __init__(self, scope: Scope) -> None:
        self._all = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"]]

    def only(self, name: str, http: int) -> str | None:
        """The one header of this name; None without one. Two of them may be read differently by two readers."""
        values = [value.strip() for each, value in self._all if each == name]
        if len(values) > 1:
            raise RequestError(f"the request has {len(values)} headers {name}", "send one", http)
        return values[0] if values else None

    def cookies(self, name: str) -> list[str]:
        pairs = [
            pair.strip().partition("=") for each, value in self._all if each == "cookie" for pair in value.split(";")
        ]
        return [value for each, _, value in pairs if each == name]


def _has_body(scope: Scope) -> bool:
    """Whether the client sends more than headers."""
    found = {bytes(name).lower(): value for name, value in scope["headers"]}
    return b"transfer-encoding" in found or found.get(b"content-length", b"0") != b"0"


def _check_origin(origin: str | None, host: str) -> None:
    """Refuse what a page of another host, or of another server on this machine, has sent."""
    if origin is None:
        return
    try:
        parts = urlsplit(origin)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or _place(parts.netloc, parts.scheme) != _place(host, parts.scheme):
        raise RequestError(
            f"Origin: {origin[:100]!r}: the request comes from a page of another site",
            "ask from the server's own page, or from a program that is no page",
            403,
        )


def _check_site(headers: _Headers, method: str) -> None:
    """Refuse what a foreign page embeds, which carries no ``Origin``. Following a link to the page is fine."""
    is_link = (
        method in ("GET", "HEAD")
        and headers.only("sec-fetch-mode", 400) == "navigate"
        and headers.only("sec-fetch-dest", 400) == "document"
    )
    if headers.only("sec-fetch-site", 400) in _FROM_ELSEWHERE and not is_link:
        raise RequestError("the request comes from a page of another site", "open the server's own page", 403)


def _place(host: str, scheme: str) -> str:
    """Host and port in one form."""
    host = host.lower()
    return host.removesuffix(":443" if scheme == "https" else ":80")


def _name_in(host: str) -> str | None:
    """The name or the address in a ``Host`` header, without brackets; None where it is none."""
    found = _HOST.fullmatch(host)
    return found[1].lower().strip("[]").removesuffix(".") if found else None


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def _are_same(one: str, other: str) -> bool:
    # Digests, so that not even the length can be measured.
    digests = [hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest() for text in (one, other)]
    return hmac.compare_digest(*digests)


def _size(count: int) -> str:
    return f"{count / 1e9:g} GB" if count >= 1e9 else f"{count / 1e6:g} MB"
