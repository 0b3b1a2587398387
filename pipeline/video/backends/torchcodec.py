"""torchcodec, an optional backend."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import MissingExtraError, TruncatedVideoError, UnsupportedVideoError
from pipeline.video.orientation import UPRIGHT
from pipeline.video.scan import Scan


class TorchCodecDecoder:
    """One open torchcodec decoder, reading a picture at a time."""

    name = "torchcodec"

    def __init__(self, scan: Scan, threads: int) -> None:
        """``threads`` for FFmpeg to decode with; 0 for one a core."""
        try:
            from torchcodec.decoders import VideoDecoder
        except (ImportError, RuntimeError, OSError) as error:  # it looks for FFmpeg's libraries when imported
            raise MissingExtraError(
                f"torchcodec cannot be used ({str(error).splitlines()[0]})",
                "pip install 'gens-videoqa[torchcodec]' and FFmpeg's shared libraries, or set reader.backend=auto",
            ) from error
        if scan.orientation != UPRIGHT:
            raise UnsupportedVideoError(
                f"{scan.path} is to be shown turned, which versions of torchcodec do not agree on",
                "set reader.backend=auto or reader.backend=pyav",
            )
        self._scan = scan
        try:
            self._decoder: Any = VideoDecoder(
                str(scan.path),
                stream_index=scan.stream_index,
                dimension_order="NHWC",
                num_ffmpeg_threads=threads,
                seek_mode="exact",
            )
        except (RuntimeError, ValueError) as error:
            raise UnsupportedVideoError(
                f"torchcodec cannot open {scan.path} ({str(error).splitlines()[0]})",
                "set reader.backend=auto or reader.backend=pyav",
            ) from error
        if len(self._decoder) != scan.frame_count:
            raise UnsupportedVideoError(
                f"torchcodec counts {len(self._decoder)} frames in {scan.path}, its packets give {scan.frame_count}",
                "set reader.backend=auto or reader.backend=pyav",
            )

    def close(self) -> None:
        """Free the decoder."""
        self._decoder = None

    def pictures(self, indices: Sequence[int]) -> Iterator[npt.NDArray[np.uint8]]:
        """As every decoder; one picture is in memory at a time."""
        for index in indices:
            try:
                pixels: npt.NDArray[np.uint8] = self._decoder[index].numpy()
            except (RuntimeError, IndexError) as error:
                raise TruncatedVideoError(
                    f"{self._scan.path}: frame {index} cannot be decoded ({str(error).splitlines()[0]})",
                    "fetch or copy the file again, or ask only for seconds before the damage",
                ) from error
            yield pixels
