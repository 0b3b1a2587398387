"""FFmpeg's decoders, configured so that damage is an error wherever the codec can detect it.

Which damage each decoder notices is measured by ``scripts/measure_damage.py``; the README of this room has the figures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pipeline.video.backends.nal_damage import nal_damage

# Faults end the decoding of a picture, and checksums in the stream are verified.
_STRICT = {"err_detect": "crccheck+explode"}
# Only in strict mode does dav1d check that a tile's symbols end where its data ends.
_OF_CODEC = {"av1": {"strict": "strict"}}
# If decoding starts in the middle, H.264 commands to drop pictures that were never decoded are faults, too. The decoder
# goes on, and marks the pictures that it had to patch.
_PATIENT = {"h264": {"err_detect": "crccheck"}}


class DamagedPacketError(Exception):
    """A packet breaks the rules of its codec, or a frame had to be patched."""


class TrackCodec:
    """The decoder of one track."""

    def __init__(self, stream: Any, threads: int, is_patient: bool = False) -> None:
        """Make the decoder.

        Args:
            stream: of PyAV, with its own codec context.
            threads: number of threads; 0 for one per core.
            is_patient: go on after faults that may be harmless. Frames that had to be patched are marked as corrupt.
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
        """The frames that the decoder returns for a packet.

        Raises:
            av.FFmpegError: it cannot be decoded.
            DamagedPacketError: it breaks the rules of its codec, or a frame had to be patched.
        """
        if self._damage is not None and self._damage(bytes(packet)):
            raise DamagedPacketError
        for part in self._split.filter(packet) if self._split is not None else (packet,):
            yield from self._whole(self._codec.decode(part))

    def drain(self) -> Iterator[Any]:
        """The remaining frames at the end."""
        yield from self._whole(self._codec.decode(None))

    def flush(self) -> None:
        """Reset the decoder, to start at another packet."""
        self._codec.flush_buffers()
        self.skip_unreferenced(False)

    def skip_unreferenced(self, skips: bool) -> None:
        """From now on, skip packets that no other packet refers to, or no longer do so."""
        self._codec.skip_frame = "NONREF" if skips else "DEFAULT"

    def _whole(self, frames: list[Any]) -> Iterator[Any]:
        for frame in frames:
            if frame.is_corrupt and not self._is_patient:
                raise DamagedPacketError
            yield frame

    def _take_libvpx(self, stream: Any) -> None:
        """Use libvpx, which detects more damage. VP9 has no checksum, and FFmpeg's own decoder ignores trailing data.

        libvpx compares the end of the data with the end of the picture, for the last picture in a packet; so each
        packet is split into its pictures. FFmpeg is often built with a libvpx that only reads 8 bits.
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
