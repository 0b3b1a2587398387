"""The web application: OpenAI's protocol, health and metrics over an engine."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import anyio
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

from pipeline.domain import Status
from pipeline.errors import ConfigError, InputError, PipelineError, RequestError, VideoError
from pipeline.serving import chat
from pipeline.serving.chat import ChatRequest, Sent
from pipeline.serving.engine import Ask, Engine, Progress, QueueFullError, Reply
from pipeline.serving.guards import Access, Guard
from pipeline.serving.images import ImageFolders
from pipeline.serving.media import UPLOADS
from pipeline.serving.metrics import CONTENT_TYPE, exposition
from pipeline.serving.page import KEY, KEY_BYTES, UNLOCKED, page_routes
from pipeline.serving.subtitles import subtitles_of
from pipeline.serving.videos import Videos, entered
from pipeline.terminal import remark
from pipeline.wellformed import well_formed_json

_LOG = logging.getLogger(__name__)
T = TypeVar("T")
PAUSE = 15.0
"""Seconds after which a sign of life is sent to a client that waits."""
_OF_A_QUESTION = (400, 403, 404, 413)
"""HTTP statuses of a video that may not be read or is not there, and of a question that cannot be asked."""


@dataclass(frozen=True)
class ApiSettings:
    """How the server speaks OpenAI's protocol."""

    name: str
    """Of the model that requests name."""
    on_failure: Literal["empty", "error"]
    """What a failed question is answered with: empty text, which evaluation harnesses count as wrong, or an error."""

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise ConfigError("api.name is empty", "name the model: api.name=gens")


def guarded_app(engine: Engine, videos: Videos, api: ApiSettings, access: Access) -> Guard:
    """All that ``gens serve`` serves: OpenAI's protocol and the page, behind the guard.

    Args:
        engine: answers. Whoever runs the application closes it.
        videos: that requests may name.
        api: how it speaks OpenAI's protocol.
        access: who may ask.
    """
    app = create_app(engine, videos, api)
    app.include_router(page_routes(engine, videos, access))
    return Guard(app, access, ("/health", *UNLOCKED), {UPLOADS: videos.scratch.video_bytes, KEY: KEY_BYTES})


def create_app(engine: Engine, videos: Videos, api: ApiSettings) -> FastAPI:
    """OpenAI's protocol, health and figures, without a guard.

    Args:
        engine: answers.
        videos: that requests may name.
        api: how it speaks.
    """
    app = FastAPI(title="gens", docs_url=None, redoc_url=None, openapi_url=None)
    images = ImageFolders(videos.scratch.folder)
    began = int(time.time())

    @app.exception_handler(RequestError)
    async def refused(_: Request, error: RequestError) -> JSONResponse:
        return _error(error.http, str(error), _headers(error))

    @app.exception_handler(RequestValidationError)
    async def malformed(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"] if part != "body")
        return _error(400, f"{place}: {first['msg']}" if place else str(first["msg"]))

    @app.exception_handler(StarletteHTTPException)
    async def unserved(_: Request, error: StarletteHTTPException) -> JSONResponse:
        return _error(error.status_code, error.detail, error.headers)

    @app.exception_handler(InputError)
    async def unusable(_: Request, error: InputError) -> JSONResponse:
        return _error(400, str(error))

    @app.exception_handler(Exception)
    async def fault(_: Request, error: Exception) -> JSONResponse:
        return _error(500, f"a fault of the server ({type(error).__name__}); its log has the traceback")

    @app.get("/health")
    async def health() -> JSONResponse:
        # Anybody may look, without a key: what happened may name folders, and is in the server's log.
        problem = "stopping" if engine.is_stopping else "failing" if engine.failure else ""
        told = {"waiting": engine.waiting, "computing": engine.computing}
        return JSONResponse({"status": problem or "ok", **told}, 503 if problem else 200)

    @app.get("/metrics")
    async def metrics() -> PlainTextResponse:
        return PlainTextResponse(exposition(engine), media_type=CONTENT_TYPE)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [_model(api.name, began, engine)]}

    @app.get("/v1/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        _check_model(name, api)
        return _model(name, began, engine)

    @app.post("/v1/chat/completions")
    async def complete(body: ChatRequest, request: Request) -> Response:
        _check_model(body.model, api)
        sent = chat.sent_in(body)
        about = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": api.name}
        conversation = _Conversation(engine, videos, images, api, sent, about)
        events = conversation.events()
        if not body.stream and api.on_failure == "error":
            async with aclosing(events):
                return await _unless_gone(request, conversation.whole(events))
        first = await anext(events)  # what is refused has a status of its own
        if not body.stream:
            return StreamingResponse(conversation.kept_open(first, events), media_type="application/json")
        with_usage = body.stream_options is not None and body.stream_options.include_usage
        return StreamingResponse(conversation.stream(first, events, with_usage), media_type="text/event-stream")

    return app


@dataclass(frozen=True)
class _Outcome:
    """How a question ended, in the words of a response."""

    text: str
    finish: str
    usage: Mapping[str, Any]
    gens: dict[str, Any]
    http: int
    """Of a failure, where failures are errors."""

    @property
    def is_failure(self) -> bool:
        return bool(self.gens["status"] != Status.OK.value)


@dataclass(frozen=True)
class _Conversation:
    """One request on its way."""

    engine: Engine
    videos: Videos
    images: ImageFolders
    api: ApiSettings
    sent: Sent
    about: Mapping[str, Any]

    async def events(self) -> AsyncGenerator[Progress | _Outcome, None]:
        """The question's progress, and how it ended.

        Raises:
            RequestError: the server is full or stopping.
        """
        try:
            async with AsyncExitStack() as held:
                http = 422
                try:
                    video = await held.enter_async_context(self._video())
                    lines = subtitles_of(self.sent.wishes.subtitles, self.videos, self.engine.session)
                    subtitles = await held.enter_async_context(entered(lines))
                    question = chat.question_in(self.sent, str(video), subtitles)
                except (RequestError, InputError, VideoError) as error:
                    http = error.http if isinstance(error, RequestError) else 400
                    if http not in _OF_A_QUESTION:
                        raise
                    question = chat.refused(self.sent, error)
                followed = await held.enter_async_context(aclosing(self.engine.follow(Ask(question))))
                async for each in followed:
                    yield self._answered(each, http) if isinstance(each, Reply) else each
        except PipelineError as error:
            if isinstance(error, RequestError) and error.http != 500:
                raise
            yield self._failed(error)
        except Exception as error:  # for a harness, a fault of the server is a failed question, too
            _LOG.exception("A request could not be answered")
            problem = f"the request could not be answered ({type(error).__name__}: {error})"
            yield self._failed(RequestError(problem, "this is a fault of the program; its log has the traceback", 500))

    async def whole(self, events: AsyncIterator[Progress | _Outcome]) -> Response:
        """The response to a request that wants no stream, where failures are errors: its status comes with it."""
        async for each in events:
            if isinstance(each, _Outcome):
                if each.is_failure:
                    return _error(each.http, each.gens["detail"], gens=each.gens)
                return JSONResponse(self._completion(each))
        raise AssertionError  # events end with an outcome

    async def kept_open(
        self, first: Progress | _Outcome, events: AsyncGenerator[Progress | _Outcome, None]
    ) -> AsyncIterator[str]:
        """The body of such a response where failures are none: white space until it is there, which JSON allows.

        Clients end a request to which nothing comes for long, ``openai`` after 10 minutes, and a harness then grades
        what it says about that.
        """
        async with aclosing(_with_pauses(first, events)) as paced:
            try:
                async for each in paced:
                    if each is None:
                        yield " "
                    elif isinstance(each, _Outcome):
                        yield json.dumps(self._completion(each))
            except RequestError as error:
                # The server stops. Its status is sent, and a client that finds no choices in a success makes up a text.
                yield json.dumps(self._completion(self._failed(error)))

    async def stream(
        self, first: Progress | _Outcome, events: AsyncGenerator[Progress | _Outcome, None], with_usage: bool
    ) -> AsyncIterator[str]:
        """The lines of a stream: progress in parts without text, then the text in one part."""
        yield self._part({"role": "assistant", "content": ""})
        async with aclosing(_with_pauses(first, events)) as paced:
            try:
                async for each in paced:
                    if each is None:
                        yield ": waiting\n\n"
                    elif isinstance(each, Progress):
                        yield self._part({}, gens=chat.progress(each))
                    elif each.is_failure and self.api.on_failure == "error":
                        yield _line({"error": _content(each.http, each.gens["detail"]), "gens": each.gens})
                    else:
                        if each.text:
                            yield self._part({"content": each.text})
                        yield self._part({}, each.finish, gens=each.gens)
                        if with_usage:
                            yield _line(chat.completion("chat.completion.chunk", self.about, [], usage=each.usage))
            except RequestError as error:
                yield _line({"error": _content(error.http, str(error))})
        yield "data: [DONE]\n\n"

    def _completion(self, outcome: _Outcome) -> dict[str, Any]:
        message = {"role": "assistant", "content": outcome.text}
        choice = {"index": 0, "message": message, "finish_reason": outcome.finish, "logprobs": None}
        return chat.completion("chat.completion", self.about, [choice], usage=outcome.usage, gens=outcome.gens)

    @asynccontextmanager
    async def _video(self) -> AsyncIterator[Path]:
        """The file or folder that the question is about."""
        sent = self.sent
        if sent.video is not None:
            async with entered(self.videos.named(sent.video)) as video:
                yield video.path
        elif sent.images:
            async with entered(self.images.holding(sent.images)) as folder:
                yield folder
        else:
            raise InputError("the message has no video", "send a video_url, or the frames as image_url")

    def _part(self, delta: Mapping[str, Any], finish: str | None = None, **more: Any) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        return _line(chat.completion("chat.completion.chunk", self.about, [choice], **more))

    def _answered(self, reply: Reply, http: int) -> _Outcome:
        gens = chat.told(reply, self.sent, self.engine.session.parts)
        question = reply.selected.question
        for place in (question.video, question.subtitles.path if question.subtitles else ""):
            if place.startswith(str(self.videos.scratch.folder)):  # the client did not name it, and it is gone soon
                for told in (gens, gens["selection"]):
                    told["detail"] = told["detail"].replace(place, "what the request brings")
        totals, folder = self.engine.totals(), self.engine.session.folder
        gens["run"] = {
            "folder": None if folder is None else folder.name,
            "questions": totals.total(),
            "failed": totals.total() - totals[Status.OK],
        }
        return _Outcome(*chat.response(reply), chat.usage(reply), well_formed_json(gens), http)

    def _failed(self, error: PipelineError) -> _Outcome:
        remark(f"a question failed: {error.problem}")
        gens = chat.failed(error, self.sent, self.engine.session.parts)
        nothing = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
        return _Outcome("", "stop", nothing, well_formed_json(gens), 400 if isinstance(error, InputError) else 500)


async def _with_pauses(first: T, events: AsyncGenerator[T, None]) -> AsyncGenerator[T | None, None]:
    """The events, and None whenever none comes for a while. Closed before its end, it closes the events."""
    coming: asyncio.Future[T | None] | None = None
    try:
        yield first
        while True:
            coming = coming or asyncio.ensure_future(anext(events, None))
            done, _ = await asyncio.wait((coming,), timeout=PAUSE)
            if not done:
                yield None
                continue
            each, coming = coming.result(), None
            if each is None:
                return
            yield each
    finally:
        with anyio.CancelScope(shield=True):
            if coming is not None:
                coming.cancel()
                await asyncio.wait((coming,))
            await events.aclose()


async def _unless_gone(request: Request, work: Any) -> Response:
    """What ``work`` gives, unless the client disconnects before: then the work is cancelled."""
    working = asyncio.ensure_future(work)

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    leaving = asyncio.ensure_future(gone())
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        return await working if working.done() else Response(status_code=499)
    finally:
        leaving.cancel()
        if not working.done():
            working.cancel()
            await asyncio.wait((working,))


def _check_model(name: str, api: ApiSettings) -> None:
    if name != api.name:
        raise RequestError(f"there is no model {name!r}", f"the model of this server is {api.name!r}", 404)


def _model(name: str, began: int, engine: Engine) -> dict[str, Any]:
    about = {"id": name, "object": "model", "created": began, "owned_by": "gens-videoqa"}
    return {**about, "gens": dict(engine.session.parts)}


def _headers(error: RequestError) -> dict[str, str]:
    return {"Retry-After": str(error.retry_after)} if isinstance(error, QueueFullError) else {}


def _error(http: int, message: str, headers: Mapping[str, str] | None = None, **more: Any) -> JSONResponse:
    return JSONResponse({"error": _content(http, message), **more}, http, dict(headers or {}))


def _content(http: int, message: str) -> dict[str, Any]:
    kind = "server_error" if http >= 500 else "invalid_request_error"
    return {"message": message, "type": kind, "param": None, "code": http}


def _line(content: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(content)}\n\n"
