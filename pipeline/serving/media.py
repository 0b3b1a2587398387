"""The videos of the page: listed, sent, looked at and played."""

from __future__ import annotations

import asyncio
import mimetypes
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import ExitStack
from typing import Any, BinaryIO, TypeVar

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from pipeline.errors import ChangedVideoError, RequestError, VideoError
from pipeline.reports.thumbnails import VideoThumbnails
from pipeline.serving.shelf import Shelf
from pipeline.serving.videos import NamedVideo, Videos
from pipeline.video import Reader

UPLOADS = "/api/uploads"
QUALITY = 75
"""Of JPEG pictures."""

_DIGITS = re.compile(r"[0-9]{0,18}")
_FILE_POLICY = {"Content-Security-Policy": "default-src 'none'; sandbox"}
_LARGEST = 1280
"""Pixels of a picture's width."""
_BLOCK = 1 << 18
_UPLOAD_BLOCK = 1 << 20
_SLOWEST = 60.0
"""Seconds in which some part of an upload must come."""
_UPLOADS_AT_ONCE = 8
_PICTURES_AT_ONCE = 2

Found = TypeVar("Found")


class HeldStream(StreamingResponse):
    """A response that ends its source and lets go of what it holds, however it ends."""

    def __init__(
        self, source: AsyncGenerator[Any, None], held: ExitStack, status: int, headers: dict[str, str]
    ) -> None:
        super().__init__(source, status, headers)
        self._source = source
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI says."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            with self._held:
                await self._source.aclose()


def video_routes(shelf: Shelf, videos: Videos, reader: Reader) -> APIRouter:
    """The routes below ``/api/videos`` and ``/api/uploads``.

    Args:
        shelf: knows the videos by their keys.
        videos: opens them.
        reader: decodes their pictures.
    """
    routes = APIRouter(include_in_schema=False)
    pictures = asyncio.Semaphore(_PICTURES_AT_ONCE)
    uploads = asyncio.Semaphore(_UPLOADS_AT_ONCE)

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
            found = await read_in_thread(video, lambda: reader.probe(video.path))
        return {
            **_told(key, video),
            "duration": found.duration,
            "width": found.width,
            "height": found.height,
            "fps": found.fps,
        }

    @routes.get("/api/videos/{key}/picture")
    async def picture(key: str, second: float, width: int = _LARGEST, version: str = "") -> Response:
        if not 0 <= second < 1e9:
            raise RequestError(f"second={second} is no time of a video", "give seconds from 0 on", 400)
        source = VideoThumbnails(reader, max(1, min(width, _LARGEST)), QUALITY)
        with shelf.using(key) as video:
            _check_version(video, version)
            async with pictures:
                found = await read_in_thread(video, lambda: source.thumbnails(str(video.path), [second]))
        return Response(found[second].jpeg, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})

    @routes.api_route("/api/videos/{key}/file", methods=["GET", "HEAD"])
    async def file(key: str, request: Request, version: str = "") -> Response:
        with ExitStack() as held:
            video = held.enter_context(shelf.using(key))
            _check_version(video, version)
            return _file(video, videos, request, held)

    return routes


def _check_version(video: NamedVideo, version: str) -> None:
    """Raise where the page has opened another version; an empty one is any."""
    if version and version != video.version:
        raise changed(video)


async def read_in_thread(video: NamedVideo, work: Callable[[], Found]) -> Found:
    """What ``work`` reads from a video, in a thread that waits for the decode workers.

    Raises:
        RequestError: the video cannot be read, or has changed.
    """
    if not video.is_unchanged:
        raise changed(video)
    try:
        return await asyncio.to_thread(work)
    except VideoError as error:
        if isinstance(error, ChangedVideoError) or not video.is_unchanged:
            raise changed(video) from error
        raise RequestError(without_place(error.problem, video), without_place(error.remedy, video), 422) from error


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
        raise changed(video) from error
    return HeldStream(_blocks(opened, first, last + 1 - first), held.pop_all(), status, headers)


async def _blocks(file: BinaryIO, start: int, left: int) -> AsyncGenerator[bytes, None]:
    await asyncio.to_thread(file.seek, start)
    while left and (block := await asyncio.to_thread(file.read, min(left, _BLOCK))):
        left -= len(block)
        yield block


def _range(asked: str, size: int) -> tuple[int, int] | None:
    """First and last byte of a ``Range`` header; None for none, and for what is no single range."""
    unit, _, spans = asked.partition("=")
    start, dash, end = spans.strip().partition("-")
    if unit.strip().lower() != "bytes" or not dash or not all(map(_DIGITS.fullmatch, (start, end))):
        return None
    if start:
        return int(start), min(int(end), size - 1) if end else size - 1
    return (max(size - int(end), 0), size - 1) if end else None


def _told(key: str, video: NamedVideo) -> dict[str, Any]:
    size = int(video.version.split("-")[1], 16)
    return {"id": key, "name": video.name, "bytes": size, "version": video.version}


def changed(video: NamedVideo) -> RequestError:
    """For a video that is not the one that was opened."""
    return RequestError(f"{video.name} has changed since it was opened", "choose it again", 409)


def without_place(text: str, video: NamedVideo) -> str:
    """A message without the folders that the video is in."""
    return text.replace(str(video.path), video.name)
