"""An open video: seconds in, frames out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from types import TracebackType

import numpy as np
import numpy.typing as npt

from pipeline.domain import Frame, Video
from pipeline.errors import UnsupportedVideoError, VideoError
from pipeline.video.backends import Decoder
from pipeline.video.failures import convert, reading
from pipeline.video.timeline import Timeline


class OpenVideo:
    """The frame source (:class:`pipeline.domain.FrameSource`) of one file or folder. Use as a context manager."""

    def __init__(self, video: Video, timeline: Timeline, decoder: Decoder, has_one_size: bool) -> None:
        """Take over the decoder. ``has_one_size`` says that all pictures have the size of ``video``, as in a file."""
        self._video = video
        self._timeline = timeline
        self._decoder = decoder
        self._has_one_size = has_one_size
        self._turn = 0  # which stream the decoder is working for

    @property
    def video(self) -> Video:
        """The facts from opening."""
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

        A repeated second yields its frame again. Memory is bounded by one batch of the decoder, whatever the
        number of seconds. Starting another stream ends this one.

        Raises:
            ValueError: the seconds do not ascend.
            TruncatedVideoError: the file is cut or damaged there; frames before it have been yielded.
            VideoError: a second is after the end of the video.
        """
        indices, failure = resolved(self._video, self._timeline, seconds)
        return self._stream(indices, failure)

    def frames_of(self, indices: Sequence[int]) -> Iterator[Frame]:
        """Yield native frames by their ascending indices, as :meth:`frames_at` does; no damage is looked up before."""
        return self._stream(indices, None)

    def indices_at(self, seconds: Sequence[float]) -> list[int]:
        """As :class:`pipeline.domain.FrameSource` has it."""
        return [self._timeline.nearest_index(second) for second in seconds]

    def packets_to(self, indices: Sequence[int]) -> int:
        """Packets from where decoding can start to native frames, in any order; of images, the images."""
        return self._decoder.packets_to(sorted(set(indices)))

    def times_of(self, indices: Sequence[int]) -> list[float]:
        """As :class:`pipeline.domain.FrameSource` has it."""
        times, last = self._timeline.times, len(self._timeline.times) - 1
        return [float(times[min(index, last)]) + max(index - last, 0) / self._video.fps for index in indices]

    def _stream(self, indices: Sequence[int], failure: VideoError | None) -> Iterator[Frame]:
        self._turn += 1
        turn = self._turn
        unique = sorted(set(indices))
        with reading(self._video.path):
            pictures = iter(self._decoder.pictures(unique))
        at = 0
        for index in unique:
            if turn != self._turn:
                raise RuntimeError("another stream of frames was begun on this video: open it a second time")
            with reading(self._video.path):
                before = self._decoder.walked
                pixels = self._checked(next(pictures, None), index)
                # What is still decoded after the last picture was on the way to it: the codec gives frames in order.
                if index == unique[-1] and next(pictures, None) is not None:
                    raise self._not_a_picture(f"more than the {len(unique)} frames asked for")
                after = self._decoder.walked
            walked = None if before is None or after is None else after - before
            frame = Frame(float(self._timeline.times[index]), index, pixels, walked=walked)
            while at < len(indices) and indices[at] == index:
                yield frame
                at += 1
        if failure is not None:
            raise failure

    def _checked(self, pixels: npt.NDArray[np.uint8] | None, index: int) -> npt.NDArray[np.uint8]:
        """The picture of a frame, if it is one: no backend is trusted with the shape of what it gives."""
        if pixels is None:
            raise self._not_a_picture(f"nothing for frame {index}")
        is_picture = pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.size and pixels.dtype == np.uint8
        if not is_picture or (self._has_one_size and pixels.shape[:2] != (self._video.height, self._video.width)):
            given = f"{list(pixels.shape)} {pixels.dtype} for frame {index}"
            raise self._not_a_picture(f"{given}, not [{self._video.height}, {self._video.width}, 3] uint8")
        return pixels

    def _not_a_picture(self, given: str) -> UnsupportedVideoError:
        remedy = convert(self._video.path) if self.backend == "pyav" else "set reader.backend=auto"
        return UnsupportedVideoError(f"{self._video.path}: the {self.backend} decoder gives {given}", remedy)


def resolved(video: Video, timeline: Timeline, seconds: Sequence[float]) -> tuple[list[int], VideoError | None]:
    """Native indices of the frames on screen at the ascending ``seconds``, up to the first that is not there, and why.

    Raises:
        ValueError: the seconds do not ascend.
    """
    if any(later < earlier for earlier, later in pairwise(seconds)):
        raise ValueError("seconds must ascend")
    indices: list[int] = []
    for second in seconds:
        try:
            with reading(video.path):
                indices.append(timeline.index_at(second))
        except VideoError as error:
            return indices, error
    return indices, None
