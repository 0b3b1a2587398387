"""What a server's refusal means: a failure of this question, or of the whole command, and what to do about it.

The words by which servers tell one 400 from another are theirs, not the protocol's: OpenAI's ``code``; vLLM's ("maximum
context length is", "decoder prompt ... longer than the maximum model length", "At most 5 image(s) may be provided"),
SGLang's ("longer than the model's context length"), transformers' ("Server is pinned to"), Gemini's ("input token count
... exceeds the maximum", "API key not valid") and Azure's ("Exceeded maximum number of images", ``content_filter``).

Nothing more is asked of a server that was silent for too long, or that turned one question after another away.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.domain import Status
from pipeline.errors import CheckpointError, ConfigError, PipelineError

if TYPE_CHECKING:
    from openai import APIConnectionError

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


AGAIN = "the same command asks again for what is missing"

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


class NoAnswerError(PipelineError):
    """One request got no answer. The answerer turns it into ``status`` on its question."""

    def __init__(self, status: Status, problem: str, remedy: str, *, turned_away: bool = False) -> None:
        super().__init__(problem, remedy)
        self.status = status
        self.turned_away = turned_away
        """It was rejected for a reason that may also affect other questions."""


@dataclass(frozen=True)
class RequestContext:
    """The facts about a request that messages about its failure name."""

    server: str
    """Its host."""
    model: str
    key_env: str | None
    """The environment variable that holds the key."""
    timeout: float
    """Seconds."""
    smaller: Sequence[str]
    """Overrides by which the request becomes smaller."""
    has_answered: bool
    """Whether the server has answered another request, so that model, key and address are right."""


@dataclass(frozen=True)
class Rejection:
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


def unreached(error: APIConnectionError, words: str, tries: int, context: RequestContext) -> NoAnswerError:
    """No response, or only a part of one."""
    from openai import APITimeoutError

    if isinstance(error, APITimeoutError):
        return NoAnswerError(
            Status.UNREACHABLE,
            f"{context.server} did not answer within {context.timeout:g} s, {_tries(tries)}.",
            f"Try answerer.timeout={2 * context.timeout:g}, or fewer at once: execution.answer_batch=1; {AGAIN}.",
        )
    return NoAnswerError(
        Status.UNREACHABLE,
        f"{context.server} cannot be reached, or broke off its response, {_tries(tries)}: {words}.",
        f"See that the server runs at answerer.base_url; {AGAIN}.",
    )


def failure(rejection: Rejection, tries: int, context: RequestContext) -> PipelineError:
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
        remedy = "Correct what it names, in the server's settings or in answerer.model and its kin; then"
        return NoAnswerError(Status.UNREACHABLE, f"{said}.", f"{remedy} {AGAIN}.")
    if not rejection.may_pass:
        what = f"the account may use {context.model}, and that no firewall or proxy stands before the server"
        return NoAnswerError(Status.UNREACHABLE, f"{said}.", f"See that {what}; {AGAIN}.", turned_away=True)
    patience = f" It says to come back after {rejection.patience} s." if number == 429 and rejection.patience else ""
    return NoAnswerError(
        Status.UNREACHABLE,
        f"{said}, {_tries(tries)}.{patience}",
        f"Try fewer at once, execution.answer_batch=1, or more tries, answerer.retries=10; {AGAIN}.",
    )


def not_asked(server: str, seconds: float) -> NoAnswerError:
    """The question was not sent, because the server has not responded for too long."""
    return NoAnswerError(
        Status.UNREACHABLE,
        f"{server} has not responded to anything for {seconds:g} s, so this question was not sent.",
        f"See that the server runs at answerer.base_url; {AGAIN}. More patience: answerer.give_up_after=null",
    )


def not_asked_again(server: str) -> NoAnswerError:
    """The question was not sent, because too many in a row were rejected."""
    return NoAnswerError(
        Status.UNREACHABLE,
        f"{server} rejected the last questions, so this one was not sent.",
        f"See what it said of those before; {AGAIN}. To send all: answerer.give_up_after=null",
    )


def unusable(reason: str, words: str, tries: int, context: RequestContext) -> NoAnswerError:
    """The server responded with success, but not with a chat completion."""
    return NoAnswerError(
        Status.UNREACHABLE,
        f"{context.server} sent something that is not a chat completion ({reason}), {_tries(tries)}: {words!r}.",
        f"See that answerer.base_url is that of an OpenAI-compatible API, which mostly ends in /v1; {AGAIN}.",
        turned_away=True,
    )


def _tries(tries: int) -> str:
    return "asked once" if tries == 1 else f"asked {tries} times"


def _is_filtered(rejection: Rejection) -> bool:
    """Whether a filter of the service declined, by its error code or its words."""
    if rejection.number not in (None, 400, 403) or not rejection.is_json:
        return False
    return bool(_FILTERED.search(rejection.code) or (rejection.number and _FILTERED.search(rejection.words)))


def _of_all_requests(rejection: Rejection, context: RequestContext) -> PipelineError | None:
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
        return ConfigError(said, f"Pay in, or take the key of another account; {AGAIN}.")
    if number == 400 and rejection.code in _UNKNOWN_SETTINGS and rejection.param in _OURS:
        return ConfigError(said, f"This model wants {_OURS[rejection.param]}")
    if number in (400, 422) and rejection.is_json and (switch := _SWITCHES.search(words)):
        return ConfigError(said, f"Set {_OURS[switch[1]]}")
    return None


def _key_refused(number: int, context: RequestContext) -> ConfigError:
    # Without the server's words: some quote the key, or a part of it.
    if context.key_env is None:
        return ConfigError(
            f"{context.server} wants a key (it answered {number}).",
            "Put it into an environment variable and name that: answerer.api_key_env=NAME",
        )
    return ConfigError(
        f"{context.server} does not take the key in the environment variable {context.key_env} (it answered {number}).",
        f"Put the right one into it, or name another variable: answerer.api_key_env=NAME; {AGAIN}.",
    )


def _too_large(said: str, words: str, context: RequestContext) -> NoAnswerError:
    ways = list(context.smaller)
    if number := re.search(r"at most (\d+) image|images \((\d+)\)", words, re.IGNORECASE):
        ways.insert(0, f"answerer.max_frames={number[1] or number[2]}")
    return NoAnswerError(Status.CONTEXT_EXCEEDED, said, f"Try {', or '.join(ways)}.")
