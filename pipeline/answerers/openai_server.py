"""An OpenAI-compatible server: one request, asked as often as it takes, and the reply or why there is none."""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pipeline.answerers.openai_failures import Asking, failure, not_asked, unusable
from pipeline.answerers.openai_replies import Reply, read_reply
from pipeline.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from openai import APIError, OpenAI

_NAME = re.compile(r"[A-Z_][A-Z0-9_]*")
_CONNECTED_WITHIN = 10.0  # seconds: a host that is not there is known soon, however long an answer may take
_ASKED_IN_VAIN = 3  # questions
_QUOTED = 300  # characters of a server's words in a message
_SECRET = 8  # characters: what is shorter (EMPTY, x) is a word that stands in for a key, and may stand in any text


@dataclass(frozen=True)
class Endpoint:
    """Where a server is and how it is asked. The key is read when it is needed and kept nowhere else."""

    base_url: str
    model: str
    key_env: str | None
    timeout: float
    """Seconds for an answer."""
    retries: int

    def __post_init__(self) -> None:
        parts = urlsplit(self.base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(
                f"answerer.base_url={self.base_url!r} is no address of a server.",
                "Give one such as answerer.base_url=http://localhost:8000/v1",
            )
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ConfigError(  # not quoted, as it may hold a key
                "answerer.base_url holds more than an address (user:password@, ?..., #...), and would be written down.",
                "Give the address alone, and a key by the name of its variable: answerer.api_key_env=NAME",
            )
        if self.key_env is not None and not _NAME.fullmatch(self.key_env):
            raise ConfigError(  # not quoted, as it may be a key
                "answerer.api_key_env is the NAME of an environment variable, in capitals, and never the key itself.",
                "Put the key into a variable, `export MY_KEY=...`, and set answerer.api_key_env=MY_KEY",
            )
        if self.timeout <= 0:
            raise ConfigError(
                f"answerer.timeout={self.timeout:g} leaves no time.", "Take seconds: answerer.timeout=120"
            )
        if self.retries < 0:
            raise ConfigError(f"answerer.retries={self.retries} is no number of tries.", "Take answerer.retries=5")

    @property
    def host(self) -> str:
        """Name and port."""
        return urlsplit(self.base_url).netloc

    @property
    def address(self) -> str:
        """Host, port and path, which tell one API of a gateway from another; the usual ``/v1`` is left out."""
        parts = urlsplit(self.base_url)
        path = parts.path.rstrip("/")
        return parts.netloc if path in ("", "/v1") else f"{parts.netloc}{path}"

    def key(self) -> str:
        """The key; a word without meaning for a server that wants none.

        Raises:
            ConfigError: the environment does not hold it.
        """
        if self.key_env is None:
            return "none"
        key = os.environ.get(self.key_env, "").strip()
        if not key:
            raise ConfigError(
                f"The environment variable {self.key_env}, which is to hold the key of {self.host}, is not set.",
                f"`export {self.key_env}=...`, or for a server without keys answerer.api_key_env=null",
            )
        if not (key.isascii() and key.isprintable()):
            raise ConfigError(
                f"The environment variable {self.key_env} holds characters that no key has.", "Set it once more."
            )
        return key

    def without_key(self, words: str) -> str:
        """``words`` with the key taken out, wherever a server repeated it."""
        if self.key_env is None or len(key := self.key()) < _SECRET:
            return words
        return words.replace(key, f"<{self.key_env}>")


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


class Server:
    """The client of one endpoint, for any number of threads.

    Args:
        endpoint: where it is.
        give_up_after: seconds without any response after which nothing more is asked; none: everything is.
    """

    def __init__(self, endpoint: Endpoint, give_up_after: float | None) -> None:
        self._endpoint = endpoint
        self._give_up_after = give_up_after
        self._silence = Silence()

    def check(self) -> None:
        """Find out before hours of work that no request could be made. Sends nothing.

        Raises:
            MissingExtraError: the client is not installed.
            ConfigError: there is no key.
        """
        self._endpoint.key()
        _ = self._client

    def ask(self, body: Mapping[str, Any], smaller: Sequence[str]) -> Reply:
        """The server's reply.

        The client waits and asks again after 408, 409, 429, 5xx, time-outs and broken connections: half a second at
        first, twice as long each time up to 8, or as long as ``Retry-After`` says, up to two minutes.

        Args:
            body: of a chat completion: ``model``, ``messages`` and whatever else.
            smaller: overrides by which the request becomes smaller, for the remedy.

        Raises:
            Unanswered: there is no reply to this request.
            CheckpointError: the server does not have the model.
            ConfigError: the server takes no request with this key or these settings.
        """
        from openai import APIConnectionError, APIError

        point = self._endpoint
        if self._give_up_after is not None and self._silence.lasts(self._give_up_after):
            raise not_asked(point.host, self._give_up_after)
        begin = time.monotonic()
        asking = Asking(point.host, point.model, point.key_env, point.timeout, smaller)
        model, messages = body["model"], body["messages"]
        rest = {name: value for name, value in body.items() if name not in ("model", "messages")}
        try:
            raw = self._client.chat.completions.with_raw_response.create(
                model=model, messages=messages, extra_body=rest
            ).text
        except APIConnectionError as error:
            self._silence.goes_on(begin)
            raise failure(error, self._words(error), asking) from None
        except APIError as error:
            self._silence.ends()
            raise failure(error, self._words(error), asking) from None
        self._silence.ends()
        try:
            reply = read_reply(raw)
        except ValueError as error:
            raise unusable(str(error), point.without_key(raw)[:_QUOTED], asking) from None
        text, refusal, finish = map(point.without_key, (reply.text, reply.refusal, reply.finish))
        return replace(reply, text=text, refusal=refusal, finish=finish)

    def close(self) -> None:
        """Close the connections; a later request opens new ones, whatever was before."""
        self._silence.ends()
        client = self.__dict__.pop("_client", None)
        if client is not None:
            client.close()

    @cached_property
    def _client(self) -> OpenAI:
        try:
            from openai import OpenAI, Timeout
        except ImportError as error:
            raise MissingExtraError(
                "This answerer asks a server through the package openai, which is not installed.",
                "pip install 'gens-videoqa[api]'",
            ) from error
        for talker in ("httpx", "httpx2", "openai"):  # a line a request, and one for each time it is made again
            logging.getLogger(talker).setLevel(logging.WARNING)
        point = self._endpoint
        return OpenAI(
            base_url=point.base_url,
            api_key=point.key(),
            max_retries=point.retries,
            timeout=Timeout(point.timeout, connect=min(_CONNECTED_WITHIN, point.timeout)),
        )

    def _words(self, error: APIError) -> str:
        """The server's own words, from whatever form it gave them; else the client's, with what lies behind them."""
        from openai import APIStatusError

        body = error.body
        found = (body.get("message") or body.get("detail")) if isinstance(body, Mapping) else None
        if not isinstance(found, str):
            # Gemini sends a list of errors, proxies a page.
            found = error.response.text if isinstance(error, APIStatusError) else ""
        words = found or (f"{error} {error.__cause__}" if error.__cause__ else str(error))
        return self._endpoint.without_key(" ".join(words.split()))[:_QUOTED].rstrip(".")
