"""An open video: seconds in, frames out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from types import TracebackType

import numpy as np
import numpy.typing as npt

from pipeline.domain import Frame, Video
from pipeline.errors import PipelineError, UnsupportedVideoError, VideoError
from pipeline.video.backends import Decoder
from pipeline.video.failures import reading
from pipeline.video.timeline import Timeline

_log = logging.getLogger(__name__)


class OpenVideo:
    """The frame source (:class:`pipeline.domain.FrameSource`) of one file or folder. Use as a context manager.

    Decoders come in order of preference. The next one is opened where one cannot give a picture; it goes on from that
    very picture, so no frame is left out or given twice.
    """

    def __init__(self, video: Video, timeline: Timeline, decoders: Sequence[Callable[[], Decoder]]) -> None:
        self._video = video
        self._timeline = timeline
        self._others = list(decoders)
        self._decoder = self._next_decoder()
        self._turn = 0  # which stream the decoder is working for

    @property
    def video(self) -> Video:
        """What was found out at opening."""
        return self._video

    @property
    def backend(self) -> str:
        """Name of the backend in use."""
        return self._decoder.name

    def __enter__(self) -> OpenVideo:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the decoder."""
        self._decoder.close()

    def frames_at(self, seconds: Sequence[float]) -> Iterator[Frame]:
        """Yield the frame on screen at each of the ascending ``seconds``, with its own presentation time.

        A second asked for twice gives its frame twice. Memory is bounded by one batch of the decoder, whatever the
        number of seconds. Beginning another stream ends this one.

        Raises:
            ValueError: the seconds do not ascend.
            TruncatedVideoError: the file is cut or damaged there; frames before it have been given.
            VideoError: a second lies behind the end of the video.
        """
        if any(later < earlier for earlier, later in pairwise(seconds)):
            raise ValueError("seconds must ascend")
        indices: list[int] = []
        failure: VideoError | None = None
        for second in seconds:
            try:
                with reading(self._video.path):
                    indices.append(self._timeline.index_at(second))
            except VideoError as error:
                failure = error
                break
        return self._stream(indices, failure)

    def _stream(self, indices: Sequence[int], failure: VideoError | None) -> Iterator[Frame]:
        self._turn += 1
        turn = self._turn
        unique = sorted(set(indices))
        pictures = self._pictures(unique)
        at = 0
        for index in unique:
            if turn != self._turn:
                raise RuntimeError("another stream of frames was begun on this video: open it a second time")
            with reading(self._video.path):
                pixels = next(pictures, None)
                if pixels is None:
                    raise UnsupportedVideoError(
                        f"{self._video.path}: the {self.backend} decoder gives no frame {index}",
                        "set reader.backend=pyav",
                    )
            frame = Frame(time=float(self._timeline.times[index]), index=index, pixels=pixels)
            while at < len(indices) and indices[at] == index:
                yield frame
                at += 1
        if failure is not None:
            raise failure

    def _pictures(self, unique: Sequence[int]) -> Iterator[npt.NDArray[np.uint8]]:
        given = 0
        while True:
            try:
                for picture in self._decoder.pictures(unique[given:]):
                    yield picture
                    given += 1
                return
            except Exception as error:
                if not self._may_try_another(error):
                    raise
                self._decoder.close()
                self._decoder = self._next_decoder()

    def _next_decoder(self) -> Decoder:
        while True:
            decoder = self._others.pop(0)
            try:
                return decoder()
            except Exception as error:
                if not self._may_try_another(error):
                    raise

    def _may_try_another(self, error: Exception) -> bool:
        """Whether this is a failure of the backend, which may raise anything, and there is another one."""
        if not self._others or (isinstance(error, PipelineError) and not isinstance(error, UnsupportedVideoError)):
            return False
        told = error.problem if isinstance(error, PipelineError) else f"{self._video.path}: {error}"
        _log.warning("%s; trying another backend", told)
        return True
