"""Streams that no encoder writes by itself: packets of a video put into a container once more, with other claims."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av


@dataclass(frozen=True)
class Piece:
    """A packet to write."""

    data: bytes
    pts: int
    dts: int
    duration: int
    is_key: bool


def pieces(path: Path) -> list[Piece]:
    """The packets of a file's video track."""
    with av.open(str(path)) as source:
        packets = [packet for packet in source.demux(video=0) if packet.size]
    # Matroska stores no decoding times: the earliest ones that no picture comes before.
    shown = sorted(packet.pts for packet in packets)
    lag = max(stamp - packet.pts for stamp, packet in zip(shown, packets, strict=True))
    return [
        Piece(
            bytes(packet),
            packet.pts,
            stamp - lag if packet.dts is None else packet.dts,
            packet.duration or 0,
            packet.is_keyframe,
        )
        for stamp, packet in zip(shown, packets, strict=True)
    ]


def remux(
    source: Path,
    target: Path,
    change: Callable[[int, Piece], Piece | None] = lambda index, piece: piece,
    options: dict[str, str] | None = None,
    sound: Sequence[tuple[float, float]] = (),
    packets: Sequence[Piece] | None = None,
) -> Path:
    """Write the packets of ``source`` into another container.

    Args:
        source: its video track is taken.
        target: the file to write; its name decides the container.
        change: gives what to write for the packet of a place; none leaves it out.
        options: for the container.
        sound: stretches of silence in seconds, which make a sound track.
        packets: to write in place of those of the source.
    """
    with av.open(str(source)) as given, av.open(str(target), "w", options=options or {}) as output:
        track = given.streams.video[0]
        stream = output.add_stream_from_template(track, opaque=True)
        audio = output.add_stream("aac", rate=16000) if sound else None
        written = []
        for index, piece in enumerate(pieces(source) if packets is None else packets):
            changed = change(index, piece)
            if changed is None:
                continue
            packet = av.Packet(changed.data)
            packet.pts, packet.dts, packet.duration = changed.pts, changed.dts, changed.duration
            packet.time_base, packet.stream, packet.is_keyframe = track.time_base, stream, changed.is_key
            written.append(packet)
        if audio is not None:
            written += _silence(audio, sound)
        for packet in sorted(written, key=lambda packet: packet.dts * packet.time_base):
            output.mux(packet)
    return target


def _silence(stream: av.AudioStream, stretches: Sequence[tuple[float, float]]) -> list[av.Packet]:
    import numpy as np

    packets = []
    for start, end in stretches:
        for stamp in range(round(start * 16000), round(end * 16000), 1024):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 16000, stamp, Fraction(1, 16000)
            packets += stream.encode(frame)
    packets += stream.encode(None)
    return packets


def marked(index: int, piece: Piece) -> Piece:
    """Every packet claims to be a key."""
    return replace(piece, is_key=True)


def shifted(seconds: float, from_index: int, tick: float) -> Callable[[int, Piece], Piece]:
    """All packets from one on come later by so many seconds."""

    def change(index: int, piece: Piece) -> Piece:
        ticks = round(seconds / tick) if index >= from_index else 0
        return replace(piece, pts=piece.pts + ticks, dts=piece.dts + ticks)

    return change
