"""Sends a request to an OpenAI-compatible server, again where that may help, and gives the reply or a failure.

A server's refusal means a failure of this question, or of the whole command. The words by which servers tell one 400
from another are theirs, not the protocol's: OpenAI's ``code``; vLLM's ("maximum context length is", "decoder prompt ...
longer than the maximum model length", "At most 5 image(s) may be provided"), SGLang's ("longer than the model's context
length"), transformers' ("Server is pinned to"), Gemini's ("input token count ... exceeds the maximum", "API key not
valid") and Azure's ("Exceeded maximum number of images", ``content_filter``).

Nothing more is asked of a server that was silent for too long, or that turned one question after another away.
"""

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

from pipeline.answerers.openai_replies import NoReplyError, Reply, read_reply
from pipeline.domain import Status
from pipeline.errors import CheckpointError, ConfigError, MissingExtraError, PipelineError
from pipeline.wellformed import loaded

if TYPE_CHECKING:
    from openai import APIConnectionError, APIError, APIStatusError, OpenAI

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
_FEWEST = 3
"""The fewest questions without a response that count: a single one may be what crashes the server."""
_IN_A_ROW = 10
"""Rejections in a row, by a server or a firewall before it, after which nothing more is asked: one may be about its own
request, so many are about all."""
_AGAIN = "the same command asks again for what is missing"

_TOO_LONG = re.compile(
    r"context[ _](?:length|window|size)|longer than the (?:maximum )?model|token count.{0,30}exceed"
    r"|(?:prompt|input|request).{0,40}(?:too (?:long|large)|exceed)",
    re.IGNORECASE | re.DOTALL,
)
_TOO_MANY_IMAGES = re.compile(
    r"at most \d+ (?:image|video)|too many images|(?:maximum|max) (?:number of )?images|limit.mm.per.prompt",
    re.IGNORECASE,
)
_FILTERED = re.compile(r"content.?(?:filter|policy|management)|usage polic|moderation|flagged|safety", re.IGNORECASE)
_NO_MODEL = re.compile(r"model.{0,120}(?:does not exist|not found)|server is pinned", re.IGNORECASE | re.DOTALL)
_KEY = re.compile(r"api.?key", re.IGNORECASE)
_UNKNOWN_SETTINGS = frozenset({"unsupported_parameter", "unsupported_value", "unknown_parameter"})
_OURS = {
    "max_tokens": "answerer.max_tokens_field=max_completion_tokens",
    "max_completion_tokens": "answerer.max_tokens_field=max_tokens",
    "temperature": "answerer.temperature=null",
    "seed": "answerer.seed=null",
    "thinking_token_budget": "answerer.thinking_switch.budget=null",
    "reasoning_effort": "answerer.thinking=checkpoint, or another answerer.thinking_switch.field=...",
    "chat_template_kwargs": "answerer.thinking=checkpoint, or another answerer.thinking_switch.field=...",
}
_SWITCHES = re.compile(r"\b(thinking_token_budget|reasoning_effort|chat_template_kwargs)\b")
"""Fields that servers refuse in their own words: vLLM without ``--reasoning-config``, OpenAI for models that do not
think."""


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
        self._unanswered = _Streak()
        self._rejected = _Streak()
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
            if self._unanswered.lasts(_FEWEST, self._give_up_after):
                raise _not_asked(point.host, self._give_up_after)
            if self._rejected.lasts(_IN_A_ROW, 0.0):
                raise _not_asked_again(point.host)
        try:
            reply = self._ask_repeatedly(body, smaller)
        except NoAnswerError as error:
            if error.turned_away:
                self._rejected.extend(time.monotonic())
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
                raise _unreached(
                    error, self._words(error), before + _times_sent(error), self._context(smaller)
                ) from None
            except APIStatusError as error:
                self._unanswered.end()
                raise _failure(self._rejection(error), before + _times_sent(error), self._context(smaller)) from None
            except APIError as error:
                self._unanswered.end()
                raise _unusable(type(error).__name__, self._words(error), before + 1, self._context(smaller)) from None
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
                    raise _unusable(missing.reason, quoted, tries, self._context(smaller)) from None
                else:
                    raise _failure(rejection, tries, self._context(smaller)) from None

    def _context(self, smaller: Sequence[str]) -> _Context:
        return _Context(self._endpoint, smaller, self._has_answered)

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

    def _rejection(self, error: APIStatusError) -> _Rejection:
        """A response with an HTTP status of failure."""
        words, number = self._words(error), error.status_code
        return _Rejection(
            number,
            words,
            f"{self._endpoint.host} answered {number}: {words}",
            code=str(error.code or ""),
            kind=str(error.type or ""),
            param=str(error.param or ""),
            is_json=_is_json(error.response.text),
            patience=error.response.headers.get("retry-after") or "",
        )

    def _error_within(self, missing: NoReplyError) -> _Rejection:
        """An error within a response of 200."""
        error = missing.error
        words = self._quoted(str(error.get("message") or ""))
        code, kind, param = (str(error.get(name) or "") for name in ("code", "type", "param"))
        number = int(code) if re.fullmatch(r"[45][0-9][0-9]", code) else _NUMBERS.get(code, _NUMBERS.get(kind))
        with_code = f" {code}" if code else ""
        said = f"{self._endpoint.host} answered 200 and failed with an error{with_code}: {words}"
        return _Rejection(number, words, said, code, kind, param)

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


def _times_sent(error: APIError) -> int:
    """How often the client sent the request, by a header of its last one."""
    return int(error.request.headers.get("x-stainless-retry-count", 0)) + 1


def _is_json(body: str) -> bool:
    try:
        return isinstance(loaded(body), (dict, list))
    except ValueError:
        return False


def _pause(attempt: int, retry_after: str | None) -> float:
    """Seconds before the next attempt, as the client counts them."""
    try:
        told = float(retry_after or 0)
    except ValueError:  # a date
        told = 0.0
    return told if 0 < told <= _LONGEST_PAUSE else min(_FIRST_PAUSE * 2.0 ** min(attempt, 10), _LAST_PAUSE)


class _Streak:
    """Questions in a row that a server failed in one way, and since when; for any number of threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since: float | None = None
        self._questions = 0

    def extend(self, since: float) -> None:
        """One more question failed, which was first asked at ``since``, by the monotonic clock."""
        with self._lock:
            self._since = since if self._since is None else min(self._since, since)
            self._questions += 1

    def end(self) -> None:
        """Note that a question did not fail in this way."""
        with self._lock:
            self._since, self._questions = None, 0

    def lasts(self, questions: int, seconds: float) -> bool:
        """Whether at least so many failed, over at least so many seconds."""
        with self._lock:
            is_long = self._since is not None and time.monotonic() - self._since >= seconds
            return is_long and self._questions >= questions


class NoAnswerError(PipelineError):
    """One request got no answer. The answerer turns it into ``status`` on its question."""

    def __init__(self, status: Status, problem: str, remedy: str, *, turned_away: bool = False) -> None:
        super().__init__(problem, remedy)
        self.status = status
        self.turned_away = turned_away
        """It was rejected for a reason that may also affect other questions."""


@dataclass(frozen=True)
class _Context:
    """The facts about a request that messages about its failure name."""

    endpoint: Endpoint
    smaller: Sequence[str]
    """Overrides by which the request becomes smaller."""
    has_answered: bool
    """Whether the server has answered another request, so that model, key and address are right."""


@dataclass(frozen=True)
class _Rejection:
    """What a server said instead of an answer: with an HTTP status, or as an error within a response of 200."""

    number: int | None
    """The HTTP status, or the status that an error names instead; None if there is none."""
    words: str
    """The server's, without the key."""
    said: str
    """What happened, in a sentence with these words."""
    code: str = ""
    kind: str = ""
    """The error's ``type``."""
    param: str = ""
    is_json: bool = True
    """It is an error of the API; not a page of a proxy or firewall."""
    patience: str = ""
    """Seconds that the server asks to wait."""

    @property
    def may_pass(self) -> bool:
        """Whether the same request may succeed if it is sent again in this run."""
        return self.number is None or self.number in (408, 409, 425, 429) or self.number >= 500


def _unreached(error: APIConnectionError, words: str, tries: int, context: _Context) -> NoAnswerError:
    """No response, or only a part of one."""
    from openai import APITimeoutError

    point = context.endpoint
    if isinstance(error, APITimeoutError):
        return NoAnswerError(
            Status.UNREACHABLE,
            f"{point.host} did not answer within {point.timeout:g} s, {_tries(tries)}.",
            f"Try answerer.timeout={2 * point.timeout:g}, or fewer at once: execution.answer_batch=1; {_AGAIN}.",
        )
    return NoAnswerError(
        Status.UNREACHABLE,
        f"{point.host} cannot be reached, or broke off its response, {_tries(tries)}: {words}.",
        f"See that the server runs at answerer.base_url; {_AGAIN}.",
    )


def _failure(rejection: _Rejection, tries: int, context: _Context) -> PipelineError:
    """What the rejection of a request means, after the last of ``tries``.

    Returns:
        :class:`NoAnswerError` for this question alone; another error where every question would fail alike.
    """
    number, words, said = rejection.number, rejection.words, rejection.said
    if fatal := _of_all_requests(rejection, context):
        return fatal
    if _is_filtered(rejection):
        return NoAnswerError(Status.REFUSED, f"{said}.", "Reword the question, or take another answerer=NAME.")
    too_much = _TOO_MANY_IMAGES.search(words) or _TOO_LONG.search(f"{rejection.code} {words}")
    if number == 413 or (number in (400, 422) and too_much):
        return _too_large(f"{said}.", words, context)
    if number in (400, 422):
        remedy = "Correct what it names, in the server's settings or in the settings below answerer; then"
        return NoAnswerError(Status.UNREACHABLE, f"{said}.", f"{remedy} {_AGAIN}.")
    if not rejection.may_pass:
        what = f"the account may use {context.endpoint.model}, and that no firewall or proxy stands before the server"
        return NoAnswerError(Status.UNREACHABLE, f"{said}.", f"See that {what}; {_AGAIN}.", turned_away=True)
    patience = f" It says to come back after {rejection.patience} s." if number == 429 and rejection.patience else ""
    return NoAnswerError(
        Status.UNREACHABLE,
        f"{said}, {_tries(tries)}.{patience}",
        f"Try fewer at once, execution.answer_batch=1, or more tries, answerer.retries=10; {_AGAIN}.",
    )


def _not_asked(server: str, seconds: float) -> NoAnswerError:
    """The question was not sent, because the server has not responded for too long."""
    return NoAnswerError(
        Status.UNREACHABLE,
        f"{server} has not responded to anything for {seconds:g} s, so this question was not sent.",
        f"See that the server runs at answerer.base_url; {_AGAIN}. More patience: answerer.give_up_after=null",
    )


def _not_asked_again(server: str) -> NoAnswerError:
    """The question was not sent, because too many in a row were rejected."""
    return NoAnswerError(
        Status.UNREACHABLE,
        f"{server} rejected the last questions, so this one was not sent.",
        f"See what it said of those before; {_AGAIN}. To send all: answerer.give_up_after=null",
    )


def _unusable(reason: str, words: str, tries: int, context: _Context) -> NoAnswerError:
    """The server responded with success, but not with a chat completion."""
    return NoAnswerError(
        Status.UNREACHABLE,
        f"{context.endpoint.host} sent something that is not a chat completion ({reason}), {_tries(tries)}: {words!r}.",
        f"See that answerer.base_url is that of an OpenAI-compatible API, which mostly ends in /v1; {_AGAIN}.",
        turned_away=True,
    )


def _tries(tries: int) -> str:
    return "asked once" if tries == 1 else f"asked {tries} times"


def _is_filtered(rejection: _Rejection) -> bool:
    """Whether a filter of the service declined, by its error code or its words."""
    if rejection.number not in (None, 400, 403) or not rejection.is_json:
        return False
    return bool(_FILTERED.search(rejection.code) or (rejection.number and _FILTERED.search(rejection.words)))


def _of_all_requests(rejection: _Rejection, context: _Context) -> PipelineError | None:
    """A failure that every other question would have too.

    A 403 is not among it: firewalls give it for what one request holds. Neither is, after an answer, a 404 that does
    not speak of the model.
    """
    number, words, said = rejection.number, rejection.words, f"{rejection.said}."
    if number == 401 or (number in (400, 403) and rejection.is_json and _KEY.search(words)):
        return _key_refused(number, context)
    has_no_model = number in (400, 404) and rejection.is_json and _NO_MODEL.search(words)
    if has_no_model or (number == 404 and not context.has_answered):
        return CheckpointError(
            said, "Name a model that the server has: answerer.model=NAME; or correct answerer.base_url=http://.../v1."
        )
    if number == 402 or (number == 429 and "insufficient_quota" in (rejection.code, rejection.kind)):
        return ConfigError(said, f"Pay in, or take the key of another account; {_AGAIN}.")
    if number == 400 and rejection.code in _UNKNOWN_SETTINGS and rejection.param in _OURS:
        return ConfigError(said, f"This model wants {_OURS[rejection.param]}")
    if number in (400, 422) and rejection.is_json and (switch := _SWITCHES.search(words)):
        return ConfigError(said, f"Set {_OURS[switch[1]]}")
    return None


def _key_refused(number: int, context: _Context) -> ConfigError:
    # Without the server's words: some quote the key, or a part of it.
    point = context.endpoint
    if point.key_env is None:
        return ConfigError(
            f"{point.host} wants a key (it answered {number}).",
            "Put it into an environment variable and name that: answerer.api_key_env=NAME",
        )
    return ConfigError(
        f"{point.host} does not take the key in the environment variable {point.key_env} (it answered {number}).",
        f"Put the right one into it, or name another variable: answerer.api_key_env=NAME; {_AGAIN}.",
    )


def _too_large(said: str, words: str, context: _Context) -> NoAnswerError:
    ways = list(context.smaller)
    if number := re.search(r"at most (\d+) image|images \((\d+)\)", words, re.IGNORECASE):
        ways.insert(0, f"answerer.max_frames={number[1] or number[2]}")
    return NoAnswerError(Status.CONTEXT_EXCEEDED, said, f"Try {', or '.join(ways)}.")
