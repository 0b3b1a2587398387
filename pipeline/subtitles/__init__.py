"""What is said in a video: files of subtitles to lines, and which of them an answerer is given."""

from __future__ import annotations

from pipeline.subtitles.heard import Heard
from pipeline.subtitles.reading import read
from pipeline.subtitles.shown import Listener, Said, SubtitleChoice, at_times, within

__all__ = ["Heard", "Listener", "Said", "SubtitleChoice", "at_times", "read", "within"]
