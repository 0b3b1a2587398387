"""Reads from the codec's headers in a packet whether decoding may start there.

Containers flag packets from which decoding may start. The flags are often wrong: a missing table of sync samples flags
every packet, and encoders that refresh a stripe at a time flag pictures that are whole only much later. The codec's own
headers, in the first bytes of a packet, are reliable.
"""

from __future__ import annotations

from collections.abc import Callable

from pipeline.video.headers.mpeg import look_mpeg4, mpeg12
from pipeline.video.headers.nal import look_h264, look_hevc, look_vvc
from pipeline.video.headers.obu import look_av1
from pipeline.video.headers.signs import Look
from pipeline.video.headers.vpx import vp8, vp9

_LOOKS: dict[str, Callable[[bytes], Look]] = {
    "h264": look_h264,
    "hevc": look_hevc,
    "vvc": look_vvc,
    "av1": look_av1,
    "vp8": lambda extradata: vp8,
    "vp9": lambda extradata: vp9,
    "mpeg4": look_mpeg4,
    "mpeg1video": lambda extradata: mpeg12,
    "mpeg2video": lambda extradata: mpeg12,
}
"""By FFmpeg's name of the codec."""


def look_of(codec: str, extradata: bytes) -> Look | None:
    """The function that reads a codec's packets; None for a codec whose headers are not read.

    Args:
        codec: FFmpeg's canonical name, such as ``h264``.
        extradata: what the container holds for the whole track; it says in which form packets are.
    """
    return _LOOKS[codec](extradata) if codec in _LOOKS else None
