"""Decodes with decord, in short batches.

Between two reads, decord's reader goes on decoding the packets that it has queued and keeps every picture (1 GB of
1280x720 in three seconds). So pictures are read in batches, and a seek empties the queues before a batch is yielded.

decord does not report where FFmpeg concealed damage: such pictures pass unless the damage shows in the packets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import MissingExtraError, UnsupportedVideoError
from pipeline.video.orientation import UPRIGHT
from pipeline.video.scan import Scan
from pipeline.wellformed import is_well_formed

# Seen wrong elsewhere: MPEG-4 part 2 with B-frames, h264 and MPEG-2 in transport and program streams, AVI.
_CODECS = frozenset({"h264", "hevc", "vp9"})
_CONTAINERS = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"})
_BATCH_BYTES = 64 << 20
_BATCH_FRAMES = 32
_REMEDY = "set reader.backend=auto"


def decord_objection(scan: Scan) -> str | None:
    """Why decord 0.6 must not read this file (it would be wrong, hang or fail); None if it is proved right."""
    objections = {
        f"its pictures are only proved right for {', '.join(sorted(_CODECS))}, this is {scan.codec}": (
            scan.codec not in _CODECS
        ),
        f"its pictures are only proved right in MP4 and Matroska, this is {scan.container}": (
            scan.container not in _CONTAINERS
        ),
        "after a seek it miscounts where pictures before a key frame come after it (open GOP)": (
            scan.packets.has_leading_pictures()
        ),
        "the video is to be shown turned": scan.orientation != UPRIGHT,
        "its clock starts again in the middle": scan.packets.is_joined,
        "the file is cut short": scan.timeline.is_truncated,
        # dmlc/decord issue 373: it waits for the missing frames for ever, holding Python's lock.
        f"the container declares {scan.declared_frames} frames and holds {scan.frame_count}": (
            scan.declared_frames not in (0, scan.frame_count)
        ),
        "it chooses among several video tracks by itself": scan.video_streams > 1,
        "it takes no file name that is not UTF-8": not is_well_formed(str(scan.path)),
    }
    return next((reason for reason, holds in objections.items() if holds), None)


class DecordDecoder:
    """One open decord reader."""

    name = "decord"
    walked = None

    def __init__(self, scan: Scan, threads: int) -> None:
        """``threads`` is decord's number of threads; 0 for one per core."""
        objection = decord_objection(scan)
        if objection:
            raise UnsupportedVideoError(f"decord cannot be trusted with {scan.path}: {objection}", _REMEDY)
        try:
            import decord
        except (ImportError, OSError) as error:  # its shared library may not fit the machine
            raise MissingExtraError(
                f"decord cannot be used ({str(error).splitlines()[0]})",
                "pip install decord (Linux on x86-64), or set reader.backend=auto",
            ) from error
        self._scan = scan
        decord.logging.set_level(decord.logging.QUIET)  # its failures are reported by our own errors
        try:
            self._reader: Any = decord.VideoReader(str(scan.file), ctx=decord.cpu(0), num_threads=threads)
        except Exception as error:  # DECORDError, and RuntimeError where it finds no video at all
            raise self._failure(error) from error
        self._check_index()
        self._check_first_picture()

    def packets_to(self, indices: Sequence[int]) -> int:
        """As :class:`Decoder`."""
        return self._scan.packets_to(indices)

    def close(self) -> None:
        """Free the decoder."""
        self._reader = None

    def pictures(self, indices: Sequence[int]) -> Iterator[npt.NDArray[np.uint8]]:
        """As :class:`Decoder`; one batch of pictures is in memory at a time."""
        size = max(min(_BATCH_BYTES // (self._scan.width * self._scan.height * 3), _BATCH_FRAMES), 1)
        for start in range(0, len(indices), size):
            batch = [self._picture(index) for index in indices[start : start + size]]
            self._rest()
            yield from batch

    def _picture(self, index: int) -> npt.NDArray[np.uint8]:
        try:
            pixels: npt.NDArray[np.uint8] = self._reader[index].asnumpy()
        except Exception as error:
            raise self._failure(error) from error
        return pixels

    def _rest(self) -> None:
        """Empty the queues by going back to the start; the next read goes to its own key frame.

        ``seek_accurate`` does not empty them, and ``seek`` misses other frames than the first where the rate varies.
        """
        try:
            self._reader.seek(0)
        except Exception as error:
            raise self._failure(error) from error

    def _check_index(self) -> None:
        """Check that decord's list of timestamps, by which it numbers frames, is that of the scan."""
        times = self._scan.timeline.times
        count = len(self._reader)
        stamps = np.asarray(self._reader.get_frame_timestamp(range(count)))[:, 0] if count == len(times) else None
        if stamps is None or np.abs(stamps - stamps[0] - (times - times[0])).max() > 2e-3:
            self.close()
            raise UnsupportedVideoError(f"decord numbers the frames of {self._scan.path} in its own way", _REMEDY)
        # Its FFmpeg may see other key flags than ours: a missing table of sync samples flags every packet, for example.
        false = [index for index in self._reader.get_key_indices() if not self._scan.is_entry(index)]
        if false:
            self.close()
            raise UnsupportedVideoError(
                f"decord would start decoding {self._scan.path} at frame {false[0]}, which is not a key frame whatever "
                "the container says",
                _REMEDY,
            )

    def _check_first_picture(self) -> None:
        """Check the shape: below 96 columns decord may take the padding of a row for more channels (4 to 48)."""
        shape = list(self._picture(0).shape)
        self._rest()
        if shape != [self._scan.height, self._scan.width, 3]:
            self.close()
            raise UnsupportedVideoError(
                f"decord gives {self._scan.path} as pictures of {shape}, not [{self._scan.height}, "
                f"{self._scan.width}, 3]",
                _REMEDY,
            )

    def _failure(self, error: Exception) -> UnsupportedVideoError:
        reason = str(error).strip().splitlines()[0].rpartition(": ")[2] if str(error).strip() else "no reason given"
        return UnsupportedVideoError(f"decord fails on {self._scan.path}: {reason}", _REMEDY)
