"""What a server's refusal means: a failure of this question, or of the whole command, and what to do about it.

The words by which servers tell one 400 from another are theirs, not the protocol's: OpenAI's ``code``; vLLM's ("maximum
context length is", "decoder prompt ... longer than the maximum model length", "At most 5 image(s) may be provided"),
SGLang's ("longer than the model's context length"), transformers' ("Server is pinned to"), Gemini's ("input token count
... exceeds the maximum", "API key not valid") and Azure's ("Exceeded maximum number of images", ``content_filter``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.domain import Status
from pipeline.errors import CheckpointError, ConfigError, PipelineError

if TYPE_CHECKING:
    from openai import APIError, APIStatusError

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
}


class Unanswered(PipelineError):
    """One request got no answer. The answerer turns it into ``status`` on its question."""

    def __init__(self, status: Status, problem: str, remedy: str) -> None:
        super().__init__(problem, remedy)
        self.status = status


@dataclass(frozen=True)
class Asking:
    """What is said of a request in the messages about its failure."""

    server: str
    """Its host."""
    model: str
    key_env: str | None
    """The environment variable that holds the key."""
    timeout: float
    """Seconds."""
    smaller: Sequence[str]
    """Overrides by which the request becomes smaller."""


def failure(error: APIError, words: str, asking: Asking) -> PipelineError:
    """What an error of the client means.

    Args:
        error: as it stands when the client has tried as often as it may.
        words: the server's, without the key.
        asking: what was asked for.

    Returns:
        :class:`Unanswered` for this question alone; another error where every question would fail alike.
    """
    from openai import APIConnectionError, APIStatusError, APITimeoutError

    tries = _tries(error)
    if isinstance(error, APITimeoutError):
        return Unanswered(
            Status.UNREACHABLE,
            f"{asking.server} did not answer within {asking.timeout:g} s, {tries}.",
            f"Try answerer.timeout={2 * asking.timeout:g}, or fewer at once: execution.answer_batch=1; {AGAIN}.",
        )
    if isinstance(error, APIStatusError):
        return _of_status(error, words, tries, asking)
    if isinstance(error, APIConnectionError):
        return Unanswered(
            Status.UNREACHABLE,
            f"{asking.server} cannot be reached, or broke off its response, {tries}: {words}.",
            f"See that the server runs at answerer.base_url; {AGAIN}.",
        )
    return Unanswered(Status.UNREACHABLE, f"What {asking.server} sent cannot be used: {words}.", f"Then {AGAIN}.")


def not_asked(server: str, seconds: float) -> Unanswered:
    """Nothing came back for so long that this question was not sent at all."""
    return Unanswered(
        Status.UNREACHABLE,
        f"{server} has not responded to anything for {seconds:g} s, so this question was not sent.",
        f"See that the server runs at answerer.base_url; {AGAIN}. More patience: answerer.give_up_after=null",
    )


def unusable(reason: str, words: str, asking: Asking) -> Unanswered:
    """The server said that all is well and sent something that is no chat completion."""
    return Unanswered(
        Status.UNREACHABLE,
        f"{asking.server} sent something that is no chat completion ({reason}): {words!r}.",
        f"See that answerer.base_url is that of an OpenAI-compatible API, which mostly ends in /v1; {AGAIN}.",
    )


def _of_status(error: APIStatusError, words: str, tries: str, asking: Asking) -> PipelineError:
    number, said = error.status_code, f"{asking.server} answered {error.status_code}: {words}."
    if fatal := _of_all_requests(error, words, said, asking):
        return fatal
    if number in (400, 403) and (_FILTERED.search(str(error.code)) or _FILTERED.search(words)):
        return Unanswered(Status.REFUSED, said, "Reword the question, or take another answerer=NAME.")
    if number == 413 or (number in (400, 422) and (_TOO_MANY_IMAGES.search(words) or _TOO_LONG.search(words))):
        return _too_large(said, words, asking)
    if number in (400, 422):
        remedy = "Correct what it names, in the server's settings or in answerer.model and its kin; then"
        return Unanswered(Status.UNREACHABLE, said, f"{remedy} {AGAIN}.")
    later = error.response.headers.get("retry-after")
    patience = f" It says to come back after {later} s." if number == 429 and later else ""
    return Unanswered(
        Status.UNREACHABLE,
        f"{said[:-1]}, {tries}.{patience}",
        f"Try fewer at once, execution.answer_batch=1, or more tries, answerer.retries=10; {AGAIN}.",
    )


def _tries(error: APIError) -> str:
    """How often the client asked: it says so in each of its requests."""
    again = int(error.request.headers.get("x-stainless-retry-count", 0))
    return f"asked {again + 1} times" if again else "asked once"


def _of_all_requests(error: APIStatusError, words: str, said: str, asking: Asking) -> PipelineError | None:
    """What no other question would escape."""
    number = error.status_code
    if number == 401 or (number in (400, 403) and _KEY.search(words)):
        return _key_refused(number, asking)
    if number == 403 and not (_FILTERED.search(str(error.code)) or _FILTERED.search(words)):
        return ConfigError(said, f"See that the account may use {asking.model}, or take another answerer.model=NAME.")
    if number == 404 or (number == 400 and _NO_MODEL.search(words)):
        return CheckpointError(
            said, "Name a model that the server has: answerer.model=NAME; or correct answerer.base_url=http://.../v1."
        )
    if number == 429 and "insufficient_quota" in (error.code, error.type):
        return ConfigError(said, f"Pay in, or take the key of another account; {AGAIN}.")
    if number == 400 and error.code in _UNKNOWN_SETTINGS and error.param in _OURS:
        return ConfigError(said, f"This model wants {_OURS[error.param]}")
    return None


def _key_refused(number: int, asking: Asking) -> ConfigError:
    # Without the server's words: some quote the key, or a part of it.
    if asking.key_env is None:
        return ConfigError(
            f"{asking.server} wants a key (it answered {number}).",
            "Put it into an environment variable and name that: answerer.api_key_env=NAME",
        )
    return ConfigError(
        f"{asking.server} does not take the key in the environment variable {asking.key_env} (it answered {number}).",
        f"Put the right one into it, or name another variable: answerer.api_key_env=NAME; {AGAIN}.",
    )


def _too_large(said: str, words: str, asking: Asking) -> Unanswered:
    ways = list(asking.smaller)
    if number := re.search(r"at most (\d+) image|images \((\d+)\)", words, re.IGNORECASE):
        ways.insert(0, f"answerer.max_frames={number[1] or number[2]}")
    return Unanswered(Status.CONTEXT_EXCEEDED, said, f"Try {', or '.join(ways)}.")
