"""Opens files with PyAV, and tells from a packet what its codec's headers say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.video.headers import look_of
from pipeline.video.headers.signs import ENTRY, INTRA, SHOWN
from pipeline.video.references import CONTAINERS


def open_container(path: Path) -> Any:
    """Open the file with PyAV, which is kept from reading any other file.

    Raises:
        av.FFmpegError, ValueError: it is not a video, or its format reads other files.
    """
    import av

    # Titles and tags in another encoding are not a reason to refuse a video. PyAV 19 replaces what it cannot decode by
    # itself, and has no such argument any more.
    lenient = {} if int(av.__version__.partition(".")[0]) >= 19 else {"metadata_errors": "replace"}
    options = {"protocol_whitelist": "file", "format_whitelist": CONTAINERS}
    return av.open(str(path), options=options, **lenient)


def is_cover(stream: Any) -> bool:
    """Whether a video track is the cover art of a sound file."""
    return bool(stream.type == "video" and stream.disposition & stream.disposition.attached_pic)


def look_at(stream: Any) -> Callable[[Any, bool], int]:
    """A function from a packet, and whether the container marks it as a key, to its signs.

    Where headers are not read, a mark counts as an intra picture: decoding may start at the first one.
    """
    codec = stream.codec_context
    if codec.codec.intra_only:
        return lambda packet, key: SHOWN | ENTRY | INTRA
    reads = look_of(codec.codec.canonical_name, bytes(codec.extradata or b""))
    if reads is None:
        return lambda packet, key: SHOWN | INTRA if key else SHOWN
    return lambda packet, key: reads(memoryview(packet))
