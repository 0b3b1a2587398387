"""When nothing more is asked of a server: it has been silent for too long, or turns one question after another away."""

from __future__ import annotations

import threading
import time

_ASKED_IN_VAIN = 3
"""Questions without a response before a silence counts."""
_IN_A_ROW = 10
"""Questions turned away without any other response in between."""


class Silence:
    """How long a server has not said a word, to whatever question; for any number of threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since: float | None = None
        self._questions = 0

    def goes_on(self, since: float) -> None:
        """A question that was first asked at ``since``, by the monotonic clock, got no response."""
        with self._lock:
            self._since = since if self._since is None else min(self._since, since)
            self._questions += 1

    def ends(self) -> None:
        """There was a response, of whatever kind."""
        with self._lock:
            self._since, self._questions = None, 0

    def lasts(self, seconds: float) -> bool:
        """Whether it has lasted so long, and over several questions: a single one may be what the server dies of."""
        with self._lock:
            asked_enough = self._questions >= _ASKED_IN_VAIN
            return asked_enough and self._since is not None and time.monotonic() - self._since >= seconds


class TurnedAway:
    """How many questions in a row a server, or a firewall before it, turned away; for any number of threads.

    One such response is about its own request and may pass. Ten in a row are about all of them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._questions = 0

    def goes_on(self) -> None:
        """One more question was turned away."""
        with self._lock:
            self._questions += 1

    def ends(self) -> None:
        """A question was let through."""
        with self._lock:
            self._questions = 0

    def lasts(self) -> bool:
        """Whether it has been so many that there is no use in asking more."""
        with self._lock:
            return self._questions >= _IN_A_ROW
