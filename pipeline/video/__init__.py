"""Video in, frames at given seconds out, each with its real timestamp.

``probe`` says what a video is, ``Reader`` opens it, ``candidate_times`` lays out the seconds to look at.
Which picture is shown at which second is a contract; a change of it raises ``pipeline.identity.FRAMES_VERSION``.
"""

from __future__ import annotations

from pipeline.video.probing import probe
from pipeline.video.reader import Reader
from pipeline.video.source import OpenVideo
from pipeline.video.timeline import candidate_times

__all__ = ["OpenVideo", "Reader", "candidate_times", "probe"]
