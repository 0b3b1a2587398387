"""Any model behind an OpenAI-compatible server as an answerer: vLLM, SGLang, transformers serve, GPT-4o, Gemini.

The client is the ``openai`` package, which also waits and asks again. What this adds is the request (frames with their
times, within the server's caps), and that every way in which a server can fail has its status. The request is made in
:mod:`pipeline.answerers.openai_requests`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Generator, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

from pipeline.answerers import AnswererLimits, AnswerRequest
from pipeline.answerers.ahead import each
from pipeline.answerers.openai_replies import Prices, Reply, ReplyStore
from pipeline.answerers.openai_requests import (
    CONTINUE_ANSWER,
    LabelledImages,
    RequestForm,
    Requests,
    SampledVideo,
    SentFrame,
    ServerThinking,
    ThinkingSwitch,
    different_sizes,
    sent_text,
    warn_of_thoughts,
)
from pipeline.answerers.openai_server import Endpoint, NoAnswerError, Server
from pipeline.answerers.options import conclude
from pipeline.answerers.prompts import NO_FRAMES, AnswerPrompt, question_fault
from pipeline.domain import Answer, Cost, Status
from pipeline.errors import ConfigError, FramesError, InputError, with_remedy
from pipeline.families.chat import FrameLabels
from pipeline.families.thinking import Thinking
from pipeline.identity import Identified, Label, Place, Speed, digest

_AT_LEAST = {
    "max_new_tokens": 1,
    "max_frames": 1,
    "max_request_mb": 0.001,
    "context_tokens": 1,
    "tokens_per_frame": 1,
    "temperature": 0,
    "give_up_after": 0,
}
_OF_THOUGHTS = ("thinking", "thinking_switch", "max_thinking_tokens")
_LIMITS = ("max_tokens", "max_completion_tokens")
_OWN_FIELDS = frozenset({"model", "messages", "temperature", "seed", "n", "stream", *_LIMITS, *CONTINUE_ANSWER})


@dataclass(frozen=True)
class OpenAICompatible(Identified):
    """Asks a server over HTTP. ``execution.answer_batch`` is the number of requests under way at once."""

    kind: ClassVar[str] = "openai"

    name: Label[str]
    base_url: str
    """The address of the API, which mostly ends in ``/v1``."""
    model: str
    """The server's name for the model."""
    api_key_env: Place[str | None]
    """Name of the environment variable that holds the key; None for a server without keys."""
    form: Literal["images", "video"]
    """``images``: a label before each. ``video``: vLLM's video of frames that are sampled already."""
    images: FrameLabels
    frame: SentFrame
    prompt: AnswerPrompt
    system: str | None
    """System message; None: none is sent."""
    temperature: float | None
    """None: not sent, for models that accept only their default."""
    seed: int | None
    max_new_tokens: int
    """A limit for each answer; thoughts count in it where ``max_thinking_tokens`` is None."""
    thinking: Thinking
    """``never``: switched off; ``always``: switched on; ``checkpoint``: nothing is sent."""
    thinking_switch: ThinkingSwitch
    max_thinking_tokens: int | None
    """A limit for each thought, added to the request's; None: a thought counts in ``max_new_tokens``."""
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"]
    """The server's name for that limit."""
    continues_answer: bool
    """Whether the server continues an answer that the prompt begins."""
    extra_body: Mapping[str, Any]
    """Further fields of the request, sent unchanged."""
    max_frames: int | None
    """Images that the server takes in a request, an option's pictures included."""
    max_request_mb: float | None
    """Megabytes (10^6 bytes) of a request."""
    context_tokens: int
    """The context of the server's model, for ``limits()``; the server checks each request itself."""
    tokens_per_frame: int
    """The same."""
    timeout: Speed[float]
    """Seconds for one answer."""
    retries: Speed[int]
    """How often the client sends a request again."""
    give_up_after: Speed[float | None]
    """Seconds without any response, over at least three questions, after which the rest are not sent; None: all are."""
    prices: Label[Prices]
    response_store: Place[Path | None]
    """Folder where replies are kept from run to run; None: every request is made."""

    def __post_init__(self) -> None:
        for name, least in _AT_LEAST.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"answerer.{name}={value} is too small.", f"Take answerer.{name}={least} or more.")
        _ = self._endpoint, self._form  # invalid settings raise at once
        if self.prompt.answer_prefix and not self.continues_answer:
            raise ConfigError(
                f"The prompt begins the answer, {self.prompt.answer_prefix!r}, and few servers continue it.",
                "If yours does (vLLM, SGLang): answerer.continues_answer=true; else answerer.prompt.answer_prefix=''",
            )
        if self.prompt.answer_prefix and self.thinking == "always":
            raise ConfigError(
                f"answerer.prompt={self.prompt.name} begins the answer for the model, and a thought comes first.",
                "Take a prompt that does not: answerer/prompt=letter; or answerer.thinking=never",
            )
        own = set(_OWN_FIELDS)
        if self.form == "video":
            own |= {"media_io_kwargs", "mm_processor_kwargs"}
        if doubled := sorted(own & set(self.extra_body)):
            raise ConfigError(
                f"answerer.extra_body holds {', '.join(doubled)}, which has a setting of its own, or no meaning here.",
                "Take it out of answerer.extra_body.",
            )
        self._thinking.check(self.extra_body, own)

    def limits(self) -> AnswererLimits:
        """From the settings; no request is sent."""
        return AnswererLimits(
            context_tokens=self.context_tokens,
            tokens_per_frame=self.tokens_per_frame,
            max_frames=self.max_frames,
            time_told=self._form.time_told(),
        )

    def output_tokens(self) -> int:
        """The limit that a request sends: of a thought, where it has its own, and of the answer."""
        return self._thinking.tokens + self.max_new_tokens

    @property
    def is_repeatable(self) -> bool:
        """Whether replies are stored, so that a request always has the same reply."""
        return self.response_store is not None

    def identity(self) -> Mapping[str, Any]:
        """All that decides the answers and nothing secret: only host and path of the URL.

        Raises:
            MissingExtraError, ConfigError: no request could be made. Raised here, before stage 1 runs for hours.
        """
        self._server.check()
        settings = {name: value for name, value in super().identity().items() if name not in _OF_THOUGHTS}
        return {**settings, **self._thinking.content(), "base_url": self._endpoint.address}

    def check_subtitles(self) -> None:
        """Raise where the video form would get subtitles between its frames."""
        if self.form == "video":
            self.prompt.check_in_one()

    def frame_tokens(self, height: int, width: int, scale: float | None = None) -> int:
        """From the settings, by the area of a scaled frame; the server counts itself."""
        return math.ceil(self.tokens_per_frame * min(1.0, (scale or 1.0) ** 2))

    def visual_tokens(self, height: int, width: int, scale: float | None) -> None:
        """None: only the server knows."""

    def check_scales(self, scales: Collection[float | None]) -> None:
        """Raise where a video would have frames of several sizes."""
        if self.form == "video" and len(set(scales)) > 1:
            raise different_sizes()

    def capacity(self, request: AnswerRequest) -> int:
        """How many of the frames fit the caps on images and bytes, whichever are chosen."""
        return self._requests.capacity(request)

    def answer(self, requests: Iterable[AnswerRequest], batch: int) -> Generator[Answer, None, None]:
        """One answer for each request, in the order of the replies; ``batch`` requests are sent at once.

        A reply that was kept from an earlier run is marked as cached: it costs what it cost then, and nothing is spent.
        With a temperature above 0 it is the same reply again.

        Raises:
            CheckpointError: the server does not have the model.
            ConfigError: the server takes no request with this key or these settings.
            StorageError: replies cannot be kept.
        """
        self._server.check()
        return each(self._answer, requests, batch)

    def body(self, request: AnswerRequest) -> Mapping[str, Any]:
        """The request that is sent to the server, as JSON values.

        Raises:
            FramesError: the frames cannot be put in this form.
            InputError: a picture of an option cannot be read.
        """
        return self._requests.body(request)

    def close(self) -> None:
        """Close the connections; a later ``answer`` opens new ones."""
        self._server.close()

    @cached_property
    def _endpoint(self) -> Endpoint:
        return Endpoint(self.base_url, self.model, self.api_key_env, self.timeout, self.retries)

    @cached_property
    def _server(self) -> Server:
        return Server(self._endpoint, self.give_up_after)

    @cached_property
    def _form(self) -> RequestForm:
        return LabelledImages(self.frame, self.images) if self.form == "images" else SampledVideo(self.frame)

    @cached_property
    def _requests(self) -> Requests:
        settings = {"temperature": self.temperature, "seed": self.seed}
        fields = {
            "model": self.model,
            self.max_tokens_field: self.output_tokens(),
            **{name: value for name, value in settings.items() if value is not None},
            **self._thinking.fields(self.extra_body),
        }
        return Requests(self._form, self.frame, self.prompt, self.system, fields, self.max_frames, self.max_request_mb)

    @cached_property
    def _thinking(self) -> ServerThinking:
        return ServerThinking(self.thinking, self.thinking_switch, self.max_thinking_tokens)

    @cached_property
    def _warned_of_thoughts(self) -> bool:
        """True; the first look warns."""
        warn_of_thoughts(self._endpoint.host, self.thinking_switch)
        return True

    @cached_property
    def _store(self) -> ReplyStore | None:
        return None if self.response_store is None else ReplyStore(self.response_store)

    def _answer(self, request: AnswerRequest) -> Answer:
        if not request.frames:
            return self._failed(request, Status.NO_FRAMES, NO_FRAMES)
        if fault := question_fault(request.question, ()):
            return self._failed(request, Status.INVALID_QUESTION, fault)
        try:
            body = self.body(request)
        except InputError as error:
            return self._failed(request, Status.INVALID_QUESTION, str(error))
        except FramesError as error:
            return self._failed(request, error.status, str(error))
        excess = self._requests.excess(request, body)
        return self._failed(request, Status.CONTEXT_EXCEEDED, excess) if excess else self._sent(request, body)

    def _sent(self, request: AnswerRequest, body: Mapping[str, Any]) -> Answer:
        return replace(self._asked(request, body), prompt=sent_text(body["messages"], request.times))

    def _asked(self, request: AnswerRequest, body: Mapping[str, Any]) -> Answer:
        begin = time.perf_counter()
        pictures = request.question.option_images or ()
        more = {"frames_shown": float(len(request.frames)), "rounds": 1.0}
        if not pictures:
            more["image_pixels"] = float(sum(map(self._requests.sent_pixels, request.frames)))
        try:
            reply, is_new = self._reply(body, len(request.frames))
        except NoAnswerError as error:
            return self._failed(request, error.status, str(error), Cost(time.perf_counter() - begin, more=more))
        told = {"cached_tokens": reply.cached_tokens, "visual_tokens": reply.visual_tokens}
        more |= {name: float(count) for name, count in told.items() if count is not None}
        if reply.thinking_tokens:
            more["thinking_tokens"] = reply.thinking_tokens
        cost = Cost(reply.seconds, reply.prompt_tokens, reply.output_tokens, self.prices.dollars(reply), more)
        return replace(self._concluded(request, reply, cost), cached=not is_new)

    def _reply(self, body: Mapping[str, Any], frames: int) -> tuple[Reply, bool]:
        """The reply, and whether it was asked for just now."""
        if self._store is None:
            return self._timed(body, frames), True
        key = digest({"host": self._endpoint.address, "body": body})
        kept = self._store.find(key)
        if kept is not None:
            return kept, False
        reply = self._timed(body, frames)
        self._store.keep(key, reply)
        return reply, True

    def _timed(self, body: Mapping[str, Any], frames: int) -> Reply:
        begin = time.perf_counter()
        reply = self._server.ask(body, self._requests.smaller(frames))
        return replace(reply, seconds=time.perf_counter() - begin)

    def _concluded(self, request: AnswerRequest, reply: Reply, cost: Cost) -> Answer:
        if reply.is_refused:
            words = reply.refusal or f"its filter stepped in ({reply.finish})"
            detail = with_remedy(
                f"{self._endpoint.host} declined to answer: {words}.",
                "Reword the question, or take another answerer=NAME.",
            )
            failed = self._failed(request, Status.REFUSED, detail, cost)
            return replace(failed, text=reply.text or reply.refusal, thought=reply.thought, finish=reply.finish)
        answer = conclude(
            request.question,
            reply.text,
            thought=reply.thought,
            thought_begun=self._is_cut_in_a_thought(reply),
            begun=self.prompt.words(request).begun,
            truncated=reply.is_cut,
            limit=self.max_new_tokens,
            longer_thought=self._thinking.longer(self.max_new_tokens),
            form=self._describe(),
            frame_times=request.times,
            cost=cost,
        )
        if self.thinking == "never" and answer.thought:
            _ = self._warned_of_thoughts
        return replace(answer, finish=reply.finish)

    def _is_cut_in_a_thought(self, reply: Reply) -> bool:
        """Whether the limit came within a thought that has no mark in the text, or is not shown."""
        if not reply.is_cut or reply.thought:
            return False
        thinks_unseen = not reply.text.strip() and (reply.thinking_tokens > 0 or self.thinking == "always")
        return thinks_unseen or self._thinking.may_begin_in_prompt(self.extra_body)

    def _describe(self) -> str:
        return f"{self.form}, {self.frame.describe()}; {self._form.time_told()}{self._thinking.describe()}"

    def _failed(self, request: AnswerRequest, status: Status, detail: str, cost: Cost | None = None) -> Answer:
        return request.failed(status, detail, self._describe(), cost)
