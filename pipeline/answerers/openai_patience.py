"""Decides when a server is asked no more: it has not responded for too long, or rejects one question after another."""

from __future__ import annotations

import threading
import time

_FEWEST = 3
"""The fewest questions without a response that count."""
_IN_A_ROW = 10
"""The number of rejections in a row after which nothing more is asked."""


class UnansweredStreak:
    """How long a server has not responded to any question; for any number of threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since: float | None = None
        self._questions = 0

    def extend(self, since: float) -> None:
        """A question that was first asked at ``since``, by the monotonic clock, got no response."""
        with self._lock:
            self._since = since if self._since is None else min(self._since, since)
            self._questions += 1

    def end(self) -> None:
        """There was a response of any kind."""
        with self._lock:
            self._since, self._questions = None, 0

    def is_too_long(self, seconds: float) -> bool:
        """Whether it has lasted this long, over several questions: a single one may be what crashes the server."""
        with self._lock:
            asked_enough = self._questions >= _FEWEST
            return asked_enough and self._since is not None and time.monotonic() - self._since >= seconds


class RejectedStreak:
    """How many questions in a row a server, or a firewall before it, rejected; for any number of threads.

    A single rejection may be about its own request. Ten in a row are about all requests.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._questions = 0

    def extend(self) -> None:
        """One more question was rejected."""
        with self._lock:
            self._questions += 1

    def end(self) -> None:
        """A question was not rejected."""
        with self._lock:
            self._questions = 0

    def is_too_long(self) -> bool:
        """Whether so many were rejected that no more are sent."""
        with self._lock:
            return self._questions >= _IN_A_ROW
