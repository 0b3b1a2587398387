"""Decodes pictures of the first video while its file is still being hashed.

A file is hashed for as long as its first window takes to decode. What a sampler will ask for does not depend on the
hash, so workers begin with it meanwhile. Rows and caches are written only once the hash is known.
"""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.domain import Frame, PreparedPictures, Video
from pipeline.video.fingerprint import FileKey
from pipeline.video.probing import file_video
from pipeline.video.reader import Wanted
from pipeline.video.scan import Scan
from pipeline.video.source import resolved


@dataclass(frozen=True)
class _Asked:
    """What tells one stream of pictures from another."""

    key: FileKey
    indices: tuple[int, ...]
    prepare: bytes


class Prefetch:
    """Holds at most one stream of pictures that nobody has asked for yet."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._path: Path | None = None
        self._wanted: Wanted | None = None
        self._begun: tuple[_Asked, PreparedPictures] | None = None

    def expect(self, path: Path | None, wanted: Wanted | None) -> None:
        """Note which video comes first, and what will be asked of it; None for no video. Drops an earlier stream."""
        with self._lock:
            self._path, self._wanted = path, wanted
            before, self._begun = self._begun, None
        if before is not None:
            before[1].close()

    def begin(
        self,
        path: Path,
        key: FileKey,
        scan: Scan,
        decoded: Callable[[Video, Sequence[int], Exception | None, Callable[[Frame], Any]], PreparedPictures],
    ) -> None:
        """Begin with a video that was scanned and is being hashed, if it is the one that is expected."""
        with self._lock:
            wanted, is_it = self._wanted, path == self._path
            if not is_it or wanted is None:
                return
            self._path = self._wanted = None
        video = file_video(scan, "")
        try:
            seconds, prepare = wanted(video)
            indices, failure = resolved(video, scan.timeline, seconds)
            asked = _Asked(key, tuple(sorted(set(indices))), pickle.dumps(prepare, 5))
        except Exception:  # raised again when the pictures are asked for
            return
        stream = decoded(video, asked.indices, failure, prepare)
        with self._lock:
            self._begun = asked, stream

    def take(self, key: FileKey, indices: Sequence[int], prepare: Callable[[Frame], Any]) -> PreparedPictures | None:
        """The stream that was begun, if it is the one that is asked for. It is dropped otherwise."""
        with self._lock:
            begun, self._begun = self._begun, None
        if begun is None:
            return None
        asked, stream = begun
        if asked == _Asked(key, tuple(indices), pickle.dumps(prepare, 5)):
            return stream
        stream.close()
        return None
