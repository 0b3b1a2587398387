"""Serialises scans, so that a file is scanned once and not at each opening.

Timestamps are stored as differences, which are nearly all the same: a few kilobytes for an hour.
"""

from __future__ import annotations

import io
import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.video.orientation import Orientation
from pipeline.video.packets import Packets
from pipeline.video.scan import Scan
from pipeline.video.timeline import Timeline
from pipeline.wellformed import loaded

_LEFT_OUT = frozenset({"others", "places"})


def scan_bytes(scan: Scan) -> bytes:
    """The parts of a scan that decoders need. Other tracks and byte positions only serve the scan itself."""
    arrays: dict[str, Any] = {"positions": _differences(scan.positions)}
    packets: dict[str, Any] = {}
    for name in (field.name for field in fields(Packets) if field.name not in _LEFT_OUT):
        value = getattr(scan.packets, name)
        if not isinstance(value, np.ndarray):
            packets[name] = value
        else:
            arrays[f"packets.{name}"] = value if value.dtype == bool else _differences(value)
    facts = {
        name: getattr(scan, name)
        for name in (field.name for field in fields(Scan))
        if name not in ("path", "file", "orientation", "timeline", "packets", "positions")
    }
    timeline = {"start": float(scan.timeline.times[0]), "end": scan.timeline.end}
    timeline["declared_end"] = scan.timeline.declared_end
    about = {
        "scan": facts,
        "packets": packets,
        "orientation": asdict(scan.orientation),
        "timeline": timeline,
        "damaged": sorted(scan.timeline.damaged),
    }
    arrays["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
    written = io.BytesIO()
    np.savez_compressed(written, **arrays)
    return written.getvalue()


def scan_of_bytes(content: bytes, path: Path, file: Path) -> Scan:
    """The scan from the bytes of :func:`scan_bytes`, for a file at these paths.

    Raises:
        Exception: of any kind, if the bytes are damaged.
    """
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        about = loaded(arrays["about"].tobytes())
        stored = {name: arrays[name] for name in arrays.files}
    columns: dict[str, Any] = {
        name.partition(".")[2]: value if value.dtype == bool else np.cumsum(value)
        for name, value in stored.items()
        if name.startswith("packets.")
    }
    packets = Packets(**columns, **about["packets"], others={}, places=np.zeros(0, np.int64))
    positions = np.cumsum(stored["positions"])
    facts, timeline = about["scan"], about["timeline"]
    stamps = packets.pts[positions]
    times = timeline["start"] + (stamps - stamps[0]) * facts["seconds_per_tick"]
    return Scan(
        path=path,
        file=file,
        orientation=Orientation(**about["orientation"]),
        timeline=Timeline(times, timeline["end"], timeline["declared_end"], frozenset(about["damaged"])),
        packets=packets,
        positions=positions,
        **facts,
    )


def _differences(values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.diff(values, prepend=np.zeros(1, np.int64))
