"""Video in, frames at given seconds out, each with its real timestamp.

``probe`` says what a video is, ``Reader`` opens it, ``candidate_times`` lays out the seconds to look at.
``FRAMES_VERSION`` belongs into the key of everything that is computed from frames.
"""

from __future__ import annotations

from pipeline.video.contract import FRAMES_VERSION
from pipeline.video.probing import probe
from pipeline.video.reader import Reader
from pipeline.video.source import OpenVideo
from pipeline.video.timeline import candidate_times

__all__ = ["FRAMES_VERSION", "OpenVideo", "Reader", "candidate_times", "probe"]
