"""Puts the timestamps of a track on one clock, also where they start again or jump.

Joined recordings (``cat a.ts b.ts``, a restarted encoder, a recorded stream with a break) each have their own clock.
ffmpeg and players show one after the other. A clock that cannot be corrected with certainty is refused.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.errors import UnsupportedVideoError
from pipeline.video.failures import convert
from pipeline.video.packets import NEVER, Packets

_JUMP = 10.0
"""Seconds. In transport and program streams a longer gap is a break in the clock: ffmpeg's dts_delta_threshold."""
_STILL, _SILENT_STILL = 30.0, 300.0
"""Seconds, with and without a sound track. In other containers players hold a picture as long as its timestamps say; a
picture held longer than this, and without sound meanwhile, more likely means that the clock jumped."""
_STILL_FRAMES = 250
"""The same limit in intervals between pictures, for slide shows."""
_PERIOD = 1 << 33
"""Ticks after which the clock of transport and program streams starts over."""
_LOWEST = -(1 << 62)
_REORDERED = 64
"""Pictures that may be decoded after one that is shown later; codecs allow 16."""
_BACKWARDS = 1.0
"""Seconds by which decoding times may go back without a new recording, as careless multiplexers write them."""


@dataclass(frozen=True)
class _Part:
    """A recording with its own clock."""

    start: int
    """Position of its first packet."""
    shift: int
    """Ticks to add to its timestamps."""


def on_one_clock(packets: Packets, path: Path, tick: float, may_break: bool) -> Packets:
    """The packets with timestamps that ascend through all recordings in the file.

    Args:
        packets: as the file has them.
        path: for messages.
        tick: seconds of one unit of time.
        may_break: the container's clock may start again (transport and program streams).

    Raises:
        UnsupportedVideoError: the clock starts again or jumps and cannot be corrected.
    """
    if not len(packets.pts):
        return packets
    if may_break:
        packets = _unwrapped(packets)
    typical = _typical(packets.dts[packets.is_shown])
    parts = _parts(packets, typical, tick, may_break)
    _check_backwards(packets, parts, path, tick, typical)
    if len(parts) > 1:
        packets = _shifted(packets, parts)
    _check_jumps(packets, path, tick, typical, may_break)
    return packets


def _unwrapped(packets: Packets) -> Packets:
    """Unwrap clocks of 33 bits. FFmpeg does so in the first recording, and not in later ones."""
    dts = np.unwrap(packets.dts, period=_PERIOD).astype(np.int64)
    after = packets.pts - packets.dts
    pts = dts + (after + _PERIOD // 2) % _PERIOD - _PERIOD // 2
    waits = np.where(packets.whole_from == NEVER, 0, packets.whole_from - packets.pts)
    whole_from = np.where(packets.whole_from == NEVER, NEVER, pts + (waits + _PERIOD // 2) % _PERIOD - _PERIOD // 2)
    return replace(packets, pts=pts, dts=dts, whole_from=whole_from)


def _typical(stamps: npt.NDArray[np.int64]) -> float:
    """Ticks from one picture to the next, from their decoding times: the mean without the long ones."""
    gaps = np.diff(stamps)
    gaps = gaps[gaps > 0]
    return float(gaps[gaps <= 1.5 * np.median(gaps)].mean()) if len(gaps) else 1.0


def _parts(packets: Packets, typical: float, tick: float, may_break: bool) -> list[_Part]:
    """Find where new recordings begin: at an entry that is shown before packets decoded earlier, or far after them."""
    stamps = np.where(packets.is_cut, _LOWEST, packets.pts)
    entries = np.flatnonzero((packets.whole_from != NEVER) & ~packets.is_cut)
    parts = [_Part(0, 0)]
    if not len(entries):
        return parts
    limit = int(_JUMP / tick) if may_break else NEVER // 2
    before = np.maximum.accumulate(stamps)[entries[1:] - 1]
    ahead = stamps[entries[1:]] - before
    if not ((ahead < 0) | (ahead > limit)).any():
        return parts
    latest = np.maximum.reduceat(stamps, entries)
    reached = int(stamps[: entries[0] + 1].max())
    for place, last in zip(entries, latest, strict=True):
        here = int(stamps[place])
        if here < reached or (here > reached + limit and not _is_heard(packets, reached, here, tick)):
            follows = reached + parts[-1].shift + round(typical)
            parts.append(_Part(int(place), follows - int(packets.whole_from[place])))
            reached = int(last)
        else:
            reached = max(reached, int(last))
    return parts


def _is_heard(packets: Packets, start: int, end: int, tick: float) -> bool:
    """Whether another track goes on between two timestamps."""
    for seconds in packets.others.values():
        if ((seconds > start * tick + _BACKWARDS) & (seconds < end * tick - _BACKWARDS)).any():
            return True
    return False


def _shifted(packets: Packets, parts: list[_Part]) -> Packets:
    starts = np.array([part.start for part in parts])
    part_of = np.searchsorted(starts, np.arange(len(packets.pts)), side="right") - 1
    shift = np.array([part.shift for part in parts])[part_of]
    whole_from = np.where(packets.whole_from == NEVER, NEVER, packets.whole_from + shift)
    pts = packets.pts + shift
    # Pictures before the first entry of a recording refer to pictures that are not in it.
    leads = (part_of > 0) & (pts < whole_from[starts][part_of])
    return replace(
        packets,
        pts=pts,
        dts=packets.dts + shift,
        whole_from=whole_from,
        begins=packets.begins | np.isin(np.arange(len(pts)), starts[1:]),
        is_shown=packets.is_shown & ~leads,
        last_empty=packets.last_empty + parts[-1].shift,
        is_joined=True,
    )


def _check_backwards(packets: Packets, parts: list[_Part], path: Path, tick: float, typical: float) -> None:
    """Refuse a clock that starts again where decoding cannot start: packets there may refer to lost pictures."""
    has_dts = packets.has_dts[1:] & packets.has_dts[:-1]
    back = has_dts & (np.diff(packets.dts) < -_BACKWARDS / tick)
    if not has_dts.all():
        behind = np.maximum.accumulate(packets.pts)[1:] - packets.pts[1:]
        back |= ~has_dts & (behind > max(_JUMP / tick, _REORDERED * typical))
    starts = {part.start for part in parts}
    places = np.flatnonzero(back & ~packets.is_cut[1:] & ~packets.is_cut[:-1]) + 1
    place = next((int(place) for place in places if place not in starts), None)
    if place is not None:
        second = float(packets.dts[place - 1] - packets.dts[0]) * tick
        raise UnsupportedVideoError(
            f"{path}: the timestamps start again after {second:.1f} s, in the middle of a group of pictures, so it is "
            "not known which pictures are whole and when they are shown",
            _count_anew(path, tick, typical),
        )


def _check_jumps(packets: Packets, path: Path, tick: float, typical: float, may_break: bool) -> None:
    """Refuse a gap for which it is not known whether the picture stood still."""
    usable = packets.usable()
    gaps = np.diff(packets.pts[usable])
    if not len(gaps):
        return
    least = _JUMP
    if not may_break:
        intervals = _STILL_FRAMES * float(np.percentile(gaps, 95)) * tick
        least = max(_STILL if packets.others else _SILENT_STILL, intervals)
    for place in np.flatnonzero(gaps > least / tick):
        before, after = packets.stored_pts[usable[place]], packets.stored_pts[usable[place + 1]]
        if not _is_heard(packets, int(before), int(after), tick):
            second = float(packets.pts[usable[place]] - packets.pts[usable[0]]) * tick
            raise UnsupportedVideoError(
                f"{path}: the timestamps jump ahead by {float(after - before) * tick:.1f} s, {second:.1f} s after the "
                "first picture, and it is not known whether the picture stood still or the clock was wrong",
                f"{_count_anew(path, tick, typical)}\n  or, if the picture stood still, "
                f"{convert(path, f'-an -vf fps={_rate(tick, typical)}')}",
            )


def _count_anew(path: Path, tick: float, typical: float) -> str:
    rate = _rate(tick, typical)
    filters = shlex.quote(f"setpts=N/({rate}*TB)")
    return f"give the pictures new times: {convert(path, f'-an -vf {filters}').partition(': ')[2]}"


def _rate(tick: float, typical: float) -> str:
    return f"{round(1 / (typical * tick), 2):g}"
