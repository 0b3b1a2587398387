"""FFmpeg through PyAV for containers that do not store when pictures are shown: decode from the start, and count."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from pipeline.errors import TruncatedVideoError, UnsupportedVideoError
from pipeline.video.backends.pyav import as_shown
from pipeline.video.failures import convert
from pipeline.video.packets import open_container
from pipeline.video.scan import Scan


class CountingDecoder:
    """Reads the file from its start at each call: slow for few pictures, right for all."""

    name = "pyav"

    def __init__(self, scan: Scan, threads: int) -> None:
        """``threads`` for FFmpeg to decode with; 0 for one a core."""
        self._scan = scan
        self._threads = threads

    def close(self) -> None:
        """Nothing stays open between two calls."""

    def pictures(self, indices: Sequence[int]) -> Iterator[npt.NDArray[np.uint8]]:
        """As every decoder; one picture is in memory at a time."""
        import av

        wanted = iter(indices)
        index = next(wanted, None)
        with open_container(self._scan.file) as container:
            stream = container.streams[self._scan.stream_index]
            stream.thread_type = "AUTO"
            stream.codec_context.thread_count = self._threads
            try:
                for count, frame in enumerate(container.decode(stream)):
                    if index is None:
                        return
                    if frame.is_corrupt:
                        raise self._damage(index)
                    if count == index:
                        yield as_shown(frame, self._scan)
                        index = next(wanted, None)
            except av.FFmpegError as error:
                raise self._damage(index) from error
        if index is not None:
            raise UnsupportedVideoError(
                f"{self._scan.path}: the decoder gives no frame {index}, though the file lists one",
                convert(self._scan.path),
            )

    def _damage(self, index: int | None) -> TruncatedVideoError:
        return TruncatedVideoError(
            f"{self._scan.path} is damaged: frame {index} cannot be decoded",
            "fetch or copy the file again, or ask only for seconds before the damage",
        )
