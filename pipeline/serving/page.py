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
    POST   /api/questions                {"video", "question", "options"} -> a stream of events:
                                         ``progress``, then ``result`` and ``pictures``, or ``failed``

A question is withdrawn when its stream is closed.
"""

from __future__ import annotations

import asyncio
import json
import mimetypes
from collections.abc import AsyncGenerator
from contextlib import ExitStack, aclosing
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, Response, StreamingResponse
from pydantic import BaseModel, Field
from starlette.types import Receive, Scope, Send

from pipeline.benchmarks.jsonl import question_of
from pipeline.errors import ChangedVideoError, PipelineError, RequestError, VideoError
from pipeline.identity import digest
from pipeline.reports.document import TEMPLATES
from pipeline.reports.thumbnails import VideoThumbnails
from pipeline.serving.engine import Ask, Engine, Progress, Reply
from pipeline.serving.guards import Access
from pipeline.serving.replies import rendered
from pipeline.serving.shelf import Shelf
from pipeline.serving.videos import NamedVideo, Videos

UPLOADS = "/api/uploads"
UNLOCKED = ("/", "/static/*", "/api/key")
"""What is there before a key is given."""

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
_FILE_POLICY = {"Content-Security-Policy": "default-src 'none'; sandbox"}
_QUALITY = 75
_THUMBNAIL = 320
_LARGEST = 1280
"""Pixels of a picture's width."""
_BLOCK = 1 << 18
_UPLOAD_BLOCK = 1 << 20
_SLOWEST = 60.0
"""Seconds in which some part of an upload must come."""
_UPLOADS_AT_ONCE = 8
_PICTURES_AT_ONCE = 2
_LONGEST_WAIT = 15.0
"""Seconds after which a stream without news says that it is alive."""
_LONGEST_QUESTION = 20_000
"""Characters, also of an option."""


Item = TypeVar("Item")


class Asking(BaseModel):
    """A question from the page."""

    video: str = Field(max_length=100)
    question: str = Field(min_length=1, max_length=_LONGEST_QUESTION)
    options: list[str] | None = Field(None, max_length=26)


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
    pictures = asyncio.Semaphore(_PICTURES_AT_ONCE)
    uploads = asyncio.Semaphore(_UPLOADS_AT_ONCE)

    @routes.get("/")
    async def page() -> Response:
        return FileResponse(_STATIC / "ask.html", headers=_PAGE_HEADERS)

    @routes.get("/static/{name}")
    async def static(name: str) -> Response:
        if name not in _FILES:
            raise RequestError(f"there is no {name[:100]}", "open the page at /", 404)
        return FileResponse(_FILES[name], headers=_PAGE_HEADERS)

    @routes.post("/api/key")
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
        return {"parts": dict(engine.session.parts), "most_bytes": videos.scratch.video_bytes}

    @routes.get("/api/videos")
    async def listed() -> dict[str, Any]:
        found = await asyncio.to_thread(shelf.listed)
        return {"videos": [_told(key, video) for key, video in found]}

    @routes.post(UPLOADS)
    async def upload(request: Request, name: str = "video") -> dict[str, Any]:
        if uploads.locked():
            raise RequestError("the server is receiving other videos", "send it again in a moment", 429)
        async with uploads:
            key, video = await _received(request, shelf, name[:200])
        asyncio.get_running_loop().call_later(shelf.keeps_seconds + 1, shelf.forget_unused)
        return _told(key, video)

    @routes.delete(f"{UPLOADS}/{{key}}")
    async def forget(key: str) -> Response:
        shelf.forget(key)
        return Response(status_code=204)

    @routes.get("/api/videos/{key}")
    async def facts(key: str) -> dict[str, Any]:
        with shelf.using(key) as video:
            found = await _read(video, lambda: engine.session.reader.probe(video.path))
        return {
            **_told(key, video),
            "duration": found.duration,
            "width": found.width,
            "height": found.height,
            "fps": found.fps,
        }

    @routes.get("/api/videos/{key}/picture")
    async def picture(key: str, second: float, width: int = _LARGEST) -> Response:
        if not 0 <= second < 1e9:
            raise RequestError(f"second={second} is no time of a video", "give seconds from 0 on", 400)
        source = VideoThumbnails(engine.session.reader, max(1, min(width, _LARGEST)), _QUALITY)
        with shelf.using(key) as video:
            async with pictures:
                found = await _read(video, lambda: source.thumbnails(str(video.path), [second]))
        return Response(found[second].jpeg, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})

    @routes.api_route("/api/videos/{key}/file", methods=["GET", "HEAD"])
    async def file(key: str, request: Request, version: str = "") -> Response:
        with ExitStack() as held:
            video = held.enter_context(shelf.using(key))
            if version and version != video.version:
                raise _changed(video)
            return _file(video, videos, request, held)

    @routes.post("/api/questions")
    async def ask(asking: Asking) -> Response:
        with ExitStack() as held:
            video = held.enter_context(shelf.using(asking.video))
            options = [option.strip() for option in asking.options or () if option.strip()] or None
            fields = {"video": str(video.path), "question": asking.question.strip()}
            fields |= {} if options is None else {"options": options, "answer": None}
            question = question_of(fields, digest({**fields, "version": video.version})[:16])
            events = _events(engine, Ask(question), video, asking.video)
            return _Stream(events, held.pop_all(), 200, _EVENT_HEADERS)

    return routes


class _Stream(StreamingResponse):
    """A response that ends its source and lets go of what it holds, however it ends."""

    def __init__(self, source: AsyncGenerator[Any, None], held: ExitStack, status: int, headers: dict[str, str]) -> None:
        super().__init__(source, status, headers)
        self._source = source
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            with self._held:
                await self._source.aclose()


async def _events(engine: Engine, ask: Ask, video: NamedVideo, key: str) -> AsyncGenerator[str, None]:
    """What happens to a question, as server-sent events. Closed before its end, it withdraws the question."""
    try:
        async with aclosing(engine.follow(ask)) as followed:
            async for each in _with_pauses(followed):
                if each is None:
                    yield ": alive\n\n"
                elif isinstance(each, Progress):
                    told = {"stage": each.stage.value, "done": each.done, "total": each.total, "what": each.what}
                    yield _event("progress", told)
                else:
                    reply = each
        video.check_is_unchanged()
        yield _event("result", {**await asyncio.to_thread(rendered, reply, video), "video": key})
        yield _event("pictures", await _thumbnails(engine, reply, video))
    except PipelineError as error:
        yield _event("failed", {"message": _without_place(str(error), video)})


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
    source = VideoThumbnails(engine.session.reader, _THUMBNAIL, _QUALITY)
    try:
        found = await _read(video, lambda: source.thumbnails(str(video.path), seconds)) if seconds else {}
    except RequestError as error:
        return {"shown": {}, "problem": str(error)}
    return {"shown": {str(second): picture.data_uri for second, picture in found.items()}, "problem": ""}


async def _received(request: Request, shelf: Shelf, name: str) -> tuple[str, NamedVideo]:
    """Take an upload as it comes, in blocks that are written outside of the event loop."""
    length = request.headers.get("content-length", "")
    with shelf.receiving(int(length) if length.isdigit() else None, name) as receiving:
        blocks = request.stream()
        block = bytearray()
        while True:
            try:
                async with asyncio.timeout(_SLOWEST):
                    part = await anext(blocks, None)
            except TimeoutError:
                raise RequestError("the upload has stopped", "send it again", 408) from None
            block += part or b""
            if len(block) >= _UPLOAD_BLOCK or part is None:
                await asyncio.to_thread(receiving.write, bytes(block))
                block.clear()
            if part is None:
                return await asyncio.to_thread(shelf.keep, receiving, name)


async def _read(video: NamedVideo, work: Any) -> Any:
    """What ``work`` reads from a video, in a thread that waits for the decode workers.

    Raises:
        RequestError: the video cannot be read, or has changed.
    """
    if not video.is_unchanged:
        raise _changed(video)
    try:
        return await asyncio.to_thread(work)
    except VideoError as error:
        if isinstance(error, ChangedVideoError) or not video.is_unchanged:
            raise _changed(video) from error
        raise RequestError(_without_place(error.problem, video), _without_place(error.remedy, video), 422) from error


def _file(video: NamedVideo, videos: Videos, request: Request, held: ExitStack) -> Response:
    """The bytes that a player asks for."""
    size = int(video.version.split("-")[1], 16)
    etag = f'"{video.version}"'
    kind = mimetypes.guess_type(video.path.name)[0] or ""
    headers = {
        "Accept-Ranges": "bytes",
        "ETag": etag,
        "Cache-Control": "private, no-cache",
        "Content-Type": kind if kind.startswith("video/") else "application/octet-stream",
        **_FILE_POLICY,
    }
    asked = request.headers.get("range", "") if request.headers.get("if-range", etag) == etag else ""
    part = _range(asked, size)
    first, last = part or (0, size - 1)
    status = 200 if part is None else 206
    if part is not None and not 0 <= first <= last < size:
        return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{size}"})
    headers |= {"Content-Length": str(last - first + 1)}
    headers |= {} if part is None else {"Content-Range": f"bytes {first}-{last}/{size}"}
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    try:
        opened = held.enter_context(videos.opened(video))
    except ChangedVideoError as error:
        raise _changed(video) from error
    return _Stream(_blocks(opened, first, last + 1 - first), held.pop_all(), status, headers)


async def _blocks(file: BinaryIO, start: int, left: int) -> AsyncGenerator[bytes, None]:
    await asyncio.to_thread(file.seek, start)
    while left and (block := await asyncio.to_thread(file.read, min(left, _BLOCK))):
        left -= len(block)
        yield block


def _range(asked: str, size: int) -> tuple[int, int] | None:
    """First and last byte of a ``Range`` header; None for none, and for what is no single range."""
    unit, _, spans = asked.partition("=")
    start, dash, end = spans.strip().partition("-")
    if unit.strip().lower() != "bytes" or not dash or not all(part.isdecimal() or not part for part in (start, end)):
        return None
    if start:
        return int(start), min(int(end), size - 1) if end else size - 1
    return (max(size - int(end), 0), size - 1) if end else None


def _told(key: str, video: NamedVideo) -> dict[str, Any]:
    size = int(video.version.split("-")[1], 16)
    return {"id": key, "name": video.name, "bytes": size, "version": video.version}


def _changed(video: NamedVideo) -> RequestError:
    return RequestError(f"{video.name} has changed since it was opened", "choose it again", 409)


def _without_place(text: str, video: NamedVideo) -> str:
    """A message without the folders that the video is in."""
    return text.replace(str(video.path), video.name)


def _event(name: str, content: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(content)}\n\n"


