"""The page for asking, and what it asks the server for.

::

    GET    /                             the page; /static/NAME its style and script
    POST   /api/key                      {"key"}: sets the cookie that stands for the key
    GET    /api/state                    the models, and the most that an upload may have
    GET    /api/videos                   the videos below the declared folders
    POST   /api/uploads?name=            the bytes of a video -> {"id", "name", "bytes", "version"}
    DELETE /api/uploads/ID
    GET    /api/videos/ID                length, size and rate
    GET    /api/videos/ID/file           its bytes, in ranges
    GET    /api/videos/ID/picture        ?second=&width=: what is shown at a second, as JPEG
    POST   /api/questions                {"video", "question", "options", "span", "subtitles"} -> a stream of events:
                                         ``progress``, then ``result`` and ``pictures``, or ``failed``

A question is withdrawn when its stream is closed.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import ExitStack, aclosing
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, Response
from pydantic import BaseModel, Field

from pipeline.benchmarks.jsonl import question_of
from pipeline.errors import PipelineError, RequestError
from pipeline.identity import digest
from pipeline.reports.document import TEMPLATES
from pipeline.reports.thumbnails import VideoThumbnails
from pipeline.serving.asked import LONGEST_QUESTION, check_length
from pipeline.serving.engine import Ask, Engine, Reply, Stage
from pipeline.serving.guards import Access
from pipeline.serving.media import QUALITY, HeldStream, read_in_thread, video_routes, without_place
from pipeline.serving.replies import rendered
from pipeline.serving.shelf import Shelf
from pipeline.serving.subtitles import SubtitleText, subtitles_of
from pipeline.serving.videos import NamedVideo, Videos

KEY = "/api/key"
UNLOCKED = ("/", "/static/*", KEY)
"""What is there before a key is given."""
KEY_BYTES = 10_000
"""The most that is read of a request with a key, since anybody may send one."""

_STATIC = Path(__file__).parent / "static"
_FILES = {
    "report.css": TEMPLATES / "page.css",
    **{name: _STATIC / name for name in ("ask.css", "ask.js", "player.js", "asking.js")},
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGE_HEADERS = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-cache"}
_EVENT_HEADERS = {"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_THUMBNAIL = 320
_LONGEST_WAIT = 15.0
"""Seconds after which a stream without news says that it is alive."""

Item = TypeVar("Item")


class Asking(BaseModel):
    """A question from the page."""

    video: str = Field(max_length=100)
    question: str = Field(min_length=1, max_length=LONGEST_QUESTION)
    options: list[Annotated[str, Field(max_length=LONGEST_QUESTION)]] | None = Field(None, max_length=26)
    span: list[float] | None = None
    subtitles: SubtitleText | None = None


class Key(BaseModel):
    """The key as typed."""

    key: str = Field(max_length=1000)


def page_routes(engine: Engine, videos: Videos, access: Access) -> APIRouter:
    """The page and its routes, for the application of the server.

    Args:
        engine: answers.
        videos: that may be asked about.
        access: knows the key.
    """
    routes = APIRouter(include_in_schema=False)
    shelf = Shelf(videos)
    routes.include_router(video_routes(shelf, videos, engine.session.reader))

    @routes.get("/")
    async def page() -> Response:
        return FileResponse(_STATIC / "ask.html", headers=_PAGE_HEADERS)

    @routes.get("/static/{name}")
    async def static(name: str) -> Response:
        if name not in _FILES:
            raise RequestError(f"there is no {name[:100]}", "open the page at /", 404)
        return FileResponse(_FILES[name], headers=_PAGE_HEADERS)

    @routes.post(KEY)
    async def unlock(given: Key, request: Request) -> Response:
        if access.cookie is None:
            return Response(status_code=204)
        if not access.is_key(given.key.strip()):
            raise RequestError("this is not the key of the server", "type what GENS_API_KEY was when it started", 401)
        response = Response(status_code=204)
        name, proof = access.cookie
        is_secure = request.url.scheme == "https"
        response.set_cookie(name, proof, httponly=True, samesite="strict", secure=is_secure)
        return response

    @routes.get("/api/state")
    async def state() -> dict[str, Any]:
        session = engine.session
        return {
            "parts": dict(session.parts),
            "most_bytes": videos.scratch.video_bytes,
            "takes_subtitles": session.takes_subtitles,
        }

    @routes.post("/api/questions")
    async def ask(asking: Asking) -> Response:
        with ExitStack() as held:
            video = held.enter_context(shelf.using(asking.video))
            options = [option.strip() for option in asking.options or () if option.strip()] or None
            fields: dict[str, Any] = {"video": str(video.path), "question": asking.question.strip()}
            fields |= {} if options is None else {"options": options, "answer": None}
            fields |= {} if asking.span is None else {"span": asking.span}
            subtitles = held.enter_context(subtitles_of(asking.subtitles, videos, engine.session))
            fields |= {} if subtitles is None else {"subtitles": subtitles}
            question = question_of(fields, digest({**fields, "version": video.version})[:16])
            check_length(question)
            events = _events(engine, Ask(question), video, asking.video)
            return HeldStream(events, held.pop_all(), 200, _EVENT_HEADERS)

    return routes


async def _events(engine: Engine, ask: Ask, video: NamedVideo, key: str) -> AsyncGenerator[str, None]:
    """What happens to a question, as server-sent events. Closed before its end, it withdraws the question."""
    try:
        async with aclosing(engine.follow(ask)) as followed, aclosing(_with_pauses(followed)) as paused:
            async for each in paused:
                if each is None:
                    yield ": alive\n\n"
                elif isinstance(each, Reply):
                    reply = each
                elif each.stage is not Stage.DONE:
                    told = {"stage": each.stage.value, "done": each.done, "total": each.total, "what": each.what}
                    yield _event("progress", told)
        video.check_is_unchanged()
        shown = await asyncio.to_thread(rendered, reply, video, engine.session.parts)
        yield _event("result", {**shown, "video": key})
        yield _event("pictures", await _thumbnails(engine, reply, video))
    except PipelineError as error:
        yield _event("failed", {"message": without_place(str(error), video)})


async def _with_pauses(source: AsyncGenerator[Item, None]) -> AsyncGenerator[Item | None, None]:
    """The items of a source; None where none has come for long."""
    while True:
        waiting = asyncio.ensure_future(anext(source))
        try:
            while not (await asyncio.wait((waiting,), timeout=_LONGEST_WAIT))[0]:
                yield None
            yield waiting.result()
        except StopAsyncIteration:
            return
        finally:
            if not waiting.done():
                waiting.cancel()
                await asyncio.wait((waiting,))


async def _thumbnails(engine: Engine, reply: Reply, video: NamedVideo) -> dict[str, Any]:
    """Addresses of the selected frames' pictures, by the second as the page writes it."""
    seconds = [frame.time for frame in reply.selected.row.selection.frames]
    source = VideoThumbnails(engine.session.reader, _THUMBNAIL, QUALITY)
    try:
        found = await read_in_thread(video, lambda: source.thumbnails(str(video.path), seconds)) if seconds else {}
    except RequestError as error:
        return {"shown": {}, "problem": str(error)}
    return {"shown": {str(second): picture.data_uri for second, picture in found.items()}, "problem": ""}


def _event(name: str, content: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(content)}\n\n"
