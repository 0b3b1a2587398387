"""Sends a request to an OpenAI-compatible server, again where that may help, and gives the reply or a failure."""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pipeline.answerers.openai_failures import (
    NoAnswerError,
    RejectedStreak,
    Rejection,
    RequestContext,
    UnansweredStreak,
    failure,
    not_asked,
    not_asked_again,
    unreached,
    unusable,
)
from pipeline.answerers.openai_replies import NoReplyError, Reply, read_reply
from pipeline.domain import Status
from pipeline.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from openai import APIError, APIStatusError, OpenAI

_NAME = re.compile(r"[A-Z_][A-Z0-9_]*")
_CONNECTED_WITHIN = 10.0  # seconds: a host that is not there is known soon, however long an answer may take
_QUOTED = 300  # characters of a server's words in a message
_FIRST_PAUSE, _LAST_PAUSE, _LONGEST_PAUSE = 0.5, 8.0, 120.0  # seconds
_LONGEST_TIMEOUT = 1e6  # seconds; a socket's own clock overflows far above
_NUMBERS = {
    "invalid_api_key": 401,
    "authentication_error": 401,
    "content_filter": 400,
    "context_length_exceeded": 400,
    "model_not_found": 404,
    "insufficient_quota": 429,
}
"""The HTTP status that an error's code or type usually comes with, for errors within a response of 200."""
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
                f"answerer.base_url={self.base_url!r} is not an address of a server.",
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
        if not 0 < self.timeout <= _LONGEST_TIMEOUT:
            raise ConfigError(
                f"answerer.timeout={self.timeout:g} is not a time to wait.", "Take seconds: answerer.timeout=120"
            )
        if self.retries < 0:
            raise ConfigError(f"answerer.retries={self.retries} is not a number of tries.", "Take answerer.retries=5")

    @property
    def host(self) -> str:
        """Name and port."""
        return urlsplit(self.base_url).netloc

    @property
    def address(self) -> str:
        """Host, port and path, which distinguish the APIs of a gateway; the usual ``/v1`` is left out."""
        parts = urlsplit(self.base_url)
        path = parts.path.rstrip("/")
        return parts.netloc if path in ("", "/v1") else f"{parts.netloc}{path}"

    def key(self) -> str:
        """The key; a placeholder for a server without keys.

        Raises:
            ConfigError: the environment does not hold it.
        """
        if self.key_env is None:
            return "none"
        key = os.environ.get(self.key_env, "").strip()
        if not key:
            raise ConfigError(
                f"The environment variable {self.key_env}, which should hold the key of {self.host}, is not set.",
                f"`export {self.key_env}=...`, or for a server without keys answerer.api_key_env=null",
            )
        if not (key.isascii() and key.isprintable()):
            raise ConfigError(
                f"The environment variable {self.key_env} holds characters that no key has.", "Set it once more."
            )
        return key

    def without_key(self, words: str) -> str:
        """``words`` without the key, which some servers repeat."""
        if self.key_env is None or len(key := self.key()) < _SECRET:
            return words
        return words.replace(key, f"<{self.key_env}>")


class Server:
    """The client of one endpoint, for any number of threads.

    Args:
        endpoint: where it is.
        give_up_after: seconds without any response after which nothing more is asked; None: everything is.
    """

    def __init__(self, endpoint: Endpoint, give_up_after: float | None) -> None:
        self._endpoint = endpoint
        self._give_up_after = give_up_after
        self._unanswered = UnansweredStreak()
        self._rejected = RejectedStreak()
        self._has_answered = False

    def check(self) -> None:
        """Check before hours of work that requests can be made. Sends nothing.

        Raises:
            MissingExtraError: the client is not installed.
            ConfigError: there is no key.
        """
        self._endpoint.key()
        _ = self._client

    def ask(self, body: Mapping[str, Any], smaller: Sequence[str]) -> Reply:
        """The server's reply.

        It is asked again after 408, 409, 429, 5xx, time-outs and broken connections, and after a response of 200 that
        holds an error or no chat completion: half a second later at first, twice as long each time up to 8, or as long
        as ``Retry-After`` says, up to two minutes.

        Args:
            body: of a chat completion: ``model``, ``messages`` and other fields.
            smaller: overrides by which the request becomes smaller, for the remedy.

        Raises:
            NoAnswerError: there is no reply to this request.
            CheckpointError: the server does not have the model.
            ConfigError: the server takes no request with this key or these settings.
        """
        point = self._endpoint
        if self._give_up_after is not None:
            if self._unanswered.is_too_long(self._give_up_after):
                raise not_asked(point.host, self._give_up_after)
            if self._rejected.is_too_long():
                raise not_asked_again(point.host)
        try:
            reply = self._ask_repeatedly(body, smaller)
        except NoAnswerError as error:
            if error.turned_away:
                self._rejected.extend()
            elif error.status is not Status.UNREACHABLE:
                self._rejected.end()
            raise
        self._rejected.end()
        self._has_answered = True
        return reply

    def _ask_repeatedly(self, body: Mapping[str, Any], smaller: Sequence[str]) -> Reply:
        from openai import APIConnectionError, APIError, APIStatusError

        begin, left, attempt = time.monotonic(), self._endpoint.retries, 0
        while True:
            before = self._endpoint.retries - left
            try:
                response = self._send(body, left)
            except APIConnectionError as error:
                self._unanswered.extend(begin)
                raise unreached(error, self._words(error), before + _tries(error), self._context(smaller)) from None
            except APIStatusError as error:
                self._unanswered.end()
                raise failure(self._rejection(error), before + _tries(error), self._context(smaller)) from None
            except APIError as error:
                self._unanswered.end()
                raise unusable(type(error).__name__, self._words(error), before + 1, self._context(smaller)) from None
            self._unanswered.end()
            left -= response.retries_taken
            try:
                return self._without_key(read_reply(response.text))
            except NoReplyError as missing:
                tries = self._endpoint.retries - left + 1
                rejection = self._error_within(missing) if missing.error else None
                if left > 0 and (rejection is None or rejection.may_pass):
                    left -= 1
                    time.sleep(_pause(attempt, response.headers.get("retry-after")))
                    attempt += 1
                elif rejection is None:
                    quoted = self._endpoint.without_key(response.text)[:_QUOTED]
                    raise unusable(missing.reason, quoted, tries, self._context(smaller)) from None
                else:
                    raise failure(rejection, tries, self._context(smaller)) from None

    def _context(self, smaller: Sequence[str]) -> RequestContext:
        point = self._endpoint
        return RequestContext(point.host, point.model, point.key_env, point.timeout, smaller, self._has_answered)

    def _send(self, body: Mapping[str, Any], retries: int) -> Any:
        """The whole response, raw; the client itself asks again after a bad HTTP status."""
        client = self._client if retries == self._endpoint.retries else self._client.with_options(max_retries=retries)
        rest = {name: value for name, value in body.items() if name not in ("model", "messages")}
        return client.chat.completions.with_raw_response.create(
            model=body["model"], messages=body["messages"], extra_body=rest
        )

    def _without_key(self, reply: Reply) -> Reply:
        """The reply without the key, which some servers repeat."""
        words = (reply.text, reply.thought, reply.refusal, reply.finish)
        text, thought, refusal, finish = map(self._endpoint.without_key, words)
        return replace(reply, text=text, thought=thought, refusal=refusal, finish=finish)

    def _rejection(self, error: APIStatusError) -> Rejection:
        """A response with an HTTP status of failure."""
        words, number = self._words(error), error.status_code
        return Rejection(
            number,
            words,
            f"{self._endpoint.host} answered {number}: {words}",
            code=str(error.code or ""),
            kind=str(error.type or ""),
            param=str(error.param or ""),
            is_json=_is_json(error.response.text),
            patience=error.response.headers.get("retry-after") or "",
        )

    def _error_within(self, missing: NoReplyError) -> Rejection:
        """An error within a response of 200."""
        error = missing.error
        words = self._quoted(str(error.get("message") or ""))
        code, kind, param = (str(error.get(name) or "") for name in ("code", "type", "param"))
        number = int(code) if re.fullmatch(r"[45][0-9][0-9]", code) else _NUMBERS.get(code, _NUMBERS.get(kind))
        with_code = f" {code}" if code else ""
        said = f"{self._endpoint.host} answered 200 and failed with an error{with_code}: {words}"
        return Rejection(number, words, said, code, kind, param)

    def close(self) -> None:
        """Close the connections and forget earlier failures; a later request opens new ones."""
        self._unanswered.end()
        self._rejected.end()
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
        """The server's message in any of its forms; otherwise the client's, with its cause."""
        from openai import APIStatusError

        body = error.body
        found = (body.get("message") or body.get("detail")) if isinstance(body, Mapping) else None
        if not isinstance(found, str):
            # Gemini sends a list of errors, proxies a page.
            found = error.response.text if isinstance(error, APIStatusError) else ""
        words = found or (f"{error} {error.__cause__}" if error.__cause__ else str(error))
        return self._quoted(words)

    def _quoted(self, words: str) -> str:
        """A server's words as a message quotes them: one line, without the key."""
        return self._endpoint.without_key(" ".join(words.split()))[:_QUOTED].rstrip(".")


def _tries(error: APIError) -> int:
    """How often the client sent the request, by a header of its last one."""
    return int(error.request.headers.get("x-stainless-retry-count", 0)) + 1


def _is_json(body: str) -> bool:
    try:
        return isinstance(json.loads(body), (dict, list))
    except (ValueError, RecursionError):
        return False


def _pause(attempt: int, retry_after: str | None) -> float:
    """Seconds before the next attempt, as the client counts them."""
    try:
        told = float(retry_after or 0)
    except ValueError:  # a date
        told = 0.0
    return told if 0 < told <= _LONGEST_PAUSE else min(_FIRST_PAUSE * 2.0 ** min(attempt, 10), _LAST_PAUSE)
