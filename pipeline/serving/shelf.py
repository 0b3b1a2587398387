"""The videos that the page may show and ask about: those that were listed, and those that were sent to it."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pipeline.errors import RequestError
from pipeline.identity import digest
from pipeline.serving.scratch import Kept, Receiving, suffix_of
from pipeline.serving.videos import NamedVideo, Videos

_KEEPS_SECONDS = 3600.0


@dataclass
class _Sent:
    """An upload."""

    kept: Kept
    video: NamedVideo
    used: float = field(default_factory=time.monotonic)
    """When it was used last."""


class Shelf:
    """Names videos by keys that tell nothing, so that the page holds no paths.

    Whoever knows the key of an upload may use it. An upload that nobody has used for an hour is deleted.

    Args:
        videos: finds them.
        clock: seconds that only ever increase.
    """

    keeps_seconds = _KEEPS_SECONDS

    def __init__(self, videos: Videos, clock: Callable[[], float] = time.monotonic) -> None:
        self._videos = videos
        self._clock = clock
        self._listed: dict[str, NamedVideo] = {}
        self._sent: dict[str, _Sent] = {}
        self._lock = threading.Lock()

    def listed(self) -> list[tuple[str, NamedVideo]]:
        """Keys and videos of the declared folders as they are now."""
        found = [(digest({"path": str(video.path), "name": video.name})[:16], video) for video in self._videos.listed()]
        with self._lock:
            self._listed = dict(found)
        return found

    @contextmanager
    def using(self, key: str) -> Iterator[NamedVideo]:
        """The video of a key, which is not deleted within this context.

        Raises:
            RequestError: there is none any more.
        """
        with self._lock:
            sent, listed = self._sent.get(key), self._listed.get(key)
            if sent is not None:
                sent.used = self._clock()
                mine = sent.kept.shared()
        if sent is not None:
            try:
                yield sent.video
            finally:
                mine.release()
                sent.used = self._clock()
        elif listed is not None:
            now = self._videos.local(str(listed.path))  # links may lead elsewhere by now
            yield NamedVideo(now.path, listed.name, now.version)
        else:
            raise RequestError("this video is not there any more", "choose it again, or send it again", 404)

    def receiving(self, announced: int | None, name: str) -> Receiving:
        """Begin to take an upload; as :meth:`pipeline.serving.scratch.Scratch.receiving`."""
        self.forget_unused()
        return self._videos.scratch.receiving(announced, suffix_of(name))

    def keep(self, receiving: Receiving, name: str) -> tuple[str, NamedVideo]:
        """Key and video of an upload that is whole.

        Raises:
            RequestError: it is no video.
        """
        kept = receiving.kept()
        video = self._videos.of_kept(kept, name)
        key = secrets.token_urlsafe(16)
        with self._lock:
            self._sent[key] = _Sent(kept, video, self._clock())
        return key, video

    def forget(self, key: str) -> None:
        """Delete an upload, once nobody uses it."""
        with self._lock:
            sent = self._sent.pop(key, None)
        if sent is not None:
            sent.kept.release()

    def forget_unused(self) -> None:
        """Delete the uploads that nobody has used for long."""
        with self._lock:
            old = [key for key, sent in self._sent.items() if self._clock() - sent.used > self.keeps_seconds]
        for key in old:
            self.forget(key)
