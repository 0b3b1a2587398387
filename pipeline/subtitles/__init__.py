"""Reads subtitle files, and chooses the lines that an answerer is given."""

from __future__ import annotations

from pipeline.subtitles.file import SubtitleFile
from pipeline.subtitles.reading import read
from pipeline.subtitles.shown import GivenSubtitles, SubtitleChoice, SubtitleFinder, at_times, within

__all__ = ["GivenSubtitles", "SubtitleChoice", "SubtitleFile", "SubtitleFinder", "at_times", "read", "within"]
