"""Decodes with torchcodec, an optional backend."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import MissingExtraError, TruncatedVideoError, UnsupportedVideoError
from pipeline.video.orientation import UPRIGHT
from pipeline.video.scan import Scan

# Seen failing elsewhere: transport and program streams, AVI with B-frames, edit lists.
_CONTAINERS = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "flv"})
_REMEDY = "set reader.backend=auto"


def torchcodec_objection(scan: Scan) -> str | None:
    """Why torchcodec 0.13 must not read this file; None if it is proved right."""
    objections = {
        f"its pictures are only proved right in MP4, Matroska and FLV, this is {scan.container}": (
            scan.container not in _CONTAINERS
        ),
        "the video is to be shown turned, which its versions do not agree on": scan.orientation != UPRIGHT,
        "an edit list leaves out some of its pictures": not scan.packets.is_shown.all(),
        "its container marks pictures as key frames that are none": not scan.packets.claims_are_true,
        "its clock starts again in the middle": scan.packets.is_joined,
        "the file is cut short": scan.timeline.is_truncated,
    }
    return next((reason for reason, holds in objections.items() if holds), None)


class TorchCodecDecoder:
    """One open torchcodec decoder, reading a picture at a time."""

    name = "torchcodec"
    walked = None

    def __init__(self, scan: Scan, threads: int) -> None:
        """``threads`` is FFmpeg's number of threads; 0 for one per core."""
        try:
            from torchcodec.decoders import VideoDecoder
        except (ImportError, RuntimeError, OSError) as error:  # it looks for FFmpeg's libraries when imported
            raise MissingExtraError(
                f"torchcodec cannot be used ({str(error).splitlines()[0]})",
                "pip install 'gens-videoqa[torchcodec]' and FFmpeg's shared libraries, or set reader.backend=auto",
            ) from error
        objection = torchcodec_objection(scan)
        if objection:
            raise UnsupportedVideoError(f"torchcodec cannot be trusted with {scan.path}: {objection}", _REMEDY)
        self._scan = scan
        try:
            self._decoder: Any = VideoDecoder(
                str(scan.file),
                stream_index=scan.stream_index,
                dimension_order="NHWC",
                num_ffmpeg_threads=threads,
                seek_mode="exact",
            )
        except (RuntimeError, ValueError) as error:
            raise UnsupportedVideoError(
                f"torchcodec cannot open {scan.path} ({str(error).splitlines()[0]})", _REMEDY
            ) from error
        if len(self._decoder) != scan.frame_count:
            raise UnsupportedVideoError(
                f"torchcodec counts {len(self._decoder)} frames in {scan.path}, its packets give {scan.frame_count}",
                _REMEDY,
            )

    def packets_to(self, indices: Sequence[int]) -> int:
        """As :class:`Decoder`."""
        return self._scan.packets_to(indices)

    def close(self) -> None:
        """Free the decoder."""
        self._decoder = None

    def pictures(self, indices: Sequence[int]) -> Iterator[npt.NDArray[np.uint8]]:
        """As :class:`Decoder`; one picture is in memory at a time."""
        for index in indices:
            try:
                pixels: npt.NDArray[np.uint8] = self._decoder[index].numpy()
            except (RuntimeError, IndexError) as error:
                raise TruncatedVideoError(
                    f"{self._scan.path}: frame {index} cannot be decoded ({str(error).splitlines()[0]})",
                    "fetch or copy the file again, or ask only for seconds before the damage",
                ) from error
            yield pixels
