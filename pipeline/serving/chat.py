"""Requests and responses of ``/v1/chat/completions``, between OpenAI's words and ours. Knows no web framework.

Source of the fields: OpenAI's API reference; ``video_url`` and ``media_io_kwargs`` as vLLM has them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal
from urllib.parse import unquote

from pydantic import BaseModel, ConfigDict

from pipeline.benchmarks.jsonl import question_from_fields, span_of
from pipeline.domain import Prompt, Question, Status, Subtitles
from pipeline.errors import InputError, PipelineError, RequestError
from pipeline.identity import digest
from pipeline.ledger import alone
from pipeline.serving.asked import asked_in, check_length
from pipeline.serving.engine import Progress, Reply
from pipeline.serving.subtitles import Given, Text

_OF_OTHERS = {
    "tools": "functions are not called",
    "functions": "functions are not called",
    "response_format": "the answer's form is the answerer's",
    "audio": "the answer is text",
    "logprobs": "no probabilities are given",
}
"""Parameters that would change what a response means, and why they are refused."""
_LONGEST_ADDRESS = 500
_WITHOUT_EFFECT = ("model", "messages", "stream", "stream_options", "n", "gens", "user", "metadata", "store")


class Address(BaseModel):
    """Where a picture or a video is."""

    url: Text


class Part(BaseModel):
    """A part of a message."""

    type: str
    text: Text | None = None
    image_url: Address | Text | None = None
    video_url: Address | Text | None = None


class Message(BaseModel):
    """A turn of the conversation."""

    role: str
    content: Text | list[Part] | None = None


class Wishes(BaseModel):
    """The field ``gens`` of a request."""

    model_config = ConfigDict(extra="forbid")

    question: Text | None = None
    """For the sampler, in place of what is found in the prompt."""
    options: list[Text] | None = None
    """The same of the options, without labels. An empty list: a free question."""
    id: Text | None = None
    """The question's id in the run folder."""
    scores: bool = False
    """Whether the response holds the scores of all candidate frames."""
    span: list[float] | None = None
    """Start and end of the part of the video that may be seen, in seconds."""
    subtitles: Given | None = None
    """Those of the video: where the file is, or its name and text."""


class StreamOptions(BaseModel):
    """What a stream holds in addition."""

    include_usage: bool = False


class ChatRequest(BaseModel):
    """The body of a request. Other fields are kept: some are refused, the others named in the response."""

    model_config = ConfigDict(extra="allow")

    model: str
    messages: list[Message]
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: int | None = 1
    gens: Wishes | None = None


@dataclass(frozen=True)
class Sent:
    """What a request asks."""

    prompt: Prompt
    video: str | None
    """Address of the video."""
    images: tuple[str, ...]
    """Addresses of pictures, which are the video's frames, one a second."""
    wishes: Wishes
    without_effect: tuple[str, ...]
    """Parameters that change nothing: the server's settings decide."""


def sent_in(request: ChatRequest) -> Sent:
    """What a request asks.

    Raises:
        RequestError: it wants what this server does not do.
    """
    more = request.model_extra or {}
    for name, reason in _OF_OTHERS.items():
        if more.get(name) not in (None, False, [], {}, {"type": "text"}):
            raise RequestError(f"{name}: {reason} by this server", f"leave {name} out of the request", 400)
    if request.n not in (None, 1):
        raise RequestError(f"n={request.n}: there is one answer to a question", "leave n out of the request", 400)
    turns = [message for message in request.messages if message.role not in ("system", "developer")]
    if len(turns) != 1 or turns[0].role != "user":
        raise RequestError(
            f"the conversation has {len(turns)} turns, and a question is asked without what was said before",
            "send one message of the user, with the video in it, and a system message if need be",
            400,
        )
    parts = _parts(turns[0])
    systems = [_text(_parts(message)) for message in request.messages if message is not turns[0]]
    videos = [_url(part.video_url) for part in parts if part.type == "video_url"]
    if len(videos) > 1:
        raise RequestError(f"the message has {len(videos)} videos", "ask about one video at a time", 400)
    images = tuple(_url(part.image_url) for part in parts if part.type == "image_url")
    if videos and images:
        raise RequestError("the message has a video and pictures", "send one of them", 400)
    return Sent(
        Prompt(_text(parts), "\n".join(systems) if systems else None),
        videos[0] if videos else None,
        images,
        request.gens or Wishes(),
        tuple(sorted(name for name in more if name not in _WITHOUT_EFFECT)),
    )


def question_in(sent: Sent, video: str, subtitles: str | None) -> Question:
    """The question of a request about the video at a path, with the subtitles at another.

    Raises:
        InputError: it cannot be asked.
    """
    found, wishes = asked_in(sent.prompt.text), sent.wishes
    if wishes.options:
        text = wishes.question or found.question
        question = question_from_fields(id="", video=video, text=text, options=wishes.options)
    else:
        # Benchmarks have questions with two equal options, which their prompts show.
        options = found.options if wishes.options is None else None
        question = Question("", video, (wishes.question or found.question).strip(), options)
    if not sent.prompt.text.strip():
        raise InputError("the message has no text", "send the question beside the video")
    check_length(question)
    seen = None if wishes.span is None else span_of(wishes.span)
    lines = None if subtitles is None else Subtitles(subtitles)
    return _named(replace(question, span=seen, subtitles=lines), sent)


def refused(sent: Sent, error: PipelineError) -> Question:
    """The question of a request that cannot be asked, for the run folder: a failure counts there, too."""
    found, address = asked_in(sent.prompt.text), sent.video or "".join(sent.images)
    if address.startswith("file:"):
        video = f"/{unquote(address.removeprefix('file:')).lstrip('/')}"
    else:
        video = address if len(address) < _LONGEST_ADDRESS else f"{address[:20]}... ({digest(address)[:16]})"
    text = sent.wishes.question or found.question or "(no text)"
    return _named(Question("", video, text, found.options, fault=str(error)), sent)


def _named(question: Question, sent: Sent) -> Question:
    """With its prompt, and an id: the client's, or one made of what is asked."""
    content: list[Any] = [question.video, question.text, question.options, sent.prompt.text, sent.prompt.system]
    if more := sent.wishes.model_dump(include={"span", "subtitles"}, exclude_none=True):
        content.append(more)
    return replace(question, prompt=sent.prompt, id=sent.wishes.id or digest(content)[:16])


def response(reply: Reply) -> tuple[str, str]:
    """The text of a reply and why it ended, in OpenAI's words. The text of a failure is empty."""
    if reply.result is None or reply.status is not Status.OK:
        return "", "stop"
    return reply.result.text, "length" if reply.result.row.answer.finish == "length" else "stop"


def usage(reply: Reply) -> dict[str, Any]:
    """Tokens of the answerer, of all its prompt: other questions that were asked at the same time take nothing off."""
    cost = None if reply.result is None else alone(reply.result.row.answer)
    read, written = (cost.prompt_tokens, cost.output_tokens) if cost else (0, 0)
    thoughts = int(cost.more.get("thinking_tokens", 0)) if cost else 0
    details = {"completion_tokens_details": {"reasoning_tokens": thoughts}} if thoughts else {}
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written, **details}


def told(reply: Reply, sent: Sent, parts: Mapping[str, str]) -> dict[str, Any]:
    """The field ``gens`` of a response: what the sampler was asked, what it found, and how the question ended."""
    selected, result = reply.selected, reply.result
    question, selection = selected.question, selected.row.selection
    relevance = None if selected.relevance is None else selected.relevance.relevance
    found: dict[str, Any] = {
        "id": question.id,
        "question": question.text,
        "options": question.options,
        "status": reply.status.value,
        "detail": reply.detail,
        "option": None if result is None else result.letter,
        "said": "" if result is None else result.text,
        "selection": {
            "status": selection.status.value,
            "detail": selection.detail,
            "policy": selection.policy,
            "frames": [
                {
                    "time": frame.time,
                    "index": frame.index,
                    "score": frame.score,
                    "source": frame.source.value,
                    "scale": frame.scale,
                }
                for frame in selection.frames
            ],
        },
        "cost": {
            "sampler": None if relevance is None else asdict(relevance.cost),
            "answerer": None if result is None else asdict(result.cost),
        },
        "waited": round(reply.waited, 3),
        "seconds": round(reply.seconds, 3),
        "together": reply.together,
        **_made_by(sent, parts),
    }
    if selected.row.video is not None:
        found["duration"] = selected.row.video.duration
    if sent.wishes.scores:
        found["scores"] = selected.scores
    return found


def failed(error: PipelineError, sent: Sent, parts: Mapping[str, str]) -> dict[str, Any]:
    """The field ``gens`` for a question for which there is no reply."""
    found = asked_in(sent.prompt.text)
    asked = {"id": sent.wishes.id, "question": sent.wishes.question or found.question, "options": found.options}
    status = Status.INVALID_QUESTION.value if isinstance(error, InputError) else "error"
    return {**asked, "status": status, "detail": str(error), "option": None, "said": "", **_made_by(sent, parts)}


def progress(now: Progress) -> dict[str, Any]:
    """The field ``gens`` of a chunk that says how far a question is."""
    return {"progress": {"stage": now.stage.value, "done": now.done, "total": now.total, "what": now.what}}


def completion(
    kind: Literal["chat.completion", "chat.completion.chunk"],
    about: Mapping[str, Any],
    choices: Sequence[Mapping[str, Any]],
    **more: Any,
) -> dict[str, Any]:
    """A response, or a part of a stream.

    Args:
        kind: of these.
        about: ``id``, ``created`` and ``model``, the same in all parts.
        choices: one, or none where the part holds only figures.
        **more: ``usage`` and ``gens``.
    """
    return {"object": kind, **about, "choices": list(choices), **more}


def _made_by(sent: Sent, parts: Mapping[str, str]) -> dict[str, Any]:
    return {"made_by": dict(parts), "without_effect": list(sent.without_effect)}


def _parts(message: Message) -> list[Part]:
    content = message.content or ""
    parts = [Part(type="text", text=content)] if isinstance(content, str) else content
    for part in parts:
        if part.type not in ("text", "image_url", "video_url"):
            raise RequestError(
                f"a part of the message is of the type {part.type!r}", "send text, image_url or video_url", 400
            )
    return parts


def _text(parts: Sequence[Part]) -> str:
    return "\n".join(part.text or "" for part in parts if part.type == "text")


def _url(address: Address | str | None) -> str:
    if address is None:
        raise RequestError("a part of the message has no address", 'send {"url": "..."}', 400)
    return address if isinstance(address, str) else address.url
