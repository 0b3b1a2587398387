"""Videos from http(s) addresses that a request names: from public addresses only, bounded in size and time.

A request could otherwise let the server read what only the server can reach: other services on its machine, its
network, or a cloud's metadata. A name is resolved once, all addresses that it has are checked, and the connection goes
to one of these; redirects are followed by the same steps. No proxy is used, since the proxy would resolve the name.

Source: the registries of RFC 6890 as :mod:`ipaddress` holds them; RFC 6052 (IPv4 inside of IPv6).
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import TypeAlias
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from pipeline.errors import RequestError
from pipeline.serving.scratch import Kept, Scratch, suffix_of

MOST_REDIRECTS = 5
_BLOCK = 1 << 18
_IN_QUERY = "/%:@!$&'()*+,;=~?"
_REDIRECTS = (301, 302, 303, 307, 308)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_VIDEO_TYPES = ("video/", "application/octet-stream", "binary/octet-stream", "application/mp4", "application/mxf")

MayReach: TypeAlias = Callable[[str], bool]


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet: not private, loopback, link-local, shared or reserved."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        inside = found.ipv4_mapped or (ipaddress.IPv4Address(int(found) & 0xFFFFFFFF) if found in _NAT64 else None)
        if inside is not None:
            return is_public(str(inside))
        if found.sixtofour is not None or found.teredo is not None:  # tunnels, which nobody needs for videos
            return False
    return found.is_global and not found.is_multicast and not found.is_reserved


def fetch(url: str, scratch: Scratch, seconds: float, may_reach: MayReach = is_public) -> Kept:
    """Download a video.

    Args:
        url: that begins with ``http://`` or ``https://``.
        scratch: that keeps it.
        seconds: the most that all of it may take.
        may_reach: whether an address may be connected to.

    Raises:
        RequestError: the address may not be reached, or what is there is no video, too large or too slow.
    """
    until = _Until(seconds)
    try:
        for _ in range(MOST_REDIRECTS + 1):
            target = _fetched(url, scratch, until, may_reach)
            if isinstance(target, Kept):
                return target
            if url.startswith("https:") and not target.startswith("https:"):
                raise _refused(url, "leads from https to http", 400)
            url = target
    except (OSError, http.client.HTTPException, ValueError) as error:
        if until.is_over:
            raise _refused(url, f"did not arrive within {seconds:g} s", 504) from error
        raise _refused(url, f"could not be read: {error or type(error).__name__}", 502) from error
    finally:
        until.cancel()
    raise _refused(url, f"is redirected more than {MOST_REDIRECTS} times", 400)


class _Until:
    """Ends a transfer that takes too long, also one that sends a byte now and then."""

    def __init__(self, seconds: float) -> None:
        self._end = monotonic() + seconds
        self._socket: socket.socket | None = None
        self.is_over = False
        self._timer = threading.Timer(seconds, self._stop)
        self._timer.daemon = True
        self._timer.start()

    def watch(self, connected: socket.socket) -> None:
        self._socket = connected
        if self.is_over:
            self._stop()

    def left(self) -> float:
        """Seconds until the end.

        Raises:
            TimeoutError: it is reached.
        """
        left = self._end - monotonic()
        if left <= 0:
            self.is_over = True
            raise TimeoutError("took too long")
        return left

    def cancel(self) -> None:
        self._timer.cancel()

    def _stop(self) -> None:
        self.is_over = True
        if self._socket is not None:
            with suppress(OSError):
                # Of the plain class: that of TLS would change its state beside the thread that reads.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


def _fetched(url: str, scratch: Scratch, until: _Until, may_reach: MayReach) -> Kept | str:
    """The video, or where the address leads."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise _refused(url, "is no http(s) address", 400)
    if parts.username is not None or parts.password is not None:
        raise _refused(url, "holds a user name or a password", 400)
    host = parts.hostname.encode("idna").decode("ascii") if not parts.hostname.isascii() else parts.hostname
    port = parts.port or (443 if parts.scheme == "https" else 80)
    connected = _connected(url, host, port, until, may_reach)
    try:
        if parts.scheme == "https":
            connected = ssl.create_default_context().wrap_socket(
                connected, server_hostname=host, suppress_ragged_eofs=False
            )
            until.watch(connected)
        connection = http.client.HTTPConnection(host, port, timeout=until.left())
        connection.sock = connected
        connection.auto_open = 0  # never by itself, to an address that was not checked
        connection.putrequest("GET", _target(parts), skip_host=True, skip_accept_encoding=True)
        connection.putheader("Host", parts.netloc.encode("idna").decode("ascii"))
        connection.putheader("Accept-Encoding", "identity")
        connection.putheader("User-Agent", "gens-videoqa")
        connection.putheader("Connection", "close")
        connection.endheaders()
        with connection.getresponse() as response:
            if response.status in _REDIRECTS and (location := response.getheader("Location")):
                return urljoin(url, location)
            return _received(url, response, scratch, until, suffix_of(parts.path))
    finally:
        connected.close()


def _target(parts: SplitResult) -> str:
    """Path and query as a request names them."""
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~")
    return f"{path}?{quote(parts.query, safe=_IN_QUERY)}" if parts.query else path


def _connected(url: str, host: str, port: int, until: _Until, may_reach: MayReach) -> socket.socket:
    """A connection to one of the name's addresses, which have all been checked."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise _refused(url, f"has no address: {error}", 502) from error
    if not found or not all(may_reach(str(place[0])) for *_, place in found):
        raise _refused(url, "leads to an address that is not public, such as one of the server's own network", 403)
    last: OSError | None = None
    for family, kind, protocol, _, place in found:
        made = socket.socket(family, kind, protocol)
        try:
            made.settimeout(until.left())
            until.watch(made)
            made.connect(place)
        except OSError as error:
            made.close()
            last = error
            continue
        return made
    assert last is not None
    raise last


def _received(url: str, response: http.client.HTTPResponse, scratch: Scratch, until: _Until, suffix: str) -> Kept:
    if response.status != 200:
        raise _refused(url, f"gives status {response.status}", 502)
    kind = (response.getheader("Content-Type") or "application/octet-stream").lower()
    if not kind.startswith(_VIDEO_TYPES):
        raise _refused(url, f"is {kind.partition(';')[0]!r} and no video", 400)
    if response.getheader("Content-Encoding", "identity") != "identity":
        raise _refused(url, "comes compressed, which was not asked for", 502)
    announced = response.length
    taken = 0
    with scratch.receiving(announced, suffix) as receiving:
        while until.left() and (block := response.read1(_BLOCK)):
            receiving.write(block)
            taken += len(block)
        until.left()  # a transfer that was ended looks like one that is complete
        if announced is not None and taken < announced:
            raise _refused(url, f"ended after {taken} of {announced} bytes", 502)
        return receiving.kept()


def _refused(url: str, what: str, http_status: int) -> RequestError:
    shown = url.partition("?")[0]
    shown = shown if len(shown) <= 200 else f"{shown[:200]}..."
    return RequestError(
        f"{shown} {what}", "give the address of a video file on a public host, or send the video itself", http_status
    )
