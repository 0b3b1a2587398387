"""Reads videos in worker processes: a file that crashes or hangs its reader costs that file and nothing else.

A window's worth of candidates is the unit of work, so that all cores decode one long video. Frames are those that one
decoder gives from beginning to end, bit for bit.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.domain import Frame, PreparedPicture, PreparedPictures, Video
from pipeline.errors import VideoError
from pipeline.execution.candidates import CandidateStore
from pipeline.execution.crashes import Crashes
from pipeline.execution.jobs import Decode, Look, Looked, LookedFolder, LookFolder
from pipeline.execution.parcels import Parcel
from pipeline.execution.prefetch import Prefetch
from pipeline.execution.processes import Crash, Pool, Task
from pipeline.execution.streams import Unit, UnitStream
from pipeline.execution.worker import NotHereError
from pipeline.identity import Place
from pipeline.video.backends import Decoder
from pipeline.video.backends.images import ImageDecoder, ImageFolder, images_fingerprint
from pipeline.video.failures import reading
from pipeline.video.fingerprint import FileKey, file_fingerprint, folder_key
from pipeline.video.place import absolute, regular_file
from pipeline.video.preparing import as_decoded
from pipeline.video.probing import Probe
from pipeline.video.reader import Reader, Wanted
from pipeline.video.scan import Scan
from pipeline.video.source import OpenVideo, resolved
from pipeline.video.timeline import Timeline

UNIT = 64
"""The most candidates of a task, if decoding can start again after them."""
_SMALLEST = 8
_UNIT_SECONDS = 1.5
"""How long a task should take. The first window of a video is complete once all workers have done a few."""
_PART_BYTES = 64 << 20
_BYTES_A_SECOND = 150e6
"""The rate at which a file is hashed and its packets are parsed."""
_DECODED_A_SECOND = 2e6
"""Bytes of a file that one thread decodes: h264 at 1280x720 and 1.2 Mbit/s."""
_PIXELS_A_SECOND = 300e6
"""The rate at which one thread decodes. Measured for h264 at 1280x720: 350 million (Xeon, PyAV 18)."""
_IMAGE_PIXELS_A_SECOND = 30e6
"""Likewise of PNG images."""
_REORDERED = 16
"""Packets by which codecs put pictures out of order."""
_SCANS = 4
_AHEAD = 4
"""Videos that are probed before they are asked for."""


@dataclass(frozen=True)
class WorkerReader(Reader):
    """A reader whose files and folders of images are scanned, hashed and decoded in other processes."""

    own: Place[Reader]
    """Reads in a worker, with one thread."""
    pool: Place[Pool]
    crashes: Place[Crashes]
    candidates: Place[CandidateStore | None]
    """Of prepared pictures; None decodes them each time."""
    _scans: OrderedDict[FileKey, Looked] = field(default_factory=OrderedDict, init=False, repr=False)
    _folders: OrderedDict[FileKey, LookedFolder] = field(default_factory=OrderedDict, init=False, repr=False)
    _expected: deque[str] = field(default_factory=deque, init=False, repr=False)
    _begun: dict[FileKey, UnitStream] = field(default_factory=dict, init=False, repr=False)
    prefetched: Place[Prefetch] = field(default_factory=Prefetch, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def check(self) -> None:
        """As :meth:`Reader.check`."""
        self.own.check()

    def expect(self, paths: Sequence[str]) -> None:
        """As :meth:`Reader.expect`: the next few are probed before they are asked for."""
        with self._lock:
            self._expected.clear()
            self._expected.extend(paths)
            self._look_ahead()

    def prefetch(self, path: str | None, wanted: Wanted | None) -> None:
        """As :meth:`Reader.prefetch`: decoding begins while the file is hashed, where that has not been done before."""
        self.prefetched.expect(None if path is None else absolute(path), wanted)

    def look(self, path: str | Path) -> Probe:
        """As :meth:`Reader.look`; in a worker unless it is stored."""
        path = absolute(path)
        known = self.own.known(path)
        if known is not None:
            return known
        return self._looked_at_folder(path).probe if os.path.isdir(path) else self._looked(path).probe

    def times(self, path: str | Path) -> npt.NDArray[np.float64]:
        """As :meth:`Reader.times`."""
        path = absolute(path)
        return self._looked_at_folder(path).folder.timeline.times if os.path.isdir(path) else super().times(path)

    def scan(self, path: Path) -> Scan:
        """As :meth:`Reader.scan`, likewise."""
        stored = None if self._key(path) in self._scans else self.own.known_scan(path)
        return self._looked(path).scan if stored is None else stored

    def _open(self, path: Path) -> OpenVideo:
        if os.path.isdir(path):
            found = self._looked_at_folder(path)
            units: Units = FolderUnits(found.probe.video, found.folder, self, self._folder_key(path))
            return WorkerVideo(found.probe.video, found.folder.timeline, units, self)
        video = self.probe(path)
        self.crashes.check(video.fingerprint, path)
        scan = self.scan(path)
        return WorkerVideo(video, scan.timeline, FileUnits(video, scan, self, self._key(path)), self)

    def _looked_at_folder(self, path: Path) -> LookedFolder:
        key = self._folder_key(path)
        with self._lock:
            found = self._folders.get(key)
        if found is None:
            unit = Unit(1, threading.Condition())
            seconds = key[1] / _BYTES_A_SECOND
            unit.task = Task(LookFolder(str(path), self.own, self._folder_crashes), unit.on_part, unit.on_end, seconds)
            stream = UnitStream(self.pool, [unit], None, lambda failure: self.failure(path, failure))
            found = next(stream)  # type: ignore[assignment]
            assert found is not None
            with self._lock:
                self._folders[key] = found
                while len(self._folders) > _SCANS:
                    self._folders.popitem(last=False)
        return found

    def _looked(self, path: Path) -> Looked:
        key = self._key(path)
        with self._lock:
            if key in self._scans:
                self._scans.move_to_end(key)
                return self._scans[key]
            stream = self._begun.pop(key, None) or self._looking(path, key)
            self._look_ahead()
        scan: Scan = next(stream)  # type: ignore[assignment]
        self.prefetched.begin(
            path,
            key,
            scan,
            lambda video, indices, failure, prepare: PreparedStream(
                FileUnits(video, scan, self, key), indices, failure, prepare
            ),
        )
        probe: Probe = next(stream)  # type: ignore[assignment]
        looked = Looked(probe, scan)
        with self._lock:
            self._scans[key] = looked
            while len(self._scans) > _SCANS:
                self._scans.popitem(last=False)
        return looked

    def _look_ahead(self) -> None:
        while self._expected and len(self._begun) < _AHEAD:
            with suppress(VideoError):  # raised again when the video is asked for
                path = absolute(self._expected.popleft())
                if not os.path.isdir(path) and self.own.known(path) is None:
                    key = self._key(path)
                    if key not in self._scans and key not in self._begun:
                        self._begun[key] = self._looking(path, key)

    def _looking(self, path: Path, key: FileKey) -> UnitStream:
        unit = Unit(2, threading.Condition())
        seconds = key[1] / _BYTES_A_SECOND
        at_once = max(1, self.pool.limits.workers // (1 + len(self._begun)))
        job = Look(str(path), self.own, self.crashes, at_once)
        unit.task = Task(job, unit.on_part, unit.on_end, seconds, leads_to=key[1] / _DECODED_A_SECOND)
        return UnitStream(self.pool, [unit], None, lambda failure: self.failure(path, failure))

    def failure(self, path: Path | str, failure: Crash | BaseException) -> BaseException:
        """The error for what went wrong in a worker. A crash that would happen again is recorded."""
        if not isinstance(failure, Crash):
            return failure
        crashes, fingerprint = self.crashes, file_fingerprint
        if os.path.isdir(path):
            crashes, fingerprint = self._folder_crashes, images_fingerprint
            with self._lock:
                self._folders.clear()  # looked at again, and refused, where it is opened again
        if failure.is_final:
            with suppress(OSError, VideoError):  # it is gone
                crashes.note(fingerprint(Path(path)), failure.reason, failure.within)
        return crashes.error(path, failure.reason)

    @property
    def _folder_crashes(self) -> Crashes:
        return replace(self.crashes, backend=ImageDecoder.name)

    @staticmethod
    def _folder_key(path: Path) -> FileKey:
        with reading(path):
            return folder_key(path)

    @staticmethod
    def _key(path: Path) -> FileKey:
        with reading(path):
            found = regular_file(path).stat()
        return str(path), found.st_size, found.st_mtime_ns


def in_workers(reader: Reader, pool: Pool, crashes: Crashes, candidates: CandidateStore | None = None) -> WorkerReader:
    """The reader, with its work done by the processes of a pool."""
    own = replace(reader, threads=1)
    return WorkerReader(reader.name, reader.backend, reader.threads, reader.image_fps, own, pool, crashes, candidates)


class WorkerVideo(OpenVideo):
    """A file or a folder that is decoded in worker processes.

    Args:
        video: what is known of it.
        timeline: of its frames.
        units: that decode it.
        reader: that opened it.
    """

    def __init__(self, video: Video, timeline: Timeline, units: Units, reader: WorkerReader) -> None:
        self._units = units
        self._store = reader.candidates
        self._prefetched = reader.prefetched
        super().__init__(video, timeline, units, has_one_size=isinstance(units, FileUnits))

    def prepared_at(self, seconds: Sequence[float], prepare: Callable[[Frame], Any]) -> PreparedPictures:
        """As :class:`pipeline.domain.PreparesPictures` has it."""
        indices, failure = resolved(self._video, self._timeline, seconds)
        indices = sorted(set(indices))

        def decoded(some: Sequence[int]) -> PreparedPictures:
            begun = self._prefetched.take(self._units.key, some, prepare)
            return begun or PreparedStream(self._units, some, failure, prepare)

        store = self._store
        if store is None or failure is not None or not indices or prepare is as_decoded:
            return decoded(indices)
        key = store.key(self._video.fingerprint, self._units.name, indices, prepare)
        if key is None:
            return decoded(indices)
        return store.find(key, indices, decoded) or store.keeping(decoded(indices), key, len(indices))


class Units(Decoder, ABC):
    """Decodes one file or folder in tasks of a pool."""

    walked: int | None = 0

    def __init__(self, video: Video, reader: WorkerReader, key: FileKey) -> None:
        self._video = video
        self._reader = reader
        self.key = key
        self._last: UnitStream | None = None

    @abstractmethod
    def _facts(self) -> Any:
        """What workers need to open it."""

    @abstractmethod
    def _pieces(self, indices: Sequence[int], least: Callable[[int], int]) -> Iterator[Sequence[int]]:
        """Ascending native indices, cut as by :func:`pieces`."""

    @abstractmethod
    def _seconds(self, indices: Sequence[int]) -> float:
        """Seconds that one thread takes for frames."""

    def close(self) -> None:
        """End the stream of pictures that was begun last."""
        if self._last is not None:
            self._last.close()
        self._last = None
        self.let_go()

    def let_go(self) -> None:
        """Close the file in memory that workers have the scan from. Another stream opens another one."""
        vars(self).pop("_parcel", None)

    def pictures(self, indices: Sequence[int]) -> Iterator[npt.NDArray[np.uint8]]:
        """As :class:`Decoder`."""
        self.close()
        self._last = self.stream(indices, None)
        return self._counted(self._last)

    def _counted(self, stream: UnitStream) -> Iterator[npt.NDArray[np.uint8]]:
        for _, _, pixels, walked in stream:
            self.walked = None if self.walked is None or walked is None else self.walked + walked
            yield pixels

    def stream(
        self, indices: Sequence[int], prepare: Callable[[Frame], Any] | None, last_failure: BaseException | None = None
    ) -> UnitStream:
        """Decode the frames of ascending native indices, from now on.

        Raises:
            pickle.PicklingError, TypeError, AttributeError: ``prepare`` cannot be pickled.
        """
        prepare = None if prepare is as_decoded else prepare
        changed = threading.Condition()
        raw = self._video.width * self._video.height * 3
        at_once = max(1, _PART_BYTES // raw)
        needs, key = {self._scan_key: self._parcel}, None
        if prepare is not None:
            key = hashlib.blake2b(pickle.dumps(prepare, 5), digest_size=16).hexdigest()
            needs[key] = Parcel(prepare)
            at_once = UNIT
        units = []
        usual, few_each = self._together(indices), 2 * self._reader.pool.limits.workers * _SMALLEST
        # The first are small, so that a model has something to do the sooner, and the last, so that no worker is left
        # with a large one.
        often = range(few_each, len(indices) - few_each)
        for few in self._pieces(indices, lambda at: usual if at in often else min(usual, _SMALLEST)):
            unit = Unit(len(few), changed)
            job = Decode(self._video.path, self._reader.own, self._video, tuple(few), self._scan_key, key, at_once)
            unit.task = Task(
                job, unit.on_part, unit.on_end, self._seconds(few), min(len(few), at_once) * raw, needs=needs
            )
            units.append(unit)
        return UnitStream(
            self._reader.pool, units, last_failure, lambda failure: self._reader.failure(self._video.path, failure)
        )

    @cached_property
    def _parcel(self) -> Parcel:
        return Parcel(self._facts())

    @cached_property
    def _scan_key(self) -> str:
        return f"scan of {self.key}"

    def _together(self, indices: Sequence[int]) -> int:
        """How many frames make a task, by the time that they take and the number of workers."""
        share = -(-len(indices) // self._reader.pool.limits.workers)
        enough = int(_UNIT_SECONDS * len(indices) / max(self._seconds(indices), 1e-6))
        return max(min(UNIT, share, enough), min(UNIT, _SMALLEST))


class FileUnits(Units):
    """Decodes a file."""

    def __init__(self, video: Video, scan: Scan, reader: WorkerReader, key: FileKey) -> None:
        super().__init__(video, reader, key)
        self._scan = scan

    @property
    def name(self) -> str:
        """The backend's name."""
        return "pyav" if self._reader.backend == "auto" else self._reader.backend

    def _facts(self) -> Scan:
        """Without what decoders do not need."""
        packets = replace(self._scan.packets, others={}, places=np.zeros(0, np.int64))
        return replace(self._scan, packets=packets)

    def _pieces(self, indices: Sequence[int], least: Callable[[int], int]) -> Iterator[Sequence[int]]:
        return pieces(self._scan, indices, least)

    def _seconds(self, indices: Sequence[int]) -> float:
        return self.packets_to(indices) * self._scan.width * self._scan.height / _PIXELS_A_SECOND

    def packets_to(self, indices: Sequence[int]) -> int:
        """As :class:`Decoder`."""
        return self._scan.packets_to(indices)


class FolderUnits(Units):
    """Decodes a folder of images."""

    name = ImageDecoder.name

    def __init__(self, video: Video, folder: ImageFolder, reader: WorkerReader, key: FileKey) -> None:
        super().__init__(video, reader, key)
        self._folder = folder

    def _facts(self) -> ImageFolder:
        return self._folder

    def _pieces(self, indices: Sequence[int], least: Callable[[int], int]) -> Iterator[Sequence[int]]:
        start = 0
        while start < len(indices):
            end = start + max(1, least(start))
            yield indices[start:end]
            start = end

    def _seconds(self, indices: Sequence[int]) -> float:
        return len(indices) * self._video.width * self._video.height / _IMAGE_PIXELS_A_SECOND

    def packets_to(self, indices: Sequence[int]) -> int:
        """As :class:`ImageDecoder`."""
        return len(indices)


class PreparedStream:
    """Frames that are decoded and prepared in workers; prepared here where ``prepare`` cannot be sent to one."""

    def __init__(
        self,
        units: Units,
        indices: Sequence[int],
        last_failure: Exception | None,
        prepare: Callable[[Frame], Any],
    ) -> None:
        self._units = units
        self._indices = indices
        self._last_failure = last_failure
        self._prepare = prepare
        self._is_here = False
        try:
            self._stream = units.stream(indices, prepare, last_failure)
        except (pickle.PicklingError, TypeError, AttributeError):
            self._prepare_here()

    def __iter__(self) -> Iterator[PreparedPicture]:
        return self

    def __next__(self) -> PreparedPicture:
        try:
            time, index, content, walked = next(self._stream)
        except StopIteration:
            self._units.let_go()
            raise
        except NotHereError:
            self._prepare_here()
            return next(self)
        if self._is_here:
            content = self._prepare(Frame(time, index, content))
        return PreparedPicture(time, index, content, walked)

    def ready(self, count: int) -> bool:
        """As :class:`PreparedPictures` has it."""
        return self._stream.ready(count)

    def close(self) -> None:
        """Decode no more."""
        self._stream.close()
        self._units.let_go()

    def _prepare_here(self) -> None:
        self._is_here = True
        given = self._stream.given if "_stream" in vars(self) else 0
        self._stream = self._units.stream(self._indices[given:], None, self._last_failure)


def pieces(scan: Scan, indices: Sequence[int], least: Callable[[int], int]) -> Iterator[Sequence[int]]:
    """Cut ascending native indices into units that can be decoded apart, and hardly a packet twice.

    A unit that begins at a place has ``least(place)`` frames or more: it ends before the next frame whose last entry
    comes after the frames of the unit, or just before the last of them, as in open groups of pictures. Where there is
    none, or where the file has to be counted from its start, it goes on to the end.
    """
    start, begun, last = 0, -1, -1
    for at, index in enumerate(indices):
        entry = scan.entry(index)
        if at - start >= least(start) and not scan.is_counted and entry > begun and entry + _REORDERED > last:
            yield indices[start:at]
            start = at
        begun = entry if at == start else begun
        last = max(last, int(scan.positions[index]))
    if indices:
        yield indices[start:]
