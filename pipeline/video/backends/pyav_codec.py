"""FFmpeg's decoders, set so that damage is an error wherever the codec lets it be noticed.

Which damage each decoder notices is measured by ``scripts/measure_damage.py``; the README of this room has the figures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pipeline.video.backends.nal_damage import nal_damage

# Faults end the decoding of a picture, and checksums in the stream are compared.
_STRICT = {"err_detect": "crccheck+explode"}
# dav1d compares where a tile's data end with where its symbols end only in its strict mode.
_OF_CODEC = {"av1": {"strict": "strict"}}
# Where decoding begins in the middle, H.264 orders to forget pictures that were never decoded are faults, too. Its
# decoder goes on, and marks the pictures that it had to patch.
_PATIENT = {"h264": {"err_detect": "crccheck"}}


class DamagedPacketError(Exception):
    """A packet is no packet of its codec, or a frame had to be patched."""


class TrackCodec:
    """The decoder of one track."""

    def __init__(self, stream: Any, threads: int, is_patient: bool = False) -> None:
        """Make the decoder.

        Args:
            stream: of PyAV, with its own codec context.
            threads: to decode with; 0 for one a core.
            is_patient: go on behind faults that may do no harm. Frames that had to be patched are marked as corrupt.
        """
        own = stream.codec_context
        name = own.codec.canonical_name
        self._damage: Callable[[bytes], bool] | None = nal_damage(name, bytes(own.extradata or b""))
        self._split: Any = None
        self._codec = own
        strict = _STRICT | _OF_CODEC.get(name, {})
        if name == "vp9":
            self._take_libvpx(stream)
        self._codec.options = _PATIENT.get(name, strict) if is_patient else strict
        self._codec.thread_type = "AUTO"
        self._codec.thread_count = threads
        self._is_patient = is_patient

    def decode(self, packet: Any) -> Iterator[Any]:
        """The frames that are due after a packet.

        Raises:
            av.FFmpegError: it cannot be decoded.
            DamagedPacketError: it breaks the rules of its codec, or a frame had to be patched.
        """
        if self._damage is not None and self._damage(bytes(packet)):
            raise DamagedPacketError
        for part in self._split.filter(packet) if self._split is not None else (packet,):
            yield from self._whole(self._codec.decode(part))

    def drain(self) -> Iterator[Any]:
        """The frames that are left."""
        yield from self._whole(self._codec.decode(None))

    def flush(self) -> None:
        """Forget everything, to begin at another place."""
        self._codec.flush_buffers()
        self.skip_unreferenced(False)

    def skip_unreferenced(self, skips: bool) -> None:
        """Whether packets from now on that no other one refers to are left out."""
        self._codec.skip_frame = "NONREF" if skips else "DEFAULT"

    def _whole(self, frames: list[Any]) -> Iterator[Any]:
        for frame in frames:
            if frame.is_corrupt and not self._is_patient:
                raise DamagedPacketError
            yield frame

    def _take_libvpx(self, stream: Any) -> None:
        """VP9 has no checksum. FFmpeg's own decoder stops where a picture is complete, and looks no further.

        libvpx compares the end of the data with the end of the picture, for the last picture in a packet; so each
        packet is split into its pictures. FFmpeg is often built with a libvpx that reads 8 bits alone.
        """
        import av
        from av.bitstream import BitStreamFilterContext

        own = stream.codec_context
        try:
            codec = av.CodecContext.create("libvpx-vp9", "r")
        except ValueError:  # this FFmpeg is built without libvpx
            return
        if own.format is not None and own.format.components[0].bits == 8:
            self._codec = codec
            self._split = BitStreamFilterContext("vp9_superframe_split", stream)
